"""StyleGAN2: its parts against slow, obvious forms, the whole against a second one written from NVIDIA's names, and the contract."""

from __future__ import annotations

import math

import pytest
import torch
from contract import first_broken
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.stylegan.stylegan2 import StyleGAN2, StyleGAN2Config, modulated_conv, smooth, upsample

SMALL = StyleGAN2Config(channels=(8, 8, 6, 4), z_dim=16, w_dim=12, mapping_layers=2)


def small(**sizes) -> StyleGAN2:
    """A 32-px network with noise and biases that matter, and a picture within -1 and 1."""
    torch.manual_seed(0)
    net = StyleGAN2(StyleGAN2Config(**{**vars(SMALL), **sizes})).requires_grad_(False)
    for name, value in net.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            value.add_(0.1 * torch.randn_like(value))
        if "to_image.weight" in name:
            value.mul_(0.1)
    net.w_mean.copy_(net.mapping(normal(range(1000), net.z_dim)).mean(0))
    return net


def test_config_f_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = StyleGAN2()
    assert sum(value.numel() for value in net.parameters()) == 30_370_060
    assert sum(value.numel() for value in net.mapping_layers.parameters()) == 2_101_248
    assert (net.resolution, net.num_layers) == (1024, 18)


@pytest.mark.parametrize("sizes", [{}, {"colors": 1}, {"classes": 5}, {"channels": (4,) * 5, "clamp": 256.0}], ids=str)
def test_it_keeps_the_contract_of_generators(sizes):
    assert first_broken(small(**sizes)) == ""


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_scaling_features_equals_scaling_filters(up, demodulate):
    shapes = (3, 4, 5, 5), (5, 4, 3, 3), (3, 4)
    x, weight, style = (normal(0, math.prod(shape)).view(shape).double().requires_grad_() for shape in shapes)
    ways = [modulated_conv(x, weight, style, up=up, demodulate=demodulate, grouped=grouped) for grouped in (False, True)]
    assert_close(*ways)
    assert_close(*(torch.autograd.grad(way.square().sum(), (x, weight, style)) for way in ways))


def test_demodulated_filters_have_length_one():
    weight, style = normal(0, 36).view(1, 4, 3, 3), normal(1, 4)
    impulse = torch.zeros(1, 4, 9, 9)
    lengths = 0
    for channel in range(4):
        impulse.zero_()[0, channel, 4, 4] = 1
        lengths += modulated_conv(impulse, weight, style).square().sum()
    assert_close(lengths, torch.tensor(1.0))


def slow_fir(image, taps=(1, 3, 3, 1)):
    """[height, width] -> [height - 3, width - 3], by loops."""
    out = torch.zeros(image.shape[0] - 3, image.shape[1] - 3, dtype=image.dtype)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = sum(taps[i] * taps[j] / 64 * image[y + i, x + j] for i in range(4) for j in range(4))
    return out


def slow_up(image):
    """Zeros between the pixels, two zeros before and one after, the filter, and four times as bright: the zeros are three quarters."""
    wide = torch.zeros(2 * image.shape[0] + 3, 2 * image.shape[1] + 3, dtype=image.dtype)
    wide[2:-1:2, 2:-1:2] = image
    return 4 * slow_fir(wide)


def test_upsampling_and_smoothing_are_the_fir_filter():
    image = normal(0, 30).view(5, 6).double()
    assert_close(upsample(image[None, None])[0, 0], slow_up(image))
    assert_close(smooth(image[None, None], padding=2)[0, 0], slow_fir(F.pad(image, (2, 2, 2, 2))))
    flat = torch.ones(1, 2, 8, 8)
    assert_close(upsample(flat)[..., 2:-2, 2:-2], torch.ones(1, 2, 12, 12))


def test_an_upsampling_convolution_is_zeros_a_convolution_and_the_filter():
    x, weight = normal(0, 16).view(1, 1, 4, 4).double(), normal(1, 9).view(1, 1, 3, 3).double()
    wide = torch.zeros(1, 1, 7, 7, dtype=x.dtype)
    wide[..., ::2, ::2] = x
    full = F.conv2d(F.pad(wide, (2, 2, 2, 2)), weight.flip(2, 3))  # [1, 1, 9, 9]
    found = modulated_conv(x, weight, torch.ones(1, 1).double(), up=True, demodulate=False)
    assert_close(found[0, 0], 4 * slow_fir(F.pad(full, (1, 1, 1, 1))[0, 0]))


