"""Once everything is installed and downloaded, nothing needs the network any more.

The cut is a `sitecustomize` module on PYTHONPATH: every Python process started below, pip and notebook kernels included,
refuses to look up or reach anything but this machine.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

CUT = '''
import socket

def _is_here(address):
    host = address[0] if isinstance(address, tuple) else address  # a string or bytes is a local socket's file
    return not isinstance(address, tuple) or host in ("", "localhost", "::1") or str(host).startswith("127.")

def _guard(name):
    inner = getattr(socket.socket, name)
    def call(self, address, *rest):
        if not _is_here(address):
            raise OSError(f"network is cut: {name} {address}")
        return inner(self, address, *rest)
    setattr(socket.socket, name, call)

_guard("connect"), _guard("connect_ex")
_look_up = socket.getaddrinfo

def _getaddrinfo(host, *rest, **options):
    if host is not None and not _is_here((host if isinstance(host, str) else host.decode(),)):
        raise socket.gaierror(f"network is cut: look up {host}")
    return _look_up(host, *rest, **options)

socket.getaddrinfo = _getaddrinfo
'''


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Run a command line with the network cut, in an empty folder: offline(*words) -> CompletedProcess."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "sitecustomize.py").write_text(CUT)
    path = os.pathsep.join(filter(None, [str(folder), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PIP_RETRIES": "0"}

    def run(*words):
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)

    run.folder = folder
    return run


@pytest.mark.parametrize(
    "reach",
    [
        "socket.create_connection(('192.0.2.1', 80), 2)",
        "socket.socket().connect_ex(('192.0.2.1', 80))",
        "socket.getaddrinfo('example.org', 80)",
    ],
)
def test_the_cut_cuts(offline, reach):
    """A guard that lets everything through would make the other tests here worthless."""
    done = offline(sys.executable, "-c", f"import socket; {reach}")
    assert done.returncode != 0 and "network is cut" in done.stderr


def test_the_cut_leaves_this_machine_alone(offline):
    code = "import socket; server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())"
    assert offline(sys.executable, "-c", code).returncode == 0


def test_a_face_appears_offline(offline):
    code = """
        import dvlatent
        from dvlatent.images import read, write
        faces = dvlatent.load("faces")
        ws = dvlatent.broadcast(faces.mapping(dvlatent.normal([85], faces.z_dim)), faces.num_layers)
        write(faces.preview(dvlatent.truncate(ws, toward=faces.w_mean, psi=0.7)).detach(), "face.png")
        face = read("face.png")
        assert face.shape == (1, 3, 256, 256) and face.std() > 0.2, (face.shape, face.std())
    """
    done = offline(sys.executable, "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


def test_assets_have_nothing_to_do_offline(offline):
    done = offline(sys.executable, "-m", "dvlatent", "assets")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).strip(), "says in words that all is there"


def test_a_notebook_cell_runs_offline(offline):
    """A kernel of its own, as JupyterLab and nbval start one; the first cell is the lessons' own setup."""
    code = f"""
        import nbformat
        from nbclient import NotebookClient
        lesson = nbformat.read({str(ROOT / "notebooks" / "00_start_here.ipynb")!r}, as_version=4)
        setup = next(cell for cell in lesson.cells if cell.cell_type == "code")
        blocked = "import socket\\ntry:\\n    socket.getaddrinfo('example.org', 80)\\nexcept OSError as error:\\n    print(error)"
        show = "import dvlatent\\nfaces = dvlatent.load('faces')\\nprint(faces.mapping(dvlatent.normal([85], faces.z_dim)).shape)"
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (setup.source, blocked, show)])
        NotebookClient(book, timeout=60, kernel_name="python3").execute()
        print(*[output.get("text", "") for cell in book.cells for output in cell.outputs])
    """
    done = offline(sys.executable, "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    assert "network is cut" in done.stdout and "[1, 512]" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")
@pytest.mark.parametrize("target", ["course", "test"])
def test_make_calls_pip_only_when_a_dependency_file_changed(target, tmp_path):
    for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    stamp = tmp_path / ".venv" / ".ready"
    stamp.parent.mkdir()

    def plan():
        environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        return subprocess.run(["make", "-n", target], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert "pip" in plan(), "a fresh checkout installs"
    stamp.touch()
    assert "pip" not in plan() and "venv .venv" not in plan(), "a ready environment is left alone"
    assert "assets" in plan()
    os.utime(tmp_path / ".ci" / "constraints.txt", (stamp.stat().st_mtime + 10,) * 2)
    assert "pip" in plan(), "changed pins are installed"
