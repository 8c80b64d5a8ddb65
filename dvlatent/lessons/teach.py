"""What a lesson needs besides ideas: instant hints, a budget of seconds, and what this computer is. Used in every notebook."""

from __future__ import annotations

import dis
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

UNANSWERED = "not answered yet"
_strict = False


class WrongAnswer(AssertionError):
    """An answer that is not right yet; raised only where that was asked for."""


def check(name: str, given: Any, expected: Any, tol: float = 1e-4, hint: str = "", must: bool = False) -> None:
    """Print one line: `✓ name`, a hint, or `… name: not answered yet` while `given` is `...`, None or a function that is still a stub.

    `expected` is a value (number, text, list, array, tensor), or a function of the answer that returns True, False or a hint.
    Numbers agree when they differ by at most `tol` times the largest expected one (at least 1). With `must`, or inside
    `strict()`, a missing or wrong answer raises WrongAnswer.
    """
    if _is_stub(given):
        wrong, line = True, f"… {name}: {UNANSWERED}"
    else:
        trouble = _difference(given, expected, tol)
        wrong = bool(trouble)
        line = f"✗ {name}: {trouble}{'. Hint: ' + hint if hint else ''}" if trouble else f"✓ {name}"
    if wrong and (must or _strict):
        raise WrongAnswer(line)
    print(line)


@contextmanager
def strict() -> Iterator[None]:
    """Inside, every check that is not passed raises WrongAnswer: so the tests prove that the folded solutions are right."""
    global _strict
    before, _strict = _strict, True
    try:
        yield
    finally:
        _strict = before


@contextmanager
def budget(seconds: float, what: str = "this cell") -> Iterator[None]:
    """Say so when the lines inside take longer than they were meant to; silent otherwise."""
    start = time.perf_counter()
    yield
    took = time.perf_counter() - start
    if took > seconds:
        print(f"{what} took {took:.0f} s and was meant to take {seconds:g} s: try fewer faces, or close what else is running.")


def environment() -> None:
    """Print what this computer is: versions, CPU or GPU, memory. Its cell is tagged `nbval-ignore-output`."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, on {platform.system()}")
    print(f"CPU: {cores} cores, {_gigabytes('SC_PHYS_PAGES')} of memory, {_gigabytes('SC_AVPHYS_PAGES')} of it free")
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        print(f"GPU: {card.name}, {card.total_memory / 2**30:.1f} GB: the lessons use it by themselves")
    else:
        print("GPU: none, and none is needed")


def _difference(given: Any, expected: Any, tol: float) -> str:
    """What is wrong with the answer, or an empty string."""
    if callable(expected):
        try:
            verdict = expected(given)
        except Exception as reason:
            return f"trying your answer stopped with {type(reason).__name__}: {reason}"
        if isinstance(verdict, str):
            return verdict
        return "" if bool(verdict) else "this is not it yet"
    if isinstance(expected, (str, bytes, dict, set, type(None))):
        return "" if _same(given, expected) else f"yours is {given!r}, expected {expected!r}"
    ours, yours = _numbers(expected), _numbers(given)
    if ours is None or yours is None:
        return "" if _same(given, expected) else f"yours is {_described(given)}, expected {_described(expected)}"
    if ours.shape != yours.shape:
        return f"yours has shape {list(yours.shape)}, expected {list(ours.shape)}"
    return _numbers_differ(yours, ours, tol)


def _numbers_differ(yours: np.ndarray, ours: np.ndarray, tol: float) -> str:
    """Where two arrays of one shape differ most, in a line of words."""
    allowed = tol * max(1.0, np.abs(ours[np.isfinite(ours)]).max(initial=0))
    wrong = ~np.isclose(yours, ours, rtol=0, atol=allowed, equal_nan=True)
    if (strange := wrong & ~np.isfinite(yours)).any():
        return f"{int(strange.sum())} of your {yours.size} numbers are not finite"
    if not wrong.any():
        return ""
    with np.errstate(invalid="ignore"):  # of equal infinities
        where = np.unravel_index(np.where(wrong, np.abs(yours - ours), 0).argmax(), yours.shape)
    if yours.ndim == 0:
        return f"yours is {float(yours):.6g}, expected {float(ours):.6g}; they may differ by {allowed:.2g}"
    index = ", ".join(map(str, where))
    count = f"{int(wrong.sum())} of {wrong.size} numbers differ"
    return f"{count}, most at [{index}]: yours is {yours[where]:.6g}, expected {ours[where]:.6g}; they may differ by {allowed:.2g}"


def _numbers(value: Any) -> np.ndarray | None:
    """The value as an array of floats, or None if it holds no numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return None
    if array.dtype == object and array.size and all(hasattr(one, "detach") for one in array.flat):
        array = np.asarray([float(one) for one in array.flat]).reshape(array.shape)
    return array.astype(np.float64) if array.dtype.kind in "biuf" else None


def _same(given: Any, expected: Any) -> bool:
    try:
        return bool(given == expected)
    except (ValueError, RuntimeError):  # arrays against something else
        return False


def _described(value: Any) -> str:
    """A value as a student recognizes it: its shape if it is an array, its type if it is long."""
    if hasattr(value, "shape"):
        return f"an array of shape {list(value.shape)}"
    words = repr(value)
    return words if len(words) < 60 else f"a {type(value).__name__} of {words[:40]}…"


def _is_stub(given: Any) -> bool:
    """True for `...`, None, and a function whose body is still `...` or `pass`."""
    if given is None or given is ...:
        return True
    code: Callable | Any = getattr(given, "__code__", None)
    if code is None:
        return False
    left = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP", "CACHE", "RETURN_VALUE")]
    return all(step.opname in ("LOAD_CONST", "RETURN_CONST") and step.argval in (None, ...) for step in left)


def _gigabytes(pages: str) -> str:
    """Memory as the system counts it; not every system does."""
    try:
        return f"{os.sysconf(pages) * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GB"
    except (AttributeError, ValueError, OSError):
        return "an unknown amount"
