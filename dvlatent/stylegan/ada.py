"""Adaptive discriminator augmentation (Karras et al. 2020b, arXiv:2006.06676, appendix B): the changes.

The training decides how often they happen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dvlatent.types import Image

CHANGES = ("mirror", "quarter turn", "pixels", "size", "stretch", "turn", "shift", "brightness", "contrast", "luma", "hue", "saturation")
Numbers = Float[Tensor, "batch 24"]


@dataclass(frozen=True)
class Ada:
    """Changes pictures before a discriminator sees them: each of `CHANGES` with probability `p`, whatever else happens.

    While p is below 0.8 or so, nothing is gained by drawing changed pictures: most of the real ones are not (section 2.2).
    """

    p: float

    def draw(self, count: int, rng: torch.Generator) -> Numbers:
        """The random numbers of `count` pictures: 12 that say what happens and 5 amounts, from 0 to 1; 7 amounts, normal."""
        return torch.cat([torch.rand(count, 17, generator=rng), torch.randn(count, 7, generator=rng)], dim=1)

    def __call__(self, image: Image, numbers: Numbers) -> Image:
        """[batch, 3, side, side] -> the same, moved and recolored; differentiable."""
        happens = dict(zip(CHANGES, (numbers[:, :12] < self.p).to(image).unbind(1), strict=True))
        flipped = {name: 1 - 2 * (numbers[:, CHANGES.index(name)] < self.p / 2).to(image) for name in ("mirror", "luma")}
        uniform, normal = numbers[:, 12:17].to(image), numbers[:, 17:].to(image)
        return _recolored(_moved(image, happens, flipped["mirror"], uniform, normal), happens, flipped["luma"], uniform, normal)


def _moved(image: Image, happens: dict[str, Tensor], mirror: Tensor, uniform: Tensor, normal: Tensor) -> Image:
    """All changes of place as one matrix, so that pixels are sampled once, bilinearly; what was outside is a reflection."""
    side, zero, one = image.shape[-1], torch.zeros_like(mirror), torch.ones_like(mirror)

    def affine(*rows: Tensor) -> Float[Tensor, "batch 3 3"]:
        return torch.stack([*rows, zero, zero, one], dim=1).view(-1, 3, 3)

    def turn(angle: Tensor) -> Float[Tensor, "batch 3 3"]:
        return affine(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero)

    quarters = happens["quarter turn"] * (4 * uniform[:, 0]).floor() * (math.pi / 2)
    pixels = happens["pixels"][:, None] * (0.25 * side * (uniform[:, 1:3] - 0.5)).round() * 2 / side  # an eighth of the side at most
    size, stretch = (2 ** (0.2 * happens[name] * normal[:, i]) for i, name in enumerate(("size", "stretch")))
    angle = happens["turn"] * (2 * uniform[:, 3] - 1) * math.pi
    shift = happens["shift"][:, None] * 0.25 * normal[:, 2:4]  # the picture reaches from -1 to 1: an eighth of the side
    matrix = affine(mirror, zero, zero, zero, one, zero) @ turn(quarters) @ affine(one, zero, pixels[:, 0], zero, one, pixels[:, 1])
    matrix = matrix @ affine(size * stretch, zero, shift[:, 0], zero, size / stretch, shift[:, 1]) @ turn(angle)
    grid = F.affine_grid(matrix[:, :2], list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def _recolored(image: Image, happens: dict[str, Tensor], luma: Tensor, uniform: Tensor, normal: Tensor) -> Image:
    """All changes of color as one matrix: lighter, more contrast, light for dark, a turn about the axis of gray, more color."""
    gray = torch.full((3, 3), 1 / 3).to(image)  # keeps what is gray of a color
    spin = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]).to(image) * 3**-0.5  # turns a color by 90 degrees about that axis
    angle = (happens["hue"] * (2 * uniform[:, 4] - 1) * math.pi)[:, None, None]
    contrast, saturation = (2 ** (happens[name] * normal[:, i])[:, None, None] for name, i in (("contrast", 5), ("saturation", 6)))
    color = saturation * (angle.cos() * (torch.eye(3).to(image) - gray) + angle.sin() * spin)
    matrix = contrast**0.5 * (luma[:, None, None] * gray + color)  # [batch, 3, 3]
    light = image + (happens["brightness"] * 0.2 * normal[:, 4])[:, None, None, None]
    return torch.einsum("boc,bchw->bohw", matrix, light)
