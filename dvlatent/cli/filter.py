"""Filters in use on the command line: `dvlatent filter` edits photos and films."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import add_overwrite, check_folder, check_out, file_and_number, real, shipped
from dvlatent.errors import DvlatentError, ImageError, ShapeError

if TYPE_CHECKING:
    from dvlatent.distillation.filter import Filter
    from dvlatent.faces.align import Alignment
    from dvlatent.images import Picture

Steps = list[tuple["Filter", float]]
STRIP_PX = 512  # side of a face in a strip


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command, with an option for each filter that we ship."""
    names = shipped("-filter")
    one = commands.add_parser("filter", help="run a filter over photos and films")
    one.description = "Edit every face of photos, folders of photos and films, in its place. Several filters run one after the other."
    one.epilog = "A photo keeps its size, color profile, depth, transparency, date and copyright; place and camera are dropped."
    one.add_argument("sources", type=Path, nargs="+", metavar="source", help="photos, folders of photos, films (mp4, mov, webm, gif, webp)")
    for name in names:
        option = name.removesuffix("-filter")
        what = f"strength of the {option} filter, e.g. +2 or -1"
        one.add_argument(f"--{option}", dest=name, type=real, metavar="STRENGTH", help=what)
    if "age-filter" in names:
        one.add_argument("--years", type=real, metavar="YEARS", help="instead of --age: about how many years older, e.g. +20 or -10")
    file = "strength of a filter from its file, e.g. mine.safetensors:+2; may be given several times"
    one.add_argument("--filter", type=file_and_number, action="append", default=[], metavar="FILE:STRENGTH", help=file)
    one.add_argument("--face", type=int, metavar="N", help="only one face: 0 is the largest (of a film: the most to see) (default all)")
    one.add_argument("--out", type=Path, help="a file, or for several sources a folder (default the name with the edit, me-age+2.jpg)")
    add_overwrite(one)
    one.add_argument("--strip", action="store_true", help="instead of the photo: its face before and after, and the dial")
    one.add_argument("--json", action="store_true", help="for programs: what was done, as JSON")
    one.add_argument("--mark", action="store_true", help="write into the metadata of every picture that it is edited, and how")
    one.add_argument("--mark-corner", action="store_true", help="write 'edited' into the corner of every picture")
    one.set_defaults(run=_filter, resume="What is done stays; the same command goes on.", shipped=names)


def _filter(arguments: argparse.Namespace) -> int:
    from dvlatent import images
    from dvlatent.distillation.filter import in_words
    from dvlatent.zoo import load

    asked = [(name, value) for name in arguments.shipped if (value := getattr(arguments, name)) is not None]
    if (years := getattr(arguments, "years", None)) is not None:
        asked.append(("age-filter", round(load("age-filter").strength_of(years), 2)))
    steps: Steps = [(load(what), strength) for what, strength in [*asked, *arguments.filter]]
    if not steps:
        offered = ", ".join(f"--{name.removesuffix('-filter')}" for name in arguments.shipped)
        raise ShapeError(f"no filter was asked for: give a strength by {f'{offered} or ' if offered else ''}--filter FILE:STRENGTH.")
    for one, strength in steps:
        one.check(strength)
    plain = [f"{one.name} {strength:+g}" for one, strength in steps]
    words, arguments.note = ", ".join(in_words(one, strength) for one, strength in steps), f"edited: {', '.join(plain)}" * arguments.mark
    edit = re.sub(r"[^\w.+-]", "", "-".join(name.replace(" ", "") for name in plain))  # a filter's file may call it anything
    arguments.edit = edit + (f"-face{arguments.face}" if arguments.face is not None else "") + "-strip" * arguments.strip
    jobs = list(_jobs(arguments))
    if alone := len(jobs) == 1 and not arguments.sources[0].is_dir():
        (source, out, _), film = jobs[0], _is_film(jobs[0][0])
        if film and out.exists() and out.samefile(source):
            raise ImageError(f"{out} is the film itself, which is read until the end. Give another --out.")
        check_out(out, arguments.overwrite, (".mp4", ".gif") if film else images.KINDS)
    else:
        for folder in {out.parent for _, out, reason in jobs if not reason}:
            check_folder(folder)
    done = []
    for source, out, reason in jobs:
        record: dict[str, Any] = {"file": str(source), "faces": []}
        done.append(record)
        if reason or (out.exists() and not arguments.overwrite):
            record["passed_over"] = reason or f"{out} is there already; --overwrite makes it again"
        else:
            begun = time.perf_counter()
            try:
                record |= {"out": str(out), "edit": {one.name: strength for one, strength in steps}}
                record["faces"] = _run(source, out, steps, arguments)
                record["seconds"] = round(time.perf_counter() - begun, 2)
            except DvlatentError as error:
                if alone and not arguments.json:
                    raise
                record["error"] = str(error)
            except (RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError) as error:  # one bad file never stops the others
                record["error"] = f"it could not be edited ({type(error).__name__}: {error})"
        if not arguments.json:
            _say(record, words, alone)
    counts = {what: sum(what in record for record in done) for what in ("seconds", "passed_over", "error")}
    if arguments.json:
        print(json.dumps(done, indent=1))
    elif not alone:
        rest = ", ".join(f"{counts[what]} {name}" for what, name in (("passed_over", "passed over"), ("error", "refused")) if counts[what])
        print(f"{counts['seconds']} of {len(done)} files edited: {words}{f'; {rest}' if rest else ''}")
    return 0 if any("seconds" in record or "is there already" in record.get("passed_over", "") for record in done) else 1


