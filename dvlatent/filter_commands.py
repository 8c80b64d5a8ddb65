"""Filters on the command line: `dvlatent pairs` makes what one learns from."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.errors import ShapeError

if TYPE_CHECKING:
    from dvlatent.directions import Direction


def add(commands: argparse._SubParsersAction) -> None:
    """Add the commands of this file."""
    _add_pairs(commands)


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
    pairs.add_argument("--layers", metavar="N[-M][,...]", help="move these layers only (default: those of the direction)")
    pairs.add_argument("--full", action="store_true", help="1024 px renders; otherwise previews of 256 px, which take half the time")
    what = "only show which layers carry the edit, on so many faces (default 8)"
    pairs.add_argument("--sweep", type=int, nargs="?", const=8, metavar="FACES", help=what)
    pairs.add_argument("--out", type=Path, help="the folder to fill")
    pairs.set_defaults(run=_pairs, resume="Every finished block of seeds is kept in --out; the same command goes on from there.")


def _pairs(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from tqdm import tqdm

    from dvlatent.checkpoints.registry import load
    from dvlatent.commands import numbers
    from dvlatent.faces.clean import Clean
    from dvlatent.methods.pairing import RULES, PairsConfig
    from dvlatent.methods.pairs import FIRST_SEED, write

    name, low, high = edit_and_range(arguments.edit)
    if name not in RULES:
        raise ShapeError(f"there are no rules for pairs of '{name}', only for {', '.join(RULES)}. Give --edit age:+2.")
    direction: Direction = load(f"{name}-direction")
    if arguments.layers:
        direction = replace(direction, layers=tuple(numbers(arguments.layers)))
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
    return 0


def _sweep(generator: Any, direction: Direction, score: str, amount: float, faces: int) -> int:
    from tqdm import tqdm

    from dvlatent.checkpoints.registry import load
    from dvlatent.methods.effects import carried, layer_sweep

    predictor = load("attributes" if score in ("age", "male") else "landmarks")
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
