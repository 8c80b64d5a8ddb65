"""Training the judge: faces rendered and labelled once, then looked at many times, never quite as they were.

Two stages, both resumable: `label_pool` renders natural faces (never edited ones: their labels would be what the finder believes)
and `train_judge` fits the network. `judge_report` measures it. `dvlatent train judge` does all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import array_on_disk, natural
from disturb import disturb
from torch import Tensor
from torch.nn import functional as F

from dvlatent import images
from dvlatent.errors import CheckpointError
from dvlatent.faces.judge import BIN_YEARS, SIZE_PX, Judge
from dvlatent.training import restored, state_of
from dvlatent.types import Generator, Image, Predictor

LEARNT = ("age", "male", "smile")  # columns of the labels; glasses come from `glasses_labels`


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge is trained."""

    faces: int = 10_000  # rendered once
    first_seed: int = 10_000  # the survey's second half: directions are found on the first
    psi: float = 1.0  # truncation of the faces it learns from: all the variety there is
    steps: int = 3000  # optimiser steps
    batch: int = 64  # faces in a step
    spectacles: float = 0.25  # share of a batch with a label for glasses ...
    wearing: float = 0.4  # ... and how many of those wear them
    wearing_rate: float = 0.19  # how many wear glasses among faces that nobody chose
    even: float = 0.5  # 0: ages as they come; 1: children and old people as often as anybody
    lr: float = 2e-3  # AdamW's learning rate at its highest
    decay: float = 0.02  # AdamW's weight decay
    blur_years: float = 2.5  # standard deviation of the distribution over ages that a label becomes
    width: int = 24  # channels after the first layer
    bf16: bool = True  # convolutions in 16-bit numbers: twice as fast where the processor has them
    seed: int = 0  # of the first weights, the order and the augmentation


@dataclass(frozen=True)
class LabelPool:
    """Faces to learn from, by order of their seeds."""

    pictures: np.ndarray  # [faces, 96, 96, 3] uint8, on disk
    labels: np.ndarray  # [faces, 3] float32, on disk: age, male, smile; not finite where unknown
    done: int  # how many are rendered


@dataclass(frozen=True)
class JudgeStep:
    """One step of training: how far it is, and how well it goes."""

    index: int
    loss: float  # of this batch
    off_years: float  # mean absolute error of this batch's ages
    judge: Judge  # the average of recent weights, in eval mode: the one to keep
    state: Callable[[], dict[str, Tensor]]  # everything that `train_judge` needs to go on from here


@torch.no_grad()
def label_pool(
    generator: Generator, predictors: Sequence[Predictor], folder: Path, config: JudgeConfig, full: bool = False
) -> Iterator[LabelPool]:
    """Render and label natural faces into two .npy files (28 kB a face); yields the pool as it grows, and resumes.

    Between them the predictors give age, male and smile. Drawn by `generator.preview` where there is one, unless `full`.
    Raises CheckpointError if the folder holds a pool of another size.
    """
    columns = {name: (which, predictor.names.index(name)) for which, predictor in enumerate(predictors) for name in predictor.names}
    if missing := [name for name in LEARNT if name not in columns]:
        raise CheckpointError(f"no predictor gives {', '.join(missing)}; {', '.join(LEARNT)} are needed. Add one that does.")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = array_on_disk(folder / "pictures.npy", (config.faces, SIZE_PX, SIZE_PX, 3), np.uint8)
    labels = array_on_disk(folder / "labels.npy", (config.faces, len(LEARNT)), np.float32)
    draw = generator.synthesis if full else getattr(generator, "preview", generator.synthesis)
    for face in range(config.faces):
        if not pictures[face].any():
            picture = natural(generator, draw, config.first_seed + face, config.psi)
            scores = [predictor(picture)[0] for predictor in predictors]
            labels[face] = [float(scores[which][column]) for which, column in (columns[name] for name in LEARNT)]
            pictures[face] = small(picture)[0]
        yield LabelPool(pictures, labels, face + 1)


def small(image: Image) -> np.ndarray:
    """What the judge sees of a picture, as bytes: [batch, 96, 96, 3]."""
    return images.to_uint8(F.interpolate(image.clamp(-1, 1), size=(SIZE_PX, SIZE_PX), mode="area"))


