"""The shapes in signatures are true, the protocols take any class, the fingerprint names a W."""

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from dvlatent.directions import Direction
from dvlatent.latents import broadcast, mix
from dvlatent.types import Generator, Predictor, fingerprint

HERE = Path(__file__).parent
SHAPES = bool(os.environ.get("DVLATENT_SHAPES"))  # conftest.py then checks every signature
CHECKED = ["test_rng.py", "test_latents.py", "test_directions.py", "test_images.py", "test_types.py"]


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


@pytest.mark.skipif(not SHAPES, reason="runs inside the test below")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: broadcast(torch.zeros(2, 3, 4), 3),  # three axes where W has two
        lambda: broadcast(torch.zeros(2, 4, dtype=torch.long), 3),  # not floats
        lambda: mix(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), "all"),  # one w is longer
        lambda: Direction("smile", torch.eye(4)[0], step=2).coordinate(torch.zeros(2, 4)),  # w where ws belongs
    ],
)
def test_a_wrong_shape_is_caught_at_run_time(wrong):
    with pytest.raises(TypeCheckError):
        wrong()


@pytest.mark.skipif(SHAPES, reason="is running")
def test_the_laws_hold_with_every_signature_checked():
    laws = [str(path) for path in map(HERE.joinpath, CHECKED)]
    quick = "not refuse and not film and not mp4 and not damage and not progress"  # refusals meet the shape check first
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", quick, *laws]
    environment = {**os.environ, "DVLATENT_SHAPES": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
