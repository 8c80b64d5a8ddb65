"""The contract: what every Generator promises, as laws that any class can be run through, your own included.

    from dvlatent.contract import check_generator
    check_generator(MyGenerator())  # a table; one sentence for every law that does not hold

Every method of this library leans on these laws and on nothing else. Taught in notebook 03.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from dvlatent.latents import broadcast, normal
from dvlatent.types import Generator, Image, W, Ws, Z


@dataclass(frozen=True)
class Law:
    """One promise, tied to one generator: `law.broken()` is the sentence that says how it breaks it, or "" if it holds."""

    name: str
    promise: str  # what holds, in words
    needs: tuple[str, ...]  # laws that must hold before this one can be judged
    broken: Callable[[], str]


@dataclass(frozen=True)
class Report:
    """What became of every law; true if all hold. Shows itself as a table."""

    subject: str
    held: dict[str, str]  # law: its promise
    broken: dict[str, str]  # law: what was given, what was expected, how to repair it
    untried: dict[str, str]  # law: the broken one that it needs

    def __bool__(self) -> bool:
        return not self.broken

    def __repr__(self) -> str:
        marks = {name: "✓" for name in self.held} | {name: "✗" for name in self.broken} | {name: "·" for name in self.untried}
        text = self.held | self.broken | {name: f"not tried, needs '{law}' first" for name, law in self.untried.items()}
        rows = [f"{marks[name]} {name:<18} {text[name]}" for name in LAWS if name in text]
        tail = "All laws hold." if self else f"{len(self.broken)} of {len(rows)} laws broken: repair the first one, then run again."
        return "\n".join([f"The generator contract · {self.subject}", *rows, tail])


def laws(generator: Generator) -> list[Law]:
    """Every law of the contract, ready to be tried on this generator (in pytest: `assert law.broken() == ""`)."""
    trial = _Trial(generator)
    return [Law(name, promise, needs, partial(_sentence, check, trial)) for name, (promise, needs, check) in LAWS.items()]


def check_generator(generator: Generator) -> Report:
    """Try every law: about 20 pictures are drawn. A law whose needs are broken is not tried."""
    held, broken, untried = {}, {}, {}
    for law in laws(generator):
        missing = [need for need in law.needs if need in broken or need in untried]
        sentence = "" if missing else law.broken()
        if missing:
            untried[law.name] = missing[0]
        elif sentence:
            broken[law.name] = sentence
        else:
            held[law.name] = law.promise
    return Report(type(generator).__name__, held, broken, untried)


class _Trial:
    """The generator on trial, and four faces of it that several laws look at."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @cached_property
    def z(self) -> Z:
        return normal(range(4), self.generator.z_dim)

    @cached_property
    def w(self) -> W:
        return self.map(self.z)

    @cached_property
    def image(self) -> Image:
        return self.draw(self.std(self.w))

    def std(self, w: W) -> Ws:
        return broadcast(w, self.generator.num_layers).clone()  # real memory of its own: only one law tests the borrowed kind

    def map(self, z: Z) -> W:
        with torch.no_grad():
            return self.generator.mapping(z.to(self.generator.w_mean.device).clone())

    def draw(self, ws: Ws) -> Image:
        with torch.no_grad():
            return self.generator.synthesis(ws.clone())


def _sentence(check: Callable[[_Trial], Iterator[str]], trial: _Trial) -> str:
    """The first complaint of a law, or what it crashed on; "" if it holds."""
    try:
        return next(check(trial), "")
    except Exception as error:  # a student's code may raise anything, and the table must still be shown
        return f"it stopped with {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}."


