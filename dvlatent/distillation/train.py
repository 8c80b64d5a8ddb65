"""Distillation: a generator's edits, as pairs of pictures, teach a small network to make them on any photo. Taught in notebook 07.

The losses are pix2pixHD's (Wang et al. 2018); to learn from an edited generator is the idea of Viazovetskyi et al. 2020.

    for step in distill(Student(), MultiscaleDiscriminator(7, width=16), pairs, perceptual, DistillConfig(steps=600)):
        if step.sample_grid is not None:
            plot.show(step.sample_grid, alt="before, the student's, the teacher's")
    older = step.ema
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

from dvlatent import checkpoint, images, training
from dvlatent.distillation.augment import TRIALS, PhotoWarp
from dvlatent.distillation.pairs import Pairs
from dvlatent.distillation.pix2pixhd import Features, MultiscaleDiscriminator, Student
from dvlatent.errors import ShapeError
from dvlatent.faces.perceptual import Distance
from dvlatent.training import Augment, TrainingState, autocast, cooldown, ema_decay, finite, progress, shard, update_ema
from dvlatent.types import Image

LICENSE = "research and teaching only, as the generator that taught it"
LOSSES = ("pixel", "perceptual", "adversarial", "features", "identity")  # of the student, each with a weight in the config
DISCRIMINATOR_WIDTH = 16  # where `train_filter` makes the discriminator
HOLDOUT = 100  # pairs that a filter never sees: the first ones
Read = Callable[[Image], Float[Tensor, " batch"]]  # the score that an edit changes


class PairDataset(Protocol):
    """Pairs to learn from, such as `pairs.Pairs`."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, after, and the strength of each edit."""
        ...


