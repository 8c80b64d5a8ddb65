"""A filter's last training, which `recipes/filters.py` does: pairs of full renders, and a discriminator that paints wrinkles and teeth.

A pair is a face at 256 px and the same face after a share of an edit. What the edit should leave alone is put back: the background, the
mean colors of skin, lips and teeth, and hair keeps its hue and is never more colorful than before. A student that knows the edit a little
learns from them with pixels, a perceptual distance, coarse colors and a projected discriminator (Sauer et al. 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import LICENSE, half
from glasses import Glasses
from skimage.draw import polygon2mask
from tfjs import FACERES, HUMAN, Faceres, fetch
from torch import Tensor, nn

from dvlatent import checkpoint, images
from dvlatent.directions import Edit
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.distillation.projected import ProjectedDiscriminator, hinge_discriminator, hinge_generator
from dvlatent.distillation.train import PairDataset, Subset, trial_scores
from dvlatent.faces.detector import FaceCheck
from dvlatent.latents import broadcast, w_of
from dvlatent.metrics.edits import skin_color, skin_detail
from dvlatent.training import TrainingState, cooldown, ema_decay, progress, update_ema
from dvlatent.types import Image
from dvlatent.zoo import load

HOLDOUT = 24  # pairs that the student never sees
FIRST_SEED, BLOCK, PSI = 2_500_000, 16, 0.8  # of the pairs; seeds of a file
SKIN, HAIR, LIPS, MOUTH = PARTS = 1, 2, 3, 4  # of a face, as masks; the fifth are the eyes
EYES = 5
Edits = Callable[[], Sequence[Edit]]
LUMINANCE = (0.299, 0.587, 0.114)
REACH = 2.0  # the largest strength
LIGHT_SKIN = 25  # degrees of the individual typology angle (Chardon et al. 1991), from which skin is light
View = tuple[tuple[Tensor, ...], Image, Image]  # a student's inputs, and the pictures before and after
Viewer = Callable[[Image, Image, Tensor, torch.Generator], View]


@dataclass(frozen=True)
class LastConfig:
    """The last training of a filter."""

    steps: int = 900  # updates of the student
    batch: int = 4  # pairs in each
    lr: float = 5e-4  # of the student
    discriminator_lr: float = 1e-3
    pixel: float = 5.0  # weight of the mean absolute difference
    perceptual: float = 5.0  # of the perceptual distance
    adversarial: list[list[float]] = field(default_factory=lambda: [[60, 0.3]])  # of the discriminator: the first step of each weight
    coarse: float = 10.0  # of the mean absolute difference of 16-px means: colors
    fine: float = 0.0  # of the difference in strength of the finest patterns
    reverse: float = 0.15  # fraction of the pairs that are turned round, strength included
    cooldown: float = 0.31  # fraction of the steps in which the learning rates fall
    ema_images: float = 500
    bf16: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """What the pairs of one filter are, and the rules that they keep."""

    plus: Edits  # what is done to the latents at strength +2: the first of them that keeps the rules
    minus: Edits  # at -2
    goal: str  # the score that must move
    least: float  # how far it must move for each step of strength, in its own unit
    limits: dict[str, float]  # how far the other scores may move
    recolored: tuple[int, ...] = PARTS  # parts that keep their color
    person: float = 0.6  # largest identity distance
    hair_stays: bool = False  # what is behind long hair, and where new hair ends, no student can know: it would paint a haze
    about: dict[str, Any] = field(default_factory=dict)  # what else the file says of the filter
    pairs: int = 1000  # at least
    training: LastConfig = LastConfig()
    bolder: float = 1.0  # times what the student adds: it hesitates where several pictures would do
    bolder_near: float = 1.0  # times what it adds together with its enhancer
    own: tuple[float, float] = (1.0, 1.0)  # times what the enhancer adds itself, toward minus and toward plus


def scaled(name: str, *times: float) -> Edits:
    """An edit so many times: bold first, then milder, for the faces that the bold one turns into others."""
    return lambda: [one * load(name) for one in times]


STAY = {"yaw": 8.0, "pitch": 8.0, "roll": 3.0, "glasses": 0.15}
NO_MOUTH = (SKIN, HAIR)
GENDER = {"male": 0.4, "finder_male": 0.4}
STILL = {"smile": 0.4, "mouth_open": 0.15}
LONG = LastConfig(cooldown=0.35, ema_images=2000, fine=30.0)
# what the dial is worth, the mean of two outside readers: printed by benchmarks/ageing.py --size 512 --first-seed 21000
YEARS = {"years": {"strength": [-2.0, -1.0, 1.0, 2.0], "years": [-15.6, -11.2, 16.2, 27.9]}}
PLANS = {
    "age": Plan(
        scaled("age-edit", 1.25, 1.0), scaled("younger-edit", 1.6, 1.3, 1.0), "age", 4.0, {**STAY, **GENDER, **STILL}, about=YEARS,
        pairs=1500, training=replace(LONG, steps=4900), bolder=1.05, bolder_near=1.1,
        own=(0.3, 1.0),  # toward younger it smooths the skin too much: the photo's pores stay
    ),
    "smile": Plan(
        scaled("smile-direction", 2.0), scaled("smile-direction", -2.5, -2.0), "smile", 0.15, {**STAY, **GENDER, "age": 9.0},
        recolored=NO_MOUTH, pairs=480, training=replace(LONG, steps=700, ema_images=1000),
    ),
    "gender": Plan(
        scaled("gender-direction", 2.0), scaled("gender-direction", -2.0), "male", 0.1, {**STAY, **STILL, "age": 12.0},
        recolored=NO_MOUTH, person=0.9, hair_stays=True, pairs=750, training=LastConfig(steps=500),
    ),
}  # fmt: skip


def strengths(seed: int) -> tuple[float, float]:
    """How far a face is moved each way, 0.4 to 2: always the same for the same seed."""
    rng = np.random.default_rng([seed, 7])
    plus, minus = (float(2 * np.sqrt(rng.uniform(0.04, 1))) for _ in range(2))
    return plus, -minus


class Teacher:
    """Draws, mends and checks the pairs of a plan."""

    def __init__(self, plan: Plan, readers: Path) -> None:
        self.generator, self.identity, self.plan = load("faces"), load("identity"), plan
        self.plus, self.minus = plan.plus(), plan.minus()
        self.finder, self.landmarks, self.parts, self.clean = load("attributes"), load("landmarks"), load("face-parts"), FaceCheck()
        self.faceres, self.glasses = Faceres(*fetch(HUMAN, FACERES, readers)), Glasses(readers)

    @torch.no_grad()
    def wanted(self, seed: int) -> bool:
        """All faces, but only half of the commonest: those of 18 to 38 with light skin."""
        face = self.generator.preview(broadcast(w_of(self.generator, [seed], PSI), self.generator.num_layers)).clamp(-1, 1)
        light, _, yellow = skin_color(face)[0].tolist()
        common = 18 <= float(self.finder(face)[0, 0]) < 38 and np.degrees(np.arctan2(light - 50, yellow)) > LIGHT_SKIN
        return not common or np.random.default_rng([seed, 11]).random() < 0.5

    @torch.no_grad()
    def pairs(self, seed: int, size_px: int = 256) -> Iterator[tuple[Image, Image, float, str]]:
        """Before, after, strength, and why it is refused ("" for a good one): two of each face; the very old and young age one way."""
        ws = broadcast(w_of(self.generator, [seed], PSI), self.generator.num_layers)
        before = rounded_to_bytes(images.resize(self.generator.synthesis(ws), size_px))
        sure, others = self.clean(images.resize(before, 256))[0].tolist()
        if sure < 0.4 or others > 0.3:
            return
        first, masks, (plus, minus), ages = self.scores(before), self.masks(before), strengths(seed), self.plan.goal == "age"
        for strength, edits in ((plus, self.plus), (minus, self.minus)):
            if ages and (first["age"] > 62 if strength > 0 else first["age"] < 9):
                continue
            for edit in edits:
                moved = images.resize(self.generator.synthesis((abs(strength) / 2 * edit)(ws)), size_px).clamp(-1, 1)
                after = rounded_to_bytes(mend(before, moved, masks, self.masks(moved), self.plan.recolored, self.plan.hair_stays))
                reason = refuse(self.plan, first, self.scores(after), strength)
                if not reason:
                    break
            yield before, after, strength, reason

    def masks(self, face: Image) -> Tensor:
        """[batch, 6, size, size]: rest, skin, hair, lips, open mouth, eyes; found at 256 px."""
        small = images.resize(face, 256)
        return images.resize(torch.cat([self.parts(small), outlined(self.landmarks.points(small))], dim=1), face.shape[-1])

    def scores(self, face: Image) -> dict[str, Any]:
        """All that the rules ask for, at 256 px."""
        face = images.resize(face, 256)
        real = self.faceres(torch.cat([face, face.flip(-1)])).mean(dim=0)
        age, male = self.finder(face)[0].tolist()
        shape = dict(zip(self.landmarks.names, self.landmarks(face)[0].tolist(), strict=True))
        said = {"age": 0.7 * float(real[0]) + 0.3 * age, "male": float(real[1]), "finder_male": male}
        said["glasses"] = float(self.glasses(face)[0])
        return {**shape, **said, "person": self.identity(face)[0], "detail": float(skin_detail(face))}


def refuse(plan: Plan, before: dict[str, Any], after: dict[str, Any], strength: float) -> str:
    """Why a pair is not worth learning from: the first rule that it breaks, "" if none."""
    change = {name: after[name] - before[name] for name in before}
    needed, finer, ages = plan.least * abs(strength), after["detail"] / before["detail"], plan.goal == "age"
    if ages and strength < 0:
        needed = min(needed, 0.3 * before["age"] - 2)  # a child has little to lose
    rules = {
        f"{plan.goal} did not move": change[plan.goal] * np.sign(strength) >= needed,
        "another person": float(change["person"].norm()) < plan.person,
        **{f"{name} changed": abs(change[name]) <= limit for name, limit in plan.limits.items()},
        "no finer": not ages or strength <= 1.2 or finer >= 1.0,
        "coarser": not ages or strength >= -1.2 or finer <= 1.15,
    }
    return next((reason for reason, holds in rules.items() if not holds), "")


def mend(before: Image, after: Image, parts: Tensor, parts_after: Tensor, recolored: Sequence[int] = PARTS, hair: bool = False) -> Image:
    """The after, with the before's background, its mean colors of skin, lips and teeth, and hair of its hue, no more colorful.

    `parts` are the soft masks of both pictures, [batch, 6, size, size]: what FaceParts gives, then what `outlined` gives. With `hair`, the
    hair is put back too. The eyes keep their color, pixel by pixel: the generator's children have blue ones.
    """
    was, now = (before + 1) / 2, (after + 1) / 2
    for part in recolored:
        both = parts[:, [part]] * parts_after[:, [part]]
        old, new = masked_mean(was, both), masked_mean(now, both)
        if part in (HAIR, LIPS):  # they may lose or gain light
            light = luminance(new) / luminance(old).clamp_min(0.02)
            old = old * light
        if part == HAIR:  # gray stays gray: hair takes the hue of before, and its own saturation where that is less
            gray = luminance(new)
            fraction = (saturation(new) / saturation(old).clamp_min(1e-3)).clamp(0, 1)
            old = gray + fraction * (old - gray)
        gain = (old / new.clamp_min(0.02)).clamp(0.6, 1.6)
        enough = (both.sum(dim=(2, 3), keepdim=True) > 30).to(gain)
        now = now * (1 + enough * F.avg_pool2d(parts_after[:, [part]], 5, 1, 2) * (gain - 1))
    now = same_eyes(was, now, parts_after[:, [EYES]])
    untouched = (parts[:, [0]] + parts[:, [HAIR]]).clamp(0, 1) if hair else parts[:, [0]]
    return (before + inside(1 - untouched) * (2 * now.clamp(0, 1) - 1 - before)).clamp(-1, 1)


def same_eyes(was: Image, now: Image, eyes: Tensor) -> Image:
    """The after with the hue of the before's eyes, and its own light there. Pictures in [0, 1]."""
    light, dark = luminance(now), luminance(was)
    color = light + (was - dark) * (light / dark.clamp_min(0.02)).clamp(0, 1)
    return now + F.avg_pool2d(eyes, 5, 1, 2) * (color - now)


