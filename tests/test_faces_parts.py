"""Skin and hair of a face: fractions that add up to one, at the picture's size, where they are on generated faces."""

import pytest
import torch

from dvlatent import load
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, w_of


@pytest.fixture(scope="module")
def parts():
    return load("face-parts")


@pytest.fixture(scope="module")
def face():
    faces = load("faces")
    return faces.preview(broadcast(w_of(faces, [20_005], 0.7), faces.num_layers))


def test_fractions_add_up_to_one_at_any_size(parts):
    found = parts(torch.rand(2, 3, 128, 128) * 2 - 1)
    assert found.shape == (2, 3, 128, 128)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 128, 128))


def test_cheeks_are_skin_and_corners_are_not(parts, face):
    rest, skin, _ = parts(face)[0]
    assert skin[140:168, 76:102].mean() > 0.9 and skin[140:168, 154:180].mean() > 0.9
    assert rest[:16, :16].mean() > 0.8
    assert parts.subject(face)[0, 140:168, 76:102].mean() > 0.9


def test_pictures_that_are_not_faces_are_refused(parts):
    with pytest.raises(ShapeError, match="aligned"):
        parts(torch.zeros(1, 3, 64, 32))
