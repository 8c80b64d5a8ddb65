"""The contract: what every Generator promises, as laws that any class can be run through: `assert first_broken(MyGenerator()) == ""`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch

from dvlatent.latents import broadcast, normal


def first_broken(generator) -> str:
    """Try every law on about 20 pictures: "law: complaint" of the first that does not hold, since later ones lean on it, or ""."""
    trial = Trial(generator)
    for law in LAWS:
        try:
            complaint = next(law(trial), "")
        except Exception as error:  # the code on trial may raise anything
            complaint = f"it stopped with {type(error).__name__}: {error}"
        if complaint:
            return f"{law.__name__}: {complaint}"
    return ""


class Trial:
    """The generator on trial, and four of its faces that several laws use."""

    def __init__(self, generator):
        self.generator = generator

    @cached_property
    def z(self):
        return normal(range(4), self.generator.z_dim)

    @cached_property
    def w(self):
        return self.map(self.z)

    @cached_property
    def image(self):
        return self.draw(self.layered(self.w))

    def layered(self, w):
        return broadcast(w, self.generator.num_layers).clone()  # real memory of its own: only one law tests the borrowed kind

    @torch.no_grad()
    def map(self, z):
        return self.generator.mapping(z.to(self.generator.w_mean.device).clone())

    @torch.no_grad()
    def draw(self, ws):
        return self.generator.synthesis(ws.clone())


def members(trial) -> Iterator[str]:
    """It has z_dim, w_dim, num_layers, resolution, w_mean, mapping and synthesis."""
    generator = trial.generator
    for name in ("z_dim", "w_dim", "num_layers", "resolution"):
        value = getattr(generator, name, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield f"{name} is {value!r}; a whole number from 1 up is needed"
    for name in ("mapping", "synthesis"):
        if not callable(getattr(generator, name, None)):
            yield f"there is no method {name}"
    mean = getattr(generator, "w_mean", None)
    if not isinstance(mean, torch.Tensor) or list(mean.shape) != [generator.w_dim]:
        yield f"w_mean is {mean!r}; a tensor of {generator.w_dim} numbers is needed"


def shapes(trial) -> Iterator[str]:
    """`mapping` gives [batch, w_dim], `synthesis` [batch, 3, resolution, resolution], in w_mean's kind of float."""
    generator = trial.generator
    for batch in (1, 2):
        w = trial.map(trial.z[:batch])
        image = trial.draw(trial.layered(w))
        for result, shape in ((w, [batch, generator.w_dim]), (image, [batch, 3, generator.resolution, generator.resolution])):
            if list(result.shape) != shape or result.dtype != generator.w_mean.dtype or not result.is_floating_point():
                yield f"{list(result.shape)} of {result.dtype}; {shape} of {generator.w_mean.dtype} is needed"


def finite(trial) -> Iterator[str]:
    """No number is infinite or undefined, at the center and far out."""
    far = 3 * torch.ones_like(trial.z[:1])
    for z in (trial.z, 0 * far, far):
        w = trial.map(z)
        if not (torch.isfinite(w).all() and torch.isfinite(trial.draw(trial.layered(w))).all()):
            yield f"infinite or undefined numbers for z = {z}"


def value_range(trial) -> Iterator[str]:
    """Pixels are -1 to 1, black to white; 2 % of them may overshoot a little."""
    low, high = float(trial.image.min()), float(trial.image.max())
    if (trial.image.abs() > 1.1).float().mean() > 0.02 or (low >= 0 and high > 0):
        yield f"pixels go from {low:.2f} to {high:.2f}; -1 to 1 is needed"


def deterministic(trial) -> Iterator[str]:
    """The same input gives the same bits."""
    if not same(trial.w, trial.map(trial.z)) or not same(trial.image, trial.draw(trial.layered(trial.w))):
        yield "two different results for the same input"


def inputs_untouched(trial) -> Iterator[str]:
    """The caller's z and ws stay as they were."""
    for method, given in {"mapping": trial.z.to(trial.w.device).clone(), "synthesis": trial.layered(trial.w)}.items():
        before = given.clone()
        with torch.no_grad():
            getattr(trial.generator, method)(given)
        if not same(before, given):
            yield f"{method} changed the tensor that it was given"


def broadcast_ws(trial) -> Iterator[str]:
    """One w for all layers is accepted without a copy."""
    with torch.no_grad():
        borrowed = trial.generator.synthesis(broadcast(trial.w, trial.generator.num_layers))
    if (borrowed - trial.image).abs().max() > 1e-3:
        yield "ws from broadcast(w, num_layers) gave another picture than a copy of it"


def batch_independence(trial) -> Iterator[str]:
    """A face is the same alone and in company."""
    for i in range(2):
        w, image = trial.map(trial.z[i : i + 1]), trial.draw(trial.layered(trial.w[i : i + 1]))
        if max((w - trial.w[i]).abs().max(), (image - trial.image[i]).abs().max()) > 2e-3:
            yield f"face {i} has one result alone and another in company"


def variety(trial) -> Iterator[str]:
    """Different z give different faces."""
    if (trial.image[0] - trial.image[1:]).abs().mean() < 1e-4:
        yield "four different z all gave the same picture"


def small_steps(trial) -> Iterator[str]:
    """A small change of w is a small change of the picture."""
    here, there = trial.w[:1], trial.w[1:2]
    whole = (trial.image[1] - trial.image[0]).abs().mean()
    step = (trial.draw(trial.layered(here + 0.001 * (there - here))) - trial.image[:1]).abs().mean()
    if step > 0.05 * whole:
        yield f"a thousandth of the way to another face changes the picture by {100 * step / whole:.0f} % of the whole way"


def gradient(trial) -> Iterator[str]:
    """The picture's gradient reaches the w of every layer, and is finite."""
    ws = trial.layered(trial.w[:1]).requires_grad_()
    image = trial.generator.synthesis(ws)
    (found,) = torch.autograd.grad((image * normal(0, image.numel()).view(image.shape).to(image)).sum(), ws)
    if not torch.isfinite(found).all():
        yield "the gradient is infinite or undefined"
    if silent := (found[0].norm(dim=-1) == 0).nonzero()[:, 0].tolist():
        yield f"no gradient reaches layers {silent}"


def mean_w(trial) -> Iterator[str]:
    """w_mean is the mean of mapped z, within a fifth of their standard deviation."""
    w = trial.map(normal(range(1000), trial.generator.z_dim))
    if (w.mean(0) - trial.generator.w_mean).norm() > 0.2 * w.std(0).norm() + 1e-6:
        yield "w_mean lies far from the mean of 1000 mapped z"


def same(a, b) -> bool:
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


LAWS = (
    members, shapes, finite, value_range, deterministic, inputs_untouched, broadcast_ws, batch_independence, variety, small_steps, gradient,
    mean_w,
)  # fmt: skip
