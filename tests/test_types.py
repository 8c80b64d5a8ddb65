"""The shapes in signatures are true, the protocols take any class, the fingerprint names a W."""

import hashlib
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from jaxtyping import config as shapes

from dvlatent.directions import Direction
from dvlatent.errors import ShapeError
from dvlatent.images import resize
from dvlatent.latents import broadcast, lerp, mix
from dvlatent.types import Generator, Predictor, fingerprint

pytestmark = pytest.mark.shapes


class Mine:
    """A generator as a student might write it in a notebook, made of no class of ours."""

    z_dim, w_dim, num_layers, resolution, w_mean = 4, 4, 3, 8, torch.arange(4.0)

    def mapping(self, z):
        return z

    def synthesis(self, ws):
        return ws.mean((1, 2)).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def named(**changes):
    mine = Mine()
    vars(mine).update(changes)
    return mine


@pytest.mark.parametrize(
    "change",
    [
        {"w_mean": torch.arange(4.0) + torch.tensor([0, 0, 0, 1e-6])},
        {"w_mean": torch.arange(4.0).flip(0)},
        {"z_dim": 5},
        {"num_layers": 4},
        {"resolution": 16},
    ],
)
def test_fingerprint_changes_with_what_makes_a_w(change):
    assert fingerprint(named(**change)) != fingerprint(named())


@pytest.mark.parametrize(
    "same",
    [
        {"w_mean": torch.arange(4.0, requires_grad=True)},
        {"w_mean": torch.arange(4.0).double()},
        {"w_mean": torch.arange(8.0)[::2] / 2},
        {"num_layers": np.int64(3)},
    ],
)
def test_fingerprint_does_not_change_with_how_it_is_held(same):
    assert fingerprint(named(**same)) == fingerprint(named())


def test_fingerprint_is_the_same_tomorrow():
    written = b"(4, 4, 3, 8)" + struct.pack("<4f", 0, 1, 2, 3)
    assert fingerprint(named()) == hashlib.sha256(written).hexdigest()[:12] == "cb3cd279d35b"


def test_a_class_written_in_a_notebook_is_a_generator():
    assert isinstance(Mine(), Generator)
    assert not isinstance(Mine(), Predictor)
    assert not isinstance(SimpleNamespace(**{name: 1 for name in ("z_dim", "w_dim", "num_layers", "resolution", "w_mean")}), Generator)


WRONG = {
    "three axes where W has two": lambda: broadcast(torch.zeros(2, 3, 4), 3),
    "whole numbers": lambda: broadcast(torch.zeros(2, 4, dtype=torch.long), 3),
    "one w is longer": lambda: mix(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), "all"),
    "w where ws belongs": lambda: Direction("smile", torch.eye(4)[0], step=2).coordinate(torch.zeros(2, 4)),
    "no length": lambda: resize(torch.zeros(1, 3, 4, 4), "large"),
    "no generator": lambda: fingerprint(torch.zeros(4)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_shape_is_caught_at_run_time(kind):
    with pytest.raises(TypeCheckError):
        WRONG[kind]()


def test_a_signature_that_lies_is_caught_at_run_time(monkeypatch):
    monkeypatch.setattr("dvlatent.latents._column", lambda t, a, b: t.view(-1, 1, 1))  # gives lerp's answer one axis too many
    with pytest.raises(TypeCheckError, match="return"):
        lerp(torch.zeros(1, 4), torch.ones(1, 4), torch.zeros(3))


def test_without_the_mark_our_own_words_are_heard():
    shapes.update("jaxtyping_disable", True)  # as conftest.py does for every test that is not marked
    with pytest.raises(ShapeError, match="Is it ws already"):
        WRONG["three axes where W has two"]()
