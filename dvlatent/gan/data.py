"""Small data to learn from: handwritten digits, a ring of points, and small movements of pictures. Taught in notebooks 01 and 02."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dvlatent import files
from dvlatent.errors import AssetBroken, AssetMissing, ShapeError

SIZE = 28  # pixels along a side of a digit
COUNT, LIMIT_BYTES = 5000, 20 * 2**20  # digits in the file; it unpacks to 9 MB


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: white ink on black, and what each one is."""

    images: Float[Tensor, "digit 1 28 28"]  # in [-1, 1]
    labels: Int[Tensor, " digit"]  # 0 to 9

    def __len__(self) -> int:
        return len(self.labels)

    def split(self) -> tuple[Digits, Digits]:
        """Digits to train on, and digits held out: every fifth of each class, always the same. Of 5,000 digits, 4,000 and 1,000."""
        held = torch.zeros(len(self), dtype=torch.bool)
        for label in range(10):
            held[(self.labels == label).nonzero()[4::5]] = True
        return Digits(self.images[~held], self.labels[~held]), Digits(self.images[held], self.labels[held])


def digits(path: Path | str) -> Digits:
    """The 5,000 MNIST digits of a gzipped table: one digit a row, 784 bytes from 0 to 255 and its name (LeCun et al. 1998).

    Raises AssetBroken if the file is no such table, AssetMissing if it is not there. Taught in notebook 01.
    """
    try:
        with gzip.open(files.check(path, LIMIT_BYTES, AssetBroken) if Path(path).exists() else path) as file:
            text = file.read(LIMIT_BYTES + 1)
    except FileNotFoundError as reason:
        raise AssetMissing(f"there is no file {path}. Run `dvlatent assets` once: it fetches the digits.") from reason
    except (OSError, EOFError, zlib.error) as reason:
        raise AssetBroken(f"{path} cannot be unpacked ({reason}). Run `dvlatent assets` to repair it.") from reason
    try:
        lines = text.decode("ascii").splitlines() if len(text) <= LIMIT_BYTES else []
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64) if any(lines) else None
    except (ValueError, UnicodeDecodeError):
        table = None
    good = table is not None and table.shape == (COUNT, SIZE * SIZE + 1) and table.min() >= 0 and table.max() <= 255
    if not (good and table[:, -1].max() <= 9):
        row = "784 whole numbers up to 255 and one up to 9 a row"
        raise AssetBroken(f"{path} is not the table of {COUNT} digits, {row}. Run `dvlatent assets` to repair it.")
    images = torch.from_numpy(table[:, :-1].astype(np.float32)).view(-1, 1, SIZE, SIZE) / 127.5 - 1
    return Digits(images, torch.from_numpy(table[:, -1].copy()))


def ring(count: int, modes: int = 8, radius: float = 2.0, std: float = 0.1, seed: int = 0) -> Float[Tensor, "point 2"]:
    """Points of the plane around `modes` centers on a circle, each center as likely as the others. Taught in notebook 01."""
    rng = np.random.RandomState(seed)
    centers = ring_centers(modes, radius).numpy()
    return torch.from_numpy(centers[rng.randint(modes, size=count)] + std * rng.randn(count, 2)).float()


def ring_centers(modes: int = 8, radius: float = 2.0) -> Float[Tensor, "mode 2"]:
    """The centers of `ring`. Raises ShapeError for less than one."""
    if modes < 1:
        raise ShapeError(f"a ring of {modes} centers has no points: give modes=8.")
    angle = 2 * math.pi * torch.arange(modes) / modes
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


@dataclass(frozen=True)
class Warp:
    """Small random movements of pictures: shift, turn, zoom, shear and an elastic pull (Simard et al. 2003).

    `draw` gives the random numbers and a call uses them, so that several processes draw alike and each moves its own pictures.
    """

    shift_px: float = 2.0  # standard deviations, all of them
    turn_degrees: float = 6.0
    zoom: float = 0.08
    shear: float = 0.08
    elastic_px: float = 0.7
    knots: int = 5  # side of the coarse grid whose points are pulled
    fraction: float = 1.0  # of the pictures that are moved at all

    def draw(self, count: int, rng: torch.Generator) -> Float[Tensor, "picture number"]:
        """The random numbers of `count` pictures, one row each."""
        numbers = torch.randn(count, 6 + 2 * self.knots**2, generator=rng).clamp(-2.5, 2.5)
        return numbers * (torch.rand(count, 1, generator=rng) < self.fraction)

    def __call__(self, image: Tensor, numbers: Tensor) -> Tensor:
        """Move every picture as its row of numbers says; differentiable, same shape. What comes in from outside is black."""
        size = image.shape[-1]
        numbers = numbers.to(image)
        turn, x, y, zoom, shear, _ = numbers[:, :6].unbind(1)
        turn, scale = torch.deg2rad(self.turn_degrees * turn), torch.exp(self.zoom * zoom)
        cos, sin, pull = turn.cos() * scale, turn.sin() * scale, 2 * self.shift_px / size
        matrix = torch.stack([cos, self.shear * shear - sin, pull * x, sin, cos, pull * y], dim=1).view(-1, 2, 3)
        where = F.affine_grid(matrix, [len(image), 1, size, size], align_corners=False)  # [picture, size, size, 2]
        if self.elastic_px:
            knots = numbers[:, 6:].view(-1, 2, self.knots, self.knots) * 2 * self.elastic_px / size
            where = where + F.interpolate(knots, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return F.grid_sample(image + 1, where, mode="bilinear", padding_mode="zeros", align_corners=False) - 1  # outside 0 is black