def train_judge(
    pool: LabelPool, glasses: Mapping[int, bool], config: JudgeConfig, state: Mapping[str, Tensor] | None = None
) -> Iterator[JudgeStep]:
    """Fit a judge to a pool; stop whenever you like, the yielded judge is ready to use.

    Ages are learnt as distributions (Gao et al. 2017, equation 1), so that "either 20 or 40" can be said. `state`, from an earlier
    step of the same config, goes on after it: every number comes out as without the stop.
    """
    torch.manual_seed(config.seed)
    judge, ema = Judge(config.width).train(), Judge(config.width).eval().requires_grad_(False)
    labels = torch.from_numpy(np.array(pool.labels[: pool.done]))  # [faces, 3]
    smiles = labels[:, 2][labels[:, 2].isfinite()]
    if len(smiles) > 1:
        judge.smile_unit.copy_(torch.stack([smiles.mean(), smiles.std().clamp_min(1e-6)]))
    ema.load_state_dict(judge.state_dict())
    adam = torch.optim.AdamW(judge.parameters(), lr=config.lr, weight_decay=config.decay)
    nets = {"judge": judge, "average": ema}
    first = restored(state, {part: net.load_state_dict for part, net in nets.items()}, adam) if state else 0

    def state_after(done: int) -> dict[str, Tensor]:
        return state_of(done, {part: net.state_dict() for part, net in nets.items()}, adam)

    often = _evened(labels[:, 0].numpy(), config.even)
    known = {seed - config.first_seed: wears for seed, wears in glasses.items() if 0 <= seed - config.first_seed < pool.done}
    wearers, others = (np.array(sorted(face for face, wears in known.items() if wears == kind), dtype=int) for kind in (True, False))
    chosen = round(config.spectacles * config.batch) if len(wearers) and len(others) else 0  # faces of a batch labelled for glasses
    wearing = round(config.wearing * chosen)
    for index in range(first, config.steps):
        rng = np.random.RandomState([config.seed, index])  # each step has its own: nothing else to remember
        faces = np.concatenate([
            rng.choice(wearers, wearing) if chosen else [],
            rng.choice(others, chosen - wearing) if chosen else [],
            rng.choice(pool.done, config.batch - chosen, p=often),
        ]).astype(int)
        warm, left = min(1.0, (index + 1) / 100), 1 - index / config.steps
        for group in adam.param_groups:
            group["lr"] = config.lr * warm * (0.5 - 0.5 * math.cos(math.pi * left))
        pictures = disturb(images.from_uint8(pool.pictures[faces]), torch.Generator().manual_seed(2**32 * config.seed + index))
        loss, off_years = _loss(judge, pictures, labels[faces], wearing, chosen, config)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 2.0)
        adam.step()
        with torch.no_grad():
            keep = min(0.998, (index + 1) / (index + 10))
            for mine, latest in zip(ema.state_dict().values(), judge.state_dict().values(), strict=True):
                mine.lerp_(latest, 1 - keep) if mine.is_floating_point() else mine.copy_(latest)
        yield JudgeStep(index, loss.item(), off_years, ema, partial(state_after, index + 1))


def _loss(judge: Judge, pictures: Image, labels: Tensor, wearing: int, chosen: int, config: JudgeConfig) -> tuple[Tensor, float]:
    """Four tasks in one number; the first `wearing` faces of the `chosen` ones wear glasses."""
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        ages, others = (part.float() for part in judge.logits(pictures))
    male, smile, glasses = others.unbind(1)
    years = labels[:, 0].clamp(0, float(judge.ages[-1]))
    target = torch.softmax(-0.5 * ((judge.ages - years[:, None]) / config.blur_years) ** 2, dim=1)  # [batch, bins]
    off = ages.softmax(1) @ judge.ages - years
    loss = F.cross_entropy(ages, target) + F.smooth_l1_loss(off / BIN_YEARS, torch.zeros_like(off)) / 4
    loss = loss + F.binary_cross_entropy_with_logits(male, labels[:, 1])  # the label is a probability: so becomes the answer
    seen = labels[:, 2].isfinite()
    middle, std = judge.smile_unit
    if seen.any():
        loss = loss + F.smooth_l1_loss(smile[seen], ((labels[:, 2] - middle) / std)[seen])
    if chosen:
        wears = (torch.arange(chosen) < wearing).float()
        more = wearing / (chosen - wearing) * (1 - config.wearing_rate) / config.wearing_rate  # odds here against odds at large
        loss = loss + F.binary_cross_entropy_with_logits(glasses[:chosen] + math.log(max(more, 1e-6)), wears)
    return loss, float(off.detach().abs().mean())


def _evened(age_years: np.ndarray, even: float) -> np.ndarray:
    """How often to draw each face, summing to one: the rarer its age, in groups of five years, the more often."""
    group = (age_years // 5).astype(int).clip(0, 15)
    count = np.bincount(group, minlength=16)
    often = np.maximum(count[group], 0.005 * len(group)) ** -even  # a handful of faces must not fill every batch
    return often / often.sum()
