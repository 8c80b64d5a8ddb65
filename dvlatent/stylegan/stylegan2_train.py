"""Training a StyleGAN2 (Karras et al. 2020): its discriminator, its losses, one loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.gan.train import discriminator_loss, generator_loss, gradient_penalty
from dvlatent.latents import broadcast
from dvlatent.stylegan.ada import Ada
from dvlatent.stylegan.stylegan2 import Features, Linear, StyleGAN2, StyleGAN2Config, smooth
from dvlatent.training import TrainingState, autocast, cooldown, ema_decay, finite, shard, update_ema
from dvlatent.types import Image, W, Ws

ADA_STEPS = 4  # between two changes of ADA's probability
GROUP = 4  # pictures whose features are compared by the minibatch standard deviation
Pixels = UInt8[np.ndarray, "picture side side 3"] | UInt8[Tensor, "picture side side 3"]
NUMBERS = ("discriminator_loss", "generator_loss", "penalty", "path_length", "real_score", "fake_score", "real_sign")  # of a step


def sizes_for(resolution: int, channel_base: int = 2048, channel_max: int = 128) -> StyleGAN2Config:
    """Sizes of a network that a CPU can train: `channel_base` divided by the side of a layer, at most `channel_max` channels."""
    blocks = resolution.bit_length() - 2  # from 4 px on
    channels = tuple(max(min(channel_base // (4 << i), channel_max), 1) for i in range(blocks))
    return StyleGAN2Config(channels=channels, z_dim=256, w_dim=256, mapping_layers=6)


class Discriminator(nn.Module):
    """Picture to score: residual blocks down to 4 pixels, then the minibatch standard deviation (Karras et al. 2020, figure 7c).

    Its sizes mirror those of the generator. It reads no labels.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        sizes = config.channels[::-1]
        self.from_image = Conv(config.colors, sizes[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(sizes))
        self.conv = Conv(sizes[-1] + 1, sizes[-1], 3)
        self.hidden = Linear(16 * sizes[-1], sizes[-1])
        self.score = Linear(sizes[-1], 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Image) -> Float[Tensor, " batch"]:
        """[batch, colors, side, side] -> one number each; above 0 is "real"."""
        x = self.from_image(image.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)  # [batch, channels, side / 2, side / 2]
        with torch.autocast(x.device.type, enabled=False):  # scores need the digits that 16 bits do not have
            x = self.conv(minibatch_std(x.float()))
            x = F.leaky_relu(self.hidden(x.flatten(1)), 0.2) * 2**0.5
            return self.score(x)[:, 0]


class Conv(nn.Module):
    """A convolution with equalized learning rate, and a leaky ReLU; with `down`, to half the size."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, down: bool = False, activate: bool = True) -> None:
        super().__init__()
        self.down, self.activate = down, activate
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if activate else None
        self.gain = (channels_in * kernel**2) ** -0.5 * (2**0.5 if activate else 1.0)

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, h, w] -> [batch, channels_out, h, w], or half of h and w."""
        # The leaky ReLU's gain is in the weights: it comes to the same, and saves a pass over the features.
        weight, size = self.weight * self.gain, self.weight.shape[-1]
        if self.down:  # smoothed before every second pixel is taken
            x = F.conv2d(smooth(x, padding=size // 2 + 1), weight, self.bias, stride=2)
        else:
            x = F.conv2d(x, weight, self.bias, padding=size // 2)
        return F.leaky_relu(x, 0.2) if self.activate else x


class ResidualBlock(nn.Module):
    """Two convolutions to half the size, and a linear way around them; their sum keeps its variance."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv0 = Conv(channels_in, channels_in, 3)
        self.conv1 = Conv(channels_in, channels_out, 3, down=True)
        self.skip = Conv(channels_in, channels_out, 1, down=True, activate=False)

    def forward(self, x: Features) -> Features:
        """[batch, channels_in, h, w] -> [batch, channels_out, h / 2, w / 2]."""
        return (self.conv1(self.conv0(x)) + self.skip(x)) * 0.5**0.5


def minibatch_std(x: Features) -> Features:
    """One more channel: how much the pictures of a group differ, so that a generator of few faces is found out.

    Karras et al. 2018, section 3. Groups are neighbors in the batch, so that several processes form the same ones.
    """
    group = GROUP if len(x) % GROUP == 0 else len(x)
    y = x.unflatten(0, (-1, group))  # [groups, group, channels, h, w]
    y = (y.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [groups]
    y = y.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, y], dim=1)


@dataclass(frozen=True)
class StyleGAN2TrainConfig:
    """How a StyleGAN2 is trained."""

    steps: int = 100_000  # updates of the generator
    batch: int = 16  # pictures in a step, over all processes together
    lr: float = 2.5e-3  # Adam's learning rate of both networks
    gamma: float = 0.0  # weight of R1; 0 takes NVIDIA's guess, 0.0002 * resolution**2 / batch
    lazy_r1: int = 16  # steps from one R1 penalty to the next
    path_weight: float = 2.0  # weight of the path length regularization; 0 switches it off
    lazy_path: int = 4  # steps from one of it to the next
    mixing: float = 0.9  # fraction of the batches in which two w's share the layers
    mirror: bool = True  # show half of the real pictures mirrored
    ada_target: float = 0.6  # augment more when the mean sign of real scores lies above this, less below; 1 switches ADA off
    ada_images: float = 500_000  # pictures in which ADA's probability can go from 0 to 1
    ema_images: float = 10_000  # half-life of the generator's moving average, in pictures
    noise: str = "random"  # of the generator while it learns: random, const or none
    bf16: bool = False  # convolutions in 16 bits: twice as fast where the processor or GPU offers it
    cooldown: float = 0.0  # fraction of the steps, the last ones, over which the learning rates fall to zero
    seed: int = 0  # of everything that is drawn here; the networks' first weights are the caller's


@dataclass(frozen=True)
class StyleGAN2TrainStep:
    """The result of one step of training. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    images: int  # real pictures seen so far
    discriminator_loss: float
    generator_loss: float
    penalty: float  # R1's squared gradient, when last computed
    path_length: float  # mean length of a path in the picture for a step in W, when last computed
    real_score: float  # the discriminator's mean score of real pictures ...
    fake_score: float  # ... and of generated ones; above 0 is "real"
    real_sign: float  # mean sign of the real scores: near 1, the discriminator knows the pictures by heart
    ada: float  # probability of each augmentation
    ema: StyleGAN2 = field(repr=False)  # moving average of the generator: the one to keep
    discriminator: Discriminator = field(repr=False)
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `train_stylegan2(..., resume=path)` needs


def train_stylegan2(
    generator: StyleGAN2,
    discriminator: Discriminator,
    images: Pixels,
    config: StyleGAN2TrainConfig = StyleGAN2TrainConfig(),
    *,
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[StyleGAN2TrainStep]:
    """Train both networks in place on `images`, uint8 [picture, side, side, 3], one step per update of the generator.

    `resume` goes on from a file of `step.save`, bit for bit. `accelerator` (of the package accelerate) divides each batch among its
    processes; they all compute the same step, except that each draws its own noise.
    Raises TrainingDiverged when a loss is infinite or undefined, ShapeError for pictures or a batch that cannot be trained on,
    CheckpointError for a file that does not belong to this run.
    """
    side, mine = generator.resolution, shard(config.batch, accelerator)
    if len(images) == 0 or tuple(images.shape[1:]) != (side, side, 3):
        raise ShapeError(f"this generator learns from uint8 pictures [picture, {side}, {side}, 3]; these have {list(images.shape)}.")
    device = generator.w_mean.device
    gamma = config.gamma or 2e-4 * side**2 / config.batch
    state = training_state(generator, discriminator, config)
    if resume is not None:
        state.load(resume)
    ema = state.networks["ema"]
    losses, slow = state.tensors["losses"], state.tensors["slow"]  # slow: mean path length, ADA's probability, sum of signs

    def real() -> Image:
        chosen = torch.randint(len(images), (config.batch,), generator=state.rng)
        mirror = torch.rand(config.batch, generator=state.rng) < 0.5 * config.mirror
        pixels = torch.as_tensor(images[chosen[mine].numpy()]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.where(mirror[mine].to(device)[:, None, None, None], pixels.flip(3), pixels)

    def styles() -> tuple[W, Ws]:
        """Random w's, and the ws of each: in most batches, a second w takes the layers from a random one on."""
        z = torch.randn(2, config.batch, generator.z_dim, generator=state.rng)[:, mine].to(device)
        mixed, cut = torch.rand(2, generator=state.rng).tolist()
        first = 1 + int(cut * (generator.num_layers - 1)) if mixed < config.mixing else generator.num_layers
        w = generator.mapping(z[0])
        ws = broadcast(w, generator.num_layers)
        if first < generator.num_layers:
            ws = torch.cat([ws[:, :first], broadcast(generator.mapping(z[1]), generator.num_layers)[:, first:]], dim=1)
        return w, ws

    def score(image: Image) -> Tensor:
        if slow[1] > 0:
            ada = Ada(float(slow[1]))
            image = ada(image, ada.draw(config.batch, state.rng)[mine].to(device))
        with autocast(device, config.bf16, accelerator):
            return discriminator(image)

    def draw(ws: Ws) -> Image:
        with autocast(device, config.bf16, accelerator):
            return generator.synthesis(ws, noise=config.noise)

    for index in range(state.index, config.steps):
        state.scale_lr(cooldown(index, config.steps, config.cooldown))
        discriminator.requires_grad_(True)
        pictures, (w, ws) = real(), styles()
        fake = draw(ws)  # both networks learn from the same pictures: one drawing less
        real_score, fake_score = score(pictures), score(fake.detach())
        loss = discriminator_loss("non-saturating", real_score, fake_score)
        state.update("discriminator_optimizer", loss, accelerator)
        if index % config.lazy_r1 == 0:
            with autocast(device, config.bf16, accelerator):
                penalty = gradient_penalty("non-saturating", discriminator, pictures, fake, [], state.rng)
            state.update("discriminator_optimizer", 0.5 * gamma * config.lazy_r1 * penalty, accelerator)
            losses[2] = penalty.detach()
        discriminator.requires_grad_(False)
        fake_loss = generator_loss("non-saturating", score(fake))
        state.update("generator_optimizer", fake_loss, accelerator)
        if config.path_weight and index % config.lazy_path == 0:
            ws = styles()[1]
            noise = torch.randn(config.batch, 3, side, side, generator=state.rng)[mine].to(device)
            ws, noise = ws[::2], noise[::2]  # half of the batch is enough (Karras et al. 2020, appendix B)
            lengths = path_lengths(draw(ws), ws, noise)
            mean = everywhere(lengths.detach().mean(), accelerator)
            slow[0].lerp_(mean.to(slow), 0.01)
            path_penalty = (lengths - float(slow[0])).square().mean()
            state.update("generator_optimizer", config.path_weight * config.lazy_path * path_penalty, accelerator)
            losses[3] = mean
        state.index = index + 1
        generator.w_mean.lerp_(everywhere(w.detach().mean(dim=0), accelerator), 0.002)
        update_ema(ema, generator, ema_decay(state.index * config.batch, config.batch, config.ema_images))
        now = torch.stack([loss, fake_loss, real_score.mean(), fake_score.mean(), real_score.sign().mean()])
        losses[[0, 1, 4, 5, 6]] = now.detach().cpu()
        values = finite(index, dict(zip(NUMBERS, losses.to(device), strict=True)), accelerator)
        slow[2] += values["real_sign"]
        if state.index % ADA_STEPS == 0:  # the heuristic r_t (Karras et al. 2020b, section 3)
            step = np.sign(float(slow[2]) / ADA_STEPS - config.ada_target) * config.batch * ADA_STEPS / config.ada_images
            slow[1], slow[2] = (slow[1] + step).clamp(0, 1), 0.0
        yield StyleGAN2TrainStep(index, state.index * config.batch, *values.values(), float(slow[1]), ema, discriminator, state.save)


def path_lengths(image: Image, ws: Ws, noise: Image) -> Float[Tensor, " batch"]:
    """How far each picture moves for a step in W, in the direction of the noise (Karras et al. 2020, equation 4)."""
    along = (image * noise).sum() / (image.shape[2] * image.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad(along, ws, create_graph=True)  # [batch, layer, w]
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def training_state(generator: StyleGAN2, discriminator: Discriminator, config: StyleGAN2TrainConfig) -> TrainingState:
    """All that a run changes: both networks, the generator's average, two Adams, the last losses, and what moves slowly."""
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    networks = {"generator": generator.train().requires_grad_(True), "discriminator": discriminator.train(), "ema": ema}
    optimizers = {}
    for name, lazy in (("generator", config.lazy_path if config.path_weight else 0), ("discriminator", config.lazy_r1)):
        c = lazy / (lazy + 1) if lazy else 1.0  # the penalty has steps of its own: see `gan.train.training_state`
        optimizers[f"{name}_optimizer"] = torch.optim.Adam(networks[name].parameters(), c * config.lr, (0.0, 0.99**c), eps=1e-8)
    state = TrainingState(config, networks, optimizers)
    state.tensors |= {"losses": torch.zeros(len(NUMBERS)), "slow": torch.zeros(3)}
    return state


def everywhere(value: Tensor, accelerator: Any) -> Tensor:
    """The mean over all processes."""
    return value if accelerator is None else accelerator.reduce(value, "mean")
