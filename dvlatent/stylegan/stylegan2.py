"""StyleGAN2's generator (Karras et al. 2020, arXiv:1912.04958) in plain PyTorch: a mapping network, and a synthesis network of skip blocks.

The shapes are those of NVIDIA's stylegan2-ada-pytorch, so that its weights fit (`dvlatent convert`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image, W, Ws, Z

Features = Float[Tensor, "batch channel height width"]
NOISES = ("const", "random", "none")


@dataclass(frozen=True)
class StyleGAN2Config:
    """The sizes of a generator; the defaults are config f at 1024 px."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64, 32)  # of the 4-pixel block, then of 8, 16 ... pixels
    z_dim: int = 512  # numbers in a z
    w_dim: int = 512  # numbers in a w
    classes: int = 0  # labels that steer the mapping network; 0 for none
    mapping_layers: int = 8
    lr_multiplier: float = 0.01  # of the mapping network: it learns a hundred times slower
    colors: int = 3  # channels of the picture: 3, or 1 for gray
    clamp: float = 0.0  # features stay within plus and minus this number, as a network trained in 16 bits expects; 0 for no limit


class StyleGAN2(nn.Module):
    """`mapping(z) -> w` and `synthesis(ws) -> image`; a new one draws patterns, since nobody has trained it.

    The noise of `synthesis` is "const" (the same ws give the same picture), "random" or "none".
    """

    def __init__(self, config: StyleGAN2Config = StyleGAN2Config()) -> None:
        super().__init__()
        self.config = config
        self.z_dim, self.w_dim, self.classes = config.z_dim, config.w_dim, config.classes
        self.resolution = 4 << (len(config.channels) - 1)
        self.num_layers = 2 * len(config.channels)  # two for each block, the last one for the picture: 18 at 1024 px
        if config.classes:
            self.embedding = Linear(config.classes, config.w_dim)
        first = config.z_dim + (config.w_dim if config.classes else 0)
        sizes = [first] + [config.w_dim] * config.mapping_layers
        self.mapping_layers = nn.ModuleList(Linear(a, b, config.lr_multiplier) for a, b in pairwise(sizes))
        self.constant = nn.Parameter(torch.randn(config.channels[0], 4, 4))
        sizes = (0, *config.channels)  # of the features that each block receives; the first has the constant
        self.blocks = nn.ModuleList(Block(a, b, 4 << i, config) for i, (a, b) in enumerate(pairwise(sizes)))
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        self.to(memory_format=torch.channels_last)  # the FIR filters take half the time on a CPU

    def mapping(self, z: Z, labels: Int[Tensor, " batch"] | None = None) -> W:
        """Random vectors to coordinates: [batch, z_dim] -> [batch, w_dim] (Karras et al. 2019, section 2).

        In a network with classes, `labels` [batch] says which; without labels, the largest of the first numbers of z decides.
        Raises ShapeError for another z, and for labels that do not fit.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ShapeError(f"mapping takes z of shape [batch, {self.z_dim}]; this has {list(z.shape)}. Try normal(seed, {self.z_dim}).")
        if labels is not None and (list(labels.shape) != [len(z)] or not all(0 <= one < self.classes for one in labels.tolist())):
            raise ShapeError(f"labels are one whole number from 0 to {self.classes - 1} for each z; this has {labels.tolist()[:8]}.")
        x = unit_rms(z.to(self.w_mean.dtype))
        if self.classes:
            labels = z[:, : self.classes].argmax(1) if labels is None else labels
            x = torch.cat([x, unit_rms(self.embedding(F.one_hot(labels, self.classes).to(x)))], dim=1)
        for layer in self.mapping_layers:
            x = F.leaky_relu(layer(x), 0.2) * 2**0.5
        return x.to(z.dtype)

    def synthesis(self, ws: Ws, noise: str = "const") -> Image:
        """Coordinates to pictures: [batch, num_layers, w_dim] -> [batch, 3, resolution, resolution] in about [-1, 1].

        Every block adds its own small picture to the one so far, which grows by `upsample` (Karras et al. 2020, figure 7).
        Raises ShapeError for other shapes, and for a noise that does not exist.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_layers, self.w_dim):
            raise ShapeError(
                f"synthesis takes ws of shape [batch, {self.num_layers}, {self.w_dim}]; this has {list(ws.shape)}. "
                f"One w per face becomes ws with broadcast(w, {self.num_layers})."
            )
        if noise not in NOISES:
            raise ShapeError(f"there is no noise '{noise}': say one of {', '.join(NOISES)}.")
        given, ws = ws.dtype, ws.to(self.w_mean.dtype)
        x, image = self.constant.expand(len(ws), -1, -1, -1), None
        for i, block in enumerate(self.blocks):
            styles = ws[:, max(2 * i - 1, 0) : 2 * i + 2]  # the w of the picture is the first of the next block
            x, picture = block(x, styles, noise)  # [batch, channels, 4 << i, 4 << i]
            image = picture if image is None else upsample(image) + picture
        return image.expand(-1, 3, -1, -1).to(given).contiguous()


