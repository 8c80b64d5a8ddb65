"""Shared by all tests: one thread a process, checked shapes on request, networks loaded once, a few faces drawn once a run.

Tests marked `shapes` run with every shape and type in the signatures of the floor files checked.
"""

import io
import os
import signal
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run beside each other, one core each; before torch is imported

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from jaxtyping import config as shapes
from jaxtyping import install_import_hook

HOOKED = [f"dvlatent.{name}" for name in ("types", "latents", "images", "video", "directions")]  # before anything of dvlatent is imported
install_import_hook(HOOKED, "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))")  # 1 passes for 1.0
shapes.update("jaxtyping_disable", True)

settings.register_profile("laws", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("laws")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: the processes of our tests must hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "shapes: check the shapes in signatures while this test runs (unless its name says refuse)")


def pytest_runtest_setup(item):
    refusal = "refuse" in item.name  # our own words are tested there, and the check would speak first
    shapes.update("jaxtyping_disable", refusal or item.get_closest_marker("shapes") is None)


def pytest_xdist_auto_num_workers(config):
    """For `-n auto`: one process a core, as long as each has two gigabytes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / 2e9)))


def loaded(name):
    """A network or data set that `dvlatent.load` knows, once a process. Tests may not change it."""

    @pytest.fixture(scope="session", name=name)
    def fixture():
        from dvlatent.zoo import load

        return load(name)

    return fixture


NAMES = ("faces", "attributes", "landmarks", "identity", "aligner", "perceptual", "judge", "mnist")
faces, attributes, landmarks, identity, aligner, perceptual, judge, mnist = map(loaded, NAMES)


@pytest.fixture(scope="session")
def photo():
    """The astronaut Eileen Collins (NASA, public domain), [1, 3, 512, 512]; do not change her."""
    from dvlatent import images

    return images.from_uint8(pytest.importorskip("skimage.data").astronaut())


@pytest.fixture(scope="session")
def recorded_faces():
    """Twelve generated faces at psi 0.8, [12, 3, 256, 256]; do not change them. The file also has what others read from them."""
    from dvlatent import images

    kept = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)
    files = np.split(kept["jpegs"], np.cumsum(kept["jpeg_sizes"])[:-1])
    return torch.cat([images.read(io.BytesIO(file.tobytes())) for file in files])


class Portraits(NamedTuple):
    """Four faces at psi 0.7, as they were drawn; do not change them."""

    seeds: list[int]
    ws: torch.Tensor  # [4, 16, 512]
    full: torch.Tensor  # [4, 3, 1024, 1024]
    preview: torch.Tensor  # [4, 3, 256, 256]


@pytest.fixture(scope="session")
def portraits(faces, tmp_path_factory):
    """Drawn once a run: the processes of a run share a file."""
    from dvlatent.latents import broadcast, normal, truncate

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with FileLock(folder / "portraits.lock"):
        if not (folder / "portraits.pt").exists():
            seeds = [1, 4, 85, 265]
            ws = truncate(broadcast(faces.mapping(normal(seeds, faces.z_dim)), faces.num_layers), toward=faces.w_mean, psi=0.7)
            with torch.no_grad():
                full, preview = (torch.cat([draw(one) for one in ws.split(1)]) for draw in (faces.synthesis, faces.preview))
            torch.save((seeds, ws, full, preview), folder / "portraits.pt")
        return Portraits(*torch.load(folder / "portraits.pt"))