def luminance(color: Tensor) -> Tensor:
    """[batch, 3, ...] -> [batch, 1, ...]."""
    return (color * color.new_tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)


def saturation(color: Tensor) -> Tensor:
    """How far colors are from gray: [batch, 3, ...] -> [batch, 1, ...]."""
    return (color - luminance(color)).norm(dim=1, keepdim=True) / luminance(color).clamp_min(0.02)


def outlined(points: Tensor, size_px: int = 256) -> Tensor:
    """Masks of the lips, of the open mouth between them, and of the eyes, from the 68 landmarks: [batch, 3, size, size]."""
    masks = np.zeros((len(points), 3, size_px, size_px), np.float32)
    for mask, face in zip(masks, points.numpy(), strict=True):
        for row, outline in ((0, face[48:60]), (1, face[60:68]), (2, face[36:42]), (2, face[42:48])):
            mask[row] += polygon2mask((size_px, size_px), outline[:, ::-1])
        mask[0] -= mask[0] * mask[1]
    return torch.from_numpy(masks)


def masked_mean(image: Tensor, mask: Tensor) -> Tensor:
    """[batch, channel, 1, 1]."""
    return (image * mask).sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)


def inside(mask: Tensor) -> Tensor:
    """A mask that fades before its edge: nothing outside is touched."""
    return F.avg_pool2d(F.pad(-F.max_pool2d(-mask, 7, 1, 3), (3, 3, 3, 3), mode="replicate"), 7, 1)


