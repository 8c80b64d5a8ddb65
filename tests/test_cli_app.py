"""`dvlatent app`: what the page is served with, and what is never served."""

import gzip
import http.client
import socket
import ssl
import threading
from urllib.parse import urlsplit

import pytest

from dvlatent.cli.app import read_pages, serving
from dvlatent.cli.main import main


@pytest.fixture
def folder(tmp_path):
    page = tmp_path / "site" / "app"
    (page / "js").mkdir(parents=True)
    (page / "index.html").write_text("<p>hello</p>")
    (page / "js" / "main.js").write_text("export {};" * 50)
    (page / "js" / "main.js.gz").write_bytes(gzip.compress(b"export {};" * 50))
    (page / "net.wasm").write_bytes(b"\0asm")
    (tmp_path / "site" / "secret.txt").write_text("not yours")
    return page


def ask(url, path, **headers):
    at = urlsplit(url)
    if at.scheme == "https":
        one = http.client.HTTPSConnection(at.netloc, context=ssl._create_unverified_context(), timeout=10)
    else:
        one = http.client.HTTPConnection(at.netloc, timeout=10)
    one.request("GET", path, headers=headers)
    answer = one.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


@pytest.fixture
def url(folder):
    with serving(read_pages(folder), "127.0.0.1", 0) as (server, address):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()


def test_the_page_comes_with_the_headers_that_threads_and_privacy_need(url):
    status, headers, body = ask(url, "/")
    assert (status, body) == (200, b"<p>hello</p>") and headers["Content-Type"].startswith("text/html")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin" and headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert ask(url, "/net.wasm")[1]["Content-Type"] == "application/wasm"
    assert ask(url, "/?from=home")[0] == 200


def test_what_is_compressed_goes_compressed_and_what_is_known_not_at_all(url):
    plain, packed = ask(url, "/js/main.js"), ask(url, "/js/main.js", **{"Accept-Encoding": "gzip, br"})
    assert packed[1]["Content-Encoding"] == "gzip" and gzip.decompress(packed[2]) == plain[2] and len(packed[2]) < len(plain[2])
    again = ask(url, "/js/main.js", **{"If-None-Match": plain[1]["ETag"]})
    assert (again[0], again[2]) == (304, b"")


OUTSIDE = ["/../secret.txt", "/js/../../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd"]


@pytest.mark.parametrize("path", [*OUTSIDE, "/js", "/js/main.js.gz", "/nothing"])
def test_nothing_but_the_page_is_served(url, path):
    status, _, body = ask(url, path)
    assert (status, body) == (404, b"")


def test_https_by_a_certificate_made_on_the_spot(folder):
    pytest.importorskip("cryptography")
    with serving(read_pages(folder), "127.0.0.1", 0, https=True) as (server, address):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        silent = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))  # does not keep others waiting
        assert address.startswith("https://127.0.0.1:") and ask(address, "/")[2] == b"<p>hello</p>"
        silent.close()
        server.shutdown()


def test_what_cannot_be_served_is_said_in_words(tmp_path, folder, capsys, url):
    assert main(["app", "--dir", str(tmp_path)]) == 1 and "make app" in capsys.readouterr().err
    assert main(["app", "--dir", str(folder), "--port", str(urlsplit(url).port)]) == 1
    assert "cannot be served" in capsys.readouterr().err
    assert main(["app", "--dir", str(folder), "--port", "99999"]) == 1
