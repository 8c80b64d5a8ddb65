"""Filters on the command line: `dvlatent pairs` makes what one learns from, `filter` uses one, `export` writes it for other programs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import numbers
from dvlatent.errors import DvlatentError, ImageError, NoFace, ShapeError

if TYPE_CHECKING:
    from dvlatent.directions import Direction
    from dvlatent.distillation.filter import Filter

FILMS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"}
Steps = list[tuple["Filter", float]]


def add(commands: argparse._SubParsersAction, argv: Sequence[str]) -> None:
    """Add the commands of this file. What `filter` offers is asked of the registry only when it is called: that needs torch."""
    _add_pairs(commands)
    _add_filter(commands, shipped() if argv[:1] == ["filter"] else [])
    _add_export(commands)


def shipped() -> list[str]:
    """What the filters that `dvlatent.load` knows change, e.g. "age" for "age-filter"."""
    from dvlatent.zoo import available

    return [name.removesuffix("-filter") for name in available() if name.endswith("-filter")]


def _add_pairs(commands: argparse._SubParsersAction) -> None:
    pairs = commands.add_parser("pairs", help="draw faces before and after an edit, and keep the good pairs")
    pairs.description = (
        "Draw the face of each seed before and after an edit and keep the pair if the edit shows and nothing else does. Stop it whenever "
        "you like; the same command goes on. Several processes: accelerate launch --multi_gpu --num_processes 4 -m dvlatent pairs ..."
    )
    pairs.add_argument("--edit", required=True, metavar="NAME:STEPS", help='"age:+2", or a range for a dial: "age:-2..+2"')
    pairs.add_argument("--count", type=int, default=1000, help="how many pairs to keep (default 1000)")
    pairs.add_argument("--psi", type=float, default=0.8, help="truncation: 0 is the average face, 1 the whole variety (default 0.8)")
    pairs.add_argument("--first", type=int, metavar="SEED", help="the first seed; the others follow it (default 2000000)")
    pairs.add_argument("--layers", type=numbers, metavar="N[-M][,...]", help="move these layers only (default: those of the direction)")
    pairs.add_argument("--full", action="store_true", help="1024 px renders; otherwise previews of 256 px, which take half the time")
    what = "only show which layers carry the edit, on so many faces (default 8)"
    pairs.add_argument("--sweep", type=int, nargs="?", const=8, metavar="FACES", help=what)
    pairs.add_argument("--out", type=Path, help="the folder to fill")
    pairs.set_defaults(run=_pairs, resume="Every finished block of seeds is kept in --out; the same command goes on from there.")


def _pairs(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from dvlatent.distillation.pairing import RULES, PairsConfig
    from dvlatent.distillation.pairs import FIRST_SEED, write
    from dvlatent.faces.detector import Clean
    from dvlatent.zoo import load

    name, low, high = edit_and_range(arguments.edit)
    if name not in RULES:
        raise ShapeError(f"there are no rules for pairs of '{name}', only for {', '.join(RULES)}. Give --edit age:+2.")
    direction: Direction = load(f"{name}-direction")
    if arguments.layers:
        direction = replace(direction, layers=tuple(arguments.layers))
    generator = load("faces")
    if arguments.sweep is not None:
        return _sweep(generator, direction, RULES[name].score, max(abs(low), abs(high)), arguments.sweep)
    if arguments.out is None:
        raise ShapeError("--out is missing: name the folder to fill, e.g. --out build/pairs-age.")
    process, processes = share()
    config, first = PairsConfig(low, high, arguments.psi), FIRST_SEED if arguments.first is None else arguments.first
    predictors = [load("attributes"), load("landmarks"), Clean()]
    options = {"first": first, "process": process, "processes": processes, "render": generator.synthesis if arguments.full else None}
    progress = None
    with tqdm(total=arguments.count, unit="pair", disable=process > 0) as bar:
        made = (generator, direction, arguments.count, predictors, load("identity"), RULES[name], config)
        for progress in write(arguments.out, *made, **options):
            if not bar.n and progress.last:  # kept before: no part of the pace
                bar.initial = bar.n = progress.kept - progress.fresh
            bar.update(min(progress.kept, arguments.count) - bar.n)
    if process == 0 and progress is not None:
        print(tally(progress, arguments.out))
        if not progress.complete:
            print("No manifest yet: the other processes are still drawing. If one of them died, run the same command again.")
    return 0


def _sweep(generator: Any, direction: Direction, score: str, amount: float, faces: int) -> int:
    from tqdm import tqdm

    from dvlatent.distillation.pairing import READS
    from dvlatent.editing.effects import carried, layer_sweep
    from dvlatent.zoo import load

    predictor = load(READS.get(score, "landmarks"))
    found = layer_sweep(generator, direction, [amount], tqdm(range(500_000, 500_000 + faces)), predictor, identity=load("identity"))
    print(f"{direction.name} {amount:+g} on {faces} faces, in some layers alone:")
    for group, part in found.items():
        share_of = carried(part, found["all"], score)
        print(f"  {group:7}{share_of.value:6.0%} of the change of {score}, identity distance {float(part.identity.mean()):.2f}")
    moved = "all layers" if direction.layers is None else f"layers {min(direction.layers)} to {max(direction.layers)}"
    print(f"  pairs of this direction move {moved}")
    return 0


def tally(progress: Any, out: Path) -> str:
    """What was kept and why the rest was not, in lines."""
    lines = [f"{out}: {min(progress.kept, progress.count):,} pairs; {progress.share:.0%} of {progress.tried:,} seeds were kept"]
    lines += [f"  {count:7,}  {count / progress.tried:6.1%}  {reason}" for reason, count in progress.reasons.items()]
    return "\n".join(lines)


def share() -> tuple[int, int]:
    """Which of how many processes this one is: what `accelerate launch` (or torchrun) says in the environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def edit_and_range(text: str) -> tuple[str, float, float]:
    """"age:+2" -> ("age", 2.0, 2.0); "age:-2..+2" -> ("age", -2.0, 2.0)."""
    name, _, steps = text.partition(":")
    low, _, high = steps.partition("..")
    try:
        return name, float(low), float(high or low)
    except ValueError:
        raise ShapeError(f"'{text}' is no edit: say NAME:STEPS or NAME:FROM..TO, e.g. age:+2 or age:-2..+2.") from None


