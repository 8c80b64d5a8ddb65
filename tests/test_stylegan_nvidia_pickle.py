"""Pickles of others: a network in NVIDIA's layout is read exactly; hostile and broken files are refused, and nothing in them runs."""

from __future__ import annotations

import collections
import os
import pickle
import random
import re
import struct
import sys
import time
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dvlatent import checkpoint, load
from dvlatent.cli.main import main
from dvlatent.errors import CheckpointError
from dvlatent.latents import broadcast, normal
from dvlatent.stylegan.nvidia_pickle import read_pickle
from dvlatent.stylegan.stylegan2 import StyleGAN2, StyleGAN2Config

SIZES = {"channels": (8, 8, 6, 4), "z_dim": 16, "w_dim": 12, "mapping_layers": 2, "lr_multiplier": 0.01, "clamp": 256.0}


def _reconstruct_persistent_obj(meta):
    raise AssertionError("a file was run")


class EasyDict(dict):
    pass


class Persistent(nn.Module):
    """A module that is pickled as NVIDIA's persistent classes are: source code, and state."""

    def __reduce__(self):
        source = "import os\nos.mkdir('it-ran')\n" * 40
        state = EasyDict(self.__dict__)
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator", "state": state}
        return _reconstruct_persistent_obj, (meta,), None


@pytest.fixture(autouse=True)
def theirs(monkeypatch, tmp_path):
    """The modules that pickle looks for while these files are written; a folder where a trick would leave its trace."""
    for module, value in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        monkeypatch.setattr(value, "__module__", module)
        made = types.ModuleType(module)
        setattr(made, value.__name__, value)
        monkeypatch.setitem(sys.modules, module, made)
        monkeypatch.setitem(sys.modules, module.split(".")[0], types.ModuleType(module.split(".")[0]))
    monkeypatch.chdir(tmp_path)
    yield
    assert not os.path.exists("it-ran")


def network(**sizes) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(StyleGAN2Config(**{**SIZES, **sizes})).requires_grad_(False)


def nvidia(net: StyleGAN2) -> Persistent:
    """The same weights under NVIDIA's names."""
    top = Persistent()
    parameters = dict(net.named_parameters())
    for ours, value in net.state_dict().items():
        name = re.sub(r"^blocks\.(\d+)", lambda match: f"synthesis.b{4 << int(match[1])}", ours)
        renamed = {"mapping_layers.": "mapping.fc", "embedding": "mapping.embed", "w_mean": "mapping.w_avg", ".style": ".affine"}
        for old, new in renamed.items():
            name = name.replace(old, new)
        name = re.sub("^constant", "synthesis.b4.const", name).replace("to_image", "torgb").replace(".noise", ".noise_const")
        *path, last = name.replace("noise_const_strength", "noise_strength").split(".")
        module = top
        for part in path:
            if part not in module._modules:
                module.add_module(part, Persistent())
            module = module._modules[part]
        if ours in parameters:
            module.register_parameter(last, nn.Parameter(value))
        else:
            module.register_buffer(last, value)
    fir = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 64
    for name, module in list(top.named_modules()):
        if re.search(r"fc\d+$", name):
            module.bias_gain, module.weight_gain = net.config.lr_multiplier, np.sqrt(0.5)
        if re.search(r"conv\d$", name):
            module.conv_clamp, module.act_gain = net.config.clamp or None, np.float64(2**0.5)
            module.register_buffer("resample_filter", fir)
            module.weight = nn.Parameter(module.weight.contiguous(memory_format=torch.channels_last))
    return top


