"""Find directions: latents and scores in, a `Direction` out. Taught in notebook 05.

Five methods answer two questions. The mean difference says how the faces at one end of a score differ from those at the other end, in
everything. The regressions (LDA, logistic, support vectors, ridge) say what the score is read from, all else equal; Haufe et al. 2014 call
the two answers pattern and filter. For normal latents w with covariance S and a score that depends on w @ n alone, the first is S @ n and
the others are n. So the mean difference leans toward everything that goes together with the score.

Angles and lengths are those of W itself, in which an edit moves: no axis is rescaled. The strength `ridge` of a regression is in units of
the mean variance of a number of w, so that turning or scaling W changes nothing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import norm, rankdata
from sklearn.covariance import shrunk_covariance
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.svm import LinearSVC
from torch import Tensor

from dvlatent.directions import Direction
from dvlatent.editing.survey import Population
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.latents import Layers, layer_range
from dvlatent.stats import Estimate
from dvlatent.types import Generator

Latents = Float[np.ndarray, "face number"]
Score = Float[np.ndarray, " face"]
Labels = Bool[np.ndarray, " face"]  # True at the high end, False at the low end
Weights = Float[np.ndarray, " face"]  # how much each face counts
Vector = Float[np.ndarray, " number"]
Axis = Direction | Float[Tensor, " w"] | Vector
Range = tuple[float, float]  # from and to, both included

TAILS = 0.27  # fraction of the faces at either end that gives the steadiest mean difference (Kelley 1939)
RIDGES = tuple(10.0**power for power in range(-4, 2))  # strengths to choose from
LEAST = 10  # faces at an end; fewer say nothing about 32 or 512 numbers


@dataclass(frozen=True)
class Fit:
    """A hyperplane in W: the score rises along `vector`, the two sides meet where `w @ vector` is `threshold`."""

    vector: Vector  # of any length
    threshold: float
    strength: float | None = None  # of the regularization, if there is one


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

    `by` is "mean" (the recipe of the video: the mean of the high end minus the mean of the low end), "lda", "logistic", "svm", or "ridge",
    which uses the score of every face. The ends are the faces with scores in the ranges `low` and `high`, such as (18, 28) and (55, 80);
    by default they are the lowest and the highest fraction `tails`. `balance` names other scores that are made alike at both ends
    (`overlap_weights`). `ridge` is chosen on held-out faces by default. `layers` is only written into the result: an edit moves these.

    `balance` removes what goes together with the score (women turn into men as they age). `direction.without(*others)` removes the rest.
    Find the others by "logistic" or "ridge", which say what another score is read from: another mean difference leans back toward this
    score, and without it the result turns too far. Then call `measured_on`.

    One step is the standard deviation of the whole population along the vector. Coordinate 0 is halfway between the means of the two
    ends (mean, lda), the threshold of the classifier (logistic, svm), or the place of the mean score (ridge). `found_by` holds everything
    that is needed to find the direction again. Raises ShapeError for a score that is unknown, constant or incomplete, and for ends with
    too few faces; CheckpointError for a generator that did not draw this population.
    """
    balance = (balance,) if isinstance(balance, str) else tuple(balance)
    if ridge is not None and not 0 <= ridge < np.inf:
        raise ShapeError(f"a regularization of {ridge:g} is not allowed: give a ridge of 0 or more, or none to have it chosen.")
    if by not in METHODS or (by == "ridge" and (balance or low or high)):
        raise ShapeError(
            f"there is no way '{by}' to find a direction{' between two ends' if by in METHODS else ''}: say one of {', '.join(METHODS)}; "
            "ridge reads the scores of all faces and takes no low, high or balance."
        )
    score, others = column(population, name), [column(population, other) for other in balance]
    w = population.latents(generator)[1].detach().cpu().double().numpy()
    found_by: dict[str, str | int | float] = {"method": by, "score": name, "faces": len(w), "seeds": seed_ranges(population.seeds)}
    rare = dict(zip(("score_low", "score_high"), np.quantile(score, (0.02, 0.98)).tolist(), strict=True))
    found_by |= {"score_std": float(score.std()), **rare}  # what `pairs.rules_for` asks with
    if by == "ridge":
        fit = ridge_regression(w, score, ridge)
    else:
        bottom, top = ends(score, low, high, tails, name)
        rows, label = np.flatnonzero(bottom | top), top[bottom | top]
        weight = overlap_weights(np.stack(others, axis=1)[rows], label) if others else None
        options = {"ridge": ridge} if by in ("logistic", "svm") else {}
        fit = ENDS[by](w[rows], label, weight, **options)
        for end, mask in (("low", bottom), ("high", top)):
            found_by |= {f"{end}_from": float(score[mask].min()), f"{end}_to": float(score[mask].max()), f"{end}_faces": int(mask.sum())}
        if weight is not None:
            found_by |= {"balance": ", ".join(balance), "low_worth": effective_faces(weight[~label])}
            found_by["high_worth"] = effective_faces(weight[label])
    if fit.strength is not None:
        found_by["shrinkage" if by == "lda" else "ridge"] = float(fit.strength)
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
    """The same vector with its step and boundary measured again, such as after `without`, or for another truncation.

    The step is the standard deviation of the population along it. Coordinate 0 is halfway between the means of the two ends that
    `found_by` names, if this population has that score and faces at both ends; otherwise it is the mean of the population.
    """
    direction.check(generator)
    w = population.latents(generator)[1].detach().cpu().double().numpy()
    along = w @ direction.vector.double().numpy()
    boundary, found_by = along.mean(), direction.found_by
    if found_by.get("score") in population.names and "low_from" in found_by:
        score = column(population, str(found_by["score"]))
        masks = [(score >= found_by[f"{end}_from"]) & (score <= found_by[f"{end}_to"]) for end in ("low", "high")]
        boundary = np.mean([along[mask].mean() for mask in masks]) if all(mask.any() for mask in masks) else boundary
    measured = {"measured_on": seed_ranges(population.seeds), "measured_psi": population.psi}
    return replace(direction, step=float(along.std()), boundary=float(boundary), psi=population.psi, found_by={**found_by, **measured})


