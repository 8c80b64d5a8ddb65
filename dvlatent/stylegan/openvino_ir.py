"""Reading networks from OpenVINO's intermediate representation (IR, version 10) without OpenVINO.

An IR is two files: an .xml that lists the layers in the order they run, and a .bin that holds their numbers.
Every `Const` layer gives the place of its numbers. We read them, check them, and put them into our own network.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dvlatent import files
from dvlatent.checkpoint import load_weights
from dvlatent.errors import AssetBroken, CheckpointError
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN

Constants = dict[str, np.ndarray]
TYPES = {"f32": "<f4", "i64": "<i8", "i32": "<i4"}


def read_constants(xml: Path) -> Constants:
    """Every constant of the IR by its name, in the order in which the layers run, read only. The .bin lies beside the .xml.

    Raises CheckpointError for anything but a complete IR of version 10: nothing in the files is trusted.
    """
    blob = xml.with_suffix(".bin")
    try:
        text = files.read(xml, 16 * 2**20, AssetBroken)  # the description of a network has a few hundred thousand bytes
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise CheckpointError(f"{xml.name} declares XML entities, which no IR does. Run `dvlatent assets` to fetch the files again.")
        root = ElementTree.fromstring(text, ElementTree.XMLParser(encoding="utf-8"))  # whatever the text says of itself
        data = np.memmap(files.check(blob, error=AssetBroken), dtype=np.uint8, mode="r") if blob.stat().st_size else np.empty(0, np.uint8)
    except (OSError, ValueError, AssetBroken, ElementTree.ParseError) as error:
        problem = f"{xml.name} with {blob.name} cannot be read as a network: {error}. Run `dvlatent assets` to repair it."
        raise CheckpointError(problem) from error
    if root.tag != "net" or root.get("version") != "10":
        raise CheckpointError(f"{xml.name} is <{root.tag}> of version {root.get('version')}; an OpenVINO IR of version 10 was needed.")
    layers = root.iterfind("layers/layer[@type='Const']")
    return {layer.get("name", "?"): _constant(layer, layer.get("name", "?"), data, xml.name) for layer in layers}


def _constant(layer: ElementTree.Element, name: str, data: np.ndarray, file: str) -> np.ndarray:
    try:
        attributes = layer.find("data").attrib  # type: ignore[union-attr]
        dtype = np.dtype(TYPES[attributes["element_type"]])
        shape = tuple(int(size) for size in attributes["shape"].split(",") if size.strip())
        offset, size = int(attributes["offset"]), int(attributes["size"])
    except (AttributeError, KeyError, ValueError) as error:  # a superscript is a digit for some, and no number
        raise CheckpointError(f"constant '{name}' of {file} does not say where its numbers are ({error!r}).") from error
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or size != needed:
        raise CheckpointError(f"constant '{name}' of {file} has {size} bytes, but its shape {list(shape)} needs {needed}.")
    if offset < 0 or offset + size > len(data):
        raise CheckpointError(
            f"constant '{name}' of {file} ends at byte {offset + size:,}, but the .bin has only {len(data):,}: it was cut short. "
            "Run `dvlatent assets` to repair it."
        )
    if not size or len(shape) > 8:
        raise CheckpointError(f"constant '{name}' of {file} has shape {list(shape)}; a network has one to eight sizes, none of them 0.")
    return np.frombuffer(data[offset : offset + size], dtype=dtype).reshape(shape)


def read_mobile_stylegan(folder: Path) -> MobileStyleGAN:
    """MobileStyleGAN (Belousov 2021) from `MappingNetwork.xml` and `SynthesisNetwork.xml` with their .bin files.

    Raises CheckpointError if a part is missing, has another shape, or holds numbers that are not finite.
    """
    generator = MobileStyleGAN()
    constants = [read_constants(folder / f"{part}Network.xml") for part in ("Mapping", "Synthesis")]
    try:
        state = _mapping_state(constants[0]) | _synthesis_state(constants[1])
    except (ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{folder} holds constants of another network ({error}). Run `dvlatent assets` to repair it.") from error
    load_weights(generator, {**state, "w_mean": generator.w_mean}, f"{folder}, which should have random-face 2021.7.21.1,")
    return generator.eval().requires_grad_(False)


def _mapping_state(constants: Constants) -> dict[str, Tensor]:
    """Eight linear layers, in the order they run: 512 x 512 weights, each followed by its bias."""
    weights = [value for value in constants.values() if value.ndim == 2 and value.size > 512]
    biases = [value for value in constants.values() if value.ndim == 1 and value.size > 16]
    state = {f"mapping_layers.{i}.weight": _tensor(weight) for i, weight in enumerate(weights)}
    return state | {f"mapping_layers.{i}.bias": _tensor(bias) for i, bias in enumerate(biases)}


def _synthesis_state(constants: Constants) -> dict[str, Tensor]:
    """Named parameters keep their names; noise and demodulated weights have none, so their order identifies them.

    The exporter folded demodulation into the weights (`Mul_..._copy`) and the noise strength into the noise.
    """
    convs = ["conv1"] + [f"blocks.{i}.{conv}" for i in range(7) for conv in ("conv1", "conv2")]
    state, folded, noises = {}, iter(convs), iter(convs)
    for name, value in constants.items():
        if re.fullmatch(r"Mul_\d+_copy", name):
            conv = next(folded, "unexpected")
            state[f"{conv}.weight"] = _tensor(value if conv == "conv1" else value.reshape(value.shape[:2]))
        elif value.ndim == 4 and value.shape[:2] == (1, 1) and value.shape[2] == value.shape[3] >= 4:
            state[f"{next(noises, 'unexpected')}.noise"] = _tensor(value[0, 0])
        elif name == "m.input.input":
            state["constant"] = _tensor(value)
        elif name.startswith("m."):
            ours = name[2:].replace("layers.6.to_img.conv.weight", "to_image.weight").replace("layers.6.to_img.", "to_image.")
            ours = ours.replace("layers.", "blocks.").replace(".conv.modulation.", ".modulation.").replace(".conv.weight_dw", ".depthwise")
            if ours.endswith(".depthwise"):
                state[ours] = _tensor(value.reshape(value.shape[0], 1, 3, 3))
            elif ours == "to_image.weight":
                state[ours] = _tensor(value.reshape(value.shape[:2]))
            else:
                state[ours] = _tensor(value if ours.endswith("weight") else value.reshape(-1))
    return _group_bands(state)


def _group_bands(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reorder channels so that each of the four wavelet bands is one piece of memory.

    The file has ll of every channel, then (lh, hl, hh) of channel 0, of channel 1 ...; our network has ll, lh, hl, hh.
    """
    for i, before in enumerate(["conv1", *(f"blocks.{i}.conv2" for i in range(6)), "to_image"]):
        names = [f"{before}.weight", f"{before}.bias"]
        names += [f"blocks.{i}.up.modulation.weight", f"blocks.{i}.up.modulation.bias"] if before != "to_image" else []
        for name in names:
            if name in state:
                count = len(state[name]) // 4
                details = torch.arange(count, 4 * count).view(count, 3).T.flatten()
                state[name] = state[name][torch.cat([torch.arange(count), details])]
    return state


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, dtype=np.float32))  # a copy, because the file may disappear
