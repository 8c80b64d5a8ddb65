"""Train the digit classifier: `python recipes/digit_classifier.py --out digit-classifier.safetensors` (3 minutes).

Every picture is moved a little each time it is seen. Lessons 01 and 02 measure with this classifier.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from common import DIGITS_LICENSE, command, half, parser, run
from torch import Tensor
from torch.nn import functional as F

from dvlatent import checkpoint
from dvlatent.gan.data import Digits, Warp
from dvlatent.gan.digits import DigitClassifier
from dvlatent.training import progress
from dvlatent.zoo import load


@dataclass(frozen=True)
class ClassifyConfig:
    """How the classifier is trained."""

    steps: int = 4000  # optimizer steps
    batch: int = 64  # digits in a step
    lr: float = 2e-3  # Adam's learning rate at its highest
    decay: float = 1e-4  # weight decay
    width: int = 32  # channels of its first layer
    calibration: int = 400  # digits that only set the temperature
    seed: int = 0


@dataclass(frozen=True)
class ClassifyStep:
    """The result of one step; `classifier` is in training mode until the last step, which gives it finished."""

    index: int
    loss: float  # cross-entropy of this batch, moved pictures
    classifier: DigitClassifier


def train_classifier(digits: Digits, config: ClassifyConfig | None = None, warp: Warp | None = None) -> Iterator[ClassifyStep]:
    """Fit a classifier; at the end one number, its temperature, is set on digits that it did not see (Guo et al. 2017)."""
    config, warp = config or ClassifyConfig(), warp or Warp()
    rng = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(digits), generator=rng)
    unseen, seen = order[: config.calibration], order[config.calibration :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = DigitClassifier(config.width).train()
        dropout = torch.get_rng_state()
    adam = torch.optim.AdamW(classifier.parameters(), lr=config.lr, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, config.lr, total_steps=config.steps + 1)
    for index in range(config.steps):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(dropout)  # the caller's random numbers stay as they are
            chosen = seen[torch.randint(len(seen), (config.batch,), generator=rng)]
            images = warp(digits.images[chosen], warp.draw(config.batch, rng))
            loss = F.cross_entropy(classifier(images), digits.labels[chosen])
            dropout = torch.get_rng_state()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if index == config.steps - 1:
            classifier.eval().requires_grad_(False)
            set_temperature(classifier, Digits(digits.images[unseen], digits.labels[unseen]))
        yield ClassifyStep(index, float(loss.detach()), classifier)


@torch.no_grad()
def set_temperature(classifier: DigitClassifier, digits: Digits) -> None:
    """Divide the logits by the number that makes these digits likeliest: confidence then means what it says."""
    logits = torch.cat([classifier.forward(part) for part in digits.images.split(500)]) * classifier.temperature
    tried = torch.logspace(-1, 1, 201)
    losses = torch.stack([F.cross_entropy(logits / one, digits.labels) for one in tried])
    classifier.temperature.copy_(tried[losses.argmin()])


@torch.no_grad()
def classifier_scores(classifier: DigitClassifier, digits: Digits, bins: int = 10) -> dict[str, float]:
    """Accuracy, mean confidence, calibration error (Guo et al. 2017, equation 3) and the fraction named with confidence 0.9 or more."""
    probabilities = torch.cat([classifier(part) for part in digits.images.split(500)])
    confidence, named = probabilities.max(1)
    right = (named == digits.labels).float()
    cell = (confidence * bins).long().clamp_max(bins - 1)
    gaps = [float((right[cell == at].mean() - confidence[cell == at].mean()).abs() * (cell == at).float().mean()) for at in cell.unique()]
    return {
        "digits": len(digits),
        "accuracy": _rounded(right.mean()),
        "confidence": _rounded(confidence.mean()),
        "calibration_error": round(sum(gaps), 4),
        "named_at_0.9": _rounded((confidence >= 0.9).float().mean()),
        "accuracy_at_0.9": _rounded(right[confidence >= 0.9].mean()),
    }


def _rounded(value: Tensor) -> float:
    return round(float(value), 4)


def make(out: Path, steps: int = ClassifyConfig.steps) -> None:
    """Train the classifier on 4,000 digits, measure it on the 1,000 held out, write it."""
    config = ClassifyConfig(steps=steps)
    seen, held_out = load("mnist").split()
    *_, last = progress(train_classifier(seen, config), steps, lambda step: f"{step.loss:.3f}")
    scores = classifier_scores(last.classifier, held_out)
    description = {
        "kind": "digit classifier",
        "width": config.width,
        "trained": f"{len(seen)} MNIST digits moved a little each time, {steps} steps of {config.batch}",
        "command": command("digit_classifier", out, steps=steps),
        "licence": DIGITS_LICENSE,
        "scores": scores,
    }
    checkpoint.save(out, half(last.classifier), description)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, steps=ClassifyConfig.steps)))
