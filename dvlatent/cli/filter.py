"""Filters in use on the command line: `dvlatent filter` edits photos and films."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import add_overwrite, file_and_number, real, shipped
from dvlatent.errors import DvlatentError, ImageError, NoFace, ShapeError

if TYPE_CHECKING:
    from dvlatent.distillation.filter import Filter

FILMS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"}
Steps = list[tuple["Filter", float]]


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command, with an option for each filter that we ship."""
    names = shipped("-filter")
    one = commands.add_parser("filter", help="run a filter over photos and films")
    one.description = "Edit every face of a photo, a folder of photos or a film, in its place. Several filters run one after the other."
    one.add_argument("source", type=Path, help="a photo, a folder of photos, or a film (mp4, mov, webm, gif)")
    for name in names:
        option = name.removesuffix("-filter")
        what = f"strength of the {option} filter, e.g. +2 or -1"
        one.add_argument(f"--{option}", dest=name, type=real, metavar="STRENGTH", help=what)
    file = "strength of a filter from its file, e.g. mine.safetensors:+2; may be given several times"
    one.add_argument("--filter", type=file_and_number, action="append", default=[], metavar="FILE:STRENGTH", help=file)
    one.add_argument("--face", type=int, metavar="N", help="only one face of each picture: 0 is the largest (default all)")
    one.add_argument("--out", type=Path, help="a file, or for a folder a folder (default NAME-filtered beside it)")
    add_overwrite(one)
    one.add_argument("--mark", action="store_true", help="write into the metadata of every photo that it is edited, and how")
    one.add_argument("--mark-corner", action="store_true", help="write 'edited' into the corner of every picture")
    one.set_defaults(run=_filter, resume="Photos of a folder that are done stay; the same command goes on.", shipped=names)


def _filter(arguments: argparse.Namespace) -> int:
    from dvlatent.zoo import load

    asked = [(name, value) for name in arguments.shipped if (value := getattr(arguments, name)) is not None]
    steps: Steps = [(load(what), strength) for what, strength in [*asked, *arguments.filter]]
    if not steps:
        offered = ", ".join(f"--{name.removesuffix('-filter')}" for name in arguments.shipped)
        raise ShapeError(f"no filter was asked for: give a strength by {f'{offered} or ' if offered else ''}--filter FILE:STRENGTH.")
    for one, strength in steps:
        one.check(strength)
    source, words = arguments.source, ", ".join(f"{one.name} {strength:+g}" for one, strength in steps)
    arguments.note = f"edited: {words}" if arguments.mark else ""
    out = arguments.out or source.with_name(f"{source.stem}-filtered{source.suffix}")
    if source.is_dir():
        return _filter_folder(source, out, steps, arguments)
    is_film = source.suffix.lower() in FILMS
    if is_film and out.suffix.lower() not in (".mp4", ".gif"):
        out = out.with_suffix(".mp4")
    if is_film and out.exists() and out.samefile(source):
        raise ImageError(f"{out} is the film itself, which is read until the end. Give another --out.")
    if out.exists() and not arguments.overwrite:
        raise ImageError(f"{out} is there already. Give another --out, or --overwrite to replace it.")
    if is_film:
        return _filter_film(source, out, steps, arguments, words)
    _filter_photo(source, out, steps, arguments)
    print(f"{out}: {words}")
    return 0


def _filter_photo(source: Path, out: Path, steps: Steps, arguments: argparse.Namespace) -> None:
    from dvlatent import images
    from dvlatent.distillation.filter import apply_to_photo

    edited = apply_to_photo(images.read(source), steps, arguments.face)
    images.write(images.marked(edited, "edited") if arguments.mark_corner else edited, out, arguments.note)


def _filter_folder(source: Path, out: Path, steps: Steps, arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dvlatent import images

    photos = sorted(path for path in source.iterdir() if path.suffix.lower() in images.KINDS)
    if not photos:
        raise ImageError(f"{source} has no photos: files that end in {', '.join(images.KINDS)} were needed.")
    done, skipped, refused = 0, 0, []
    for path in tqdm(photos, unit="photo"):
        if (out / path.name).exists() and not arguments.overwrite:
            skipped += 1
            continue
        try:
            _filter_photo(path, out / path.name, steps, arguments)
            done += 1
        except DvlatentError as reason:  # one bad photo is no reason to stop
            refused.append(f"  {path.name}: {reason}")
    known = f", {skipped} were done before (--overwrite does them again)" if skipped else ""
    print(f"{out}: {done} of {len(photos)} photos edited{known}, {len(refused)} refused")
    print("\n".join(refused), file=sys.stderr, end="\n" if refused else "")
    return 1 if refused and not done and not skipped else 0


def _filter_film(source: Path, out: Path, steps: Steps, arguments: argparse.Namespace, words: str) -> int:
    from tqdm import tqdm

    from dvlatent import images, video
    from dvlatent.distillation.filter import apply_to_photo

    if arguments.mark:
        raise ImageError("the mark of a film is in its pictures: say --mark-corner instead of --mark.")
    frames = video.frames(source, video.MOST_FPS[out.suffix.lower()])
    without = 0

    def pictures() -> Iterator[Any]:
        nonlocal without
        for frame in tqdm(frames, unit="frame"):
            try:
                edited = apply_to_photo(frame, steps, arguments.face)
                yield images.marked(edited, "edited") if arguments.mark_corner else edited
            except NoFace:
                without += 1
                yield frame

    silent = not video.film(pictures(), out, float(frames.fps), progress=False, sound=source)
    left = f"; {without} frames without a face stayed as they were" if without else ""
    print(f"{out}: {words}{left}{'; its sound could not be kept' if silent else ''}")
    return 0

