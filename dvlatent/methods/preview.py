"""Training the preview head on the generator's own pictures (knowledge distillation, Hinton et al. 2015).

Two stages, both resumable: `render_pool` renders the faces once and keeps them small on disk; `train_preview` fits the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent.latents import broadcast, mix, truncate
from dvlatent.nets.mobile_stylegan import MobileStyleGAN
from dvlatent.nets.preview import PreviewHead
from dvlatent.rng import normal
from dvlatent.types import Image, Ws


@dataclass(frozen=True)
class PreviewConfig:
    """How a preview head is trained."""

    faces: int = 2500  # rendered once, then looked at many times
    steps: int = 12000  # optimiser steps
    batch: int = 4  # faces in a step
    rate: float = 2e-3  # Adam's learning rate at its highest
    width: int = 80  # channels of the head
    rank: int = 64  # numbers in which the head reads the finer w's
    seed: int = 1_000_000  # training faces use seeds from here on; tests stay below it


@dataclass(frozen=True)
class PreviewStep:
    """One step of training: how far it is, and how well it goes."""

    index: int
    psnr_db: float  # of this batch, against the full render resized by area
    head: PreviewHead  # the average of recent weights: the one to keep


def training_ws(generator: MobileStyleGAN, face: int, config: PreviewConfig) -> Ws:
    """The latent of one training face: [1, layers, w]. Plain, style-mixed or every layer for itself, so that all w's are heard."""
    dice = np.random.RandomState(config.seed + face)
    first, second = generator.mapping(normal([config.seed + 2 * face, config.seed + 2 * face + 1], generator.z_dim)).split(1)
    first, second = (
        truncate(broadcast(w, generator.num_layers), toward=generator.w_mean, psi=dice.uniform(0.4, 1.0)) for w in (first, second)
    )
    kind = dice.rand()
    if kind < 0.5:
        return first
    if kind < 0.8:
        return mix(first, second, range(dice.randint(4, generator.num_layers), generator.num_layers))
    share = torch.from_numpy(dice.rand(1, generator.num_layers, 1)).float()
    return first + share * (second - first)


def small(image: Image) -> Image:
    """What the preview should show: the full render, clamped and resized by area to 256 pixels."""
    return F.interpolate(image.clamp(-1, 1), size=(256, 256), mode="area")


@torch.no_grad()
def render_pool(generator: MobileStyleGAN, path: Path, config: PreviewConfig) -> Iterator[int]:
    """Render the training faces into a .npy of float16 [faces, 3, 256, 256]; yields how many are done, and resumes."""
    shape = (config.faces, 3, 256, 256)
    pool = np.lib.format.open_memmap(path, mode="r+" if path.exists() else "w+", dtype=np.float16, shape=None if path.exists() else shape)
    for face in range(config.faces):
        if not pool[face, :, 128, 128].any():  # not rendered yet
            pool[face] = small(generator.synthesis(training_ws(generator, face, config)))[0].numpy()
        yield face + 1


def train_preview(generator: MobileStyleGAN, pool: np.ndarray, config: PreviewConfig) -> Iterator[PreviewStep]:
    """Fit a head to the pool of `render_pool`; stop whenever you like, the yielded head is ready to use."""
    torch.manual_seed(config.seed)
    head = PreviewHead(config.width, config.rank).to(memory_format=torch.channels_last)
    average = PreviewHead(config.width, config.rank)
    average.load_state_dict(head.state_dict())
    adam = torch.optim.Adam(head.parameters(), lr=config.rate, betas=(0.9, 0.99))
    dice = np.random.RandomState(config.seed)
    for index in range(config.steps):
        warm, left = min(1.0, (index + 1) / 200), 1 - index / config.steps
        adam.param_groups[0]["lr"] = config.rate * warm * (0.5 - 0.5 * math.cos(math.pi * left))
        faces = dice.randint(0, len(pool), config.batch)
        with torch.no_grad():
            ws = torch.cat([training_ws(generator, int(face), config) for face in faces])
            features = generator.features(ws, blocks=head.blocks)
        target = torch.from_numpy(pool[faces].astype(np.float32))
        error = (head(features, ws) - target).square().mean(dim=(1, 2, 3))  # [batch]
        adam.zero_grad()
        error.log().mean().backward()  # the logarithm is decibels: an easy face counts as much as a hard one
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        adam.step()
        with torch.no_grad():
            keep = min(0.999, (index + 1) / (index + 10))
            for mine, latest in zip(average.parameters(), head.parameters(), strict=True):
                mine.lerp_(latest, 1 - keep)
        yield PreviewStep(index, psnr_db(error), average)


def psnr_db(error: Tensor) -> float:
    """Mean peak signal to noise over images in [-1, 1], from each one's mean squared error."""
    return float((10 * torch.log10(4 / error)).mean())