class Subset:
    """Some pairs of a data set, by their numbers."""

    def __init__(self, pairs: PairDataset, numbers: Sequence[int]) -> None:
        self.pairs, self.numbers = pairs, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, after, and the strength of each edit."""
        return self.pairs.batch([self.numbers[index] for index in indices])


@dataclass(frozen=True)
class DistillConfig:
    """How a filter is trained. A weight of 0 leaves out a loss, and the work that it costs."""

    steps: int = 6000  # updates of the student
    batch: int = 8  # pairs in a step, over all processes together
    coarse_steps: int = 6000  # in the first so many steps, all losses but pixel see small pictures: a quarter of their time.
    # The default is all steps: a discriminator that is new to large pictures soon drew white specks into eyes
    coarse_px: int = 128  # the side of these small pictures
    discriminator_from: int = 0  # first step with a discriminator: it says little until the student roughly knows what to do
    pixel: float = 10.0  # weight of the mean absolute difference of pixels
    perceptual: float = 5.0  # weight of the perceptual distance
    adversarial: float = 1.0  # weight of the adversarial loss: least squares (Mao et al. 2017)
    features: float = 10.0  # weight of feature matching in the discriminator (Wang et al. 2018, equation 3)
    identity: float = 0.0  # weight of the identity distance between the student's and the teacher's picture
    lr: float = 1e-3  # Adam's learning rate of the student
    discriminator_lr: float = 4e-4  # Adam's learning rate of the discriminator
    beta1: float = 0.5  # Adam's decay rate of the mean gradient
    cooldown: float = 0.3  # fraction of the steps, at the end, in which both learning rates fall to zero
    ema_images: float = 4000  # half-life of the student's moving average, in pairs; 0 means no averaging
    bf16: bool = False  # convolutions in 16-bit numbers: up to twice as fast if the processor has them
    sample_every: int = 500  # steps from one sample grid of unseen pairs to the next; 0 is never
    seed: int = 0  # of everything that is drawn here; the caller draws the first weights of the networks


@dataclass(frozen=True)
class DistillStep:
    """The result of one step. The networks are live: they change when the loop goes on."""

    index: int  # of this step, from 0
    pairs: int  # pairs seen so far, with repetitions
    loss: float  # the student's: all losses with their weights
    losses: Mapping[str, float]  # each of them, without its weight
    discriminator_loss: float
    student: nn.Module = field(repr=False)  # as it is now
    ema: nn.Module = field(repr=False)  # its moving average, in eval mode: the one to keep
    discriminator: nn.Module = field(repr=False)
    save: Callable[[Path | str], None] = field(repr=False)  # writes all that `distill(..., resume=path)` needs to go on bit for bit
    sample_grid: Image | None = field(repr=False, default=None)  # every `sample_every` steps: unseen pairs, see `sample_grid`


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
) -> Iterator[DistillStep]:
    """Train a student and its discriminator in place, one `DistillStep` for each update of the student.

    `student(image, strength)` gives a picture. `discriminator` takes the picture before, a picture after and the strength as 7 channels,
    and gives the outputs of its layers (`pix2pixhd.MultiscaleDiscriminator(7)`). `augment` changes both pictures of a pair alike
    (`augment.PhotoWarp()`). `perceptual` and `identity` are needed if their weights are not 0. `accelerator` (of the package accelerate)
    divides each batch among its processes, and may ask for bf16. Raises TrainingDiverged when a loss is not finite, ShapeError for an
    impossible config, CheckpointError for a file of another run.
    """
    config = config or DistillConfig()
    _check(pairs, config, perceptual, identity)
    ema = copy.deepcopy(student).eval().requires_grad_(False)
    student.train(), discriminator.train()
    optimizers = {
        "student_optimizer": torch.optim.Adam(student.parameters(), config.lr, (config.beta1, 0.99)),
        "discriminator_optimizer": torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, (config.beta1, 0.99)),
    }
    state = TrainingState(config, {"student": student, "discriminator": discriminator, "ema": ema}, optimizers)
    if resume is not None:
        state.load(resume)
    device, rows = next(student.parameters()).device, shard(config.batch, accelerator)

    def sample_batch() -> tuple[Image, Image, Tensor]:
        """Pairs of this process; all processes draw the same numbers."""
        chosen = torch.randint(len(pairs), (config.batch,), generator=state.rng)[rows]
        before, after, strength = (part.to(device) for part in pairs.batch(chosen.tolist()))
        if augment is None:
            return before, after, strength
        numbers = augment.draw(config.batch, state.rng)[rows].to(device)
        return augment(before, numbers), augment(after, numbers), strength

    def features(picture: Image) -> Features:
        with autocast(device, config.bf16, accelerator):
            return discriminator(stacked(before, picture, strength))

    for index in range(state.index, config.steps):
        state.scale_lr(cooldown(index, config.steps, config.cooldown))
        before, after, strength = sample_batch()
        with autocast(device, config.bf16, accelerator):
            made = student(before, strength)
        made, discriminator_loss = made.float(), torch.zeros((), device=device)
        losses = {"pixel": F.l1_loss(made, after)}
        if config.identity:
            with torch.no_grad():
                person = identity(after)
            losses["identity"] = (identity(made.clamp(-1, 1)) - person).norm(dim=1).mean()
        if index < config.coarse_steps and made.shape[-1] > config.coarse_px:
            before, made, after = (images.resize(picture, config.coarse_px) for picture in (before, made, after))
        if config.perceptual:
            with torch.no_grad():
                target = perceptual.features(after)
            losses["perceptual"] = perceptual(made, target).mean()
        if config.adversarial + config.features > 0 and index >= config.discriminator_from:
            discriminator.requires_grad_(True)
            discriminator_loss = (least_squares(features(after), 1.0) + least_squares(features(made.detach()), 0.0)) / 2
            state.update("discriminator_optimizer", discriminator_loss, accelerator)
            discriminator.requires_grad_(False)
            with torch.no_grad():
                real = features(after)
            fake = features(made)
            losses |= {"adversarial": least_squares(fake, 1.0), "features": feature_matching(real, fake)}
        loss = sum(getattr(config, name) * value for name, value in losses.items())
        state.update("student_optimizer", loss, accelerator)
        state.index = index + 1
        update_ema(ema, student, ema_decay(state.index * config.batch, config.batch, config.ema_images))
        values = finite(index, {"loss": loss, "discriminator_loss": discriminator_loss, **losses}, accelerator)
        due = unseen is not None and config.sample_every and state.index % config.sample_every == 0
        grid = sample_grid(ema, unseen) if due else None
        total, of_discriminator = values.pop("loss"), values.pop("discriminator_loss")
        networks = student, ema, discriminator
        yield DistillStep(index, state.index * config.batch, total, values, of_discriminator, *networks, state.save, grid)


def stacked(before: Image, picture: Image, strength: Float[Tensor, " batch"]) -> Float[Tensor, "batch 7 height width"]:
    """The input of a discriminator: the picture before, a picture after, and the strength as a channel."""
    return torch.cat([before, picture, strength.view(-1, 1, 1, 1).expand_as(before[:, :1])], dim=1)


def least_squares(features: Features, target: float) -> Float[Tensor, ""]:
    """How far the discriminator's outputs are from 1 (real) or 0 (made) (Mao et al. 2017): mean over patches, sum over scales."""
    return torch.stack([(layers[-1].float() - target).square().mean() for layers in features]).sum()


