"""Pairs of faces, before and after an edit, and which of them are worth learning from. Taught in notebook 07.

The generator is the teacher (Viazovetskyi, Ivashkin and Kashin 2020, section 3): it draws a face, moves its latent along the edit and draws
it again, with the same noise. Not every such pair shows the edit and only the edit. A network that learns from the bad ones learns their
mistakes, so each pair is scored, and kept only if it passes every one of the `Rules`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dvlatent import images
from dvlatent.directions import Direction
from dvlatent.errors import ShapeError
from dvlatent.faces.combine import combine
from dvlatent.latents import broadcast, w_of
from dvlatent.types import BATCH, Generator, Identity, Image, Predictor, Render, renderer

KEPT = "kept"  # the reason of a pair that passed


@dataclass(frozen=True)
class PairsConfig:
    """What is drawn for each seed."""

    low: float = 2.0  # strength of the edit in its own steps; every seed draws its own between low and high ...
    high: float = 2.0  # ... so that the student has a dial; equal ones make a student of one strength
    psi: float = 0.8  # truncation: lower is cleaner, higher has more kinds of people

    def __post_init__(self) -> None:
        if not (-20 <= self.low <= self.high <= 20 and max(-self.low, self.high) > 0 and 0 < self.psi <= 1):
            raise ShapeError(
                f"strengths run from a low to a high one within -20 to 20, not both 0, and psi lies in (0, 1]; given: {self.low:g} to "
                f"{self.high:g}, psi {self.psi:g}. Ageing is low=-2, high=2."
            )

    def strength(self, seed: int) -> float:
        """How far the face of this seed is moved: always the same for the same seed. Strong ones are drawn more often, in proportion
        to their size: they show the most, and those between them are learned along the way."""
        square = np.random.default_rng([seed, 7]).uniform(self.low * abs(self.low), self.high * abs(self.high))
        return float(np.copysign(np.sqrt(abs(square)), square))


@dataclass(frozen=True)
class Rules:
    """When a pair is worth learning from. A pair must pass all; the first that it breaks is named as the reason."""

    score: str  # what the edit is meant to move
    least: float  # how far it must move for every step, in its own unit (log-odds for probabilities)
    slack: float = 0.0  # it may fall short by this much: what the reader errs by, so that small strengths have a chance
    ends: tuple[float, float] = (-1e9, 1e9)  # beyond these it need not move on; it may not come back by more than the slack
    odds: bool = False  # the score is a probability: compare log-odds
    stay: dict[str, float] = field(default_factory=dict)  # largest change allowed of every other score
    within: dict[str, tuple[float, float]] = field(default_factory=dict)  # both pictures must score within these: they are clean
    apart: float = 0.6  # identity distance from which the after counts as somebody else


READS = {"age": "attributes", "male": "attributes"}  # which predictor gives a score; the others are read from landmarks
CLEAN = {"sure": (0.4, 99.0), "others": (-99.0, 0.3), "yaw": (-45.0, 45.0)}
POSE = {"yaw": 8.0, "pitch": 8.0, "roll": 3.0}
RULES = {  # for the directions that we ship, read by attributes, landmarks and clean
    "age": Rules("age", 3.0, 1.5, (6.0, 68.0), False, {**POSE, "male": 0.35, "smile": 0.4, "mouth_open": 0.15}, CLEAN, 0.6),
    "gender": Rules("male", 1.5, 0.5, (-4.0, 4.0), True, {**POSE, "age": 12.0, "smile": 0.5, "mouth_open": 0.15}, CLEAN, 0.75),
    "smile": Rules("smile", 0.15, 0.1, (-0.3, 1.6), False, {**POSE, "age": 10.0, "male": 0.35}, CLEAN, 0.55),
}


@dataclass(frozen=True, eq=False)
class Step:
    """A batch of candidates: pictures, scores and the reason why each is kept or not."""

    index: int  # candidates so far, these included
    total: int  # candidates asked for
    seconds_left: float  # at the pace so far
    seeds: tuple[int, ...]
    strength: Float[Tensor, " batch"]  # in steps of the direction
    before: Image  # as bytes would have them
    after: Image
    names: tuple[str, ...]  # what was scored
    scores: Float[Tensor, "2 batch name"]  # before, after
    apart: Float[Tensor, " batch"]  # identity distance; 0 where no identity network was given
    reasons: tuple[str, ...]  # "kept", or the first rule that was broken

    @property
    def kept(self) -> Bool[Tensor, " batch"]:
        """Which of them passed every rule."""
        return torch.tensor([reason == KEPT for reason in self.reasons], dtype=torch.bool)


def candidates(
    generator: Generator,
    direction: Direction,
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None,
    rules: Rules,
    config: PairsConfig | None = None,
    *,
    render: Render | None = None,
    batch: int = BATCH,
) -> Iterator[Step]:
    """Draw every seed's face before and after its edit, score both and judge the pair: an iterator of steps.

    Only the direction's own `layers` are moved, and the generator's noise is a constant, so nothing differs but the edit. The predictor
    of the edited score reads every picture and its mirror image: both readings must pass. `render` is as in `survey`. Keep the judge
    out of `predictors`, or nobody independent is left to mark the student with. Raises DirectionMismatch for a direction of another
    generator, ShapeError for a rule about a score that no predictor gives.
    """
    config, seeds = config or PairsConfig(), list(seeds)
    direction.check(generator)
    several = [predictors] if hasattr(predictors, "names") else list(predictors)
    look, draw = combine(several), renderer(generator, render)[0]
    _check_names(rules, look.names)
    reader = next(one for one in several if rules.score in one.names)
    again, began = reader.names.index(rules.score), time.perf_counter()
    for at in range(0, len(seeds), batch):
        some = tuple(seeds[at : at + batch])
        with torch.no_grad():
            ws = broadcast(w_of(generator, some, config.psi), generator.num_layers)
            strength = torch.tensor([config.strength(seed) for seed in some], dtype=torch.float32)
            moved = direction.move(ws, strength.to(ws))
            pictures = [images.from_uint8(images.to_uint8(draw(one))) for one in (ws, moved)]
            scores = torch.stack([look(picture).float().cpu() for picture in pictures])  # [2, batch, name]
            mirrored = torch.stack([reader(picture.flip(-1)).float().cpu()[:, again] for picture in pictures])  # [2, batch]
            who = [identity(picture).cpu() for picture in pictures] if identity else [torch.zeros(len(some), 1)] * 2
        apart = (who[1] - who[0]).norm(dim=1)
        reasons = judge_pairs(rules, look.names, strength, scores, mirrored, apart)
        done = at + len(some)
        left = (time.perf_counter() - began) / done * (len(seeds) - done)
        yield Step(done, len(seeds), left, some, strength, *pictures, tuple(look.names), scores, apart, reasons)


def judge_pairs(
    rules: Rules,
    names: Sequence[str],
    strength: Float[Tensor, " batch"],
    scores: Float[Tensor, "2 batch name"],
    mirrored: Float[Tensor, "2 batch"],
    apart: Float[Tensor, " batch"],
) -> tuple[str, ...]:
    """The reason of every pair: "kept", or the first rule that it breaks, in the order of the rules."""
    column = {name: scores[:, :, at] for at, name in enumerate(names)}  # each [2, batch]
    broken: dict[str, Tensor] = {}
    for name, (low, high) in rules.within.items():
        broken[f"not clean ({name})"] = ~((column[name] >= low) & (column[name] <= high)).all(0)
    readings = torch.stack([column[rules.score], mirrored])  # [2 readings, 2, batch]
    if rules.odds:
        readings = torch.logit(readings.clamp(0.0005, 0.9995))
    sign = torch.where(strength < 0, -1.0, 1.0)
    change = sign * (readings[:, 1] - readings[:, 0])  # [2 readings, batch]
    at_the_end = torch.where(strength < 0, readings[:, 1] <= rules.ends[0], readings[:, 1] >= rules.ends[1])
    needed = torch.where(at_the_end, 0.0, rules.least * strength.abs()) - rules.slack
    broken[f"{rules.score} did not move enough"] = ~(change >= needed).all(0)
    for name, most in rules.stay.items():
        broken[f"{name} changed"] = ~((column[name][1] - column[name][0]).abs() <= most)
    broken["another person"] = ~(apart < rules.apart)
    told = np.full(len(strength), KEPT, dtype=object)
    for reason, rows in reversed(broken.items()):  # the first rule speaks last
        told[rows.numpy()] = reason
    return tuple(told.tolist())


def _check_names(rules: Rules, names: Sequence[str]) -> None:
    missing = sorted({rules.score, *rules.stay, *rules.within} - set(names))
    if missing:
        raise ShapeError(f"the rules ask for {', '.join(missing)}; the predictors score {', '.join(names)}. Add one that scores it.")