def _members(trial: _Trial) -> Iterator[str]:
    generator = trial.generator
    for name in ("z_dim", "w_dim", "num_layers", "resolution"):
        value = getattr(generator, name, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield f"{name} is {value!r}; a whole number from 1 up is needed. Write `{name} = ...` in the class."
    for name in ("mapping", "synthesis"):
        if not callable(getattr(generator, name, None)):
            yield f"there is no method {name}. Write `def {name}(self, {'z' if name == 'mapping' else 'ws'}): ...` in the class."
    mean = getattr(generator, "w_mean", None)
    if not isinstance(mean, Tensor) or list(mean.shape) != [generator.w_dim]:
        given = f"a tensor of shape {list(mean.shape)}" if isinstance(mean, Tensor) else repr(mean)
        yield f"w_mean is {given}; a tensor of {generator.w_dim} numbers is needed. Set it to mapping(normal(range(1000), z_dim)).mean(0)."


def _shapes(trial: _Trial) -> Iterator[str]:
    generator = trial.generator
    for batch in (1, 2):
        w = trial.map(trial.z[:batch])
        yield from _shape("mapping", w, [batch, generator.w_dim], f"z of {[batch, generator.z_dim]}", generator.w_mean.dtype)
        ws = trial.std(w)
        size = [batch, 3, generator.resolution, generator.resolution]
        yield from _shape("synthesis", trial.draw(ws), size, f"ws of {list(ws.shape)}", generator.w_mean.dtype)


def _shape(method: str, result: Tensor, expected: list[int], source: str, dtype: torch.dtype) -> Iterator[str]:
    if not isinstance(result, Tensor):
        yield f"{method} returned {type(result).__name__} for {source}; a tensor of shape {expected} is needed. Return a torch tensor."
    elif list(result.shape) != expected:
        yield f"{method} returned shape {list(result.shape)} for {source}; {expected} is needed. Reshape, repeat or resize what it returns."
    elif result.dtype != dtype or not dtype.is_floating_point:
        yield f"{method} returned {result.dtype}, w_mean is {dtype}; both must be the same kind of float. End with `.float()`."


def _finite(trial: _Trial) -> Iterator[str]:
    far = 3 * torch.ones_like(trial.z[:1])
    for where, z in {"ordinary z": trial.z, "z = 0, the middle": 0 * far, "z = 3 everywhere, far out": far}.items():
        w = trial.map(z)
        for method, result in {"mapping": w, "synthesis": trial.draw(trial.std(w))}.items():
            bad = int((~torch.isfinite(result)).sum())
            if bad:
                yield (
                    f"{method} made {bad} infinite or undefined numbers of {result.numel()} for {where}; all must be finite. "
                    "Look for a division by zero, a root or logarithm of a negative number; add a small number inside."
                )


def _range(trial: _Trial) -> Iterator[str]:
    low, high = float(trial.image.min()), float(trial.image.max())
    outside = float((trial.image.abs() > 1.1).float().mean())  # networks overshoot a little: 2 % of the pixels may
    if outside > 0.02:
        yield f"pixels go from {low:.2f} to {high:.2f}; -1 to 1 is needed. From 0..255 use `image / 127.5 - 1`; otherwise `.clamp(-1, 1)`."
    elif low >= 0 and high > 0:
        yield f"no pixel of four pictures is below 0 (they go from {low:.2f} to {high:.2f}); black is -1. From 0..1 use `image * 2 - 1`."


def _deterministic(trial: _Trial) -> Iterator[str]:
    again = "the same input must give the same bits. Take dice out of it, fix its noise, and call .eval() on parts with dropout"
    if not _same(trial.w, trial.map(trial.z)):
        yield f"mapping gave two different w for the same z; {again}."
    if not _same(trial.image, trial.draw(trial.std(trial.w))):
        yield f"synthesis drew two different pictures of the same ws; {again}."


def _inputs(trial: _Trial) -> Iterator[str]:
    generator, z = trial.generator, trial.z.to(trial.w.device).clone()
    ws = trial.std(trial.w)
    for method, given in {"mapping": z, "synthesis": ws}.items():
        before = given.clone()
        with torch.no_grad():
            getattr(generator, method)(given)
        if not _same(before, given):
            yield (
                f"{method} changed the tensor that it was given; the caller still needs it as it was. "
                "Replace `+=`, `x[...] = ` and `.add_` by `x = x + ...`."
            )


def _broadcast(trial: _Trial) -> Iterator[str]:
    with torch.no_grad():
        borrowed = trial.generator.synthesis(broadcast(trial.w, trial.generator.num_layers))
    gap = _gap(borrowed, trial.image)
    if gap > 1e-3:
        yield (
            f"ws from broadcast(w, num_layers) gave another picture than a copy of it, up to {gap:.3g} away; the same is needed. "
            "Use `.reshape`, never strides."
        )


def _alone(trial: _Trial) -> Iterator[str]:
    for method, both, call in (("mapping", trial.w, lambda i: trial.map(trial.z[i])), ("synthesis", trial.image, lambda i: _one(trial, i))):
        gap = max(_gap(call(slice(i, i + 1)), both[i : i + 1]) for i in range(2))
        if gap > 2e-3:
            yield (
                f"{method} gives a face one result alone and another in company (up to {gap:.3g} apart); the same is needed. "
                "Look for a mean or a norm over the batch; call .eval() on batch norm."
            )


def _variety(trial: _Trial) -> Iterator[str]:
    if float((trial.image[0] - trial.image[1:]).abs().mean()) < 1e-4:
        yield "four different z all gave the same picture; different faces are needed. Check that mapping uses its z and synthesis its ws."


def _smooth(trial: _Trial) -> Iterator[str]:
    here, there = trial.w[:1], trial.w[1:2]
    whole = float((trial.image[1] - trial.image[0]).abs().mean())
    step = float((trial.draw(trial.std(here + 0.001 * (there - here))) - trial.image[:1]).abs().mean())
    if step > 0.05 * whole:
        yield (
            f"a thousandth of the way to another face changes the picture by {100 * step / whole:.0f} % of the whole way; "
            "at most 5 % is needed. Look for rounding, thresholds or very large factors."
        )


def _gradient(trial: _Trial) -> Iterator[str]:
    ws = trial.std(trial.w[:1]).requires_grad_()
    image = trial.generator.synthesis(ws)
    advice = "Keep every step in torch; take out .detach(), .item(), numpy, no_grad and rounding"
    if not image.requires_grad:
        yield f"the picture has no gradient at all; inversion cannot work. {advice}."
        return
    weights = normal(0, image.numel()).view(image.shape).to(image)
    (slope,) = torch.autograd.grad((image * weights).sum(), ws, allow_unused=True)
    lengths = [0.0] * trial.generator.num_layers if slope is None else slope[0].norm(dim=-1).tolist()
    if slope is not None and not torch.isfinite(slope).all():
        yield "the gradient is infinite or undefined; it must be finite. Look for a root or a norm at 0, and add a small number inside."
    silent = [layer for layer, length in enumerate(lengths) if length == 0]
    if silent:
        yield (
            f"no gradient reaches layers {silent}, of {len(lengths)} counted from 0; every layer must move the picture. "
            f"{advice}, and use every ws[:, layer]."
        )


def _mean(trial: _Trial) -> Iterator[str]:
    w = trial.map(normal(range(1000), trial.generator.z_dim))
    gap, std = float((w.mean(0) - trial.generator.w_mean).norm()), float(w.std(0).norm())
    if gap > 0.2 * std + 1e-6:
        yield (
            f"w_mean lies {gap:.3g} from the mean of 1000 mapped z, whose spread is {spread:.3g}; at most a fifth of the spread is needed. "
            "Set it to mapping(normal(range(1000), z_dim)).mean(0)."
        )


def _one(trial: _Trial, which: slice) -> Image:
    return trial.draw(trial.std(trial.w[which]))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


_SOLID = ("members", "shapes", "finite")
_STEADY = (*_SOLID, "deterministic")
LAWS = {  # name: (promise, the laws it needs, the check)
    "members": ("has z_dim, w_dim, num_layers, resolution, w_mean, mapping and synthesis", (), _members),
    "shapes": ("mapping gives [batch, w_dim], synthesis [batch, 3, resolution, resolution]", ("members",), _shapes),
    "finite": ("no infinite or undefined number, in the middle and far out", ("members", "shapes"), _finite),
    "range": ("pixels are -1 to 1, black to white", _SOLID, _range),
    "deterministic": ("the same input gives the same bits", _SOLID, _deterministic),
    "inputs untouched": ("the caller's z and ws stay as they were", _STEADY, _inputs),
    "broadcast ws": ("one w for all layers is accepted without a copy", (*_STEADY, "inputs untouched"), _broadcast),
    "batch independence": ("a face is the same alone and in company", _STEADY, _alone),
    "variety": ("different dice, different faces", _STEADY, _variety),
    "small steps": ("a small change of w is a small change of the picture", (*_STEADY, "batch independence", "variety"), _smooth),
    "gradient": ("the picture's gradient reaches the w of every layer", (*_STEADY, "inputs untouched", "variety"), _gradient),
    "mean w": ("w_mean is the mean of mapped z", (*_STEADY, "batch independence"), _mean),
}
