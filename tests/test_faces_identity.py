"""Identity: the network agrees with dlib's own to rounding, and tells people apart."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent import images
from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken
from dvlatent.faces.identity import SAME_PERSON_BELOW, Identity, chip, read_dat

NETWORK = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
POINTS = "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"


@pytest.fixture(scope="module")
def theirs():
    import dlib

    return dlib.face_recognition_model_v1(str(asset_path(NETWORK)))


def test_the_network_is_dlibs(identity, theirs, recorded_faces):
    chips = images.to_uint8(chip(recorded_faces[:3], identity.landmarks.points(recorded_faces[:3])))
    wanted = np.array([theirs.compute_face_descriptor(np.ascontiguousarray(one)) for one in chips], np.float32)
    assert_close(identity.network(images.from_uint8(chips)), torch.from_numpy(wanted), atol=1e-5, rtol=0.0)


def test_the_whole_way_is_dlibs(identity, theirs, recorded_faces):
    """From picture to 128 numbers, given the same landmarks: what the two ways of sampling the chip differ by is small."""
    import dlib

    for face in recorded_faces[:3].split(1):
        points = [dlib.point(round(x), round(y)) for x, y in identity.landmarks.points(face)[0].tolist()]
        wanted = theirs.compute_face_descriptor(images.to_uint8(face)[0], dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), points))
        assert identity.distance(identity(face), torch.tensor([list(wanted)])) < 0.1


def test_different_faces_are_different_people(identity, recorded_faces):
    found = identity(recorded_faces)
    distances = torch.cdist(found, found)[torch.triu_indices(12, 12, 1).unbind()]
    assert (distances > SAME_PERSON_BELOW).float().mean() > 0.9


@pytest.mark.parametrize(("size", "near"), [(1024, 0.05), (128, 0.35)])
def test_a_face_is_itself_at_every_size(identity, recorded_faces, size, near):
    assert identity.distance(identity(recorded_faces[:3]), identity(images.resize(recorded_faces[:3], size))).max() < near


def test_a_mirrored_or_darkened_face_is_the_same_person(identity, recorded_faces):
    here = identity(recorded_faces[:3])
    assert identity.distance(here, identity(recorded_faces[:3].flip(-1))).max() < 0.4
    assert identity.distance(here, identity(0.7 * recorded_faces[:3] - 0.2)).max() < 0.4


def test_a_gradient_reaches_the_picture(identity, recorded_faces):
    image = recorded_faces[:1].clone().requires_grad_()
    identity.distance(identity(image), identity(recorded_faces[1:2])).sum().backward()
    assert image.grad.abs().sum() > 0 and torch.isfinite(image.grad).all()


def test_broken_networks_are_refused_in_words(tmp_path):
    whole = asset_path(NETWORK).read_bytes()
    (tmp_path / "cut.dat").write_bytes(whole[:5_000_000])
    with pytest.raises(AssetBroken, match="cut short"):
        read_dat(tmp_path / "cut.dat")
    (tmp_path / "text.dat").write_text("no network")
    with pytest.raises(AssetBroken, match="no network"):
        read_dat(tmp_path / "text.dat")
    with pytest.raises(AssetBroken, match="cannot be read"):
        read_dat(tmp_path / "missing.dat")
    with pytest.raises(AssetBroken, match="do not make"):
        (tmp_path / "part.dat").write_bytes(whole[:19_383])
        Identity(tmp_path / "part.dat", asset_path(POINTS))