def _add_filter(commands: argparse._SubParsersAction, names: Sequence[str]) -> None:
    one = commands.add_parser("filter", help="run a filter over photos and films")
    one.description = "Edit every face of a photo, a folder of photos or a film, where it is. Several filters run one after the other."
    one.add_argument("source", type=Path, help="a photo, a folder of photos, or a film (mp4, mov, webm, gif)")
    for name in names:
        one.add_argument(f"--{name}", type=float, metavar="STRENGTH", help=f"strength of the {name} filter, e.g. +2 or -1")
    file = "strength of a filter from its file, e.g. mine.safetensors:+2; may be given several times"
    one.add_argument("--filter", type=_file_and_strength, action="append", default=[], metavar="FILE:STRENGTH", help=file)
    one.add_argument("--face", type=int, metavar="N", help="only one face of each picture: 0 is the largest (default all)")
    one.add_argument("--out", type=Path, help="a file, or for a folder a folder (default NAME-filtered beside it)")
    one.add_argument("--again", action="store_true", help="for a folder: make pictures again that are there already")
    one.set_defaults(run=_filter, resume="Photos of a folder that are done stay; the same command goes on.", shipped=list(names))


def _filter(arguments: argparse.Namespace) -> int:
    from dvlatent import images
    from dvlatent.distillation.filter import apply_to_photo
    from dvlatent.zoo import load

    asked = [(load(f"{name}-filter"), value) for name in arguments.shipped if (value := getattr(arguments, name)) is not None]
    steps: Steps = asked + [(load(path), value) for path, value in arguments.filter]
    if not steps:
        offered = ", ".join(f"--{name}" for name in arguments.shipped)
        raise ShapeError(f"no filter was asked for: give a strength by {f'{offered} or ' if offered else ''}--filter FILE:STRENGTH.")
    for one, strength in steps:
        one.check(strength)
    source, told = arguments.source, ", ".join(f"{one.name} {strength:+g}" for one, strength in steps)
    out = arguments.out or source.with_name(f"{source.stem}-filtered{source.suffix}")
    if source.is_dir():
        return _filter_folder(source, out, steps, arguments)
    if source.suffix.lower() in FILMS:
        return _filter_film(source, out, steps, arguments.face, told)
    images.write(apply_to_photo(images.read(source), steps, arguments.face), out)
    print(f"{out}: {told}")
    return 0


