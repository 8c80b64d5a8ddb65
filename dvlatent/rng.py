"""Seeds: the dice of the house. Seed 85 here is seed 85 in every StyleGAN page. Taught in notebook 03."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
import torch

from dvlatent.errors import ShapeError
from dvlatent.types import Z


def normal(seeds: SupportsIndex | Iterable[SupportsIndex], dim: int) -> Z:
    """One standard normal row per seed: [seeds, dim], float32, on the CPU.

    `RandomState(seed).randn(1, dim)` is NVIDIA's own recipe, so a seed shared on the web gives the same z here.
    Raises ShapeError for a seed that is not a whole number from 0 to 2**32 - 1.
    """
    seeds = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ShapeError(f"seed {seed!r} is no seed: give whole numbers from 0 to 4294967295, e.g. normal([85, 265], 512).")
    rows = [np.random.RandomState(int(seed)).randn(1, dim) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows or [np.empty((0, dim))])).float()
