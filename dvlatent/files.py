"""Files of others, read with care, and files of ours, written whole. What is wrong is said in one sentence, by an error of this library.

The kind and the size of a file are checked before its bytes are read, and every number that a JSON text states is one that we can use.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvlatent.errors import AssetError, CheckpointError, DvlatentError

LIMIT_BYTES = 2 * 2**30  # far more than any file that we read
TEXT_BYTES = 64 * 2**20  # of a JSON or XML text
LARGEST = 3.4e38  # what a 32-bit float can hold
HERE = f".writing-{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}-"  # drafts of this computer
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # what a disk says that takes no more
_cleared: set[Path] = set()  # folders that this process has looked through for drafts of killed runs


def check(path: Path | str, limit_bytes: int = LIMIT_BYTES, error: type[DvlatentError] = CheckpointError) -> Path:
    """The path itself, if it is an ordinary file of at most so many bytes: a pipe is never waited for, a device never fills the memory."""
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be read ({reason}). Was it moved, or cut short?{_repair(error)}") from reason
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is a folder, a pipe or a device; an ordinary file was needed. Give another one.{_repair(error)}")
    if found.st_size > limit_bytes:
        raise error(f"{path.name} has {found.st_size:,} bytes; at most {limit_bytes:,} are read. Is it another file?{_repair(error)}")
    return path


def read(path: Path | str, limit_bytes: int = LIMIT_BYTES, error: type[DvlatentError] = CheckpointError) -> bytes:
    """The bytes of an ordinary file."""
    path = check(path, limit_bytes, error)
    try:
        return path.read_bytes()
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason}). May you read it?{_repair(error)}") from reason


def read_json(path: Path | str, error: type[DvlatentError] = CheckpointError) -> Any:
    """What a JSON file says, its numbers checked."""
    try:
        return parse(read(path, TEXT_BYTES, error).decode("utf-8"))
    except ValueError as reason:
        raise error(f"{path} cannot be read ({reason}). Was it cut short?") from reason


def parse(text: str) -> Any:
    """What a JSON text says. Raises ValueError for broken text, for text too deep, and for numbers beyond 64 bits or a 32-bit float."""
    try:
        return json.loads(text, parse_int=_whole, parse_float=_float, parse_constant=_float)
    except RecursionError as reason:
        raise ValueError("its brackets are too deep") from reason


def number(value: Any, low: float = -LARGEST, high: float = LARGEST, *, whole: bool = False) -> Any:
    """The value itself, if it is a number from `low` to `high`, and no truth value. Raises ValueError for anything else."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]!r} is no {'whole ' * whole}number from {low:g} to {high:g}")
    return value


def _repair(error: type[DvlatentError]) -> str:
    return " Run `dvlatent assets` to repair it." if issubclass(error, AssetError) else ""


def _whole(digits: str) -> int:
    return number(int(digits[:21]), -(2**63), 2**63 - 1, whole=True)  # int() takes its time over a million digits


def _float(digits: str) -> float:
    return number(float(digits))


@contextmanager
def draft(path: Path, error: type[DvlatentError] = CheckpointError) -> Iterator[Path]:
    """A file beside `path` to write to, with a name of its own. It replaces `path` at the end, with the permissions of any new file.

    After an error it is removed and `path` stays as it was. Drafts of runs that were killed are removed by the next. Raises `error` for a
    full disk and for a folder that cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        folder = tempfile.TemporaryDirectory(prefix=f"{HERE}{os.getpid()}-", dir=path.parent, ignore_cleanup_errors=True)
    except OSError as reason:
        raise error(f"nothing can be written into {path.parent} ({reason.strerror}). Choose a folder that is yours.") from reason
    written = False
    with folder:
        part, plain = Path(folder.name, "draft" + path.suffix.lower()), Path(folder.name, "plain")
        try:
            plain.touch()  # has the permissions that the user wants
            yield part
            written = True
            part.chmod(plain.stat().st_mode & 0o777)
            os.replace(part, path)
        except OSError as reason:
            if not written and reason.errno not in FULL:
                raise  # the caller's own trouble
            raise error(f"{path} cannot be written ({reason.strerror or reason}). Make room, or choose another name or folder.") from reason


def _clear(folder: Path) -> None:
    """Remove what killed runs of this computer left in a folder, once for each process."""
    if folder in _cleared or os.name == "nt":  # there, to ask for a process may end it
        return
    _cleared.add(folder)
    for name in os.listdir(folder):
        if left := re.match(re.escape(HERE) + "([0-9]{1,9})-", name):
            try:
                os.kill(int(left[1]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder / name, ignore_errors=True)
            except OSError:
                pass  # it runs, for another user
