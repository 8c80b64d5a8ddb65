"""What several commands share: how options are read."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path


def numbers(text: str) -> list[int]:
    """"3,5,10-12" -> [3, 5, 10, 11, 12]: the seeds or layers of an option."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers and ranges such as 3,5,10-12")
        found += range(int(first), int(last or first) + 1)
    return found


def file_and_number(text: str) -> tuple[Path, float]:
    """"age.safetensors:+2" -> its path and 2.0."""
    path, _, number = text.rpartition(":")
    if Path(path).suffix != ".safetensors":
        raise argparse.ArgumentTypeError(f"'{text}' is not FILE:NUMBER with a .safetensors file, e.g. mine.safetensors:+2")
    return Path(path), float(number)


def shipped(*endings: str) -> list[str]:
    """The names that `dvlatent.load` knows with one of these endings. It imports torch: call it only for the command that needs it."""
    from dvlatent.zoo import available

    return [name for name in available() if name.endswith(endings)]


def command_of(arguments: argparse.Namespace) -> str:
    """The command as it was typed, for the description of the file that it makes; of paths only the last name."""
    return shlex.join(["dvlatent", *(re.sub(r"[^\s=:]*/", "", word) for word in arguments.argv)])
