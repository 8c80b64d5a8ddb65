"""Search for an edit of age that keeps the person: `python recipes/age_edit.py age-edit --out age-edit.safetensors`, ten minutes.

The reader that pulls is one of real people's ages (`tfjs.Faceres`, fetched through npm's client into --pool), with a part of the finder, so
that neither is fooled alone. Skin and hair keep their colors, and what is surely background stays. `younger-edit` is found in the same way.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from common import LICENSE, parser, run
from tfjs import FACERES, HUMAN, Faceres, fetch
from torch import Tensor, nn

from dvlatent import checkpoint
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.metrics.edits import skin_patches
from dvlatent.training import progress
from dvlatent.types import Image
from dvlatent.zoo import load

SAVE_EVERY = 50  # steps
SKIN, LIPS, SATURATION, BACKGROUND = 400.0, 400.0, 600.0, 60.0  # weights of the squared changes of what should stay
MOUTH = (172, 200, 104, 152)  # rows and columns of an aligned face of 256 px, from and to
GRID = 32  # positions along a side at which saturation and background are compared


class AgeReader(nn.Module):
    """Perceived age, 0.7 by the network of real ages and 0.3 by the finder, and what both say of gender: a Predictor with gradients.

    The cut wanders by 2 % from one reading to the next, so that no pixel's exact place can matter.
    """

    names = ("age", "male", "finder_male")

    def __init__(self, faceres: Faceres, finder: nn.Module, jitter: float = 0.02) -> None:
        super().__init__()
        self.faceres, self.finder, self.jitter, self.rng = faceres, finder, jitter, random.Random(0)

    def forward(self, image: Image) -> Tensor:
        """[batch, 3, size, size] in [-1, 1] -> [batch, 3]."""
        across, down, zoom = (self.rng.uniform(-self.jitter, self.jitter) for _ in range(3))
        real, finder = self.faceres(image, (across, down), 1 + zoom), self.finder(image)
        return torch.stack([0.7 * real[:, 0] + 0.3 * finder[:, 0], real[:, 1], finder[:, 1]], dim=1)


@dataclass(frozen=True)
class Plan:
    """One of the searches."""

    sign: float  # +1: older, -1: younger
    goal: float  # years
    steps: int  # by which its learning rate would have fallen
    stop_after: int  # steps
    times: float  # what is found is written so many times: as far as the person stays
    identity_limit: float = 0.5
    ages: tuple[float, float] = (4.0, 55.0)  # of the faces that it learns from
    first_seed: int = 800_000
    lips: float = LIPS  # weight of the squared change of their tint


PLANS = {
    "age-edit": Plan(1.0, 30.0, 240, 150, 1.12, identity_limit=0.45, lips=0.0),
    "younger-edit": Plan(-1.0, 26.0, 240, 200, 1.4, ages=(14.0, 70.0), first_seed=820_000),
}


class Signed(nn.Module):
    """A reader whose age is multiplied by +1 or -1: then "higher" may mean younger."""

    def __init__(self, reader: nn.Module, sign: float) -> None:
        super().__init__()
        self.reader, self.names, self.sign = reader, reader.names, sign

    def forward(self, image: Image) -> Tensor:
        """[batch, 3, size, size] -> [batch, score]."""
        found = self.reader(image)
        return torch.cat([self.sign * found[:, :1], found[:, 1:]], dim=1)


def kept(before: Image, after: Image, lips: float = LIPS) -> Tensor:
    """What the search pays for other changes: of the skin's color and the lips' tint, toward more saturated colors, and beside the head."""
    skin = torch.stack([(b - a).mean(dim=(2, 3)) for a, b in zip(skin_patches(before), skin_patches(after), strict=True)])
    richer = F.relu(saturation(after) - saturation(before)).square().mean()
    moved = F.adaptive_avg_pool2d(after - before, GRID).square().mean(dim=1)
    beside = beside_the_head().to(moved)
    redder = (tint(before) - tint(after)).square().mean()
    colors = SKIN * skin.mean(dim=0).square().mean() + SATURATION * richer + lips * redder
    return colors + BACKGROUND * (moved * beside).sum() / beside.sum()


def tint(image: Image) -> Tensor:
    """The mean color around the mouth, without its light: [batch, 3]."""
    top, bottom, left, right = (edge * image.shape[-1] // 256 for edge in MOUTH)
    color = image[:, :, top:bottom, left:right].mean(dim=(2, 3))
    return color - color.mean(dim=1, keepdim=True)


def saturation(image: Image) -> Tensor:
    """How far colors are from gray, position by position."""
    small = F.adaptive_avg_pool2d(image, GRID)
    return (small - small.mean(dim=1, keepdim=True)).square().sum(dim=1).add(1e-6).sqrt()


def beside_the_head() -> Tensor:
    """1 where an aligned picture shows neither head nor shoulders: [32, 32]."""
    across = torch.linspace(0, 1, GRID)
    down = across[:, None]
    return ((((across - 0.5) / 0.46).square() + ((down - 0.5) / 0.62).square() > 1) & (down < 0.62)).float()


def make(
    out: Path, what: str = "age-edit", stop_after: int = 0, pool: Path = Path("build/readers"), reader: nn.Module | None = None
) -> None:
    """Search from the age direction on, across the gender direction, and write what is found.

    `stop_after` ends the search sooner than its plan; `reader` is another one than `AgeReader`: both for a trial.
    """
    generator, start, gender, plan = load("faces"), load("age-direction"), load("gender-direction"), PLANS[what]
    reader = Signed(reader or AgeReader(Faceres(*fetch(HUMAN, FACERES, pool)), load("attributes").differentiable()), plan.sign)
    low, high = sorted(plan.sign * age for age in plan.ages)
    config = OptimizeEditConfig(
        steps=plan.steps, goal=plan.goal, score_range=(low, high), identity_limit=plan.identity_limit, psi=0.8, first_seed=plan.first_seed,
        preserve={"male": 1.5, "finder_male": 0.3},
    )  # fmt: skip
    amount, last, penalty = 2.0 * plan.sign, stop_after or plan.stop_after, partial(kept, lips=plan.lips)
    search = optimize_edit(generator, start, reader, load("identity"), config, without=[gender], amount=amount, penalty=penalty)
    for step in progress(islice(search, last), last, lambda step: f"{step.gain:+.0f} years, identity {step.identity_distance:.2f}"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == last - 1:
            made_by = f"python recipes/age_edit.py {what} --out {out.name}"
            checkpoint.save_edit(plan.times * step.edit, out, updates=step.index + 1, command=made_by, licence=LICENSE)


if __name__ == "__main__":
    still = f"The edit so far is written every {SAVE_EVERY} steps."
    arguments = parser(__doc__, stop_after=0, pool=Path("build/readers"))
    arguments.add_argument("what", choices=list(PLANS), help="which edit")
    sys.exit(run(make, arguments, kept=still))
