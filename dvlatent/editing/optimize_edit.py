"""Optimize an edit by gradient: any face then scores much higher, and is still the same person. Taught in notebook 05.

The formula of averages asks which faces are old. It moves everything that old faces have in common, such as glasses, and so it changes
the person. Here the edited pictures are asked: does the reader see the goal, does the identity network still know the face, did colors and
other scores stay? The gradient of these answers, over many faces, improves the vector, and every layer gets its own vector. (The mapper of
StyleCLIP, Patashnik et al. 2021, does so with words; our edit is the same for all faces.)

    for step in optimize_edit(faces, age, reader, dvlatent.load("identity")):
        print(step.index, step.gain, step.identity_distance)
    edit = step.edit  # an Edit: one Direction for each layer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

from dvlatent.directions import Direction, Edit
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.latents import broadcast, w_of
from dvlatent.training import cooldown
from dvlatent.types import Generator, Identity, Image, Predictor, Render, Ws, renderer
from dvlatent.whitening import Whitening

BLOCKS = 4  # colors are compared in so many by so many parts of the picture


@dataclass(frozen=True)
class OptimizeEditConfig:
    """What is wanted of the edited faces. A weight of 0 leaves its part of the loss out."""

    steps: int = 220  # updates of the vectors
    batch: int = 2  # faces in each update
    lr: float = 0.02  # Adam's learning rate, in standard deviations of the population
    goal: float = 30.0  # how much the score should grow, in its own unit
    softness: float = 4.0  # over how many of these units the loss bends to zero at the goal
    score_range: tuple[float, float] = (18.0, 55.0)  # only faces with scores in this range are used
    identity_limit: float = 0.5  # identity distance that costs nothing; 0.6 is another person
    identity_weight: float = 37.5  # weight of the identity distance beyond the limit
    preserve: dict[str, float] = field(default_factory=lambda: {"male": 1.0})  # weight of the squared change of other scores' log-odds
    color_weight: float = 30.0  # weight of the squared change of colors, in large parts of the picture
    length_weight: float = 0.05  # weight of the squared length of a layer's step in standard deviations: how rare such a step is
    psi: float = 0.7  # truncation of the faces
    first_seed: int = 800_000  # of the faces; the other seeds follow

    def __post_init__(self) -> None:
        weights = (self.identity_weight, self.color_weight, self.length_weight, *self.preserve.values())
        low, high = self.score_range
        if self.steps < 1 or self.batch < 1 or min(self.lr, self.softness) <= 0 or min(weights) < 0 or not low < high:
            raise ShapeError(f"steps and batch must be 1 or more, lr and softness above 0, weights 0 or more, the range not empty: {self}.")


@dataclass(frozen=True)
class OptimizeEditStep:
    """One update of the edit."""

    index: int  # of this update, from 0
    loss: float
    gain: float  # how much the score grew, mean of this update's faces, as the reader sees it
    identity_distance: float  # mean of this update's faces
    edit: Edit  # the edit after this update: a direction for every layer


def optimize_edit(
    generator: Generator,
    start: Direction,
    reader: Predictor,
    identity: Identity,
    config: OptimizeEditConfig | None = None,
    *,
    without: Sequence[Direction] = (),
    amount: float = 2.0,
    penalty: Callable[[Image, Image], Tensor] | None = None,
) -> Iterator[OptimizeEditStep]:
    """Improve `amount` steps of a direction by gradient, layer by layer: an iterator of steps; the last one holds the result.

    `reader` is differentiable and scores what `start` is named after. It reads the mirrored picture too, so that fewer accidents fool it.
    The layers of `start` are moved, each perpendicular to the directions in `without`: the coordinate of a face along those stays.
    `penalty` takes the pictures before and after and gives a number to add to the loss: what else the edit should leave alone.
    Measure the result with another predictor, because this one was optimized against. Raises DirectionMismatch for a direction of
    another generator, ShapeError for a reader without the scores, TrainingDiverged for a loss that is not finite.
    """
    config = config or OptimizeEditConfig()
    for direction in (start, *without):
        direction.check(generator)
    if missing := sorted({start.name, *config.preserve} - set(reader.names)):
        raise ShapeError(f"the reader scores {', '.join(reader.names)}, not {', '.join(missing)}. Give one that does, or other names.")
    score, draw, whitening = reader.names.index(start.name), renderer(generator, None)[0], Whitening.plain(generator)
    layers = list(range(generator.num_layers) if start.layers is None else start.layers)
    initial = amount * start.step * start.vector.to(whitening.axes)
    coordinates = (initial @ whitening.inverse).expand(len(layers), -1).clone().requires_grad_()  # [layer, w], in standard deviations
    others = torch.stack([one.vector.to(initial) for one in without] or [0 * initial], dim=1)  # [w, direction]
    basis = torch.linalg.qr(others)[0] * bool(without)

    def vectors() -> Tensor:
        free = coordinates @ whitening.axes  # [layer, w]
        return free - free @ basis @ basis.T

    found_by: dict[str, str | int | float] = {"method": "gradient", "from": str(start.found_by.get("method", "?")), "updates": config.steps}
    found_by |= {"batch": config.batch, "goal": config.goal, "identity_limit": config.identity_limit, "psi": config.psi}
    found_by |= {"preserve": ", ".join(config.preserve), "without": ", ".join(one.name for one in without)}
    adam, faces = torch.optim.Adam([coordinates], betas=(0.9, 0.98)), _faces(generator, draw, reader, identity, score, config)
    for index in range(config.steps):
        adam.param_groups[0]["lr"] = config.lr * cooldown(index, config.steps, 0.4)
        with torch.enable_grad():  # the caller may have switched gradients off
            loss, gains, distances = config.length_weight * coordinates.square().sum(dim=1).mean(), [], []
            for _ in range(config.batch):
                ws, before, scores, person = next(faces)
                after = draw(ws.index_add(1, torch.tensor(layers, device=ws.device), vectors()[None]))
                edited = reader(torch.cat([after, after.flip(-1)]))  # [2, score]: of the picture and of its mirror image
                gain, distance = edited[:, score] - scores[0, score], (identity(after) - person).norm()
                parts = [
                    F.softplus((config.goal - gain) / config.softness).sum(),
                    config.identity_weight * F.softplus(distance - config.identity_limit, beta=25),
                    *[weight * _log_odds_change(scores, edited, reader.names.index(name)) for name, weight in config.preserve.items()],
                    config.color_weight * _tints(after - before).square().mean(),
                ]
                parts += [penalty(before, after)] if penalty else []
                loss = loss + sum(parts) / config.batch
                gains.append(float(gain[0].detach()))
                distances.append(float(distance.detach()))
            if not torch.isfinite(loss):
                raise TrainingDiverged(f"the loss is {loss.item()} at step {index}. Lower the learning rate ({config.lr}).")
            adam.zero_grad()
            loss.backward()
            adam.step()
        edit = _edit(start, layers, vectors().detach(), found_by)
        yield OptimizeEditStep(index, loss.item(), sum(gains) / config.batch, sum(distances) / config.batch, edit)


def _faces(
    generator: Generator, draw: Render, reader: Predictor, identity: Identity, score: int, config: OptimizeEditConfig
) -> Iterator[tuple[Ws, Image, Tensor, Tensor]]:
    """Unedited faces with scores in the range, one by one: ws, picture, scores and identity."""
    low, high = config.score_range
    for seed in count(config.first_seed):
        with torch.no_grad():
            ws = broadcast(w_of(generator, [seed], config.psi), generator.num_layers)
            picture = draw(ws).clamp(-1, 1)
            scores = reader(picture)
            found = (ws, picture, scores, identity(picture)) if low <= float(scores[0, score]) <= high else None
        if found:
            yield found


def _log_odds_change(before: Tensor, after: Tensor, column: int) -> Tensor:
    """Squared change of the log-odds of a probability."""
    was, now = (torch.logit(scores[0, column].clamp(0.003, 0.997)) for scores in (before, after))
    return (now - was).square()


def _tints(image: Image) -> Image:
    """Colors without lightness, averaged over large parts of the picture."""
    return F.adaptive_avg_pool2d(image - image.mean(dim=1, keepdim=True), BLOCKS)


def _edit(start: Direction, layers: list[int], vectors: Tensor, found_by: dict[str, str | int | float]) -> Edit:
    terms = []
    for layer, vector in zip(layers, vectors.to(start.vector), strict=True):
        length, psi = float(vector.norm()), float(found_by["psi"])
        terms.append((1.0, Direction(start.name, vector / length, length, 0.0, (layer,), psi, start.generator, found_by)))
    return Edit(tuple(terms))
