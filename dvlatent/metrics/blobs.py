"""A test for blobs: the dark and bright spots that picture-to-picture networks are known for. Taught in notebook 07.

Networks with instance norm can only say "very much" by one huge activation, and it shows as a round spot (Karras et al. 2020, section 2.1,
describe it on StyleGAN). An edit changes a region; a blob is a round spot, there after and not before, while the ring around it hardly
changed. That is what is looked for.

Measured on 160 pairs of the age edit at psi 1: it finds 84 % of planted spots (height 1.0 to 1.6, radius 3 to 11 px of 256, anywhere on
the edited picture) and calls a spot in 2.5 % of the pairs themselves: earrings, and once a red spot that the generator made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.types import Image

SIZE_PX = 128  # pictures are compared at this size
SCALES = (1.5, 2.5, 4.0, 6.0)  # radii that are looked for, in these pixels: a spot 3 to 12 px wide, of 128
LEAST = 0.4  # the height that a spot must have at least (pictures have the range 2) ...
USUAL = 2.5  # ... plus this many times the mean change of the ring around it


@dataclass(frozen=True)
class Blob:
    """A spot that changed while the ring around it hardly did."""

    x: float  # its middle, as a share of the width
    y: float  # and of the height
    radius: float  # as a share of the width
    height: float  # how far it rises above its surroundings, of 2: negative is darker


def blobs(before: Image, after: Image, least: float = LEAST, usual: float = USUAL) -> list[list[Blob]]:
    """The blobs of every picture, the clearest first: an empty list is a clean one. [batch, 3, size, size] twice, in [-1, 1].

    Spots that were there before are no blobs. Raises ShapeError for pictures that differ in shape or are smaller than 128 px.
    """
    if before.shape != after.shape or before.ndim != 4 or min(before.shape[2:]) < SIZE_PX or before.shape[2] != before.shape[3]:
        raise ShapeError(
            f"blobs are looked for in square pictures before and after, of one shape and {SIZE_PX} px or more; these are "
            f"{list(before.shape)} and {list(after.shape)}. Resize them first."
        )
    score, spot = standing_out(before, after, usual)  # [batch, scale, 128, 128] each
    found: list[list[Blob]] = []
    for one, height in zip(score, spot, strict=True):
        blobs_here: list[Blob] = []
        while float(one.max()) > least and len(blobs_here) < 20:
            scale, y, x = (int(place) for place in torch.unravel_index(one.argmax(), one.shape))
            radius = SCALES[scale]
            blobs_here.append(Blob((x + 0.5) / SIZE_PX, (y + 0.5) / SIZE_PX, radius / SIZE_PX, float(height[scale, y, x])))
            reach = int(4 * radius) + 1
            one[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 0  # the same one at other scales
        found.append(blobs_here)
    return found


@torch.no_grad()
def standing_out(
    before: Image, after: Image, usual: float = USUAL
) -> tuple[Float[Tensor, "batch scale 128 128"], Float[Tensor, "batch scale 128 128"]]:
    """How far every place stands out as a new spot beyond what is usual around it, and its height, for each of `SCALES`.

    A spot is round: in both directions it is curved alike (the smaller eigenvalue of the Hessian; Lindeberg 1998). A silhouette that
    moved is curved in one direction only. And it must be a spot in the picture after, not only in the change.
    """
    now = images.resize(after.float().clamp(-1, 1), SIZE_PX)
    change = now - images.resize(before.float().clamp(-1, 1), SIZE_PX)  # [batch, 3, 128, 128]
    size = change.abs().amax(dim=1)  # [batch, 128, 128]
    scores, spots = [], []
    for radius in SCALES:
        new, here = _roundness(change, radius), _roundness(now, radius)
        both = torch.where(new * here > 0, torch.minimum(new.abs(), here.abs()) * new.sign(), 0)
        spot = both.gather(1, both.abs().argmax(dim=1, keepdim=True))[:, 0]  # the colour that shows it most
        spot = spot * _inside(2 * radius)  # at the very edge a spot and an edge look alike
        scores.append(spot.abs() - usual * _ring(size, 2 * radius, 4 * radius))
        spots.append(spot)
    return torch.stack(scores, dim=1), torch.stack(spots, dim=1)


def _roundness(image: Image, radius: float) -> Image:
    """The height of a round spot of this radius at every place, 0 where it is none: [batch, 3, 128, 128] -> the same.

    Smoothed by `radius`, a Gaussian spot of height A and the same radius has both second derivatives -A / (4 radius²).
    """
    smooth = _mix(image, _gaussian(radius))
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    middle = padded[..., 1:-1, 1:-1]
    xx = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2] - 2 * middle
    yy = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] - 2 * middle
    xy = (padded[..., 2:, 2:] + padded[..., :-2, :-2] - padded[..., 2:, :-2] - padded[..., :-2, 2:]) / 4
    mean, apart = (xx + yy) / 2, (((xx - yy) / 2).square() + xy.square()).sqrt()
    return -4 * radius**2 * mean.sign() * (mean.abs() - apart).clamp_min(0)


@lru_cache(maxsize=8)
def _inside(margin: float) -> Float[Tensor, "128 128"]:
    """1 where the edge of the picture is at least this far away, else 0."""
    away = torch.minimum(torch.arange(SIZE_PX), SIZE_PX - 1 - torch.arange(SIZE_PX))
    return (torch.minimum(away, away[:, None]) >= margin).float()


@lru_cache(maxsize=8)
def _gaussian(width: float) -> Float[Tensor, "128 128"]:
    """Row i: the weights of all pixels for the blurred pixel i. As a matrix, it is quicker than a convolution."""
    away = torch.arange(SIZE_PX)[:, None] - torch.arange(SIZE_PX)
    weights = torch.exp(-0.5 * (away / width) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def _window(reach: int) -> Float[Tensor, "128 128"]:
    """Row i: 1 for the pixels that lie within reach of pixel i."""
    away = torch.arange(SIZE_PX)[:, None] - torch.arange(SIZE_PX)
    return (away.abs() <= reach).float()


def _mix(image: Tensor, weights: Float[Tensor, "128 128"]) -> Tensor:
    return weights.to(image) @ image @ weights.to(image).T


def _ring(size: Float[Tensor, "batch 128 128"], inner: float, outer: float) -> Float[Tensor, "batch 128 128"]:
    """Mean over a square ring around every place, of the part of it that lies in the picture."""
    near, far = _window(int(inner)), _window(int(outer))
    inside = _mix(torch.ones_like(size[:1]), far) - _mix(torch.ones_like(size[:1]), near)
    return (_mix(size, far) - _mix(size, near)) / inside
