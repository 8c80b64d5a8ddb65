"""Faces as another camera, crop and file might show them: what the judge and the encoder learn from besides clean renders."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent.types import Image


def disturb(image: Image, rng: torch.Generator, strength: float = 1.0, mirrored: bool = True) -> Image:
    """Change every face a little, at random: [batch, 3, size, size] -> the same shape; the size is a multiple of 8.

    `strength` scales the changes of light, colour, position, size and angle. Some faces also become softer or sharper, get grain, or
    blocks as JPEG leaves them; half of them are mirrored if `mirrored`.
    """
    count = len(image)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=rng)

    def chosen(probability: float) -> Tensor:
        return (torch.rand(count, generator=rng) < probability).nonzero()[:, 0]

    image = image * (1 + strength * 0.15 * normal(1, 1, 1)) + strength * 0.08 * normal(3, 1, 1)  # contrast, tint
    image = image + strength * 0.12 * normal(1, 1, 1)  # brightness
    gray = image.mean(1, keepdim=True)
    image = gray + (1 + strength * 0.25 * normal(1, 1, 1)).clamp(0, 2) * (image - gray)  # saturation
    faces, blur = chosen(0.4), (0.6 * normal(1, 1, 1)).clamp(-0.6, 1)  # softer above 0, sharper below
    sharp = image[faces]
    image[faces] = sharp + blur[faces] * (F.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False) - sharp)
    faces, grain = chosen(0.4), 0.05 * normal(1, 1, 1).abs()
    image[faces] += grain[faces] * torch.randn(len(faces), *image.shape[1:], generator=rng)
    faces, coarseness = chosen(0.2), 0.02 + 0.1 * torch.rand(count, 1, 1, 1, generator=rng)
    image[faces] = _blocky(image[faces], coarseness[faces])
    turn, size = strength * math.radians(3) * normal(), torch.exp(strength * 0.05 * normal())
    mirror = torch.where(torch.rand(count, generator=rng) < (0.5 if mirrored else 0.0), -1.0, 1.0)
    cos, sin = torch.cos(turn) * size, torch.sin(turn) * size
    shift = strength * 0.05 * normal(2)  # in half sides
    affine = torch.stack([torch.stack([mirror * cos, -sin, shift[:, 0]], 1), torch.stack([mirror * sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(affine, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)


def _blocky(image: Image, coarseness: Tensor) -> Image:
    """Round the cosines of 8 x 8 blocks to whole steps, the finer ones to larger steps: the loss of JPEG without its file."""
    at = torch.arange(8)
    cosines = torch.cos(math.pi / 8 * (at + 0.5) * at[:, None]) * torch.where(at == 0, 0.125, 0.25).sqrt()[:, None]  # orthonormal
    step = (1 + at + at[:, None]).repeat(image.shape[2] // 8, image.shape[3] // 8) * coarseness
    blocks = image.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))  # [batch, 3, rows, 8, columns, 8]
    waves = torch.einsum("ui,bcrikj,vj->bcrukv", cosines, blocks, cosines).flatten(4).flatten(2, 3)
    waves = (torch.round(waves / step) * step).unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
    return torch.einsum("ui,bcrukv,vj->bcrikj", cosines, waves, cosines).flatten(4).flatten(2, 3)