def angle_degrees(a: Axis, b: Axis) -> float:
    """The angle between two directions in W, in degrees: 0 for the same direction, 90 for unrelated ones, 180 for opposite ones."""
    a, b = (np.asarray(v.vector if isinstance(v, Direction) else v, dtype=np.float64) for v in (a, b))
    if a.ndim != 1 or a.shape != b.shape or not (a.any() and b.any()):
        raise DirectionMismatch(f"an angle needs two vectors of one W, not zero; these are {list(a.shape)} and {list(b.shape)}.")
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))  # acos loses half the digits near 0


def sample_curve(
    w: Latents,
    score: Score,
    sizes: Iterable[int],
    reference: Axis,
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> Iterator[tuple[int, Estimate]]:
    """How many faces are enough: yields (size, cosine with `reference`) of directions found on samples of each size.

    The value is the mean over `repeats` samples, the interval holds 95 % of them: what one survey of that size can expect. Samples share
    no face until all faces are used. `fit(w, score)` gives a vector; by default it is `tail_difference`. Find the reference on other
    faces: a reference found on these agrees with its own parts even in their noise.
    """
    w, score = np.asarray(w, dtype=np.float64), np.asarray(score, dtype=np.float64)
    fit = fit or (lambda w, score: tail_difference(w, score))
    goal = np.asarray(reference.vector if isinstance(reference, Direction) else reference, dtype=np.float64)
    rng, unused = np.random.RandomState(seed), np.empty(0, dtype=int)
    for size in sizes:
        if not 2 * LEAST <= size <= len(w) or repeats < 2:
            raise ShapeError(f"samples of {size} faces, {repeats} times: give sizes from {2 * LEAST} to the {len(w)} there are, twice.")
        cosines = []
        for _ in range(repeats):
            unused = rng.permutation(len(w)) if len(unused) < size else unused
            rows, unused = unused[:size], unused[size:]
            vector = fit(w[rows], score[rows])
            cosines.append(float(vector @ goal / np.linalg.norm(vector) / np.linalg.norm(goal)))
        low, high = np.percentile(cosines, [2.5, 97.5])
        yield size, Estimate(float(np.mean(cosines)), float(low), float(high), repeats)


def tail_difference(w: Latents, score: Score, tails: float = TAILS) -> Vector:
    """The mean of the faces with the highest scores minus the mean of those with the lowest, for arrays."""
    bottom, top = ends(score, None, None, tails)
    return w[top].mean(axis=0) - w[bottom].mean(axis=0)


def ends(score: Score, low: Range | None, high: Range | None, tails: float = TAILS, name: str = "score") -> tuple[np.ndarray, np.ndarray]:
    """Which faces are at the low end and which at the high end: two masks. Raises ShapeError for ends that overlap or are too small."""
    if not 0 < tails <= 0.5:
        raise ShapeError(f"tails of {tails} cannot be cut off at both ends: give a fraction over 0 and up to 0.5, such as {TAILS}.")
    bottom, top = np.quantile(score, [tails, 1 - tails])
    top = max(top, score[score > bottom].min(initial=np.inf))  # the ends share no face, even halves and scores of few values
    low, high = low or (float(score.min()), float(bottom)), high or (float(top), float(score.max()))
    if not (low[0] <= low[1] < high[0] <= high[1]):
        raise ShapeError(
            f"the low end of '{name}', {low[0]:g} to {low[1]:g}, must lie below the high end, {high[0]:g} to {high[1]:g}. Give both "
            "as (from, to)."
        )
    masks = (score >= low[0]) & (score <= low[1]), (score >= high[0]) & (score <= high[1])
    for mask, (start, stop) in zip(masks, (low, high), strict=True):
        if mask.sum() < LEAST:
            raise ShapeError(
                f"{int(mask.sum())} of {len(score)} faces have a '{name}' of {start:g} to {stop:g}, and {LEAST} are needed. "
                f"Widen the range (the scores go from {score.min():g} to {score.max():g}), or survey more faces."
            )
    return masks


def column(population: Population, name: str) -> Score:
    """A score as float64. Raises ShapeError if it is unknown, has gaps or never changes."""
    score = population.column(name).detach().cpu().double().numpy()
    if not np.isfinite(score).all():
        missing = int((~np.isfinite(score)).sum())
        raise ShapeError(f"{missing} of {len(score)} faces have no '{name}' (not a number). Leave them out: population.take(rows).")
    if len(score) < 2 * LEAST or np.ptp(score) == 0:
        raise ShapeError(f"'{name}' of {len(score)} faces never changes, or they are fewer than {2 * LEAST}. Survey more faces.")
    return score


def seed_ranges(seeds: tuple[int, ...]) -> str:
    """Seeds as a short text: "0-999, 2000-2099"; more than twenty ranges by their number and hash."""
    numbers = np.asarray(seeds, dtype=np.int64)
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
    stops = np.append(starts[1:], len(numbers)) - 1
    if len(starts) <= 20:
        return ", ".join(f"{numbers[a]}-{numbers[b]}" if b > a else f"{numbers[a]}" for a, b in zip(starts, stops, strict=True))
    digest = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()[:16]
    return f"{len(numbers)} from {numbers.min()} to {numbers.max()}, sha256 {digest}"


def mean_difference(w: Latents, high: Labels, weight: Weights | None = None) -> Fit:
    """The mean of the high end minus the mean of the low end; the threshold is halfway (the recipe of the video)."""
    top, bottom = _means(w, high, equal_ends(high, weight))
    vector = top - bottom
    return Fit(vector, float(vector @ (top + bottom) / 2))


def lda(w: Latents, high: Labels, weight: Weights | None = None) -> Fit:
    """Fisher's linear discriminant: the mean difference divided by the covariance within the ends (Fisher 1936).

    The covariance is shrunk toward a sphere, more strongly where faces are few: by the oracle approximation (Chen et al. 2010,
    equation 23), as scikit-learn's OAS does it, but for weighted faces.
    """
    weight = equal_ends(high, weight)
    top, bottom = _means(w, high, weight)
    within = (w - np.where(high[:, None], top, bottom)) * np.sqrt(weight / weight.sum())[:, None]
    covariance = within.T @ within
    size, mean, power = len(covariance), np.trace(covariance) / len(covariance), (covariance**2).mean()
    shrinkage = min(1.0, (power + mean**2) / ((effective_faces(weight) + 1) * (power - mean**2 / size) + 1e-300))
    vector = np.linalg.solve(shrunk_covariance(covariance, shrinkage), top - bottom)
    return Fit(vector, float(vector @ (top + bottom) / 2), float(shrinkage))


def logistic(w: Latents, high: Labels, weight: Weights | None = None, ridge: float | None = None) -> Fit:
    """Logistic regression (Cox 1958): minimizes the mean of log(1 + exp(-margin)) plus ridge / 2 times the squared length of the vector.

    Without a `ridge`, the one of RIDGES is taken that loses least on a third of the faces, which it does not see.
    """
    model = LogisticRegression(tol=1e-5, max_iter=2000)
    return _classifier(model, lambda margin: np.logaddexp(0, -margin), (w, high, weight), ridge)


def svm(w: Latents, high: Labels, weight: Weights | None = None, ridge: float | None = None) -> Fit:
    """Linear support vector machine (Cortes and Vapnik 1995; the choice of InterFaceGAN, Shen et al. 2020).

    It minimizes the mean of max(0, 1 - margin)^2, plus ridge times the squared length of the vector.

    Without a `ridge`, the one of RIDGES is taken that loses least on a third of the faces, which it does not see.
    """
    return _classifier(LinearSVC(dual=False), lambda margin: np.maximum(0, 1 - margin) ** 2, (w, high, weight), ridge)


def ridge_regression(w: Latents, score: Score, ridge: float | None = None) -> Fit:
    """Least squares from w to the score of every face, with a penalty on the vector's length (Hoerl and Kennard 1970).

    For normal latents the vector is right even if the score is a curved function of its coordinate (Brillinger 1983). Without a
    `ridge`, the one of RIDGES with the least leave-one-out error is taken. The threshold is at the mean score.
    """
    mean = w.mean(axis=0)
    scale = np.sqrt(((w - mean) ** 2).sum() / w.shape[1])
    x = (w - mean) / scale
    ridge = float(RidgeCV(RIDGES).fit(x, score).alpha_) if ridge is None else ridge
    vector = Ridge(ridge).fit(x, score).coef_ / scale
    return Fit(vector, float(vector @ mean), ridge)


def overlap_weights(others: Float[np.ndarray, "face score"], high: Labels) -> Weights:
    """Weights that make both ends alike in other scores: each face counts by its probability to have been at the other end.

    The probability comes from a logistic regression on the other scores (overlap weights, Li, Morgan and Zaslavsky 2018, section 3).
    The means of all columns then agree at both ends exactly (theorem 3), and of all such weights these waste fewest faces. Columns
    are the scores as normal quantiles of their ranks, the squares of these and their products, so that means, variances and correlations
    agree. For one yes-or-no score, women are compared with women and men with men. Raises ShapeError if the ends have too little in common.
    """
    columns = normal_scores(others)
    first, second = np.triu_indices(columns.shape[1])
    columns = np.concatenate([columns, columns[:, first] * columns[:, second]], axis=1)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0).clip(1e-9)
    model = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-10, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ends that have nothing in common are refused below
        chance = model.fit(columns, high, sample_weight=equal_ends(high)).predict_proba(columns)[:, 1]
    weight = equal_ends(high, np.where(high, 1 - chance, chance) * equal_ends(high) + 1e-12)
    if min(effective_faces(weight[high]), effective_faces(weight[~high])) < LEAST:
        raise ShapeError(
            f"the {int(high.sum())} and {int((~high).sum())} faces of the two ends have too little in common: balanced they are worth only "
            f"{effective_faces(weight[high]):.0f} and {effective_faces(weight[~high]):.0f}, and {LEAST} are needed. Balance fewer scores, "
            "survey more faces, or move the ends nearer together."
        )
    return weight


