"""Distillation: a generator's edits, as pairs of pictures, teach a small network to make them on any photo. Taught in notebook 07.

The losses are pix2pixHD's (Wang et al. 2018); the idea to feed it with an edited generator is Viazovetskyi et al. 2020.

    for step in distill(Student(), Critics(7, width=16), pairs, perceptual, DistillConfig(steps=600)):
        if step.look is not None:
            plot.show(step.look, alt="before, the student's, the teacher's")
    older = step.average
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent import images
from dvlatent.distillation.augment import TRIALS
from dvlatent.distillation.pix2pixhd import Seen
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.faces.perceptual import Distance
from dvlatent.training import Augment, TrainingState, autocast, share, update_ema
from dvlatent.types import Image

LOOK = 6  # unseen pairs in a look
PARTS = ("pixel", "perceptual", "adversarial", "features", "identity")  # of the student's loss, each with a weight in the config


class PairDataset(Protocol):
    """Pairs to learn from, such as `pairs.Pairs`."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, after, and the strength of each edit."""
        ...


@dataclass(frozen=True)
class DistillConfig:
    """How a filter is trained. A weight of 0 leaves its loss out, and the work that it costs."""

    steps: int = 6000  # updates of the student
    batch: int = 8  # pairs in a step, over all processes together
    coarse_steps: int = 6000  # in the first so many steps, the losses but pixel look at small pictures: a quarter of their time.
    # All of them: critics that are new to large pictures soon wrote white specks into eyes
    coarse_px: int = 128  # and how small they are
    discriminator_from: int = 0  # steps without critics at first: until the student roughly knows what to do, they say little
    pixel: float = 10.0  # weight of the mean absolute difference of pixels
    perceptual: float = 5.0  # weight of the perceptual distance
    adversarial: float = 1.0  # weight of what the critics say: least squares (Mao et al. 2017)
    features: float = 10.0  # weight of matching the critics' inner answers (Wang et al. 2018, equation 3)
    identity: float = 0.0  # weight of the distance between the person on the student's and on the teacher's picture
    lr: float = 1e-3  # Adam's learning rate of the student
    discriminator_lr: float = 4e-4  # Adam's learning rate of the critics
    beta1: float = 0.5  # Adam's memory of the gradient
    cooldown: float = 0.3  # share of the steps, the last ones, over which both rates fall to zero
    ema_images: float = 4000  # half-life of the averaged student, in pairs; 0 is no averaging
    bf16: bool = False  # convolutions in 16-bit numbers: up to twice as fast where the processor has them
    sample_every: int = 500  # steps from one look at unseen pairs to the next; 0 is never
    seed: int = 0  # of everything that is drawn here; the networks' first weights are the caller's


