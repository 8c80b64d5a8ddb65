"""Filters made on the command line: `dvlatent pairs` and `distill` make one, `export` writes one for other programs."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import add_overwrite, add_psi, check_folder, check_out, command_of, numbers, real, shipped
from dvlatent.errors import CheckpointError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from dvlatent.directions import Direction, Edit
    from dvlatent.distillation.pairs import PairsProgress, Rules
    from dvlatent.types import Image, Predictor

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
HOPELESS = 1000  # seeds after which no pair is no bad luck
WHOLE = ("steps", "batch", "coarse-steps", "coarse-px", "discriminator-from")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the three commands."""
    _add_pairs(commands)
    _add_distill(commands)
    _add_export(commands)


def _add_pairs(commands: argparse._SubParsersAction) -> None:
    pairs = commands.add_parser("pairs", help="draw faces before and after an edit, and keep the good pairs")
    pairs.description = (
        "Draw the face of each seed before and after an edit, and keep the pair if the edit shows and nothing else does. Stop it whenever "
        "you like; the same command goes on. Several processes: accelerate launch --multi_gpu --num_processes 4 -m dvlatent pairs ..."
    )
    what = '"age:+2", or a range for a dial: "age:-2..+2"; your own direction or edit by its file: glasses.safetensors:+2'
    pairs.add_argument("--edit", required=True, metavar="NAME:STEPS", help=what)
    pairs.add_argument("--count", type=int, default=1000, help="how many pairs to keep (default 1000)")
    add_psi(pairs, 0.8)
    pairs.add_argument("--first-seed", type=int, metavar="SEED", help="the others follow it (default 2000000)")
    pairs.add_argument("--layers", type=numbers, metavar="N[-M][,...]", help="move these layers only (default: those of the direction)")
    pairs.add_argument("--full", action="store_true", help="1024 px renders; otherwise previews of 256 px, which take half the time")
    pairs.add_argument("--out", type=Path, required=True, help="the folder to fill")
    rules = pairs.add_argument_group("rules", "Which pairs are kept; the command prints the rules of its edit before it begins.")
    rules.add_argument("--score", metavar="NAME", help="what the edit changes (default: the score that its direction was found by)")
    rules.add_argument("--min-change", type=real, metavar="N", help="how far each step must move that score, in its own unit")
    keep = "how far another score may move, e.g. smile=0.3, or smile=any; may be given several times"
    rules.add_argument("--keep", type=_name_and_limit, action="append", default=[], metavar="SCORE=LIMIT", help=keep)
    rules.add_argument("--identity-limit", type=real, metavar="N", help="from this identity distance on, it is another person")
    more = "more predictors, for scores that attributes and landmarks do not give (default: those that the direction was found with)"
    rules.add_argument("--predictors", metavar="NAME[,...]", help=more)
    pairs.set_defaults(run=_pairs, resume="Every finished block of seeds is kept in --out; the same command goes on from there.")


def _name_and_limit(text: str) -> tuple[str, float]:
    name, _, limit = text.partition("=")
    return name, math.inf if limit == "any" else real(limit)


