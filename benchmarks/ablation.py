"""What each part of the filter's training is worth: the student goes on learning without one of them, or with all.

    python benchmarks/ablation.py [--pairs 500] [--steps 600] [--faces 100] [--threads 2]

Each begins with the age filter that we ship, with a new discriminator and new pairs, and takes the same number of steps. "no pair filter"
learns from as many pairs as the others, but from the first ones drawn, without the rules. The others differ in one weight of the loss. The
judge, which did not choose the pairs, reads the success on unseen faces. (From random weights, so few steps would teach nothing.)
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import dvlatent
from dvlatent import images
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.pairs import RULES, PairsConfig, candidates
from dvlatent.distillation.pix2pixhd import MultiscaleDiscriminator
from dvlatent.distillation.train import DistillConfig, distill
from dvlatent.editing.effects import success
from dvlatent.faces.detector import FaceCheck
from dvlatent.metrics.features import kid
from dvlatent.metrics.filters import TEACHER, kid_features, side_by_side

FIRST_PAIR, FIRST_FACE = 3_000_000, 500_000
CHANGES: dict[str, dict[str, float]] = {  # what is left out, and of which weight of the loss
    "all parts": {},
    "no pair filter": {},
    "no feature matching": {"features": 0.0},
    "no perceptual": {"perceptual": 0.0},
    "no discriminator": {"features": 0.0, "adversarial": 0.0},
}


class PairsInMemory:
    """Pairs in memory, for `distill`."""

    def __init__(self, before: Tensor, after: Tensor, strength: Tensor) -> None:
        self.before, self.after, self.strength = before, after, strength

    def __len__(self) -> int:
        return len(self.before)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Some pairs, as `distill` wants them."""
        return images.from_uint8(self.before[indices].numpy()), images.from_uint8(self.after[indices].numpy()), self.strength[indices]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500, help="that each student learns from (default 500)")
    parser.add_argument("--steps", type=int, default=600, help="of each training, four pairs a step (default 600)")
    parser.add_argument("--faces", type=int, default=100, help="unseen faces to measure on (default 100)")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    faces, age, identity = (dvlatent.load(name) for name in ("faces", "age-direction", "identity"))
    chosen_pairs, first_pairs = draw(faces, age, identity, chosen.pairs)
    weights = {"lr": 5e-4, "pixel": 5.0, "perceptual": 10.0}  # as in the last training of what we ship
    config = DistillConfig(steps=chosen.steps, batch=4, coarse_steps=chosen.steps, sample_every=0, ema_images=400, **weights)
    shipped: torch.nn.Module = dvlatent.load("age-filter").network
    students = {"as it began": shipped}
    for name, change in CHANGES.items():
        torch.manual_seed(0)  # of the discriminator
        student, discriminator = copy.deepcopy(shipped).requires_grad_(True), MultiscaleDiscriminator(7, width=16)
        pairs = first_pairs if name == "no pair filter" else chosen_pairs
        steps = distill(student, discriminator, pairs, dvlatent.load("perceptual"), replace(config, **change), augment=PhotoWarp())
        for step in tqdm(steps, total=chosen.steps, desc=name):
            students[name] = step.ema
    report(faces, age, identity, students, chosen.faces)


def draw(faces: torch.nn.Module, age: dvlatent.Direction, identity: torch.nn.Module, count: int) -> tuple[PairsInMemory, PairsInMemory]:
    """`count` pairs that passed the rules, and the first `count` pairs."""
    columns: dict[str, list[Tensor]] = {"before": [], "after": [], "strength": [], "kept": []}
    kept, first, config = 0, FIRST_PAIR, PairsConfig(low=-2, high=2, psi=1.0)
    predictors = [dvlatent.load("attributes"), dvlatent.load("landmarks"), FaceCheck()]
    with tqdm(total=count, unit="pair", desc="pairs") as bar:
        while kept < count:
            for step in candidates(faces, age, range(first, first + 32), predictors, identity, RULES["age"], config):
                for name, part in zip(columns, (as_bytes(step.before), as_bytes(step.after), step.strength, step.kept), strict=True):
                    columns[name].append(part)
                kept += int(step.kept.sum())
            first += 32
            bar.n = min(kept, count)
            bar.refresh()
    whole = {name: torch.cat(parts) for name, parts in columns.items()}
    passed = torch.nonzero(whole.pop("kept"))[:count, 0]
    print(f"{kept / (first - FIRST_PAIR):.0%} of {first - FIRST_PAIR} pairs pass the rules")
    return tuple(PairsInMemory(*[part[rows] for part in whole.values()]) for rows in (passed, torch.arange(count)))


def as_bytes(picture: Tensor) -> Tensor:
    """[batch, height, width, 3], to be kept small."""
    return torch.from_numpy(images.to_uint8(picture))


def report(faces: torch.nn.Module, age: dvlatent.Direction, identity: torch.nn.Module, students: dict, count: int) -> None:
    """A line for each student, beside its teacher."""
    perceptual, amount = dvlatent.load("perceptual"), 1.85
    features: dict[str, list[np.ndarray]] = {name: [] for name in (TEACHER, *students)}
    left: dict[str, list[Tensor]] = {name: [] for name in students}
    targets: list[Tensor] = []

    def filtered(student: torch.nn.Module):
        @torch.no_grad()
        def apply(before: Tensor, strength: float) -> Tensor:
            return student(before, torch.full((len(before),), strength)).clamp(-1, 1)

        return apply

    def measure(name: str, amount: float, before: Tensor, after: Tensor) -> None:
        features[name].append(kid_features(perceptual, after))
        if name == TEACHER:
            targets.append(after)
        else:
            left[name].append(perceptual(after, targets[-1]) / perceptual(before, targets[-1]))

    seeds = tqdm(range(FIRST_FACE, FIRST_FACE + count), unit="face")
    makers = {name: filtered(student) for name, student in students.items()}
    found = side_by_side(faces, age, makers, (amount,), seeds, dvlatent.load("judge"), identity, also=measure)
    clouds = {name: np.concatenate(parts) for name, parts in features.items()}
    grown = (found[TEACHER].before[:, 0] >= 18) & (found[TEACHER].before[:, 0] <= 55)
    print(f"{amount:+g} steps, {count} unseen faces, {int(grown.sum())} of them adults below 55; KID in thousandths")
    for name, one in found.items():
        moved = success(one.take(grown), "age", by=20.0)[0].moved
        years = float((one.after[0] - one.before)[:, one.at("age")].mean())
        line = f"  {name:20} {years:+5.1f} years; moved {moved}; same person {float((one.identity < 0.6).float().mean()):.0%}"
        if name != TEACHER:
            distance = kid(clouds[TEACHER], clouds[name], max(2, count // 20))
            line += f"; KID {distance}; perceptual distance left {float(torch.cat(left[name]).mean()):.2f}"
        print(line)


if __name__ == "__main__":
    main()
