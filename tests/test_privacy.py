"""What README promises: nothing leaves the computer. Watched below Python, where native libraries open their own connections."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import data

from dvlatent import assets, images

GUARD = Path(__file__).parent / "data" / "network_guard.c"
pytestmark = pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="the guard needs Linux and a C compiler")
PREDICT = """\
import torch, dvlatent
print(dvlatent.load("attributes")(torch.zeros(1, 3, 256, 256)).shape)
"""
COMMANDS = {  # every command that computes, as small as it can be
    "assets": "assets --check",
    "generate": "generate --seeds 3 --out {out}/face.png",
    "walk": "walk --seeds 3,4 --frames 2 --out {out}/walk.mp4",
    "mix": "mix --rows 3 --cols 4 --out {out}/mix.png",
    "score": "score {photo}",
    "models": "models",
    "survey": "survey --faces 2 --out {out}/few.safetensors",
    "find": "find --attribute age --low 18 28 --high 55 80 --faces 400 --out {out}/old.safetensors",
    "edit": "edit --seeds 3 --age 1 --out {out}/edited.png",
    "invert": "invert {photo} --steps 2 --out {out}/me.safetensors",
    "pairs, distill": "pairs --edit age:-2..+2 --count 3 --out {out}/pairs && "
    "distill {out}/pairs --steps 1 --batch 1 --holdout 1 --out {out}/small.safetensors",
    "filter": "filter {photo} --age 1 --out {out}/older.png",
    "export": "export age-filter --out {out}/age.onnx",
}


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """The guard, compiled."""
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, GUARD, "-ldl"], check=True)
    return library


@pytest.fixture
def watched(guard, tmp_path):
    """Runs a program in an empty home; gives what it asked of the network, and what it left in the home."""

    def run(*command):
        home, log = tmp_path / "home", tmp_path / "log"
        home.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
        environment |= {"HOME": str(home), "DVLATENT_HOME": str(assets.home()), "MPLCONFIGDIR": str(tmp_path / "mpl")}
        environment |= {"LD_PRELOAD": str(guard), "NETWORK_GUARD_LOG": str(log), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
        return done, log.read_text().splitlines() if log.exists() else [], left

    return run


def test_the_guard_sees_native_look_ups_and_connections(watched):
    script = "import ctypes, socket\nctypes.CDLL(None).getaddrinfo(b'example.invalid', None, None, ctypes.byref(ctypes.c_void_p()))\n"
    script += "try: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass"
    assert watched(sys.executable, "-c", script)[1] == ["look-up example.invalid", "connection 192.0.2.1"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_asks_the_network_or_leaves_files(command, watched, tmp_path):
    images.write(images.from_uint8(data.astronaut()), tmp_path / "photo.png")
    for line in COMMANDS[command].format(out=tmp_path, photo=tmp_path / "photo.png").split(" && "):
        done, asked, left = watched(sys.executable, "-m", "dvlatent", *line.split())
        assert done.returncode == 0, done.stderr
        assert (asked, left) == ([], [])


def test_a_lesson_asks_nothing(watched, tmp_path):
    from nbformat.v4 import new_code_cell, new_notebook, writes

    (tmp_path / "lesson.ipynb").write_text(writes(new_notebook(cells=[new_code_cell(PREDICT)])))
    convert = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "lesson.ipynb"]
    done, asked, left = watched(*convert)
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    assert "torch.Size([1, 2])" in json.dumps(cells)
    assert asked == [] and not [name for name in left if not name.startswith((".ipython/", ".local/share/jupyter/", ".jupyter/"))]


def test_the_lab_asks_for_no_news_and_no_updates():
    line = next(line for line in (Path(__file__).parents[1] / "Makefile").read_text().splitlines() if "jupyter lab" in line)
    assert "--LabApp.news_url=None" in line and "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in line


def test_the_page_s_server_asks_nothing(watched, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<p>a page</p>")
    script = "import sys, threading, _thread\nfrom dvlatent.cli.main import main\nthreading.Timer(4, _thread.interrupt_main).start()\n"
    script += f"sys.exit(main(['app', '--port', '0', '--dir', {str(tmp_path / 'page')!r}]))"
    done, asked, left = watched(sys.executable, "-c", script)
    assert "http" in done.stdout, done.stderr
    assert (asked, left) == ([], [])
