"""The smallest GAN there is: points of the plane instead of pictures, so that all of it can be seen. Taught in notebook 01."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class PointGenerator(nn.Module):
    """Two random numbers to a point: [batch, z] -> [batch, 2], through a few layers."""

    def __init__(self, width: int = 64, depth: int = 3, z_dim: int = 2) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.layers = _layers(z_dim, width, depth, 2)

    def forward(self, z: Float[Tensor, "batch z"]) -> Float[Tensor, "batch 2"]:
        """The point of each random vector."""
        return self.layers(z)


class PointDiscriminator(nn.Module):
    """A point to one number: how real it looks."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.layers = _layers(2, width, depth, 1)

    def forward(self, point: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """The score: [batch, 2] -> [batch], large for real."""
        return self.layers(point)[:, 0]


def _layers(first: int, width: int, depth: int, last: int) -> nn.Sequential:
    sizes = [first, *[width] * depth]
    hidden = [part for before, after in pairwise(sizes) for part in (nn.Linear(before, after), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(width, last))
