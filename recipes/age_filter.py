"""The age filter's last training, which `recipes/filters.py age` does: pairs of full renders, and a discriminator that paints wrinkles.

A pair is a face at 256 px and the same face older or younger by a share of `age-edit`. What the edit should leave alone is put back: the
background, the skin's mean color, and hair is never more colorful than before. A student that already ages learns from them with pixels,
a perceptual distance, coarse colors and a projected discriminator (Sauer et al. 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import LICENSE, half
from tfjs import FACERES, HUMAN, Faceres, fetch
from torch import Tensor, nn

from dvlatent import checkpoint, images
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.distillation.projected import ProjectedDiscriminator, hinge_discriminator, hinge_generator
from dvlatent.distillation.train import PairDataset, Subset, trial_scores
from dvlatent.faces.detector import FaceCheck
from dvlatent.latents import broadcast, w_of
from dvlatent.metrics.edits import lab, skin_detail
from dvlatent.training import TrainingState, cooldown, ema_decay, progress, update_ema
from dvlatent.types import Image
from dvlatent.zoo import load

HOLDOUT = 24  # pairs that the student never sees
FIRST_SEED, BLOCK, PSI = 2_500_000, 16, 0.8  # of the pairs; seeds of a file
BOLDER = 1.22  # times what the student adds: it hesitates where several pictures would do
OLDER, YOUNGER = 1.0, -1.1 / 1.12  # how often `age-edit` is done at strength +2 and -2
# what the dial is worth, the mean of two outside readers: the last line of benchmarks/ageing.py --first-seed 21000
YEARS = {"strength": [-2.0, -1.0, 1.0, 2.0], "years": [-11.1, -7.3, 11.4, 22.6]}
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class SecondConfig:
    """The last training of the age filter."""

    steps: int = 850  # updates of the student
    batch: int = 4  # pairs in each
    lr: float = 5e-4  # of the student
    discriminator_lr: float = 1e-3
    pixel: float = 5.0  # weight of the mean absolute difference
    perceptual: float = 5.0  # of the perceptual distance
    # of the discriminator: the first step of each weight. It falls while the discriminator learns the few pairs by heart
    adversarial: list[list[float]] = field(default_factory=lambda: [[140, 0.4], [300, 0.25], [500, 0.12]])
    coarse: float = 10.0  # of the mean absolute difference of 16-px means: colors
    reverse: float = 0.3  # fraction of the pairs that are turned round, strength included
    cooldown: float = 0.31  # fraction of the steps in which the learning rates fall
    ema_images: float = 500
    bf16: bool = True
    seed: int = 0


def strengths(seed: int) -> tuple[float, float]:
    """How much older and how much younger a face becomes, 0.4 to 2 each: always the same for the same seed."""
    rng = np.random.default_rng([seed, 7])
    older, younger = (float(2 * np.sqrt(rng.uniform(0.04, 1))) for _ in range(2))
    return older, -younger


class Teacher:
    """Draws, mends and checks the pairs."""

    def __init__(self, readers: Path) -> None:
        self.generator, self.edit, self.identity = load("faces"), load("age-edit"), load("identity")
        self.finder, self.landmarks, self.parts, self.clean = load("attributes"), load("landmarks"), load("face-parts"), FaceCheck()
        self.faceres = Faceres(*fetch(HUMAN, FACERES, readers))

    @torch.no_grad()
    def pairs(self, seed: int) -> Iterator[tuple[Image, Image, float, str]]:
        """Before, after, strength, and why it is refused ("" for a good one): two of each face, fewer of the very young and old."""
        ws = broadcast(w_of(self.generator, [seed], PSI), self.generator.num_layers)
        before = rounded_to_bytes(images.resize(self.generator.synthesis(ws), 256))
        sure, others = self.clean(before)[0].tolist()
        if sure < 0.4 or others > 0.3:
            return
        first, (older, younger) = self.scores(before), strengths(seed)
        for strength, steps, possible in ((older, OLDER, first["age"] < 62), (younger, -YOUNGER, first["age"] > 9)):
            if possible:
                moved = (strength / 2 * steps * self.edit)(ws)
                moved_face = images.resize(self.generator.synthesis(moved), 256).clamp(-1, 1)
                after = rounded_to_bytes(mend(before, moved_face, self.parts(before), self.parts(moved_face)))
                yield before, after, strength, refuse(first, self.scores(after), strength)

    def scores(self, face: Image) -> dict[str, Any]:
        """All that the rules ask for."""
        real = self.faceres(torch.cat([face, face.flip(-1)])).mean(dim=0)
        age, male = self.finder(face)[0].tolist()
        points = dict(zip(self.landmarks.names, self.landmarks(face)[0].tolist(), strict=True))
        said = {"age": 0.7 * float(real[0]) + 0.3 * age, "male": float(real[1]), "finder_male": male}
        return {**points, **said, "person": self.identity(face)[0], "detail": float(skin_detail(face))}


def refuse(before: dict[str, Any], after: dict[str, Any], strength: float) -> str:
    """Why a pair is not worth learning from: the first rule that it breaks, "" if none."""
    change = {name: after[name] - before[name] for name in before}
    finer, years = after["detail"] / before["detail"], change["age"] * np.sign(strength)
    needed = 4 * strength - 2 if strength > 0 else min(-3 * strength, 0.3 * before["age"]) - 2
    limits = {"yaw": 8.0, "pitch": 8.0, "roll": 3.0, "smile": 0.4, "mouth_open": 0.15, "male": 0.4, "finder_male": 0.4}
    rules = {
        "age did not move": years >= needed,
        "another person": float(change["person"].norm()) < 0.6,
        **{f"{name} changed": abs(change[name]) <= limit for name, limit in limits.items()},
        "no finer": strength <= 1.2 or finer >= 1.0,
        "coarser": strength >= -1.2 or finer <= 1.15,
    }
    return next((reason for reason, holds in rules.items() if not holds), "")


def mend(before: Image, after: Image, parts: Tensor, parts_after: Tensor) -> Image:
    """The after, with the before's background and mean skin color, and with hair that is no more colorful.

    `parts` are the soft masks of both pictures, [batch, 3, size, size], as FaceParts gives them.
    """
    skin, hair = (parts[:, [part]] * parts_after[:, [part]] for part in (1, 2))
    was, now = (before + 1) / 2, (after + 1) / 2
    gain = (masked_mean(was, skin) / masked_mean(now, skin).clamp_min(0.02)).clamp(0.75, 1.35)
    now = now * (1 + parts_after[:, [1]] * (gain - 1))
    chroma = [lab(2 * one - 1)[:, 1:].norm(dim=1, keepdim=True) for one in (was, now)]
    keep = (masked_mean(chroma[0], hair) / masked_mean(chroma[1], hair).clamp_min(0.5)).clamp(0.3, 1.0)
    gray = (now * now.new_tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)
    now = now + parts_after[:, [2]] * (1 - keep) * (gray - now)
    return (before + soft(1 - torch.minimum(parts[:, [0]], parts_after[:, [0]])) * (2 * now - 1 - before)).clamp(-1, 1)


def masked_mean(image: Tensor, mask: Tensor) -> Tensor:
    """[batch, channel, 1, 1]."""
    return (image * mask).sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)


def soft(mask: Tensor) -> Tensor:
    """A mask a few pixels larger, with an edge that fades."""
    return F.avg_pool2d(F.pad(F.max_pool2d(mask, 9, 1, 4), (4, 4, 4, 4), mode="replicate"), 9, 1)


def rounded_to_bytes(image: Image) -> Image:
    """As a file holds it."""
    return images.from_uint8(images.to_uint8(image))


def draw_pairs(folder: Path, count: int, readers: Path) -> None:
    """Fill a folder with files of pairs, a block of seeds each, until it has `count`; goes on where it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    teacher, block = None, 0
    while sum(len(np.load(file)["strength"]) for file in folder.glob("*.npz")) < count:
        file, block = folder / f"{block:05d}.npz", block + 1
        if file.exists():
            continue
        teacher = teacher or Teacher(readers)
        seeds = range(FIRST_SEED + (block - 1) * BLOCK, FIRST_SEED + block * BLOCK)
        made = [pair for seed in seeds for pair in teacher.pairs(seed)]
        good = [pair for pair in made if not pair[3]]
        pictures = np.array([np.stack([images.to_uint8(one)[0] for one in pair[:2]]) for pair in good], np.uint8)
        reasons = [pair[3] or "kept" for pair in made]
        with file.with_suffix(".part").open("wb") as part:
            np.savez(part, pairs=pictures.reshape(-1, 2, 256, 256, 3), strength=[pair[2] for pair in good], reasons=reasons)
        file.with_suffix(".part").replace(file)


