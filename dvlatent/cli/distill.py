"""Teaching a filter on the command line: `dvlatent distill`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dvlatent.errors import CheckpointError

NUMBERS = {  # fields of DistillConfig that may be chosen, and what they are
    "steps": "updates of the student",
    "batch": "pairs in a step",
    "coarse-steps": "in how many of the first steps the losses look at small pictures",
    "coarse-px": "how small they are",
    "critics-from": "steps without critics at first",
    "pixel": "weight of the mean absolute difference of pixels",
    "perceptual": "weight of the perceptual distance",
    "adversarial": "weight of what the critics say",
    "features": "weight of matching the critics' inner answers",
    "identity": "weight of the distance between persons",
    "rate": "learning rate of the student",
    "critic-rate": "learning rate of the critics",
    "seed": "of everything that is drawn",
}
WHOLE = ("steps", "batch", "coarse-steps", "coarse-px", "critics-from", "seed")


def add(commands: argparse._SubParsersAction) -> None:
    """Add `distill`."""
    distill = commands.add_parser("distill", help="train a filter on pairs: before, after, strength")
    distill.description = (
        "Train a filter on a folder that `dvlatent pairs` filled. Several processes or mixed precision: "
        "accelerate launch --multi_gpu --num_processes 2 -m dvlatent distill ..."
    )
    distill.add_argument("folder", type=Path, metavar="DIR", help="the folder of pairs")
    distill.add_argument("--out", type=Path, required=True, help="the .safetensors file to write; a look at unseen pairs goes beside it")
    for name, what in NUMBERS.items():
        distill.add_argument(f"--{name}", type=int if name in WHOLE else float, metavar="N", help=what)
    distill.add_argument("--held", type=int, metavar="N", help="pairs to hold back and measure on: the first ones (default 100)")
    what = "multiply what the filter adds by this in the end (default: what makes it as bold as its teacher on the pairs held back)"
    distill.add_argument("--amplify", type=float, metavar="N", help=what)
    distill.add_argument("--start", type=Path, metavar="FILE", help="begin with the weights of this filter, not with chance")
    kept = "The run is kept beside --out every 50 steps; the same command goes on from there."
    distill.set_defaults(run=_distill, resume=kept)


def _distill(arguments: argparse.Namespace) -> int:
    from dvlatent.distillation.ship_filters import ship_filter

    if arguments.out.suffix != ".safetensors" or not arguments.out.parent.is_dir():
        raise CheckpointError(f"--out {arguments.out} should end in .safetensors, in a folder that is there.")
    if arguments.amplify is not None and not 0 < arguments.amplify <= 10:
        raise CheckpointError(f"--amplify {arguments.amplify:g} should lie above 0 and not above 10; 1 changes nothing.")
    chosen = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in (*NUMBERS, "held", "start", "amplify")}
    ship_filter(arguments.folder, arguments.out, **{name: value for name, value in chosen.items() if value is not None})
    return 0
