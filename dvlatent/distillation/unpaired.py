"""The way without pairs: a CycleGAN learns from young faces here and old faces there (Zhu et al. 2017). Taught in notebook 07.

Its only reason to keep a person is that the way back must be found again: the lesson puts it beside `distill`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent import images
from dvlatent.distillation.cyclegan import CycleGAN
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.training import TrainingState, autocast, share, update_ema
from dvlatent.types import Image


class Pictures(Protocol):
    """Pictures of one kind."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Image:
        """Some of them, [batch, 3, side, side] in [-1, 1]."""
        ...


@dataclass(frozen=True)
class CycleGANConfig:
    """How a CycleGAN is trained; the weights are the paper's."""

    steps: int = 6000  # updates of the generators
    batch: int = 1  # pictures of each kind in a step, over all processes together
    coarse_steps: int = 5000  # the first so many steps see small pictures
    coarse_px: int = 128  # and how small they are
    adversarial: float = 1.0  # weight of what the critics say: least squares (section 4)
    cycle: float = 10.0  # weight of the mean absolute difference after there and back (equation 2)
    same: float = 5.0  # weight of leaving alone what is of the wanted kind already (section 5.2)
    pool: int = 50  # made pictures kept for the critics to see again (section 4); 0 is none
    lr: float = 2e-4  # Adam's learning rate, of all four networks
    beta1: float = 0.5  # Adam's memory of the gradient
    cooldown: float = 0.5  # share of the steps, the last ones, over which the rates fall to zero
    ema_images: float = 4000  # half-life of the averaged networks, in pictures; 0 is no averaging
    bf16: bool = False  # convolutions in 16-bit numbers
    seed: int = 0  # of everything that is drawn here; the networks' first weights are the caller's


