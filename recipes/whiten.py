"""Measure the coordinates of W for the inversion of faces: `python recipes/whiten.py --out faces-space.safetensors` (10 minutes)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from common import LICENSE, command, parser, run
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, w_of
from dvlatent.types import Generator, Image, renderer
from dvlatent.whitening import Whitening, levels
from dvlatent.zoo import load

FIRST_SEED = 700_000
NEIGHBORS = 41  # axes over which the fraction of a layer is averaged


def view_gradients(
    generator: Generator, features: Callable[[Image], tuple[Tensor, ...]], seeds: range, psi: float = 0.7
) -> Iterator[Float[Tensor, "layer w"]]:
    """For each face, the gradient of one random view of its picture, in plain coordinates of W, for every layer.

    A view weighs all that the search compares (pixels at several sizes, perceptual `features`) with random signs. The mean of the squares
    of such gradients says how much the picture changes (Hutchinson's estimate of the trace of J'J).
    """
    plain, rng = Whitening.plain(generator), torch.Generator().manual_seed(0)
    render, _ = renderer(generator, None)
    for seed in seeds:
        base = broadcast(w_of(generator, [seed], psi), generator.num_layers)
        step = torch.zeros_like(base, requires_grad=True)
        with torch.enable_grad():
            picture = render(base + step @ plain.axes)
            parts = [*levels(picture), *features(picture)]
            view = sum((part * torch.randn(part.shape, generator=rng)).sum() / part.numel() ** 0.5 for part in parts)
            (gradient,) = torch.autograd.grad(view, step)
        yield gradient[0]


def ordered(plain: Whitening, gradients: Float[Tensor, "face layer w"]) -> Whitening:
    """Turn the axes so that the picture changes most along the first and least along the last, by `view_gradients` of some faces."""
    total = gradients.sum(dim=1).double()
    change, turn = torch.linalg.eigh(total.T @ total / len(gradients))  # ascending; axes in columns
    change, turn = change.flip(0).clamp_min(1e-12), turn.flip(1)
    fraction = (gradients.double() @ turn).square().mean(dim=0) / change  # of every layer, noisy
    padded = F.pad(fraction[:, None], (NEIGHBORS // 2, NEIGHBORS // 2), mode="replicate")
    layers = F.avg_pool1d(padded, NEIGHBORS, stride=1)[:, 0] * change
    axes = turn.T @ plain.axes.double()
    return Whitening(plain.mean, *(part.to(plain.axes) for part in (axes, torch.linalg.inv(axes), change, layers)))


def make(out: Path, faces: int = 1000) -> None:
    """Measure how the picture of each of so many faces changes along W, and write coordinates whose axes are ordered by it."""
    generator, seeds = load("faces"), range(FIRST_SEED, FIRST_SEED + faces)
    if faces < generator.w_dim:
        raise ShapeError(f"{faces} faces cannot tell {generator.w_dim} directions apart: give --faces 1000.")
    gradients = torch.stack(list(tqdm(view_gradients(generator, load("perceptual").features, seeds), total=faces, unit="face")))
    of = f"seeds {seeds.start} to {seeds.stop - 1}, psi 0.7, previews"
    made_by = command("whiten", out, faces=faces)
    ordered(Whitening.plain(generator), gradients).save(out, generator, of=of, command=made_by, licence=LICENSE)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=1000)))