@dataclass(frozen=True)
class Step:
    """What one step of training gave. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    pairs: int  # pairs seen so far, repetitions counted
    loss: float  # the student's, all parts with their weights
    parts: Mapping[str, float]  # each part of it, without its weight
    discriminator_loss: float
    student: nn.Module = field(repr=False)  # as it is now
    ema: nn.Module = field(repr=False)  # its running average, in eval mode: the one to keep
    discriminator: nn.Module = field(repr=False)
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `distill(..., resume=path)` needs to go on bit for bit
    look: Image | None = field(repr=False, default=None)  # every `look_every` steps: unseen pairs, a row each: before, student, teacher


def distill(
    student: nn.Module,
    discriminator: nn.Module,
    pairs: PairDataset,
    perceptual: Distance | None,
    config: DistillConfig | None = None,
    *,
    augment: Augment | None = None,
    identity: Callable[[Image], Tensor] | None = None,
    unseen: PairDataset | None = None,
    resume: Path | str | None = None,
    accelerator: Any = None,
) -> Iterator[Step]:
    """Train a student and its critics in place, one `Step` per update of the student.

    `student(image, strength)` gives a picture; `critics` take before, picture and strength as 7 channels, and give what they saw,
    layer by layer (`pix2pixhd.Critics(7)`). `augment` changes both pictures of a pair alike (`photos.PhotoWarp()`). `perceptual` and
    `identity` are needed where their weights are not 0. `accelerator` (of the package accelerate) shares each batch among its
    processes, and may ask for bf16. Raises TrainingDiverged when a loss is no longer a number, ShapeError for a config that cannot
    be, CheckpointError for a file that does not belong to this run.
    """
    config = config or DistillConfig()
    _refuse(pairs, config, perceptual, identity, accelerator)
    ema = copy.deepcopy(student).eval().requires_grad_(False)
    student.train(), discriminator.train()
    adams = {
        "student_adam": torch.optim.Adam(student.parameters(), config.lr, (config.beta1, 0.99)),
        "critics_adam": torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, (config.beta1, 0.99)),
    }
    state = TrainingState(config, {"student": student, "critics": discriminator, "average": ema}, adams)
    if resume is not None:
        state.load(resume)
    place, mine = next(student.parameters()).device, share(config.batch, accelerator)

    def lesson() -> tuple[Image, Image, Tensor]:
        """Pairs; all processes draw alike, each keeps its share."""
        chosen = torch.randint(len(pairs), (config.batch,), generator=state.rng)[mine]
        before, after, strength = (part.to(place) for part in pairs.batch(chosen.tolist()))
        if augment is None:
            return before, after, strength
        numbers = augment.draw(config.batch, state.rng)[mine].to(place)
        return augment(before, numbers), augment(after, numbers), strength

    def seen(picture: Image) -> Seen:
        with autocast(place, config.bfloat16, accelerator):
            return discriminator(stacked(before, picture, strength))

    for index in range(state.index, config.steps):
        state.cool()
        before, after, strength = lesson()
        with autocast(place, config.bfloat16, accelerator):
            made = student(before, strength)
        made, discriminator_loss = made.float(), torch.zeros((), device=place)
        parts = {"pixel": F.l1_loss(made, after)}
        if config.identity:
            with torch.no_grad():
                who = identity(after)
            parts["identity"] = (identity(made.clamp(-1, 1)) - who).norm(dim=1).mean()
        if index < config.coarse_steps and made.shape[-1] > config.coarse_px:
            before, made, after = (images.resize(picture, config.coarse_px) for picture in (before, made, after))
        if config.perceptual:
            with torch.no_grad():
                target = perceptual.features(after)
            parts["perceptual"] = perceptual(made, target).mean()
        if config.adversarial + config.features > 0 and index >= config.discriminator_from:
            discriminator.requires_grad_(True)
            discriminator_loss = (least_squares(seen(after), 1.0) + least_squares(seen(made.detach()), 0.0)) / 2
            state.learn("critics_adam", discriminator_loss, accelerator)
            discriminator.requires_grad_(False)
            with torch.no_grad():
                wanted = seen(after)
            judged = seen(made)
            parts |= {"adversarial": least_squares(judged, 1.0), "features": feature_matching(wanted, judged)}
        loss = sum(getattr(config, name) * part for name, part in parts.items())
        state.learn("student_adam", loss, accelerator)
        state.index = index + 1
        update_ema(ema, student, state.index * config.batch, config.batch, config.ema_images)
        told = torch.stack([loss, discriminator_loss, *parts.values()]).detach()
        told = (told if accelerator is None else accelerator.reduce(told, "mean")).tolist()
        if not all(map(math.isfinite, told)):
            raise TrainingDiverged(
                f"training broke at step {index}: the student's loss is {told[0]}, the critics' is {told[1]}. Go back to the last "
                f"checkpoint and lower the rates (now {config.rate:g} and {config.critic_rate:g})."
            )
        due = unseen is not None and config.sample_every and state.index % config.sample_every == 0
        look = look_at(ema, unseen) if due else None
        told_parts = dict(zip(parts, told[2:], strict=True))
        yield Step(index, state.index * config.batch, told[0], told_parts, told[1], student, ema, discriminator, state.save, look)


def stacked(before: Image, picture: Image, strength: Float[Tensor, " batch"]) -> Float[Tensor, "batch 7 height width"]:
    """What critics look at: the question (a picture and a strength) and an answer."""
    return torch.cat([before, picture, strength.view(-1, 1, 1, 1).expand_as(before[:, :1])], dim=1)


def least_squares(seen: Seen, wanted: float) -> Float[Tensor, ""]:
    """How far the critics' verdicts are from 1, real, or 0, made: squares, averaged over patches, summed over critics (Mao et al. 2017)."""
    return torch.stack([(layers[-1].float() - wanted).square().mean() for layers in seen]).sum()


def feature_matching(real: Seen, made: Seen) -> Float[Tensor, ""]:
    """Mean absolute difference of what the critics saw in both, without the verdicts (Wang et al. 2018, equation 3).

    Averaged over layers and critics, as the authors' code does.
    """
    layers = [pair for one, other in zip(real, made, strict=True) for pair in zip(one[:-1], other[:-1], strict=True)]
    return torch.stack([F.l1_loss(b.float(), a.float()) for a, b in layers]).mean()


@torch.no_grad()
def look_at(student: nn.Module, unseen: PairDataset, count: int = LOOK) -> Image:
    """One picture of some unseen pairs, a row each: before, what the student makes of it, what the teacher made of it."""
    before, after, strength = unseen.batch(range(min(count, len(unseen))))
    place = next(student.parameters()).device
    made = student(before.to(place), strength.to(place)).clamp(-1, 1).cpu()
    return images.grid(torch.stack([before, made, after], dim=1).flatten(0, 1), columns=3)


