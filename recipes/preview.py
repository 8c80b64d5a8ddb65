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

from dvlatent.errors import CheckpointError
from dvlatent.latents import broadcast, mix, normal, truncate, w_of
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN
from dvlatent.stylegan.preview import PreviewHead
from dvlatent.types import Image, Predictor, Ws


@dataclass(frozen=True)
class PreviewConfig:
    """How a preview head is trained."""

    faces: int = 1600  # rendered once, then looked at many times
    steps: int = 6500  # optimiser steps
    batch: int = 8  # faces in a step
    crop: int = 64  # side of the square of features that a step sees of each face, of 128
    examples: int = 160  # faces for the linear start
    lr: float = 2e-3  # Adam's learning rate at its highest
    width: int = 96  # channels of the head
    rank: int = 128  # numbers in which the head reads the finer w's
    seed: int = 1_000_000  # training faces use seeds from here on; tests stay below it


@dataclass(frozen=True)
class PreviewStep:
    """One step of training: how far it is, and how well it goes."""

    index: int
    psnr_db: float  # of this batch, against the full render resized by area
    head: PreviewHead  # the average of recent weights: the one to keep


def training_ws(generator: MobileStyleGAN, face: int, config: PreviewConfig) -> Ws:
    """The latent of one training face: [1, layers, w]. Plain, style-mixed or every layer for itself, so that all w's are heard."""
    rng = np.random.RandomState(config.seed + face)
    first, second = generator.mapping(normal([config.seed + 2 * face, config.seed + 2 * face + 1], generator.z_dim)).split(1)
    first, second = (
        truncate(broadcast(w, generator.num_layers), toward=generator.w_mean, psi=rng.uniform(0.4, 1.0)) for w in (first, second)
    )
    kind = rng.rand()
    if kind < 0.5:
        return first
    if kind < 0.8:
        return mix(first, second, range(rng.randint(4, generator.num_layers), generator.num_layers))
    share = torch.from_numpy(rng.rand(1, generator.num_layers, 1)).float()
    return first + share * (second - first)


def small(image: Image) -> Image:
    """What the preview should show: the full render, clamped and resized by area to 256 pixels."""
    return F.interpolate(image.clamp(-1, 1), size=(256, 256), mode="area")


@dataclass(frozen=True)
class Pool:
    """Faces rendered for training: what the head is given and what it should make of it."""

    features: np.ndarray  # [faces, 128, 128, 256] float16, on disk
    pictures: np.ndarray  # [faces, 256, 256, 3] float16, on disk
    done: int  # how many are rendered


@torch.no_grad()
def render_pool(generator: MobileStyleGAN, folder: Path, config: PreviewConfig) -> Iterator[Pool]:
    """Render the training faces into two .npy files (8.8 MB a face); yields the pool as it grows, and resumes."""
    shapes = {"features": (config.faces, 128, 128, 256), "pictures": (config.faces, 256, 256, 3)}
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, shape in shapes.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        files[name] = np.lib.format.open_memmap(path, mode="r+")
        if files[name].shape != shape:
            raise CheckpointError(f"{path} holds {files[name].shape} numbers; {shape} were needed. Delete it, or ask for as many faces.")
    for face in range(config.faces):
        if not files["pictures"][face, 128].any():  # not rendered yet
            ws = training_ws(generator, face, config)
            files["features"][face] = generator.features(ws, PreviewHead.blocks)[0].permute(1, 2, 0).numpy()
            files["pictures"][face] = small(generator.synthesis(ws))[0].permute(1, 2, 0).numpy()
        yield Pool(files["features"], files["pictures"], face + 1)