def normal_scores(scores: Float[np.ndarray, "face score"]) -> Float[np.ndarray, "face score"]:
    """Every column as normal quantiles of its ranks, equal scores equal (Blom 1958): the scale of a score does not matter then."""
    return norm.ppf((rankdata(scores, axis=0) - 3 / 8) / (len(scores) + 1 / 4))


def effective_faces(weight: Weights) -> float:
    """How many equally counted faces are worth as much as these weighted ones (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def equal_ends(high: Labels, weight: Weights | None = None) -> Weights:
    """The weights, scaled so that both ends count equally and their sum is the number of faces."""
    weight = np.ones(len(high)) if weight is None else weight
    return len(high) / 2 * np.where(high, weight / weight[high].sum(), weight / weight[~high].sum())


ENDS = {"mean": mean_difference, "lda": lda, "logistic": logistic, "svm": svm}  # methods that compare two ends
METHODS = (*ENDS, "ridge")


def _means(w: Latents, high: Labels, weight: Weights) -> tuple[Vector, Vector]:
    return tuple(weight[end] @ w[end] / weight[end].sum() for end in (high, ~high))


def _classifier(
    model: LogisticRegression | LinearSVC,
    loss: Callable[[np.ndarray], np.ndarray],
    faces: tuple[Latents, Labels, Weights | None],
    ridge: float | None,
) -> Fit:
    """A linear classifier, fitted to centered latents divided by one number: every direction of W keeps its part of the variance."""
    w, high, weight = faces
    weight, sign = equal_ends(high, weight), np.where(high, 1, -1)
    mean = weight @ w / weight.sum()
    scale = float(np.sqrt(weight @ ((w - mean) ** 2).mean(axis=1) / weight.sum()))
    x = (w - mean) / scale

    def solve(ridge: float, rows: slice | np.ndarray) -> LogisticRegression | LinearSVC:
        penalty = ridge * weight[rows].sum() * (2 if isinstance(model, LinearSVC) else 1)
        return model.set_params(C=1 / penalty).fit(x[rows], high[rows], sample_weight=weight[rows])

    if ridge is None:
        held_out = np.random.RandomState(0).permutation(len(x)) % 3 == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a strength too weak to converge loses the comparison
            losses = {one: weight[held_out] @ loss(sign[held_out] * solve(one, ~held_out).decision_function(x[held_out])) for one in RIDGES}
        ridge = min(losses, key=losses.get)
    fitted = solve(ridge, slice(None))
    vector = fitted.coef_[0].astype(np.float64) / scale
    return Fit(vector, float(vector @ mean - fitted.intercept_[0]), ridge)
