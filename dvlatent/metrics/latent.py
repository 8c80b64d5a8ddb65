"""How well ordered a latent space is: path length and linear separability (Karras et al. 2019, section 4). Taught in notebook 03.

Both are measured on samples, so both come as an `Estimate`: a value and its bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.linear_model import Ridge
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, lerp, normal, slerp
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import Generator, Image, Render

Distance = Callable[[Image, Image], Float[Tensor, " batch"]]
Latents = Float[np.ndarray, "face number"] | Float[Tensor, "face number"]
Labels = Bool[np.ndarray, " face"]

RIDGES = tuple(10.0**power for power in range(-3, 3))  # strengths to choose from, in units of the latents' mean variance per number


@dataclass(frozen=True)
class PathConfig:
    """How path lengths are sampled. The paper: 100,000 pairs, epsilon 1e-4, 1 % trimmed at both ends."""

    pairs: int = 100  # pairs of latents, one path each
    epsilon: float = 1e-4  # length of the measured piece of path, as a fraction of the whole
    ends: bool = True  # measure the beginning of each path (t = 0, "end"); otherwise any place on it ("full")
    batch: int = 4  # pairs rendered together
    seed: int = 0  # pair i is made of seeds `seed + 2 i` and `seed + 2 i + 1`


@dataclass(frozen=True)
class Separation:
    """How well a plane divides faces that it was not fitted to."""

    accuracy: Estimate  # fraction of held-out faces on the right side
    entropy: Estimate  # bits that are missing about the label once the side is known
    fitted: float  # accuracy on the faces that the plane was fitted to: too good to be true


@torch.no_grad()
def path_lengths(
    generator: Generator, distance: Distance, space: str, config: PathConfig | None = None, render: Render | None = None
) -> Float[np.ndarray, " pair"]:
    """Perceptual path length of each pair: distance of two near pictures / epsilon² (Karras et al. 2019, section 4.1).

    `space` is "z" (arcs between random vectors) or "w" (straight lines between their w). `distance` must be quadratic for near pictures,
    as perceptual distances are; noise must be the same at both ends. `render` draws ws, by default `generator.synthesis`; NVIDIA renders
    1024 pixels and shrinks them to 256. Raises ShapeError for another space, or numbers that cannot be.
    """
    config, render = config or PathConfig(), render or generator.synthesis
    if space not in ("z", "w") or config.pairs < 1 or not 0 < config.epsilon <= 1:
        raise ShapeError(
            f"path lengths need space 'z' or 'w', a pair at least and an epsilon in (0, 1]; given: space {space!r}, "
            f"{config.pairs} pairs, epsilon {config.epsilon}."
        )
    rng = np.random.RandomState(config.seed)
    where = np.zeros(config.pairs) if config.ends else rng.rand(config.pairs) * (1 - config.epsilon)
    lengths = []
    for first in range(0, config.pairs, config.batch):
        t = torch.from_numpy(where[first : first + config.batch]).float()
        seeds = range(config.seed + 2 * first, config.seed + 2 * (first + len(t)))
        z = normal(seeds, generator.z_dim).to(generator.w_mean)
        latents = z if space == "z" else generator.mapping(z)
        along, draw = (slerp, generator.mapping) if space == "z" else (lerp, lambda w: w)
        ends = [draw(along(latents[0::2], latents[1::2], step.to(latents))) for step in (t, t + config.epsilon)]  # each [pair, w]
        here, there = (render(broadcast(w, generator.num_layers)) for w in ends)
        lengths.append(distance(here, there).double().cpu().numpy() / config.epsilon**2)
    return np.concatenate(lengths)


def trimmed_mean(values: Float[np.ndarray, " sample"], percent: float = 1.0) -> float:
    """The mean without the lowest and the highest percent; of fewer than 100 / percent values, at least the extremes remain."""
    values = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(values, percent, method="lower"), np.percentile(values, 100 - percent, method="higher")
    return float(values[(values >= low) & (values <= high)].mean())


def fit_plane(latents: Latents, labels: Labels, ridge: float) -> tuple[Float[np.ndarray, " number"], float]:
    """The plane `latents @ normal + offset = 0` that least squares puts between the labels (ridge regression).

    `ridge` keeps the plane simple if faces are few, in units of the mean variance per number, so that it means the same in Z and in W.
    """
    x, y = _faces(latents, labels)
    plane = Ridge(alpha=ridge * len(x) * x.var(axis=0).mean()).fit(x, np.where(y, 1.0, -1.0))
    return plane.coef_, float(plane.intercept_)


def separability(latents: Latents, labels: Labels, folds: int = 5, ridges: tuple[float, ...] = RIDGES, seed: int = 0) -> Separation:
    """Linear separability on held-out faces (after Karras et al. 2019, section 4.2).

    Each of `folds` parts is predicted by a plane fitted to the others. Its ridge is chosen inside the others, so the predicted part plays
    no role in it. The paper scores a support vector machine on the 100,000 faces that it was fitted to; with few faces, that would flatter
    every space. Raises ShapeError for fewer than 2 folds or too few faces of a label.
    """
    x, y = _faces(latents, labels)
    if folds < 2 or min(y.sum(), (~y).sum()) < 2 * folds:
        raise ShapeError(
            f"separability with {folds} folds needs at least {2 * folds} faces of each label; these are {int(y.sum())} and "
            f"{int((~y).sum())}. Score more faces, or use fewer folds."
        )
    part = _parts(y, folds, seed)
    side, fitted = np.zeros(len(x), dtype=bool), []
    for fold in range(folds):
        train, test = part != fold, part == fold
        normal_vector, offset = fit_plane(x[train], y[train], _best_ridge(x[train], y[train], ridges, seed))
        side[test] = x[test] @ normal_vector + offset > 0
        fitted.append(((x[train] @ normal_vector + offset > 0) == y[train]).mean())
    both = np.stack([side, y], axis=1)  # [face, 2]
    accuracy = bootstrap(both, lambda part: (part[:, 0] == part[:, 1]).mean())
    entropy = bootstrap(both, lambda part: conditional_entropy(part[:, 0], part[:, 1]))
    return Separation(accuracy, entropy, float(np.mean(fitted)))


def conditional_entropy(side: Labels, label: Labels) -> float:
    """H(label | side) in bits: what is still unknown about the label once the side of the plane is known (Shannon 1948).

    It is 0 for a perfect plane; for a useless one, all that the label can tell: 1 bit if both labels are as frequent. Karras et al. 2019
    sum it over 40 attributes and report 2 to that power.
    """
    side, label = np.asarray(side, dtype=bool), np.asarray(label, dtype=bool)
    joint = np.array([[(label[side == one] == other).sum() for other in (False, True)] for one in (False, True)]) / len(label)
    known = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)  # [side, label]: probability of the label on this side
    return float(-(joint * np.log2(np.where(known > 0, known, 1.0))).sum())


def surest(confidence: Float[np.ndarray, " face"], keep: float = 0.5) -> Bool[np.ndarray, " face"]:
    """True for the fraction of faces about which the predictor is surest; the paper keeps half (Karras et al. 2019, section 4.2)."""
    confidence = np.asarray(confidence)
    order = np.argsort(-confidence, kind="stable")
    kept = np.zeros(len(confidence), dtype=bool)
    kept[order[: round(keep * len(confidence))]] = True
    return kept


def _best_ridge(x: np.ndarray, y: Labels, ridges: tuple[float, ...], seed: int) -> float:
    """The ridge whose plane is right most often on a third that it does not see; the strongest of equals.

    One decomposition of the covariance serves all ridges, which makes this many times faster than a search with scikit-learn.
    """
    if len(ridges) == 1:
        return ridges[0]
    part = _parts(y, 3, seed + 1)
    right = np.zeros(len(ridges))
    for fold in range(3):
        train, test = part != fold, part == fold
        mean, target = x[train].mean(axis=0), np.where(y[train], 1.0, -1.0)
        centered = x[train] - mean
        values, vectors = np.linalg.eigh(centered.T @ centered)
        along, unseen = vectors.T @ (centered.T @ (target - target.mean())), (x[test] - mean) @ vectors
        for at, ridge in enumerate(ridges):
            alpha = ridge * values.sum() / x.shape[1]  # the sum of squares per number, as in fit_plane
            right[at] += ((unseen @ (along / (values + alpha)) + target.mean() > 0) == y[test]).sum()
    return max(zip(right, ridges, strict=True))[1]


def _parts(y: Labels, folds: int, seed: int) -> np.ndarray:
    """A part number for each face; all parts have the same fraction of either label."""
    part, rng = np.zeros(len(y), dtype=int), np.random.RandomState(seed)
    for label in (False, True):
        rows = rng.permutation(np.flatnonzero(y == label))
        part[rows] = np.arange(len(rows)) % folds
    return part


def _faces(latents: Latents, labels: Labels) -> tuple[np.ndarray, Labels]:
    x = (latents.detach().cpu().numpy() if isinstance(latents, Tensor) else np.asarray(latents)).astype(np.float64)
    y = np.asarray(labels)
    if x.ndim != 2 or y.shape != (len(x),) or y.dtype != bool:
        raise ShapeError(
            f"one True or False per latent was needed: latents [face, number] and labels [face]; these are {list(x.shape)} and "
            f"{y.dtype} {list(y.shape)}. Make labels with a comparison, e.g. ages > 40."
        )
    return x, y
