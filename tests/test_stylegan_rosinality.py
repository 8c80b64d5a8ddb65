"""Checkpoints in rosinality's layout are read exactly, in both formats of torch.save; hostile and broken ones are refused."""

from __future__ import annotations

import argparse
import os
import random
import re
import struct
import time
import zipfile

import pytest
import torch
from test_stylegan_nvidia_pickle import Trick, network
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent import load
from dvlatent.cli.main import main
from dvlatent.errors import CheckpointError
from dvlatent.latents import broadcast, normal
from dvlatent.stylegan.nvidia_pickle import read_pickle

FIR = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 16


def rosinality(net) -> dict[str, torch.Tensor]:
    """The same weights under rosinality's names and in its shapes."""
    found = {}
    for ours, value in net.state_dict().items():
        if match := re.fullmatch(r"mapping_layers\.(\d+)\.(\w+)", ours):
            found[f"style.{int(match[1]) + 1}.{match[2]}"] = value
        elif match := re.fullmatch(r"blocks\.(\d+)\.(conv[01])\.(.+)", ours):
            i = 2 * int(match[1]) - 2 + int(match[2][4])
            layer = "conv1" if i < 0 else f"convs.{i}"
            shaped = {
                "weight": ("conv.weight", value[None]),
                "bias": ("activate.bias", value),
                "noise_strength": ("noise.weight", value[None]),
            }
            if match[3] == "noise":
                found[f"noises.noise_{i + 1}"] = value[None, None]
            elif match[3] in shaped:
                found[f"{layer}.{shaped[match[3]][0]}"] = shaped[match[3]][1]
            else:
                found[f"{layer}.conv.modulation.{match[3].removeprefix('style.')}"] = value
            if match[2] == "conv0":
                found[f"{layer}.conv.blur.kernel"] = FIR
        elif match := re.fullmatch(r"blocks\.(\d+)\.to_image\.(.+)", ours):
            layer = f"to_rgbs.{int(match[1]) - 1}" if match[1] != "0" else "to_rgb1"
            if match[2] == "bias":
                found[f"{layer}.bias"] = value.view(1, 3, 1, 1)
            else:
                found[f"{layer}.conv.{'weight' if match[2] == 'weight' else match[2].replace('style', 'modulation')}"] = (
                    value[None] if match[2] == "weight" else value
                )
    return found | {"input.input": net.constant.data[None], "to_rgbs.0.upsample.kernel": FIR}


def reference(state, z):
    """rosinality's own forward pass, with its names and its order: scaled filters, then a leaky ReLU with a bias."""

    def linear(name, x, lr=1.0):
        weight = state[f"{name}.weight"]
        return F.linear(x, weight * lr / weight.shape[1] ** 0.5, state[f"{name}.bias"] * lr)

    def modulated(name, x, w, up=False, demodulate=True):
        weight = state[f"{name}.weight"][0]
        weight = weight * linear(f"{name}.modulation", w)[:, None, :, None, None][0] / weight[0].numel() ** 0.5
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt() if demodulate else weight
        if not up:
            return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), FIR.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])

    def styled(name, x, w, noise, up=False):
        x = modulated(f"{name}.conv", x, w, up) + state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"]
        return F.leaky_relu(x + state[f"{name}.activate.bias"].view(1, -1, 1, 1), 0.2) * 2**0.5

    w = z * torch.rsqrt((z**2).mean(1, keepdim=True) + 1e-8)
    for i in (1, 2):
        w = F.leaky_relu(linear(f"style.{i}", w, 0.01), 0.2) * 2**0.5
    x = styled("conv1", state["input.input"], w, 0)
    image = modulated("to_rgb1.conv", x, w, demodulate=False) + state["to_rgb1.bias"]
    for i in range(3):
        x = styled(f"convs.{2 * i + 1}", styled(f"convs.{2 * i}", x, w, 2 * i + 1, up=True), w, 2 * i + 2)
        wide = torch.zeros(1, 3, 2 * image.shape[2], 2 * image.shape[3])
        wide[..., ::2, ::2] = image
        image = F.conv2d(F.pad(wide, (2, 1, 2, 1)), FIR.expand(3, 1, 4, 4), groups=3)
        image = image + modulated(f"to_rgbs.{i}.conv", x, w, demodulate=False) + state[f"to_rgbs.{i}.bias"]
    return image