@dataclass(frozen=True)
class Step:
    """What one step of training gave. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    images: int  # pictures of each kind seen so far
    loss: float  # the generators', all parts with their weights
    discriminator_loss: float
    parts: dict[str, float]  # each part of the generators' loss, without its weight
    net: CycleGAN = field(repr=False)  # as it is now
    ema: CycleGAN = field(repr=False)  # its running average, in eval mode
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `unpaired(..., resume=path)` needs to go on bit for bit


class ImagePool:
    """Made pictures of some steps ago, so that critics do not forget old mistakes (Shrivastava et al. 2017; Zhu et al. 2017, section 4).

    The first `size` pictures come back as they are, and are kept. After that each one comes back with probability one half; otherwise it
    takes the place of a kept one, which comes back instead.
    """

    def __init__(self, size: int = 50) -> None:
        self.size, self.kept = size, torch.empty(0)

    def swap(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        """Put in and take out: [batch, ...], and two dice from 0 to 1 for each, [batch, 2] -> as many pictures."""
        if not self.size:
            return pictures.detach()
        if len(self.kept) and self.kept.shape[1:] != pictures.shape[1:]:
            self.kept = torch.empty(0)  # the pictures have grown: what is kept is of no use
        given = []
        for picture, (coin, which) in zip(pictures.detach().split(1), numbers.tolist(), strict=True):
            if len(self.kept) < self.size:
                self.kept = torch.cat([self.kept.to(picture), picture]) if len(self.kept) else picture.clone()
            elif coin < 0.5:
                at = int(which * self.size)
                old = self.kept[at : at + 1].clone()
                self.kept[at] = picture[0]
                picture = old
            given.append(picture)
        return torch.cat(given)


def train_cyclegan(
    net: CycleGAN,
    a: Pictures,
    b: Pictures,
    config: CycleGANConfig | None = None,
    *,
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[Step]:
    """Train a CycleGAN in place on pictures of kind A (say young) and of kind B (say old); one `Step` per update of the generators.

    Pictures are mirrored at random. `accelerator` shares each batch among its processes; each has a pool of its own.
    Raises TrainingDiverged when a loss is no longer a number, ShapeError for a config that cannot be, CheckpointError for a file that
    does not belong to this run.
    """
    config = config or CycleGANConfig()
    _refuse(a, b, config, accelerator)
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    adams = {
        "generators_adam": torch.optim.Adam(net.generators(), config.lr, (config.beta1, 0.999)),
        "critics_adam": torch.optim.Adam(net.discriminator(), config.lr, (config.beta1, 0.999)),
    }
    pools = {"a": ImagePool(config.pool), "b": ImagePool(config.pool)}
    state = TrainingState(config, {"net": net.train(), "average": ema}, adams)
    if resume is not None:
        state.load(resume)
        for name, pool in pools.items():
            pool.kept = state.more[name]
    place, mine = next(net.parameters()).device, share(config.batch, accelerator)

    def drawn(pictures: Pictures, small: bool) -> Image:
        chosen = torch.randint(len(pictures), (config.batch,), generator=state.rng)[mine]
        mirrored = (torch.rand(config.batch, generator=state.rng) < 0.5)[mine]
        batch = pictures.batch(chosen.tolist())
        batch = images.resize(batch, config.coarse_px) if small and batch.shape[-1] > config.coarse_px else batch
        return torch.where(mirrored[:, None, None, None], batch.flip(3), batch).to(place)

    for index in range(state.index, config.steps):
        state.cool()
        small = index < config.coarse_steps
        real_a, real_b = drawn(a, small), drawn(b, small)
        for weight in net.discriminator():
            weight.requires_grad_(False)
        with autocast(place, config.bfloat16, accelerator):
            fake_b, fake_a = net.there(real_a), net.back(real_b)
            verdicts = net.discriminator_b(fake_b)[-1], net.discriminator_a(fake_a)[-1]
            cycled = net.back(fake_b), net.there(fake_a)
            kept = (net.there(real_b), net.back(real_a)) if config.same else (real_b, real_a)
        parts = {
            "adversarial": sum((verdict.float() - 1).square().mean() for verdict in verdicts),
            "cycle": sum(F.l1_loss(one.float(), real) for one, real in zip(cycled, (real_a, real_b), strict=True)),
            "same": sum(F.l1_loss(one.float(), real) for one, real in zip(kept, (real_b, real_a), strict=True)),
        }
        loss = sum(getattr(config, name) * part for name, part in parts.items())
        state.learn("generators_adam", loss, accelerator)
        for weight in net.discriminator():
            weight.requires_grad_(True)
        numbers = torch.rand(2, config.batch, 2, generator=state.rng)[:, mine]
        shown = {"a": pools["a"].swap(fake_a.float(), numbers[0]), "b": pools["b"].swap(fake_b.float(), numbers[1])}
        with autocast(place, config.bfloat16, accelerator):
            seen = [
                (net.discriminator_a(real_a)[-1], net.discriminator_a(shown["a"])[-1]),
                (net.discriminator_b(real_b)[-1], net.discriminator_b(shown["b"])[-1]),
            ]
        discriminator_loss = sum(((real.float() - 1).square().mean() + fake.float().square().mean()) / 2 for real, fake in seen)
        state.learn("critics_adam", discriminator_loss, accelerator)
        state.index, state.more = index + 1, {name: pool.kept for name, pool in pools.items()}
        update_ema(ema, net, state.index * config.batch, config.batch, config.ema_images)
        told = torch.stack([loss, discriminator_loss, *parts.values()]).detach()
        told = (told if accelerator is None else accelerator.reduce(told, "mean")).tolist()
        if not all(map(math.isfinite, told)):
            losses = dict(zip(("loss", "critic_loss", *parts), told, strict=True))
            raise TrainingDiverged(f"training broke at step {index}: {losses}. Go back to the last checkpoint and lower the rate.")
        told_parts = dict(zip(parts, told[2:], strict=True))
        yield Step(index, state.index * config.batch, told[0], told[1], told_parts, net, ema, state.save)


def _refuse(a: Pictures, b: Pictures, config: CycleGANConfig, accelerator: Any) -> None:
    if min(len(a), len(b)) == 0 or min(config.steps, config.batch) < 1 or config.pool < 0 or not 0 <= config.cooldown < 1:
        raise ShapeError(
            f"{len(a)} and {len(b)} pictures, {config.steps} steps of {config.batch}, a pool of {config.pool} and a cooldown of "
            f"{config.cooldown} cannot be trained on: give pictures of both kinds, and numbers that are none below 0."
        )
    if accelerator is not None and config.batch % accelerator.num_processes:
        raise ShapeError(f"a batch of {config.batch} cannot be shared by {accelerator.num_processes} processes: make it a multiple.")