def rounded_to_bytes(image: Image) -> Image:
    """As a file holds it."""
    return images.from_uint8(images.to_uint8(image))


def draw_pairs(plan: Plan, folder: Path, count: int, readers: Path, block: int = 0, size_px: int = 256) -> None:
    """Fill a folder with files of pairs, a block of seeds each, until it has `count`; goes on where it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    teacher = None
    while sum(len(np.load(file)["strength"]) for file in folder.glob("*.npz")) < count:
        file, block = folder / f"{block:05d}.npz", block + 1
        if file.exists():
            continue
        teacher = teacher or Teacher(plan, readers)
        seeds = range(FIRST_SEED + (block - 1) * BLOCK, FIRST_SEED + block * BLOCK)
        made = [pair for seed in seeds if teacher.wanted(seed) for pair in teacher.pairs(seed, size_px)]
        good = [pair for pair in made if not pair[3]]
        pictures = np.array([np.stack([images.to_uint8(one)[0] for one in pair[:2]]) for pair in good], np.uint8)
        reasons = [pair[3] or "kept" for pair in made]
        with file.with_suffix(".part").open("wb") as part:
            np.savez(part, pairs=pictures.reshape(-1, 2, size_px, size_px, 3), strength=[pair[2] for pair in good], reasons=reasons)
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


def whole(before: Image, after: Image, strength: Tensor, _: torch.Generator) -> View:
    """What a student is shown of a step's pairs: all."""
    return (before, strength), before, after


