"""The face check: a detector that never saw a generator is sure of intact faces, and of nothing else."""

import pytest
import torch

from dvlatent import images
from dvlatent.faces.detector import NOT_FOUND, FaceCheck


@pytest.fixture(scope="module")
def face_check():
    return FaceCheck()


@pytest.fixture(scope="module")
def scores(face_check, recorded_faces):
    return face_check(recorded_faces)


def test_generated_faces_are_intact_and_alone(scores):
    sure, others = scores.T
    assert (sure > 0.4).float().mean() >= 0.9 and (others < 0.3).all()


def test_other_pictures_are_not_faces(face_check, recorded_faces):
    upside_down, gray = recorded_faces[:5].flip(2), torch.zeros(1, 3, 256, 256)
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sure = face_check(torch.cat([upside_down, noise, gray]))[:, 0]
    assert (sure[:5] < 0.4).sum() >= 4 and sure[5] < 0.4 and sure[6] == NOT_FOUND


def test_a_melted_face_is_less_sure(face_check, recorded_faces, scores):
    melted = recorded_faces[:6].clone()
    melted[:, :, 100:200] = melted[:, :, 100:200].roll(60, -1)  # the middle of the face slides aside
    assert (face_check(melted)[:, 0] < scores[:6, 0]).all()


def test_a_second_face_is_noticed(face_check, recorded_faces):
    two = torch.zeros(1, 3, 512, 512)
    two[..., 180:436, 0:256], two[..., 180:436, 256:512] = recorded_faces[:1], recorded_faces[1:2]  # side by side, none in the center
    sure, others = face_check(two)[0].tolist()
    assert sure == NOT_FOUND and others > 0.4


def test_size_matters_little(face_check, recorded_faces, scores):
    assert (face_check(images.resize(recorded_faces[:3], 512)) - scores[:3])[:, 0].abs().max() < 0.7
