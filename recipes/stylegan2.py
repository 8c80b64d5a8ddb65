"""Train the StyleGAN2 of 64 px, and a DCGAN to compare with: `python recipes/stylegan2.py --out stylegan2-64.safetensors`.

Each takes `--steps` steps of 16 pictures. The faces and both runs are kept in `--pool`: a run that was stopped goes on, and so does a
finished one if `--steps` are more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, command, face_pixels, half, parser, run
from torch import Tensor

from dvlatent import checkpoint, images
from dvlatent.cli.gan import measure_of, train_network
from dvlatent.gan.dcgan import DCGAN, DCGANDiscriminator
from dvlatent.gan.train import TrainConfig, TrainStep, train
from dvlatent.stylegan.stylegan2_train import StyleGAN2TrainConfig, sizes_for
from dvlatent.training import progress

SIDE_PX, BATCH, SAMPLES, EVERY = 64, 16, 5000, 500


class Faces:
    """Pixels on disk as the tensor that `gan.train` takes rows of: 1 GB less of memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """[row, 3, side, side] in [-1, 1]."""
        return images.from_uint8(self.pixels[rows.numpy()])


def train_dcgan(pixels: np.ndarray, kept: Path, steps: int) -> Iterator[TrainStep]:
    """The recipe of Radford et al. 2016, section 4: Adam with 0.0002 and 0.5; batches as large as StyleGAN2's, for as many pictures."""
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "discriminator_lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    config = TrainConfig(steps=steps, batch=BATCH, penalty=0.0, **adam)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        steps_ = train(DCGAN(), DCGANDiscriminator(), Faces(pixels), config, resume=kept if kept.exists() else None)
        words = lambda step: f"D {step.discriminator_loss:.2f} G {step.generator_loss:.2f}"  # noqa: E731
        yield from progress(steps_, steps, words, save=kept, every=EVERY)


def make(out: Path, pool: Path, steps: int = 5000, faces: int = 20_000) -> None:
    """Train both, measure both, write the StyleGAN2 and, beside it, dcgan.safetensors."""
    pixels, folder = face_pixels(pool, faces), pool / "stylegan2"
    config = StyleGAN2TrainConfig(steps=steps, batch=BATCH, lazy_path=8, ada_target=1.0, bf16=True)  # so few are not learned by heart
    network = folder / "network.safetensors"
    if not network.exists() or checkpoint.load(network, "stylegan2")[1]["scores"]["images_seen"] < steps * BATCH:
        train_network(pixels, folder, sizes_for(SIDE_PX), config, every=EVERY, samples=SAMPLES, about={"licence": LICENSE})
    *_, last = train_dcgan(pixels, folder / "dcgan.safetensors", steps)
    measure, about = measure_of(pixels, SAMPLES), {"command": command("stylegan2", out, steps=steps, faces=faces), "licence": LICENSE}
    peers = {peer: measure(peer.eval()) for peer in (last.generator, last.ema)}
    better = min(peers, key=lambda peer: peers[peer]["frechet"])  # its weights as they are, or their average
    description = {"kind": "dcgan", "width": better.width, "scores": {**peers[better], "images_seen": steps * BATCH}}
    checkpoint.save(out.with_name("dcgan.safetensors"), half(better), {**about, **description})
    tensors, description = checkpoint.load(network, "stylegan2")
    description["scores"]["frechet_dcgan"] = peers[better]["frechet"]
    checkpoint.save(out, tensors, {**description, **about})


if __name__ == "__main__":
    kept = "Faces and runs stay in --pool: the same command goes on from there."
    sys.exit(run(make, parser(__doc__, pool=Path("build/stylegan2"), steps=5000, faces=20_000), kept=kept))