def feature_matching(real: Features, made: Features) -> Float[Tensor, ""]:
    """Mean absolute difference of the hidden activations for both pictures, without the outputs (Wang et al. 2018, equation 3).

    It is the mean over layers and scales, as in the authors' code.
    """
    layers = [pair for one, other in zip(real, made, strict=True) for pair in zip(one[:-1], other[:-1], strict=True)]
    return torch.stack([F.l1_loss(b.float(), a.float()) for a, b in layers]).mean()


@torch.no_grad()
def sample_grid(student: nn.Module, unseen: PairDataset, count: int = 6) -> Image:
    """One picture of some unseen pairs, a row each: the picture before, the student's and the teacher's picture after."""
    before, after, strength = unseen.batch(range(min(count, len(unseen))))
    device = next(student.parameters()).device
    made = student(before.to(device), strength.to(device)).clamp(-1, 1).cpu()
    return images.grid(torch.stack([before, made, after], dim=1).flatten(0, 1), columns=3)


@torch.no_grad()
def amplitude_ratio(student: nn.Module, unseen: PairDataset, read: Read, count: int = 64) -> float:
    """The factor, from 1 to 2, that makes a student's edit as strong as its teacher's on unseen pairs.

    If several pictures are possible, a network that minimizes a distance answers with their mean, which shows less of the edit than each of
    them. The student's change of the picture is multiplied by a factor; a bisection finds the one for which the score of `read` moves as
    far as on the teacher's pictures. A student that is strong enough gets 1.
    """
    changes, target = [], torch.zeros(())
    for before, after, strength in _batches(student, unseen, count):
        score = read(before)
        changes.append((before, student(before, strength) - before, score, strength.sign()))
        target = target + (strength.sign() * (read(after) - score)).sum()

    def too_weak(factor: float) -> bool:
        moved = [sign * (read((before + factor * change).clamp(-1, 1)) - score) for before, change, score, sign in changes]
        return bool(torch.cat(moved).sum() < target)

    low, high = 1.0, 2.0
    if not too_weak(low):
        return low
    for _ in range(6):
        half = (low + high) / 2
        low, high = (half, high) if too_weak(half) else (low, half)
    return (low + high) / 2


