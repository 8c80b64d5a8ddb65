"""DCGAN (Radford et al. 2016, arXiv:1511.06434), small: the first GAN of convolutions that trained well. Taught in notebook 10.

Transposed convolutions without pooling or hidden linear layers, batch norm, ReLU; it has no mapping network: its w is z.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent.types import Image, W, Ws, Z


class DCGAN(nn.Module):
    """100 random numbers to 64 pixels (figure 1 of the paper). A `Generator`."""

    num_layers, resolution = 1, 64

    def __init__(self, width: int = 32, z_dim: int = 100) -> None:
        super().__init__()
        self.width, self.z_dim, self.w_dim = width, z_dim, z_dim
        self.register_buffer("w_mean", torch.zeros(z_dim))
        layers: list[nn.Module] = [nn.ConvTranspose2d(z_dim, 8 * width, 4, bias=False)]
        for channels in (8 * width, 4 * width, 2 * width, width):
            out = 3 if channels == width else channels // 2
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Tanh()).apply(_small_weights)

    def mapping(self, z: Z) -> W:
        """z itself: [batch, 100] -> [batch, 100]."""
        return z

    def synthesis(self, ws: Ws) -> Image:
        """[batch, 1, 100] -> [batch, 3, 64, 64] in [-1, 1]."""
        return self(ws[:, 0])

    def forward(self, z: Z) -> Image:
        """[batch, 100] -> [batch, 3, 64, 64] in [-1, 1]."""
        return self.layers(z[:, :, None, None]).float()


class DCGANDiscriminator(nn.Module):
    """Its opponent: strided convolutions, batch norm, leaky ReLU."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2)]
        for channels in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(2 * channels),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, bias=False)).apply(_small_weights)

    def forward(self, image: Image) -> Float[Tensor, " batch"]:
        """The score: [batch, 3, 64, 64] -> [batch], large for real."""
        return self.layers(image).flatten().float()


def _small_weights(module: nn.Module) -> None:
    """Normal numbers of deviation 0.02 (section 4)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
