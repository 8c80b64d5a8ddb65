"""Photos differ from what the teacher draws: pairs are changed alike for training, and in five trials. Taught in notebook 07."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent import images
from dvlatent.types import Image

NUMBERS = 20  # random numbers for each picture


@dataclass(frozen=True)
class PhotoWarp:
    """Mirror, shift, turn, zoom, relight, cover and soften pictures: `draw` once, then call it on both pictures of a pair."""

    fraction: float = 0.5  # of the pictures that are moved; independently, the same fraction is relit
    shift: float = 0.1  # largest shift, as a fraction of the side
    turn_degrees: float = 15.0  # largest angle
    zoom: float = 0.15  # largest change of size, as a fraction
    light: float = 0.5  # exponent of the brightness: e**-light to e**light
    tint: float = 0.12  # each color weaker or stronger by this fraction, at most
    cover: float = 0.2  # fraction of the pictures that get a flat rectangle
    soften: float = 0.15  # fraction of the pictures that lose up to half of their sharpness

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """The random numbers of `count` pictures, [count, 20] from 0 to 1."""
        return torch.rand(count, NUMBERS, generator=rng)

    def __call__(self, image: Image, numbers: Tensor) -> Image:
        """The pictures, changed as their rows say: [batch, 3, side, side] -> the same."""
        signed = 2 * numbers - 1  # [batch, 20], from -1 to 1
        image = self._moved(image, numbers, signed)
        relit = (numbers[:, 5] < self.fraction)[:, None, None, None]
        power = torch.exp(self.light * signed[:, 6])[:, None, None, None]
        tint = 1 + self.tint * signed[:, 7:10, None, None]
        lighter = ((image + 1) / 2).clamp_min(1e-4) ** power * tint
        image = torch.where(relit, (2 * lighter - 1).clamp(-1, 1), image)
        return self._covered(self._softened(image, numbers), numbers)

    def _moved(self, image: Image, numbers: Tensor, signed: Tensor) -> Image:
        moves = numbers[:, 0] < self.fraction
        angle = math.radians(self.turn_degrees) * signed[:, 1] * moves
        scale = torch.exp(self.zoom * signed[:, 2] * moves)
        mirror = torch.where(numbers[:, 3] < 0.5, -1.0, 1.0)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        shift = 2 * self.shift * signed[:, [4, 10]] * moves[:, None]
        affine = torch.stack([torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1)
        grid = F.affine_grid(affine.to(image), list(image.shape), align_corners=False)
        moved = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        mirrored = torch.where((mirror < 0)[:, None, None, None], image.flip(3), image)  # exactly: without resampling, nothing is blurred
        return torch.where(moves[:, None, None, None], moved, mirrored)

    def _softened(self, image: Image, numbers: Tensor) -> Image:
        soft = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2, mode="bilinear", align_corners=False)
        amount = (numbers[:, 11] / self.soften if self.soften else numbers[:, 11] + 1)[:, None, None, None]  # below 1 for this fraction
        return torch.where(amount < 1, torch.lerp(image, soft, amount.clamp(0, 1)), image)

    def _covered(self, image: Image, numbers: Tensor) -> Image:
        if not self.cover:
            return image
        position = torch.arange(image.shape[-1]).to(image) / image.shape[-1]
        half = 0.05 + 0.15 * numbers[:, 16:18]  # of the side: a rectangle is a tenth to two fifths wide and high
        columns = (position - numbers[:, 12, None]).abs() < half[:, :1]  # [batch, side]
        rows = (position - numbers[:, 13, None]).abs() < half[:, 1:]
        here = (columns[:, None, :] & rows[:, :, None])[:, None] & (numbers[:, 15] < self.cover)[:, None, None, None]
        color = 2 * numbers[:, [14, 18, 19], None, None] - 1
        return torch.where(here, color.to(image), image)


def _shifted(image: Image) -> Image:
    shift = round(0.1 * image.shape[-1])
    return F.pad(image, (shift, 0, shift, 0), mode="reflect")[..., :-shift, :-shift]


def _turned(image: Image) -> Image:
    angle = math.radians(15)
    affine = image.new_tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]).expand(len(image), 2, 3)
    grid = F.affine_grid(affine, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)


def _occluded(image: Image) -> Image:
    height, width = image.shape[2:]
    covered = image.clone()
    covered[:, :, height * 5 // 8 : height * 7 // 8, width // 4 : width * 3 // 4] = 0.6  # a mask over mouth and chin
    return covered


def jpeg(image: Image, quality: int = 20) -> Image:
    """Each picture written as a JPEG file of this quality, and read again."""
    from PIL import Image as Pillow

    pictures = []
    for pixels in images.to_uint8(image):
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, format="JPEG", quality=quality)
        file.seek(0)
        pictures.append(images.read(file))
    return torch.cat(pictures).to(image)


TRIALS: dict[str, Callable[[Image], Image]] = {  # what photos may be like; each is done to both pictures of a pair
    "as drawn": lambda image: image,
    "shifted 10 %": _shifted,
    "turned 15 degrees": _turned,
    "darkened": lambda image: 0.4 * (image + 1) - 1,
    "occluded": _occluded,
    "JPEG 20": jpeg,
}
