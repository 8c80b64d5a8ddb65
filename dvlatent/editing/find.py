"""Finding directions: from latents and scores to a `Direction`. Taught in notebook 05.

Angles and lengths are those of W itself, in which an edit moves: no axis is rescaled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.directions import Direction
from dvlatent.editing import find_fits as fits
from dvlatent.editing.survey import Population
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.latents import Layers, layer_range
from dvlatent.stats import Estimate
from dvlatent.types import Generator

TAILS = 0.27  # share of the faces at either end: of all shares, the one that gives the steadiest mean difference (Kelley 1939)
ENDS = {"mean": fits.mean_difference, "lda": fits.lda, "logistic": fits.logistic, "svm": fits.svm}  # fits that compare two ends
METHODS = (*ENDS, "ridge")
Range = tuple[float, float]  # from and to, both included
Score = Float[np.ndarray, " face"]
Axis = Direction | Float[Tensor, " w"] | Float[np.ndarray, " w"]


def find(
    generator: Generator,
    population: Population,
    name: str,
    by: str = "mean",
    *,
    low: Range | None = None,
    high: Range | None = None,
    tails: float = TAILS,
    balance: Iterable[str] = (),
    ridge: float | None = None,
    layers: Layers | None = None,
) -> Direction:
    """The direction along which the score `name` grows.

    `by`: "mean" (the video's: mean of the high end minus mean of the low end), "lda", "logistic", "svm", or "ridge", which reads the
    score of every face instead of comparing two ends (`find_fits` has the equations). The ends are the faces with scores in the
    ranges `low` and `high`, e.g. (18, 28) and (55, 80), or else the lowest and highest share `tails`. `balance` names other scores in
    which both ends are made alike (`find_fits.overlap_weights`). `ridge`, in units of the mean variance per number, is chosen on
    held-out faces if not given. `layers` is only written into the result: which ones an edit moves.

    What travels along with the score (women turning into men as they age) is left out by `balance`, and what remains of it afterwards
    by `direction.without(*others)` with others found by "logistic" or "ridge", which say what another score is read from; another
    mean difference leans back toward this one, and without it the result turns too far. Then call `measured_on`.

    One step is the standard deviation of the whole population along the vector. Coordinate 0 is halfway between the means of the two
    ends (mean, lda), the classifier's threshold (logistic, svm), or where the mean score is (ridge). `found_by` says everything that
    is needed to find it again. Raises ShapeError for an unknown or constant score, one with gaps, or ends with too few faces, and
    CheckpointError for a generator that did not draw this population.
    """
    balance = (balance,) if isinstance(balance, str) else tuple(balance)
    if by not in METHODS or (by == "ridge" and (balance or low or high)):
        raise ShapeError(
            f"there is no way '{by}' to find a direction{' between two ends' if by in METHODS else ''}: say one of {', '.join(METHODS)}; "
            "ridge reads the scores of all faces and takes no low, high or balance."
        )
    score, others = column(population, name), [column(population, other) for other in balance]
    w = population.latents(generator)[1].detach().cpu().double().numpy()
    found_by: dict[str, str | int | float] = {"method": by, "score": name, "faces": len(w), "seeds": spell(population.seeds)}
    if by == "ridge":
        fit = fits.ridge_regression(w, score, ridge)
    else:
        bottom, top = ends(score, low, high, tails, name)
        rows, label = np.flatnonzero(bottom | top), top[bottom | top]
        weight = fits.overlap_weights(np.stack(others, axis=1)[rows], label) if others else None
        options = {"ridge": ridge} if by in ("logistic", "svm") else {}
        fit = ENDS[by](w[rows], label, weight, **options)
        for end, mask in (("low", bottom), ("high", top)):
            found_by |= {f"{end}_from": float(score[mask].min()), f"{end}_to": float(score[mask].max()), f"{end}_faces": int(mask.sum())}
        if weight is not None:
            found_by |= {"balance": ", ".join(balance), "low_worth": fits.effective(weight[~label])}
            found_by["high_worth"] = fits.effective(weight[label])  # how many equally counted faces
    if fit.ridge is not None:
        found_by["shrinkage" if by == "lda" else "ridge"] = float(fit.ridge)
    found_by |= {"psi": population.psi, "render": population.render, "scores": ", ".join(population.names)}
    found_by["library"] = f"dvlatent {version('dvlatent')}"
    length = float(np.linalg.norm(fit.vector))
    if not length > 1e-9 * np.abs(w).max():
        raise ShapeError(f"the faces at both ends of '{name}' have the same latents on average: no direction is left. Survey more faces.")
    unit = fit.vector / length
    return Direction(
        name,
        torch.from_numpy(unit).float(),
        step=float((w @ unit).std()),
        boundary=fit.threshold / length,
        layers=None if layers is None else layer_range(layers, generator.num_layers),
        psi=population.psi,
        generator=population.generator,
        found_by=found_by,
    )


def measured_on(direction: Direction, generator: Generator, population: Population) -> Direction:
    """The same vector with its step and boundary measured again, e.g. after `without`, or for another truncation.

    The step is the standard deviation of the population along it. Coordinate 0 is halfway between the means of the two ends that
    `found_by` names, if this population has that score and faces there; otherwise it is the population's mean.
    """
    direction.check(generator)
    w = population.latents(generator)[1].detach().cpu().double().numpy()
    along = w @ direction.vector.double().numpy()
    boundary, found_by = along.mean(), direction.found_by
    if found_by.get("score") in population.names and "low_from" in found_by:
        score = column(population, str(found_by["score"]))
        masks = [(score >= found_by[f"{end}_from"]) & (score <= found_by[f"{end}_to"]) for end in ("low", "high")]
        boundary = np.mean([along[mask].mean() for mask in masks]) if all(mask.any() for mask in masks) else boundary
    measured = {"measured_on": spell(population.seeds), "measured_psi": population.psi}
    return replace(direction, step=float(along.std()), boundary=float(boundary), psi=population.psi, found_by={**found_by, **measured})


def angle_degrees(a: Axis, b: Axis) -> float:
    """The angle between two directions in W, in degrees: 0 the same way, 90 unrelated, 180 opposite ways."""
    a, b = (np.asarray(v.vector if isinstance(v, Direction) else v, dtype=np.float64) for v in (a, b))
    if a.ndim != 1 or a.shape != b.shape or not (a.any() and b.any()):
        raise DirectionMismatch(f"an angle needs two vectors of one W, not zero; these are {list(a.shape)} and {list(b.shape)}.")
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))  # acos loses half the digits near 0


def sample_curve(
    w: Float[np.ndarray, "face w"],
    score: Score,
    sizes: Iterable[int],
    reference: Axis,
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> Iterator[tuple[int, Estimate]]:
    """How many faces are enough: yields (size, cosine with `reference`) of directions found on `size` faces each.

    The value is the mean over `repeats` draws, the interval holds 95 % of them: what one survey of that size can expect. Draws share
    no face as long as the faces last. `fit(w, score)` gives a vector; the default is the mean difference of the two tails. Find the
    reference on other faces: one found on these agrees with its own parts even in their noise.
    """
    w, score = np.asarray(w, dtype=np.float64), np.asarray(score, dtype=np.float64)
    fit = fit or (lambda w, score: tail_difference(w, score))
    goal = np.asarray(reference.vector if isinstance(reference, Direction) else reference, dtype=np.float64)
    rng, deck = np.random.RandomState(seed), np.empty(0, dtype=int)
    for size in sizes:
        if not 2 * fits.LEAST <= size <= len(w) or repeats < 2:
            raise ShapeError(f"draws of {size} faces, {repeats} times: give sizes from {2 * fits.LEAST} to the {len(w)} there are, twice.")
        cosines = []
        for _ in range(repeats):
            deck = rng.permutation(len(w)) if len(deck) < size else deck
            rows, deck = deck[:size], deck[size:]
            vector = fit(w[rows], score[rows])
            cosines.append(float(vector @ goal / np.linalg.norm(vector) / np.linalg.norm(goal)))
        low, high = np.percentile(cosines, [2.5, 97.5])
        yield size, Estimate(float(np.mean(cosines)), float(low), float(high), repeats)


def tail_difference(w: Float[np.ndarray, "face w"], score: Score, tails: float = TAILS) -> Float[np.ndarray, " w"]:
    """The mean of the faces with the highest scores minus that of those with the lowest, for arrays."""
    bottom, top = ends(score, None, None, tails)
    return w[top].mean(axis=0) - w[bottom].mean(axis=0)


def ends(score: Score, low: Range | None, high: Range | None, tails: float = TAILS, name: str = "score") -> tuple[np.ndarray, np.ndarray]:
    """Which faces are at the low and at the high end: two rows of True and False."""
    if not 0 < tails <= 0.5:
        raise ShapeError(f"tails of {tails} cannot be cut off at both ends: give a share over 0 and up to 0.5, such as {TAILS}.")
    bottom, top = np.quantile(score, [tails, 1 - tails])
    top = max(top, score[score > bottom].min(initial=np.inf))  # halves share no face, and few values have ends too
    low, high = low or (float(score.min()), float(bottom)), high or (float(top), float(score.max()))
    if not (low[0] <= low[1] < high[0] <= high[1]):
        raise ShapeError(
            f"the low end of '{name}', {low[0]:g} to {low[1]:g}, must lie below the high end, {high[0]:g} to {high[1]:g}. Give both "
            "as (from, to)."
        )
    masks = (score >= low[0]) & (score <= low[1]), (score >= high[0]) & (score <= high[1])
    for mask, (start, stop) in zip(masks, (low, high), strict=True):
        if mask.sum() < fits.LEAST:
            raise ShapeError(
                f"{int(mask.sum())} of {len(score)} faces have a '{name}' of {start:g} to {stop:g}, and {fits.LEAST} are needed. "
                f"Widen the range (the scores go from {score.min():g} to {score.max():g}), or survey more faces."
            )
    return masks


def column(population: Population, name: str) -> Score:
    """A score as float64; refused if it is unknown, has gaps or never changes."""
    score = population.column(name).detach().cpu().double().numpy()
    if not np.isfinite(score).all():
        missing = int((~np.isfinite(score)).sum())
        raise ShapeError(f"{missing} of {len(score)} faces have no '{name}' (not a number). Leave them out: population.take(rows).")
    if len(score) < 2 * fits.LEAST or np.ptp(score) == 0:
        raise ShapeError(f"'{name}' of {len(score)} faces never changes, or they are fewer than {2 * fits.LEAST}. Survey more faces.")
    return score


def spell(seeds: tuple[int, ...]) -> str:
    """Seeds in a few letters: 0-999, 2000-2099; many pieces by their number and hash."""
    numbers = np.asarray(seeds, dtype=np.int64)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    stops = np.append(starts[1:], len(numbers)) - 1
    if len(starts) <= 20:
        return ", ".join(f"{numbers[a]}-{numbers[b]}" if b > a else f"{numbers[a]}" for a, b in zip(starts, stops, strict=True))
    digest = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()[:16]
    return f"{len(numbers)} from {numbers.min()} to {numbers.max()}, sha256 {digest}"
