"""What the tests of the asset cache stand on: tiny wheels, a folder that pip is pointed at, a cache of its own."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dvlatent import assets

ALPHA, BETA = "alpha/data/one.bin", "beta/models/two.onnx"
DRIVER = """
import os, sys
from pathlib import Path
from dvlatent import cli
from dvlatent import assets
{more}
assets.REQUIREMENTS = Path(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> str:
    """A tiny wheel in `folder`; gives its requirement line."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('this package must never be imported')",
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"Do as you like.",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(inner), content)  # always dated 1980: the same hash every time
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Place:
    """One package folder, one requirements file, one cache."""

    def __init__(self, folder: Path):
        self.wheels, self.requirements, self.home = folder / "wheels", folder / "assets.txt", folder / "home"
        self.wheels.mkdir()
        self.alpha = wheel(self.wheels, "alpha", "1.0", {ALPHA: b"1" * 1000, "alpha/tool.so": b"code", "alpha/license.py": b"code"})
        self.beta = wheel(self.wheels, "beta", "1.0", {BETA: b"2" * 2000, "beta/models/notices/two.md": b"whose it is"})
        self.write(self.alpha, self.beta)

    def write(self, *lines: str) -> None:
        self.requirements.write_text("# two packages\n\n" + "\n".join(lines) + "\n")

    def environment(self, **more: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "DVLATENT"))}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return {**clean, **pip, "PIP_RETRIES": "0", "DVLATENT_HOME": str(self.home), "PYTHONPATH": str(Path(__file__).parents[1]), **more}

    def start(self, *arguments: str, more: str = "", before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        command = [*before, sys.executable, "-c", DRIVER.format(more=more), str(self.requirements), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment(**environment), **pipes)

    def run(self, *arguments: str, **more) -> tuple[int, str]:
        """The command in a process of its own: exit code, and what it said on stderr."""
        process = self.start(*arguments or ("assets",), **more)
        _, said = process.communicate(timeout=300)
        return process.returncode, said

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir() if path.name not in ("assets", "assets.lock"))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    """An empty cache, this process's store pointed at it."""
    place = Place(tmp_path)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    for name in set(os.environ) - set(place.environment()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(assets, "REQUIREMENTS", place.requirements)
    return place


@pytest.fixture(scope="session")
def _installed(tmp_path_factory) -> Path:
    place = Place(tmp_path_factory.mktemp("whole"))
    assert place.run()[0] == 0
    return place.home


@pytest.fixture
def whole(place, _installed) -> Place:
    """A complete cache."""
    shutil.copytree(_installed, place.home)
    return place


@pytest.fixture
def unzip(monkeypatch) -> list[str]:
    """Unzipping in pip's place, where pip is not what is tested; gives the list of packages asked for."""
    asked = []

    def fetch_by_unzip(line, staging, progress, *, label, pip_args=()):
        asked.append(line)
        name, version = line.split()[0].split("==")
        with zipfile.ZipFile(Path(os.environ["PIP_FIND_LINKS"]) / f"{name}-{version}-py3-none-any.whl") as archive:
            archive.extractall(staging / "package")
        return staging / "package"

    monkeypatch.setattr(assets, "fetch", fetch_by_unzip)
    return asked


def one_sentence(said: str) -> str:
    """The last line, after checking that nothing like a traceback came."""
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def is_whole(place: Place, *besides: str) -> bool:
    return not assets.damaged() and assets.installed() and place.leftovers() == list(besides)
