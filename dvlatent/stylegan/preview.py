"""The preview head itself: from the generator's 128-pixel features to a 256-pixel picture. `recipes/preview.py` is its training.

A slim copy of the generator's last octaves: thin styled convolutions, then one wavelet step to pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.stylegan.mobile_stylegan import Features, inverse_haar
from dvlatent.types import Image, Ws


class PreviewHead(nn.Module):
    """[batch, 256, 128, 128] features and ws -> [batch, 3, 256, 256]."""

    blocks = 5  # it reads what the generator's first five blocks made: 128 x 128 pixels
    channels = 256
    size_px = 128
    reads = slice(11, 16)  # the layers of ws whose work it takes over

    def __init__(self, width: int = 96, rank: int = 128) -> None:
        super().__init__()
        self.width, self.rank = width, rank
        self.styles = nn.Linear((self.reads.stop - self.reads.start) * 512, rank)  # what the finer w's say, in a few numbers
        self.first = ThinConv(self.channels, width, rank, spatial=False)
        self.convs = nn.ModuleList([ThinConv(width, width, rank), ThinConv(width, width, rank)])
        self.to_image = ThinConv(width, 12, rank, spatial=False)
        self.linear = nn.Conv2d(self.channels, 12, 3, padding=1)  # most of the picture
        nn.init.zeros_(self.to_image.weight)

    def forward(self, features: Features, ws: Ws, corner: Tensor | None = None) -> Image:
        """The picture: [batch, 3, 256, 256].

        With `corner` [batch, 2], the features are only a square of the whole that begins there; training uses it.
        """
        style = self.styles(ws[:, self.reads].flatten(1))  # [batch, rank]
        bands = self.linear(features)  # [batch, 12, 128, 128]: the four bands of the wavelet for red, green and blue
        x = F.leaky_relu_(self.first(features, style), 0.2)
        for conv in self.convs:
            x = F.leaky_relu_(conv(x, style).add_(_part(conv.noise, corner, x.shape[-1]).to(x.dtype)), 0.2)
        return inverse_haar(bands + self.to_image(x, style))


class ThinConv(nn.Module):
    """Depthwise 3 x 3 if `spatial`, then 1 x 1; a linear layer reads the scale of each input channel from the style."""

    def __init__(self, channels_in: int, channels_out: int, rank: int, *, spatial: bool = True) -> None:
        super().__init__()
        self.style = nn.Linear(rank, channels_in)
        nn.init.normal_(self.style.weight, std=0.01)
        nn.init.ones_(self.style.bias)
        self.depthwise = nn.Parameter(torch.zeros(channels_in, 1, 3, 3)) if spatial else None
        self.noise = nn.Parameter(torch.zeros(PreviewHead.size_px, PreviewHead.size_px)) if spatial else None  # frozen, as the generator's
        if self.depthwise is not None:
            nn.init.dirac_(self.depthwise, groups=channels_in)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 1, 1) * channels_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Features, style: Tensor) -> Features:
        """[batch, channels_in, h, w] and [batch, rank] -> [batch, channels_out, h, w]."""
        x = x * self.style(style)[:, :, None, None]
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        return F.conv2d(x, self.weight, self.bias)


def _part(noise: Tensor, corner: Tensor | None, side: int) -> Tensor:
    """All of the noise, or the square of it that belongs to features from `corner` on: [batch, 1, side, side]."""
    if corner is None:
        return noise
    return torch.stack([noise[y : y + side, x : x + side] for y, x in corner.tolist()])[:, None]
