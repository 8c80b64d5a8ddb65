"""The file of an inversion: exact, small, and nothing else is read as one."""

import io
import zipfile

import numpy as np
import pytest
import torch

from dvlatent.errors import CheckpointError, DirectionMismatch
from dvlatent.faces.align import Alignment
from dvlatent.inversion.inversion import Inversion
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces

pytestmark = pytest.mark.usefixtures("one_thread")

PLACE = Alignment(((0.1, 1 / 3), (0.25, 80.5), (90.0, 79.0), (89.0, -3.5)), (100, 120))


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


@pytest.fixture(scope="module")
def mine(toy):
    photos = toy.synthesis(broadcast(toy.mapping(normal([1, 2], toy.z_dim)), 3))
    *_, step = invert(toy, photos, InvertConfig(steps=4, seconds=None, space="w+"))
    return step.inversion(PLACE, row=1), step


def test_a_step_becomes_an_inversion_of_one_of_its_photos(toy, mine):
    inversion, step = mine
    assert torch.equal(inversion.ws, step.ws[1:]) and inversion.history.tolist() == [float(loss[1]) for loss in step.losses]
    assert inversion.config["steps"] == 4 and inversion.alignment == PLACE
    inversion.check(toy)


def test_saved_and_loaded_it_draws_the_same_picture_to_the_bit(toy, mine, tmp_path):
    inversion, step = mine
    inversion.save(tmp_path / "mine.npz")
    again = Inversion.load(tmp_path / "mine.npz")
    assert torch.equal(again.ws, inversion.ws) and torch.equal(again.history, inversion.history)
    assert (again.generator, again.alignment, again.config) == (inversion.generator, inversion.alignment, inversion.config)
    assert torch.equal(toy.synthesis(again.ws), step.image[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_the_wrong_generator_is_refused(mine):
    with pytest.raises(DirectionMismatch, match="invert the photo again"):
        mine[0].check(ToyFaces(resolution=32, seed=1))


def test_bad_places_are_refused(mine, tmp_path):
    with pytest.raises(CheckpointError, match="npz"):
        mine[0].save(tmp_path / "mine.png")
    with pytest.raises(CheckpointError, match="folder"):
        mine[0].save(tmp_path / "nowhere" / "mine.npz")


def test_what_is_no_inversion_is_refused_and_never_run(mine, tmp_path):
    path = tmp_path / "other.npz"

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    mine[0].save(path)
    whole = path.read_bytes()
    good = dict(np.load(path))
    bad = {name: values[: len(values) // 2] for name, values in good.items()}
    files = {
        "missing": None,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"hello",
        "object": _npz({**good, "ws": np.array([Bomb()], dtype=object)}),
        "less": _npz({"ws": good["ws"]}),
        "more": _npz({**good, "more": good["ws"]}),
        "halved": _npz(bad),
        "whole numbers": _npz({**good, "ws": good["ws"].astype(int)}),
        "two": _npz({**good, "ws": good["ws"].repeat(2, axis=0)}),
        "nan": _npz({**good, "ws": good["ws"] * np.nan}),
        "other kind": _npz({**good, "description": np.frombuffer(b'{"kind": "cake"}', np.uint8)}),
        "list": _npz({**good, "description": np.frombuffer(b"[1]", np.uint8)}),
        "deep": _npz({**good, "description": np.frombuffer(b"[" * 100_000, np.uint8)}),
        "large": _bomb(),
        "claims more than it has": _claiming(good, (9, 9**13)),
    }
    for name, data in files.items():
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(CheckpointError, match="is no inversion"):
            Inversion.load(path)
            pytest.fail(name)
    assert not (tmp_path / "ran").exists()


def _npz(arrays: dict) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _claiming(arrays: dict, shape: tuple[int, ...]) -> bytes:
    """A file whose ws say that they are larger than they are."""
    file, header = io.BytesIO(_npz({name: values for name, values in arrays.items() if name != "ws"})), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("ws.npy", header.getvalue() + bytes(64))
    return file.getvalue()


def _bomb() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("ws.npy", "w") as member:
        for _ in range(80):
            member.write(bytes(2**20))
    return file.getvalue()
