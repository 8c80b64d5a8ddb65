"""`dvlatent.load`: every name gives what it promises; an import waits for nothing."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

import dvlatent
from dvlatent import zoo
from dvlatent.checkpoint import save, save_direction, save_edit
from dvlatent.directions import Direction, Edit
from dvlatent.errors import CheckpointError
from dvlatent.latents import broadcast, normal


@pytest.mark.parametrize("name", dvlatent.available())
def test_every_name_loads_ready_to_use(name, request):
    one = request.getfixturevalue("faces") if name == "faces" else dvlatent.load(name)
    network = getattr(one, "network", one)
    if isinstance(network, torch.nn.Module):
        assert not network.training or name in ("toy", "perceptual")  # these two are the same in both modes
        assert not any(parameter.requires_grad for parameter in network.parameters())
    kinds = {"direction": Direction, "edit": Edit}
    assert isinstance(one, kinds.get(name.rpartition("-")[2], object))
    assert not name.endswith("-direction") or name == f"{one.name}-direction"


def test_import_is_instant_and_loads_only_what_is_asked_for():
    code = "import sys, dvlatent; assert 'torch' not in sys.modules; dvlatent.available(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    chapters = [name for name in loaded if name.startswith("dvlatent.") and name.count(".") > 1]
    assert "dvlatent.zoo" in loaded and not chapters


def test_a_file_is_read_as_what_it_says_it_is(tmp_path):
    direction = Direction("age", torch.eye(4)[0])
    save_direction(direction, tmp_path / "one.safetensors")
    save_edit(2 * direction, tmp_path / "two.safetensors")
    assert isinstance(dvlatent.load(tmp_path / "one.safetensors"), Direction)
    assert isinstance(dvlatent.load(str(tmp_path / "two.safetensors")), Edit)
    save(tmp_path / "three.safetensors", {"x": torch.zeros(1)}, {"kind": "thing"})
    for name in ("three.safetensors", "none.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            dvlatent.load(tmp_path / name)


@pytest.mark.parametrize("name", ["face", "faces.pt", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(CheckpointError, match=f"nothing called '{name}': say one of faces, toy"):
        dvlatent.load(name)


def test_names_of_older_files_become_the_names_of_the_code(tmp_path):
    net = dvlatent.load("digit-map")
    old = {name.replace("center", "centre"): tensor for name, tensor in net.state_dict().items()}
    config = {**vars(net.config), "look": net.config.encoder_side}
    del config["encoder_side"]
    save(tmp_path / "old.safetensors", old, {"kind": "autoencoder", "config": config})
    save(tmp_path / "new.safetensors", net.state_dict(), {"kind": "autoencoder", "config": vars(net.config)})
    code = torch.tensor([[0.3, -1.2]])
    for name in ("old", "new"):
        read = zoo.read_map(tmp_path / f"{name}.safetensors")
        assert read.config == net.config and torch.equal(read.decode(code), net.decode(code))


@pytest.mark.parametrize("around", ["double", "inference"])
def test_networks_are_in_32_bits_and_give_gradients_whatever_holds_around_them(around):
    kind = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64 if around == "double" else kind)
        with torch.inference_mode(around == "inference"):
            toy, reader = dvlatent.load("toy"), dvlatent.load("attributes")
            reader(torch.zeros(1, 3, 64, 64))
        ws = broadcast(toy.mapping(normal(1, toy.z_dim)), toy.num_layers).detach().requires_grad_()
        reader.differentiable()(toy.synthesis(ws)).sum().backward()
    finally:
        torch.set_default_dtype(kind)
    assert ws.dtype == torch.float32 and ws.grad.abs().sum() > 0


def _ages(reader, picture):
    torch.set_num_threads(2)
    return reader(picture).tolist()


def test_attributes_can_be_copied_pickled_and_sent_to_a_spawned_process(attributes, recorded_faces):
    """A forked process would hang with two threads; ARCHITECTURE says so."""
    face, scores = recorded_faces[:1], attributes(recorded_faces[:1])
    for other in (copy.deepcopy(attributes), pickle.loads(pickle.dumps(attributes))):
        assert torch.equal(other(face), scores)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(_ages, attributes, face).result(timeout=120)
    torch.testing.assert_close(torch.tensor(there), scores)
