"""An ONNX network of simple layers, run by torch: slower than ONNX Runtime, but gradients flow through it. Used in notebook 05."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvlatent import files
from dvlatent.errors import AssetBroken

Values, Options = list[Tensor], Mapping[str, Any]


class OnnxGraph(nn.Module):
    """The network of an ONNX file with one input and one output, as a differentiable function of its input.

    It knows the layers of dlib's small networks. Its weights are constants, which no training changes. Raises AssetBroken for a file that
    is not a network, or has other layers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        import onnx

        try:
            graph = read_onnx(path).graph
            constants = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in graph.initializer}
            self._input, self._output = graph.input[0].name, graph.output[0].name
            self._steps = []
            for node in graph.node:
                options = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
                self._steps.append((node.op_type, [name for name in node.input if name], node.output[0], options))
        except (ValueError, TypeError, IndexError, AttributeError, RuntimeError) as reason:
            raise AssetBroken(f"{path} cannot be read as a network ({str(reason)[:200]}). Run `dvlatent assets` to repair it.") from reason
        self._constants = constants

    def forward(self, x: Tensor) -> Tensor:
        """The output of the network; the file says which shapes it takes and gives."""
        values = {**self._constants, self._input: x}
        for kind, names, out, options in self._steps:
            values[out] = LAYERS[kind]([values[name] for name in names], options)
        return values[self._output]


def read_onnx(path: str | os.PathLike[str]) -> Any:
    """The model of an ONNX file that has known layers only: no loop, no function of its own, no numbers in another file.

    Raises AssetBroken for anything else, before anything runs.
    """
    import onnx

    data = files.read(path, 256 * 2**20, AssetBroken)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as reason:  # the errors of its parser have no common base class
        raise AssetBroken(f"{path} cannot be read as a network ({str(reason)[:200]}). Run `dvlatent assets` to repair it.") from reason
    if unknown := {f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node} - set(LAYERS):
        raise AssetBroken(f"{path} has layers that are not known here: {', '.join(sorted(unknown))[:200]}. Give another file.")
    if model.functions or model.graph.sparse_initializer or any(one.data_location for one in model.graph.initializer):
        raise AssetBroken(f"{path} has functions, or numbers in other files, and may not. Run `dvlatent assets` to repair it.")
    return model


def _pool(values: Values, options: Options, pool: Callable[..., Tensor]) -> Tensor:
    if any(options.get("pads", ())) or options.get("ceil_mode", 0):
        raise AssetBroken("this network pools over padding, which is not known here. Run it with ONNX Runtime.")
    return pool(values[0], list(options["kernel_shape"]), list(options["strides"]))


def _conv(values: Values, options: Options) -> Tensor:
    top, left, bottom, right = options.get("pads", (0, 0, 0, 0))
    return F.conv2d(F.pad(values[0], (left, right, top, bottom)), *values[1:], stride=list(options.get("strides", (1, 1))))


def _pad(values: Values, options: Options) -> Tensor:
    pads = values[1].tolist()
    sides = [pads[axis + end * len(pads) // 2] for axis in reversed(range(len(pads) // 2)) for end in (0, 1)]
    return F.pad(values[0], sides)


LAYERS: dict[str, Callable[[Values, Options], Tensor]] = {
    "Conv": _conv,
    "Pad": _pad,
    "Add": lambda values, _: values[0] + values[1],
    "Mul": lambda values, _: values[0] * values[1],
    "Relu": lambda values, _: values[0].relu(),
    "MaxPool": lambda values, options: _pool(values, options, F.max_pool2d),
    "AveragePool": lambda values, options: _pool(values, options, F.avg_pool2d),
    "GlobalAveragePool": lambda values, _: values[0].mean(dim=(2, 3), keepdim=True),
    "Flatten": lambda values, _: values[0].flatten(1),
    "Gemm": lambda values, options: F.linear(values[0], values[1] if options.get("transB") else values[1].T, values[2]),
    "Softmax": lambda values, _: values[0].softmax(dim=1),
}
