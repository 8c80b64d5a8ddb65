"""Filters on the command line: `dvlatent pairs` and `distill` make one, `filter` uses one, `export` writes one for other programs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import command_of, file_and_number, numbers, shipped
from dvlatent.errors import CheckpointError, DvlatentError, ImageError, NoFace, ShapeError

if TYPE_CHECKING:
    from dvlatent.directions import Direction
    from dvlatent.distillation.filter import Filter
    from dvlatent.distillation.pairs import PairsProgress

FILMS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"}
CONFIG = {  # options of `distill` that are fields of DistillConfig
    "steps": "updates of the student",
    "batch": "pairs in a step",
    "coarse-steps": "in how many of the first steps the losses see small pictures",
    "coarse-px": "their side",
    "discriminator-from": "first step with a discriminator",
    "pixel": "weight of the mean absolute difference of pixels",
    "perceptual": "weight of the perceptual distance",
    "adversarial": "weight of the adversarial loss",
    "features": "weight of feature matching in the discriminator",
    "identity": "weight of the identity distance",
    "lr": "learning rate of the student",
    "discriminator-lr": "learning rate of the discriminator",
}
WHOLE = ("steps", "batch", "coarse-steps", "coarse-px", "discriminator-from")
Steps = list[tuple["Filter", float]]


def add(commands: argparse._SubParsersAction, argv: Sequence[str]) -> None:
    """Add the commands of this file. Which filters `filter` offers is looked up only when it is called: that imports torch."""
    _add_pairs(commands)
    _add_distill(commands)
    _add_filter(commands, shipped("-filter") if argv[:1] == ["filter"] else [])
    _add_export(commands)


def _add_pairs(commands: argparse._SubParsersAction) -> None:
    pairs = commands.add_parser("pairs", help="draw faces before and after an edit, and keep the good pairs")
    pairs.description = (
        "Draw the face of each seed before and after an edit, and keep the pair if the edit shows and nothing else does. Stop it whenever "
        "you like; the same command goes on. Several processes: accelerate launch --multi_gpu --num_processes 4 -m dvlatent pairs ..."
    )
    pairs.add_argument("--edit", required=True, metavar="NAME:STEPS", help='"age:+2", or a range for a dial: "age:-2..+2"')
    pairs.add_argument("--count", type=int, default=1000, help="how many pairs to keep (default 1000)")
    pairs.add_argument("--psi", type=float, default=0.8, help="truncation: 0 is the average face, 1 the whole variety (default 0.8)")
    pairs.add_argument("--first-seed", type=int, metavar="SEED", help="the others follow it (default 2000000)")
    pairs.add_argument("--layers", type=numbers, metavar="N[-M][,...]", help="move these layers only (default: those of the direction)")
    pairs.add_argument("--full", action="store_true", help="1024 px renders; otherwise previews of 256 px, which take half the time")
    pairs.add_argument("--out", type=Path, required=True, help="the folder to fill")
    pairs.set_defaults(run=_pairs, resume="Every finished block of seeds is kept in --out; the same command goes on from there.")


def _pairs(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from dvlatent.distillation.pairs import FIRST_SEED, RULES, PairsConfig, write_pairs
    from dvlatent.faces.detector import FaceCheck
    from dvlatent.zoo import load

    name, low, high = parse_edit(arguments.edit)
    if name not in RULES:
        raise ShapeError(f"there are no rules for pairs of '{name}', only for {', '.join(RULES)}. Give --edit age:+2.")
    generator, direction = load("faces"), load(f"{name}-direction")
    direction: Direction = replace(direction, layers=tuple(arguments.layers)) if arguments.layers else direction
    rank, world_size = process()
    predictors = [load("attributes"), load("landmarks"), FaceCheck()]
    made = (generator, direction, arguments.count, predictors, load("identity"), RULES[name], PairsConfig(low, high, arguments.psi))
    first_seed = FIRST_SEED if arguments.first_seed is None else arguments.first_seed
    options = {"first_seed": first_seed, "rank": rank, "world_size": world_size, "render": generator.synthesis if arguments.full else None}
    with tqdm(total=arguments.count, unit="pair", disable=rank > 0) as bar:
        for progress in write_pairs(arguments.out, *made, **options):
            if not bar.n and progress.steps:  # kept before: not part of the speed
                bar.initial = bar.n = progress.kept - sum(int(step.kept.sum()) for step in progress.steps)
            bar.update(min(progress.kept, arguments.count) - bar.n)
    if rank == 0:
        print(tally(progress, arguments.out))
        if not progress.complete:
            print("Not complete yet: the other processes are still drawing. If one of them was killed, run the same command again.")
    return 0


def tally(progress: PairsProgress, out: Path) -> str:
    """How many seeds were kept, and why the others were not, in lines."""
    lines = [f"{out}: {min(progress.kept, progress.count):,} pairs; {progress.kept_fraction:.0%} of {progress.tried:,} seeds were kept"]
    lines += [f"  {count:7,}  {count / progress.tried:6.1%}  {reason}" for reason, count in progress.reasons.items()]
    return "\n".join(lines)


def process() -> tuple[int, int]:
    """The number of this process and the number of processes, as `accelerate launch` (or torchrun) gives them in the environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def parse_edit(text: str) -> tuple[str, float, float]:
    """"age:+2" -> ("age", 2.0, 2.0); "age:-2..+2" -> ("age", -2.0, 2.0)."""
    name, _, steps = text.partition(":")
    low, _, high = steps.partition("..")
    try:
        return name, float(low), float(high or low)
    except ValueError:
        raise ShapeError(f"'{text}' is no edit: say NAME:STEPS or NAME:FROM..TO, e.g. age:+2 or age:-2..+2.") from None


