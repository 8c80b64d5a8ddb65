"""The stack machine of Python's pickles, without the power to call: what a file asks to build becomes an inert `Record`.

A pickle is a program, and Python's own loader lets that program call anything. Here names that a StyleGAN2 does not need are refused, and
tensors are views of the file until their sizes are known to be right.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np

from dvlatent.errors import CheckpointError

DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8"}  # of weights
KNOWN = {
    *(f"torch.{name}" for name in (*DTYPES, "float32", "float16", "float64")),
    "torch.LongStorage", "argparse.Namespace",  # in what rosinality keeps beside the network
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.storage._load_from_bytes"),
    *("torch_utils.persistence._reconstruct_persistent_obj", "dnnlib.util.EasyDict", "collections.OrderedDict", "builtins.set"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")), "numpy.dtype",
}  # fmt: skip
MOST_STEPS, TEXT_BYTES = 500_000, 2**20  # of a file: steps of its program, bytes of a text
CONVERT = "Convert it first with legacy.py of stylegan2-ada-pytorch, on a computer where you trust the file"


class Record:
    """What a file asked to build: the name of the maker and its arguments, and nothing made."""

    def __init__(self, name: str, arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class Name(NamedTuple):
    """A function or a class that a file names."""

    text: str


def view(flat: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A tensor in the numbers of its storage, without a copy. Raises ValueError where it would reach beyond them."""
    if len(shape) != len(strides) or len(shape) > 5 or not all(type(one) is int and 0 <= one < 2**40 for one in (offset, *shape, *strides)):
        raise ValueError("the shape of a tensor is not one")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if not 0 < math.prod(shape) <= len(flat) or last >= len(flat):
        raise ValueError(f"a tensor of shape {list(shape)} does not fit the {len(flat):,} numbers that are there")
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [stride * flat.itemsize for stride in strides], writeable=False)


