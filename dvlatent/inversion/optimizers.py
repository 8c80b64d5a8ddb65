"""Two ways downhill with one interface: `ask` where to look next, `tell` what the objective is there. Taught in notebook 06.

The objective is a measured value with its gradient, plus a pull of every coordinate toward 0: l2 / 2 times the coordinate's square.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from dvlatent.errors import ShapeError


@dataclass(frozen=True)
class QuasiNewtonConfig:
    """How `QuasiNewton` walks. The defaults suit every photo so far, and there is no learning rate."""

    memory: int = 40  # recent steps from which it learns the curvature
    sufficient: float = 1e-4  # fraction of the promised gain that a step must bring (Armijo's condition)
    first_step: float = 0.2  # fraction of a step to take while it only knows the curvature of the average face
    longest_step: float = 0.5  # root mean square over the coordinates of one w, in standard deviations

    def start(self, point: Tensor, curvature: Tensor) -> QuasiNewton:
        """The optimizer, at a point; `curvature` is the second derivative of the value along each coordinate, as far as it is known."""
        return QuasiNewton(self, point, curvature)


class QuasiNewton:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.4) that begins with a known curvature.

    It learns the rest from how the gradient changed over the last steps. A step that does not bring what it promised is taken back and
    shortened, so `best` only improves. Every point that it asks for counts as a step, also one that is taken back.
    """

    def __init__(self, config: QuasiNewtonConfig, point: Tensor, curvature: Tensor) -> None:
        self.config, self.best, self.curvature = config, point, curvature
        self.forget()

    def forget(self) -> None:
        """Begin again at the best point, because the objective has changed."""
        self.trial, self.value, self.fraction = self.best, None, 1.0
        self.pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.config.memory)  # of steps, and what they changed in the gradient

    def ask(self, progress: float) -> Tensor:
        """The next point to measure; at progress 1 the best one so far."""
        return (self.trial if progress < 1 else self.best).clone()

    def tell(self, value: float, gradient: Tensor, l2: Tensor) -> None:
        """Take in the value and its gradient at the last point, and how strong the pull is now."""
        if self.value is not None:
            before, now = (v + float((l2 * at.square()).sum()) / 2 for v, at in ((self.value, self.best), (value, self.trial)))
            promised = float((self.direction * (self.gradient + l2 * self.best)).sum())  # by a whole step; negative
            if not now <= before + self.config.sufficient * self.fraction * promised:
                self._take_back(now - before, promised, l2)
                return
            step, change = self.trial - self.best, gradient - self.gradient
            if float((step * (change + l2 * step)).sum()) > 1e-9 * float(step.norm() * change.norm()):
                self.pairs.append((step, change))
        self.best, self.value, self.gradient = self.trial, value, gradient
        self._aim(l2)

    def _take_back(self, change: float, promised: float, l2: Tensor) -> None:
        """Try a shorter step in the same direction: to the lowest point of the parabola through both ends (section 3.5)."""
        surplus = change - self.fraction * promised
        self.fraction *= min(0.5, max(0.1, -self.fraction * promised / (2 * surplus))) if surplus > 0 else 0.5
        if self.fraction < 1e-4:  # what it remembers is misleading
            self.pairs.clear()
            self._aim(l2)
        else:
            self.trial = self.best + self.fraction * self.direction

    def _aim(self, l2: Tensor) -> None:
        """Choose the next step from the best point."""
        self.direction = self._newton_direction(-(self.gradient + l2 * self.best), l2)
        length = float(self.direction.square().mean(dim=1).max().sqrt())
        self.fraction = min(1.0 if self.pairs else self.config.first_step, self.config.longest_step / max(length, 1e-12))
        self.trial = self.best + self.fraction * self.direction

    def _newton_direction(self, downhill: Tensor, l2: Tensor) -> Tensor:
        """The inverse curvature times the way downhill: the two loops of the algorithm, with the pull of now."""
        pairs = [(step, change + l2 * step) for step, change in self.pairs]
        pairs = [(step, change, 1 / product) for step, change in pairs if (product := float((step * change).sum())) > 0]
        inverse, scale, alphas = 1 / (self.curvature + l2), 1.0, []
        for step, change, rho in reversed(pairs):
            alphas.append(rho * float((step * downhill).sum()))
            downhill = downhill - alphas[-1] * change
        if pairs:
            step, change, rho = pairs[-1]
            scale = 1 / (rho * float((change * inverse * change).sum()))
        downhill = scale * inverse * downhill
        for (step, change, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            downhill = downhill + step * (alpha - rho * float((change * downhill).sum()))
        return downhill


@dataclass(frozen=True)
class AdamConfig:
    """How `Adam` walks: a learning rate that rises and falls, and noise (Karras et al. 2020, appendix D)."""

    lr: float = 0.2  # learning rate at its highest, in standard deviations of the population
    ramp_up: float = 0.05  # fraction of the steps in which the learning rate grows from 0
    ramp_down: float = 0.5  # fraction of the steps, at the end, in which it falls to 0 again
    noise: float = 0.05  # added to w at first, in standard deviations, so that the search does not stick early
    noise_until: float = 0.3  # fraction of the steps after which there is no noise
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        if not self.lr > 0 or self.noise < 0:
            raise ShapeError(f"Adam needs a learning rate above 0 and noise of 0 or more; given: lr {self.lr}, noise {self.noise}.")

    def lr_at(self, progress: float) -> float:
        """The learning rate: up, level, and down to 0."""
        return self.lr * min(1.0, progress / max(self.ramp_up, 1e-3) + 0.1, (1 - progress) / max(self.ramp_down, 1e-3))

    def noise_at(self, progress: float) -> float:
        """How much noise is added: falling to 0."""
        return self.noise * max(0.0, 1 - progress / max(self.noise_until, 1e-3)) ** 2

    def start(self, point: Tensor, curvature: Tensor) -> Adam:
        """The optimizer, at a point. It does not use the curvature."""
        return Adam(self, point)


class Adam:
    """Adam (Kingma and Ba 2015): it takes every step, and its best point is its last."""

    def __init__(self, config: AdamConfig, point: Tensor) -> None:
        self.config, self.best, self.progress = config, point.clone(), 0.0
        self.adam = torch.optim.Adam([self.best], betas=(0.9, 0.99))
        self.rng = torch.Generator().manual_seed(config.seed)

    def forget(self) -> None:
        """Nothing: its moving averages forget by themselves."""

    def ask(self, progress: float) -> Tensor:
        """The next point to measure; the noise is in the first row, which all layers share."""
        self.progress, trial = progress, self.best.clone()
        if noise := self.config.noise_at(progress):
            trial[0] += noise * torch.randn(trial.shape[1], generator=self.rng).to(trial)
        return trial

    def tell(self, value: float, gradient: Tensor, l2: Tensor) -> None:
        """Take a step down the gradient, the pull included."""
        self.best.grad = gradient + l2 * self.best
        self.adam.param_groups[0]["lr"] = self.config.lr_at(self.progress)
        with torch.no_grad():
            self.adam.step()