def _add_distill(commands: argparse._SubParsersAction) -> None:
    distill = commands.add_parser("distill", help="train a filter on pairs: before, after, strength")
    distill.description = (
        "Train a filter on a folder that `dvlatent pairs` filled. Several processes or mixed precision: "
        "accelerate launch --multi_gpu --num_processes 2 -m dvlatent distill ..."
    )
    distill.add_argument("folder", type=Path, metavar="DIR", help="the folder of pairs")
    distill.add_argument("--out", type=Path, required=True, help="the .safetensors file to write; a sample grid lies beside it")
    for name, what in CONFIG.items():
        distill.add_argument(f"--{name}", type=int if name in WHOLE else float, metavar="N", help=what)
    distill.add_argument("--random-seed", type=int, dest="seed", metavar="N", help="of everything that is drawn (default 0)")
    distill.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="convolutions in 16-bit numbers (default: yes)")
    distill.add_argument("--holdout", type=int, metavar="N", help="pairs to hold out and measure on: the first ones (default 100)")
    what = "multiply what the filter adds by this at the end (default: the factor that makes it as strong as its teacher on the holdout)"
    distill.add_argument("--amplify", type=float, metavar="N", help=what)
    distill.add_argument("--start", type=Path, metavar="FILE", help="begin with the weights of this filter")
    kept = "The run is kept beside --out every 50 steps; the same command goes on from there."
    distill.set_defaults(run=_distill, resume=kept)


def _distill(arguments: argparse.Namespace) -> int:
    from dvlatent.checkpoint import check_path
    from dvlatent.training import accelerated, finish

    check_path(arguments.out)
    if arguments.amplify is not None and not 0 < arguments.amplify <= 10:
        raise CheckpointError(f"--amplify {arguments.amplify:g} should lie above 0 and not above 10; 1 changes nothing.")
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    chosen = {name: given[name] for name in (*(name.replace("-", "_") for name in CONFIG), "seed", "bf16") if name in given}
    others = {name: given[name] for name in ("holdout", "amplify", "start") if name in given}
    distill_folder(arguments.folder, arguments.out, chosen, command=command_of(arguments), **others)
    finish(accelerated())
    return 0


