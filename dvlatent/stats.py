"""A number measured on a sample, and how far to trust it. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dvlatent.errors import ShapeError


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and how far to trust it."""

    value: float
    low: float  # lower end of the bootstrap interval
    high: float  # its upper end
    samples: int  # how many values it rests on

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of samples and its percentile interval (Efron 1979): the sample is drawn again from itself, many times.

    Rows of `values` are the samples; keep what belongs to one sample in one row. The interval says how much the value would move
    with other samples of the same kind and number, nothing about a bias that all of them share.
    """
    values = np.asarray(values)
    if len(values) < 2 or not 0 < level < 1:
        raise ShapeError(f"a bootstrap needs two samples at least and a level between 0 and 1; given {len(values)} and {level}.")
    rng = np.random.RandomState(seed)
    again = [float(statistic(values[rng.randint(len(values), size=len(values))])) for _ in range(resamples)]
    low, high = np.percentile(again, [50 - 50 * level, 50 + 50 * level])
    return Estimate(float(statistic(values)), float(low), float(high), len(values))