class PairFiles:
    """The pairs of a folder: `batch` as `distillation.train.PairDataset`."""

    def __init__(self, folder: Path) -> None:
        files = [np.load(file) for file in sorted(folder.glob("*.npz"))]
        self.pictures = np.concatenate([file["pairs"] for file in files])
        self.strength = torch.from_numpy(np.concatenate([file["strength"] for file in files])).float()

    def __len__(self) -> int:
        return len(self.strength)

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Tensor]:
        """Before, after, strength."""
        rows = list(indices)
        pictures = self.pictures[rows]
        return images.from_uint8(pictures[:, 0]), images.from_uint8(pictures[:, 1]), self.strength[rows]


def recolor(image: Image, numbers: Tensor) -> Image:
    """Photos have other saturation and contrast than the generator's pictures; some are gray. `numbers` [batch, 5] from 0 to 1."""
    gray = (image * image.new_tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)
    one = torch.ones_like(numbers[:, 0])
    saturation = torch.where(numbers[:, 0] < 0.4, torch.exp(numbers[:, 1] - 0.6), torch.where(numbers[:, 0] > 0.95, 0 * one, one))
    chosen = numbers[:, 2] < 0.4
    contrast = torch.where(chosen, torch.exp(0.7 * (numbers[:, 3] - 0.5)), one)
    light = torch.where(chosen, 0.3 * (numbers[:, 4] - 0.5), 0 * one)
    saturation, contrast, light = (value[:, None, None, None] for value in (saturation, contrast, light))
    return ((gray + saturation * (image - gray)) * contrast + light).clamp(-1, 1)