def _say(record: dict[str, Any], words: str, alone: bool) -> None:
    """One line for a file: what it became, or on stderr why not."""
    file, why = record["file"], record.get("error") or record.get("passed_over")
    if why:
        print(why if file in why else f"{file}: {why}", file=sys.stderr)
    else:
        count = len(record["faces"])
        print(f"{record['out']}: {words if alone else f'from {file}'}, {count} face{'s' * (count != 1)}")


def _jobs(arguments: argparse.Namespace) -> Iterator[tuple[Path, Path, str]]:
    """Every file that the sources name: the file, where its edited picture goes, and why it is passed over, if it is."""
    from dvlatent import images

    jobs, out, taken = [], arguments.out, {}
    several = len(arguments.sources) > 1 or arguments.sources[0].is_dir()
    if several and out and (out.is_file() or out.suffix.lower() in (*images.PHOTOS, ".mp4")):
        raise ImageError(f"--out {out} is the name of a file; for several pictures a folder was needed.")
    for source in arguments.sources:
        if source.is_dir():
            if not (inside := sorted(source.iterdir())):
                raise ImageError(f"{source} has no files; photos that end in {', '.join(images.PHOTOS)} were needed.")
            whole = source if source.name not in ("", "..") else source.resolve()
            target = out or whole.with_name(f"{whole.name}-{arguments.edit}")
            jobs += [(file, _named(file, target, arguments.edit), _not_for_us(file)) for file in inside]
        else:
            whole = out if out and not several and not out.is_dir() else _named(source, out or source.parent, arguments.edit)
            jobs.append((source, whole, ""))
    for file, goal, why in jobs:
        if not why and (first := taken.setdefault(goal, file)) != file:
            why = f"{first.name} takes its name, {goal.name}"
        yield file, goal, why


def _named(source: Path, folder: Path, edit: str) -> Path:
    """Where an edited picture goes: the name with the edit, in a format that is written."""
    from dvlatent import images

    name = folder / f"{source.stem}-{edit}{source.suffix}"
    if _is_film(source):
        return name if source.suffix.lower() in (".mp4", ".gif") else name.with_name(f"{source.stem}-{edit}.mp4")
    return images.writable(name) if source.suffix else name.with_name(f"{name.name}.jpg")


def _not_for_us(file: Path) -> str:
    """Why a file of a folder is passed over; empty if it is not."""
    from dvlatent import images, video

    if file.is_dir():
        return "a folder; name it to edit what is in it"
    if file.suffix.lower() in images.HEIC and not images.heic_is_read():
        return "HEIC is read where pillow-heif is installed: pip install pillow-heif"
    return "" if file.suffix.lower() in (*images.PHOTOS, *video.KINDS) else "neither a photo nor a film"


def _is_film(path: Path) -> bool:
    """Whether a file has moving pictures, by its ending; a WebP or PNG file by its frames."""
    from PIL import Image as Pillow

    from dvlatent import video

    if path.suffix.lower() in (".webp", ".png"):
        try:
            with Pillow.open(path, formats=("WEBP", "PNG")) as picture:
                return bool(getattr(picture, "is_animated", False))
        except Exception:  # damaged, or missing: the reader says so
            return False
    return path.suffix.lower() in video.KINDS


def _run(source: Path, out: Path, steps: Steps, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Edit one file, and say which faces."""
    from dvlatent import images
    from dvlatent.cli.film import filter_film
    from dvlatent.distillation.filter import changes, faces_of

    if _is_film(source):
        if arguments.strip:
            raise ImageError(f"{source} is a film, and a strip shows the faces of a photo. Leave --strip out.")
        return filter_film(source, out, steps, arguments)
    picture = images.open(source)
    faces = faces_of(picture.shown, steps, arguments.face)
    edited = picture.changed(changes(picture.shown, steps, faces))
    edited = edited.marked("edited") if arguments.mark_corner else edited
    images.write(_strip(picture, edited, faces, steps) if arguments.strip else edited, out, arguments.note)
    return [{"quad": one.quad, "size_px": round(one.size_px)} for one in faces]


def _strip(before: Picture, after: Picture, faces: Sequence[Alignment], steps: Steps) -> Any:
    """Each face before and after, and below them what was turned: a picture, [1, 3, height, width]."""
    import numpy as np
    import torch
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    from dvlatent import images
    from dvlatent.distillation.filter import in_words
    from dvlatent.faces.align import crop

    pairs = torch.cat([crop(picture.shown, one, STRIP_PX) for one in faces[:8] for picture in (before, after)])
    sheet = images.grid(pairs, columns=2)
    width, row = sheet.shape[3], 80
    dials = Pillow.new("RGB", (width, row * len(steps)), "white")
    pen, font = ImageDraw.Draw(dials), ImageFont.load_default(size=24)
    for number, (one, strength) in enumerate(steps):
        left, right, y = width // 8, width - width // 8, row * number + 52
        x, zero = (left + (right - left) * (value - one.low) / (one.high - one.low) for value in (strength, 0))
        pen.text((width / 2, y - 34), in_words(one, strength), fill="black", font=font, anchor="mm")
        pen.line([(left, y), (right, y)], fill="gray", width=3)
        pen.line([(zero, y), (x, y)], fill="black", width=7)
        for value, at in ((f"{one.low:+g}", left), ("0", zero), (f"{one.high:+g}", right)):
            pen.line([(at, y - 7), (at, y + 7)], fill="gray", width=3)
            pen.text((at, y + 18), value, fill="gray", font=font.font_variant(size=16), anchor="mm")
        pen.ellipse([x - 11, y - 11, x + 11, y + 11], fill="black")
    return torch.cat([sheet, images.from_uint8(np.asarray(dials))], dim=2)