def _filter_folder(source: Path, out: Path, steps: Steps, arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.distillation.filter import apply_to_photo

    photos = sorted(path for path in source.iterdir() if path.suffix.lower() in images.KINDS)
    if not photos:
        raise ImageError(f"{source} has no photos: files that end in {', '.join(images.KINDS)} were needed.")
    done, there, refused = 0, 0, []
    for path in tqdm(photos, unit="photo"):
        if (out / path.name).exists() and not arguments.again:
            there += 1
            continue
        try:
            images.write(apply_to_photo(images.read(path), steps, arguments.face), out / path.name)
            done += 1
        except DvlatentError as reason:  # one bad photo is no reason to stop
            refused.append(f"  {path.name}: {reason}")
    known = f", {there} were there already (--again makes them anew)" if there else ""
    print(f"{out}: {done} of {len(photos)} photos edited{known}, {len(refused)} refused")
    print("\n".join(refused), file=sys.stderr, end="\n" if refused else "")
    return 1 if refused and not done and not there else 0


def _filter_film(source: Path, out: Path, steps: Steps, face: int | None, told: str) -> int:
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.distillation.filter import apply_to_photo

    fps, total, pieces = images.frames(source)
    without = 0

    def edited() -> Iterator[Any]:
        nonlocal without
        for frame in tqdm(pieces, total=total or None, unit="frame"):
            try:
                yield apply_to_photo(frame, steps, face)
            except NoFace:
                without += 1
                yield frame

    out = out if out.suffix.lower() in (".mp4", ".gif") else out.with_suffix(".mp4")
    images.film(edited(), out, min(fps, 50) if out.suffix.lower() == ".gif" else fps, progress=False)
    silent = out.suffix.lower() == ".mp4" and not _add_sound(out, source)
    left = f"; {without} frames without a face stayed as they were" if without else ""
    print(f"{out}: {told}{left}{'; its sound could not be kept' if silent else ''}")
    return 0


def _add_sound(film: Path, source: Path) -> bool:
    """Copy the sound of one film, if it has any, to another; False if it cannot be copied, and then the other stays as it was."""
    import subprocess

    from imageio_ffmpeg import get_ffmpeg_exe

    draft = film.with_name(f".{film.stem}.sound.mp4")
    command = [get_ffmpeg_exe(), "-y", "-v", "error", "-i", film, "-i", source, "-map", "0:v", "-map", "1:a?", "-c", "copy", draft]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
        if done:
            draft.replace(film)
        return done
    finally:
        draft.unlink(missing_ok=True)


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser("export", help="write a filter as ONNX, for other programs, phones and browsers")
    export.add_argument("what", help="a filter, such as age-filter, or its .safetensors file")
    export.add_argument("--out", type=Path, required=True, help="the .onnx file to write")
    export.set_defaults(run=_export, resume="Nothing was written.")


def _export(arguments: argparse.Namespace) -> int:
    from dvlatent.distillation.filter import Filter, export_onnx
    from dvlatent.zoo import load

    one = load(arguments.what)
    if not isinstance(one, Filter):
        ours = ", ".join(f"{name}-filter" for name in shipped())
        raise ShapeError(f"'{arguments.what}' is no filter; those that we ship: {ours or 'none'}.")
    export_onnx(one, arguments.out)
    print(f"{arguments.out}: {one.name}, {arguments.out.stat().st_size / 1e6:.1f} MB")
    print(f"  image [batch, 3, height, width] in [-1, 1], strength [batch] in [{one.low:g}, {one.high:g}] -> edited, as image")
    return 0


def _file_and_strength(text: str) -> tuple[Path, float]:
    """"mine.safetensors:+2" -> its path and 2.0."""
    path, _, strength = text.rpartition(":")
    if Path(path).suffix != ".safetensors":
        raise argparse.ArgumentTypeError(f"'{text}' is no FILE:STRENGTH: a filter is a .safetensors file, e.g. mine.safetensors:+2")
    return Path(path), float(strength)
