"""Training a GAN: two networks with opposite tasks, one loop. Taught in notebook 01.

The generator is any module z -> picture with a `z_dim` (or z, labels -> picture), the critic any module picture -> number.
Points of the plane, digits and faces are trained by the same lines.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent import checkpoint
from dvlatent.errors import CheckpointError, ShapeError, TrainingDiverged
from dvlatent.training import Augment, cool, memory_of, reduce_gradients, remember, share, under, update_ema

LOSSES = ("non-saturating", "hinge", "wgan-gp")


@dataclass(frozen=True)
class TrainConfig:
    """How a GAN is trained; a picture may be anything with a batch in front."""

    steps: int = 2000  # updates of the generator
    batch: int = 64  # pictures in a step, over all processes together
    loss: str = "non-saturating"  # or hinge, or wgan-gp
    lr: float = 2e-3  # Adam's learning rate of the generator
    discriminator_lr: float = 2e-3  # Adam's learning rate of the critic
    discriminator_steps: int = 1  # updates of the critic for each one of the generator
    beta1: float = 0.0  # Adam's memory of the gradient
    beta2: float = 0.99  # Adam's memory of its square
    penalty: float = 1.0  # weight of the gradient penalty: R1's gamma, or WGAN-GP's lambda; 0 is none
    lazy: int = 4  # updates of the critic from one penalty to the next
    ema_images: float = 10_000  # half-life of the averaged generator, in pictures; 0 is no averaging
    cooldown: float = 0.0  # share of the steps, the last ones, over which both rates fall to zero
    seed: int = 0  # of everything that is drawn here; the networks' first weights are the caller's


@dataclass(frozen=True)
class Step:
    """What one step of training gave. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    images: int  # real pictures seen so far
    discriminator_loss: float
    generator_loss: float
    penalty: float  # mean squared slope of the critic (R1), or its distance from one (WGAN-GP), when last looked at
    real_score: float  # the critic's mean opinion of real pictures ...
    fake_score: float  # ... and of generated ones; above 0 is "real" for the first two losses
    generator: nn.Module = field(repr=False)  # as it is now
    ema: nn.Module = field(repr=False)  # its running average: the one to keep
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
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[Step]:
    """Train both networks in place, on `images` [picture, ...], one `Step` per update of the generator (Goodfellow et al. 2014).

    With `labels` [picture], both networks are called with them. `resume` goes on from a file of `step.save`, bit for bit.
    `accelerator` (of the package accelerate) shares each batch among its processes; they all compute the same step.
    Raises TrainingDiverged when a loss is no longer a number, ShapeError for a config or a batch that cannot be,
    CheckpointError for a file that does not belong to this run.
    """
    config = config or TrainConfig()
    _refuse(generator, images, config, labels, accelerator)
    state = _State(generator, discriminator, config)
    if resume is not None:
        state.load(Path(resume))
        if state.index >= config.steps:
            raise CheckpointError(f"{resume} has {state.index} steps behind it and {config.steps} were asked for: ask for more steps.")
    place, mine = next(generator.parameters()).device, share(config.batch, accelerator)
    told = state.told  # both losses, the penalty, both scores

    def batch() -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Real pictures, dice, and the labels of each; all processes draw alike, each keeps its share."""
        chosen = torch.randint(len(images), (config.batch,), generator=state.rng)[mine]
        z = torch.randn(config.batch, generator.z_dim, generator=state.rng)[mine]
        other = torch.randint(len(images), (config.batch,), generator=state.rng)[mine]
        names = [[labels[which].to(place)] if labels is not None else [] for which in (chosen, other)]
        return images[chosen].to(place), z.to(place), *names

    def changed(image: Tensor) -> Tensor:
        return image if augment is None else augment(image, augment.draw(config.batch, state.rng)[mine].to(place))

    def learn(adam: torch.optim.Optimizer, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        reduce_gradients(adam, accelerator)
        adam.step()

    for index in range(state.index, config.steps):
        cool(state.adams(), state.lrs, config, index)
        discriminator.requires_grad_(True)
        for turn in range(config.discriminator_steps):
            real, z, real_names, fake_names = batch()
            with torch.no_grad():
                fake = changed(generator(z, *fake_names))
            real = changed(real)
            real_score, fake_score = discriminator(real, *real_names), discriminator(fake, *fake_names)
            loss = discriminator_loss(config.loss, real_score, fake_score)
            learn(state.discriminator_optimizer, loss)
            if config.penalty and (index * config.discriminator_steps + turn) % config.lazy == 0:
                steep = slope(config.loss, discriminator, real, fake, real_names, state.rng)
                half = 1.0 if config.loss == "wgan-gp" else 0.5
                learn(state.discriminator_optimizer, half * config.penalty * config.lazy * steep)
                told[2] = steep.detach()
        discriminator.requires_grad_(False)
        _, z, _, names = batch()
        fake_loss = generator_loss(config.loss, discriminator(changed(generator(z, *names)), *names))
        learn(state.generator_adam, fake_loss)
        state.index = index + 1
        update_ema(state.ema, generator, state.index * config.batch, config.batch, config.ema_images)
        told[[0, 1, 3, 4]] = torch.stack([loss, fake_loss, real_score.mean(), fake_score.mean()]).detach().cpu()
        numbers = told if accelerator is None else accelerator.reduce(told.to(place), "mean").cpu()
        if not torch.isfinite(numbers).all():
            raise TrainingDiverged(_why(index, numbers, config))
        yield Step(index, state.index * config.batch, *numbers.tolist(), generator, state.ema, discriminator, state.save)


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic makes small: large scores for real, small ones for generated pictures.

    Goodfellow et al. 2014, equation 1; hinge: Lim and Ye 2017; wgan-gp: Gulrajani et al. 2017, equation 3 without its penalty.
    """
    if kind == "non-saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the generator makes small: the critic should say real (Goodfellow et al. 2014, section 3, the loss that does not saturate)."""
    return F.softplus(-fake).mean() if kind == "non-saturating" else -fake.mean()


