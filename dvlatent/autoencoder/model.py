"""Autoencoders: a picture compressed to one, two or three numbers, and drawn again from them. Taught in notebook 02.

The numbers are the picture's place on a line, on a map or in a cube. The variational one (Kingma and Welling 2014) learns a small
cloud for every picture instead of a point, and pulls all clouds toward the origin, so that the map has fewer holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image

Code = Float[Tensor, "batch code"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder: layers of ever fewer numbers, then of ever more."""

    code: int = 2  # numbers that a picture is compressed to: the axes of the map
    side: int = 28  # height and width of a picture, in pixels
    channels: int = 1  # 1 for ink, 3 for colors
    encoder_side: int = 28  # side that pictures are reduced to before the encoder reads them
    encoder: tuple[int, ...] = (128, 128)  # widths of its layers
    decoder: tuple[int, ...] = (64, 128)  # widths of its layers; small, because web pages decode in plain JavaScript
    variational: bool = False  # learn clouds instead of points


# The narrow last layer keeps the file small.
FACES = AutoencoderConfig(side=64, channels=3, encoder_side=16, encoder=(256, 128), decoder=(128, 256, 32))


class Autoencoder(nn.Module):
    """[batch, channels, side, side] in [-1, 1] -> [batch, code] -> the same shape again. Raises ShapeError for an impossible config."""

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AutoencoderConfig()
        if min(config.code, config.side, config.encoder_side, *config.encoder, *config.decoder) < 1 or config.channels not in (1, 3):
            raise ShapeError(f"an autoencoder needs sizes of at least 1, and 1 or 3 channels; given: {config}.")
        outputs = config.code * (2 if config.variational else 1)
        self.encoder = perceptron(config.channels * config.encoder_side**2, *config.encoder, outputs)
        self.decoder = perceptron(config.code, *config.decoder, config.channels * config.side**2)
        self.center = nn.Identity() if config.variational else nn.BatchNorm1d(config.code, affine=False)  # codes of mean 0 and std 1

    def encode(self, image: Image) -> Code:
        """The place of a picture on the map; of a variational one, the mean of its cloud. Raises ShapeError for other shapes."""
        return self.posterior(image)[0]

    def posterior(self, image: Image) -> tuple[Code, Code]:
        """Mean and log variance of a picture's cloud (Kingma and Welling 2014, equation 9); an ordinary one has clouds of no size."""
        side, channels = self.config.side, self.config.channels
        if image.ndim != 4 or tuple(image.shape[1:]) != (channels, side, side):
            raise ShapeError(f"pictures of shape [batch, {channels}, {side}, {side}] were needed; these are {list(image.shape)}.")
        if self.config.encoder_side != side:
            image = F.interpolate(image, size=(self.config.encoder_side,) * 2, mode="area")
        numbers = self.encoder((image.flatten(1).to(self.encoder[0].weight.dtype) + 1) / 2)  # ink from 0 to 1
        if self.config.variational:
            mean, log_variance = numbers.chunk(2, dim=1)
            return mean, log_variance
        return self.center(numbers), torch.full_like(numbers, -torch.inf)

    def decode(self, code: Code) -> Image:
        """The picture at a place of the map, also where no picture was: [batch, code] -> [batch, channels, side, side]."""
        if code.ndim != 2 or code.shape[1] != self.config.code:
            raise ShapeError(f"codes of shape [batch, {self.config.code}] were needed; these are {list(code.shape)}.")
        return as_pictures(self.decoder(code.to(self.decoder[0].weight.dtype)), self.config.channels, self.config.side)

    def forward(self, image: Image) -> Image:
        """Encode, then decode."""
        return self.decode(self.encode(image))


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers between numbers of these widths, with SiLU between them and nothing at the end."""
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def as_pictures(logits: Float[Tensor, "batch number"], channels: int, side: int) -> Image:
    """The decoder's last numbers as pictures: a sigmoid gives ink from 0 to 1, stretched to [-1, 1]."""
    return 2 * torch.sigmoid(logits).view(-1, channels, side, side) - 1
