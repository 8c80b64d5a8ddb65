"""Teach a filter to draw at 512 px: `python recipes/enhancer.py age --filter age-filter.safetensors --out age-filter.safetensors`.

The filter stays as it is. Beside it a small network (`LocalEnhancer`, after pix2pixHD's) learns what its change looks like from nearer:
from pairs at 512 px, on random squares of 256 px (as FRAN does, Zoss et al. 2022), with the losses of `last_training.py`. The pairs come
from seeds that the filter never saw, since it knows its own pairs too well.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import half, parser, run
from last_training import HOLDOUT, LONG, PLANS, REACH, PairFiles, View, draw_pairs, train
from torch import Tensor

from dvlatent import checkpoint
from dvlatent.distillation.pix2pixhd import LocalEnhancer, Student
from dvlatent.distillation.train import Subset
from dvlatent.training import progress
from dvlatent.types import Image
from dvlatent.zoo import load

SIZE, CROP, FIRST_BLOCK = 512, 256, 1000  # of the pairs, of what is seen in one step; of their seeds


class Squares:
    """What the enhancer is shown of a step's pairs: a random square of each, and what the filter adds there."""

    def __init__(self, student: Student) -> None:
        self.student = student.folded()

    def __call__(self, before: Image, after: Image, strength: Tensor, rng: torch.Generator) -> View:
        """Inputs of LocalEnhancer, then the squares before and after."""
        with torch.no_grad():
            change = self.student.change(F.avg_pool2d(before, 2), strength.view(-1, 1, 1, 1))
        room = (before.shape[-1] - CROP) // 2
        corners = (torch.rand(len(before), 2, generator=rng) * (room + 1)).long().tolist()

        def cut(pictures: Tensor, scale: int) -> Tensor:
            side, squares = CROP // 2 * scale, []
            for picture, (top, left) in zip(pictures, corners, strict=True):
                squares.append(picture[:, top * scale : top * scale + side, left * scale : left * scale + side])
            return torch.stack(squares).contiguous(memory_format=torch.channels_last)

        before, after = cut(before, 2), cut(after, 2)
        return (before, cut(change, 1), (strength / REACH).view(-1, 1, 1, 1)), before, after


def make(out: Path, what: str, filter: Path, pool: Path, pairs: int, steps: int) -> None:
    """Draw the pairs into `pool`, train an enhancer for the filter of a file, and write both."""
    weights, about = checkpoint.load(filter, "filter")
    weights = {name: value for name, value in weights.items() if not name.startswith("enhancer.")}
    student, folder = Student(), pool / f"pairs-{what}-{SIZE}"
    checkpoint.load_weights(student, weights, filter.name)
    draw_pairs(PLANS[what], folder, pairs, pool / "readers", FIRST_BLOCK, SIZE)
    dataset = PairFiles(folder)
    learn, kept = Subset(dataset, range(HOLDOUT, len(dataset))), pool / f"{what}-enhancer.run.safetensors"
    config = replace(LONG, steps=steps, lr=1e-3, ema_images=500)
    words = lambda step: " ".join(f"{name} {value:.3f}" for name, value in step.losses.items())  # noqa: E731
    torch.manual_seed(config.seed)
    trained = train(LocalEnhancer(), learn, load("perceptual"), config, kept, view=Squares(student))
    for step in progress(trained, config.steps, words):
        ema = step.ema
    ema.gain.mul_(PLANS[what].bolder_near)
    ema.own.copy_(torch.tensor(PLANS[what].own))
    about["enhancer"] = {**ema.sizes, "size_px": SIZE, "pairs": len(learn), "config": asdict(config)}
    about["enhancer"]["command"] = f"python recipes/enhancer.py {what} --filter {filter.name} --out {out.name}"
    checkpoint.save(out, {**half(student), **{f"enhancer.{name}": value for name, value in half(ema).items()}}, about)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    arguments = parser(__doc__, filter=Path("age-filter.safetensors"), pool=Path("build/filters"), pairs=380, steps=650)
    arguments.add_argument("what", choices=list(PLANS), help="the edit of the filter")
    sys.exit(run(make, arguments, kept="Pairs and the run are kept in --pool; the same command goes on from there."))
