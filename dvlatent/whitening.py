"""Whitened coordinates of W, in which the inversion searches: each varies as much as the population does along it.

W's own numbers are poor coordinates: some hardly vary from face to face, and a step along one axis repaints the whole head where the
same step along another moves a hair. A search by gradient then zigzags (Nocedal and Wright 2006, section 3.3). So we measure two things
once: how much the population varies, and how much the picture changes. `python recipes/whiten.py` writes the file for the faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dvlatent import checkpoint
from dvlatent.checkpoint import WEIGHTS
from dvlatent.latents import normal
from dvlatent.types import Generator, Image, Ws, fingerprint

SHIPPED = WEIGHTS / "faces-space.safetensors"


@dataclass(frozen=True, eq=False)
class Whitening:
    """Coordinates of W in which a step of 1 is one standard deviation of the population, in every direction.

    `shared` says how much the picture changes with such a step in all layers at once, `layers` with a step in one layer: mean squared
    changes, as the search's loss counts them (the diagonal of a Gauss-Newton matrix, averaged over faces). Unmeasured, all are equal.
    """

    mean: Float[Tensor, " w"]
    axes: Float[Tensor, "w w"]  # a row for every coordinate, as long as its standard deviation
    inverse: Float[Tensor, "w w"]
    shared: Float[Tensor, " w"]
    layers: Float[Tensor, "layer w"]

    @classmethod
    def of(cls, generator: Generator) -> Whitening:
        """The measured coordinates that we ship for this generator; for any other generator, the plain ones."""
        tensors, description = _file()
        if description["generator"] != fingerprint(generator):
            return cls.plain(generator)
        like, axes = generator.w_mean, tensors["axes"].double()
        return cls(like, axes.to(like), torch.linalg.inv(axes).to(like), tensors["shared"].to(like), tensors["layers"].to(like))

    @classmethod
    @torch.no_grad()
    def plain(cls, generator: Generator, faces: int = 4096) -> Whitening:
        """The principal axes of so many faces, each divided by its standard deviation."""
        w = generator.mapping(normal(range(faces), generator.z_dim).to(generator.w_mean)).double()
        variance, axes = torch.linalg.eigh((w - w.mean(dim=0)).T @ (w - w.mean(dim=0)) / faces)  # axes in columns
        std = variance.clamp_min(1e-4 * variance.max()).sqrt()  # even along the rarest axis something may move
        ones, like = torch.ones(generator.num_layers, generator.w_dim), generator.w_mean
        return cls(like, (axes * std).T.to(like), (axes / std).to(like), ones[0].to(like), (ones / len(ones)).to(like))

    def ws(self, coordinates: Float[Tensor, "batch layer w"]) -> Ws:
        """Coordinates to ws."""
        return self.mean + coordinates @ self.axes

    def coordinates(self, ws: Ws) -> tuple[Float[Tensor, "batch 1 w"], Float[Tensor, "batch layer w"]]:
        """Ws to the mean over layers, and what each layer adds to it."""
        both = (ws - self.mean) @ self.inverse
        shared = both.mean(dim=1, keepdim=True)
        return shared, both - shared

    def save(self, path: Path, generator: Generator, **metadata: Any) -> None:
        """Write the coordinates of one generator, with `metadata`."""
        tensors = {"axes": self.axes.half(), "shared": self.shared, "layers": self.layers}
        checkpoint.save(path, tensors, {"kind": "space", "generator": fingerprint(generator), **metadata})


def levels(image: Image) -> list[Image]:
    """The picture and its halves down to 16 px: coarse ones say where things are, fine ones how sharp."""
    found = [image]
    while found[-1].shape[-1] >= 32:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


@lru_cache(maxsize=1)
def _file() -> tuple[dict[str, Tensor], dict[str, Any]]:
    return checkpoint.load(SHIPPED, "space")