@torch.no_grad()
def trial_scores(student: nn.Module, unseen: PairDataset, perceptual: Distance, count: int = 64) -> dict[str, dict[str, float]]:
    """How near a student comes to its teacher on unseen pairs, and on the same pairs made less like the teacher's (`augment.TRIALS`).

    Each trial changes both pictures of a pair alike. For each trial: "psnr_db" and "perceptual" compare student and teacher, and "left" is
    the perceptual distance that is left, relative to that of the unedited picture: 0 is the teacher, 1 is no better than no edit.
    """
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in TRIALS}
    if not min(count, len(unseen)):
        raise ShapeError(f"scores need at least one pair; {len(unseen)} unseen ones were given.")
    for before, after, strength in _batches(student, unseen, count):
        for name, change in TRIALS.items():
            changed, target = change(before), change(after)
            made = student(changed, strength).clamp(-1, 1)
            psnr = -10 * torch.log10(((made - target) / 2).square().mean(dim=(1, 2, 3)))
            wanted = perceptual.features(target)
            sums[name] += torch.stack([psnr.sum(), perceptual(made, wanted).sum(), perceptual(changed, wanted).sum()]).double().cpu()
    means = {name: (total / min(count, len(unseen))).tolist() for name, total in sums.items()}
    return {
        name: {"psnr_db": round(psnr, 2), "perceptual": round(made, 4), "left": round(made / max(unedited, 1e-9), 3)}
        for name, (psnr, made, unedited) in means.items()
    }


def _batches(student: nn.Module, pairs: PairDataset, count: int) -> Iterator[tuple[Image, Image, Tensor]]:
    """The first `count` pairs, eight at a time, on the student's device."""
    count, device = min(count, len(pairs)), next(student.parameters()).device
    for first in range(0, count, 8):
        before, after, strength = (part.to(device) for part in pairs.batch(range(first, min(first + 8, count))))
        yield before, after, strength


def train_filter(
    pairs: Pairs,
    out: Path,
    config: DistillConfig,
    *,
    perceptual: Distance,
    read: Read,
    identity: Any = None,
    holdout: int = HOLDOUT,
    start: Path | None = None,
    amplify: float | None = None,
    stop_after: int | None = None,
    command: str = "",
) -> None:
    """Train a filter on a folder of pairs, forwards and backwards (`Pairs(folder, reverse=True)`), and write its moving average.

    The run is kept beside `out` (`.run.safetensors`) every 50 steps; the same call goes on from there. A sample grid of unseen pairs is
    kept there, too (`.jpg`). The student begins with the weights of the filter `start`, if it is given. At the end its change is multiplied
    by `amplify`, or by the `amplitude_ratio` of the score that `read` reads. `stop_after` ends the training before the config's last step.
    Several processes: start them with `accelerate launch`. Raises ShapeError if fewer than `holdout` + 1 pairs exist.
    """
    learn, unseen = split(pairs, holdout)
    torch.manual_seed(config.seed)
    accelerator = training.accelerated()
    device, first = training.device_of(accelerator), accelerator is None or accelerator.is_main_process
    student, kept = Student(), out.with_suffix(".run.safetensors")
    about = {"pairs": len(learn) // 2, "holdout": holdout, "size_px": unseen.batch([0])[0].shape[-1], "made_as": pairs.settings}
    about |= {"config": vars(config), "command": command, "pairs_command": pairs.command}
    if start is not None:
        weights, theirs = checkpoint.load(start, "filter")
        weights = {name.replace("middle.", "blocks."): weight for name, weight in weights.items()}  # as our first files spell it
        checkpoint.load_weights(student, weights, start.name)
        student.amplify(1 / float(theirs.get("amplified", 1)))  # as it was trained
        about["started_from"] = {name: theirs.get(name) for name in ("command", "config", "steps_done")}
    networks = student, MultiscaleDiscriminator(7, DISCRIMINATOR_WIDTH)
    student, discriminator = (network.to(device, memory_format=torch.channels_last) for network in networks)
    perceptual, identity = perceptual.to(device), identity and identity.to(device)
    steps = distill(
        student, discriminator, learn, perceptual, config, augment=PhotoWarp(), identity=identity, unseen=unseen if first else None,
        resume=kept if kept.exists() else None, accelerator=accelerator,
    )  # fmt: skip
    words = lambda step: " ".join(f"{name} {value:.3f}" for name, value in step.losses.items())  # noqa: E731
    for step in progress(steps, config.steps, words, quiet=not first, save=kept if first else None):
        if step.sample_grid is not None:
            images.write(step.sample_grid, out.with_suffix(".jpg"))
            save_filter(out, step.ema, {**about, "steps_done": step.index + 1})
        if step.index + 1 == stop_after:
            break
    if first:
        factor = amplify or amplitude_ratio(step.ema, unseen, read)
        step.ema.amplify(factor)
        scores = trial_scores(step.ema, unseen, perceptual)
        save_filter(out, step.ema, {**about, "steps_done": step.index + 1, "amplified": round(factor, 3), "scores": scores})
        kept.unlink(missing_ok=True)
        print(f"{out}: on {min(64, len(unseen))} unseen pairs\n{score_table(scores)}")


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """What `trial_scores` found, in lines, with a warning if the filter is worse than no filter."""
    lines = [f"  {'':18}{'PSNR dB':>9}{'perceptual':>12}{'left':>7}   (left: 0 is the teacher, 1 is no better than no edit)"]
    lines += [f"  {name:18}{row['psnr_db']:9.2f}{row['perceptual']:12.4f}{row['left']:7.2f}" for name, row in scores.items()]
    if worse := [name for name, row in scores.items() if row["left"] >= 1]:
        lines += [f"Warning: worse than doing nothing ({', '.join(worse)}): train for more --steps, or on more pairs."]
    return "\n".join(lines)


def split(pairs: Pairs, holdout: int) -> tuple[Subset, Subset]:
    """Pairs to learn from, forwards and backwards, and the first `holdout` ones, forwards only. Raises ShapeError if none are left."""
    rows = len(pairs) // 2
    if not 1 <= holdout < rows:
        advice = f"say --holdout {rows // 4 or 1}, or make" if rows > 1 else "make"
        raise ShapeError(f"{holdout} of {rows} pairs cannot be held out to measure on: {advice} more pairs with `dvlatent pairs`.")
    return Subset(pairs, [*range(holdout, rows), *range(rows + holdout, 2 * rows)]), Subset(pairs, range(holdout))


def save_filter(out: Path, student: Student, about: Mapping[str, Any]) -> None:
    """Write a filter in half precision with what is known about it."""
    direction = about.get("made_as", {}).get("direction", {}).get("name")
    description = {"kind": "filter", **student.sizes, "direction": direction, "strengths": [-student.reach, student.reach], **about}
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in student.state_dict().items()}
    checkpoint.save(out, tensors, {**description, "licence": LICENSE})