def train(
    student: Student, pairs: PairDataset, perceptual: nn.Module, config: SecondConfig, run: Path, keep_every: int = 50
) -> Iterator[Progress]:
    """Train a student in place, a step at a time. The run is kept in the file `run` every so many steps, and goes on from there."""
    torch.manual_seed(config.seed)
    discriminator = ProjectedDiscriminator()
    student, discriminator = (network.to(memory_format=torch.channels_last).train() for network in (student, discriminator))
    ema = copy.deepcopy(student).eval().requires_grad_(False)
    optimizers = {
        "student_optimizer": torch.optim.Adam(student.parameters(), config.lr, (0.5, 0.99)),
        "discriminator_optimizer": torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, (0.5, 0.99)),
    }
    state = TrainingState(config, {"student": student, "discriminator": discriminator, "ema": ema}, optimizers)
    if run.exists():
        state.load(run)
    warp = PhotoWarp()
    for index in range(state.index, config.steps):
        state.scale_lr(cooldown(index, config.steps, config.cooldown))
        before, after, strength = sample(pairs, warp, config, state.rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            made = student(before, strength)
        made, dial = made.float(), strength / student.reach
        with torch.no_grad():
            question, target = perceptual.network.turned(before), perceptual.network.turned(after)
        answer = perceptual.network.turned(made)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            real, fake = discriminator(question, target, dial), discriminator(question, [one.detach() for one in answer], dial)
        discriminator_loss = hinge_discriminator(real, fake)
        state.update("discriminator_optimizer", discriminator_loss, None)
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            adversarial = hinge_generator(discriminator(question, answer, dial))
        discriminator.requires_grad_(True)
        losses = {
            "pixel": F.l1_loss(made, after),
            "perceptual": perceptual(*(tuple(F.normalize(one, dim=1) for one in side) for side in (answer, target))).mean(),
            "coarse": F.l1_loss(F.avg_pool2d(made, 16), F.avg_pool2d(after, 16)),
            "adversarial": adversarial,
        }
        weights = asdict(config) | {"adversarial": [0.0, *(weight for first, weight in config.adversarial if index >= first)][-1]}
        state.update("student_optimizer", sum(weights[name] * loss for name, loss in losses.items()), None)
        state.index = index + 1
        update_ema(ema, student, ema_decay(state.index * config.batch, config.batch, config.ema_images))
        if state.index % keep_every == 0:
            state.save(run)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        yield Progress(index, {**values, "discriminator": float(discriminator_loss.detach())}, ema)


@dataclass(frozen=True)
class Progress:
    """One update."""

    index: int
    losses: dict[str, float]
    ema: nn.Module


def sample(pairs: PairDataset, warp: PhotoWarp, config: SecondConfig, rng: torch.Generator) -> tuple[Image, Image, Tensor]:
    """Pairs of a step, some turned round, all made like photos: moved, relit, recolored, noisy. Both pictures of a pair change alike."""
    chosen = torch.randint(len(pairs), (config.batch,), generator=rng)
    before, after, strength = pairs.batch(chosen.tolist())
    turned = torch.rand(config.batch, generator=rng) < config.reverse
    rows = turned[:, None, None, None]
    before, after = torch.where(rows, after, before), torch.where(rows, before, after)
    where, numbers = warp.draw(config.batch, rng), torch.rand(config.batch, 6, generator=rng)
    noise = torch.randn(before.shape, generator=rng) * (0.06 * (numbers[:, 5] - 0.6)).clamp_min(0)[:, None, None, None]
    photos = ((recolor(warp(one, where), numbers) + noise).clamp(-1, 1) for one in (before, after))
    before, after = (photo.contiguous(memory_format=torch.channels_last) for photo in photos)
    return before, after, torch.where(turned, -strength, strength)


def make(start: Path, out: Path, pool: Path, count: int = 247, config: SecondConfig | None = None, command: str = "") -> None:
    """Draw the pairs into `pool`, train the filter of the file `start` further, write it in half precision and a little bolder."""
    config, student = config or SecondConfig(), Student()
    draw_pairs(pool / "pairs-age-2", count, pool / "readers")
    weights, theirs = checkpoint.load(start, "filter")
    checkpoint.load_weights(student, weights, start.name)
    pairs, run, perceptual = PairFiles(pool / "pairs-age-2"), pool / "age-last.run.safetensors", load("perceptual")
    learn, unseen = Subset(pairs, range(HOLDOUT, len(pairs))), Subset(pairs, range(HOLDOUT))
    words = lambda step: " ".join(f"{name} {value:.3f}" for name, value in step.losses.items())  # noqa: E731
    for step in progress(train(student, learn, perceptual, config, run), config.steps, words):
        ema = step.ema
    ema.amplify(BOLDER)
    about = {
        "kind": "filter",
        "amplified": BOLDER,
        **ema.sizes,
        "direction": "age",
        "strengths": [-ema.reach, ema.reach],
        "size_px": 256,
        "years": YEARS,
        "pairs": len(learn),
        "holdout": HOLDOUT,
        "scores": trial_scores(ema, unseen, perceptual),
    }
    about |= {"config": asdict(config), "steps_done": config.steps, "command": command, "licence": LICENSE}
    about["started_from"] = {name: theirs.get(name) for name in ("command", "config", "steps_done", "started_from")}
    checkpoint.save(out, half(ema), about)
    run.unlink(missing_ok=True)
