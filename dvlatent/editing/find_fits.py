"""From latents and labels to a vector: the fits behind `find`, as plain functions of arrays. Taught in notebook 05.

Two families answer two questions. The mean difference says how the faces at one end differ from those at the other, in everything;
the regressions (LDA, logistic, support vectors, ridge) say what the score is read from, all else equal (Haufe et al. 2014 call
them pattern and filter). For normal latents w with covariance S, and a score that depends on w @ normal alone, the first is
S @ normal and the others are `normal` itself, so the first leans toward whatever travels along with the score.
Strengths `ridge` are in units of the mean variance per number, so that turning or scaling W changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dvlatent.errors import ShapeError

Latents = Float[np.ndarray, "face number"]
Labels = Bool[np.ndarray, " face"]  # True at the high end, False at the low end
Weights = Float[np.ndarray, " face"]  # how much each face counts
Vector = Float[np.ndarray, " number"]

RIDGES = tuple(10.0**power for power in range(-4, 2))  # strengths to choose from
LEAST = 10  # faces at an end; fewer say nothing about 32 or 512 numbers


@dataclass(frozen=True)
class Fit:
    """A flat cut through W: the score rises along `vector`, the two sides meet where `w @ vector` is `threshold`."""

    vector: Vector  # of any length
    threshold: float
    ridge: float | None = None  # the strength that was used, if there is one


def mean_difference(w: Latents, high: Labels, weight: Weights | None = None) -> Fit:
    """The mean of the faces at the high end minus that at the low end; the threshold is halfway (the recipe of the video)."""
    top, bottom = _means(w, high, equal_ends(high, weight))
    vector = top - bottom
    return Fit(vector, float(vector @ (top + bottom) / 2))


def lda(w: Latents, high: Labels, weight: Weights | None = None) -> Fit:
    """Fisher's linear discriminant: the mean difference, divided by the covariance within the ends (Fisher 1936).

    With fewer faces than a few times the numbers of w the covariance is shrunk toward a sphere, as strongly as the oracle
    approximation says (Chen et al. 2010, equation 23). Both ends count equally.
    """
    weight = equal_ends(high, weight)
    top, bottom = _means(w, high, weight)
    std = (w - np.where(high[:, None], top, bottom)) * np.sqrt(weight / weight.sum())[:, None]
    covariance = std.T @ std
    size, middle = len(covariance), np.trace(covariance) / len(covariance)
    power = (covariance**2).sum() / size**2
    shrinkage = min(1.0, (power + middle**2) / ((effective(weight) + 1) * (power - middle**2 / size) + 1e-300))
    covariance = (1 - shrinkage) * covariance + shrinkage * middle * np.eye(size)
    vector = np.linalg.solve(covariance, top - bottom)
    return Fit(vector, float(vector @ (top + bottom) / 2), float(shrinkage))


def logistic(w: Latents, high: Labels, weight: Weights | None = None, ridge: float | None = None) -> Fit:
    """Logistic regression (Cox 1958): minimises the mean of log(1 + exp(-margin)) plus ridge / 2 times the vector's squared length.

    Without a `ridge` one of RIDGES is taken, the strongest after which less costs more on a third of the faces that it does not see.
    """
    from sklearn.linear_model import LogisticRegression

    def solve(x: Latents, high: Labels, weight: Weights, ridge: float, tolerance: float) -> LogisticRegression:
        return LogisticRegression(C=1 / (ridge * weight.sum()), tol=0.1 * tolerance, max_iter=2000).fit(x, high, sample_weight=weight)

    return _held_back(solve, lambda margin: np.logaddexp(0, -margin), w, high, weight, ridge)


def svm(w: Latents, high: Labels, weight: Weights | None = None, ridge: float | None = None) -> Fit:
    """Linear support vector machine with squared hinge loss (Cortes and Vapnik 1995; InterFaceGAN's choice, Shen et al. 2020).

    Without a `ridge` one of RIDGES is taken, the strongest after which less costs more on a third of the faces that it does not see.
    """
    from sklearn.svm import LinearSVC

    def solve(x: Latents, high: Labels, weight: Weights, ridge: float, tolerance: float) -> LinearSVC:
        return LinearSVC(C=1 / (2 * ridge * weight.sum()), tol=tolerance, dual=False).fit(x, high, sample_weight=weight)

    return _held_back(solve, lambda margin: np.maximum(0, 1 - margin) ** 2, w, high, weight, ridge)


def ridge_regression(w: Latents, score: Float[np.ndarray, " face"], ridge: float | None = None) -> Fit:
    """Least squares from w to the score itself, held back by `ridge` (Tikhonov 1963; Hoerl and Kennard 1970). Uses every face.

    For normal latents the vector is right even if the score is a curved function of its coordinate (Brillinger 1983). Without a
    `ridge`, generalised cross-validation chooses one of RIDGES (Golub et al. 1979). The threshold is where the mean score is.
    """
    middle, target = w.mean(axis=0), score - score.mean()
    std = w - middle
    values, vectors = np.linalg.eigh(std.T @ std)  # one decomposition serves every strength
    values = values.clip(0)
    along, unit = vectors.T @ (std.T @ target), values.mean()

    def lost(ridge: float) -> float:
        held = values + ridge * unit
        rest = target @ target - (2 * along**2 / held).sum() + (values * along**2 / held**2).sum()
        return rest / max(len(w) - 1 - (values / held).sum(), 1e-9) ** 2

    ridge = min(reversed(RIDGES), key=lost) if ridge is None else ridge
    vector = vectors @ (along / (values + ridge * unit))
    return Fit(vector, float(vector @ middle), ridge)


def overlap_weights(others: Float[np.ndarray, "face score"], high: Labels) -> Weights:
    """Weights that make both ends alike in other scores: each face counts by its chance to have been at the other end.

    The chance comes from a logistic regression on the other scores (overlap weights, Li, Morgan and Zaslavsky 2018, section 3). The
    means of all its columns then agree at both ends exactly (their theorem 3), no face can outweigh the rest, and of all such weights
    these waste fewest faces. Columns are the scores as normal quantiles of their ranks, the squares of these and their products, so
    that means, spreads and correlations agree. One yes-or-no score: women are compared with women, men with men.
    Raises ShapeError where the ends have too little in common.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    columns = normal_scores(others)
    first, second = np.triu_indices(columns.shape[1])
    columns = np.concatenate([columns, columns[:, first] * columns[:, second]], axis=1)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0).clip(1e-9)
    model = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-10, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ends that share nothing: what follows says so in words
        chance = model.fit(columns, high, sample_weight=equal_ends(high)).predict_proba(columns)[:, 1]
    weight = equal_ends(high, np.where(high, 1 - chance, chance) * equal_ends(high) + 1e-12)
    if min(effective(weight[high]), effective(weight[~high])) < LEAST:
        raise ShapeError(
            f"the {int(high.sum())} and {int((~high).sum())} faces of the two ends have too little in common: balanced they are worth "
            f"only {effective(weight[high]):.0f} and {effective(weight[~high]):.0f}, and {LEAST} are needed. Balance fewer scores, "
            "survey more faces, or move the ends nearer together."
        )
    return weight