def _check(pairs: PairDataset, config: DistillConfig, perceptual: object, identity: object) -> None:
    if len(pairs) == 0 or min(config.steps, config.batch) < 1 or not 0 <= config.cooldown < 1:
        raise ShapeError(
            f"{len(pairs)} pairs, {config.steps} steps of {config.batch} and a cooldown of {config.cooldown} cannot be trained on: give a "
            "pair, a step and a batch of 1 at least, and a cooldown from 0 to below 1."
        )
    if not (0 <= config.lr < math.inf and 0 <= config.discriminator_lr < math.inf and config.coarse_px >= 1):
        rates = f"{config.lr:g} and {config.discriminator_lr:g}"
        raise ShapeError(f"the learning rates {rates} must not be below 0, and small pictures have a side: {config.coarse_px} px is none.")
    if wrong := [name for name in LOSSES if not 0 <= getattr(config, name) < math.inf]:
        raise ShapeError(f"the weight of {', '.join(wrong)} must be 0 or more, and finite.")
    if sum(getattr(config, name) for name in LOSSES) == 0:
        raise ShapeError(f"with every weight at 0 there is nothing to learn: give one of {', '.join(LOSSES)}.")
    for name, given in (("perceptual", perceptual), ("identity", identity)):
        if getattr(config, name) and given is None:
            raise ShapeError(f"the weight of {name} is {getattr(config, name)}, but none was given: pass {name}=, or set it to 0.")
