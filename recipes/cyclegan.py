"""The baseline without pairs, made again: `dvlatent train cyclegan --out age-cyclegan.safetensors`. Young and old faces of the survey."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import array_on_disk
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.distillation.cyclegan import CycleGAN
from dvlatent.distillation.unpaired import CycleGANConfig, train_cyclegan
from dvlatent.editing import survey
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, w_of
from dvlatent.training import accelerated, with_progress
from dvlatent.types import Generator, Image
from dvlatent.zoo import load

LICENCE = "research and teaching only, as the generator that taught it"
AGES = {"young": (18, 30), "old": (55, 100)}  # perceived years of the two kinds
SIZES = {"width": 16, "blocks": 5, "critic_width": 16, "downs": 3}  # as the student it is compared with
SIDE = 256


class ImageDataset:
    """Faces on disk, as bytes."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int]) -> Image:
        """Some of them, [batch, 3, 256, 256] in [-1, 1]."""
        return images.from_uint8(np.stack([self.pixels[index] for index in indices]))


def ship_cyclegan(out: Path, pool: Path, faces: int = 1000, **chosen: Any) -> None:
    """Draw `faces` young and as many old faces of the survey, train on them, write both generators, averaged, in half precision.

    The run is kept beside `out` every 50 steps and the faces in `pool`: the same command goes on. `chosen` are fields of UnpairedConfig.
    """
    steps = chosen.get("steps", CycleGANConfig.steps)
    config = CycleGANConfig(**{"bfloat16": True, "coarse_steps": steps * 7 // 8, **chosen})
    generator = load("faces")
    young, old = (draw_kind(generator, pool, kind, faces) for kind in AGES)
    torch.manual_seed(config.seed)
    accelerator = accelerated()
    place = accelerator.device if accelerator else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = CycleGAN(**SIZES).to(place, memory_format=torch.channels_last)
    kept, first = out.with_suffix(".run.safetensors"), accelerator is None or accelerator.is_main_process
    steps = train_cyclegan(net, young, old, config, resume=kept if kept.exists() else None, accelerator=accelerator)
    *_, step = with_progress(steps, config.steps, keep=kept if first else None)
    if first:
        tensors = {name: value.half() for name, value in step.ema.state_dict().items() if not name.startswith("critic")}
        options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in {"faces": faces, **chosen}.items())
        about = {"trained": f"{faces} faces perceived {AGES['young']}, {faces} perceived {AGES['old']}, psi 1", "config": vars(config)}
        command = f"dvlatent train cyclegan --out {out.name}{options}"
        checkpoint.save(out, tensors, {"kind": "cyclegan", **SIZES, **about, "command": command, "licence": LICENCE})
        kept.unlink(missing_ok=True)


@torch.no_grad()
def draw_kind(generator: Generator, pool: Path, kind: str, faces: int) -> ImageDataset:
    """The first `faces` faces of the survey whose perceived age is that of `kind`, drawn into a file of `pool`; it resumes."""
    population = survey.load(survey.SHIPPED)
    low, high = AGES[kind]
    age = population.column("age")
    chosen = torch.nonzero((age >= low) & (age <= high))[:faces, 0].tolist()
    if len(chosen) < faces or faces < 1:
        raise ShapeError(f"{faces} {kind} faces were asked for; the survey has {len(chosen)}. Ask for fewer, and for one at least.")
    pool.mkdir(parents=True, exist_ok=True)
    pixels = array_on_disk(pool / f"{kind}-{faces}.npy", (faces, SIDE, SIDE, 3), np.uint8)
    for at, row in enumerate(tqdm(chosen, unit="face", desc=f"drawing {kind}", disable=int(os.environ.get("RANK", "0")) > 0)):
        if not pixels[at].any():
            w = w_of(generator, population.seeds[row], population.psi)
            pixels[at] = images.to_uint8(generator.preview(broadcast(w, generator.num_layers)))[0]
    return ImageDataset(pixels)
