"""Train the baseline without pairs: `python recipes/cyclegan.py --out age-cyclegan.safetensors` (two hours).

It learns from young and old faces of the survey. `accelerate launch` runs it on several GPUs, as `recipes/digits.py` tells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, natural, parser, run
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.distillation.cyclegan import CycleGAN, CycleGANConfig, train_cyclegan
from dvlatent.editing import survey
from dvlatent.errors import ShapeError
from dvlatent.training import accelerated, device_of, progress
from dvlatent.types import Generator, Image
from dvlatent.zoo import load

AGES = {"young": (18, 30), "old": (55, 100)}  # perceived years of the two kinds
SIZES = {"width": 16, "blocks": 5, "discriminator_width": 16, "downs": 3}  # as the student that it is compared with
SIDE_PX = 256


class FacePool:
    """Faces on disk, as bytes."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int]) -> Image:
        """Some of them, [batch, 3, 256, 256] in [-1, 1]."""
        return images.from_uint8(np.stack([self.pixels[index] for index in indices]))


def make(out: Path, pool: Path, faces: int = 800, steps: int = 8000) -> None:
    """Draw `faces` young and as many old faces, train on them, write the moving average of both generators in half precision.

    The run is kept beside `out` every 50 steps and the faces in `pool`: the same command goes on.
    """
    config = CycleGANConfig(steps=steps, coarse_steps=steps * 7 // 8, bf16=True)
    generator = load("faces")
    young, old = (draw_kind(generator, pool, kind, faces) for kind in AGES)
    torch.manual_seed(config.seed)
    accelerator = accelerated()
    net = CycleGAN(**SIZES).to(device_of(accelerator), memory_format=torch.channels_last)
    kept, first = out.with_suffix(".run.safetensors"), accelerator is None or accelerator.is_main_process
    training = train_cyclegan(net, young, old, config, resume=kept if kept.exists() else None, accelerator=accelerator)
    words = lambda step: " ".join(f"{name} {value:.3f}" for name, value in step.losses.items())  # noqa: E731
    *_, step = progress(training, config.steps, words, quiet=not first, save=kept if first else None)
    if first:
        tensors = {name: value for name, value in half(step.ema).items() if not name.startswith("discriminator")}
        trained = f"{faces} faces perceived {AGES['young']}, {faces} perceived {AGES['old']}, psi 1"
        about = {"trained": trained, "config": vars(config), "command": command("cyclegan", out, faces=faces, steps=steps)}
        checkpoint.save(out, tensors, {"kind": "cyclegan", **SIZES, **about, "licence": LICENSE})
        kept.unlink(missing_ok=True)


def draw_kind(generator: Generator, pool: Path, kind: str, faces: int) -> FacePool:
    """The first `faces` faces of the survey whose perceived age is that of `kind`, drawn into a file of `pool`; it resumes."""
    population = survey.load(survey.SHIPPED)
    low, high = AGES[kind]
    age = population.column("age")
    chosen = torch.nonzero((age >= low) & (age <= high))[:faces, 0].tolist()
    if len(chosen) < faces:
        raise ShapeError(f"{faces} {kind} faces were asked for; the survey has {len(chosen)}. Ask for fewer.")
    pixels = array_on_disk(pool / f"{kind}-{faces}.npy", (faces, SIDE_PX, SIDE_PX, 3), np.uint8)
    for at, row in enumerate(tqdm(chosen, unit="face", desc=f"drawing {kind}", disable=int(os.environ.get("RANK", "0")) > 0)):
        if not pixels[at].any():
            pixels[at] = images.to_uint8(natural(generator, generator.preview, population.seeds[row], population.psi))[0]
    return FacePool(pixels)


if __name__ == "__main__":
    kept = "The run is kept beside --out every 50 steps and the faces in --pool; the same command goes on from there."
    sys.exit(run(make, parser(__doc__, pool=Path("build/cyclegan"), faces=800, steps=8000), kept=kept))
