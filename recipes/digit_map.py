"""Train the map of digits: `python recipes/digit_map.py --out digit-map.safetensors` (a minute)."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from common import command, half, parser, run
from sklearn.decomposition import PCA

from dvlatent import checkpoint
from dvlatent.autoencoder.model import Autoencoder
from dvlatent.autoencoder.train import AutoencoderTrainConfig, encode_all, redraw_error, train_autoencoder
from dvlatent.gan.data import Digits
from dvlatent.metrics.features import knn_accuracy
from dvlatent.training import progress
from dvlatent.zoo import load

STEPS = 12_000


def map_scores(net: Autoencoder, digits: Digits, k: int = 10) -> dict[str, float]:
    """How well the ten nearest name the held-out digits, on this map and on two principal components; and the error of a pixel."""
    train, test = digits.split()
    flat = [part.images.flatten(1) for part in (train, test)]
    pca = PCA(net.config.code, svd_solver="full").fit(flat[0])
    clouds = [pca.transform(part) for part in flat], [encode_all(net, part.images) for part in (train, test)]
    plane, found = (knn_accuracy(known, train.labels, new, test.labels, k).value for known, new in clouds)
    return {"accuracy": round(found, 3), "pca_accuracy": round(plane, 3), "pixel_error": round(redraw_error(net, test.images), 4)}


def make(out: Path, steps: int = STEPS) -> None:
    """Train the two-number autoencoder of the digits for long, measure it on the held-out thousand, write it."""
    digits, config = load("mnist"), AutoencoderTrainConfig(steps=steps, shake=1.0)
    training = train_autoencoder(digits.split()[0].images, Autoencoder(), config)
    *_, step = progress(training, steps, lambda step: f"error {step.error:.4f}")
    scores = map_scores(step.net, digits)
    metadata = {"command": command("digit_map", out, steps=steps), "licence": "MIT; learned from MNIST (CC BY-SA 3.0)", "scores": scores}
    description = {"kind": "autoencoder", "config": asdict(step.net.config), "training": asdict(config), **metadata}
    checkpoint.save(out, half(step.net), description)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, steps=STEPS)))
