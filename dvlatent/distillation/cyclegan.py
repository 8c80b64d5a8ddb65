"""The way without pairs: a CycleGAN learns from young faces here and old faces there (Zhu et al. 2017). Taught in notebook 07.

Only the way back keeps a person the same: it must find the first picture again. The lesson puts it beside `distill`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent import images
from dvlatent.distillation.pix2pixhd import GlobalGenerator, PatchDiscriminator
from dvlatent.errors import ShapeError
from dvlatent.training import TrainingState, autocast, cooldown, ema_decay, finite, shard, update_ema
from dvlatent.types import Image

INIT_STD = 0.02  # of the first weights (section 7.2)


class CycleGAN(nn.Module):
    """Two generators and two discriminators for two kinds of pictures, A and B. Default, the paper's sizes: 28,286,016 weights.

    The generators are pix2pixHD's global one with two downs (11,378,179 weights each), which pix2pixHD took from here. The paper has 6
    blocks for pictures of 128 px and 9 for 256 px. Sides must be multiples of 2**downs.
    """

    def __init__(self, width: int = 64, blocks: int = 9, discriminator_width: int = 64, downs: int = 2) -> None:
        super().__init__()
        self.there, self.back = (GlobalGenerator(3, 3, width, downs, blocks) for _ in range(2))  # A to B, B to A
        self.discriminator_a, self.discriminator_b = (PatchDiscriminator(3, discriminator_width, padding=1) for _ in range(2))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, a: Image, strength: Float[Tensor, " batch"] | None = None) -> Image:
        """A to B. It has no dial: of a strength, which measures of filters give, only the sign counts; 0 changes nothing."""
        if strength is None:
            return self.there(a)
        made = [(self.there if amount > 0 else self.back)(one) if amount else one for one, amount in zip(a.split(1), strength, strict=True)]
        return torch.cat(made)

    def generator_parameters(self) -> list[nn.Parameter]:
        """The weights of both generators."""
        return [*self.there.parameters(), *self.back.parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """The weights of both discriminators."""
        return [*self.discriminator_a.parameters(), *self.discriminator_b.parameters()]


class Pictures(Protocol):
    """Pictures of one kind."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Image:
        """Some of them, [batch, 3, side, side] in [-1, 1]."""
        ...


@dataclass(frozen=True)
class CycleGANConfig:
    """How a CycleGAN is trained; the weights of the losses are the paper's."""

    steps: int = 6000  # updates of the generators
    batch: int = 1  # pictures of each kind in a step, over all processes together
    coarse_steps: int = 5000  # the first so many steps see small pictures
    coarse_px: int = 128  # the side of these small pictures
    adversarial: float = 1.0  # weight of the adversarial loss: least squares (section 4)
    cycle: float = 10.0  # weight of the mean absolute difference after there and back (equation 2)
    same: float = 5.0  # weight of the change of a picture that is of the target kind already (section 5.2)
    pool: int = 50  # made pictures that the discriminators see again later (section 4); 0 is none
    lr: float = 2e-4  # Adam's learning rate, of all four networks
    beta1: float = 0.5  # Adam's decay rate of the mean gradient
    cooldown: float = 0.5  # fraction of the steps, at the end, in which the learning rates fall to zero
    ema_images: float = 4000  # half-life of the networks' moving average, in pictures; 0 means no averaging
    bf16: bool = False  # convolutions in 16-bit numbers
    seed: int = 0  # of everything that is drawn here; the caller draws the first weights of the networks


