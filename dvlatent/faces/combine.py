"""Several predictors read as one. Taught in notebook 05."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.types import Image, Predictor


class CombinedPredictor:
    """A Predictor that asks several: `Together(attributes, landmarks)(image)` has the columns of the first, then of the second.

    Raises ShapeError if two of them use the same name, or if there are none.
    """

    def __init__(self, *predictors: Predictor) -> None:
        names = tuple(name for predictor in predictors for name in predictor.names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not predictors:
            raise ShapeError(
                f"{len(predictors)} predictors give the names {', '.join(names) or '(none)'}; each column needs a name of its own, and "
                f"there must be one. Leave out one of those that say {', '.join(twice) or 'nothing'}."
            )
        self.predictors, self.names = predictors, names

    def __call__(self, image: Image) -> Float[Tensor, "batch name"]:
        """Scores of every image, in the order of `names`."""
        return torch.cat([predictor(image) for predictor in self.predictors], dim=1)


def combine(predictors: Predictor | Sequence[Predictor]) -> Predictor:
    """One predictor of all their columns, in order."""
    several = [predictors] if hasattr(predictors, "names") else list(predictors)
    return several[0] if len(several) == 1 else CombinedPredictor(*several)