def distill_folder(folder: Path, out: Path, chosen: Mapping[str, Any], **options: Any) -> None:
    """`train_filter` with the networks that we load. `chosen` are fields of DistillConfig, `options` those of `train_filter`."""
    from dvlatent.distillation.pairs import READS, Pairs, reader
    from dvlatent.distillation.train import DistillConfig, train_filter
    from dvlatent.zoo import load

    pairs, config = Pairs(folder, reverse=True), DistillConfig(**{"bf16": True, **chosen})
    score = pairs.settings["rules"]["score"]
    read = reader(load(READS.get(score, "landmarks")), score)  # by the predictor that chose the pairs
    identity = load("identity") if config.identity else None
    train_filter(pairs, out, config, perceptual=load("perceptual"), read=read, identity=identity, **options)


def _add_filter(commands: argparse._SubParsersAction, names: Sequence[str]) -> None:
    one = commands.add_parser("filter", help="run a filter over photos and films")
    one.description = "Edit every face of a photo, a folder of photos or a film, in its place. Several filters run one after the other."
    one.add_argument("source", type=Path, help="a photo, a folder of photos, or a film (mp4, mov, webm, gif)")
    for name in names:
        option = name.removesuffix("-filter")
        what = f"strength of the {option} filter, e.g. +2 or -1"
        one.add_argument(f"--{option}", dest=name, type=float, metavar="STRENGTH", help=what)
    file = "strength of a filter from its file, e.g. mine.safetensors:+2; may be given several times"
    one.add_argument("--filter", type=file_and_number, action="append", default=[], metavar="FILE:STRENGTH", help=file)
    one.add_argument("--face", type=int, metavar="N", help="only one face of each picture: 0 is the largest (default all)")
    one.add_argument("--out", type=Path, help="a file, or for a folder a folder (default NAME-filtered beside it)")
    one.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    one.add_argument("--mark", action="store_true", help="write into the metadata of every photo that it is edited, and how")
    one.add_argument("--mark-corner", action="store_true", help="write 'edited' into the corner of every picture")
    one.set_defaults(run=_filter, resume="Photos of a folder that are done stay; the same command goes on.", shipped=list(names))


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
    fps, total, frames = video.frames(source)
    without = 0

    def pictures() -> Iterator[Any]:
        nonlocal without
        for frame in tqdm(frames, total=total or None, unit="frame"):
            try:
                edited = apply_to_photo(frame, steps, arguments.face)
                yield images.marked(edited, "edited") if arguments.mark_corner else edited
            except NoFace:
                without += 1
                yield frame

    video.film(pictures(), out, min(fps, 50) if out.suffix.lower() == ".gif" else fps, progress=False)
    silent = out.suffix.lower() == ".mp4" and not _add_sound(out, source)
    left = f"; {without} frames without a face stayed as they were" if without else ""
    print(f"{out}: {words}{left}{'; its sound could not be kept' if silent else ''}")
    return 0


def _add_sound(film: Path, source: Path) -> bool:
    """Copy the sound of another film, if it has any, to a film. False if that fails; then the film stays as it was."""
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
    export.add_argument("--out", type=Path, required=True, help="the .onnx file to write; with --web, a folder that exists")
    export.add_argument("--web", action="store_true", help="for a page: the graph, and beside it its weights in 8 and 16 bits, a third as large")
    export.set_defaults(run=_export, resume="Nothing was written.")


def _export(arguments: argparse.Namespace) -> int:
    from dvlatent.distillation.filter import Filter, export_onnx, export_web
    from dvlatent.zoo import load

    one = load(arguments.what)
    if not isinstance(one, Filter):
        raise ShapeError(f"'{arguments.what}' is no filter; those that we ship: {', '.join(shipped('-filter')) or 'none'}.")
    if arguments.web:
        about = export_web(one, arguments.out)
        files = [arguments.out / about[name] for name in ("file", "weights")]
    else:
        files = [export_onnx(one, arguments.out)]
    print(f"{', '.join(map(str, files))}: {one.name}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    print(f"  image [batch, 3, height, width] in [-1, 1], strength [batch] in [{one.low:g}, {one.high:g}] -> edited, as image")
    return 0
