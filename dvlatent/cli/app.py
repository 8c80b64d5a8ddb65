"""`dvlatent app`: serves the page of the filter (`make app` builds it) on this computer, or to a phone in the same room."""

from __future__ import annotations

import argparse
import hashlib
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dvlatent.errors import AssetMissing, DvlatentError

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".txt": "text/plain; charset=utf-8",
}
HEADERS = {  # the first two let the page use threads; the others keep it to itself
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Page:
    """One file of the page, as it goes over the wire."""

    body: bytes
    zipped: bytes | None  # the same, compressed
    kind: str  # its media type
    tag: str  # changes when the file does


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    app = commands.add_parser("app", help="serve the page of the filter: photo or camera, dials, on this computer or a phone")
    app.description = "Serve the page of the filter, which `make app` builds. No picture leaves the device that shows the page."
    app.add_argument("--dir", type=Path, default=Path("build/app"), help="the folder that `make app` wrote (default build/app)")
    app.add_argument("--host", default="127.0.0.1", help="the address to listen on (default this computer); 0.0.0.0 for phones nearby")
    app.add_argument("--port", type=int, default=8000, help="the port (default 8000; 0 takes a free one)")
    app.add_argument("--https", action="store_true", help="with a certificate made on the spot: phones give their camera to https only")
    app.add_argument("--open", action="store_true", help="open the page in the browser")
    app.set_defaults(run=_app, resume="The page is no longer served.")


def _app(arguments: argparse.Namespace) -> int:
    pages = read_pages(arguments.dir)
    with serving(pages, arguments.host, arguments.port, https=arguments.https) as (server, url):
        print(f"{url}\nStop it with Ctrl-C.", flush=True)
        if arguments.host not in LOCAL:
            _show_code(url)
            if not arguments.https:
                print("Phones show the page, but give their camera to https only: add --https.", flush=True)
        if arguments.open:
            import webbrowser

            webbrowser.open(url)
        server.serve_forever()
    return 0


def read_pages(folder: Path) -> dict[str, Page]:
    """Every file of the page by its path, "/" included. Raises AssetMissing where `make app` has not been."""
    if not (folder / "index.html").is_file():
        raise AssetMissing(f"there is no page in {folder}. Run `make app` first, or say where it is with --dir.")
    pages = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".gz":
            body, zipped = path.read_bytes(), Path(f"{path}.gz")
            kind = TYPES.get(path.suffix, "application/octet-stream")
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            pages["/" + path.relative_to(folder).as_posix()] = Page(body, zipped.read_bytes() if zipped.is_file() else None, kind, tag)
    return {**pages, "/": pages["/index.html"]}


@contextmanager
def serving(pages: dict[str, Page], host: str, port: int, *, https: bool = False) -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """A server of the pages, and its address; `server.serve_forever()` runs it. Raises DvlatentError for an address that is taken."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # seconds for a slow or silent visitor

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            page = pages.get(self.path.partition("?")[0])
            known = page is not None and self.headers.get("If-None-Match") == page.tag
            self.send_response(404 if page is None else 304 if known else 200)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            zipped = page is not None and page.zipped is not None and "gzip" in self.headers.get("Accept-Encoding", "")
            content = b"" if page is None or known else page.zipped if zipped else page.body
            if page is not None:
                self.send_header("ETag", page.tag)
                self.send_header("Vary", "Accept-Encoding")
                self.send_header("Content-Type", page.kind)
                if zipped and not known:
                    self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *details: object) -> None:
            """Visitors are not written down."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A visitor that goes away or refuses the certificate is no news."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    try:
        server = Server((host, port), Handler)
    except (OSError, OverflowError) as reason:
        advice = "Give an address of this computer as --host, or another --port (0 takes a free one)."
        raise DvlatentError(f"{host}:{port} cannot be served ({reason}). {advice}") from reason
    shown = _own_address() if host == "0.0.0.0" else host
    with server:
        if https:
            server.socket = _secured(server.socket, shown)
        yield server, f"{'https' if https else 'http'}://{shown}:{server.server_address[1]}/"


def _own_address() -> str:
    """This computer's address in its network; asks the routing table, sends nothing."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("10.255.255.255", 1))
            return asking.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _secured(plain: object, host: str) -> ssl.SSLSocket:
    """The socket with a self-made certificate of ten days, whose key is never kept."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as reason:
        raise DvlatentError("--https needs the package cryptography: run `pip install cryptography`, or leave --https out.") from reason
    import datetime
    import ipaddress

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dvlatent app")])
    try:
        own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        own = x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([own, x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with tempfile.TemporaryDirectory() as folder:  # the library reads files only
        pem = Path(folder, "both.pem")
        pem.touch(mode=0o600)
        pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(pem)
    return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)  # in each visitor's own thread


def _show_code(url: str) -> None:
    """The address as a code for a phone's camera, where the package segno is installed."""
    try:
        import segno
    except ImportError:
        return
    segno.make(url).terminal(compact=True)
