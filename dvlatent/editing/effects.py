"""What an edit does, measured on faces that had no part in finding it. Taught in notebook 05.

Measure with a predictor that did not find the direction, such as the judge: the finder counts its own mistakes as success.

    found = effects(faces, age, (1, 2, 3), tqdm(range(500_000, 500_500)), judge, identity)
    success(found, "age", by=20)  # fraction of faces that moved by 20 years, and that stay the same person
    leakage({"age": found})  # what else moved
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.directions import Direction, Edit
from dvlatent.errors import ShapeError
from dvlatent.faces.attributes import combine
from dvlatent.faces.identity import SAME_PERSON_BELOW
from dvlatent.latents import broadcast, w_of
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import BATCH, Generator, Identity, Image, Predictor, Render, Ws, renderer

Make = Callable[[Ws, Image, float], Image]  # ws, their picture before the edit, an amount -> the picture after
Rows = slice | Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class Effects:
    """Scores of the same faces before an edit and after it, at every amount."""

    amounts: tuple[float, ...]  # the edit was multiplied by these
    names: tuple[str, ...]  # what the columns of scores are
    seeds: tuple[int, ...]  # of the faces
    before: Float[Tensor, "face name"]
    after: Float[Tensor, "amount face name"]
    identity: Float[Tensor, "amount face"] | None  # distance to the unedited face; None if it was not measured

    def change(self, name: str) -> Float[Tensor, "amount face"]:
        """The change of one score of each face."""
        return self.after[:, :, self.at(name)] - self.before[:, self.at(name)]

    def take(self, rows: Rows) -> Effects:
        """A part of the faces, such as adults: `found.take(found.before[:, found.at("age")] >= 18)`."""
        chosen = torch.arange(len(self.seeds))[rows if isinstance(rows, slice) else torch.as_tensor(rows)]
        identity = None if self.identity is None else self.identity[:, chosen]
        seeds = tuple(self.seeds[row] for row in chosen.tolist())
        return replace(self, seeds=seeds, before=self.before[chosen], after=self.after[:, chosen], identity=identity)

    def at(self, name: str) -> int:
        """The column of a score. Raises ShapeError for one that was not measured."""
        if name not in self.names:
            raise ShapeError(f"the faces were not scored for '{name}', only for {', '.join(self.names)}. Measure with a predictor of it.")
        return self.names.index(name)


def effects(generator: Generator, edit: Direction | Edit, *rest: Any, **options: Any) -> Effects:
    """Draw every face unedited and at every amount of the edit, and score all pictures: `effects_of` for a single edit."""
    return effects_of(generator, {"": edit}, *rest, **options)[""]


def effects_of(
    generator: Generator,
    edits: Mapping[str, Direction | Edit],
    amounts: Sequence[float],
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None = None,
    psi: float = 0.7,
    render: Render | None = None,
) -> dict[str, Effects]:
    """Draw every face unedited and at every amount of each edit, and score all pictures: name -> Effects.

    `seeds` may be `tqdm(range(500))`, which shows the progress. `identity` turns pictures into numbers; a small distance between two
    means one person. `render` draws ws; by default it is the generator's `preview` if there is one, else its `synthesis`.
    Raises DirectionMismatch for a direction of another generator, ShapeError for no seeds or no amounts.
    """
    draw = renderer(generator, render)[0]
    for edit in edits.values():
        for _, direction in (1.0 * edit).terms:
            direction.check(generator)
    makers = {name: lambda ws, _, amount, edit=edit: draw((amount * edit)(ws)) for name, edit in edits.items()}
    return measure(generator, draw, makers, amounts, seeds, predictors, identity, psi)


@torch.no_grad()
def measure(
    generator: Generator,
    draw: Render,
    makers: Mapping[str, Make],
    amounts: Sequence[float],
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None,
    psi: float,
) -> dict[str, Effects]:
    """Score faces as `draw` draws them and as each maker edits them, by every amount: name -> Effects. The loop behind `effects_of`."""
    predictor, amounts = combine(predictors), tuple(float(amount) for amount in amounts)
    befores, afters, distances, done, rest = [], [], [], [], iter(seeds)
    while makers and amounts and (batch := tuple(islice(rest, BATCH))):
        ws = broadcast(w_of(generator, batch, psi), generator.num_layers)
        before = draw(ws)
        person = identity(before).cpu() if identity else None
        befores.append(predictor(before).float().cpu())
        after, distance = [], []
        for make, amount in product(makers.values(), amounts):
            picture = make(ws, before, amount)
            after.append(predictor(picture).float().cpu())
            distance += [(identity(picture).cpu() - person).norm(dim=1)] if identity else []
        afters.append(torch.stack(after))  # [maker * amount, face, name]
        distances += [torch.stack(distance)] if identity else []
        done += batch
    if not done:
        raise ShapeError(f"nothing can be measured on no faces, {len(makers)} edits and {len(amounts)} amounts: give some of each.")
    sizes = (len(makers), len(amounts))
    before, after = torch.cat(befores), torch.cat(afters, dim=1).unflatten(0, sizes)
    distance = torch.cat(distances, dim=1).unflatten(0, sizes) if identity else [None] * len(makers)
    measured = zip(makers, after, distance, strict=True)
    return {name: Effects(amounts, tuple(predictor.names), tuple(done), before, each, far) for name, each, far in measured}


@dataclass(frozen=True)
class Success:
    """How well one amount of an edit works, as fractions of the faces."""

    amount: float
    moved: Estimate  # fraction that reached the target
    kept: Estimate | None  # fraction that stays the same person
    both: Estimate | None  # fraction that does both


def success(
    measured: Effects,
    name: str,
    by: float | None = None,
    *,
    past: float | None = None,
    falling: bool = False,
    limit: float = SAME_PERSON_BELOW,
) -> tuple[Success, ...]:
    """The fraction of faces that an edit moves to the target, for every amount, with bootstrap intervals.

    The target is a change `by` (+20: the score rose by 20 or more; -20: it fell by 20 or more), or a score `past` which the faces move
    (0.5: it rose above 0.5; with `falling`, it fell below). Faces that are past it before the edit are left out. A person is kept if the
    identity distance is below `limit`. Raises ShapeError for no target, for two targets, and if fewer than two faces remain.
    """
    if (by is None) == (past is None) or by == 0:
        raise ShapeError(f"say one target: by, a change other than 0, or past, a score; given: by={by}, past={past}.")
    if past is not None:
        sign = -1 if falling else 1
        start = measured.before[:, measured.at(name)]
        measured = measured.take(sign * start <= sign * past)
        reached = sign * measured.after[:, :, measured.at(name)] > sign * past
    else:
        reached = measured.change(name) * np.sign(by) >= abs(by)
    if len(measured.seeds) < 2:
        raise ShapeError(f"{len(measured.seeds)} faces begin on the other side of {past}; two at least are needed. Measure more faces.")
    answers = []
    for row, amount in enumerate(measured.amounts):
        moved = reached[row].numpy()
        if measured.identity is None:
            answers.append(Success(amount, bootstrap(moved), None, None))
        else:
            kept = (measured.identity[row] < limit).numpy()
            answers.append(Success(amount, bootstrap(moved), bootstrap(kept), bootstrap(moved & kept)))
    return tuple(answers)


@dataclass(frozen=True, eq=False)
class Leakage:
    """How much every score changes while an edit changes its own by one standard deviation: one row per edit, one column per score."""

    edited: tuple[str, ...]  # the score that each row's edit is meant to move
    names: tuple[str, ...]
    value: Float[np.ndarray, "edited name"]  # in standard deviations of each score; 1 where a score meets itself
    low: Float[np.ndarray, "edited name"]  # lower end of the bootstrap interval
    high: Float[np.ndarray, "edited name"]
    raw: Float[np.ndarray, "edited name"]  # the same as value, in each score's own unit: years, probability, degrees
    faces: int

    def at(self, edited: str, name: str) -> Estimate:
        """One cell of the table."""
        cell = self.edited.index(edited), self.names.index(name)
        return Estimate(float(self.value[cell]), float(self.low[cell]), float(self.high[cell]), self.faces)


def leakage(
    measured: Mapping[str, Effects], std: Mapping[str, float] | None = None, resamples: int = 1000, seed: int = 0
) -> Leakage:
    """The leakage matrix: change of every score per standard deviation of change of the edited one, by bootstrap over faces.

    `measured` is {score that the edit is meant to move: its Effects}, as `effects_of` gives them. `std` has the standard deviation of
    every score in the population; by default it is that of the faces before the edit. Changes are per unit of the amount, for each
    face (least squares through the unedited face). Raises ShapeError for edits that were measured on different scores.
    """
    edits = list(measured.values())
    if not edits or any(one.names != edits[0].names for one in edits):
        raise ShapeError("a leakage matrix needs one edit at least, and all of them measured with the same predictor.")
    names, rng = edits[0].names, np.random.RandomState(seed)
    rows = []
    for edited, one in measured.items():
        own, unit = one.at(edited), np.array([std[name] for name in names]) if std else one.before.double().std(dim=0).numpy()
        changes = _unit_changes(one) / unit  # [face, name]
        count = rng.multinomial(len(changes), np.full(len(changes), 1 / len(changes)), size=resamples)  # [resample, face]
        means = np.concatenate([changes.mean(axis=0, keepdims=True), count @ changes / len(changes)])
        ratio = means / means[:, [own]]
        rows.append((ratio[0], *np.percentile(ratio[1:], [2.5, 97.5], axis=0), ratio[0] * unit))
    return Leakage(tuple(measured), names, *map(np.stack, zip(*rows, strict=True)), faces=len(edits[0].seeds))


def leak_cut(raw: Effects, cure: Effects, edited: str, into: str) -> Estimate:
    """How much of a leak a cure removes, 1 - |leak with it| / |leak without|: 1 is all, 0 nothing, below 0 it made things worse.

    A leak is the change of `into` per unit of change of `edited`. Both edits must be measured on the same faces, which are resampled
    together (paired bootstrap). Raises ShapeError otherwise.
    """
    if raw.seeds != cure.seeds:
        raise ShapeError("raw edit and cure were measured on different faces: measure both with the same seeds, as effects_of does.")
    rows = np.concatenate([_unit_changes(one)[:, [one.at(edited), one.at(into)]] for one in (raw, cure)], axis=1)  # [face, 4]

    def cut(faces: np.ndarray) -> float:
        own_raw, leak_raw, own_cure, leak_cure = faces.mean(axis=0)
        return 1 - abs(leak_cure / own_cure) / abs(leak_raw / own_raw)

    return bootstrap(rows, cut)


def _unit_changes(one: Effects) -> Float[np.ndarray, "face name"]:
    """The change of every score per unit of the amount, for each face: least squares through the unedited face."""
    amounts = np.array(one.amounts)
    if not amounts.any():
        raise ShapeError("an edit of amount 0 changes nothing, so no change per unit can be computed. Measure other amounts.")
    change = (one.after.double() - one.before.double()).numpy()  # [amount, face, name]
    return np.tensordot(amounts, change, axes=1) / (amounts**2).sum()