def reference(net, z):
    """The whole network once more, one face at a time, as Karras et al. 2020 draw it: filters scaled, then each step in its order."""
    state = net.state_dict()

    def linear(name, x, lr=1.0):
        weight = state[f"{name}.weight"]
        return (weight @ x) * lr / weight.shape[1] ** 0.5 + state[f"{name}.bias"] * lr

    def styled(name, x, w, up):
        weight = state[f"{name}.weight"] * linear(f"{name}.style", w)[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            full = F.conv_transpose2d(x[None], weight.transpose(0, 1), stride=2)[0]
            x = torch.stack([4 * slow_fir(F.pad(one, (1, 1, 1, 1))) for one in full])
        else:
            x = F.conv2d(x[None], weight, padding=1)[0]
        x = x + state[f"{name}.noise"] * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
        return torch.where(x > 0, x, 0.2 * x) * 2**0.5

    w = z / (z.square().mean() + 1e-8).sqrt()
    for i in range(2):
        w = linear(f"mapping_layers.{i}", w, 0.01)
        w = torch.where(w > 0, w, 0.2 * w) * 2**0.5
    x, image = state["constant"], 0
    for i in range(4):
        if i:
            x, image = styled(f"blocks.{i}.conv0", x, w, True), torch.stack([slow_up(one) for one in image])
        x = styled(f"blocks.{i}.conv1", x, w, False)
        style = linear(f"blocks.{i}.to_image.style", w) / x.shape[0] ** 0.5
        weight = state[f"blocks.{i}.to_image.weight"][:, :, 0, 0] * style
        image = image + torch.einsum("oc,chw->ohw", weight, x) + state[f"blocks.{i}.to_image.bias"][:, None, None]
    return w, image


def test_the_whole_network_equals_a_second_one_written_slowly():
    net, z = small(), normal(3, 16)
    w = net.mapping(z)
    expected_w, expected = reference(net, z[0])
    assert_close(w[0], expected_w)
    assert_close(net.synthesis(broadcast(w, net.num_layers))[0], expected, rtol=1e-4, atol=1e-4)


def test_each_w_steers_its_own_layer():
    """Layers 0 and 1 are the first convolution and picture; from 32 px, the last three belong to the last block."""
    net = small()
    ws = broadcast(net.mapping(normal(0, 16)), 8).clone()
    features = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, inputs, outputs: features.append(outputs[0]))
    net.synthesis(ws)
    changed = ws.clone()
    changed[:, 5] += 1  # conv0 of the last block, and the picture of the block before
    net.synthesis(changed)
    assert [torch.equal(a, b) for a, b in zip(features[:4], features[4:], strict=True)] == [True, True, True, False]


def test_noise_is_constant_random_or_none():
    net = small()
    ws = broadcast(net.mapping(normal(0, 16)), 8)
    const, none = net.synthesis(ws), net.synthesis(ws, noise="none")
    drawn = [net.synthesis(ws, noise="random") for _ in range(2)]
    assert not torch.equal(const, none) and not torch.equal(*drawn)
    for name, value in net.named_parameters():
        if name.endswith("noise_strength"):
            value.zero_()
    assert torch.equal(net.synthesis(ws), none) and torch.equal(net.synthesis(ws, noise="random"), none)
    with pytest.raises(ShapeError, match="no noise 'loud': say one of const, random, none"):
        net.synthesis(ws, noise="loud")


def test_labels_steer_and_without_them_z_chooses():
    net = small(classes=3)
    z = normal(range(4), 16)
    votes = z[:, :3].argmax(1)
    assert torch.equal(net.mapping(z), net.mapping(z, votes))
    assert not torch.equal(net.mapping(z, (votes + 1) % 3), net.mapping(z))
    for wrong in (torch.tensor([0]), torch.tensor([0, 1, 2, 3])):
        with pytest.raises(ShapeError, match="from 0 to 2 for each z"):
            net.mapping(z, wrong)


def test_features_stay_within_the_clamp():
    net = small(clamp=0.5)
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, inputs, outputs: seen.append(max(part.abs().max().item() for part in outputs)))
    net.synthesis(broadcast(net.mapping(normal(0, 16)), 8))
    assert seen == [0.5] * 4


@pytest.mark.parametrize("shape", [(1, 7, 12), (1, 8, 16), (8, 12)])
def test_other_shapes_are_refused_in_words(shape):
    with pytest.raises(ShapeError, match="ws of shape \\[batch, 8, 12\\]"):
        small().synthesis(torch.zeros(shape))
    with pytest.raises(ShapeError, match="z of shape \\[batch, 16\\]"):
        small().mapping(torch.zeros(1, 12))


def test_truncation_with_a_cutoff_pulls_the_first_layers_only():
    net = small()
    ws = broadcast(net.mapping(normal(range(2), 16)), 8)
    cut = truncate(ws, toward=net.w_mean, psi=0.5, cutoff=3)
    assert torch.equal(cut[:, 3:], ws[:, 3:])
    assert_close(cut[:, :3], (ws[:, :3] + net.w_mean) / 2)
    for wrong, cutoff in ((ws, 9), (ws[:, 0], 1)):
        with pytest.raises(ShapeError, match="a cutoff is one of the layers"):
            truncate(wrong, toward=net.w_mean, psi=0.5, cutoff=cutoff)