def net_like_theirs():
    net = network(clamp=0.0)
    for name, value in net.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            value.add_(0.1 * torch.randn_like(value))
    net.w_mean.copy_(net.mapping(normal(range(100), 16)).mean(0))
    return net


def written(path, net, whole=True, older=False):
    """A checkpoint as its training leaves it, with the options of the command line and the state of Adam."""
    found = {"g_ema": rosinality(net), "latent_avg": net.w_mean}
    if whole:
        found |= {
            "args": argparse.Namespace(size=32, lr=0.002),
            "g_optim": {"state": {0: {"step": 5}}, "param_groups": [{"betas": (0, 0.99)}]},
        }
    torch.save(found, path, _use_new_zipfile_serialization=not older)
    return path


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_checkpoint_is_converted_and_draws_as_it_did(tmp_path, older, whole, capsys):
    net, out = net_like_theirs(), tmp_path / "out.safetensors"
    assert main(["convert", str(written(tmp_path / "550000.pt", net, whole, older)), str(out)]) == 0
    assert "32 px, 8 layers" in capsys.readouterr().out
    loaded = load(out)
    assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)
    z = normal(3, 16)
    theirs = reference(rosinality(net), z)
    assert_close(loaded.synthesis(broadcast(loaded.mapping(z), 8)), theirs, rtol=1e-4, atol=1e-4)


def test_a_missing_mean_is_computed_and_missing_noise_is_drawn(tmp_path):
    net, path = net_like_theirs(), tmp_path / "old.pt"
    torch.save({"g_ema": {name: value for name, value in rosinality(net).items() if "noises" not in name}}, path)
    tensors, _ = read_pickle(path)
    assert_close(tensors["w_mean"], net.mapping(normal(range(10_000), 16)).mean(0), rtol=1e-3, atol=1e-4)
    assert tensors["blocks.2.conv0.noise"].shape == (16, 16) and abs(float(tensors["blocks.2.conv0.noise"].std()) - 1) < 0.1


def hostile(tmp_path):
    """Files that only look like checkpoints: written by torch.save, or by hand."""
    path, make = tmp_path / "a.pt", (os.mkdir, ("it-ran",))
    for name, value in {
        "mkdir": Trick(*make),
        "in g_ema": {"g_ema": {"input.input": Trick(*make)}},
        "in args": {"args": Trick(*make)},
    }.items():
        for older in (False, True):
            torch.save(value, path, _use_new_zipfile_serialization=not older)
            yield f"{name}, {'older' if older else 'zip'}", path.read_bytes()
    torch.save({"g": {}}, path)
    yield "no g_ema", path.read_bytes()
    torch.save({"g_ema": {"unknown.weight": torch.zeros(2)}}, path)
    yield "another network", path.read_bytes()
    whole = written(path, net_like_theirs()).read_bytes()
    yield "cut", whole[: len(whole) // 2]
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for info in archive.infolist():
            packed.writestr(info.filename, bytes(10**7) if "/data/" in info.filename else archive.read(info))
    yield "compressed", (tmp_path / "b.pt").read_bytes()
    older = written(path, net_like_theirs(), older=True).read_bytes()
    yield "ten billion numbers", older.replace(struct.pack("<q", 12), struct.pack("<q", 10**10))
    yield "only the beginning", older[:14]


def test_hostile_files_are_refused_and_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for what, data in hostile(tmp_path):
        (tmp_path / "bad.pt").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"^bad\.pt"):
            read_pickle(tmp_path / "bad.pt")
        assert not os.path.exists("it-ran"), what


def test_cut_and_changed_files_are_read_or_refused(tmp_path, capsys):
    path, rng, refused = tmp_path / "bad.pt", random.Random(0), 0
    wholes = [written(path, net_like_theirs(), older=older).read_bytes() for older in (False, True)]
    start = time.process_time()
    for i in range(120):
        data = bytearray(wholes[i % 2])
        at = rng.randrange(len(data))
        if i % 3 == 0:
            del data[at:]
        elif i % 3 == 1:
            for _ in range(20):
                data[rng.randrange(len(data))] = rng.randrange(256)
        else:
            at = rng.randrange(2000)
            data[at] = rng.randrange(256)
        path.write_bytes(data)
        refused += main(["convert", str(path), str(tmp_path / "out.safetensors"), "--overwrite"])
    assert time.process_time() - start < 60 and 30 < refused < 120
    assert "Traceback" not in capsys.readouterr().err
