"""Two ways downhill, with one interface: look at `trial`, `tell` what was seen there, and `trial` is where to look next.

The objective is what is seen (a value and its gradient) plus springs that pull every coordinate to 0. Taught in notebook 06.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

MEMORY = 40  # steps that tell of the curvature
CAREFUL = 1e-4  # share of the promised gain that a step must bring (Armijo's condition)
CAUTIOUS = 0.2  # share of the step to take while nothing is known but the curvature of the average face
FARTHEST = 0.5  # the longest step: so many standard deviations in every coordinate of one w, on average


@dataclass(eq=False)
class QuasiNewton:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.4) that begins with a known curvature instead of none.

    The last steps and what they did to the gradient tell the rest. A step that does not bring what it promised is taken back and halved,
    so `best` only ever improves; every look counts, and there is no rate to choose.
    """

    best: Tensor
    curvature: Tensor  # of what is seen, to begin with: as large as `best`
    trial: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin again from the best point: the objective is another one now."""
        self.trial, self.known, self.value, self.share = self.best, deque(maxlen=MEMORY), None, 1.0

    def tell(self, seen: float, slope: Tensor, l2: Tensor, lr: float = 0.0) -> None:
        """What was seen at `trial`, its gradient, and how stiff the springs are now; `rate` is for others."""
        value = seen + float((l2 * self.trial.square()).sum()) / 2
        if self.value is not None:
            before = self.value + float((l2 * self.best.square()).sum()) / 2
            gain = float((self.direction * (self.slope + l2 * self.best)).sum())  # negative: what a whole step promises
            if not value <= before + CAREFUL * self.share * gain:
                turn = value - before - self.share * gain
                self.share *= min(0.5, max(0.1, -self.share * gain / (2 * turn))) if turn > 0 else 0.5
                if self.share < 1e-4:  # what is known misleads
                    self.known.clear()
                    self._aim(l2)
                    return
                self.trial = self.best + self.share * self.direction
                return
            step, change = self.trial - self.best, slope - self.slope
            if float((step * (change + l2 * step)).sum()) > 1e-9 * float(step.norm() * change.norm()):
                self.known.append((step, change))
        self.best, self.value, self.slope = self.trial, seen, slope
        self._aim(l2)

    def _aim(self, l2: Tensor) -> None:
        """Choose the next step from the best point."""
        self.direction = self._newton(-(self.slope + l2 * self.best), l2)
        length = float(self.direction.square().mean(dim=1).max().sqrt())
        self.share = min(1.0 if self.known else CAUTIOUS, FARTHEST / max(length, 1e-12))
        self.trial = self.best + self.share * self.direction

    def _newton(self, downhill: Tensor, l2: Tensor) -> Tensor:
        """The inverse curvature times the way downhill: the two loops of the algorithm, with the springs of now."""
        pairs = [(step, change + l2 * step) for step, change in self.known]
        pairs = [(step, change, 1 / product) for step, change in pairs if (product := float((step * change).sum())) > 0]
        first, scale, shares = 1 / (self.curvature + l2), 1.0, []
        for step, change, weight in reversed(pairs):
            shares.append(weight * float((step * downhill).sum()))
            downhill = downhill - shares[-1] * change
        if pairs:
            step, change, weight = pairs[-1]
            scale = 1 / (weight * float((change * first * change).sum()))
        downhill = scale * first * downhill
        for (step, change, weight), share in zip(pairs, reversed(shares), strict=True):
            downhill = downhill + step * (share - weight * float((change * downhill).sum()))
        return downhill


@dataclass(eq=False)
class Adam:
    """Adam (Kingma and Ba 2015) with the rate that it is told: every step is taken, whatever comes of it."""

    best: Tensor  # where it is: it does not look back
    curvature: Tensor  # not used

    def __post_init__(self) -> None:
        self.best = self.best.clone()
        self.adam = torch.optim.Adam([self.best], betas=(0.9, 0.99))

    @property
    def trial(self) -> Tensor:
        """Where to look."""
        return self.best

    def forget(self) -> None:
        """Nothing: its averages fade by themselves."""

    def tell(self, seen: float, slope: Tensor, l2: Tensor, lr: float) -> None:
        """Take a step down the slope seen, springs included."""
        self.best.grad = slope + l2 * self.best
        self.adam.param_groups[0]["lr"] = lr
        with torch.no_grad():
            self.adam.step()
