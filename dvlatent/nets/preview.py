"""The preview head: from the generator's 64-pixel features to a 256-pixel picture, without the costly rest.

A slim copy of the generator's own last octaves: one wavelet step up, three thin styled convolutions, one step to pixels.
`dvlatent train preview` trains it on the generator's own pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.nets.mobile_stylegan import Features, inverse_haar
from dvlatent.types import Image, Ws


class PreviewHead(nn.Module):
    """[batch, 512, 64, 64] features and ws -> [batch, 3, 256, 256]."""

    blocks = 4  # it reads what the generator's first four blocks made: 64 x 64 pixels
    reads = slice(9, 16)  # the layers of ws whose work it takes over

    def __init__(self, width: int = 96, rank: int = 64) -> None:
        super().__init__()
        self.width, self.rank = width, rank
        layers = self.reads.stop - self.reads.start
        self.styles = nn.Linear(layers * 512, rank)  # what the finer w's say, in few numbers; see `read_like`
        self.up = nn.Linear(rank, 512)
        nn.init.normal_(self.up.weight, std=0.01)
        nn.init.constant_(self.up.bias, 0.5)  # the half of the wavelet
        self.convs = nn.ModuleList([ThinConv(128, width, 0), ThinConv(width, width, rank), ThinConv(width, width, rank)])
        self.to_image = ThinConv(width, 12, rank, spatial=False)
        self.skip = ThinConv(128, 12, 0, spatial=False)

    @torch.no_grad()
    def read_like(self, generator: MobileStyleGAN, ws: Ws) -> None:
        """Start reading ws as the generator does: the principal components of the styles of the layers that the head replaces.

        `ws` are a few thousand latents of the kind to expect. Learning this from pictures would take many more of them.
        """
        replaced = [
            (layer.modulation, 2 * i + offset)
            for i, block in enumerate(generator.blocks[4:])
            for layer, offset in ((block.up, 0), (block.conv1, 0), (block.conv2, 1))
        ] + [(generator.to_image.modulation, 6)]
        weight = torch.zeros(sum(modulation.out_features for modulation, _ in replaced), 7, 512)
        row = 0
        for modulation, layer in replaced:
            weight[row : row + modulation.out_features, layer] = modulation.weight
            row += modulation.out_features
        weight = weight.flatten(1)  # [styles, 7 * 512]
        inputs = ws[:, self.reads].flatten(1)
        styles = inputs @ weight.T
        centre = styles.mean(0)
        _, spread, axes = torch.linalg.svd(styles - centre, full_matrices=False)
        whiten = axes[: self.rank] / (spread[: self.rank, None] / len(ws) ** 0.5)  # [rank, styles]
        self.styles.weight.copy_(whiten @ weight)
        self.styles.bias.copy_(-whiten @ centre)

    def forward(self, features: Features, ws: Ws, corner: Tensor | None = None) -> Image:
        """A 256-pixel look at the face that these features and ws become.

        `corner` [batch, 2] says where features that are only a square of the whole begin; training uses it.
        """
        style = self.styles(ws[:, self.reads].flatten(1))  # [batch, rank]
        x = inverse_haar(features * self.up(style)[:, :, None, None])  # [batch, 128, 128, 128]
        bands = self.skip(x, style)
        for conv in self.convs:
            x = F.leaky_relu_(conv(x, style).add_(_part(conv.noise, corner, x.shape[-1])), 0.2)
        return inverse_haar(bands + self.to_image(x, style))


def _part(noise: Tensor, corner: Tensor | None, side: int) -> Tensor:
    """All of the noise, or the square of it that belongs to features from `corner` on: [batch, 1, side, side]."""
    if corner is None:
        return noise
    return torch.stack([noise[2 * y : 2 * y + side, 2 * x : 2 * x + side] for y, x in corner.tolist()])[:, None]


class ThinConv(nn.Module):
    """Depthwise 3 x 3, then 1 x 1; with a rank, its input channels are scaled by a linear reading of the style."""

    def __init__(self, channels_in: int, channels_out: int, rank: int, *, spatial: bool = True) -> None:
        super().__init__()
        self.style = nn.Linear(rank, channels_in) if rank else None
        if self.style is not None:
            nn.init.normal_(self.style.weight, std=0.01)
            nn.init.ones_(self.style.bias)
        self.depthwise = nn.Parameter(torch.zeros(channels_in, 1, 3, 3)) if spatial else None
        self.noise = nn.Parameter(torch.zeros(128, 128)) if spatial else None  # frozen into the generator, learned here
        if self.depthwise is not None:
            nn.init.dirac_(self.depthwise, groups=channels_in)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 1, 1) * channels_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Features, style: Tensor) -> Features:
        """[batch, channels_in, h, w] and [batch, rank] -> [batch, channels_out, h, w]."""
        if self.style is not None:
            x = x * self.style(style)[:, :, None, None]
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        return F.conv2d(x, self.weight, self.bias)