def written(path, net: StyleGAN2 | None = None, protocol: int = 4):
    """A snapshot of a training, as stylegan2-ada-pytorch leaves it: G, D, G_ema and what it was trained on."""
    top = nvidia(net or network())
    about = EasyDict(path="faces.zip", max_size=None, xflip=True)
    path.write_bytes(pickle.dumps({"training_set_kwargs": about, "G": None, "D": Persistent(), "G_ema": top}, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("sizes", [{}, {"classes": 3, "colors": 1}, {"channels": (4,) * 6, "clamp": 0.0}], ids=str)
def test_a_network_is_converted_and_loaded_as_it_was(tmp_path, sizes, protocol, capsys):
    net, out = network(**sizes), tmp_path / "out.safetensors"
    assert main(["convert", str(written(tmp_path / "network.pkl", net, protocol)), str(out)]) == 0
    assert f"{net.resolution} px, {net.num_layers} layers" in capsys.readouterr().out
    loaded = load(out)
    assert loaded.config == net.config
    assert_close(loaded.state_dict(), net.state_dict(), rtol=0, atol=0)
    ws = broadcast(net.mapping(normal(range(2), 16)), net.num_layers)
    assert torch.equal(loaded.synthesis(ws), net.synthesis(ws))


class Trick:
    """What reduces to a call of anything."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def hostile() -> dict[str, bytes]:
    make = (os.mkdir, ("it-ran",))
    storage = Trick(torch.storage._load_from_bytes, (pickle.dumps(Trick(*make)),))
    return {
        "mkdir": pickle.dumps(Trick(*make)),
        "mkdir in the network": pickle.dumps({"G_ema": Trick(*make)}),
        "os.system": b"cos\nsystem\n(S'mkdir it-ran'\ntR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0cmkdir it-ran\x85R.",
        "nested global": b"\x80\x04\x8c\x08builtins\x8c\x0c__import__.x\x93.",
        "eval": pickle.dumps(Trick(eval, ("__import__('os').mkdir('it-ran')",))),
        "getattr": b"cbuiltins\ngetattr\n.",
        "attribute of a known module": b"ctorch\nfloat32.__class__\n.",
        "torch.load": b"ctorch.serialization\nload\n.",
        "inst": b"(S'mkdir it-ran'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'mkdir it-ran'\no.",
        "extension": b"\x80\x02\x82\x01.",
        "build on a table": b"\x80\x02}}b.",
        "call of a text": b"\x80\x02X\x01\x00\x00\x00a)R.",
        "call of a record": b"\x80\x02cbuiltins\nset\n)R)R.",
        "storage that is a trick": pickle.dumps({"G_ema": storage}),
        "tensorflow": b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01.",
        "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 10**10) + b"abc",
        "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 10**10) + b"abc",
        "far memo": b"\x80\x04Nr\xff\xff\xff\xff.",
        "unhashable key": b"\x80\x04}]Ns.",
        "deep key": b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"Ns.",
        "deep": b"\x80\x04" + b")" + b"\x85" * 300_000 + b".",
        "laughs": b"\x80\x04" + b"]\x94" + b"".join(b"](h%ch%ce\x94" % (i, i) for i in range(100)) + b".",
        "itself": b"\x80\x04]q\x00h\x00a.",
        "endless": b"\x80\x04" + b"N" * 2_000_000,
        "empty": b"",
        "zip": b"PK\x03\x04" + bytes(100),
        "not a pickle": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "no G_ema": pickle.dumps({"G": None}),
        "a number": pickle.dumps(5),
    }  # fmt: skip


@pytest.mark.parametrize("what", hostile())
def test_hostile_files_are_refused_and_run_nothing(tmp_path, what):
    path = tmp_path / "network.pkl"
    path.write_bytes(hostile()[what])
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"^network\.pkl"):
        read_pickle(path)
    assert time.process_time() - start < 10
    if what in ("mkdir", "os.system", "stack global", "eval"):
        with pytest.raises(CheckpointError, match="which no StyleGAN2 needs: refused, and nothing of it was run"):
            read_pickle(path)
    if what == "tensorflow":
        with pytest.raises(CheckpointError, match=r"network of TensorFlow\. Convert it first with legacy\.py"):
            read_pickle(path)


class Tensor(nn.Module):
    """Stands for a tensor with a shape of its own choice over one short storage."""

    def __init__(self, *rest):
        super().__init__()
        self.rest = rest

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (torch.zeros(6)._typed_storage(), *self.rest, False, collections.OrderedDict())


@pytest.mark.parametrize("rest", [
    (0, (50_000, 50_000), (0, 0)), (0, (2**50,), (0,)), (4, (3,), (1,)), (0, (2, 2), (5, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)),
    (0, (2, 3), (1,)), (0, (2.0,), (1,)), (0, (True,), (1,)), (0, (0, 10**9), (1, 1)), (0, (1,) * 9, (1,) * 9),
])  # fmt: skip
def test_a_shape_beyond_its_storage_takes_no_memory(tmp_path, rest):
    top = nvidia(network())
    top._modules["mapping"]._buffers["w_avg"] = Tensor(*rest)
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"G_ema": top}))
    with pytest.raises(CheckpointError, match="shape"):
        read_pickle(path)


def test_other_networks_are_refused_by_their_names(tmp_path):
    path, top = tmp_path / "network.pkl", nvidia(network())
    top._modules["synthesis"]._modules["b8"].register_parameter("skip", nn.Parameter(torch.zeros(3)))
    path.write_bytes(pickle.dumps({"G_ema": top}))
    with pytest.raises(CheckpointError, match=r"has no tensor 'synthesis\.b8\.skip': this is another network"):
        read_pickle(path)
    top = nvidia(network())
    top._modules["synthesis"]._modules["b8"]._modules["conv0"].resample_filter[0, 0] = 1
    path.write_bytes(pickle.dumps({"G_ema": top}))
    with pytest.raises(CheckpointError, match=r"is not \[1, 3, 3, 1\]"):
        read_pickle(path)


def test_cut_and_changed_files_are_read_or_refused_but_never_run(tmp_path, capsys):
    """200 mutants: cut anywhere, bytes changed, pieces doubled or exchanged. Whatever is read has the shapes of a network."""
    whole, rng, path, refused = written(tmp_path / "whole.pkl").read_bytes(), random.Random(0), tmp_path / "network.pkl", 0
    places = [match.start() for match in re.finditer(rb"[\x80-\x95(.RbQcXKMJ]", whole[:20_000])]  # where steps of the program may be
    start = time.process_time()
    for i in range(200):
        data, at = bytearray(whole), rng.randrange(len(whole))
        if i % 4 == 0:
            del data[at:]
        elif i % 4 == 1:
            for _ in range(rng.randrange(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif i % 4 == 2:
            data[rng.choice(places)] = rng.choice(b"\x80\x81\x85\x88\x8a\x8c\x8e\x93\x94\x95(.RbQcXKMJ0NBClidosuatejhrq")
        else:
            data[at:at] = data[rng.randrange(len(data)) :][: rng.randrange(200)]
        path.write_bytes(data)
        refused += main(["convert", str(path), str(tmp_path / "out.safetensors"), "--overwrite"])
    assert time.process_time() - start < 60
    assert 100 < refused < 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_storage_that_claims_ten_billion_numbers_takes_no_memory(tmp_path):
    whole, path = written(tmp_path / "network.pkl").read_bytes(), tmp_path / "network.pkl"
    assert struct.pack("<q", 12) + bytes(48) in whole  # w_avg: twelve zeros
    path.write_bytes(whole.replace(struct.pack("<q", 12) + bytes(48), struct.pack("<q", 10**10) + bytes(48)))
    with pytest.raises(CheckpointError, match="format that stylegan2-ada-pytorch writes"):
        read_pickle(path)


@pytest.mark.parametrize("changed", [
    {"channels": (8, 8, 6)}, {"channels": (4096,) * 9},
    {"channels": "8864"}, {"colors": 2}, {"w_dim": 10**9}, {"w_dim": 8192}, {"classes": -1},
    {"mapping_layers": 2.0}, {"lr_multiplier": None}, {"clamp": -1}, {"z_dim": True},
], ids=str)  # fmt: skip
def test_a_converted_file_whose_sizes_are_wrong_is_refused(tmp_path, changed):
    path = tmp_path / "wrong.safetensors"
    checkpoint.save(path, network().state_dict(), {"kind": "stylegan2", "config": {**vars(network().config), **changed}})
    with pytest.raises(CheckpointError, match=r"^wrong\.safetensors"):
        load(path)
