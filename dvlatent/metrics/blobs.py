"""A test for blobs: the dark and bright spots that picture-to-picture networks are known for. Taught in notebook 07.

Networks with instance norm can only say "very much" with one huge activation, and it shows as a round spot (Karras et al. 2020, section
2.1, describe it for StyleGAN). An edit changes a region; a blob is a round spot that is there after the edit and not before, while the
ring around it hardly changed. The test looks for that.

On 160 pairs of the age edit at psi 1, it finds 84 % of planted spots (height 1.0 to 1.6, radius 3 to 11 px of 256, anywhere on the edited
picture), and it finds a spot in 2.5 % of the pairs themselves: earrings, and once a red spot that the generator made.
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
SCALES = (1.5, 2.5, 4.0, 6.0)  # radii in these pixels: spots 3 to 12 px wide, of 128
MIN_HEIGHT = 0.4  # the least height of a spot (pictures have the range 2) ...
RING = 2.5  # ... beyond this many times the mean change of the ring around it


@dataclass(frozen=True)
class Blob:
    """A spot that changed while the ring around it hardly did."""

    x: float  # its center, as a fraction of the width
    y: float  # and of the height
    radius: float  # as a fraction of the width
    height: float  # how far it rises above its surroundings, of 2: negative is darker


def blobs(before: Image, after: Image) -> list[list[Blob]]:
    """The blobs of each picture, the clearest first; an empty list is a clean picture. [batch, 3, size, size] twice, in [-1, 1].

    Spots that exist before are no blobs. Raises ShapeError for pictures that differ in shape or are smaller than 128 px.
    """
    if before.shape != after.shape or before.ndim != 4 or min(before.shape[2:]) < SIZE_PX or before.shape[2] != before.shape[3]:
        raise ShapeError(
            f"blobs are looked for in square pictures before and after, of one shape and {SIZE_PX} px or more; these are "
            f"{list(before.shape)} and {list(after.shape)}. Resize them first."
        )
    found: list[list[Blob]] = []
    for score, height in zip(*spots(before, after), strict=True):  # [scale, 128, 128] each
        here: list[Blob] = []
        while float(score.max()) > MIN_HEIGHT and len(here) < 20:
            scale, y, x = (int(index) for index in torch.unravel_index(score.argmax(), score.shape))
            radius = SCALES[scale]
            here.append(Blob((x + 0.5) / SIZE_PX, (y + 0.5) / SIZE_PX, radius / SIZE_PX, float(height[scale, y, x])))
            reach = int(4 * radius) + 1
            score[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 0  # the same one at other scales
        found.append(here)
    return found


@torch.no_grad()
def spots(before: Image, after: Image) -> tuple[Float[Tensor, "batch scale 128 128"], Float[Tensor, "batch scale 128 128"]]:
    """How far each place stands out as a new spot beyond the change around it, and its height, for each of `SCALES`.

    A spot is round: it is curved alike in both directions (the smaller eigenvalue of the Hessian; Lindeberg 1998). A silhouette that
    moved is curved in one direction only. And it must be a spot in the picture after, not only in the change.
    """
    now = images.resize(after.float().clamp(-1, 1), SIZE_PX)
    change = now - images.resize(before.float().clamp(-1, 1), SIZE_PX)  # [batch, 3, 128, 128]
    size = change.abs().amax(dim=1)  # [batch, 128, 128]
    scores, heights = [], []
    for radius in SCALES:
        new, here = _roundness(change, radius), _roundness(now, radius)
        both = torch.where(new * here > 0, torch.minimum(new.abs(), here.abs()) * new.sign(), 0)
        height = both.gather(1, both.abs().argmax(dim=1, keepdim=True))[:, 0]  # in the color that shows it most
        height = height * _inside(2 * radius)  # at the border of the picture, a spot and an edge look alike
        scores.append(height.abs() - RING * _ring(size, 2 * radius, 4 * radius))
        heights.append(height)
    return torch.stack(scores, dim=1), torch.stack(heights, dim=1)


def _roundness(image: Image, radius: float) -> Image:
    """The height of a round spot of this radius at each place, 0 where there is none: [batch, 3, 128, 128] -> the same.

    Smoothed by `radius`, a Gaussian spot of height A and the same radius has both second derivatives -A / (4 radius²).
    """
    smooth = _mix(image, _gaussian(radius))
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    center = padded[..., 1:-1, 1:-1]
    xx = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2] - 2 * center
    yy = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] - 2 * center
    xy = (padded[..., 2:, 2:] + padded[..., :-2, :-2] - padded[..., 2:, :-2] - padded[..., :-2, 2:]) / 4
    mean, difference = (xx + yy) / 2, (((xx - yy) / 2).square() + xy.square()).sqrt()  # eigenvalues: mean ± difference
    return -4 * radius**2 * mean.sign() * (mean.abs() - difference).clamp_min(0)


@lru_cache(maxsize=8)
def _inside(margin: float) -> Float[Tensor, "128 128"]:
    """1 where the border of the picture is at least this far away, else 0."""
    distance = torch.minimum(torch.arange(SIZE_PX), SIZE_PX - 1 - torch.arange(SIZE_PX))
    return (torch.minimum(distance, distance[:, None]) >= margin).float()


@lru_cache(maxsize=8)
def _gaussian(width: float) -> Float[Tensor, "128 128"]:
    """Row i has the weights of all pixels for the blurred pixel i. As a matrix, it is faster than a convolution."""
    distance = torch.arange(SIZE_PX)[:, None] - torch.arange(SIZE_PX)
    weights = torch.exp(-0.5 * (distance / width) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)


@lru_cache(maxsize=8)
def _window(reach: int) -> Float[Tensor, "128 128"]:
    """Row i has 1 for the pixels within reach of pixel i."""
    distance = torch.arange(SIZE_PX)[:, None] - torch.arange(SIZE_PX)
    return (distance.abs() <= reach).float()


def _mix(image: Tensor, weights: Float[Tensor, "128 128"]) -> Tensor:
    return weights.to(image) @ image @ weights.to(image).T


def _ring(size: Float[Tensor, "batch 128 128"], inner: float, outer: float) -> Float[Tensor, "batch 128 128"]:
    """Mean over a square ring around each place, of its part inside the picture."""
    near, far = _window(int(inner)), _window(int(outer))
    inside = _mix(torch.ones_like(size[:1]), far) - _mix(torch.ones_like(size[:1]), near)
    return (_mix(size, far) - _mix(size, near)) / inside
