"""An edit by gradient: one step in each layer after which any face scores far higher, and is still the same person. Taught in notebook 05.

The formula of averages asks which faces are old; it moves whatever old faces have in common, glasses and jowls included, and by that the
person. Here the question is put to the edited pictures themselves: did the reader see the goal, does the identity network still know the
face, did colours and whatever else should stay, stay? The gradient of all that, over many faces, improves the vector, and lets every layer
have its own (as StyleCLIP's mapper, Patashnik et al. 2021, does with words; this one is the same for all faces).

    for step in seek(faces, age, reader, dvlatent.load("identity")):
        print(step.index, step.gained, step.apart)
    sparing = step.edit  # an Edit: one Direction for each layer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dvlatent.directions import Direction, Edit
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.latents import broadcast, w_of
from dvlatent.types import Generator, Identity, Image, Predictor, renderer
from dvlatent.whitening import Whitening

BLOCKS = 4  # colours are compared in so many by so many parts of the picture


@dataclass(frozen=True)
class OptimizeEditConfig:
    """What is wanted of the edited faces. A weight of 0 leaves its part out."""

    steps: int = 220  # updates of the vectors
    batch: int = 2  # faces in each
    lr: float = 0.02  # of Adam, in standard deviations of the population
    goal: float = 30.0  # how much the score shall grow, in its own unit ...
    soft: float = 4.0  # ... within about so much
    within: tuple[float, float] = (18.0, 55.0)  # faces with scores in this range are learned from
    far: float = 0.5  # identity distance that is free; from 0.6 on it is another person
    apart: float = 37.5  # weight of the identity distance beyond
    stay: dict[str, float] = field(default_factory=lambda: {"male": 1.0})  # weight of the squared change of other scores' log-odds
    colours: float = 30.0  # weight of the squared change of colours, in large parts of the picture
    natural: float = 0.05  # weight of a layer's squared length in standard deviations: how rare such a step is
    psi: float = 0.7  # truncation of the faces
    first: int = 800_000  # the first face's seed; the others follow

    def __post_init__(self) -> None:
        weights = (self.apart, self.colours, self.natural, *self.stay.values())
        if self.steps < 1 or self.batch < 1 or min(self.lr, self.soft) <= 0 or min(weights) < 0 or not self.within[0] < self.within[1]:
            raise ShapeError(f"a search needs a step, a face, a rate and softness above 0, a range and no negative weight; given: {self}.")


@dataclass(frozen=True)
class Step:
    """Where the search is."""

    index: int  # of this update, from 0
    loss: float
    gained: float  # how much the score grew, mean of this step's faces, as the reader sees it
    apart: float  # their mean identity distance
    edit: Edit  # so far: a direction for every layer


def optimize_edit(
    generator: Generator,
    start: Direction,
    reader: Predictor,
    identity: Identity,
    config: OptimizeEditConfig | None = None,
    *,
    without: Sequence[Direction] = (),
    amount: float = 2.0,
) -> Iterator[Step]:
    """Improve `amount` steps of a direction by gradient, layer by layer: an iterator of steps, the last of which holds the result.

    `reader` must be differentiable and score what `start` is named after; its answer on the mirrored picture counts as much, so that
    what fools it by chance is no way out. It moves the layers that `start` moves, in each of them across `without`: nobody's coordinate
    along those directions changes. Whoever uses the result should measure it with another reader: this one has been pleased. Raises
    DirectionMismatch for a direction of another generator, ShapeError for a reader without the score, TrainingDiverged when a number is
    none.
    """
    config = config or OptimizeEditConfig()
    for one in (start, *without):
        one.check(generator)
    if missing := sorted({start.name, *config.stay} - set(reader.names)):
        raise ShapeError(f"the reader scores {', '.join(reader.names)}, not {', '.join(missing)}. Give one that does, or other names.")
    score, draw, space = reader.names.index(start.name), renderer(generator, None)[0], Whitening.plain(generator)
    layers = list(range(generator.num_layers) if start.layers is None else start.layers)
    whole = amount * start.step * start.vector.to(space.axes)
    u = (whole @ space.inverse).expand(len(layers), -1).clone().requires_grad_()  # [layer, w], in standard deviations
    barred = torch.linalg.qr(torch.stack([one.vector.to(whole) for one in without] or [0 * whole], dim=1))[0] * bool(without)

    def vectors() -> Tensor:
        every = u @ space.axes  # [layer, w]
        return every - every @ barred @ barred.T

    told: dict[str, str | int | float] = {"method": "gradient", "from": str(start.found_by.get("method", "?")), "updates": config.steps}
    told |= {"batch": config.batch, "goal": config.goal, "far": config.far, "stay": ", ".join(config.stay), "psi": config.psi}
    told["without"] = ", ".join(one.name for one in without)
    adam, seed = torch.optim.Adam([u], betas=(0.9, 0.98)), config.first
    for index in range(config.steps):
        adam.param_groups[0]["lr"] = config.lr * min(1.0, (config.steps - index) / (0.4 * config.steps))
        with torch.enable_grad():  # a lesson may have switched gradients off
            losses, gains, distances = [config.natural * u.square().sum(dim=1).mean()], [], []
            while len(gains) < config.batch:
                with torch.no_grad():
                    ws = broadcast(w_of(generator, [seed], config.psi), generator.num_layers)
                    before = draw(ws).clamp(-1, 1)
                    was, seed = reader(before), seed + 1
                    if not config.within[0] <= float(was[0, score]) <= config.within[1]:
                        continue
                    who = identity(before)
                after = draw(ws.index_add(1, torch.tensor(layers, device=ws.device), vectors()[None]))
                now = reader(torch.cat([after, after.flip(-1)]))  # [2, score]
                gain, distance = now[:, score] - was[0, score], (identity(after) - who).norm()
                parts = [F.softplus((config.goal - gain) / config.soft).sum(), config.apart * F.softplus(distance - config.far, beta=25)]
                parts += [weight * _change_of_odds(now[:1], was, reader.names.index(name)) for name, weight in config.stay.items()]
                parts += [config.colours * _tints(after - before).square().mean()]
                losses.append(sum(parts) / config.batch)
                gains.append(float(gain[0].detach()))
                distances.append(float(distance.detach()))
            loss = sum(losses)
            if not torch.isfinite(loss):
                raise TrainingDiverged(f"the search broke at step {index}: its loss is {loss.item()}. Lower the rate ({config.rate}).")
            adam.zero_grad()
            loss.backward()
            adam.step()
        edit = _edit(start, layers, vectors().detach(), told)
        yield Step(index, loss.item(), sum(gains) / config.batch, sum(distances) / config.batch, edit)


def _change_of_odds(now: Tensor, was: Tensor, column: int) -> Tensor:
    """Squared change of a probability's log-odds."""
    a, b = (torch.logit(one[0, column].clamp(0.003, 0.997)) for one in (now, was))
    return (a - b).square()


def _tints(image: Image) -> Image:
    """Colour without lightness, averaged over large parts of the picture."""
    return F.adaptive_avg_pool2d(image - image.mean(dim=1, keepdim=True), BLOCKS)


def _edit(start: Direction, layers: list[int], vectors: Tensor, told: dict[str, str | int | float]) -> Edit:
    terms = []
    for layer, vector in zip(layers, vectors.to(start.vector), strict=True):
        size, psi = float(vector.norm()), float(told["psi"])
        terms.append((1.0, Direction(start.name, vector / size, size, 0.0, (layer,), psi, start.generator, told)))
    return Edit(tuple(terms))