@torch.no_grad()
def timidity(student: nn.Module, unseen: PairDataset, read: Callable[[Image], Float[Tensor, " batch"]], count: int = 64) -> float:
    """By which factor a student's change of the picture falls short of its teacher's, as `read` sees it: 1 is equal, 1.3 is timid.

    Who must answer with one picture where several would do answers with their mean: with less than any of them. The factor is the one
    that makes the mean move of the score along the strengths equal on unseen pairs, found by bisection between 1 and 2.
    """
    took, towards, wanted = [], [], torch.zeros(())
    count, place = min(count, len(unseen)), next(student.parameters()).device
    for at in range(0, count, 8):
        before, after, strength = (part.to(place) for part in unseen.batch(range(at, min(at + 8, count))))
        base = read(before)
        took.append((before, student(before, strength) - before, base))
        towards.append(strength.sign())
        wanted = wanted + (strength.sign() * (read(after) - base)).sum()

    def falls_short(factor: float) -> bool:
        moved = [
            way * (read((before + factor * change).clamp(-1, 1)) - base)
            for (before, change, base), way in zip(took, towards, strict=True)
        ]
        return bool(torch.cat(moved).sum() < wanted)

    low, high = 1.0, 2.0
    if not falls_short(low):
        return low
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def trial_scores(student: nn.Module, unseen: PairDataset, perceptual: Distance, count: int = 64) -> dict[str, dict[str, float]]:
    """How near a student comes to its teacher on unseen pairs, as drawn and made unlike what the teacher draws (`photos.TRIALS`).

    Each trial changes both pictures of a pair alike. For each: "psnr_db" and "perceptual" of student against teacher, and "left", the
    perceptual distance that is left of what there was before the filter: 1 is no better than doing nothing, 0 is the teacher.
    """
    sums: dict[str, Tensor] = {name: torch.zeros(3, dtype=torch.float64) for name in TRIALS}
    count = min(count, len(unseen))
    if count < 1:
        raise ShapeError(f"scores need a pair at least; {len(unseen)} unseen ones were given.")
    place = next(student.parameters()).device
    for at in range(0, count, 8):
        before, after, strength = (part.to(place) for part in unseen.batch(range(at, min(at + 8, count))))
        for name, change in TRIALS.items():
            changed, target = change(before), change(after)
            made = student(changed, strength).clamp(-1, 1)
            psnr = -10 * torch.log10(((made - target) / 2).square().mean(dim=(1, 2, 3)))
            wanted = perceptual.features(target)
            sums[name] += torch.stack([psnr.sum(), perceptual(made, wanted).sum(), perceptual(changed, wanted).sum()]).double().cpu()
    return {
        name: {"psnr_db": round(psnr / count, 2), "perceptual": round(made / count, 4), "left": round(made / max(nothing, 1e-9), 3)}
        for name, (psnr, made, nothing) in ((name, total.tolist()) for name, total in sums.items())
    }


class Subset:
    """Some of the pairs, by their numbers: to hold a few back."""

    def __init__(self, pairs: PairDataset, numbers: Sequence[int]) -> None:
        self.pairs, self.numbers = pairs, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, after, and the strength of each edit."""
        return self.pairs.batch([self.numbers[index] for index in indices])


def _refuse(pairs: PairDataset, config: DistillConfig, perceptual: object, identity: object, accelerator: Any) -> None:
    if len(pairs) == 0 or min(config.steps, config.batch) < 1 or not 0 <= config.cooldown < 1:
        raise ShapeError(
            f"{len(pairs)} pairs, {config.steps} steps of {config.batch} and a cooldown of {config.cooldown} cannot be trained on: give a "
            "pair, a step and a batch of 1 at least, and a cooldown from 0 to below 1."
        )
    if wrong := [name for name in PARTS if not 0 <= getattr(config, name) < math.inf]:
        raise ShapeError(f"the weight of {', '.join(wrong)} must be 0 or more, and finite.")
    if sum(getattr(config, name) for name in PARTS) == 0:
        raise ShapeError(f"with every weight at 0 there is nothing to learn: give one of {', '.join(PARTS)}.")
    for name, given in (("perceptual", perceptual), ("identity", identity)):
        if getattr(config, name) and given is None:
            raise ShapeError(f"the weight of {name} is {getattr(config, name)}, but none was given: pass {name}=, or set it to 0.")
    if accelerator is not None and config.batch % accelerator.num_processes:
        raise ShapeError(f"a batch of {config.batch} cannot be shared by {accelerator.num_processes} processes: make it a multiple.")
