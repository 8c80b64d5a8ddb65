"""Coordinates of W that know how far the population goes and how much the picture changes, and the recipes of both files about W."""

import pytest
import torch
import w_mean
import whiten
from torch.testing import assert_close

from dvlatent import checkpoint
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint
from dvlatent.whitening import SHIPPED, Whitening


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


def test_what_is_shipped_belongs_to_the_faces_and_to_nobody_else(faces, toy):
    _, description = checkpoint.load(SHIPPED, "space")
    assert description["generator"] == fingerprint(faces)
    assert float(Whitening.of(faces).shared.std()) > 0
    assert torch.equal(Whitening.of(toy).shared, torch.ones(toy.w_dim))


def test_coordinates_go_there_and_back_and_have_the_size_of_the_population(toy, faces):
    for generator, tolerance in ((toy, 0.1), (faces, 0.3)):
        whitening = Whitening.of(generator)
        w = generator.mapping(normal(range(10_000, 12_000), generator.z_dim))
        ws = broadcast(w[:2], generator.num_layers)
        ws = ws + 0.1 * torch.randn(ws.shape, generator=torch.Generator().manual_seed(0))
        shared, own = whitening.coordinates(ws)
        assert_close(whitening.ws(shared + own), ws, atol=2e-3, rtol=1e-3)
        std = whitening.coordinates(broadcast(w, 1))[0][:, 0].std(dim=0)
        assert_close(std, torch.ones_like(std), atol=tolerance, rtol=0)


def test_axes_are_ordered_by_how_much_the_picture_changes(toy, tmp_path):
    gradients = torch.stack(list(whiten.view_gradients(toy, lambda image: (), range(80))))
    whitening = whiten.ordered(Whitening.plain(toy), gradients)
    assert bool((whitening.shared.diff() <= 0).all()) and whitening.layers.shape == (toy.num_layers, toy.w_dim)

    def changed(axis):  # by small steps along one axis
        ws = broadcast(toy.mapping(normal(range(900, 920), toy.z_dim)), toy.num_layers)
        return float((toy.synthesis(ws + 0.05 * whitening.axes[axis]) - toy.synthesis(ws)).square().mean())

    measured = [changed(axis) for axis in (0, 3, 8, 15)]
    assert measured == sorted(measured, reverse=True) and measured[0] > 50 * measured[-1]
    whitening.save(tmp_path / "toy.safetensors", toy, of="a test")
    tensors, description = checkpoint.load(tmp_path / "toy.safetensors", "space")
    assert description["generator"] == fingerprint(toy) and torch.equal(tensors["shared"], whitening.shared)


def test_the_shipped_whitening_is_true_of_unseen_faces(faces, portraits):
    whitening, ws, here = Whitening.of(faces), portraits.ws[:2], portraits.preview[:2]
    changes = [float((faces.preview(ws + 0.3 * whitening.axes[axis]) - here).square().mean()) for axis in (0, 20, 100, 400)]
    assert changes == sorted(changes, reverse=True) and changes[0] > 1000 * changes[-1]


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="tell 512 directions apart"):
        whiten.make(tmp_path / "space.safetensors", faces=10)


def test_w_mean_again_by_its_recipe(faces, tmp_path):
    w_mean.make(tmp_path / "mean.safetensors", faces=2000)
    mean, description = checkpoint.load(tmp_path / "mean.safetensors", "mean w")
    assert (mean["w_mean"] - faces.mapping(normal(range(2000), 512)).mean(0)).abs().max() < 1e-5
    _, shipped = checkpoint.load(WEIGHTS / "faces-w-mean.safetensors", "mean w")
    assert description["mapping_sha256"] == shipped["mapping_sha256"]
