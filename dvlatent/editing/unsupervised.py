"""Directions without scores: the axes along which W varies most, or to which styles react most; and names for them.

Taught in notebook 05.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.directions import Direction
from dvlatent.editing.find import seed_ranges
from dvlatent.editing.survey import Population
from dvlatent.errors import ShapeError
from dvlatent.latents import Layers, layer_range, w_of
from dvlatent.types import Generator, fingerprint

Matrix = Float[Tensor, "channel w"]
Table = Float[np.ndarray, "direction score"]


def principal_directions(
    generator: Generator, count: int = 10, *, seeds: Iterable[int] = range(10_000), psi: float = 1.0, layers: Layers | None = None
) -> list[Direction]:
    """PC1, PC2, ...: the axes along which w varies most, widest first (GANSpace, Härkönen et al. 2020, section 2.1).

    Eigenvectors of the covariance of w over `seeds`. Signs mean nothing: the largest number of each vector is made positive. Raises
    ShapeError for more axes than W or the seeds have.
    """
    w, found_by = _sample(generator, seeds, psi)
    if not (1 <= count <= w.shape[1] and len(w) > count):
        raise ShapeError(f"{count} axes of a {w.shape[1]}-number W cannot be found with {len(w)} faces: ask for fewer, or give more seeds.")
    centered = w - w.mean(axis=0)
    axes = np.linalg.eigh(centered.T @ centered / len(w))[1].T[::-1][:count]
    found_by = {"method": "pca", **found_by}
    return [_direction(f"PC{row + 1}", axis, w, generator, layers, {**found_by, "row": row}) for row, axis in enumerate(axes)]


def sefa(
    generator: Generator,
    layers: Layers = "all",
    count: int = 10,
    *,
    matrices: Sequence[Matrix] | None = None,
    seeds: Iterable[int] = range(2_000),
    psi: float = 1.0,
) -> list[Direction]:
    """SeFa1, SeFa2, ...: the axes of W to which the styles of these layers react most, from weights alone (Shen and Zhou 2021, equation 6).

    A step n in w changes the style of a layer by A n. The unit vectors n that change it most are the eigenvectors of AᵀA with the
    largest eigenvalues. As in the authors' code, every row of A is scaled to length one first. `matrices` has one A for each layer of
    the generator; by default they come from the generator (`style_matrices`). The seeds only give the length of a step.
    Raises ShapeError for a generator whose matrices are unknown.
    """
    chosen = layer_range(layers, generator.num_layers)
    matrices = style_matrices(generator) if matrices is None else matrices
    if len(matrices) != generator.num_layers or any(matrix.ndim != 2 or matrix.shape[1] != generator.w_dim for matrix in matrices):
        raise ShapeError(
            f"sefa needs one [channel, {generator.w_dim}] matrix for each of {generator.num_layers} layers; "
            f"these are {[list(matrix.shape) for matrix in matrices]}."
        )
    a = torch.cat([matrices[layer] for layer in chosen]).detach().cpu().double()  # [channels of all chosen layers, w]
    if not (1 <= count <= generator.w_dim and len(a)):
        raise ShapeError(f"{count} axes cannot be found in a {generator.w_dim}-number W: ask for 1 to {generator.w_dim}.")
    a = (a / a.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
    axes = np.linalg.eigh(a.T @ a)[1].T[::-1][:count]
    w, found_by = _sample(generator, seeds, psi)
    found_by |= {"method": "sefa", "style_layers": ", ".join(map(str, chosen))}
    return [_direction(f"SeFa{row + 1}", axis, w, generator, layers, {**found_by, "row": row}) for row, axis in enumerate(axes)]


def style_matrices(generator: Generator) -> list[Matrix]:
    """For each layer, the matrix A that makes its style from w, with one row per channel.

    They are known for the face generator (all modulations that read the w of a layer) and for ToyFaces (the vectors of its factors).
    Raises ShapeError for other generators: give their matrices to `sefa(matrices=...)`.
    """
    if hasattr(generator, "blocks") and hasattr(generator, "to_image"):
        readers = [[generator.conv1]]
        for block in generator.blocks:
            readers += [[block.up, block.conv1], [block.conv2]]
        readers.append([generator.to_image])
        return [torch.cat([layer.modulation.weight for layer in group]) for group in readers]
    if hasattr(generator, "truth"):
        factors = list(generator.truth.values())
        groups = [[f.vector / f.step for f in factors if layer in f.layers] for layer in range(generator.num_layers)]
        return [torch.stack(group) if group else torch.empty(0, generator.w_dim) for group in groups]
    raise ShapeError(
        f"the style matrices of {type(generator).__name__} are unknown here: give them, one [channel, w] matrix per layer, "
        "as sefa(..., matrices=...)."
    )


def correlations(directions: Sequence[Direction], generator: Generator, population: Population) -> Table:
    """Pearson's r of each score with the coordinate along each direction, [direction, score]; nan for scores with gaps.

    It says what goes together in this population, not what a move along the direction changes.
    """
    w = population.latents(generator)[1].detach().cpu().double().numpy()
    scores = population.scores.detach().cpu().double().numpy()
    for direction in directions:
        direction.check(generator)
    along = w @ np.stack([direction.vector.double().numpy() for direction in directions], axis=1)  # [face, direction]
    along, scores = along - along.mean(axis=0), scores - scores.mean(axis=0)
    lengths = np.linalg.norm(along, axis=0)[:, None] * np.linalg.norm(scores, axis=0)
    return np.divide(along.T @ scores, lengths, out=np.zeros_like(lengths), where=lengths != 0)


def name_by(directions: Sequence[Direction], names: Sequence[str], table: Table, least: float = 0.2) -> list[Direction]:
    """The directions, named after the score with the largest entry: "PC3 (yaw +0.8)".

    `table` has one row per direction and one column per score: `correlations`, or the measured change of every score for one step
    along each direction, in standard deviations. If no entry reaches `least`, the name says so.
    """
    table = np.asarray(table, dtype=np.float64)
    if table.shape != (len(directions), len(names)) or not len(names):
        raise ShapeError(f"a table of [{len(directions)} directions, {len(names)} scores] was needed; this is {list(table.shape)}.")
    named = []
    for direction, row in zip(directions, np.nan_to_num(table), strict=True):
        best = int(np.argmax(np.abs(row)))
        label = f"{names[best]} {row[best]:+.1f}" if abs(row[best]) >= least else "no score follows"
        named.append(replace(direction, name=f"{direction.name} ({label})"))
    return named


def _sample(generator: Generator, seeds: Iterable[int], psi: float) -> tuple[np.ndarray, dict]:
    seeds = tuple(seeds)
    with torch.no_grad():
        w = w_of(generator, seeds, psi)
    return w.cpu().double().numpy(), {"seeds": seed_ranges(seeds), "psi": psi}


def _direction(name: str, axis: np.ndarray, w: np.ndarray, generator: Generator, layers: Layers | None, found_by: dict) -> Direction:
    axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
    along = w @ axis
    return Direction(
        name,
        torch.from_numpy(axis.copy()).float(),
        step=float(along.std()),
        boundary=float(along.mean()),
        layers=None if layers in (None, "all") else layer_range(layers, generator.num_layers),
        psi=found_by["psi"],
        generator=fingerprint(generator),
        found_by=found_by,
    )