def _pairs(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dvlatent.distillation.pairs import FIRST_SEED, PairsConfig, rules_for, write_pairs
    from dvlatent.faces.detector import FaceCheck
    from dvlatent.zoo import load

    limits = [limit for limit in (arguments.min_change, arguments.identity_limit) if limit is not None]
    if not all(limit > 0 for limit in limits) or any(limit < 0 for _, limit in arguments.keep):
        raise ShapeError("--min-change and --identity-limit must lie above 0, and --keep not below: nothing would pass otherwise.")
    name, low, high = parse_edit(arguments.edit)
    config = PairsConfig(low, high, arguments.psi)
    check_folder(arguments.out)
    edit = _edit(name, arguments.layers)
    first = edit.terms[0][1] if hasattr(edit, "terms") else edit
    more = arguments.predictors or first.found_by.get("scored_by", "")
    scored_by = ["attributes", "landmarks", *(one for one in more.split(",") if one not in ("", "attributes", "landmarks"))]
    predictors = [*_fresh(scored_by), FaceCheck()]
    columns = [column for predictor in predictors for column in predictor.names]
    rules = rules_for(edit, columns, arguments.score, arguments.min_change)
    if unknown := [column for column, _ in arguments.keep if column not in columns or column == rules.score]:
        raise ShapeError(f"--keep {unknown[0]}: what may stay is one of {', '.join(one for one in columns if one != rules.score)}.")
    rules = replace(rules, max_change={**rules.max_change, **dict(arguments.keep)})
    rules = replace(rules, max_change={column: limit for column, limit in rules.max_change.items() if limit < math.inf})
    rules = replace(rules, identity_limit=arguments.identity_limit) if arguments.identity_limit else rules
    generator, (rank, world_size) = load("faces"), process()
    made = (generator, edit, arguments.count, predictors, load("identity"), rules, config)
    first_seed = FIRST_SEED if arguments.first_seed is None else arguments.first_seed
    options = {"first_seed": first_seed, "rank": rank, "world_size": world_size, "render": generator.synthesis if arguments.full else None}
    if rank == 0:
        print(rules_in_words(rules), file=sys.stderr)
    with tqdm(total=arguments.count, unit="pair", disable=rank > 0) as bar:
        for progress in write_pairs(arguments.out, *made, **options, command=command_of(arguments), scored_by=scored_by):
            if not bar.n and progress.steps:  # kept before: not part of the speed
                bar.initial = bar.n = progress.kept - sum(int(step.kept.sum()) for step in progress.steps)
            bar.update(min(progress.kept, arguments.count) - bar.n)
            if progress.tried >= HOPELESS and not progress.kept:
                why = ", ".join(f"{reason} {count}" for reason, count in progress.reasons.items())
                raise ShapeError(f"none of {progress.tried:,} seeds passed the rules ({why}). Loosen a rule, or edit more strongly.")
    if rank == 0:
        print(tally(progress, arguments.out))
        if not progress.complete:
            print("Not complete yet: the other processes are still drawing. If one of them was killed, run the same command again.")
    return 0


def _edit(name: str, layers: list[int] | None) -> Direction | Edit:
    """The direction or edit of a name that we ship, or of a file; with these layers, if there are any."""
    from dvlatent.directions import Direction, Edit
    from dvlatent.zoo import available, load

    known = name if name in available() or name.endswith(".safetensors") else f"{name}-direction"
    edit = load(known) if known in available() or known.endswith(".safetensors") else None
    if not isinstance(edit, (Direction, Edit)):
        offered = ", ".join(one.removesuffix("-direction") for one in shipped("-direction", "-edit"))
        raise ShapeError(f"'{name}' is no edit: say one of {offered or 'none'}, or the .safetensors file of a direction or an edit.")
    if layers and isinstance(edit, Edit):
        return Edit(tuple((amount, replace(one, layers=tuple(layers))) for amount, one in edit.terms))
    return replace(edit, layers=tuple(layers)) if layers else edit


class Columns:
    """Some columns of a predictor."""

    def __init__(self, predictor: Predictor, names: Sequence[str]) -> None:
        self.predictor, self.names = predictor, tuple(names)

    def __call__(self, image: Image) -> Tensor:
        """The scores in the order of `names`."""
        return self.predictor(image)[:, [self.predictor.names.index(name) for name in self.names]]


def _fresh(scored_by: Sequence[str]) -> list[Columns]:
    """Predictors by name, each with the scores that none before it gives."""
    from dvlatent.zoo import load

    taken: set[str] = set()
    predictors = []
    for name in scored_by:
        predictor = load(name)
        if not hasattr(predictor, "names"):
            raise ShapeError(f"'{name}' gives no scores: give --predictors that do, such as judge.")
        fresh = [column for column in predictor.names if column not in taken]
        taken |= set(fresh)
        predictors += [Columns(predictor, fresh)] if fresh else []
    return predictors


def rules_in_words(rules: Rules) -> str:
    """The rules of pairs, in lines, with the flags that change them."""
    unit, (low, high) = " log-odds" if rules.log_odds else "", rules.ends
    ends = "" if low < -1e8 else f", unless it passes {low:.3g} or {high:.3g}"
    least = f"{rules.min_change:.3g}{unit} for each step, {rules.tolerance:.3g} less passes{ends}"
    kept = ", ".join(f"{name} {limit:g}" for name, limit in rules.max_change.items()) or "nothing"
    clean = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in rules.within.items()) or "nothing"
    return (
        f"A pair is kept if\n"
        f"  {rules.score} moves by {least} (--score, --min-change)\n"
        f"  nothing else changes by more than: {kept} (--keep)\n"
        f"  it is the same person: identity distance below {rules.identity_limit:g} (--identity-limit)\n"
        f"  both pictures are clean: {clean}"
    )


def tally(progress: PairsProgress, out: Path) -> str:
    """How many seeds were kept, and why the others were not, in lines."""
    lines = [f"{out}: {min(progress.kept, progress.count):,} pairs; {progress.kept_fraction:.0%} of {progress.tried:,} seeds were kept"]
    lines += [f"  {count:7,}  {count / progress.tried:6.1%}  {reason}" for reason, count in progress.reasons.items()]
    return "\n".join(lines)


