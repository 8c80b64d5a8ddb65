"""recipes/limits.py: angles of known colors, expectations that are honest, and a table of today's networks."""

import limits
import numpy as np
import pytest
import torch

from dvlatent import checkpoint, images
from dvlatent.errors import ShapeError

TABLE = checkpoint.WEIGHTS / "faces-limits.safetensors"


def columns(lightness, yellow, identity):
    return {"lightness": torch.tensor(lightness).float(), "yellow": torch.tensor(yellow).float(), "identity": identity}


def test_the_angle_of_known_colors():
    """Lightness 10 above 50 at a yellow of 10 is 45 degrees; below 50 the angle is negative; no yellow counts as 5."""
    found = limits.angles(columns([60, 50, 40, 55], [10, 20, 10, -3], None))
    np.testing.assert_allclose(found, [45, 0, -45, 45], atol=1e-5)


def test_the_median_skin_does_not_mind_a_highlight():
    face = images.from_uint8(np.full((1, 256, 256, 3), (200, 160, 130), np.uint8))
    spoiled = face.clone()
    spoiled[:, :, 80:84, 104:152] = 1.0
    assert torch.equal(limits.skin_median(face), limits.skin_median(spoiled))


def test_an_expected_angle_follows_identity_and_nothing_else():
    """Where identity decides the angle, the expectation finds it; where light decides it, the expectation stays near the mean."""
    rng = np.random.RandomState(0)
    identity = torch.from_numpy(rng.randn(600, 128)).float()
    skin = 40 * np.tanh(identity[:, 0].numpy())
    for angle, bar in ((skin, 0.85), (rng.permutation(skin), None)):
        one = columns(50 + 20 * np.tan(np.radians(angle)), np.full(600, 20.0), identity)
        half = {name: value[:300] for name, value in one.items()}
        whole, again = limits.expected_angles(one, half)
        assert torch.allclose(whole[:300], again)  # a face of the second table is asked as in the first, by a fit without it
        seen = np.corrcoef(whole.numpy(), angle)[0, 1]
        assert seen > bar if bar else abs(seen) < 0.15


@pytest.mark.parametrize("wrong", [{"faces": 10}, {"tables": "drawn,tomorrow"}])
def test_what_cannot_be_measured_is_refused(tmp_path, wrong):
    with pytest.raises(ShapeError, match="40 faces or more"):
        limits.make(tmp_path / "a.safetensors", **wrong)


@torch.no_grad()
def test_the_shipped_table_is_of_the_shipped_networks():
    """Two faces measured again. If the filter is newer than the table: python recipes/limits.py --out ... --tables aged"""
    tables, about = checkpoint.load(TABLE, "limits")
    known = {name: dict(zip(about["columns"][name], rows.T, strict=True)) for name, rows in tables.items()}
    readers, draw = limits.Readers(), limits.natural
    for row in (0, 7):
        face = draw(readers.faces, readers.faces.preview, about["first_seed"] + row, 1.0)
        aged = readers.against(face, limits.as_bytes(readers.filter(face, about["strength"])))
        for name, found in (("drawn", readers.read(face)), ("inverted", readers.against(face, readers.inverted(face))), ("aged", aged)):
            for column in ("age", "lightness", "yellow"):
                assert abs(float(known[name][column][row]) - float(found[column])) < 0.5, f"{name}: {column} of face {row}"
