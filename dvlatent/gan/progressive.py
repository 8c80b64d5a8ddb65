"""ProgressiveGAN (Karras et al. 2018, arXiv:1710.10196): it learns to draw 4 pixels a side, then 8, 16 and 32. Taught in notebook 10.

`train` knows nothing of it: both networks have a `level`, the caller raises it between the steps, and the discriminator shrinks
what it is shown. The loss is lesson 01's (the paper's is WGAN-GP).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.gan.digits import minibatch_std
from dvlatent.types import Image, W, Ws, Z

CHANNELS = (128, 96, 48, 24)  # of 4, 8, 16 and 32 pixels
Features = Float[Tensor, "batch channel height width"]


class ProgressiveGAN(nn.Module):
    """64 random numbers to a picture of 4 << level pixels a side. Its W is Z, brought to length one on average: a `Generator`.

    `level` is a number from 0 to the last; with 2.25, the picture of level 3 is shown to a quarter and that of level 2 to three quarters.
    """

    num_layers = 1

    def __init__(self, channels: tuple[int, ...] = CHANNELS, z_dim: int = 64) -> None:
        super().__init__()
        self.z_dim = self.w_dim = z_dim
        self.resolution = 4 << (len(channels) - 1)
        self.register_buffer("w_mean", torch.zeros(z_dim))
        self.register_buffer("level", torch.tensor(len(channels) - 1.0))
        self.first = EqualizedConv(z_dim, channels[0] * 16, 1)
        self.blocks = nn.ModuleList(Up(a, b) for a, b in pairwise((channels[0], *channels)))
        self.to_image = nn.ModuleList(EqualizedConv(size, 3, 1, gain=1.0) for size in channels)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Z) -> Image:
        """Random vectors to pictures of the present level: [batch, z_dim] -> [batch, 3, 4 << level, 4 << level] in [-1, 1]."""
        return self.draw(self.mapping(z))

    def mapping(self, z: Z) -> W:
        """z on the sphere: every row divided by its root mean square."""
        return pixel_norm(z)

    def draw(self, w: W) -> Image:
        """Coordinates to pictures of the present level; a new level fades in (section 3, figure 2)."""
        x = pixel_norm(F.leaky_relu(self.first(w.to(self.w_mean)[:, :, None, None]), 0.2)).view(len(w), -1, 4, 4)
        last, fade = whole_and_fade(self.level)
        for at, block in enumerate(self.blocks[: last + 1]):
            before, x = x, block(x if at == 0 else F.interpolate(x, scale_factor=2))
        image = self.to_image[last](x)
        if fade < 1:
            image = torch.lerp(F.interpolate(self.to_image[last - 1](before), scale_factor=2), image, fade)
        return torch.tanh(image.float()).to(w.dtype)

    def synthesis(self, ws: Ws) -> Image:
        """[batch, 1, w_dim] -> [batch, 3, resolution, resolution], at the last level. Raises ShapeError for other shapes."""
        if ws.ndim != 3 or tuple(ws.shape[1:]) != (1, self.w_dim):
            raise ShapeError(f"ws must be [batch, 1, {self.w_dim}]; this has {list(ws.shape)}. Make it with broadcast(w, 1).")
        return self.draw(ws[:, 0])


class ProgressiveDiscriminator(nn.Module):
    """The mirror image: from the pixels of the present level down to 4, and the variety of the batch beside it (section 3)."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.register_buffer("level", torch.tensor(len(channels) - 1.0))
        self.from_image = nn.ModuleList(EqualizedConv(3, size, 1) for size in channels)
        self.blocks = nn.ModuleList(Down(b, a) for a, b in pairwise(channels))
        self.conv = EqualizedConv(channels[0] + 1, channels[0], 3)
        self.dense = EqualizedConv(channels[0], channels[0], 4, padding=0)
        self.last = EqualizedConv(channels[0], 1, 1, gain=1.0)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Image) -> Float[Tensor, " batch"]:
        """The score: [batch, 3, side, side], of the present level or larger -> [batch], large for real."""
        last, fade = whole_and_fade(self.level)
        image = F.adaptive_avg_pool2d(image, 4 << last)
        x = F.leaky_relu(self.from_image[last](image), 0.2)
        for at in reversed(range(last)):
            x = self.blocks[at](x)
            if at == last - 1 and fade < 1:
                x = torch.lerp(F.leaky_relu(self.from_image[at](F.avg_pool2d(image, 2)), 0.2).to(x), x, fade)
        std = minibatch_std(x.flatten(1), 4)[:, :, None, None].expand(-1, 1, 4, 4)
        x = F.leaky_relu(self.conv(torch.cat([x, std], dim=1)), 0.2)
        return self.last(F.leaky_relu(self.dense(x), 0.2)).flatten().float()


class EqualizedConv(nn.Conv2d):
    """A convolution stored at size one and scaled when used, so that all layers learn equally fast (section 4.1)."""

    def __init__(self, channels_in: int, channels_out: int, size: int, padding: int | None = None, gain: float = 2**0.5) -> None:
        super().__init__(channels_in, channels_out, size, padding=size // 2 if padding is None else padding)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        self.gain = gain * (channels_in * size**2) ** -0.5  # He's constant

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, height, width] -> [batch, channels_out, height, width]."""
        return self._conv_forward(x, self.weight * self.gain, self.bias)


class Up(nn.Sequential):
    """Two convolutions, each followed by a leaky ReLU and `pixel_norm`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(EqualizedConv(channels_in, channels_out, 3), EqualizedConv(channels_out, channels_out, 3))

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, height, width] -> [batch, channels_out, height, width]."""
        for conv in self:
            x = pixel_norm(F.leaky_relu(conv(x), 0.2))
        return x


class Down(nn.Sequential):
    """Two convolutions with leaky ReLUs, then every 2 x 2 pixels averaged."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(EqualizedConv(channels_in, channels_in, 3), EqualizedConv(channels_in, channels_out, 3))

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, height, width] -> [batch, channels_out, height / 2, width / 2]."""
        for conv in self:
            x = F.leaky_relu(conv(x), 0.2)
        return F.avg_pool2d(x, 2)


def pixel_norm(x: Tensor) -> Tensor:
    """The channels of every pixel divided by their root mean square, so that numbers cannot race (section 4.2)."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def whole_and_fade(level: Tensor) -> tuple[int, float]:
    """A level as the largest size that is on, and how far it has faded in: 2.25 is level 3, to a quarter; 2 is level 2, wholly."""
    whole = math.ceil(float(level))
    return whole, 1.0 + float(level) - whole


def level_at(images: int, last: int, kimg: float) -> float:
    """The level once `images` pictures were seen: every size takes `kimg` thousand to fade in and as many to settle (section 3)."""
    phase, within = divmod(images / (1000 * kimg), 2)  # settle, then fade the next in
    return min(phase + max(within - 1, 0.0), float(last))
