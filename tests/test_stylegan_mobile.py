"""The face generator: equal to OpenVINO's recorded outputs, to an obviously right slow network, and to itself in strips."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dvlatent import broadcast, normal, truncate
from dvlatent.assets import asset_path
from dvlatent.errors import ShapeError
from dvlatent.stylegan import mobile_stylegan
from dvlatent.stylegan.mobile_stylegan import Block, ToImage, haar, inverse_haar
from dvlatent.stylegan.openvino_ir import read_constants

RECORDED = np.load(Path(__file__).parent / "data" / "mobile_stylegan_openvino.npz", allow_pickle=False)


def test_mapping_equals_openvino(faces):
    w = faces.mapping(normal(RECORDED["seeds"].tolist(), faces.z_dim))
    assert np.abs(w.numpy() - RECORDED["w"]).max() < 2e-5


def test_synthesis_equals_openvino(faces):
    for i, w in enumerate(torch.from_numpy(RECORDED["w"])):
        image = faces.synthesis(broadcast(w[None], 16))[0].numpy()
        assert np.abs(image.reshape(3, 32, 32, 32, 32).mean((2, 4)) - RECORDED["small"][i]).max() < 2e-5
        for (y, x), crop in zip(RECORDED["corners"], RECORDED["crops"][i], strict=True):
            assert np.abs(image[:, y : y + 24, x : x + 24] - crop).max() < 2e-4


def test_w_mean_is_the_mean_of_mapped_z(faces):
    # 100,000 seeds made it; 4,000 of them must agree within the error of a mean of 4,000
    w = faces.mapping(normal(range(4000), faces.z_dim))
    error = (w.mean(0) - faces.w_mean) / (w.std(0) / 4000**0.5)
    assert error.square().mean().sqrt() < 1.25


def slow_synthesis(ws: torch.Tensor) -> torch.Tensor:
    """The network written down plainly from the constants of the file: no strips, no reordered channels, the wavelet pixel by pixel."""
    constants = read_constants(asset_path("random_face/data/SynthesisNetwork.xml"))
    named = {name: torch.from_numpy(value.astype(np.float32)) for name, value in constants.items() if name.startswith("m.")}
    folded = iter(torch.from_numpy(value.copy()) for name, value in constants.items() if re.fullmatch(r"Mul_.*_copy", name))
    square = [value for value in constants.values() if value.ndim == 4 and value.shape[0] == value.shape[1] == 1 < value.shape[2]]
    noises = iter(torch.from_numpy(value.copy()) for value in square)

    def style(name, w):
        return (named[f"{name}.modulation.weight"] @ w + named[f"{name}.modulation.bias"].flatten())[None, :, None, None]

    def convolve(x, name, w):
        x = x * style(f"{name}.conv", w) / (x.shape[1] * 9) ** 0.5
        if f"{name}.conv.weight_dw" in named:
            x = F.conv2d(x, named[f"{name}.conv.weight_dw"].flatten(1, 2), padding=1, groups=x.shape[1])
            x = F.conv2d(x, next(folded))
        else:
            x = F.conv2d(x, next(folded), padding=1)
        return F.leaky_relu(x + next(noises) + named[f"{name}.bias"], 0.2)

    def wavelet(x):
        ll, details = x[:, : x.shape[1] // 4], x[:, x.shape[1] // 4 :].unflatten(1, (x.shape[1] // 4, 3))
        lh, hl, hh = details.unbind(2)
        out = torch.empty(1, ll.shape[1], 2 * ll.shape[2], 2 * ll.shape[3])
        for y, x_, value in [(0, 0, ll + lh + hl + hh), (0, 1, ll + lh - hl - hh), (1, 0, ll - lh + hl - hh), (1, 1, ll - lh - hl + hh)]:
            out[:, :, y::2, x_::2] = value / 2
        return out

    x = convolve(named["m.input.input"], "m.conv1", ws[0])
    for i in range(7):
        x = wavelet(x * style(f"m.layers.{i}.up", ws[1 + 2 * i]))
        x = convolve(x, f"m.layers.{i}.conv1", ws[1 + 2 * i])
        x = convolve(x, f"m.layers.{i}.conv2", ws[2 + 2 * i])
    last = "m.layers.6.to_img"
    x = F.conv2d(x * style(f"{last}.conv", ws[15]) / x.shape[1] ** 0.5, named[f"{last}.conv.weight"].reshape(12, -1, 1, 1))
    return wavelet(x + named.get(f"{last}.bias", torch.zeros(12)).reshape(1, 12, 1, 1))


@torch.no_grad()
def test_a_w_of_its_own_for_every_layer_equals_the_slow_network(faces):
    ws = truncate(faces.mapping(normal(range(16), faces.z_dim)), toward=faces.w_mean, psi=0.7)[None]  # sixteen different faces
    assert (faces.synthesis(ws) - slow_synthesis(ws[0])).abs().max() < 2e-4


def test_a_batch_is_its_faces_to_the_bit_and_no_input_is_touched(faces, portraits):
    ws = portraits.ws[2:].clone()
    assert torch.equal(faces.synthesis(ws), portraits.full[2:])
    assert torch.equal(ws, portraits.ws[2:])
    assert faces.synthesis(ws[:0]).shape == (0, 3, 1024, 1024)


def test_gradients_reach_every_layer(faces):
    ws = broadcast(faces.mapping(normal([3], faces.z_dim)), 16).clone().requires_grad_()
    faces.synthesis(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()
    direction = F.normalize(ws.grad, dim=2)
    with torch.no_grad():  # a finite difference along the gradient
        up, down = (faces.synthesis(ws + step * direction).double().square().mean() for step in (0.01, -0.01))
    assert abs(float(up - down) / 0.02 / float(ws.grad.norm(dim=2).sum()) - 1) < 0.02


@pytest.fixture
def small_block(monkeypatch):
    """A block of 24 pixels whose strips are 5 rows: several strips, the last one shorter, an odd start."""
    torch.manual_seed(0)
    block, picture = Block(32, 8, size_px=24), ToImage(8)
    for parameter in [*block.parameters(), *picture.parameters()]:
        torch.nn.init.normal_(parameter)
    monkeypatch.setattr(mobile_stylegan, "FLOATS", 5 * 24 * 8)
    return block, picture


@pytest.mark.parametrize("to_picture", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_strips_change_nothing(small_block, monkeypatch, batch, to_picture):
    block, picture = small_block
    x, w1, w2, w3 = torch.randn(batch, 32, 12, 12), *torch.randn(3, batch, 512)
    inputs = [x, w1, w2, *block.parameters()] + ([w3, *picture.parameters()] if to_picture else [])
    for tensor in inputs:
        tensor.requires_grad_()

    def run():
        out = block(x, w1, w2, (picture, w3) if to_picture else None)
        weights = torch.cos(torch.arange(out.numel())).view(out.shape)
        return out, torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)

    out, gradients = run()
    monkeypatch.setattr(mobile_stylegan, "FLOATS", 2**30)  # now in one piece
    expected, expected_gradients = run()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-3)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_strips_are_rounded_where_all_is(small_block):
    block, picture = small_block
    x, (w1, w2, w3) = torch.randn(1, 32, 12, 12, requires_grad=True), torch.randn(3, 1, 512)
    gradients = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = block(x, w1, w2, (picture, w3))
        assert out.dtype == (torch.bfloat16 if bf16 else torch.float32)
        gradients += torch.autograd.grad(out.float().square().mean(), x)
    assert gradients[1].dtype == torch.float32
    assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.99


def test_inverse_haar_has_the_right_gradient_and_keeps_lengths():
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(inverse_haar, x)
    assert torch.isclose(inverse_haar(x * 0.5).norm(), x.norm())
    torch.testing.assert_close(haar(inverse_haar(x)), 4 * x)


@pytest.mark.parametrize("shape", [(1, 512), (1, 15, 512), (1, 16, 511)])
def test_wrong_shapes_are_refused_in_words(faces, shape):
    with pytest.raises(ShapeError, match=r"broadcast\(w, 16\)"):
        faces.synthesis(torch.zeros(shape))
    with pytest.raises(ShapeError, match="normal"):
        faces.mapping(torch.zeros(1, 511))
