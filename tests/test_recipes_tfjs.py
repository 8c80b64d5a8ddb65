"""The reader of TensorFlow.js models: a tiny graph made here, against the same arithmetic by hand; weights rounded and not; wrong files."""

import base64
import json

import numpy as np
import pytest
import tfjs
import torch
import torch.nn.functional as F

from dvlatent.errors import AssetBroken


def text(words):
    return {"s": base64.b64encode(words.encode()).decode()}


def numbers(*values):
    return {"list": {"i": [str(value) for value in values]}}


def conv(name, op, x, kernel, stride):
    attr = {"strides": numbers(1, stride, stride, 1), "padding": text("SAME"), "dilations": numbers(1, 1, 1, 1)}
    return {"name": name, "op": op, "input": [x, kernel], "attr": attr}


def tiny():
    """A model of every kind of layer that the face networks have, and its weights as numpy arrays by name."""
    rng = np.random.RandomState(0)
    shapes = {"k1": (3, 3, 3, 4), "k2": (3, 3, 4, 1), "shift": (4,), "six": (), "fc": (4, 5), "fc_bias": (5,)}
    weights = {name: np.asarray(rng.randn(*shape), np.float32) for name, shape in shapes.items()} | {"six": np.float32(6)}
    axes = np.array([1, 2], np.int32)
    fused = {"fused_ops": {"list": {"s": [text("BiasAdd")["s"], text("Relu")["s"]]}}}
    nodes = [
        {"name": "prob", "op": "Softmax", "input": ["dense"]},
        {"name": "dense", "op": "_FusedMatMul", "input": ["pooled", "fc", "fc_bias"], "attr": fused},
        {"name": "pooled", "op": "Mean", "input": ["cut", "axes"]},
        {"name": "cut", "op": "Minimum", "input": ["bent", "six"]},
        {"name": "bent", "op": "Relu", "input": ["shifted"]},
        {"name": "shifted", "op": "Add", "input": ["deep", "shift"]},
        conv("deep", "DepthwiseConv2dNative", "wide", "k2", 1),
        conv("wide", "Conv2D", "x", "k1", 2),
        {"name": "x", "op": "Placeholder"},
        *({"name": name, "op": "Const"} for name in [*weights, "axes"]),
    ]
    entries = [{"name": name, "shape": list(np.shape(value)), "dtype": "float32"} for name, value in weights.items()]
    entries.append({"name": "axes", "shape": [2], "dtype": "int32"})
    data = b"".join(np.asarray(value).tobytes() for value in [*weights.values(), axes])
    return {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": entries}]}, data, weights


@pytest.mark.parametrize("side", [8, 9])
def test_a_graph_answers_as_its_arithmetic_by_hand_and_gradients_flow(side):
    model, data, weights = tiny()
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = tfjs.TfjsGraph(model, data, ["prob:0"])(x)["prob:0"]

    extra = 1 if side == 8 else 2  # SAME, stride 2, kernel 3: an even side is padded at the end alone
    y = F.conv2d(F.pad(x, (extra - 1, 1, extra - 1, 1)), torch.from_numpy(weights["k1"]).permute(3, 2, 0, 1), stride=2)
    y = F.conv2d(y, torch.from_numpy(weights["k2"]).permute(2, 3, 0, 1), padding=1, groups=4)
    y = (y + torch.from_numpy(weights["shift"])[:, None, None]).relu().clamp_max(6).mean(dim=(2, 3))
    y = (y @ torch.from_numpy(weights["fc"]) + torch.from_numpy(weights["fc_bias"])).relu().softmax(dim=1)
    torch.testing.assert_close(found, y)
    assert torch.autograd.grad(found[:, 0].sum(), x)[0].abs().sum() > 0


def test_rounded_weights_are_multiplied_out():
    entries = [
        {"name": "a", "shape": [2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
        {"name": "b", "shape": [1], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "c", "shape": [1], "dtype": "int32"},
    ]
    data = bytes([0, 4]) + np.float16(1.5).tobytes() + np.int32(7).tobytes()
    found = tfjs.read_weights(entries, data)
    assert found["a"].tolist() == [-1.0, 1.0] and found["b"].tolist() == [1.5] and found["c"].tolist() == [7]
    with pytest.raises(AssetBroken, match="'c'"):
        tfjs.read_weights(entries, data[:-1])


def test_unknown_layers_are_refused_by_name():
    model, data, _ = tiny()
    model["modelTopology"]["node"][4]["op"] = "Selu"
    with pytest.raises(AssetBroken, match="Selu"):
        tfjs.TfjsGraph(model, data, ["prob"])


def test_a_fetched_file_with_another_hash_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({}))
    with pytest.raises(AssetBroken, match="SHA-256"):
        tfjs.fetch("any@1.0.0", {"package/a.json": "0" * 64}, tmp_path)


def test_the_face_s_square_is_where_it_should_be():
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    square = tfjs.face_square(ramp, 112)
    assert square.shape == (1, 3, 112, 112)
    assert square[0, 0, 0, 0] == pytest.approx(255 * 5 / 32, abs=2) and square[0, 0, 0, -1] == pytest.approx(255 * 27 / 32, abs=2)
    assert tfjs.face_square(ramp, 112, shift=(0.3, -0.5), zoom=1.2).shape == (1, 3, 112, 112)  # stays inside the picture
