"""Making the digit networks that we ship again: `dvlatent train digit-classifier`, then `dvlatent train digits`.

The second also runs in several processes, on several GPUs by `accelerate launch -m dvlatent train digits --out digits.safetensors`,
on several CPU cores by `torchrun --nproc_per_node 2 -m dvlatent train digits --out digits.safetensors`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from digit_classifier import ClassifyConfig, classifier_scores, train_classifier
from torch import Tensor, nn

from dvlatent import checkpoint
from dvlatent.gan.data import Digits, Warp
from dvlatent.gan.digits import CLASSES, DigitClassifier, DigitDiscriminator, DigitGenerator
from dvlatent.gan.train import Step, TrainConfig, train
from dvlatent.metrics.features import frechet
from dvlatent.training import accelerated, progress
from dvlatent.zoo import load

LICENCE = "CC BY-SA 3.0, as the MNIST digits that it learned from"
SAVE_EVERY = 500  # steps
WIDTH, DISCRIMINATOR_WIDTH = 48, 32  # channels of what we ship
LONG = TrainConfig(steps=14_000, batch=64, lr=2e-3, discriminator_lr=2e-3, penalty=0.05, lazy=4, ema_images=100_000, cooldown=0.4)
GENTLE = Warp(shift_px=1.0, turn_degrees=4.0, zoom=0.05, shear=0.05, elastic_px=0.4, share=0.6)  # against learning 4,000 digits by heart


def ship_classifier(out: Path, **chosen: int) -> None:
    """Train the classifier on 4,000 digits, measure it on the 1,000 held out, write it. `chosen` are fields of ClassifyConfig."""
    config = ClassifyConfig(**chosen)
    seen, held = load("mnist").split()
    steps = train_classifier(seen, config)
    for step in progress(steps, config.steps, lambda step: f"{step.loss:.3f}"):
        last = step
    save_classifier(out, last.classifier, config, len(seen), classifier_scores(last.classifier, held))


def save_classifier(out: Path, classifier: DigitClassifier, config: ClassifyConfig, seen: int, scores: dict[str, float]) -> None:
    """Write a classifier with its command and scores."""
    description = {
        "kind": "digit classifier",
        "width": config.width,
        "trained": f"{seen} MNIST digits moved a little each time, {config.steps} steps of {config.batch}",
        "command": f"dvlatent train digit-classifier --out {out.name} --steps {config.steps}",
        "licence": LICENCE,
        "scores": scores,
    }
    checkpoint.save(out, _half(classifier), description)
    print(f"{out}: {scores}", file=sys.stderr)


def ship_digits(out: Path, **chosen: int) -> None:
    """Train the digit GAN on 4,000 digits with their labels and write its averaged generator.

    Every 500 steps the run is kept beside `out` (`.run.safetensors`): the same command goes on from there, and more `steps`
    may be asked of it. `chosen` are fields of TrainConfig.
    """
    config = TrainConfig(**{**vars(LONG), **chosen})
    seen, _ = load("mnist").split()
    accelerator = accelerated()
    torch.manual_seed(config.seed)
    place = accelerator.device if accelerator else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, discriminator = DigitGenerator(WIDTH).to(place), DigitDiscriminator(DISCRIMINATOR_WIDTH).to(place)
    kept, first = out.with_suffix(".run.safetensors"), accelerator is None or accelerator.is_main_process
    resume = kept if kept.exists() else None
    steps = train(generator, discriminator, seen.images, config, labels=seen.labels, augment=GENTLE, resume=resume, accelerator=accelerator)
    words = lambda step: f"real {step.real_score:.1f}, drawn {step.fake_score:.1f}"  # noqa: E731
    for step in progress(steps, config.steps, words, quiet=not first):
        done = step.index + 1
        if first and done % SAVE_EVERY == 0 and done < config.steps:
            step.save(kept)
            _save_generator(out, step, config, {})
    if first:
        scores = digit_scores(step.ema.cpu(), load("digit-classifier"), load("mnist"))
        _save_generator(out, step, config, scores)
        kept.unlink(missing_ok=True)
        print(f"{out}: {scores}", file=sys.stderr)


@torch.no_grad()
def draw_digits(generator: DigitGenerator, count: int, seed: int = 0) -> Tensor:
    """Grey digits from dice alone, [count, 1, 28, 28] in [-1, 1]."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([generator(rng) for rng in z.split(500)])


@torch.no_grad()
def digit_scores(generator: DigitGenerator, classifier: DigitClassifier, real: Digits, count: int = 5000) -> dict[str, float]:
    """How good drawn digits are, by the classifier: how surely they are named, how evenly, and how far from real ones as a cloud."""
    fake = draw_digits(generator, count)
    sure, named = torch.cat([classifier(part) for part in fake.split(500)]).max(1)
    shares = named.bincount(minlength=CLASSES) / count
    features = [torch.cat([classifier.features(part) for part in images.split(500)]).numpy() for images in (real.images, fake)]
    half = torch.randperm(len(real), generator=torch.Generator().manual_seed(0)).numpy()
    return {
        "digits": count,
        "named_at_0.9": round(float((sure >= 0.9).float().mean()), 4),
        "entropy_of_classes": round(float(-torch.special.xlogy(shares, shares).sum()) / math.log(CLASSES), 4),  # 1 is uniform
        "frechet": round(frechet(*features).value, 3),
        "frechet_real_halves": round(frechet(*(features[0][part] for part in (half[::2], half[1::2]))).value, 3),
    }


def _save_generator(out: Path, step: Step, config: TrainConfig, scores: dict[str, float]) -> None:
    net = step.ema
    description = {
        "kind": "digit generator",
        **{size: getattr(net, size) for size in ("width", "z_dim", "classes")},
        "trained": f"4000 MNIST digits and their labels, {config.steps} steps of {config.batch}, gently moved",
        "command": f"dvlatent train digits --out {out.name} --steps {config.steps}",
        "config": vars(config),
        "steps_done": step.index + 1,
        "licence": LICENCE,
        "scores": scores,
    }
    checkpoint.save(out, _half(net), description)


def _half(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()}