def train_preview(generator: MobileStyleGAN, pool: Pool, config: PreviewConfig) -> Iterator[PreviewStep]:
    """Fit a head to the pool of `render_pool`; stop whenever you like, the yielded head is ready to use.

    Each face of a step is a random quarter of it, so that a step sees more faces.
    """
    torch.manual_seed(config.seed)
    head = PreviewHead(config.width, config.rank).to(memory_format=torch.channels_last)
    ema = PreviewHead(config.width, config.rank)
    with torch.no_grad():
        count = max(pool.done, 4 * config.rank)  # reading them costs nothing; components need more faces than there are components
        ws_of = torch.cat([training_ws(generator, face, config) for face in range(count)])
    head.read_like(generator, ws_of)
    head.styles.requires_grad_(False)
    examples = min(pool.done, config.examples)
    head.fit_linear((_whole(pool.features, face), _whole(pool.pictures, face)) for face in range(examples))
    ema.load_state_dict(head.state_dict())
    slow, fast = list(head.linear.parameters()), [p for name, p in head.named_parameters() if not name.startswith(("linear", "styles"))]
    adam = torch.optim.Adam([{"params": fast, "scale": 1.0}, {"params": slow, "scale": 0.05}], betas=(0.9, 0.99))
    rng = np.random.RandomState(config.seed)
    for index in range(config.steps):
        warm, left = min(1.0, (index + 1) / 200), 1 - index / config.steps
        for group in adam.param_groups:
            group["lr"] = group["scale"] * config.lr * warm * (0.5 - 0.5 * math.cos(math.pi * left))
        faces = rng.randint(0, pool.done, config.batch)
        corners = rng.randint(0, PreviewHead.size_px - config.crop + 1, (config.batch, 2))
        features = _crops(pool.features, faces, corners, config.crop)
        target = _crops(pool.pictures, faces, 2 * corners, 2 * config.crop)
        error = (head(features, ws_of[faces], torch.from_numpy(corners)) - target).square()
        error = torch.stack([_uncut(square, corner, config.crop).mean() for square, corner in zip(error, corners, strict=True)])  # [batch]
        adam.zero_grad()
        error.log().mean().backward()  # the logarithm is decibels: an easy face counts as much as a hard one
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        adam.step()
        with torch.no_grad():
            keep = min(0.999, (index + 1) / (index + 10))
            for mine, latest in zip(ema.parameters(), head.parameters(), strict=True):
                mine.lerp_(latest, 1 - keep)
        yield PreviewStep(index, psnr_db(error.detach()), ema)


def _uncut(square: Tensor, corner: np.ndarray, crop: int) -> Tensor:
    """Without the few pixels along the edges where the features were cut; an edge of the whole picture stays."""
    (top, left), margin, last = corner, 4, PreviewHead.size_px - crop
    rows = slice(margin if top else None, None if top == last else -margin)
    columns = slice(margin if left else None, None if left == last else -margin)
    return square[:, rows, columns]


def _whole(pool: np.ndarray, face: int) -> Tensor:
    return torch.from_numpy(pool[face].astype(np.float32)).permute(2, 0, 1)[None]


def _crops(pool: np.ndarray, faces: np.ndarray, corners: np.ndarray, size: int) -> Tensor:
    """[batch, channel, size, size], channels last, one square from each face."""
    squares = [pool[face, y : y + size, x : x + size] for face, (y, x) in zip(faces, corners, strict=True)]
    return torch.from_numpy(np.stack(squares).astype(np.float32)).permute(0, 3, 1, 2)


@torch.no_grad()
def preview_scores(generator: MobileStyleGAN, predictor: Predictor, faces: int, psi: float, seed: int = 500_000) -> dict[str, float]:
    """How close the preview comes on unseen faces (seeds from `seed` on; training starts at a million).

    Mean and worst-tenth PSNR against the full render resized by area, and the median change of what the predictor says first.
    """
    decibels, changes = [], []
    for face in range(seed, seed + faces):
        ws = broadcast(w_of(generator, face, psi), generator.num_layers)
        full, quick = small(generator.synthesis(ws)), generator.preview(ws).clamp(-1, 1)
        decibels.append(psnr_db((full - quick).square().mean(dim=(1, 2, 3))))
        changes.append(float((predictor(full) - predictor(quick))[0, 0].abs()))
    names = ("psi", "faces", "psnr_db", "worst_tenth_psnr_db", f"median_change_{predictor.names[0]}")
    values = (psi, faces, np.mean(decibels), np.percentile(decibels, 10), np.median(changes))
    return {name: round(float(value), 2) for name, value in zip(names, values, strict=True)}


def psnr_db(error: Tensor) -> float:
    """Mean peak signal to noise over images in [-1, 1], from each one's mean squared error."""
    return float((10 * torch.log10(4 / error)).mean())
