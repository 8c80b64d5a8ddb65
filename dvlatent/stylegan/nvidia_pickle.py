"""NVIDIA's network pickles, read as data: `read_pickle("network.pkl")` gives the tensors and sizes of the generator `G_ema` in them.

A pickle is a program for a small stack machine, and Python's own loader lets that program call anything. The machine here calls nothing:
whatever a file asks to build becomes an inert `Record`, names that a StyleGAN2 does not need are refused, and tensors are views of the file
until their sizes are known to be right.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvlatent import files
from dvlatent.errors import CheckpointError

DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8"}  # of weights
KNOWN = {
    *(f"torch.{name}" for name in (*DTYPES, "float32", "float16", "float64")),
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.storage._load_from_bytes"),
    *("torch_utils.persistence._reconstruct_persistent_obj", "dnnlib.util.EasyDict", "collections.OrderedDict", "builtins.set"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")), "numpy.dtype",
}  # fmt: skip
MOST_STEPS, MOST, TEXT_BYTES = 500_000, 500, 2**20  # of a file: steps of its program, modules and tensors of a network, bytes of a text
SETTINGS = ("bias_gain", "conv_clamp")
PX = "|".join(str(4 << i) for i in range(9))  # sides of the blocks
OURS = (  # NVIDIA's names of the tensors, and ours
    (r"mapping\.fc(\d+)\.(weight|bias)", r"mapping_layers.\1.\2"),
    (r"mapping\.embed\.(weight|bias)", r"embedding.\1"),
    (r"mapping\.w_avg", "w_mean"),
    (r"synthesis\.b4\.const", "constant"),
    (rf"synthesis\.b({PX})\.(conv[01])\.affine\.(weight|bias)", r"blocks.\1.\2.style.\3"),
    (rf"synthesis\.b({PX})\.(conv[01])\.noise_const", r"blocks.\1.\2.noise"),
    (rf"synthesis\.b({PX})\.(conv[01])\.(weight|bias|noise_strength)", r"blocks.\1.\2.\3"),
    (rf"synthesis\.b({PX})\.torgb\.affine\.(weight|bias)", r"blocks.\1.to_image.style.\2"),
    (rf"synthesis\.b({PX})\.torgb\.(weight|bias)", r"blocks.\1.to_image.\2"),
    (rf"synthesis\.b({PX})(\.conv[01])?\.resample_filter", r"fir \1\2"),  # [1, 3, 3, 1] in every published network
)
CONVERT = "Convert it first with legacy.py of stylegan2-ada-pytorch, on a computer where you trust the file"


class Record:
    """What a file asked to build: the name of the maker and its arguments, and nothing made."""

    def __init__(self, name: str, arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class Name(NamedTuple):
    """A function or a class that a file names."""

    text: str


def read_pickle(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a StyleGAN2 in the names of `StyleGAN2`, and the values of its `StyleGAN2Config`.

    Raises CheckpointError for a file that is no pickle of stylegan2-ada-pytorch, is cut short, or asks for more. No code of it runs.
    """
    path = files.check(path)
    try:
        with path.open("rb") as file:
            return _network(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError, struct.error) as error:
        words = f"{path.name} is no whole pickle of a StyleGAN2 ({str(error)[:120]}). Was it cut short, or is it another file?"
        raise CheckpointError(words) from error


def _network(data: memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if data[:2] == b"PK":
        raise CheckpointError("this is a zip file, such as torch.save writes; a network pickle of stylegan2-ada-pytorch was needed.")
    whole = Machine(data).run()
    if not isinstance(whole, dict) or not isinstance(whole.get("G_ema"), Record):
        raise ValueError("there is no network called G_ema in it")
    found, settings, spent = {}, {}, 0
    for name, value in _members(whole["G_ema"]):
        if not isinstance(value, Record):
            settings[name] = value
            continue
        ours = [re.sub(pattern, new, name) for pattern, new in OURS if re.fullmatch(pattern, name)]
        if not ours:
            raise CheckpointError(f"a StyleGAN2 has no tensor '{name[:80]}': this is another network, which is not read.")
        array = _array(value)
        spent += array.nbytes
        if spent > len(data) or len(found) > MOST:
            raise ValueError("its tensors are larger than the file")
        found[re.sub(r"blocks\.(\d+)", lambda match: f"blocks.{int(match[1]).bit_length() - 3}", ours[0])] = array
    for name in [name for name in found if name.startswith("fir ")]:
        array = found.pop(name)
        if array.shape != (4, 4) or not np.allclose(array * 64, np.outer([1, 3, 3, 1], [1, 3, 3, 1])):
            raise CheckpointError(f"a filter of it is not [1, 3, 3, 1], the only one that is supported ({name[4:]}).")
    tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in found.items()}  # memory is taken here
    return tensors, _config(tensors, settings)