def normal_scores(scores: Float[np.ndarray, "face score"]) -> Float[np.ndarray, "face score"]:
    """Every column as normal quantiles of its ranks, equal scores equal (Blom 1958): what is left of a score without its scale."""
    from scipy.stats import norm, rankdata

    return norm.ppf((rankdata(scores, axis=0) - 3 / 8) / (len(scores) + 1 / 4))


def effective(weight: Weights) -> float:
    """How many equally counted faces weighted ones are worth (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def equal_ends(high: Labels, weight: Weights | None = None) -> Weights:
    """The weights, scaled so that both ends count equally and all together as many as there are faces."""
    weight = np.ones(len(high)) if weight is None else weight
    return len(high) / 2 * np.where(high, weight / weight[high].sum(), weight / weight[~high].sum())


def _means(w: Latents, high: Labels, weight: Weights) -> tuple[Vector, Vector]:
    return tuple(weight[end] @ w[end] / weight[end].sum() for end in (high, ~high))


def _held_back(solve: Callable, loss: Callable, w: Latents, high: Labels, weight: Weights | None, ridge: float | None) -> Fit:
    """A classifier on latents that were centred and divided by one number: every direction of W keeps its share of the variance."""
    weight = equal_ends(high, weight)
    middle = weight @ w / weight.sum()
    x = w - middle
    scale = float(np.sqrt(weight @ (x**2).mean(axis=1) / weight.sum()))
    x /= scale
    if ridge is None:
        judge = np.random.RandomState(0).permutation(len(x)) % 3 == 0
        sign = np.where(high[judge], 1, -1)

        def lost(ridge: float) -> float:
            margin = sign * solve(x[~judge], high[~judge], weight[~judge], ridge, 1e-2).decision_function(x[judge])
            return float(weight[judge] @ loss(margin))

        least = np.inf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strength too weak to converge loses the comparison
            for strength in reversed(RIDGES):  # from strong to weak, and no further once it loses more: weak ones take longest
                loses = lost(strength)
                if loses > least:
                    break
                ridge, least = strength, loses
    model = solve(x, high, weight, ridge, 1e-4)
    vector = model.coef_[0].astype(np.float64) / scale
    return Fit(vector, float(vector @ middle - model.intercept_[0]), ridge)
