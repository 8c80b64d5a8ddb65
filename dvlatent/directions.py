"""Directions in W, and edits, which are sums of directions. Taught in notebook 05.

A Direction is an axis with a scale: coordinate 0 is its boundary, one step is one standard deviation of the population.
An Edit moves *by*; `direction.move_to(ws, at=...)` moves *to*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import SupportsFloat

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.types import Generator, Ws, fingerprint

Amount = float | Float[Tensor, "*batch"]
Moved = Float[Tensor, "_ layer w"]


@dataclass(frozen=True, eq=False)
class Direction:
    """One axis of W along which one thing about the face changes (Shen et al. 2020, section 3)."""

    name: str  # what grows along it, e.g. "age"
    vector: Float[Tensor, " w"] = field(repr=False)  # of length one
    step: float = 1.0  # length of one step: one standard deviation of the population along the vector
    boundary: float = 0.0  # where coordinate 0 lies along the vector
    layers: tuple[int, ...] | None = None  # which layers an edit moves; None means all
    psi: float | None = None  # the truncation of the population it was found on
    generator: str | None = None  # fingerprint of the generator it was found on
    found_by: dict[str, str | int | float] = field(default_factory=dict)  # all that is needed to find it again

    def __post_init__(self) -> None:
        length = float(self.vector.norm())
        if self.vector.ndim != 1 or not abs(length - 1) < 1e-3:
            raise ShapeError(
                f"direction '{self.name}' needs one vector of length 1; this has shape {list(self.vector.shape)} and length "
                f"{length:.4g}. Divide it by its length first."
            )
        if not (0 < self.step < math.inf and math.isfinite(self.boundary)):
            raise ShapeError(
                f"direction '{self.name}' needs a positive step and a finite boundary; they are {self.step} and {self.boundary}. "
                "Measure both on a population that varies along it."
            )
        if self.layers is not None and min(self.layers, default=-1) < 0:
            raise ShapeError(f"direction '{self.name}' moves layers {self.layers}; give numbers from 0, or None for all layers.")

    def coordinate(self, ws: Ws) -> Float[Tensor, " batch"]:
        """How far each face is along this direction, in steps from the boundary (mean over the edited layers)."""
        along = ws[:, self._layers(ws)].mean(dim=1) @ self.vector.to(ws)  # [batch]
        return (along - self.boundary) / self.step

    def move(self, ws: Ws, amount: Amount) -> Moved:
        """Move every face by `amount` steps; one number, one per face, or a row of numbers for a single face."""
        amount = torch.as_tensor(amount, dtype=ws.dtype, device=ws.device).reshape(-1, 1, 1)  # [batch or 1, 1, 1]
        if len({1, len(amount), len(ws)}) > 2:
            raise ShapeError(f"move takes one amount, or one per face, not {len(amount)} for {len(ws)} faces. Take one face, ws[:1].")
        chosen = torch.zeros(ws.shape[1], 1, dtype=ws.dtype, device=ws.device)
        chosen[self._layers(ws)] = 1
        return ws + amount * self.step * chosen * self.vector.to(ws)

    def move_to(self, ws: Ws, *, at: Amount) -> Moved:
        """Move every face *to* coordinate `at`. What is perpendicular to the direction stays as it is."""
        at = torch.as_tensor(at, dtype=ws.dtype, device=ws.device)
        if len({1, at.numel(), len(ws)}) > 2:
            raise ShapeError(f"move_to takes one coordinate, or one per face, not {at.numel()} for {len(ws)} faces. Take one face, ws[:1].")
        return self.move(ws, at - self.coordinate(ws))

    def without(self, *others: Direction) -> Direction:
        """This direction, made perpendicular to others (Shen et al. 2020, section 3.3).

        A move along the result leaves the coordinates along the others unchanged. The boundary of the result is 0.
        Raises DirectionMismatch if nothing is left.
        """
        for other in others:
            self._check_same_generator(other)
        if not others:
            return self
        vector = self.vector.double()
        basis, sizes, _ = torch.linalg.svd(torch.stack([other.vector.to(vector) for other in others], dim=1), full_matrices=False)
        basis = basis[:, sizes > 1e-6]  # [w, rank]: directions that repeat each other count once
        rest = vector - basis @ (basis.T @ vector)
        names = ", ".join(other.name for other in others)
        if rest.norm() < 1e-6:
            raise DirectionMismatch(f"nothing of '{self.name}' is left without {names}: it is a sum of them. Leave one of them out.")
        before = f"{self.found_by['without']}; then " if "without" in self.found_by else ""
        found_by = {**self.found_by, "without": before + names}
        return replace(self, vector=(rest / rest.norm()).to(self.vector), boundary=0.0, found_by=found_by)

    def check(self, generator: Generator) -> None:
        """Raise DirectionMismatch unless this direction belongs to the generator's W."""
        if len(self.vector) != generator.w_dim or self.generator not in (None, fingerprint(generator)):
            raise DirectionMismatch(
                f"'{self.name}' was found in the {len(self.vector)}-number W of generator {self.generator or 'unknown'}; this generator "
                f"is {fingerprint(generator)} with {generator.w_dim} numbers. "
                "Find the direction again on this generator, or load the generator it was found on."
            )

    def _layers(self, ws: Ws) -> list[int]:
        if ws.ndim != 3:
            raise ShapeError(f"a direction moves ws, [batch, layer, w]; this is {list(ws.shape)}. Use broadcast(w, num_layers) first.")
        if ws.shape[-1] != len(self.vector):
            raise DirectionMismatch(
                f"'{self.name}' lives in a {len(self.vector)}-number W, these ws have {ws.shape[-1]}. "
                "Find the direction again on this generator, or load the generator it was found on."
            )
        layers = range(ws.shape[1]) if self.layers is None else self.layers
        if max(layers) >= ws.shape[1]:
            raise DirectionMismatch(f"'{self.name}' moves layer {max(layers)}, these ws have only {ws.shape[1]} layers.")
        return list(layers)

    def _check_same_generator(self, other: Direction) -> None:
        foreign = None not in (self.generator, other.generator) and self.generator != other.generator
        if foreign or len(other.vector) != len(self.vector):
            raise DirectionMismatch(f"'{self.name}' and '{other.name}' were found on different generators; find both on one.")

    def __mul__(self, amount: SupportsFloat) -> Edit:
        return Edit(((float(amount), self),))

    __rmul__ = __mul__

    def __neg__(self) -> Edit:
        return -1.0 * self

    def __add__(self, other: Direction | Edit) -> Edit:
        return 1.0 * self + other

    def __sub__(self, other: Direction | Edit) -> Edit:
        return 1.0 * self - other


@dataclass(frozen=True, eq=False)
class Edit:
    """A sum of steps: `(2 * smile - 1 * age)(ws)`. The order of the terms does not matter."""

    terms: tuple[tuple[float, Direction], ...]  # (steps, direction)

    def __call__(self, ws: Ws) -> Ws:
        """Move every face by these steps: [batch, layer, w] -> [batch, layer, w]."""
        for amount, direction in self.terms:
            ws = direction.move(ws, amount)
        return ws

    def __add__(self, other: Direction | Edit) -> Edit:
        return Edit(self.terms + (other.terms if isinstance(other, Edit) else (1.0 * other).terms))

    def __sub__(self, other: Direction | Edit) -> Edit:
        return self + -1.0 * other

    def __mul__(self, factor: SupportsFloat) -> Edit:
        return Edit(tuple((float(factor) * amount, direction) for amount, direction in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Edit:
        return -1.0 * self
