"""Training a GAN: two networks with opposite tasks, one loop. Taught in notebook 01.

The generator is any module z -> picture with a `z_dim` (or z, labels -> picture), the discriminator any module picture -> number.
Points of the plane, digits and faces are trained by the same lines.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.training import Augment, TrainingState, cooldown, ema_decay, finite, shard, update_ema

LOSSES = ("non-saturating", "hinge", "wgan-gp")
NUMBERS = ("discriminator_loss", "generator_loss", "penalty", "real_score", "fake_score")  # of a step


@dataclass(frozen=True)
class TrainConfig:
    """How a GAN is trained; a picture may be anything with a batch in front."""

    steps: int = 2000  # updates of the generator
    batch: int = 64  # pictures in a step, over all processes together
    loss: str = "non-saturating"  # or hinge, or wgan-gp
    lr: float = 2e-3  # Adam's learning rate of the generator
    discriminator_lr: float = 2e-3  # Adam's learning rate of the discriminator
    discriminator_steps: int = 1  # updates of the discriminator for each one of the generator
    beta1: float = 0.0  # Adam's memory of the gradient
    beta2: float = 0.99  # Adam's memory of its square
    penalty: float = 1.0  # weight of the gradient penalty: R1's gamma, or WGAN-GP's lambda; 0 switches it off
    lazy: int = 4  # updates of the discriminator from one penalty to the next
    mismatched: bool = False  # real pictures with the label of another one count as generated, too (Reed et al. 2016, algorithm 1)
    ema_images: float = 10_000  # half-life of the generator's moving average, in pictures; 0 switches it off
    cooldown: float = 0.0  # fraction of the steps, the last ones, over which both learning rates fall to zero
    seed: int = 0  # of everything that is drawn here; the networks' first weights are the caller's


@dataclass(frozen=True)
class TrainStep:
    """The result of one step of training. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    images: int  # real pictures seen so far
    discriminator_loss: float
    generator_loss: float
    penalty: float  # R1's squared gradient or WGAN-GP's distance, when last computed; see `gradient_penalty`
    real_score: float  # the discriminator's mean score of real pictures ...
    fake_score: float  # ... and of generated ones; above 0 is "real" for the first two losses
    generator: nn.Module = field(repr=False)  # as it is now
    ema: nn.Module = field(repr=False)  # its moving average: the one to keep
    discriminator: nn.Module = field(repr=False)
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `train(..., resume=path)` needs to go on bit for bit