class Linear(nn.Module):
    """A layer whose weights are stored at size one and scaled when used: "equalized learning rate" (Karras et al. 2018, section 4.1)."""

    def __init__(self, channels_in: int, channels_out: int, lr_multiplier: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((channels_out,), bias))
        self.lr_multiplier, self.gain = lr_multiplier, lr_multiplier * channels_in**-0.5

    def forward(self, x: Float[Tensor, "batch in"]) -> Float[Tensor, "batch out"]:
        """[batch, channels_in] -> [batch, channels_out]."""
        return F.linear(x, self.weight * self.gain, self.bias * self.lr_multiplier)


class StyledConv(nn.Module):
    """A modulated 3 x 3 convolution, noise, bias and leaky ReLU; with `up`, to twice the size."""

    def __init__(self, channels_in: int, channels_out: int, size_px: int, config: StyleGAN2Config, *, up: bool = False) -> None:
        super().__init__()
        self.up, self.clamp = up, config.clamp
        self.style = Linear(config.w_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(size_px, size_px))

    def forward(self, x: Features, w: W, noise: str) -> Features:
        """[batch, channels_in, h, w] -> [batch, channels_out, size_px, size_px]."""
        x = modulated_conv(x, self.weight, self.style(w), up=self.up)
        if noise != "none":
            grain = self.noise if noise == "const" else torch.randn_like(x[:, :1])
            x += (grain * self.noise_strength).to(x.dtype)
        x += self.bias[:, None, None].to(x.dtype)
        return _clamped(F.leaky_relu(x, 0.2).mul_(2**0.5), self.clamp)


class ToImage(nn.Module):
    """A modulated 1 x 1 convolution to colors, without demodulation."""

    def __init__(self, channels: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.clamp = config.clamp
        self.style = Linear(config.w_dim, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(config.colors, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.colors))

    def forward(self, x: Features, w: W) -> Features:
        """[batch, channels, h, w] -> [batch, colors, h, w]."""
        style = self.style(w) * x.shape[1] ** -0.5
        return _clamped(modulated_conv(x, self.weight, style, demodulate=False) + self.bias[:, None, None], self.clamp)


class Block(nn.Module):
    """One octave: `conv0` doubles the size (the first block has none), `conv1` refines, `to_image` draws."""

    def __init__(self, channels_in: int, channels_out: int, size_px: int, config: StyleGAN2Config) -> None:
        super().__init__()
        if channels_in:
            self.conv0 = StyledConv(channels_in, channels_out, size_px, config, up=True)
        self.conv1 = StyledConv(channels_out, channels_out, size_px, config)
        self.to_image = ToImage(channels_out, config)

    def forward(self, x: Features, ws: Ws, noise: str) -> tuple[Features, Features]:
        """Features and their w's -> features of this block, and its picture."""
        if hasattr(self, "conv0"):
            x = self.conv0(x, ws[:, 0], noise)
        x = self.conv1(x, ws[:, -2], noise)
        return x, self.to_image(x, ws[:, -1])


def unit_rms(x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Every row divided by its root mean square (Karras et al. 2018, section 4.2)."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def modulated_conv(
    x: Features,
    weight: Float[Tensor, "out in k k"],
    style: Float[Tensor, "batch in"],
    *,
    up: bool = False,
    demodulate: bool = True,
    grouped: bool = False,
) -> Features:
    """A convolution whose input channels are scaled by the style, and whose output is brought back to size one (equations 1 and 3).

    Scaling the filters of each picture, as the paper says it (`grouped`), equals scaling the features before and after one shared
    convolution, which is the faster of the two on a processor: this is done otherwise.
    """
    if grouped:
        filters = weight * style[:, None, :, None, None]  # [batch, out, in, k, k]
        if demodulate:
            filters = filters * torch.rsqrt(filters.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = _convolve(x.reshape(1, -1, *x.shape[2:]), filters, up)
        return x.reshape(len(style), -1, *x.shape[2:])
    x = _convolve(x * style[:, :, None, None].to(x.dtype), weight[None], up)
    if demodulate:
        power = style.square() @ weight.square().sum(dim=(2, 3)).T  # [batch, out]
        x = x * torch.rsqrt(power + 1e-8)[:, :, None, None].to(x.dtype)
    return x


def _convolve(x: Features, filters: Float[Tensor, "group out in k k"], up: bool) -> Features:
    """Groups of channels, each with filters of its own; with `up`, to twice the size, smoothed by the FIR filter."""
    groups, size = len(filters), filters.shape[-1]
    if not up:
        return F.conv2d(x, filters.flatten(0, 1), padding=size // 2, groups=groups)
    x = F.conv_transpose2d(x, filters.transpose(1, 2).flatten(0, 1), stride=2, groups=groups)  # [., ., 2h + 1, 2w + 1]
    return smooth(x, padding=1, gain=4)


def smooth(x: Features, padding: int, gain: float = 1.0) -> Features:
    """The FIR filter [1, 3, 3, 1], both ways: [batch, channel, h, w] -> h and w grow by 2 * padding - 3."""
    return F.conv2d(x, gain * _fir(x), padding=padding, groups=x.shape[1])


def upsample(x: Features) -> Features:
    """To twice the size: zeros between the pixels, then the FIR filter [1, 3, 3, 1] (Karras et al. 2020, appendix B)."""
    return F.conv_transpose2d(x, 4 * _fir(x), stride=2, padding=1, groups=x.shape[1])


def _fir(x: Features) -> Float[Tensor, "channel 1 4 4"]:
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)


def _clamped(x: Features, most: float) -> Features:
    return x.clamp(-most, most) if most else x
