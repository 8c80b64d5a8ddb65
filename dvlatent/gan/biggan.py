"""BigGAN (Brock et al. 2019, arXiv:1809.11096), small: a network of many classes, steered at every level. Taught in notebook 10.

What it gathered: one shared embedding of the class, a piece of z for every block, class-conditional batch norm, self-attention,
the hinge loss, spectral norm, orthogonal regularization, and a dial between fidelity and variety: the truncation trick.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from dvlatent.types import Image, Z

Features = Float[Tensor, "batch channel height width"]
Labels = Int[Tensor, " batch"]


class BigGAN(nn.Module):
    """64 random numbers and a class to a gray picture of 28 x 28: 7, 14, then 28 pixels (appendix B)."""

    def __init__(self, width: int = 24, z_dim: int = 64, classes: int = 10, embedding: int = 32) -> None:
        super().__init__()
        self.width, self.z_dim, self.classes, self.embedding = width, z_dim, classes, embedding
        self.shared = nn.Embedding(classes, embedding)
        sizes = [len(piece) for piece in torch.zeros(z_dim).tensor_split(3)]  # skip z: one piece for each place where it enters
        self.first = spectral_norm(nn.Linear(sizes[0] + embedding, 2 * width * 49))
        self.blocks = nn.ModuleList([UpBlock(2 * width, 2 * width, sizes[1] + embedding), UpBlock(2 * width, width, sizes[2] + embedding)])
        self.attention = Attention(2 * width)  # at 14 pixels
        self.norm = nn.BatchNorm2d(width)
        self.last = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Z, labels: Labels) -> Image:
        """[batch, z_dim] and classes [batch] -> [batch, 1, 28, 28] in [-1, 1]."""
        embedded = self.shared(labels)
        conditions = [torch.cat([embedded, piece], dim=1) for piece in z.tensor_split(3, dim=1)]
        x = self.first(conditions[0]).view(len(z), -1, 7, 7)
        x = self.attention(self.blocks[0](x, conditions[1]))
        x = F.relu(self.norm(self.blocks[1](x, conditions[2])))
        return torch.tanh(self.last(x).float())


class BigDiscriminator(nn.Module):
    """A gray picture and a class to one number: how real it looks as that class (Miyato and Koyama 2018)."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([DownBlock(1, width), DownBlock(width, 2 * width), DownBlock(2 * width, 4 * width, down=False)])
        self.attention = Attention(2 * width)  # at 7 pixels
        self.last = spectral_norm(nn.Linear(4 * width, 1))
        self.embedding = spectral_norm(nn.Embedding(classes, 4 * width))
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Image, labels: Labels) -> Float[Tensor, " batch"]:
        """The score: [batch, 1, 28, 28] and classes [batch] -> [batch], large for real."""
        x = self.attention(self.blocks[1](self.blocks[0](image)))
        x = F.relu(self.blocks[2](x)).sum(dim=(2, 3))  # [batch, 4 width]
        return self.last(x)[:, 0] + (x * self.embedding(labels)).sum(1)


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift are read from the class and a piece of z (de Vries et al. 2017)."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = (spectral_norm(nn.Linear(condition, channels, bias=False)) for _ in range(2))

    def forward(self, x: Features, condition: Float[Tensor, "batch condition"]) -> Features:
        """Normalize every channel over the batch, then (1 + scale) x + shift."""
        return self.norm(x) * (1 + self.scale(condition))[:, :, None, None] + self.shift(condition)[:, :, None, None]


class UpBlock(nn.Module):
    """Residual block to twice the size: norm, ReLU, grow, convolve, twice; a shortcut beside it (figure 15b)."""

    def __init__(self, channels_in: int, channels_out: int, condition: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalNorm(channels, condition) for channels in (channels_in, channels_out))
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(size, channels_out, 3, padding=1)) for size in (channels_in, channels_out))
        self.shortcut = spectral_norm(nn.Conv2d(channels_in, channels_out, 1))

    def forward(self, x: Features, condition: Float[Tensor, "batch condition"]) -> Features:
        """[batch, channels_in, height, width] -> [batch, channels_out, 2 height, 2 width]."""
        y = F.interpolate(F.relu(self.norms[0](x, condition)), scale_factor=2)
        y = self.convs[1](F.relu(self.norms[1](self.convs[0](y), condition)))
        return y + F.interpolate(self.shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    """Residual block to half the size (figure 15c); the last one keeps the size."""

    def __init__(self, channels_in: int, channels_out: int, *, down: bool = True) -> None:
        super().__init__()
        self.down = down
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(size, channels_out, 3, padding=1)) for size in (channels_in, channels_out))
        self.shortcut = spectral_norm(nn.Conv2d(channels_in, channels_out, 1))

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, height, width] -> [batch, channels_out, ...]."""
        y = self.convs[1](F.relu(self.convs[0](F.relu(x) if x.shape[1] > 1 else x))) + self.shortcut(x)
        return F.avg_pool2d(y, 2) if self.down else y


class Attention(nn.Module):
    """Every pixel looks at all pixels and takes a weighted sum of what it finds there (Zhang et al. 2019, SAGAN, equations 1 to 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (spectral_norm(nn.Conv2d(channels, channels // 8, 1, bias=False)) for _ in range(2))
        self.value = spectral_norm(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.out = spectral_norm(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.gate = nn.Parameter(torch.zeros(()))  # closed at first: the network learns near things before far ones

    def forward(self, x: Features) -> Features:
        """[batch, channels, height, width] -> the same shape."""
        query, key, value = (one(x).flatten(2) for one in (self.query, self.key, self.value))  # [batch, some, pixel]
        weight = (query.transpose(1, 2) @ key).softmax(dim=2)  # [batch, pixel, pixel]: how much each looks at each
        found = (value @ weight.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return x + self.gate * self.out(found)


def orthogonal_penalty(network: nn.Module, beta: float = 1e-4) -> Tensor:
    """beta ||W Wᵀ * (1 - I)||² of each weight, one filter a row (equation 3): different filters shall not repeat each other.

    W Wᵀ and Wᵀ W have the same sum of squares; the smaller one is computed. The shared embedding is left out.
    """
    total = torch.zeros(())
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and not name.startswith("shared"):
            rows = weight.flatten(1)
            gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
            total = total + gram.square().sum() - rows.square().sum(1).square().sum()
    return beta * total


def truncated_normal(count: int, dim: int, threshold: float, rng: torch.Generator | None = None) -> Z:
    """Normal numbers, those beyond plus or minus `threshold` drawn again (section 3.1): [count, dim]. A small one: typical pictures."""
    z = torch.randn(count, dim, generator=rng)
    while (far := z.abs() > threshold).any():
        z[far] = torch.randn(int(far.sum()), generator=rng)
    return z