def train(
    student: nn.Module, pairs: PairDataset, perceptual: nn.Module, config: LastConfig, run: Path, keep_every: int = 50, view: Viewer = whole
) -> Iterator[Progress]:
    """Train a student in place, a step at a time. The run is kept in the file `run` every so many steps, and goes on from there.

    `view` says what the student is given of each step's pairs, and which pictures its answer is compared with.
    """
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
        inputs, before, after = view(before, after, strength, state.rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            made = student(*inputs)
        made, dial = made.float(), strength / REACH
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
            "fine": F.l1_loss(fine_energy(made), fine_energy(after)),
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


def fine_energy(image: Image) -> Tensor:
    """How strong patterns of two and four pixels are around each place. Networks that draw blocks of pixels like to weave there, and a
    mean of many answers is too smooth.

    The mean size of the three differences in squares of 2x2 (Haar's), of the picture and of its half: [batch, 2, rows, columns].
    """
    signs = image.new_tensor([[[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])[:, None] / 4
    found = []
    for pool in (8, 4):
        planes = F.conv2d(image.flatten(0, 1)[:, None], signs).abs().mean(dim=1).unflatten(0, image.shape[:2]).mean(dim=1, keepdim=True)
        found.append(F.avg_pool2d(planes, 2 * pool, pool))
        image = F.avg_pool2d(image, 2)
    rows, columns = (min(one.shape[side] for one in found) for side in (2, 3))
    return torch.cat([one[:, :, :rows, :columns] for one in found], dim=1)


@dataclass(frozen=True)
class Progress:
    """One update."""

    index: int
    losses: dict[str, float]
    ema: nn.Module


def sample(pairs: PairDataset, warp: PhotoWarp, config: LastConfig, rng: torch.Generator) -> tuple[Image, Image, Tensor]:
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


def make(name: str, start: Path, out: Path, pool: Path, command: str = "") -> None:
    """Draw a filter's pairs into `pool`, train the filter of the file `start` further, write it in half precision."""
    plan, student, folder = PLANS[name], Student(), pool / f"pairs-{name}-2"
    config = plan.training
    draw_pairs(plan, folder, plan.pairs, pool / "readers")
    weights, theirs = checkpoint.load(start, "filter")
    checkpoint.load_weights(student, weights, start.name)
    pairs, run, perceptual = PairFiles(folder), pool / f"{name}-last.run.safetensors", load("perceptual")
    learn, unseen = Subset(pairs, range(HOLDOUT, len(pairs))), Subset(pairs, range(HOLDOUT))
    words = lambda step: " ".join(f"{name} {value:.3f}" for name, value in step.losses.items())  # noqa: E731
    for step in progress(train(student, learn, perceptual, config, run), config.steps, words):
        ema = step.ema
    ema.amplify(plan.bolder)
    about = {"kind": "filter", **ema.sizes, "direction": name, "strengths": [-ema.reach, ema.reach], "size_px": 256, **plan.about}
    about |= {"amplified": plan.bolder, "pairs": len(learn), "holdout": HOLDOUT, "scores": trial_scores(ema, unseen, perceptual)}
    about |= {"config": asdict(config), "steps_done": config.steps, "command": command, "licence": LICENSE}
    about["started_from"] = {name: theirs.get(name) for name in ("command", "config", "steps_done", "started_from")}
    checkpoint.save(out, half(ema), about)
    run.unlink(missing_ok=True)