@dataclass(frozen=True)
class CycleGANStep:
    """The result of one step. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    images: int  # pictures of each kind seen so far
    loss: float  # the generators': all losses with their weights
    discriminator_loss: float
    losses: dict[str, float]  # each of the generators' losses, without its weight
    net: CycleGAN = field(repr=False)  # as it is now
    ema: CycleGAN = field(repr=False)  # its moving average, in eval mode
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `train_cyclegan(..., resume=path)` needs to go on bit for bit


class ImagePool:
    """Pictures made some steps ago, so that discriminators remember old mistakes (Shrivastava et al. 2017; Zhu et al. 2017, section 4).

    The first `size` pictures are kept, and come back as they are. Later each one comes back with probability one half; otherwise it
    replaces a kept one, which comes back instead.
    """

    def __init__(self, size: int = 50) -> None:
        self.size, self.kept = size, torch.empty(0)

    def swap(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        """Put pictures in and take as many out: [batch, ...] and two random numbers from 0 to 1 for each, [batch, 2] -> [batch, ...]."""
        if not self.size:
            return pictures.detach()
        if len(self.kept) and self.kept.shape[1:] != pictures.shape[1:]:
            self.kept = torch.empty(0)  # the pictures have grown: the kept ones do not fit any more
        returned = []
        for picture, (coin, which) in zip(pictures.detach().split(1), numbers.tolist(), strict=True):
            if len(self.kept) < self.size:
                self.kept = torch.cat([self.kept.to(picture), picture]) if len(self.kept) else picture.clone()
            elif coin < 0.5:
                at = int(which * self.size)
                old = self.kept[at : at + 1].clone()
                self.kept[at] = picture[0]
                picture = old
            returned.append(picture)
        return torch.cat(returned)


def train_cyclegan(
    net: CycleGAN,
    a: Pictures,
    b: Pictures,
    config: CycleGANConfig | None = None,
    *,
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[CycleGANStep]:
    """Train a CycleGAN in place on pictures of kind A (say young) and B (say old); one `CycleGANStep` per update of the generators.

    Pictures are mirrored at random. `accelerator` divides each batch among its processes; each has a pool of its own. Raises
    TrainingDiverged when a loss is not finite, ShapeError for an impossible config, CheckpointError for a file of another run.
    """
    config = config or CycleGANConfig()
    if min(len(a), len(b)) == 0 or min(config.steps, config.batch) < 1 or config.pool < 0 or not 0 <= config.cooldown < 1:
        raise ShapeError(
            f"{len(a)} and {len(b)} pictures, {config.steps} steps of {config.batch}, a pool of {config.pool} and a cooldown of "
            f"{config.cooldown} cannot be trained on: give pictures of both kinds, a step and a batch of 1 at least, a pool of 0 or more, "
            "and a cooldown from 0 to below 1."
        )
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimizers = {
        "generator_optimizer": torch.optim.Adam(net.generator_parameters(), config.lr, (config.beta1, 0.999)),
        "discriminator_optimizer": torch.optim.Adam(net.discriminator_parameters(), config.lr, (config.beta1, 0.999)),
    }
    pools = {"a": ImagePool(config.pool), "b": ImagePool(config.pool)}
    state = TrainingState(config, {"net": net.train(), "ema": ema}, optimizers)
    if resume is not None:
        state.load(resume)
        for name, pool in pools.items():
            pool.kept = state.tensors[name]
    device, rows = next(net.parameters()).device, shard(config.batch, accelerator)

    def sample(pictures: Pictures, small: bool) -> Image:
        chosen = torch.randint(len(pictures), (config.batch,), generator=state.rng)[rows]
        mirrored = (torch.rand(config.batch, generator=state.rng) < 0.5)[rows]
        batch = pictures.batch(chosen.tolist())
        batch = images.resize(batch, config.coarse_px) if small and batch.shape[-1] > config.coarse_px else batch
        return torch.where(mirrored[:, None, None, None], batch.flip(3), batch).to(device)

    for index in range(state.index, config.steps):
        state.scale_lr(cooldown(index, config.steps, config.cooldown))
        small = index < config.coarse_steps
        real_a, real_b = sample(a, small), sample(b, small)
        for weight in net.discriminator_parameters():
            weight.requires_grad_(False)
        with autocast(device, config.bf16, accelerator):
            fake_b, fake_a = net.there(real_a), net.back(real_b)
            outputs = net.discriminator_b(fake_b)[-1], net.discriminator_a(fake_a)[-1]
            cycled = net.back(fake_b), net.there(fake_a)
            kept = (net.there(real_b), net.back(real_a)) if config.same else (real_b, real_a)
        losses = {
            "adversarial": sum((output.float() - 1).square().mean() for output in outputs),
            "cycle": sum(F.l1_loss(one.float(), real) for one, real in zip(cycled, (real_a, real_b), strict=True)),
            "same": sum(F.l1_loss(one.float(), real) for one, real in zip(kept, (real_b, real_a), strict=True)),
        }
        loss = sum(getattr(config, name) * value for name, value in losses.items())
        state.update("generator_optimizer", loss, accelerator)
        for weight in net.discriminator_parameters():
            weight.requires_grad_(True)
        numbers = torch.rand(2, config.batch, 2, generator=state.rng)[:, rows]
        shown_a, shown_b = pools["a"].swap(fake_a.float(), numbers[0]), pools["b"].swap(fake_b.float(), numbers[1])
        with autocast(device, config.bf16, accelerator):
            outputs = [
                (net.discriminator_a(real_a)[-1], net.discriminator_a(shown_a)[-1]),
                (net.discriminator_b(real_b)[-1], net.discriminator_b(shown_b)[-1]),
            ]
        discriminator_loss = sum(((real.float() - 1).square().mean() + fake.float().square().mean()) / 2 for real, fake in outputs)
        state.update("discriminator_optimizer", discriminator_loss, accelerator)
        state.index, state.tensors = index + 1, {name: pool.kept for name, pool in pools.items()}
        update_ema(ema, net, ema_decay(state.index * config.batch, config.batch, config.ema_images))
        values = finite(index, {"loss": loss, "discriminator_loss": discriminator_loss, **losses}, accelerator)
        total, of_discriminators = values.pop("loss"), values.pop("discriminator_loss")
        yield CycleGANStep(index, state.index * config.batch, total, of_discriminators, values, net, ema, state.save)
