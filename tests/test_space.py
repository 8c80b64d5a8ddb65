"""Coordinates of W that know how far the population goes and how much the picture answers."""

import pytest
import torch
from ship import ship_space
from torch.testing import assert_close

import dvlatent
from dvlatent import checkpoint
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint
from dvlatent.whitening import SHIPPED, Whitening, answers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


@pytest.fixture(scope="module")
def faces():
    return dvlatent.load("faces")


def test_what_is_shipped_belongs_to_the_faces_and_to_nobody_else(faces, toy):
    _, description = checkpoint.load(SHIPPED, "space")
    assert description["generator"] == fingerprint(faces) and "train space" in description["command"]
    assert float(Whitening.of(faces).shared.std()) > 0
    assert torch.equal(Whitening.of(toy).shared, torch.ones(toy.w_dim))


def test_coordinates_go_there_and_back_and_have_the_size_of_the_population(toy, faces):
    for generator, std in ((toy, 0.1), (faces, 0.3)):
        space = Whitening.of(generator)
        w = generator.mapping(normal(range(10_000, 12_000), generator.z_dim))
        ws = broadcast(w[:2], generator.num_layers)
        ws = ws + 0.1 * torch.randn(ws.shape, generator=torch.Generator().manual_seed(0))
        shared, own = space.coordinates(ws)
        assert_close(space.ws(shared + own), ws, atol=2e-3, rtol=1e-3)
        width = space.coordinates(broadcast(w, 1))[0][:, 0].std(dim=0)
        assert_close(width, torch.ones_like(width), atol=std, rtol=0)


def test_axes_are_ordered_by_how_much_the_picture_answers(toy):
    from dvlatent.faces.perceptual import Distance

    class Pixels(Distance):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def features(self, image):
            return ()

    space = Whitening.plain(toy).turned(torch.stack(list(answers(toy, Pixels(), range(200)))))
    assert bool((space.shared.diff() <= 0).all())

    def changed(axis):  # by small steps along one axis
        ws = broadcast(toy.mapping(normal(range(900, 920), toy.z_dim)), toy.num_layers)
        return float((toy.synthesis(ws + 0.05 * space.axes[axis]) - toy.synthesis(ws)).square().mean())

    measured = [changed(axis) for axis in (0, 3, 8, 15)]
    assert measured == sorted(measured, reverse=True) and measured[0] > 50 * measured[-1]
    assert_close(space.layers.shape, (toy.num_layers, toy.w_dim))


def test_the_shipped_space_is_true_of_unseen_faces(faces):
    space = Whitening.of(faces)
    ws = broadcast(dvlatent.truncate(faces.mapping(normal([600_000, 600_001], 512)), toward=faces.w_mean, psi=0.7), faces.num_layers)
    here = faces.preview(ws)
    changes = [float((faces.preview(ws + 0.3 * space.axes[axis]) - here).square().mean()) for axis in (0, 20, 100, 400)]
    assert changes == sorted(changes, reverse=True) and changes[0] > 1000 * changes[-1]


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="tell 512 directions apart"):
        ship_space(tmp_path / "space.safetensors", faces=10)
