"""Directions in W and the edits made of them. Taught in notebook 05.

A Direction is an axis with a scale: coordinate 0 is its boundary, one step is one standard deviation of the population.
An Edit moves *by*; `direction.place(ws, at=...)` moves *to*.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.types import Generator, Ws, fingerprint


@dataclass(frozen=True, eq=False)
class Direction:
    """One axis of W along which one thing about the face changes (Shen et al. 2020, section 3)."""

    name: str  # what grows along it, e.g. "age"
    vector: Float[Tensor, " w"]  # of length one
    step: float = 1.0  # length of one step: one standard deviation of the population along the vector
    boundary: float = 0.0  # where coordinate 0 lies along the vector
    layers: tuple[int, ...] | None = None  # which layers an edit moves; None means all
    psi: float | None = None  # the truncation of the population it was found on
    generator: str | None = None  # fingerprint of the generator it was found on
    found_by: dict[str, str | int | float] = field(default_factory=dict)  # everything needed to find it again

    def __post_init__(self) -> None:
        length = float(self.vector.norm())
        if self.vector.ndim != 1 or not abs(length - 1) < 1e-3:
            raise ShapeError(
                f"direction '{self.name}' needs one vector of length 1; this has shape {list(self.vector.shape)} and length "
                f"{length:.4g}. Divide it by its length first."
            )
        if not (self.step > 0 and torch.isfinite(self.vector).all()):
            raise ShapeError(f"direction '{self.name}' needs a positive step and finite numbers; its step is {self.step}.")

    def coordinate(self, ws: Ws) -> Float[Tensor, " batch"]:
        """How far each face is along this direction, in steps from the boundary (mean over the edited layers)."""
        along = ws[:, self._layers(ws)].mean(dim=1) @ self.vector.to(ws)  # [batch]
        return (along - self.boundary) / self.step

    def move(self, ws: Ws, amount: float | Float[Tensor, " batch"]) -> Ws:
        """Move every face by `amount` steps; one number, or one per face."""
        amount = torch.as_tensor(amount, dtype=ws.dtype, device=ws.device).reshape(-1, 1, 1)  # [batch or 1, 1, 1]
        chosen = torch.zeros(ws.shape[1], 1, dtype=ws.dtype, device=ws.device)
        chosen[self._layers(ws)] = 1
        return ws + amount * self.step * chosen * self.vector.to(ws)

    def place(self, ws: Ws, *, at: float | Float[Tensor, " batch"]) -> Ws:
        """Move every face *to* coordinate `at`, wherever it was: the perpendicular part of w is kept."""
        return self.move(ws, torch.as_tensor(at, dtype=ws.dtype, device=ws.device) - self.coordinate(ws))

    def without(self, *others: Direction) -> Direction:
        """This direction with what it shares with others projected out (Shen et al. 2020, section 3.3).

        Moving along the result leaves the coordinate along every other unchanged. The boundary starts again at 0.
        Raises DirectionMismatch if nothing is left.
        """
        for other in others:
            self._check_kin(other)
        basis = torch.linalg.qr(torch.stack([other.vector.double() for other in others], dim=1)).Q  # [w, others]
        rest = self.vector.double() - basis @ (basis.T @ self.vector.double())
        if rest.norm() < 1e-6:
            raise DirectionMismatch(f"nothing of '{self.name}' is left without {', '.join(o.name for o in others)}: they are the same line.")
        found_by = {**self.found_by, "without": ", ".join(other.name for other in others)}
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
            raise ShapeError(f"a direction moves ws, [batch, layer, w]; this has shape {list(ws.shape)}. Use broadcast(w, num_layers) first.")
        if ws.shape[-1] != len(self.vector):
            raise DirectionMismatch(
                f"'{self.name}' lives in a {len(self.vector)}-number W, these ws have {ws.shape[-1]}. "
                "Find the direction again on this generator, or load the generator it was found on."
            )
        layers = range(ws.shape[1]) if self.layers is None else self.layers
        if max(layers) >= ws.shape[1]:
            raise DirectionMismatch(f"'{self.name}' moves layer {max(layers)}, these ws have only {ws.shape[1]} layers.")
        return list(layers)

    def _check_kin(self, other: Direction) -> None:
        if len(other.vector) != len(self.vector) or None not in (self.generator, other.generator) and self.generator != other.generator:
            raise DirectionMismatch(f"'{self.name}' and '{other.name}' were found on different generators; find both on one.")

    def __mul__(self, amount: float) -> Edit:
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
        """Move every face by these steps: [batch, layer, w] -> the same."""
        for amount, direction in self.terms:
            ws = direction.move(ws, amount)
        return ws

    def __add__(self, other: Direction | Edit) -> Edit:
        return Edit(self.terms + (other.terms if isinstance(other, Edit) else (1.0 * other).terms))

    def __sub__(self, other: Direction | Edit) -> Edit:
        return self + -1.0 * other

    def __mul__(self, factor: float) -> Edit:
        return Edit(tuple((factor * amount, direction) for amount, direction in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Edit:
        return -1.0 * self
