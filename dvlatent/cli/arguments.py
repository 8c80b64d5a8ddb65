"""What several commands share: how options are read, and what is looked at before long work."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvlatent.errors import DvlatentError, ShapeError

if TYPE_CHECKING:
    from dvlatent.types import Generator

MOST = 1_000_000  # numbers in a list of an option
READABLE_PX = 256  # to which smaller pictures are enlarged for networks that read faces: they take none below 128
SHEET_PIXELS, SHEET_SIDE_PX = 20_000_000, 16_000  # what every program opens


class Parser(argparse.ArgumentParser):
    """A parser that answers an unknown option with the usage of its own command and the nearest option."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> tuple:  # type: ignore[override]
        """As argparse, but nothing may be left: the parser of a command refuses by itself, and the main one does not speak for it."""
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            options = [word.partition("=")[0] for word in extra if word.startswith("--")]
            near = difflib.get_close_matches(options[0], self._option_string_actions, 1) if options else []
            what = f"there is no option {options[0]}" if options else f"'{extra[0]}' is one word too many"
            self.error(f"{what}.{f' Did you mean {near[0]}?' if near else ''}")
        return found, extra

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            near = difflib.get_close_matches(str(value), action.choices, 1)
            advice = f"Did you mean {near[0]}?" if near else f"Say one of {', '.join(action.choices)}."
            raise argparse.ArgumentError(action, f"there is no '{value}'. {advice}")


def numbers(text: str) -> list[int]:
    """"3,5,10-12" -> [3, 5, 10, 11, 12]: the seeds or layers of an option."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not re.fullmatch("[0-9]{1,10}", first) or not re.fullmatch("[0-9]{1,10}", last or first) or int(last or first) < int(first):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers and ranges such as 3,5,10-12")
        if int(last or first) - int(first) + len(found) >= MOST:
            raise argparse.ArgumentTypeError(f"'{text}' are more than {MOST:,} numbers")
        found += range(int(first), int(last or first) + 1)
    return found


def layers(text: str) -> list[int] | str:
    """Numbers of layers, or the name of a group of them."""
    return numbers(text) if text[:1].isdigit() else text


def real(text: str) -> float:
    """A finite number."""
    try:
        if math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is not a number such as 2 or -0.5")


def truncation(text: str) -> float:
    """A psi that draws faces: from -2 to 2."""
    if abs(psi := real(text)) > 2:
        raise argparse.ArgumentTypeError(f"'{text}' draws no faces: give 0 (the average face) to 1 (the whole variety), or up to 2")
    return psi


def file_and_number(text: str) -> tuple[Path, float]:
    """"age.safetensors:+2" -> its path and 2.0."""
    path, _, number = text.rpartition(":")
    if Path(path).suffix != ".safetensors":
        raise argparse.ArgumentTypeError(f"'{text}' is not FILE:NUMBER with a .safetensors file, e.g. mine.safetensors:+2")
    return Path(path), real(number)


def phrase_and_number(text: str) -> tuple[str, float | None]:
    """"an old woman:+2" -> the phrase and 2.0; None without a number."""
    phrase, _, number = text.rpartition(":")
    try:
        return (phrase, real(number)) if phrase else (text, None)
    except argparse.ArgumentTypeError:
        return text, None  # a phrase with a colon in it


def add_psi(command: argparse.ArgumentParser, psi: float = 0.7) -> None:
    """Add the option of truncation; `--trunc` is NVIDIA's name for it."""
    words = f"truncation: 0 is the average face, 1 the whole variety (default {psi:g})"
    command.add_argument("--psi", "--trunc", type=truncation, default=psi, metavar="PSI", help=words)


def add_generator(command: argparse.ArgumentParser) -> None:
    """Add the option of another generator than the one of faces at 1024 px."""
    words = "draw with another generator: toy, stylegan2-64, or the .safetensors file of a StyleGAN2 (default faces)"
    command.add_argument("--generator", default="faces", metavar="NAME", help=words)


def generator_of(arguments: argparse.Namespace) -> Generator:
    """The generator that was chosen. Raises ShapeError for a name or file of something else."""
    from dvlatent.types import Generator
    from dvlatent.zoo import load

    if not isinstance(generator := load(arguments.generator), Generator):
        raise ShapeError(f"--generator {arguments.generator} draws nothing: give faces, toy, stylegan2-64, or the file of a StyleGAN2.")
    return generator


def add_overwrite(command: argparse.ArgumentParser) -> None:
    """Add the option that every command has which writes files that may exist."""
    command.add_argument("--overwrite", action="store_true", help="replace files that exist already")


def check_out(path: Path, overwrite: bool, endings: Iterable[str] = (), option: str = "--out") -> None:
    """Look, before long work, whether a file can be written. Raises DvlatentError if not, and for one that exists unless `overwrite`."""
    endings = tuple(endings)
    if endings and path.suffix.lower() not in endings:
        raise DvlatentError(f"{option} {path} should end in {', '.join(endings)}.")
    if path.is_dir():
        raise DvlatentError(f"{path} is a folder; the name of a file was needed. Give another {option}.")
    if path.exists() and not overwrite:
        raise DvlatentError(f"{path} is there already. Give another {option}, or --overwrite to replace it.")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Look whether files can be written into a folder, or into the nearest one that exists. Raises DvlatentError otherwise."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(2**16))  # a full disk takes names, but no bytes
    except OSError as reason:
        words = f"nothing can be written into {folder.absolute()} ({reason.strerror}). Choose a folder that is yours, on a disk with room."
        raise DvlatentError(words) from reason


def sheet_px(rows: int, columns: int, largest_px: int) -> int:
    """The side of each picture on a sheet that stays within 20 megapixels and 16,000 pixels. Raises ShapeError if nothing would be seen."""
    side = min(largest_px, math.isqrt(SHEET_PIXELS // (rows * columns)) - 4, SHEET_SIDE_PX // max(rows, columns) - 4)
    if side < 16:
        raise ShapeError(f"{rows * columns:,} faces do not fit one sheet. Draw fewer, or one file a seed: dvlatent generate --outdir DIR.")
    return side


def seeds_in_words(seeds: Sequence[int]) -> str:
    """"seed 3, 7, 8" or "201 seeds from 0 to 200"."""
    many = len(seeds) > 8
    return f"{len(seeds)} seeds from {min(seeds)} to {max(seeds)}" if many else f"seed {', '.join(map(str, seeds))}"


def shipped(*endings: str) -> list[str]:
    """The names that `dvlatent.load` knows with one of these endings."""
    from dvlatent.zoo import available

    return [name for name in available() if name.endswith(endings)]


def command_of(arguments: argparse.Namespace) -> str:
    """The command as it was typed, for the description of the file that it makes; of paths only the last name."""
    return shlex.join(["dvlatent", *(re.sub(r"[^\s=:]*/", "", word) for word in arguments.argv)])
