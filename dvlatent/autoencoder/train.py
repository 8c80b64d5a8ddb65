"""Training an autoencoder: make the picture that comes out equal the one that went in. Taught in notebook 02."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dvlatent.autoencoder.model import Autoencoder, Code
from dvlatent.errors import ShapeError
from dvlatent.gan.data import Warp
from dvlatent.training import TrainingState, warmup_cosine
from dvlatent.types import Image


@dataclass(frozen=True)
class AutoencoderTrainConfig:
    """How an autoencoder is trained."""

    steps: int = 2500  # optimizer steps
    batch: int = 64  # pictures in a step
    lr: float = 5e-3  # Adam's learning rate at its highest; it falls to 0 along a cosine
    shake: float = 0.0  # how strongly pictures are shifted, turned and slanted before the encoder sees them; 1 suits digits
    sigma: float = 0.3  # how far a pixel of ink may be off (one standard deviation): the smaller, the weaker the pull on the clouds
    focus: float = 0.0  # 0: every pixel counts alike; above, the middle counts more, and so a face more than what is behind it
    seed: int = 0  # of the first weights and of all that is drawn


@dataclass(frozen=True)
class AutoencoderStep:
    """The result of one step."""

    index: int
    error: float  # mean squared error of a pixel of this batch, ink from 0 to 1
    nats: float  # mean information in the clouds of this batch (the KL divergence); infinite for points
    net: Autoencoder  # the one in training, ready to use


def train_autoencoder(images: Image, net: Autoencoder, config: AutoencoderTrainConfig | None = None) -> Iterator[AutoencoderStep]:
    """Train `net` on the pictures from fresh weights: one AutoencoderStep per optimizer step; stop at any of them.

    With `shake` the encoder sees a picture moved at random, while the decoder must draw it as it was (a denoising autoencoder,
    Vincent et al. 2008): the code then wastes no room on random positions.
    The loss of a picture is its squared error / 2 σ², summed over pixels; a variational net adds its nats, and that sum is the negative
    evidence lower bound up to a constant (Kingma and Welling 2014, equation 10). `images` may be uint8 [picture, channel, side, side].
    Raises ShapeError for an empty batch. After each step the net is in training mode; call `net.eval()` before you use it.
    """
    config = config or AutoencoderTrainConfig()
    if len(images) < 2 or config.batch < 2 or config.steps < 1 or config.sigma <= 0:
        raise ShapeError(f"training needs two pictures, a batch of two, a step and a sigma above 0; given {len(images)} and {config}.")
    state = TrainingState(config, {"net": net.train()}, {"optimizer": torch.optim.Adam(net.parameters(), lr=config.lr)})
    initialize(net, state.rng)
    weight = pixel_weights(net.config.side, config.focus)  # [side, side]
    shake = Warp(shift_px=config.shake, turn_degrees=17 * config.shake, zoom=0.0, shear=0.4 * config.shake, elastic_px=0.0)
    for index in range(config.steps):
        state.scale_lr(warmup_cosine(index, config.steps, warmup=50))
        batch = as_float(images[torch.randint(len(images), (config.batch,), generator=state.rng)])
        seen = shake(batch, shake.draw(config.batch, state.rng)) if config.shake else batch
        square, nats = loss_parts(net, seen, batch, state.rng)
        loss = (square * weight).sum(dim=(1, 2, 3)).mean() / (2 * config.sigma**2)
        state.update("optimizer", loss + nats.mean() if net.config.variational else loss)
        yield AutoencoderStep(index, float(square.detach().mean()), float(nats.detach().mean()), net)


def loss_parts(net: Autoencoder, seen: Image, batch: Image, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Squared error of each pixel of ink, from 0 to 1, [picture, channel, side, side], and the nats in each cloud, [picture].

    `net` encodes what was `seen` and draws `batch`, each picture from a random point of its cloud; nats are infinite for points.
    """
    mean, log_variance = net.posterior(seen)
    square = ((net.decode(sample(mean, log_variance, rng)) - batch) / 2).square()
    return square, information(mean, log_variance)


def sample(mean: Code, log_variance: Code, rng: torch.Generator) -> Code:
    """A random point of each cloud, through which gradients reach its mean and size (Kingma and Welling 2014, equation 4)."""
    if torch.isneginf(log_variance).all():
        return mean
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=rng).to(mean)


def information(mean: Code, log_variance: Code) -> Tensor:
    """KL divergence of each cloud from the standard normal, in nats: [batch] (Kingma and Welling 2014, appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def pixel_weights(side: int, focus: float) -> Tensor:
    """How much each pixel counts: a bell in the middle of the picture, as sharp as `focus` says, 1 on average: [side, side]."""
    line = torch.linspace(-1, 1, side)
    bell = torch.exp(-focus * (line[:, None].square() + line.square()))
    return bell / bell.mean()


@torch.no_grad()
def initialize(net: Autoencoder, rng: torch.Generator) -> None:
    """Draw fresh weights from `rng`, as wide as PyTorch draws them: the same seed gives the same net, whatever was drawn before."""
    for layer in net.modules():
        if isinstance(layer, torch.nn.Linear):
            for numbers in (layer.weight, layer.bias):
                numbers.copy_(layer.in_features**-0.5 * (2 * torch.rand(numbers.shape, generator=rng) - 1))
        elif isinstance(layer, torch.nn.BatchNorm1d):
            layer.reset_running_stats()


def as_float(image: Tensor) -> Image:
    """Bytes from 0 to 255 as floats in [-1, 1]; floats stay as they are."""
    return image if image.is_floating_point() else image.float() / 127.5 - 1


@torch.no_grad()
def encode_all(net: Autoencoder, images: Tensor, batch: int = 500) -> Code:
    """The codes of many pictures, one batch at a time: [picture, code]. The net is in evaluation mode afterwards."""
    net.eval()
    return torch.cat([net.encode(as_float(part)) for part in images.split(batch)])


@torch.no_grad()
def redraw_error(net: Autoencoder, images: Tensor, batch: int = 500) -> float:
    """Mean squared error of a pixel after encoding and decoding, ink from 0 to 1; for pictures that the net was not trained on."""
    net.eval()
    parts = [((net(as_float(part)) - as_float(part)) / 2).square().sum().double() for part in images.split(batch)]
    return float(sum(parts) / images[0].numel() / len(images))
