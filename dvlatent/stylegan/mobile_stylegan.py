"""MobileStyleGAN: 1024 x 1024 faces from eight million numbers (Belousov 2021, arXiv:2104.04767). Taught in notebook 03.

A light StyleGAN2 (Karras et al. 2020): depthwise convolutions, and layers that grow by the inverse of the Haar wavelet.
A w of its own steers every layer, 16 in all, coarse to fine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.stylegan.strips import FLOATS, in_strips
from dvlatent.types import Image, W, Ws, Z

Features = Float[Tensor, "batch channel height width"]  # channels last in memory

CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64)  # of the 4-pixel layer, then of each block: 8, 16 ... 512 pixels


class MobileStyleGAN(nn.Module):
    """The face generator: `mapping(z) -> w`, `synthesis(ws) -> image`, and `preview(ws)`, small and quick.

    Load it with `dvlatent.load("faces")`. The noise of StyleGAN is frozen into it: the same ws give the same picture.
    """

    z_dim = 512
    w_dim = 512
    num_layers = 16  # conv1, then two for each of seven blocks, then the picture
    resolution = 1024

    def __init__(self) -> None:
        super().__init__()
        self.mapping_layers = nn.ModuleList(nn.Linear(512, 512) for _ in range(8))
        self.constant = nn.Parameter(torch.empty(1, 512, 4, 4))
        self.conv1 = FirstConv(512, size_px=4)
        self.blocks = nn.ModuleList(Block(CHANNELS[i], CHANNELS[i + 1], size_px=8 << i) for i in range(7))
        self.to_image = ToImage(64)
        self.register_buffer("w_mean", torch.zeros(512))
        self.preview_head: nn.Module | None = None

    def mapping(self, z: Z) -> W:
        """Random vectors to coordinates, [batch, 512] each: unit RMS, then eight layers (Karras et al. 2019, section 2)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ShapeError(f"mapping takes z of shape [batch, {self.z_dim}]; this has {list(z.shape)}. Try normal(seed, {self.z_dim}).")
        x = z.to(self.w_mean.dtype)
        x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping_layers:
            x = F.leaky_relu(layer(x), 0.2) * 2**0.5
        return x.to(z.dtype)

    def synthesis(self, ws: Ws) -> Image:
        """Coordinates to picture: [batch, 16, 512] -> [batch, 3, 1024, 1024] in about [-1, 1]; gradients reach every w.

        On two CPU cores a face takes about a quarter of a second, with its gradient about a second. Raises ShapeError for other shapes.
        """
        return _each(lambda one: self.features(one, blocks=7), ws, self.w_mean.dtype)

    def preview(self, ws: Ws) -> Image:
        """A small picture: [batch, 16, 512] -> [batch, 3, 256, 256], through a small head on the inner features.

        Close to the full picture resized by area (MEASUREMENTS.md has the numbers), in about half the time. A processor made for bfloat16
        halves it again, with an invisible rounding (50 dB): `with torch.autocast("cpu", torch.bfloat16): faces.preview(ws)`.
        """
        if self.preview_head is None:
            raise ShapeError("this generator has no preview head: load it with dvlatent.load('faces').")
        return _each(lambda one: self.preview_head(self.features(one, self.preview_head.blocks), one), ws, self.w_mean.dtype)

    def features(self, ws: Ws, blocks: int) -> Features:
        """The output of the first `blocks` blocks; after all seven, the picture. Raises ShapeError for other ws."""
        if ws.ndim != 3 or ws.shape[1:] != (self.num_layers, self.w_dim):
            raise ShapeError(
                f"synthesis takes ws of shape [batch, {self.num_layers}, {self.w_dim}]; this has {list(ws.shape)}. "
                f"One w per face becomes ws with broadcast(w, {self.num_layers})."
            )
        x = self.conv1(self.constant, ws[:, 0])  # [batch, 512, 4, 4]
        for i, block in enumerate(self.blocks[:blocks]):
            last = (self.to_image, ws[:, 15]) if i == 6 else None
            x = block(x, ws[:, 1 + 2 * i], ws[:, 2 + 2 * i], last)  # [batch, channels, 8 << i, 8 << i]
        return x


