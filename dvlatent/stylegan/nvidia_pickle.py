"""NVIDIA's network pickles, read as data: `read_pickle("network.pkl")` gives the tensors and sizes of the generator `G_ema` in them.

Nothing in a file is run: see `stack_machine`. Checkpoints of rosinality's stylegan2-pytorch are read too.
"""

from __future__ import annotations

import mmap
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvlatent import files
from dvlatent.errors import CheckpointError
from dvlatent.stylegan import rosinality
from dvlatent.stylegan.stack_machine import Machine, Record, view

MOST = 500  # modules and tensors of a network
BROKEN = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile)
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


def read_pickle(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a StyleGAN2 in the names of `StyleGAN2`, and the values of its `StyleGAN2Config`.

    Raises CheckpointError for a file that neither stylegan2-ada-pytorch nor rosinality's stylegan2-pytorch wrote, is cut short, or asks
    for more. No code of it runs.
    """
    path = files.check(path)
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            tensors, settings = rosinality.read_network(file, data) if rosinality.is_torch_file(data) else _network(data)
            return tensors, _config(tensors, settings)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    except BROKEN as error:
        words = f"{path.name} is no whole pickle of a StyleGAN2 ({str(error)[:120]}). Was it cut short, or is it another file?"
        raise CheckpointError(words) from error


def _network(data: memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
    return tensors, settings


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
    return view(flat, offset, shape, strides)
