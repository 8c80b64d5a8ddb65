"""A reader of glasses for the choice of pairs: a logistic regression on frozen features around the eyes. The judge has no part in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dvlatent import images
from dvlatent.faces.judge import glasses_labels
from dvlatent.latents import broadcast, w_of
from dvlatent.types import Image
from dvlatent.zoo import load

EYES = (95, 145, 60, 197)  # rows and columns of an aligned face of 256 px, from and to
WITHOUT = 2  # faces without glasses for each face with them


class Glasses:
    """How likely faces wear glasses: `glasses(image)` is [batch]. Faces labelled by eye teach it once; they are kept in a folder."""

    def __init__(self, folder: Path) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.network, file = load("perceptual").network, folder / "glasses.npz"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            np.savez(file, **self._labelled())
        known = np.load(file)
        scale, fit = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500)).fit(known["features"], known["wears"])
        self.mean, self.weights = (torch.from_numpy(one).float() for one in (scale.mean_, fit.coef_[0] / scale.scale_))
        self.bias = float(fit.intercept_[0])

    def log_odds(self, image: Image) -> Tensor:
        """[batch, 3, size, size] -> [batch], with gradients."""
        return (self._features(image) - self.mean) @ self.weights + self.bias

    @torch.no_grad()
    def __call__(self, image: Image) -> Tensor:
        """[batch, 3, size, size] -> probabilities, [batch]."""
        return self.log_odds(image).sigmoid()

    def _features(self, image: Image) -> Tensor:
        found = []
        for stage in self.network(images.resize(image, 256))[1:4]:
            top, bottom, left, right = (edge * stage.shape[-1] // 256 for edge in EYES)
            found.append(F.adaptive_avg_pool2d(stage[:, :, top:bottom, left:right], (2, 4)).flatten(1))
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def _labelled(self) -> dict[str, np.ndarray]:
        labels, generator = glasses_labels(), load("faces")
        with_them, without = ([seed for seed, wears in sorted(labels.items()) if wears == which] for which in (True, False))
        rng = np.random.default_rng(0)
        seeds = with_them + rng.permutation(without)[: WITHOUT * len(with_them)].tolist()
        found = []
        for at in range(0, len(seeds), 8):
            w = w_of(generator, seeds[at : at + 8], 1.0)
            found.append(self._features(generator.preview(broadcast(w, generator.num_layers)).clamp(-1, 1)))
        return {"features": torch.cat(found).numpy(), "wears": np.array([labels[seed] for seed in seeds])}
