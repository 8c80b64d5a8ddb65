"""Training an autoencoder: make the picture that comes out equal the one that went in. Taught in notebook 02."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dvlatent.autoencoder.model import Autoencoder, Code
from dvlatent.errors import ShapeError
from dvlatent.gan.data import Warp
from dvlatent.types import Image


@dataclass(frozen=True)
class AutoencoderTrainConfig:
    """How an autoencoder is trained."""

    steps: int = 2500  # optimiser steps
    batch: int = 64  # pictures in a step
    lr: float = 5e-3  # Adam's learning rate at its highest; it falls to 0 along a cosine
    shake: float = 0.0  # how strongly pictures are shifted, turned and slanted before the encoder sees them; 1 suits digits
    sigma: float = 0.3  # how far a pixel of ink may be off (one standard deviation): the smaller, the weaker the pull on the clouds
    focus: float = 0.0  # 0: every pixel counts alike; above, the middle counts more, and so a face more than what is behind it
    seed: int = 0  # of the first weights and of all that is drawn


@dataclass(frozen=True)
class AutoencoderStep:
    """One step: how far it is, and how well it goes."""

    index: int
    error: float  # mean squared error of a pixel of this batch, ink from 0 to 1
    nats: float  # mean information in the clouds of this batch (the KL divergence); infinite for points
    net: Autoencoder  # the one in training, ready to use


def train_autoencoder(images: Image, net: Autoencoder, config: AutoencoderTrainConfig | None = None) -> Iterator[AutoencoderStep]:
    """Train `net` on the pictures from fresh weights: one EncodeStep per optimiser step; stop whenever you like.

    With `shake` the encoder sees a picture moved by chance, while the decoder must draw it as it was (a denoising autoencoder,
    Vincent et al. 2008): what is chance about a picture is then not worth any room in the code.
    The loss of a picture is its squared error / 2 σ², summed over pixels; a variational net adds its nats, and that sum is the negative
    evidence lower bound up to a constant (Kingma and Welling 2014, equation 10). `images` may be uint8 [picture, channel, side, side].
    Raises ShapeError for an empty batch. After each step the net is in training mode; call `net.eval()` before you use it.
    """
    config = config or AutoencoderTrainConfig()
    if len(images) < 2 or config.batch < 2 or config.steps < 1 or config.sigma <= 0:
        raise ShapeError(f"training needs two pictures, a batch of two, a step and a sigma above 0; given {len(images)} and {config}.")
    rng = torch.Generator().manual_seed(config.seed)
    restart(net, rng)
    weight = attention(net.config.side, config.focus)  # [side, side]
    shake = Warp(shift_px=config.shake, turn_degrees=17 * config.shake, zoom=0.0, shear=0.4 * config.shake, elastic_px=0.0)
    adam = torch.optim.Adam(net.parameters(), lr=config.lr)
    net.train()
    for index in range(config.steps):
        for group in adam.param_groups:
            group["lr"] = config.lr * min(1.0, (index + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * index / config.steps))
        batch = as_float(images[torch.randint(len(images), (config.batch,), generator=rng)])
        seen = shake(batch, shake.draw(config.batch, rng)) if config.shake else batch
        middle, log_variance = net.posterior(seen)
        square = ((net.decode(sample(middle, log_variance, rng)) - batch) / 2).square()  # of ink from 0 to 1
        nats = information(middle, log_variance).mean() if net.config.variational else torch.tensor(math.inf)
        loss = (square * weight).sum(dim=(1, 2, 3)).mean() / (2 * config.sigma**2)
        adam.zero_grad()
        (loss + nats if net.config.variational else loss).backward()
        adam.step()
        yield AutoencoderStep(index, float(square.detach().mean()), float(nats.detach()), net)


def sample(middle: Code, log_variance: Code, rng: torch.Generator) -> Code:
    """A point of each cloud, so that gradients reach its middle and size (Kingma and Welling 2014, equation 4)."""
    if torch.isneginf(log_variance).all():
        return middle
    return middle + (log_variance / 2).exp() * torch.randn(middle.shape, generator=rng).to(middle)


def information(middle: Code, log_variance: Code) -> Tensor:
    """KL divergence of each cloud from the standard normal, in nats: [batch] (Kingma and Welling 2014, appendix B)."""
    return (middle.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def attention(side: int, focus: float) -> Tensor:
    """How much each pixel counts: a bell around the middle whose sharpness is `focus`, 1 on average: [side, side]."""
    line = torch.linspace(-1, 1, side)
    bell = torch.exp(-focus * (line[:, None].square() + line.square()))
    return bell / bell.mean()


def restart(net: Autoencoder, rng: torch.Generator) -> None:
    """Fresh weights drawn from these dice, as PyTorch would draw them: the same seed, the same net, whatever was drawn before."""
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.Linear):
                reach = layer.in_features**-0.5
                for numbers in (layer.weight, layer.bias):
                    numbers.copy_(reach * (2 * torch.rand(numbers.shape, generator=rng) - 1))
            elif isinstance(layer, torch.nn.BatchNorm1d):
                layer.reset_running_stats()


def as_float(image: Tensor) -> Image:
    """Pixels from 0 to 255 as [-1, 1]; what is float already stays."""
    return image if image.is_floating_point() else image.float() / 127.5 - 1


@torch.no_grad()
def encode_all(net: Autoencoder, images: Tensor, batch: int = 500) -> Code:
    """The codes of many pictures, some at a time: [picture, code]. The net is in evaluation mode afterwards."""
    net.eval()
    return torch.cat([net.encode(as_float(some)) for some in images.split(batch)])


@torch.no_grad()
def redraw_error(net: Autoencoder, images: Tensor, batch: int = 500) -> float:
    """Mean squared error of a pixel after squeezing and drawing again, ink from 0 to 1; for pictures that the net was not trained on."""
    net.eval()
    parts = [((net(as_float(some)) - as_float(some)) / 2).square().sum().double() for some in images.split(batch)]
    return float(sum(parts) / images[0].numel() / len(images))