def _config(tensors: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Any]:
    """The sizes, from the shapes of the weights; the two settings that no weight shows, from the file."""
    blocks = sum(name.endswith(".conv1.weight") for name in tensors)
    w_dim, classes = len(tensors["w_mean"]), tensors["embedding.weight"].shape[1] if "embedding.weight" in tensors else 0
    clamp = settings.get("synthesis.b4.conv1.conv_clamp")
    return {
        "channels": [len(tensors[f"blocks.{i}.conv1.weight"]) for i in range(blocks)],
        "z_dim": tensors["mapping_layers.0.weight"].shape[1] - (w_dim if classes else 0),
        "w_dim": w_dim,
        "classes": classes,
        "mapping_layers": sum(name.startswith("mapping_layers") and name.endswith("weight") for name in tensors),
        "lr_multiplier": settings["mapping.fc0.bias_gain"],
        "colors": len(tensors["blocks.0.to_image.weight"]),
        "clamp": 0.0 if clamp is None else clamp,
    }


def _members(network: Record) -> Iterator[tuple[str, Any]]:
    """The tensors of a network and of the modules in it, and those settings that are needed: ("synthesis.b4.const", value)."""
    left, modules = [("", network)], 0
    while left:
        prefix, module = left.pop()
        modules += 1
        if not isinstance(module, Record) or module.name != "torch_utils.persistence._reconstruct_persistent_obj":
            raise ValueError(f"{prefix or 'G_ema'} is no persistent class")
        state = module.arguments[0]["state"]
        tables = [state[kind] for kind in ("_parameters", "_buffers", "_modules")]
        keys = [key for table in tables for key in table] if max(map(len, tables)) <= MOST else []
        if modules > MOST or len(prefix) > 200 or not all(re.fullmatch(r"\w{1,40}", key) for key in keys):
            raise ValueError("its modules are too many, or have strange names")
        for table in tables[:2]:
            yield from ((prefix + key, value) for key, value in table.items() if isinstance(value, Record))
        yield from ((prefix + key, state[key]) for key in SETTINGS if isinstance(state.get(key), (int, float)))
        left += [(f"{prefix}{key}.", value) for key, value in tables[2].items()]


def _array(value: Record) -> np.ndarray:
    """The numbers of a tensor, as a view of the file; offset, shape and strides are within its storage."""
    if value.name == "torch._utils._rebuild_parameter":
        value = value.arguments[0]
    if value.name != "torch._utils._rebuild_tensor_v2":
        raise ValueError("a weight is no tensor")
    source, offset, shape, strides = value.arguments[:4]
    if not isinstance(source, Record) or source.name != "torch.storage._load_from_bytes" or not isinstance(source.arguments[0], memoryview):
        raise ValueError("the numbers of a tensor are missing")
    flat = Machine(source.arguments[0], steps=200).storage()
    if len(shape) != len(strides) or len(shape) > 4 or not all(type(one) is int and 0 <= one < 2**40 for one in (offset, *shape, *strides)):
        raise ValueError("the shape of a tensor is not one")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if not 0 < math.prod(shape) <= len(flat) or last >= len(flat):
        raise ValueError(f"a tensor of shape {list(shape)} does not fit the {len(flat):,} numbers that are there")
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [stride * flat.itemsize for stride in strides], writeable=False)


class Machine:
    """The stack machine of pickle, protocols 2 to 5, without the power to call."""

    def __init__(self, data: memoryview, steps: int = MOST_STEPS) -> None:
        self.data, self.at, self.steps = data, 0, steps

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
                case b"b":  # what a record would become afterwards: a type of numpy
                    stack.pop()
                    if not isinstance(stack[-1], Record):
                        raise ValueError("something else than a record has a state")
                case b"Q":
                    pass  # the description of a storage stands for itself
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
