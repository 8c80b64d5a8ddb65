"""Numbers measured on samples, with their uncertainty. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dvlatent.errors import ShapeError


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and the interval in which it would move with other samples."""

    value: float
    low: float  # lower end of the bootstrap interval
    high: float  # its upper end
    samples: int  # how many values were measured

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic and its percentile interval (Efron 1979): the sample is drawn again from itself, many times.

    Rows of `values` are samples; keep all that belongs to one sample in one row. The interval says how much the value moves
    with other samples of the same kind and number. It says nothing about a bias that all samples share.
    Raises ShapeError for fewer than two samples.
    """
    values = np.asarray(values)
    if len(values) < 2 or not 0 < level < 1:
        raise ShapeError(f"a bootstrap needs two samples at least and a level between 0 and 1; given {len(values)} and {level}.")
    rng = np.random.RandomState(seed)
    resampled = [float(statistic(values[rng.randint(len(values), size=len(values))])) for _ in range(resamples)]
    low, high = np.percentile(resampled, [50 - 50 * level, 50 + 50 * level])
    return Estimate(float(statistic(values)), float(low), float(high), len(values))