def slope(kind: str, discriminator: nn.Module, real: Tensor, fake: Tensor, names: list[Tensor], rng: torch.Generator) -> Tensor:
    """How steep the critic is, to be made small.

    R1: the mean squared slope at real pictures (Mescheder et al. 2018, equation 9). WGAN-GP: the squared distance of the
    slope from one, somewhere between real and generated pictures (Gulrajani et al. 2017, equation 3).
    """
    where = real
    if kind == "wgan-gp":
        t = torch.rand(len(real), generator=rng).to(real).view(-1, *[1] * (real.ndim - 1))
        where = real + t * (fake - real)
    where = where.detach().requires_grad_()
    (steep,) = torch.autograd.grad(discriminator(where, *names).sum(), where, create_graph=True)
    squared = steep.square().flatten(1).sum(1)  # [batch]
    return ((squared + 1e-12).sqrt() - 1).square().mean() if kind == "wgan-gp" else squared.mean()


class _State:
    """Everything that changes: three networks, two optimisers, the dice and the number of the step."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, config: TrainConfig) -> None:
        self.config, self.index, self.told = config, 0, torch.zeros(5)
        self.generator, self.discriminator = generator.train(), discriminator.train()
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        # The penalty has steps of its own, lazily: memory and rate are corrected for them (Karras et al. 2020, section 3.1).
        c = config.lazy / (config.lazy + 1) if config.penalty else 1.0
        self.lrs = {"generator_adam": config.lr, "critic_adam": c * config.discriminator_lr}
        self.generator_adam = torch.optim.Adam(generator.parameters(), config.lr, (config.beta1, config.beta2))
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), c * config.discriminator_lr, (config.beta1**c, config.beta2**c))
        self.rng = torch.Generator().manual_seed(config.seed)

    def parts(self) -> dict[str, Any]:
        return {"generator": self.generator, "critic": self.discriminator, "average": self.ema}

    def adams(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator_adam": self.generator_adam, "critic_adam": self.discriminator_optimizer}

    def save(self, path: Path | str) -> None:
        """Write all of it: tensors as safetensors, the rest as JSON inside."""
        tensors = {f"{part}.{name}": value for part, net in self.parts().items() for name, value in net.state_dict().items()}
        for part, adam in self.adams().items():
            tensors |= memory_of(adam, part)
        tensors |= {"told": self.told, "dice": self.rng.get_state()}
        tensors["torch_dice"] = torch.get_rng_state()  # for networks with dice of their own
        checkpoint.save(path, {name: value.clone() for name, value in tensors.items()}, {"kind": "training", **self.about()})

    def load(self, path: Path) -> None:
        """Go back to where `save` was called."""
        tensors, description = checkpoint.load(path, "training")
        mine, its = ({**about, "config": {**about.get("config", {}), "steps": 0}, "index": 0} for about in (self.about(), description))
        if {**its, "kind": 0} != {**mine, "kind": 0}:
            raise CheckpointError(
                f"{path} was trained with {its.get('config')}; this run wants {mine['config']}. Only `steps` may differ: "
                "give the same config, or start anew without resume."
            )
        planned = description["config"]["steps"]
        if planned != self.config.steps and description["index"] > (1 - self.config.cooldown) * planned:
            raise CheckpointError(
                f"{path} had begun its cooldown toward {planned} steps, so it cannot go on toward {self.config.steps}: "
                f"ask for {planned} steps, or start anew without resume."
            )
        try:
            for part, net in self.parts().items():
                checkpoint.load_weights(net, under(tensors, part), f"{part} of {path}")
            for part, adam in self.adams().items():
                remember(adam, under(tensors, part))
            self.told.copy_(tensors["told"])
            self.rng.set_state(tensors["dice"])
            torch.set_rng_state(tensors["torch_dice"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no whole training run: {error}. Start anew without resume.") from error
        self.index = int(description["index"])

    def about(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "index": self.index}


def _why(index: int, numbers: Tensor, config: TrainConfig) -> str:
    names = ("the critic's loss", "the generator's loss", "the gradient penalty", "the score of real", "the score of generated pictures")
    wrong = [f"{name} is {value}" for name, value in zip(names, numbers.tolist(), strict=True) if not math.isfinite(value)]
    return (
        f"training broke at step {index}: {', '.join(wrong)}. Go back to the last checkpoint and lower the rates (now "
        f"{config.rate:g} and {config.critic_rate:g}), or raise the penalty (now {config.penalty:g})."
    )


def _refuse(generator: nn.Module, images: Tensor, config: TrainConfig, labels: Tensor | None, accelerator: Any) -> None:
    if config.loss not in LOSSES:
        raise ShapeError(f"there is no loss called '{config.loss}': say {', '.join(LOSSES)}.")
    if min(config.batch, config.discriminator_steps, config.lazy) < 1:
        raise ShapeError(f"batch {config.batch}, critic_steps {config.critic_steps} and lazy {config.lazy} must all be 1 or more.")
    if not 0 <= config.cooldown < 1:
        raise ShapeError(f"a cooldown of {config.cooldown} cannot be: it is a share of the steps, from 0 to below 1.")
    if len(images) == 0 or (labels is not None and len(labels) != len(images)):
        given = f"{len(images)} pictures with {'no' if labels is None else len(labels)} labels"
        raise ShapeError(f"{given} cannot be trained on: give at least one picture, and labels for all or none.")
    if not isinstance(getattr(generator, "z_dim", None), int):
        raise ShapeError("the generator does not say how many dice it takes: write `self.z_dim = 64` in its class.")
    if accelerator is not None and config.batch % accelerator.num_processes:
        raise ShapeError(f"a batch of {config.batch} cannot be shared by {accelerator.num_processes} processes: make it a multiple.")
