"""Cleanness: a detector that never saw a generator is sure of good faces, and of nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.faces.detector import NONE, Clean

RECORDED = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def faces():
    """Twelve generated faces, 256 px."""
    files = np.split(RECORDED["jpegs"], np.cumsum(RECORDED["jpeg_sizes"])[:-1])[:12]
    return images.from_uint8(np.stack([np.asarray(Image.open(io.BytesIO(file.tobytes()))) for file in files]))


def test_faces_are_clean_and_alone(faces):
    sure, others = Clean()(faces).T
    assert (sure > 0.4).float().mean() >= 0.9 and (others < 0.3).all()


def test_what_is_no_face_is_not_clean(faces):
    upside_down, grey = faces.flip(2), torch.zeros(2, 3, 256, 256)
    noise = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for wrong in (upside_down, grey, noise):
        assert (Clean()(wrong)[:, 0] < 0.4).float().mean() >= 0.8
    assert Clean()(grey).tolist() == [[NONE, NONE]] * 2


def test_a_melted_face_is_less_sure(faces):
    melted = faces.clone()
    melted[:, :, 100:200] = melted[:, :, 100:200].roll(60, -1)  # the middle of the face slides aside
    assert (Clean()(melted)[:, 0] < Clean()(faces)[:, 0]).float().mean() >= 0.9


def test_a_second_face_is_noticed(faces):
    two = torch.zeros(1, 3, 512, 512)
    two[..., 180:436, 0:256], two[..., 180:436, 256:512] = faces[:1], faces[1:2]  # side by side, neither in the middle
    sure, others = Clean()(two)[0].tolist()
    assert sure == NONE and others > 0.4


def test_size_matters_little_and_other_shapes_are_refused(faces):
    large = images.resize(faces[:3], 512)
    assert (Clean()(large) - Clean()(faces[:3]))[:, 0].abs().max() < 0.7
    assert Clean()(faces[:0]).shape == (0, 2)
    for wrong in (torch.zeros(1, 3, 64, 64), torch.zeros(3, 256, 256), torch.zeros(1, 3, 256, 200)):
        with pytest.raises(ShapeError, match="square aligned faces"):
            Clean()(wrong)