def process() -> tuple[int, int]:
    """The number of this process and the number of processes, as `accelerate launch` (or torchrun) gives them in the environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def parse_edit(text: str) -> tuple[str, float, float]:
    """"age:+2" -> ("age", 2.0, 2.0); "mine.safetensors:-2..+2" -> ("mine.safetensors", -2.0, 2.0)."""
    name, _, steps = text.rpartition(":")
    low, _, high = steps.partition("..")
    try:
        return name, float(low), float(high or low)
    except ValueError:
        raise ShapeError(f"'{text}' is no edit: say NAME:STEPS or NAME:FROM..TO, e.g. age:+2, age:-2..+2 or mine.safetensors:+2.") from None


def _add_distill(commands: argparse._SubParsersAction) -> None:
    distill = commands.add_parser("distill", help="train a filter on pairs: before, after, strength")
    distill.description = (
        "Train a filter on a folder that `dvlatent pairs` filled. Several processes or mixed precision: "
        "accelerate launch --multi_gpu --num_processes 2 -m dvlatent distill ..."
    )
    distill.add_argument("folder", type=Path, metavar="DIR", help="the folder of pairs")
    distill.add_argument("--out", type=Path, required=True, help="the .safetensors file to write; a sample grid lies beside it")
    for name, what in CONFIG.items():
        distill.add_argument(f"--{name}", type=int if name in WHOLE else real, metavar="N", help=what)
    distill.add_argument("--random-seed", type=int, dest="seed", metavar="N", help="of everything that is drawn (default 0)")
    distill.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="convolutions in 16-bit numbers (default: yes)")
    distill.add_argument("--holdout", type=int, metavar="N", help="pairs to hold out and measure on: the first ones (default 100)")
    what = "multiply what the filter adds by this at the end (default: the factor that makes it as strong as its teacher on the holdout)"
    distill.add_argument("--amplify", type=real, metavar="N", help=what)
    distill.add_argument("--start", type=Path, metavar="FILE", help="begin with the weights of this filter")
    add_overwrite(distill)
    kept = "The run is kept beside --out every 50 steps; the same command goes on from there."
    distill.set_defaults(run=_distill, resume=kept)


def _distill(arguments: argparse.Namespace) -> int:
    from dvlatent.checkpoint import check_path
    from dvlatent.training import accelerated, finish

    going_on = arguments.out.with_suffix(".run.safetensors").exists()
    check_out(check_path(arguments.out), arguments.overwrite or going_on)
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
    from dvlatent.distillation.pairs import Pairs, reader
    from dvlatent.distillation.train import DistillConfig, train_filter
    from dvlatent.zoo import available, load

    pairs, config = Pairs(folder, reverse=True), DistillConfig(**{"bf16": True, **chosen})
    score, named = str(pairs.settings["rules"].get("score")), pairs.settings.get("scored_by")
    names = [name for name in (named if isinstance(named, list) else ("attributes", "landmarks")) if name in available()]
    read = next((reader(one, score) for one in map(load, names) if score in getattr(one, "names", ())), None)  # as the pairs were chosen
    if read is None:
        raise ShapeError(f"{folder} was made for '{score}', which nothing here reads. Make the pairs again with `dvlatent pairs`.")
    identity = load("identity") if config.identity else None
    train_filter(pairs, out, config, perceptual=load("perceptual"), read=read, identity=identity, **options)


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser("export", help="write a filter as ONNX, for other programs, phones and browsers")
    export.add_argument("what", help="a filter, such as age-filter, or its .safetensors file")
    export.add_argument("--out", type=Path, required=True, help="the .onnx file to write; with --web, a folder that exists")
    add_overwrite(export)
    export.add_argument("--large", action="store_true", help="the network for large faces, of 512 px, where the filter has one")
    export.add_argument("--web", action="store_true", help="for a page: the graphs, and their weights beside them, a third as large")
    export.set_defaults(run=_export, resume="Nothing was written.")


def _export(arguments: argparse.Namespace) -> int:
    from dvlatent.distillation.filter import Filter, export_onnx, export_web
    from dvlatent.zoo import load

    if arguments.web and arguments.large:
        raise ShapeError("a page takes both networks, for faces of 256 px and of 512 px: leave --large out.")
    if arguments.web:
        check_folder(arguments.out)
    else:
        check_out(arguments.out, arguments.overwrite, (".onnx",))
    one = load(arguments.what)
    if not isinstance(one, Filter):
        raise ShapeError(f"'{arguments.what}' is no filter; those that we ship: {', '.join(shipped('-filter')) or 'none'}.")
    if arguments.web:
        for ending in (".onnx", ".weights", *(["-large.onnx"] if one.large else [])):
            check_out(arguments.out / f"{one.name}{ending}", arguments.overwrite)
        about = export_web(one, arguments.out)
        files = [arguments.out / about[name] for name in ("file", "large", "weights") if name in about]
    else:
        files = [export_onnx(one, arguments.out, arguments.large)]
    print(f"{', '.join(map(str, files))}: {one.name}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    print(f"  image [batch, 3, height, width] in [-1, 1], strength [batch] in [{one.low:g}, {one.high:g}] -> edited, as image")
    return 0
