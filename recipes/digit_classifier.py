"""Training the classifier of digits, the instrument of lessons 01 and 02. Every picture is moved a little each time it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent.gan.data import Digits, Warp
from dvlatent.gan.digits import DigitClassifier


@dataclass(frozen=True)
class ClassifyConfig:
    """How the classifier is trained."""

    steps: int = 4000  # optimiser steps
    batch: int = 64  # digits in a step
    lr: float = 2e-3  # Adam's learning rate at its highest
    decay: float = 1e-4  # weight decay
    width: int = 32  # channels of its first layer
    kept: int = 400  # digits that only set the temperature
    seed: int = 0


@dataclass(frozen=True)
class ClassifyStep:
    """One step of training; `classifier` is in training mode until the last step, which gives it finished."""

    index: int
    loss: float  # cross-entropy of this batch, moved pictures
    classifier: DigitClassifier


def train_classifier(digits: Digits, config: ClassifyConfig | None = None, warp: Warp | None = None) -> Iterator[ClassifyStep]:
    """Fit a classifier; at the end one number, its temperature, is set on digits that it did not see (Guo et al. 2017)."""
    config, warp = config or ClassifyConfig(), warp or Warp()
    rng = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(digits), generator=rng)
    kept, seen = order[: config.kept], order[config.kept :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = DigitClassifier(config.width).train()
        state = torch.get_rng_state()
    adam = torch.optim.AdamW(classifier.parameters(), lr=config.lr, weight_decay=config.decay)
    plan = torch.optim.lr_scheduler.OneCycleLR(adam, config.lr, total_steps=config.steps + 1)
    for index in range(config.steps):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)  # of the dropout: the caller's dice stay as they are
            chosen = seen[torch.randint(len(seen), (config.batch,), generator=rng)]
            images = warp(digits.images[chosen], warp.draw(config.batch, rng))
            loss = F.cross_entropy(classifier(images), digits.labels[chosen])
            state = torch.get_rng_state()
        adam.zero_grad()
        loss.backward()
        adam.step()
        plan.step()
        if index == config.steps - 1:
            classifier.eval().requires_grad_(False)
            set_temperature(classifier, Digits(digits.images[kept], digits.labels[kept]))
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
    """Accuracy, mean confidence, calibration error (Guo et al. 2017, equation 3) and the share named with confidence 0.9 or more."""
    chances = torch.cat([classifier(part) for part in digits.images.split(500)])
    sure, named = chances.max(1)
    right = (named == digits.labels).float()
    cell = (sure * bins).long().clamp_max(bins - 1)
    gaps = [float((right[cell == at].mean() - sure[cell == at].mean()).abs() * (cell == at).float().mean()) for at in cell.unique()]
    return {
        "digits": len(digits),
        "accuracy": _rounded(right.mean()),
        "confidence": _rounded(sure.mean()),
        "calibration_error": round(sum(gaps), 4),
        "named_at_0.9": _rounded((sure >= 0.9).float().mean()),
        "accuracy_at_0.9": _rounded(right[sure >= 0.9].mean()),
    }


def _rounded(value: Tensor) -> float:
    return round(float(value), 4)