def _each(render: Callable[[Ws], Features], ws: Ws, dtype: torch.dtype) -> Image:
    """On a CPU one face after the other: several at once would not fit its cache, and take longer. On a GPU all at once.

    The network computes in its own `dtype`; the picture comes in that of ws.
    """
    if ws.is_cuda or len(ws) < 2:
        return render(ws.to(dtype)).to(ws.dtype).contiguous()
    return torch.cat([render(one.to(dtype)).to(ws.dtype).contiguous() for one in ws.split(1)])


class Modulated(nn.Module):
    """A layer steered by w: a style, A w + b, scales its input channels (Karras et al. 2020, equation 1)."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.modulation = nn.Linear(512, channels)
        self.scale = scale  # makes the output of a new layer of size one, "equalised learning rate" (Karras et al. 2018)

    def style(self, w: W) -> Float[Tensor, "batch channel 1 1"]:
        """The scale of each input channel; always in 32 bits, since a few numbers save nothing."""
        with torch.autocast(w.device.type, enabled=False):
            return (self.modulation(w) * self.scale)[:, :, None, None]


class FirstConv(Modulated):
    """A dense 3 x 3 styled convolution; demodulation (Karras et al. 2020, equation 3) is folded into the weights."""

    def __init__(self, channels: int, size_px: int) -> None:
        super().__init__(channels, scale=(channels * 9) ** -0.5)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.noise = nn.Parameter(torch.empty(size_px, size_px))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, constant: Tensor, w: W) -> Features:
        """[1, c, 4, 4] and [batch, 512] -> [batch, c, 4, 4]."""
        columns = F.unfold(constant * self.style(w), 3, padding=1)  # [batch, c * 9, 16]: torch is slow at convolving 4 pixels
        out = (self.weight.flatten(1) @ columns).unflatten(2, self.noise.shape)  # [batch, c, 4, 4]
        return _add_noise(out.contiguous(memory_format=torch.channels_last) + self.bias[:, None, None], self.noise)


class StyledConv(Modulated):
    """Depthwise 3 x 3, then 1 x 1, noise, bias, leaky ReLU; demodulation is folded into the 1 x 1 weights."""

    def __init__(self, channels_in: int, channels_out: int, size_px: int) -> None:
        super().__init__(channels_in, scale=(channels_in * 9) ** -0.5)
        self.depthwise = nn.Parameter(torch.empty(channels_in, 1, 3, 3))
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in))
        self.noise = nn.Parameter(torch.empty(size_px, size_px))
        self.bias = nn.Parameter(torch.empty(channels_out))

    def tensors(self) -> tuple[Tensor, ...]:
        """All that `convolve_rows` depends on besides its input and style."""
        return self.depthwise, self.weight, self.noise, self.bias


def convolve_rows(x: Features, start: int, stop: int, tensors: tuple[Tensor, ...]) -> Features:
    """Output rows [start, stop) of a StyledConv, from input rows [start - 1, stop + 1) as far as the layer has them."""
    depthwise, weight, noise, bias = tensors
    above, below = int(start == 0), int(stop == len(noise))  # at the edges of the picture a row of zeros
    if above != below:
        x = F.pad(x, (0, 0, above, below))
    x = F.conv2d(x, depthwise, padding=(above & below, 1), groups=len(depthwise))
    return _add_noise(F.conv2d(x, weight[:, :, None, None], bias), noise[start:stop])


class Up(Modulated):
    """Twice the size from a quarter of the channels, by the inverse Haar wavelet (Belousov 2021, section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, scale=0.5)  # the half of the wavelet


