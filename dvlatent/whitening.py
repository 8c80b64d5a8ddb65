"""The coordinates in which w is searched for: every one as wide as the population, and of known effect on the picture.

W's own numbers are poor coordinates: some hardly vary from face to face, and a step along one axis repaints the whole head where the same
step along another moves a hair. A search by gradient then zigzags (Nocedal and Wright 2006, section 3.3). So we measure both once: how much
the population varies, and how much the picture answers. `dvlatent train space` makes the file that belongs to the faces.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from dvlatent.faces.perceptual import Distance
from dvlatent.latents import broadcast, normal, w_of
from dvlatent.types import Generator, Image, Ws, fingerprint, renderer

SHIPPED = WEIGHTS / "faces-space.safetensors"
NEIGHBOURS = 41  # axes over which the share of a layer is averaged


@dataclass(frozen=True, eq=False)
class Whitening:
    """Coordinates of W: a step of 1 is one standard deviation of the population, whatever the direction.

    `shared` says by how much the picture answers such a step in all layers at once, `layers` in one of them: mean squared changes, as the
    search's loss counts them (the diagonal of a Gauss-Newton matrix, averaged over faces). Where nobody measured, all are alike.
    """

    mean: Float[Tensor, " w"]
    axes: Float[Tensor, "w w"]  # a row for every coordinate, as long as its standard deviation
    inverse: Float[Tensor, "w w"]
    shared: Float[Tensor, " w"]
    layers: Float[Tensor, "layer w"]

    @classmethod
    def of(cls, generator: Generator) -> Whitening:
        """The measured one if we ship it for this generator, else the plain one."""
        return _shipped(generator) or cls.plain(generator)

    @classmethod
    @torch.no_grad()
    def plain(cls, generator: Generator, faces: int = 4096) -> Whitening:
        """The principal axes of so many faces, each divided by its spread."""
        w = generator.mapping(normal(range(faces), generator.z_dim).to(generator.w_mean)).double()
        variance, axes = torch.linalg.eigh((w - w.mean(dim=0)).T @ (w - w.mean(dim=0)) / faces)  # axes in columns
        std = variance.clamp_min(1e-4 * variance.max()).sqrt()  # no direction is so rare that nothing may move along it
        ones, like = torch.ones(generator.num_layers, generator.w_dim), generator.w_mean
        return cls(like, (axes * std).T.to(like), (axes / std).to(like), ones[0].to(like), (ones / len(ones)).to(like))

    def ws(self, coordinates: Float[Tensor, "batch layer w"]) -> Ws:
        """Coordinates to ws."""
        return self.mean + coordinates @ self.axes

    def coordinates(self, ws: Ws) -> tuple[Float[Tensor, "batch 1 w"], Float[Tensor, "batch layer w"]]:
        """Ws to what all layers share and what each adds of its own."""
        both = (ws - self.mean) @ self.inverse
        shared = both.mean(dim=1, keepdim=True)
        return shared, both - shared

    def turned(self, gradients: Float[Tensor, "face layer w"]) -> Whitening:
        """This space with the axes along which the picture answers most to least, by gradients of random views of some faces."""
        combine = gradients.sum(dim=1).double()
        answer, turn = torch.linalg.eigh(combine.T @ combine / len(gradients))  # ascending; axes in columns
        answer, turn = answer.flip(0).clamp_min(1e-12), turn.flip(1)
        share = (gradients.double() @ turn).square().mean(dim=0) / answer  # of every layer, noisy
        padded = F.pad(share[:, None], (NEIGHBOURS // 2, NEIGHBOURS // 2), mode="replicate")
        layers = F.avg_pool1d(padded, NEIGHBOURS, stride=1)[:, 0] * answer
        axes = turn.T @ self.axes.double()
        return Whitening(self.mean, axes.to(self.axes), torch.linalg.inv(axes).to(self.axes), answer.to(self.axes), layers.to(self.axes))

    def save(self, path: Path, generator: Generator, **about: Any) -> None:
        """Write it for one generator; `about` is kept with it."""
        tensors = {"axes": self.axes.half(), "shared": self.shared, "layers": self.layers}
        checkpoint.save(path, tensors, {"kind": "space", "generator": fingerprint(generator), **about})


def answers(generator: Generator, distance: Distance, seeds: range, psi: float = 0.7) -> Iterator[Float[Tensor, "layer w"]]:
    """For each face, the gradient of one random view of its picture, in plain coordinates of W, for every layer.

    A view weighs all that the search compares (pixels at several sizes, perceptual features) with random signs: the mean of the squares of
    such gradients is how much the picture answers (Hutchinson's estimate of the trace of J'J).
    """
    space, rng = Whitening.plain(generator), torch.Generator().manual_seed(0)
    look, _ = renderer(generator, None)
    for seed in seeds:
        base = broadcast(w_of(generator, [seed], psi), generator.num_layers)
        step = torch.zeros_like(base, requires_grad=True)
        with torch.enable_grad():
            picture = look(base + step @ space.axes)
            parts = [*levels(picture), *distance.features(picture)]
            view = sum((part * torch.randn(part.shape, generator=rng)).sum() / part.numel() ** 0.5 for part in parts)
            (gradient,) = torch.autograd.grad(view, step)
        yield gradient[0]


def levels(image: Image) -> list[Image]:
    """The picture and its halves down to 16 px: coarse ones say where things are, fine ones how sharp."""
    found = [image]
    while found[-1].shape[-1] >= 32:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


def _shipped(generator: Generator) -> Whitening | None:
    """What we measured for this very generator, on its device."""
    tensors, description = _file()
    if description["generator"] != fingerprint(generator):
        return None
    like = generator.w_mean
    axes = tensors["axes"].double()
    return Whitening(like, axes.to(like), torch.linalg.inv(axes).to(like), tensors["shared"].to(like), tensors["layers"].to(like))


@lru_cache(maxsize=1)
def _file() -> tuple[dict[str, Tensor], dict[str, Any]]:
    return checkpoint.load(SHIPPED, "space")
