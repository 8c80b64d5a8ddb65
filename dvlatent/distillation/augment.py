"""Photos are not as the teacher draws them: pairs are changed alike for training, and in five trials. Taught in notebook 07."""

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

NUMBERS = 20  # dice of one picture


@dataclass(frozen=True)
class PhotoWarp:
    """Mirror, shift, turn, zoom, relight, cover and soften pictures: `draw` once, then call it on both pictures of a pair."""

    share: float = 0.5  # of the pictures that are moved; the same share, apart from these, is relit
    shift: float = 0.1  # of the side, at most
    turn_degrees: float = 15.0  # at most
    zoom: float = 0.15  # larger or smaller by this share, at most
    light: float = 0.5  # exponent of the brightness: e**-light to e**light
    tint: float = 0.12  # each colour weaker or stronger by this share, at most
    cover: float = 0.2  # share of the pictures that something flat lies on
    soften: float = 0.15  # share of the pictures that lost up to half of their sharpness

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """The dice of `count` pictures, [count, 20] from 0 to 1."""
        return torch.rand(count, NUMBERS, generator=rng)

    def __call__(self, image: Image, numbers: Tensor) -> Image:
        """The pictures, changed as their rows say: [batch, 3, side, side] -> the same."""
        around = 2 * numbers - 1  # [batch, 20], from -1 to 1
        image = self._moved(image, numbers, around)
        relit = (numbers[:, 5] < self.share)[:, None, None, None]
        power = torch.exp(self.light * around[:, 6])[:, None, None, None]
        tint = 1 + self.tint * around[:, 7:10, None, None]
        lighter = ((image + 1) / 2).clamp_min(1e-4) ** power * tint
        image = torch.where(relit, (2 * lighter - 1).clamp(-1, 1), image)
        return self._covered(self._softened(image, numbers), numbers)

    def _moved(self, image: Image, numbers: Tensor, around: Tensor) -> Image:
        moves = numbers[:, 0] < self.share
        angle = math.radians(self.turn_degrees) * around[:, 1] * moves
        scale = torch.exp(self.zoom * around[:, 2] * moves)
        mirror = torch.where(numbers[:, 3] < 0.5, -1.0, 1.0)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        shift = 2 * self.shift * around[:, [4, 10]] * moves[:, None]
        affine = torch.stack([torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1)
        grid = F.affine_grid(affine.to(image), list(image.shape), align_corners=False)
        moved = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
        mirrored = torch.where((mirror < 0)[:, None, None, None], image.flip(3), image)  # exactly: nothing is blurred that need not be
        return torch.where(moves[:, None, None, None], moved, mirrored)

    def _softened(self, image: Image, numbers: Tensor) -> Image:
        soft = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2, mode="bilinear", align_corners=False)
        much = (numbers[:, 11] / self.soften if self.soften else numbers[:, 11] + 1)[:, None, None, None]  # below 1 for this share
        return torch.where(much < 1, torch.lerp(image, soft, much.clamp(0, 1)), image)

    def _covered(self, image: Image, numbers: Tensor) -> Image:
        if not self.cover:
            return image
        side = image.shape[-1]
        place = torch.arange(side).to(image) / side
        half = 0.05 + 0.15 * numbers[:, 16:18]  # of the side: a tenth to two fifths wide and high
        across = (place - numbers[:, 12, None]).abs() < half[:, :1]  # [batch, side]
        down = (place - numbers[:, 13, None]).abs() < half[:, 1:]
        here = (across[:, None, :] & down[:, :, None])[:, None] & (numbers[:, 15] < self.cover)[:, None, None, None]
        colour = 2 * numbers[:, [14, 18, 19], None, None] - 1
        return torch.where(here, colour.to(image), image)


def _shifted(image: Image) -> Image:
    side = round(0.1 * image.shape[-1])
    return F.pad(image, (side, 0, side, 0), mode="reflect")[..., :-side, :-side]


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
    """Every picture through a JPEG file of this quality and back."""
    from PIL import Image as Pillow

    back = []
    for pixels in images.to_uint8(image):
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, format="JPEG", quality=quality)
        file.seek(0)
        back.append(images.read(file))
    return torch.cat(back).to(image)


TRIALS: dict[str, Callable[[Image], Image]] = {  # what photos may be like, each done to both pictures of a pair
    "as drawn": lambda image: image,
    "shifted 10 %": _shifted,
    "turned 15 degrees": _turned,
    "darkened": lambda image: 0.4 * (image + 1) - 1,
    "occluded": _occluded,
    "JPEG 20": jpeg,
}
