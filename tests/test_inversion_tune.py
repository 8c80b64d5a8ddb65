"""Pivotal tuning, on a generator of one layer whose every number can be followed."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.inversion.tune import TuneConfig, tune
from dvlatent.latents import normal
from dvlatent.toy.faces import ToyFaces

QUICK = TuneConfig(steps=30, parameters=r"paint\.(weight|bias)", lr=0.05, locality_weight=0)


class Painter(nn.Module):
    """w to a picture by one matrix."""

    z_dim = w_dim = 24
    num_layers, resolution = 2, 16

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.paint, self.other = nn.Linear(24, 3 * 16 * 16), nn.Linear(24, 1)
        self.register_buffer("w_mean", torch.zeros(24))
        self.requires_grad_(False)

    def mapping(self, z):
        return 2 * z

    def synthesis(self, ws):
        return self.paint(ws.mean(dim=1)).view(-1, 3, 16, 16) * 0.3


@pytest.fixture
def painter():
    return Painter()


@pytest.fixture
def photo():
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


WS = normal([7, 8], 24)[None]  # one face, two layers


def run(generator, photo, config=QUICK):
    *_, step = tune(generator, photo, WS, config)
    return step.tuned


def error(generator, photo):
    return float((generator.synthesis(WS) - photo).abs().mean())


def test_it_draws_the_photo_and_the_original_stays_equal_to_the_bit(painter, photo):
    before = copy.deepcopy(painter.state_dict())
    tuned = run(painter, photo)
    assert error(tuned, photo) < error(painter, photo) / 4
    assert all(torch.equal(before[name], now) for name, now in painter.state_dict().items())
    assert not any(parameter.requires_grad for parameter in painter.parameters())
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    assert torch.equal(tuned.other.weight, painter.other.weight)


def test_steps_start_at_the_generator_as_it_is_and_tuned_draws_the_step(painter, photo):
    steps = [(step, step.tuned.synthesis(WS).detach()) for step in tune(painter, photo, WS, QUICK)]
    assert torch.equal(steps[0][0].image, painter.synthesis(WS)) and len(steps) == 31
    assert all(torch.equal(step.image, picture) for step, picture in steps)
    assert steps[-1][0].loss < steps[0][0].loss / 4


@pytest.mark.parametrize("preview", [False, True])
def test_a_generator_tuned_by_full_renders_loses_its_preview(painter, photo, preview):
    painter.preview_head = nn.Linear(1, 1).requires_grad_(False)
    painter.preview = painter.synthesis
    tuned = run(painter, photo, replace(QUICK, preview=preview, steps=1))
    assert (tuned.preview_head is None) == (not preview) and painter.preview_head is not None


def test_locality_keeps_other_faces_as_they_were(painter, photo):
    far = normal(range(20, 60), 24)[:, None].expand(-1, 2, -1)
    changes = []
    for locality in (0.0, 10.0):
        tuned = run(painter, photo, replace(QUICK, locality_weight=locality, locality_every=1))
        changes.append(float((tuned.synthesis(far) - painter.synthesis(far)).abs().mean()))
    assert changes[1] < changes[0] / 1.5


def test_wrong_input_is_refused(painter, photo):
    with pytest.raises(ShapeError, match="no parameter"):
        next(tune(ToyFaces(resolution=16), photo, torch.zeros(1, 3, 32)))
    with pytest.raises(ShapeError, match="one photo"):
        run(painter, photo.expand(2, -1, -1, -1))
    with pytest.raises(ShapeError, match="locality_every"):
        TuneConfig(locality_every=0)
    with pytest.raises(TrainingDiverged, match="Lower the learning rate"):
        run(painter, photo, replace(QUICK, lr=1e38))
