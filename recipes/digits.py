"""Train the digit generator: `python recipes/digits.py --out digits.safetensors` (50 minutes).

It also runs in several processes: on several GPUs by `accelerate launch recipes/digits.py --out digits.safetensors`,
on several CPU cores by `torchrun --nproc_per_node 2 recipes/digits.py --out digits.safetensors`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import torch
from common import DIGITS_LICENSE, command, half, parser, run
from torch import Tensor

from dvlatent import checkpoint
from dvlatent.gan.data import Digits, Warp
from dvlatent.gan.digits import CLASSES, DigitClassifier, DigitDiscriminator, DigitGenerator
from dvlatent.gan.train import TrainConfig, TrainStep, train
from dvlatent.metrics.features import frechet
from dvlatent.training import accelerated, device_of, progress
from dvlatent.zoo import load

SAVE_EVERY = 500  # steps
WIDTH, DISCRIMINATOR_WIDTH = 48, 32  # channels of what we ship
LONG = TrainConfig(steps=14_000, batch=64, lr=2e-3, discriminator_lr=2e-3, penalty=0.05, lazy=4, ema_images=100_000, cooldown=0.4)
GENTLE = Warp(shift_px=1.0, turn_degrees=4.0, zoom=0.05, shear=0.05, elastic_px=0.4, fraction=0.6)  # against learning 4,000 digits by heart


@torch.no_grad()
def draw_digits(generator: DigitGenerator, count: int, seed: int = 0) -> Tensor:
    """Gray digits from random vectors, [count, 1, 28, 28] in [-1, 1]."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([generator(part) for part in z.split(500)])


@torch.no_grad()
def digit_scores(generator: DigitGenerator, classifier: DigitClassifier, real: Digits, count: int = 5000) -> dict[str, float]:
    """How good drawn digits are: how confidently they are named, how evenly, and their Fréchet distance from real ones."""
    fake = draw_digits(generator, count)
    confidence, named = torch.cat([classifier(part) for part in fake.split(500)]).max(1)
    fractions = named.bincount(minlength=CLASSES) / count
    features = [torch.cat([classifier.features(part) for part in images.split(500)]).numpy() for images in (real.images, fake)]
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0)).numpy()
    return {
        "digits": count,
        "named_at_0.9": round(float((confidence >= 0.9).float().mean()), 4),
        "entropy_of_classes": round(float(-torch.special.xlogy(fractions, fractions).sum()) / math.log(CLASSES), 4),  # 1 is uniform
        "frechet": round(frechet(*features).value, 3),
        "frechet_real_halves": round(frechet(*(features[0][part] for part in (order[::2], order[1::2]))).value, 3),
    }


def make(out: Path, steps: int = LONG.steps) -> None:
    """Train the digit GAN on 4,000 digits with their labels and write the moving average of its generator.

    Every 500 steps the run is kept beside `out` (`.run.safetensors`): the same command goes on from there, also to more `steps`.
    """
    config, accelerator, kept = replace(LONG, steps=steps), accelerated(), out.with_suffix(".run.safetensors")
    seen, _ = load("mnist").split()
    torch.manual_seed(config.seed)
    networks = [network.to(device_of(accelerator)) for network in (DigitGenerator(WIDTH), DigitDiscriminator(DISCRIMINATOR_WIDTH))]
    first, resume = accelerator is None or accelerator.is_main_process, kept if kept.exists() else None
    training = train(*networks, seen.images, config, labels=seen.labels, augment=GENTLE, resume=resume, accelerator=accelerator)
    words = lambda step: f"real {step.real_score:.1f}, drawn {step.fake_score:.1f}"  # noqa: E731
    *_, step = progress(training, steps, words, quiet=not first, save=kept if first else None, every=SAVE_EVERY)
    if first:
        save(out, step, config, digit_scores(step.ema.cpu(), load("digit-classifier"), load("mnist")))
        kept.unlink(missing_ok=True)


def save(out: Path, step: TrainStep, config: TrainConfig, scores: dict[str, float]) -> None:
    """Write the generator's moving average with its command and scores."""
    net = step.ema
    description = {
        "kind": "digit generator",
        **{size: getattr(net, size) for size in ("width", "z_dim", "classes")},
        "trained": f"4000 MNIST digits and their labels, {config.steps} steps of {config.batch}, gently moved",
        "command": command("digits", out, steps=config.steps),
        "config": vars(config),
        "steps_done": step.index + 1,
        "licence": DIGITS_LICENSE,
        "scores": scores,
    }
    checkpoint.save(out, half(net), description)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, steps=LONG.steps), kept="The run is kept beside --out: the same command goes on."))
