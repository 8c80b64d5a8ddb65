"""Train the map of faces: `python recipes/face_map.py --out face-map.safetensors` (5 minutes, after an hour of rendering).

It also writes `faces-small.jpg` beside it, a thousand small faces for lesson 02.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, parser, run
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.autoencoder.model import FACES, Autoencoder
from dvlatent.autoencoder.train import AutoencoderTrainConfig, as_float, redraw_error, train_autoencoder
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.training import progress
from dvlatent.zoo import load

HELD_OUT = 1000  # faces that the map is measured on
SMALL, SMALL_PX, COLUMNS = 1000, 40, 40  # faces of the sheet


@torch.no_grad()
def face_pool(folder: Path, faces: int) -> np.ndarray:
    """Previews of seeds 0, 1, ... at psi 1, reduced to 64 pixels: [faces, 3, 64, 64] bytes. Rendered once; it resumes."""
    pool = array_on_disk(folder / "faces64.npy", (faces, 3, FACES.side, FACES.side), np.uint8)
    missing = np.flatnonzero(~pool[:, :, ::8, ::8].any(axis=(1, 2, 3)))
    generator = load("faces") if len(missing) else None
    for seed in tqdm(missing.tolist(), unit="face", desc="rendering", disable=len(missing) < 8):
        ws = broadcast(generator.mapping(normal(seed, generator.z_dim)), generator.num_layers)
        pool[seed] = images.to_uint8(images.resize(generator.preview(ws), FACES.side))[0].transpose(2, 0, 1)
    return pool


def make(out: Path, pool: Path, faces: int = 20_000, steps: int = 6000) -> None:
    """Render small faces once, train the map on all but the last thousand, measure it there, write it and the sheet."""
    if faces < 10:
        raise ShapeError(f"{faces} faces leave too few to learn from and to measure on: give --faces 20000.")
    rendered = torch.from_numpy(face_pool(pool, faces))  # [faces, 3, 64, 64] bytes
    held_out = min(HELD_OUT, faces // 5)
    config = AutoencoderTrainConfig(steps=steps, batch=128, lr=3e-3, focus=1.0)
    training = train_autoencoder(rendered[:-held_out], Autoencoder(FACES), config)
    *_, step = progress(training, steps, lambda step: f"error {step.error:.4f}")
    scores = {"held_out_faces": held_out, "pixel_error": round(redraw_error(step.net, rendered[-held_out:]), 4)}
    metadata = {"command": command("face_map", out, faces=faces, steps=steps), "licence": LICENSE, "scores": scores}
    description = {"kind": "autoencoder", "config": asdict(step.net.config), "training": asdict(config), **metadata}
    checkpoint.save(out, half(step.net), description)
    small = images.resize(as_float(rendered[: min(faces, SMALL)]), SMALL_PX)
    images.write(images.grid(small, columns=COLUMNS, gap_px=0), out.with_name("faces-small.jpg"))
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    options = {"faces": 20_000, "steps": 6000, "pool": Path("build/face-map")}
    sys.exit(run(make, parser(__doc__, **options), kept="Rendered faces are kept in --pool: the same command goes on."))