def train(
    generator: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    config: TrainConfig | None = None,
    *,
    labels: Tensor | None = None,
    augment: Augment | None = None,
    regularizer: Callable[[nn.Module], Tensor] | None = None,
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[TrainStep]:
    """Train both networks in place, on `images` [picture, ...], one `TrainStep` per update of the generator (Goodfellow et al. 2014).

    With `labels` [picture, ...], both networks are called with them. `regularizer`, of the generator that has just drawn, is added to the
    generator's loss. `resume` goes on from a file of `step.save`, bit for bit.
    `accelerator` (of the package accelerate) divides each batch among its processes; they all compute the same step.
    Raises TrainingDiverged when a loss is infinite or undefined, ShapeError for a config or a batch that cannot be trained on,
    CheckpointError for a file that does not belong to this run.
    """
    config = config or TrainConfig()
    _refuse(generator, images, config, labels)
    mine, weight = shard(config.batch, accelerator), next(generator.parameters())
    state = training_state(generator, discriminator, config)
    if resume is not None:
        state.load(resume)
    ema = state.networks["ema"]

    def batch() -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Real pictures, random vectors, and the labels of each; all processes draw alike, each keeps its shard."""
        chosen = torch.randint(len(images), (config.batch,), generator=state.rng)[mine]
        z = torch.randn(config.batch, generator.z_dim, generator=state.rng)[mine]
        other = torch.randint(len(images), (config.batch,), generator=state.rng)[mine]
        both = [[labels[which].to(weight.device)] if labels is not None else [] for which in (chosen, other)]
        return images[chosen].to(weight), z.to(weight), *both

    def augmented(image: Tensor) -> Tensor:
        return image if augment is None else augment(image, augment.draw(config.batch, state.rng)[mine].to(weight.device))

    for index in range(state.index, config.steps):
        state.scale_lr(cooldown(index, config.steps, config.cooldown))
        losses = state.tensors["losses"]
        discriminator.requires_grad_(True)
        for turn in range(config.discriminator_steps):
            real, z, real_labels, fake_labels = batch()
            with torch.no_grad():
                fake = augmented(generator(z, *fake_labels))
            real = augmented(real)
            real_score, fake_score = discriminator(real, *real_labels), discriminator(fake, *fake_labels)
            if config.mismatched:
                fake_score = torch.cat([fake_score, discriminator(real, *(label.roll(1, 0) for label in real_labels))])
            loss = discriminator_loss(config.loss, real_score, fake_score)
            state.update("discriminator_optimizer", loss, accelerator)
            if config.penalty and (index * config.discriminator_steps + turn) % config.lazy == 0:
                penalty = gradient_penalty(config.loss, discriminator, real, fake, real_labels, state.rng)
                half = 1.0 if config.loss == "wgan-gp" else 0.5
                state.update("discriminator_optimizer", half * config.penalty * config.lazy * penalty, accelerator)
                losses[2] = penalty.detach()
        discriminator.requires_grad_(False)
        _, z, _, fake_labels = batch()
        fake_loss = generator_loss(config.loss, discriminator(augmented(generator(z, *fake_labels)), *fake_labels))
        extra = regularizer(generator) if regularizer is not None else 0.0
        state.update("generator_optimizer", fake_loss + extra, accelerator)
        state.index = index + 1
        update_ema(ema, generator, ema_decay(state.index * config.batch, config.batch, config.ema_images))
        losses[[0, 1, 3, 4]] = torch.stack([loss, fake_loss, real_score.mean(), fake_score.mean()]).detach().cpu()
        values = finite(index, dict(zip(NUMBERS, losses.to(weight.device), strict=True)), accelerator)
        yield TrainStep(index, state.index * config.batch, *values.values(), generator, ema, discriminator, state.save)


def training_state(generator: nn.Module, discriminator: nn.Module, config: TrainConfig) -> TrainingState:
    """All that a run changes: both networks, the generator's average, two Adams, and the last losses, penalty and scores."""
    # The penalty has steps of its own, lazily: memory and learning rate are corrected for them (Karras et al. 2020, section 3.1).
    c = config.lazy / (config.lazy + 1) if config.penalty else 1.0
    ema = copy.deepcopy(generator).eval().requires_grad_(False)
    networks = {"generator": generator.train(), "discriminator": discriminator.train(), "ema": ema}
    adam, betas = torch.optim.Adam, (config.beta1**c, config.beta2**c)
    optimizers = {
        "generator_optimizer": adam(generator.parameters(), config.lr, (config.beta1, config.beta2)),
        "discriminator_optimizer": adam(discriminator.parameters(), c * config.discriminator_lr, betas),
    }
    state = TrainingState(config, networks, optimizers)
    state.tensors["losses"] = torch.zeros(5)
    return state


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator makes small: large scores for real, small ones for generated pictures.

    Goodfellow et al. 2014, equation 1; hinge: Lim and Ye 2017; wgan-gp: Gulrajani et al. 2017, equation 3 without its penalty.
    """
    if kind == "non-saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the generator makes small: the discriminator should say real.

    The loss that does not saturate is that of Goodfellow et al. 2014, section 3.
    """
    return F.softplus(-fake).mean() if kind == "non-saturating" else -fake.mean()


def gradient_penalty(kind: str, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: list[Tensor], rng: torch.Generator) -> Tensor:
    """How steep the discriminator is, to be made small.

    R1: the mean squared gradient at real pictures (Mescheder et al. 2018, equation 9). WGAN-GP: the squared distance of the
    gradient's length from one, somewhere between real and generated pictures (Gulrajani et al. 2017, equation 3).
    """
    where = real
    if kind == "wgan-gp":
        t = torch.rand(len(real), generator=rng).to(real).view(-1, *[1] * (real.ndim - 1))
        where = real + t * (fake - real)
    where = where.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(where, *labels).sum(), where, create_graph=True)
    squared = gradient.square().flatten(1).sum(1)  # [batch]
    return ((squared + 1e-12).sqrt() - 1).square().mean() if kind == "wgan-gp" else squared.mean()


def _refuse(generator: nn.Module, images: Tensor, config: TrainConfig, labels: Tensor | None) -> None:
    if config.loss not in LOSSES:
        raise ShapeError(f"there is no loss called '{config.loss}': say {', '.join(LOSSES)}.")
    if min(config.batch, config.discriminator_steps, config.lazy) < 1:
        numbers = f"batch {config.batch}, discriminator_steps {config.discriminator_steps} and lazy {config.lazy}"
        raise ShapeError(f"{numbers} must all be 1 or more.")
    if not 0 <= config.cooldown < 1:
        raise ShapeError(f"a cooldown of {config.cooldown} is impossible: it is a fraction of the steps, from 0 to below 1.")
    if len(images) == 0 or (labels is not None and len(labels) != len(images)):
        given = f"{len(images)} pictures with {'no' if labels is None else len(labels)} labels"
        raise ShapeError(f"{given} cannot be trained on: give at least one picture, and labels for all or none.")
    if not isinstance(getattr(generator, "z_dim", None), int):
        raise ShapeError("the generator does not say how long its random vectors are: write `self.z_dim = 64` in its class.")