class Block(nn.Module):
    """One octave: up to twice the size, then two styled convolutions. Computed in strips where it is large."""

    def __init__(self, channels_in: int, channels_out: int, size_px: int) -> None:
        super().__init__()
        self.size_px = size_px
        self.up = Up(channels_in)
        self.conv1 = StyledConv(channels_in // 4, channels_out, size_px)
        self.conv2 = StyledConv(channels_out, channels_out, size_px)

    def forward(self, x: Features, w1: W, w2: W, last: tuple[ToImage, W] | None = None) -> Features:
        """[batch, c, h, h] -> [batch, c', 2h, 2h]; with `last`, on to the picture: [batch, 3, 4h, 4h]."""
        style1 = self.up.style(w1) * self.conv1.style(w1).repeat(1, 4, 1, 1)  # the wavelet keeps channels apart: scale once
        tensors = (style1, self.conv2.style(w2), *self.conv1.tensors(), *self.conv2.tensors())
        if last is not None:
            tensors += (last[0].style(last[1]), last[0].weight, last[0].bias)
        widest = self.size_px * self.conv2.weight.shape[0]  # numbers in a row of the widest layer
        room = FLOATS * 4 // x.element_size()  # rounded ones take half the memory
        if x.is_cuda or widest * self.size_px <= 2 * room:  # small, or a GPU: all at once
            return _block_rows(x, 0, self.size_px, tensors)
        return in_strips(_block_rows, self._needs, x, tensors, self.size_px, max(1, room // widest))

    def _needs(self, start: int, stop: int) -> tuple[int, int]:
        """Rows of the input that output rows [start, stop) depend on: two more on each side, at half the size."""
        return max(start - 2, 0) // 2, -(-min(stop + 2, self.size_px) // 2)


def _block_rows(x: Features, start: int, stop: int, tensors: tuple[Tensor, ...]) -> Features:
    """Output rows [start, stop) of a Block, from the input rows that they need."""
    style1, style2, *rest = tensors
    conv1, conv2, to_image = tuple(rest[:4]), tuple(rest[4:8]), rest[8:]
    height = len(conv1[2])
    inner = max(start - 1, 0), min(stop + 1, height)  # rows of conv1 that conv2 needs
    above = max(inner[0] - 1, 0)  # first row that conv1 needs; the wavelet gives rows in pairs, from an even one
    x = inverse_haar(x * style1.to(x.dtype))[:, :, above % 2 : above % 2 + min(inner[1] + 1, height) - above]
    x = convolve_rows(x, *inner, conv1)
    x = convolve_rows(x * style2.to(x.dtype), start, stop, conv2)
    if to_image:
        style, weight, bias = to_image
        x = inverse_haar(F.conv2d(x * style.to(x.dtype), weight[:, :, None, None], bias * 0.5))
    return x


class ToImage(Modulated):
    """The last layer: a modulated 1 x 1 convolution to 12 channels, which the wavelet folds into 3 at twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, scale=0.5 * channels**-0.5)  # with the half of the wavelet
        self.weight = nn.Parameter(torch.empty(12, channels))
        self.bias = nn.Parameter(torch.empty(12))


class _InverseHaar(torch.autograd.Function):
    """[batch, 4c, h, w] -> [batch, c, 2h, 2w] (Haar 1910), for bands that were halved before.

    The channels are four bands: the mean, and the differences across rows, across columns and across both.
    The transform is orthogonal up to that half, so its gradient is the forward transform of the gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        out = x.new_empty(batch, height, 2, width, 2, channels // 4)
        ll, lh, hl, hh = x.permute(0, 2, 3, 1).split(channels // 4, dim=-1)  # each [batch, h, w, c]
        for row, (mean, difference) in enumerate([(ll + lh, hl + hh), (ll - lh, hl - hh)]):
            torch.add(mean, difference, out=out[:, :, row, :, 0])
            torch.sub(mean, difference, out=out[:, :, row, :, 1])
        return out.view(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        return haar(grad)


def haar(x: Features) -> Features:
    """The forward transform, the transpose of `inverse_haar` and four times its inverse: [batch, c, 2h, 2w] -> [batch, 4c, h, w]."""
    batch, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    (a, b), (c, d) = [[pixels[:, :, row, :, column] for column in (0, 1)] for row in (0, 1)]
    top, bottom, top_change, bottom_change = a + b, c + d, a - b, c - d
    bands = (top + bottom, top - bottom, top_change + bottom_change, top_change - bottom_change)
    return torch.cat(bands, dim=-1).permute(0, 3, 1, 2)


def inverse_haar(x: Features) -> Features:
    """Four bands of halved channels to twice the size: [batch, 4c, h, w] -> [batch, c, 2h, 2w] (Belousov 2021, section 3.1)."""
    return _InverseHaar.apply(x)


def _add_noise(x: Features, noise: Float[Tensor, "height width"]) -> Features:
    """Add the noise and apply the leaky ReLU, in place."""
    return F.leaky_relu_(x.add_(noise.to(x.dtype)), 0.2)