class Machine:
    """The stack machine of pickle, protocols 2 to 5, without the power to call."""

    def __init__(self, data: memoryview, steps: int = MOST_STEPS) -> None:
        self.data, self.at, self.steps = data, 0, steps
        self.storages: list[tuple] = []  # descriptions of storages that lie elsewhere in the file

    def take(self, count: int) -> memoryview:
        """The next bytes. Raises ValueError where the file ends before."""
        if count > len(self.data) - self.at:
            raise ValueError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, format: str) -> Any:
        """One number of `struct`'s kinds."""
        return struct.unpack(format, self.take(struct.calcsize(format)))[0]

    def text(self, count: int) -> str:
        """So many bytes of text."""
        if count > TEXT_BYTES:
            raise ValueError("a name in it is endless")
        return str(self.take(count), "utf-8")

    def line(self) -> str:
        """Text up to the end of a line: a part of a name, of at most 200 letters."""
        end = bytes(self.data[self.at : self.at + 200]).index(b"\n")
        return self.text(end + 1)[:-1]

    def storage(self) -> np.ndarray:
        """The numbers that bytes of torch.save's older format hold: five short pickles that describe them, then themselves."""
        magic, version, _, (word, kind, key, _, count, *view), keys = (self.run() for _ in range(5))
        if not all(isinstance(one, type_) for one, type_ in ((kind, Name), (key, str), (count, int))) or keys != [key]:
            raise ValueError("the numbers of a tensor have no description")
        if (magic, version, word, view) != (0x1950A86A20F9469CFC6C, 1001, "storage", [None]) or self.number("<q") != count or count < 0:
            raise ValueError("the numbers of a tensor are not in the format that stylegan2-ada-pytorch writes")
        dtype = np.dtype(DTYPES[kind.text.removeprefix("torch.")])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def run(self) -> Any:
        """The value that the next program in the bytes describes."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def popped() -> list[Any]:
            start = marks.pop()
            values = stack[start:]
            del stack[start:]
            return values

        for _ in range(self.steps):
            code = bytes(self.take(1))
            match code:
                case b"\x80":
                    if not 2 <= self.number("B") <= 5:
                        raise ValueError("its protocol is unknown")
                case b"\x95":
                    self.take(8)
                case b".":
                    return stack.pop()
                case b"(":
                    marks.append(len(stack))
                case b"N" | b"\x88" | b"\x89":
                    stack.append({b"N": None, b"\x88": True, b"\x89": False}[code])
                case b"J" | b"K" | b"M" | b"G":
                    stack.append(self.number({b"J": "<i", b"K": "B", b"M": "<H", b"G": ">d"}[code]))
                case b"\x8a":
                    stack.append(int.from_bytes(self.take(self.number("B")), "little", signed=True))
                case b"X" | b"\x8c" | b"\x8d":
                    stack.append(self.text(self.number({b"X": "<I", b"\x8c": "B", b"\x8d": "<Q"}[code])))
                case b"B" | b"C" | b"\x8e":
                    stack.append(self.take(self.number({b"B": "<I", b"C": "B", b"\x8e": "<Q"}[code])))
                case b"]" | b"}" | b")" | b"\x8f":
                    stack.append({b"]": list, b"}": dict, b")": tuple, b"\x8f": list}[code]())
                case b"t":
                    stack.append(tuple(popped()))
                case b"\x85" | b"\x86" | b"\x87":
                    count = code[0] - 0x84
                    if len(stack) < count:
                        raise ValueError("its stack is empty")
                    stack[-count:] = [tuple(stack[-count:])]
                case b"a" | b"e" | b"\x90":
                    values = [stack.pop()] if code == b"a" else popped()
                    if not isinstance(stack[-1], list):
                        raise ValueError("something else than a list is filled")
                    stack[-1].extend(values)
                case b"s" | b"u":
                    values = popped() if code == b"u" else [stack.pop(), stack.pop()][::-1]
                    if not isinstance(stack[-1], dict) or not all(isinstance(key, (str, int)) for key in values[::2]):
                        raise ValueError("something else than a table is filled")
                    stack[-1].update(zip(values[::2], values[1::2], strict=True))
                case b"q" | b"r" | b"\x94":
                    memo[len(memo) if code == b"\x94" else self.number({b"q": "B", b"r": "<I"}[code])] = stack[-1]
                case b"h" | b"j":
                    stack.append(memo[self.number({b"h": "B", b"j": "<I"}[code])])
                case b"c":
                    stack.append(_known(f"{self.line()}.{self.line()}"))
                case b"\x93":
                    last, first = stack.pop(), stack.pop()
                    if not isinstance(first, str) or not isinstance(last, str):
                        raise ValueError("a name in it is no text")
                    stack.append(_known(f"{first}.{last}"))
                case b"R" | b"\x81":
                    arguments, maker = stack.pop(), stack.pop()
                    if not isinstance(maker, Name) or not isinstance(arguments, tuple):
                        raise CheckpointError("it asks to call something without a name: refused, and nothing was run.")
                    table = maker.text in ("collections.OrderedDict", "dnnlib.util.EasyDict") and not arguments
                    stack.append({} if table else Record(maker.text, arguments))
                case b"b":  # what a record would become afterwards: a type of numpy; or the notes that PyTorch gives to a table
                    state = stack.pop()
                    notes = isinstance(stack[-1], dict) and isinstance(state, dict) and list(state) == ["_metadata"]
                    if not isinstance(stack[-1], Record) and not notes:
                        raise ValueError("something else than a record has a state")
                case b"Q":  # the description of a storage stands for itself
                    self.storages.append(stack[-1])
                case _:
                    raise ValueError(f"it asks for {code!r}, which no such file needs")
        raise ValueError("its program is endless")


def _known(name: str) -> Name:
    """A name that a StyleGAN2 may hold. Raises CheckpointError for every other."""
    if name.startswith("dnnlib.tflib."):
        raise CheckpointError(f"this is a network of TensorFlow. {CONVERT}: python legacy.py --source network.pkl --dest new.pkl")
    if name not in KNOWN:
        raise CheckpointError(f"it asks for {name[:80]!r}, which no StyleGAN2 needs: refused, and nothing of it was run. Do not trust it.")
    return Name(name)
