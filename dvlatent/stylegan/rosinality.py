"""Checkpoints of rosinality's stylegan2-pytorch, read as data: the generator `g_ema`, and its mean w, `latent_avg`.

`nvidia_pickle.read_pickle` comes here for files of `torch.save`: a pickle that names storages, and the storages beside it, in a zip file
or, as before PyTorch 1.6, one after another.
"""

from __future__ import annotations

import re
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dvlatent.latents import normal
from dvlatent.stylegan.stack_machine import DTYPES, Machine, Name, Record, view
from dvlatent.stylegan.stylegan2 import unit_rms

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # how the older files begin
MOST = 500  # tensors of a network
LR_MULTIPLIER = 0.01  # no file says it; it is never another
FACES = 10_000  # for a mean w that a file does not have
LAYERS = (  # rosinality's names inside a layer, and ours
    (r"\.conv\.modulation\.", ".style."),
    (r"\.conv\.weight", ".weight"),
    (r"\.noise\.weight", ".noise_strength"),
    (r"\.activate\.bias", ".bias"),
)


def is_torch_file(data: memoryview) -> bool:
    """True for what `torch.save` writes."""
    return data[:2] == b"PK" or data[: len(MAGIC)] == MAGIC


def read_network(file: BinaryIO, data: memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors in our names, and the settings that no weight shows. Raises ValueError for anything else; memory is taken last."""
    whole, storages = _zipped(file, data) if data[:2] == b"PK" else _older(data)
    state = whole.get("g_ema") if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not 0 < len(state) <= MOST:
        raise ValueError("there is no network called g_ema in it")
    state = {"latent_avg": whole["latent_avg"], **state} if "latent_avg" in whole else state
    arrays, spent = {}, 0
    for name, value in state.items():
        array = _array(value, storages)
        spent += array.nbytes
        if spent > len(data):
            raise ValueError("its tensors are larger than the file")
        if re.fullmatch(r"[\w.]{1,100}\.kernel", name):
            if array.shape != (4, 4) or not np.allclose(array / array.sum() * 64, np.outer([1, 3, 3, 1], [1, 3, 3, 1])):
                raise ValueError(f"a filter of it is not [1, 3, 3, 1], the only one that is supported: {name}")
            continue
        arrays[_ours(name)] = array
    tensors = {name: torch.from_numpy(_shaped(name, array).astype(np.float32)) for name, array in arrays.items()}  # memory is taken here
    for name in [name for name in tensors if name.endswith("noise_strength")]:  # files of early 2020 have no noise to repeat
        side = 4 << int(name.split(".")[1])
        tensors.setdefault(name.removesuffix("_strength"), normal(0, side * side).view(side, side))
    if "w_mean" not in tensors:
        tensors["w_mean"] = _mean_w(tensors)
    return tensors, {"mapping.fc0.bias_gain": LR_MULTIPLIER}


def _ours(name: str) -> str:
    """The name of a tensor in a `StyleGAN2`. Raises ValueError for one that it does not have."""
    if name in ("latent_avg", "input.input"):
        return {"latent_avg": "w_mean", "input.input": "constant"}[name]
    if found := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", name):
        return f"mapping_layers.{int(found[1]) - 1}.{found[2]}"
    if found := re.fullmatch(r"noises\.noise_(\d\d?)", name):
        return f"blocks.{(int(found[1]) + 1) // 2}.conv{1 - int(found[1]) % 2}.noise"
    layer, inside = "", ""
    if found := re.fullmatch(r"(conv1|to_rgb1|convs\.\d\d?|to_rgbs\.\d)(\..+)", name):
        kind, _, number = found[1].partition(".")
        i, inside = int(number or 0), found[2]
        layer = {
            "conv1": "blocks.0.conv1",
            "to_rgb1": "blocks.0.to_image",
            "convs": f"blocks.{i // 2 + 1}.conv{i % 2}",
            "to_rgbs": f"blocks.{i + 1}.to_image",
        }[kind]
        for pattern, new in LAYERS:
            inside = re.sub(pattern, new, inside)
    if not re.fullmatch(r"\.(style\.)?(weight|bias)|\.noise_strength", inside):
        raise ValueError(f"a StyleGAN2 has no tensor '{name[:80]}': this is another network, which is not read")
    return layer + inside


def _shaped(name: str, array: np.ndarray) -> np.ndarray:
    """Without the axes of length one that rosinality keeps."""
    if name.endswith(("noise_strength", "bias", "w_mean")):
        return array.reshape(() if name.endswith("strength") else -1)
    return array[0] if array.ndim == 5 or name == "constant" else array[0, 0] if name.endswith("noise") else array


def _mean_w(tensors: dict[str, Tensor]) -> Tensor:
    """The mean w of faces that are drawn at random."""
    x = unit_rms(normal(range(FACES), tensors["mapping_layers.0.weight"].shape[1]))
    for i in range(sum(name.startswith("mapping_layers") for name in tensors) // 2):
        weight, bias = tensors[f"mapping_layers.{i}.weight"], tensors[f"mapping_layers.{i}.bias"]
        x = F.leaky_relu(F.linear(x, weight * LR_MULTIPLIER / weight.shape[1] ** 0.5, bias * LR_MULTIPLIER), 0.2) * 2**0.5
    return x.mean(dim=0)


def _array(value: Any, storages: dict[str, memoryview]) -> np.ndarray:
    if isinstance(value, Record) and value.name == "torch._utils._rebuild_parameter":
        value = value.arguments[0]
    if not isinstance(value, Record) or value.name != "torch._utils._rebuild_tensor_v2":
        raise ValueError("a weight is no tensor")
    source, offset, shape, strides = value.arguments[:4]
    key, dtype, count = _described(source)
    return view(np.frombuffer(storages[key], dtype, count), offset, shape, strides)


def _described(source: Any) -> tuple[str, np.dtype, int]:
    """Key, kind and number of the numbers of a storage, as a pickle names it."""
    word, kind, key, _, count = source[:5]
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise ValueError("the numbers of a tensor have no description")
    return key, np.dtype(DTYPES[kind.text.removeprefix("torch.")]), count


def _zipped(file: BinaryIO, data: memoryview) -> tuple[Any, dict[str, memoryview]]:
    """What the pickle in a zip file says, and the bytes of each storage: views of the file, where they lie uncompressed."""
    storages, program = {}, None
    for info in zipfile.ZipFile(file).infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError("it is compressed, which torch.save never does")
        names = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
        start = info.header_offset + 30 + sum(names)
        found = data[start : start + info.file_size]
        rest = info.filename.partition("/")[2]
        if rest == "data.pkl":
            program = found
        elif rest.startswith("data/"):
            storages[rest.removeprefix("data/")] = found
    if program is None:
        raise ValueError("it is a zip file of something else: there is no data.pkl in it")
    return Machine(program).run(), storages


def _older(data: memoryview) -> tuple[Any, dict[str, memoryview]]:
    """Five pickles, the fourth with the values and the fifth with the keys of the storages, which follow in this order."""
    machine = Machine(data)
    _, version, _, whole, keys = (machine.run() for _ in range(5))
    kinds = {key: dtype for key, dtype, _ in map(_described, machine.storages)}
    if version != 1001 or not isinstance(keys, list):
        raise ValueError("its storages have no keys")
    return whole, {key: machine.take(machine.number("<q") * kinds[key].itemsize) for key in keys}
