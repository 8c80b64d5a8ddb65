"""Making the two maps that we ship again, and small pictures for the second: `dvlatent train digit-map` and `dvlatent train face-map`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.autoencoder.model import FACES, Autoencoder
from dvlatent.autoencoder.train import AutoencoderStep, AutoencoderTrainConfig, encode_all, redraw_error, train_autoencoder
from dvlatent.errors import CheckpointError
from dvlatent.gan.data import Digits
from dvlatent.latents import broadcast, normal
from dvlatent.metrics.features import knn_accuracy
from dvlatent.zoo import load

DIGITS_LICENCE = "MIT; learned from MNIST (CC BY-SA 3.0)"
FACES_LICENCE = "research and teaching only, as the network that drew its faces"
HELD_OUT = 1000  # faces that the map is measured on
SMALL = 1000  # faces that are written as one sheet of small pictures, for lesson 02


def ship_digit_map(out: Path, steps: int = 12_000, seed: int = 0) -> None:
    """Train the two-number autoencoder of the digits for long, measure it on the held-out thousand, write it."""
    digits = load("mnist")
    config = AutoencoderTrainConfig(steps=steps, seed=seed, shake=1.0)
    net = _last(train_autoencoder(digits.split()[0].images, Autoencoder(), config), steps).net
    command = f"dvlatent train digit-map --out {out.name} --steps {steps}"
    _save(out, net, config, {"command": command, "licence": DIGITS_LICENCE, "scores": digit_scores(net, digits)})


def ship_face_map(out: Path, folder: Path, faces: int = 20_000, steps: int = 6000, seed: int = 0) -> None:
    """Draw small faces once (kept in `folder`), train the map of all but the last thousand, measure it there, write it and a sheet."""
    pool = torch.from_numpy(face_pool(folder, faces))  # [faces, 3, 64, 64] of bytes
    held = min(HELD_OUT, faces // 5)
    config = AutoencoderTrainConfig(steps=steps, batch=128, lr=3e-3, seed=seed, focus=1.0)
    net = _last(train_autoencoder(pool[:-held], Autoencoder(FACES), config), steps).net
    command = f"dvlatent train face-map --out {out.name} --faces {faces} --steps {steps}"
    scores = {"held_out_faces": held, "pixel_error": round(redraw_error(net, pool[-held:]), 4)}
    _save(out, net, config, {"command": command, "licence": FACES_LICENCE, "scores": scores})
    small = images.resize(as_float(pool[: min(faces, SMALL)]), 40)
    images.write(images.grid(small, columns=40, gap_px=0), out.with_name("faces-small.jpg"))


def digit_scores(net: Autoencoder, digits: Digits, k: int = 10) -> dict[str, float]:
    """What the shipped map is worth on the held-out digits: accuracy of the ten nearest, beside that of two principal components."""
    train, test = digits.split()
    mean, axes = principal(train.images, net.config.code)
    plane = [(part.images.flatten(1) - mean) @ axes for part in (train, test)]
    codes = [encode_all(net, part.images) for part in (train, test)]
    found, pca = (knn_accuracy(a, train.labels, b, test.labels, k).value for a, b in (codes, plane))
    return {"accuracy": round(found, 3), "pca_accuracy": round(pca, 3), "pixel_error": round(redraw_error(net, test.images), 4)}


def principal(pictures: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean picture and the first principal components of pictures: [number] and [number, count] (Pearson 1901)."""
    x = pictures.flatten(1)
    mean = x.mean(dim=0)
    std = (x - mean).double()
    _, vectors = torch.linalg.eigh(std.T @ std)  # in ascending order
    return mean, vectors[:, -count:].flip(1).float()


@torch.no_grad()
def face_pool(folder: Path, faces: int) -> np.ndarray:
    """Previews of seeds 0, 1, ... at psi 1, reduced to 64 pixels: [faces, 3, 64, 64] of bytes. Drawn once; stopped, it goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    path, shape = folder / "faces64.npy", (faces, 3, FACES.side, FACES.side)
    if not path.exists():
        np.lib.checkpoint.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    pool = np.lib.checkpoint.open_memmap(path, mode="r+")
    if pool.shape != shape or pool.dtype != np.uint8:
        raise CheckpointError(f"{path} holds {pool.dtype} {pool.shape}; uint8 {shape} was needed. Delete it, or ask for as many faces.")
    missing = np.flatnonzero(~pool[:, :, ::8, ::8].any(axis=(1, 2, 3)))
    generator = load("faces") if len(missing) else None
    for seed in tqdm(missing.tolist(), unit="face", desc="drawing", disable=len(missing) < 8):
        ws = broadcast(generator.mapping(normal(seed, generator.z_dim)), generator.num_layers)
        pool[seed] = images.to_uint8(images.resize(generator.preview(ws), FACES.side))[0].transpose(2, 0, 1)
    return pool


def _last(steps: Iterator[AutoencoderStep], total: int) -> AutoencoderStep:
    with tqdm(steps, total=total, unit="step", desc="training", disable=total < 100) as bar:
        for step in bar:
            bar.set_postfix_str(f"error {step.error:.4f}", refresh=False)
    return step


def _save(out: Path, net: Autoencoder, config: AutoencoderTrainConfig, words: dict[str, object]) -> None:
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in net.state_dict().items()}
    checkpoint.save(out, tensors, {"kind": "autoencoder", "config": asdict(net.config), "training": asdict(config), **words})
    print(f"{out}: {words['scores']}", file=sys.stderr)
