"""Search for the edit that ages and keeps the person: `python recipes/age_edit.py --out age-edit.safetensors` (10 minutes of two cores).

The reader that pulls is one of real people's ages (`tfjs.Faceres`, fetched through npm's client into --pool), with a part of the finder, so
that neither is fooled alone. Skin and hair keep their colors, and what is surely background stays. Backwards, the edit makes younger.
"""

from __future__ import annotations

import random
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from common import LICENSE, command, parser, run
from tfjs import FACERES, HUMAN, Faceres, fetch
from torch import Tensor, nn

from dvlatent import checkpoint
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.metrics.edits import skin_patches
from dvlatent.training import progress
from dvlatent.types import Image
from dvlatent.zoo import load

SAVE_EVERY = 50  # steps
BOLDER = 1.12  # times what the search found: 28 years by a reader that had no part in it
SKIN, SATURATION, BACKGROUND = 400.0, 600.0, 60.0  # weights of the squared changes of what should stay
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


def kept(before: Image, after: Image) -> Tensor:
    """What the search pays for other changes: of the skin's color, toward more saturated colors, and beside the head."""
    skin = torch.stack([(b - a).mean(dim=(2, 3)) for a, b in zip(skin_patches(before), skin_patches(after), strict=True)])
    richer = F.relu(saturation(after) - saturation(before)).square().mean()
    moved = F.adaptive_avg_pool2d(after - before, GRID).square().mean(dim=1)
    beside = beside_the_head().to(moved)
    return SKIN * skin.mean(dim=0).square().mean() + SATURATION * richer + BACKGROUND * (moved * beside).sum() / beside.sum()


def saturation(image: Image) -> Tensor:
    """How far colors are from gray, position by position."""
    small = F.adaptive_avg_pool2d(image, GRID)
    return (small - small.mean(dim=1, keepdim=True)).square().sum(dim=1).add(1e-6).sqrt()


def beside_the_head() -> Tensor:
    """1 where an aligned picture shows neither head nor shoulders: [32, 32]."""
    across = torch.linspace(0, 1, GRID)
    down = across[:, None]
    return ((((across - 0.5) / 0.46).square() + ((down - 0.5) / 0.62).square() > 1) & (down < 0.62)).float()


def make(out: Path, steps: int = 240, stop_after: int = 150, pool: Path = Path("build/readers"), reader: nn.Module | None = None) -> None:
    """Search from the age direction on, across the gender direction, and write what is found, a little bolder.

    `stop_after` ends the search before its learning rate has fallen far. `reader` is another one than `AgeReader`, for a trial.
    """
    generator, start, gender = load("faces"), load("age-direction"), load("gender-direction")
    reader = reader or AgeReader(Faceres(*fetch(HUMAN, FACERES, pool)), load("attributes").differentiable())
    preserve = {name: weight for name, weight in {"male": 1.5, "finder_male": 0.3}.items() if name in reader.names}
    config = OptimizeEditConfig(
        steps=steps, goal=30.0, score_range=(4.0, 55.0), identity_limit=0.45, preserve=preserve, psi=0.8, first_seed=800_000
    )
    search = optimize_edit(generator, start, reader, load("identity"), config, without=[gender], penalty=kept)
    last, words = min(stop_after, steps), lambda step: f"{step.gain:+.0f} years, identity {step.identity_distance:.2f}"
    for step in progress(islice(search, last), last, words):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == last - 1:
            made_by = command("age_edit", out, steps=steps, stop_after=stop_after)
            checkpoint.save_edit(BOLDER * step.edit, out, updates=step.index + 1, command=made_by, licence=LICENSE)


if __name__ == "__main__":
    still = f"The edit so far is written every {SAVE_EVERY} steps."
    sys.exit(run(make, parser(__doc__, steps=240, stop_after=150, pool=Path("build/readers")), kept=still))
