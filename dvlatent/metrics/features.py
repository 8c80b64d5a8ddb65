"""How good generated pictures are, and how well ordered a map is: distances between clouds of features. Taught in notebooks 01 and 02.

All functions read plain arrays [sample, number]: features of a classifier, codes of an autoencoder, or points of the plane. Each value
comes with the number of samples, since all of them depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.faces.perceptual import Distance
from dvlatent.images import resize
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import Image

Cloud = Float[np.ndarray, "sample number"] | Float[Tensor, "sample number"]


@dataclass(frozen=True)
class Comparison:
    """A number that compares two clouds, and how many samples each of them had."""

    value: float
    real: int  # samples of the first cloud
    fake: int  # samples of the second

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.3g} (N = {self.real:,} and {self.fake:,})"


def picture_features(pictures: Iterable[Image], distance: Distance, side_px: int = 128) -> Float[np.ndarray, "sample number"]:
    """What a network for photos sees in batches of pictures: the last two stages of `distance`, averaged over all positions.

    Small pictures are enlarged to `side_px` first, since the network knows no others; compare only values of the same size and stages.
    """
    rows = []
    with torch.no_grad():
        for batch in pictures:
            stages = distance.features(resize(batch.clamp(-1, 1), side_px))[-2:]
            rows.append(torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1))
    return torch.cat(rows).cpu().numpy()


def frechet(real: Cloud, fake: Cloud) -> Comparison:
    """Fréchet distance of the two Gaussians that have the clouds' means and covariances (Heusel et al. 2017, equation 6).

    It is 0 for equal ones. It falls with the number of samples even if nothing else changes, so compare only values of the same N.
    Raises ShapeError for fewer than two samples, other widths, or numbers that are not finite.
    """
    a, b = _pair(real, fake)
    value = gaussian_frechet(a.mean(axis=0), np.cov(a.T, ddof=1), b.mean(axis=0), np.cov(b.T, ddof=1))
    return Comparison(value, len(a), len(b))


def gaussian_frechet(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """|mean_a - mean_b|² + tr(A + B - 2 (A B)^½), the same distance from means [number] and covariances [number, number].

    tr (A B)^½ is the sum of the singular values of A^½ B^½. So only roots of symmetric matrices are needed: no number is complex, and
    covariances without full rank do no harm.
    """
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    overlap = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    gap = np.square(np.atleast_1d(mean_a) - np.atleast_1d(mean_b)).sum()
    return max(float(gap + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap), 0.0)  # rounding may leave -1e-14


def kid(real: Cloud, fake: Cloud, blocks: int = 20, seed: int = 0) -> Estimate:
    """Kernel distance: the unbiased squared MMD with kernel (x·y / d + 1)³ (Binkowski et al. 2018, section 4).

    Unlike the Fréchet distance, its expectation does not depend on N; for equal clouds it may be below 0. The clouds are cut into
    `blocks` that share no sample; the value is the mean over the blocks, and their variation gives the interval.
    """
    a, b = _pair(real, fake)
    most = min(len(a), len(b)) // 2
    if not 2 <= blocks <= most:
        raise ShapeError(f"{blocks} blocks of {len(a)} and {len(b)} samples: take 2 to {most}, so that every block has two of each.")
    rng = np.random.RandomState(seed)
    parts = (np.array_split(x[rng.permutation(len(x))], blocks) for x in (a, b))
    estimate = bootstrap(np.array([_mmd(x, y) for x, y in zip(*parts, strict=True)]))
    return Estimate(estimate.value, estimate.low, estimate.high, min(len(a), len(b)))


def knn_accuracy(codes: Cloud, labels: np.ndarray, test_codes: Cloud, test_labels: np.ndarray, k: int = 10) -> Estimate:
    """Fraction of the test codes whose k nearest codes, by majority, have their label (Cover and Hart 1967). How pure a map is.

    On a tie the smaller label wins. The test codes must come from pictures that the map was not fitted to.
    """
    a, b = _pair(codes, test_codes)
    y, truth = _labels(labels, a), _labels(test_labels, b)
    _check_k(k, len(a))
    return bootstrap(KNeighborsClassifier(k).fit(a, y).predict(b) == truth)


def neighbors(codes: Cloud, labels: np.ndarray, k: int = 10) -> Float[np.ndarray, "label label"]:
    """Which labels lie beside which: row i has the labels of the k nearest neighbors of codes labelled i, as fractions that add up to 1.

    A code is not its own neighbor. Rows and columns are the labels in order. The diagonal is purity; off it lie the confusions.
    """
    a = _cloud(codes)
    y = _labels(labels, a)
    _check_k(k, len(a) - 1)
    classes, at = np.unique(y, return_inverse=True)
    nearest = NearestNeighbors(n_neighbors=k).fit(a).kneighbors(return_distance=False)  # [sample, k]
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (at[:, None], at[nearest]), 1)
    return table / table.sum(axis=1, keepdims=True)


def _mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD: pairs of a sample with itself are left out (Binkowski et al. 2018, equation 4)."""
    within = [((k := _kernel(z, z)).sum() - np.trace(k)) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(sum(within) - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a symmetric matrix whose eigenvalues are negative by rounding only."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _pair(a: Cloud, b: Cloud) -> tuple[np.ndarray, np.ndarray]:
    x, y = _cloud(a), _cloud(b)
    if x.shape[1] != y.shape[1]:
        raise ShapeError(f"two clouds of the same width were needed; these have {x.shape[1]} and {y.shape[1]} numbers a sample.")
    return x, y


def _cloud(samples: Cloud) -> np.ndarray:
    x = (samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)).astype(np.float64)
    if x.ndim != 2 or len(x) < 2 or x.shape[1] < 1 or not np.isfinite(x).all():
        strange = "" if np.isfinite(x).all() else " with numbers that are not finite"
        raise ShapeError(f"an array [sample, number] of two samples or more is needed; this is {list(x.shape)}{strange}. Flatten pictures.")
    return x


def _labels(labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    y = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if y.shape != (len(codes),):
        raise ShapeError(f"one label per code was needed: {len(codes)} codes, labels of shape {list(y.shape)}.")
    return y


def _check_k(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise ShapeError(f"k = {k} neighbors of so few samples: take 1 to {most}, or more samples.")
