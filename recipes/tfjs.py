"""Reading TensorFlow.js graph models into torch: what a recipe needs to ask a network that npm carries.

A model is a json file (nodes, and where each weight lies) and a file of weights, some of them rounded to 8 or 16 bits. Only the layers of
plain convolutional networks are known here. Gradients flow to the input; the weights are constants.

    faces = Faceres(fetch("@vladmandic/human@3.3.6", FACERES))  # perceived age and gender, learned from real people's ages
    faces(image)  # [batch, 2]
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvlatent.errors import AssetBroken

HUMAN = "@vladmandic/human@3.3.6"  # MIT
FACERES = {
    "package/models/faceres.json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    "package/models/faceres.bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
}
FACE_API = "@vladmandic/face-api@1.7.15"  # MIT
AGE_GENDER = {
    "package/model/age_gender_model-weights_manifest.json": "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f",
    "package/model/age_gender_model.bin": "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
}
LEFT, TOP, SIDE = 5 / 32, 7 / 32, 22 / 32  # the face's square, as shares of an aligned picture
BGR_MEANS, RGB_MEANS = (103.939, 116.779, 123.68), (122.782, 117.001, 104.298)
TYPES = {"float32": np.float32, "int32": np.int32, "uint8": np.uint8, "uint16": np.uint16, "float16": np.float16}


def fetch(package: str, files: Mapping[str, str], folder: Path) -> list[Path]:
    """The files of an npm package, fetched once into `folder` with npm's own client, each compared with its SHA-256.

    Nothing of the package is run. Raises AssetBroken for a file that is missing or has another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / Path(name).name for name in files]
    if not all(path.exists() for path in paths):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                subprocess.run(["npm", "pack", package, "--ignore-scripts", "--silent"], cwd=temporary, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as reason:
                raise AssetBroken(f"{package} could not be fetched ({reason}). It takes npm and a network, once.") from reason
            with tarfile.open(next(Path(temporary).glob("*.tgz"))) as archive:
                for name, path in zip(files, paths, strict=True):
                    found = archive.extractfile(name) if name in archive.getnames() else None
                    path.write_bytes(found.read() if found else b"")
    for (name, digest), path in zip(files.items(), paths, strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise AssetBroken(f"{path} is not {name} of {package}: its SHA-256 differs from {digest}. Delete it and fetch it again.")
    return paths


def read_weights(entries: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, Tensor]:
    """The weights of a manifest, in its order, as float32 (or int32) tensors: quantized ones are multiplied out."""
    tensors, at = {}, 0
    for entry in entries:
        quantization = entry.get("quantization", {})
        kind = TYPES[quantization.get("dtype", entry["dtype"])]
        count = int(np.prod(entry["shape"]))  # 1 for a single number
        if at + count * kind().itemsize > len(data):
            raise AssetBroken(f"the weights end within '{entry['name']}', at byte {at} of {len(data)}. Fetch the file again.")
        values = np.frombuffer(data, kind, count, at)
        at += values.nbytes
        if "scale" in quantization:
            values = values.astype(np.float32) * quantization["scale"] + quantization["min"]
        values = values.astype(np.int32 if entry["dtype"] == "int32" else np.float32).reshape(entry["shape"])
        tensors[entry["name"]] = torch.from_numpy(values.copy())
    return tensors


class TfjsGraph(nn.Module):
    """A graph model as a differentiable function: [batch, channels, height, width] -> its outputs by name.

    Activations are kept channels first, as torch wants them, kernels are turned once. Raises AssetBroken for layers not known here.
    """

    def __init__(self, model: Mapping[str, Any], data: bytes, outputs: Sequence[str]) -> None:
        super().__init__()
        self.values = read_weights([entry for group in model["weightsManifest"] for entry in group["weights"]], data)
        nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
        self.steps, self.outputs = [], tuple(outputs)
        for name in _in_order(nodes, self.outputs):
            node = nodes[name]
            if node["op"] == "Placeholder":
                self.input = name
            elif node["op"] not in ("Const", *LAYERS):
                raise AssetBroken(f"the layer {node['op']} ('{name}') is not known here. Add it to LAYERS.")
            elif node["op"] != "Const":
                self.steps.append((node["op"], [_plain(one) for one in node["input"]], name, node.get("attr", {})))
        for op, names, *_ in self.steps:
            if op == "Conv2D":  # height, width, in, out -> out, in, height, width
                self.values[names[1]] = self.values[names[1]].permute(3, 2, 0, 1).contiguous()
            elif op == "DepthwiseConv2dNative":  # height, width, channel, 1 -> channel, 1, height, width
                self.values[names[1]] = self.values[names[1]].permute(2, 3, 0, 1).contiguous()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Every output that was asked for, by its name."""
        values = {**self.values, self.input: x}
        for op, names, out, options in self.steps:
            values[out] = LAYERS[op]([values[name] for name in names], options)
        return {name: values[_plain(name)] for name in self.outputs}


def same(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution padded as TensorFlow's SAME: the odd pixel at the bottom and at the right."""
    return F.conv2d(_padded(x, kernel.shape[-1], stride, 0.0), kernel, stride=stride, groups=groups)


def _padded(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    down, across = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), value=value)


def _in_order(nodes: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """The nodes that the outputs depend on, each after its inputs."""
    order: dict[str, None] = {}
    waiting = [(_plain(name), False) for name in reversed(wanted)]
    while waiting:
        name, ready = waiting.pop()
        if ready:
            order[name] = None
        elif name not in order:
            waiting += [(name, True), *((_plain(one), False) for one in nodes[name].get("input", []))]
    return list(order)


def _plain(name: str) -> str:
    return name.lstrip("^").split(":")[0]


def _text(option: Mapping[str, Any]) -> str:
    return base64.b64decode(option["s"]).decode()


def _conv(values: list[Tensor], options: Mapping[str, Any], depthwise: bool) -> Tensor:
    strides = {int(one) for one in options["strides"]["list"]["i"][1:3]}
    if _text(options["padding"]) != "SAME" or len(strides) != 1 or {int(one) for one in options["dilations"]["list"]["i"]} != {1}:
        raise AssetBroken("only square strides, SAME padding and no dilation are known here.")
    return same(values[0], values[1], strides.pop(), len(values[1]) if depthwise else 1)


def _matmul(values: list[Tensor], options: Mapping[str, Any]) -> Tensor:
    x = values[0] @ values[1]
    for one in options["fused_ops"]["list"]["s"]:
        x = {"BiasAdd": lambda x: x + values[2], "Relu": torch.relu}[base64.b64decode(one).decode()](x)
    return x


def _paired(values: list[Tensor], do: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Constants of one number a channel meet activations: channels stand second here."""
    a, b = (value.reshape(1, -1, 1, 1) if value.ndim < 4 and values[1 - at].ndim == 4 else value for at, value in enumerate(values))
    return do(a, b)


def _mean(values: list[Tensor], _: Mapping[str, Any]) -> Tensor:
    if sorted(values[1].reshape(-1).tolist()) != [1, 2]:
        raise AssetBroken("only the mean over height and width is known here.")
    return values[0].mean(dim=(2, 3))


LAYERS: dict[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "Conv2D": lambda values, options: _conv(values, options, depthwise=False),
    "DepthwiseConv2dNative": lambda values, options: _conv(values, options, depthwise=True),
    "_FusedMatMul": _matmul,
    "Add": lambda values, _: _paired(values, torch.add),
    "Mul": lambda values, _: _paired(values, torch.mul),
    "Minimum": lambda values, _: _paired(values, torch.minimum),
    "Maximum": lambda values, _: _paired(values, torch.maximum),
    "Relu": lambda values, _: values[0].relu(),
    "Sigmoid": lambda values, _: values[0].sigmoid(),
    "Softmax": lambda values, _: values[0].softmax(dim=-1),
    "Mean": _mean,
}


def face_square(image: Tensor, size_px: int, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0) -> Tensor:
    """The face's square cut out of aligned pictures and brought to `size_px`, in bytes (0 to 255).

    `shift` moves it by shares of the picture, `zoom` makes it larger: readings wander with the cut, so average over several.
    """
    side = image.shape[-1]
    wide = round(SIDE * zoom * side)
    left, top = (round((at + SIDE * (1 - zoom) / 2 + by) * side) for at, by in zip((LEFT, TOP), shift, strict=True))
    left, top = (min(max(at, 0), side - wide) for at in (left, top))
    cut = image[:, :, top : top + wide, left : left + wide].clamp(-1, 1)
    return 127.5 * (F.interpolate(cut, size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False) + 1)


class Faceres(nn.Module):
    """Perceived age (years) and probability of perceived male, by a MobileNet at 224 px that learned real people's ages.

    A Predictor of aligned faces: [batch, 3, size, size] in [-1, 1] -> [batch, 2], with gradients.
    """

    names = ("age", "male")

    def __init__(self, model_json: Path, weights_bin: Path) -> None:
        super().__init__()
        self.graph = TfjsGraph(json.loads(model_json.read_text()), weights_bin.read_bytes(), ("age_pred/Softmax", "gender_pred/Sigmoid"))

    def forward(self, image: Tensor, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0) -> Tensor:
        """[batch, 3, size, size] -> [batch, 2]."""
        x = face_square(image, 224, shift, zoom).flip(1) - torch.tensor(BGR_MEANS)[:, None, None]
        said = self.graph(x)
        years = said["age_pred/Softmax"] @ (torch.arange(100) + 0.5)
        return torch.stack([years, said["gender_pred/Sigmoid"][:, 0]], dim=1)


class Features(nn.Module):
    """What the network of Faceres sees before it answers: [batch, 3, size, size] -> [batch, 1024] of length one, to compare people with."""

    def __init__(self, model_json: Path, weights_bin: Path) -> None:
        super().__init__()
        self.graph = TfjsGraph(json.loads(model_json.read_text()), weights_bin.read_bytes(), ("global_pooling/Mean",))

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 3, size, size] -> [batch, 1024]."""
        x = face_square(image, 224).flip(1) - torch.tensor(BGR_MEANS)[:, None, None]
        return F.normalize(self.graph(x)["global_pooling/Mean"], dim=1)


class FaceApi(nn.Module):
    """Perceived age and probability of perceived male, by a small Xception at 112 px: a reader to mark with. A Predictor, as Faceres."""

    names = ("age", "male")

    def __init__(self, manifest_json: Path, weights_bin: Path) -> None:
        super().__init__()
        entries = [entry for group in json.loads(manifest_json.read_text()) for entry in group["weights"]]
        self.weights = read_weights(entries, weights_bin.read_bytes())

    def forward(self, image: Tensor, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0) -> Tensor:
        """[batch, 3, size, size] -> [batch, 2]."""
        x = (face_square(image, 112, shift, zoom) - torch.tensor(RGB_MEANS)[:, None, None]) / 255
        x = self._conv(x, "entry_flow/conv_in", 2).relu()
        x = self._reduction(x, x, "entry_flow/reduction_block_0")
        x = self._reduction(x.relu(), x, "entry_flow/reduction_block_1")
        for block in (0, 1):
            y = x
            for at in range(3):
                y = self._separable(y.relu(), f"middle_flow/main_block_{block}/separable_conv{at}")
            x = x + y
        x = self._reduction(x.relu(), x, "exit_flow/reduction_block")
        x = self._separable(x, "exit_flow/separable_conv").relu().mean(dim=(2, 3))
        age = x @ self.weights["fc/age/weights"] + self.weights["fc/age/bias"]
        male = (x @ self.weights["fc/gender/weights"] + self.weights["fc/gender/bias"]).softmax(dim=1)
        return torch.cat([age, male[:, :1]], dim=1)

    def _conv(self, x: Tensor, name: str, stride: int) -> Tensor:
        return same(x, self.weights[f"{name}/filters"].permute(3, 2, 0, 1), stride) + self.weights[f"{name}/bias"][:, None, None]

    def _separable(self, x: Tensor, name: str) -> Tensor:
        x = same(x, self.weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1), groups=x.shape[1])
        return same(x, self.weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)) + self.weights[f"{name}/bias"][:, None, None]

    def _reduction(self, x: Tensor, whole: Tensor, name: str) -> Tensor:
        """Two separable convolutions of `x` and a pooling to half the size, beside one step from `whole`."""
        y = self._separable(x, f"{name}/separable_conv0")
        y = self._separable(y.relu(), f"{name}/separable_conv1")
        y = F.max_pool2d(_padded(y, 3, 2, float("-inf")), 3, 2)
        return y + self._conv(whole, f"{name}/expansion_conv", 2)
