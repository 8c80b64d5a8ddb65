"""Identity: the network agrees with dlib's own to rounding, and tells people apart."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dvlatent import images, load
from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.faces.identity import SAME_PERSON_BELOW, Identity, chip, read_dat
from dvlatent.types import Predictor

RECORDED = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)
NETWORK = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
POINTS = "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"


@pytest.fixture(scope="module")
def identity():
    return load("identity")


@pytest.fixture(scope="module")
def theirs():
    import dlib

    return dlib.face_recognition_model_v1(str(asset_path(NETWORK)))


@pytest.fixture(scope="module")
def kept():
    """Twelve generated faces, 256 px."""
    files = np.split(RECORDED["jpegs"], np.cumsum(RECORDED["jpeg_sizes"])[:-1])
    return images.from_uint8(np.stack([np.asarray(Image.open(io.BytesIO(file.tobytes()))) for file in files]))


def test_the_network_is_dlibs(identity, theirs, kept):
    chips = images.to_uint8(chip(kept[:3], identity.landmarks.points(kept[:3])))
    wanted = np.array([theirs.compute_face_descriptor(np.ascontiguousarray(one)) for one in chips], np.float32)
    assert_close(identity.network(images.from_uint8(chips)), torch.from_numpy(wanted), atol=1e-5, rtol=0.0)


def test_the_whole_way_is_dlibs(identity, theirs, kept):
    """From picture to 128 numbers, given the same landmarks: what the two ways of sampling the chip differ by is small."""
    import dlib

    for face in kept[:3].split(1):
        points = [dlib.point(round(x), round(y)) for x, y in identity.landmarks.points(face)[0].tolist()]
        wanted = theirs.compute_face_descriptor(images.to_uint8(face)[0], dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), points))
        assert identity.distance(identity(face), torch.tensor([list(wanted)])) < 0.1


def test_different_faces_are_different_people(identity, kept):
    found = identity(kept)
    apart = torch.cdist(found, found)[torch.triu_indices(12, 12, 1).unbind()]
    assert (apart > SAME_PERSON_BELOW).float().mean() > 0.9


@pytest.mark.parametrize(("size", "near"), [(1024, 0.05), (128, 0.35)])
def test_a_face_is_itself_at_every_size(identity, kept, size, near):
    assert identity.distance(identity(kept[:3]), identity(images.resize(kept[:3], size))).max() < near


def test_a_mirrored_or_darkened_face_is_the_same_person(identity, kept):
    here = identity(kept[:3])
    assert identity.distance(here, identity(kept[:3].flip(-1))).max() < 0.4
    assert identity.distance(here, identity(0.7 * kept[:3] - 0.2)).max() < 0.4


def test_a_gradient_reaches_the_picture(identity, kept):
    image = kept[:1].clone().requires_grad_()
    identity.distance(identity(image), identity(kept[1:2])).sum().backward()
    assert image.grad.abs().sum() > 0 and torch.isfinite(image.grad).all()


def test_is_a_predictor_and_takes_each_face_alone(identity, kept):
    assert isinstance(identity, Predictor) and len(identity.names) == 128
    assert identity(kept[:0]).shape == (0, 128)
    assert_close(identity(kept[:2]), torch.cat([identity(face) for face in kept[:2].split(1)]), atol=1e-5, rtol=1e-4)
    assert identity.distance(identity(kept[:2]), identity(kept[:2])).shape == (2,)


def test_wrong_pictures_are_refused(identity):
    with pytest.raises(ShapeError, match="square aligned faces"):
        identity(torch.zeros(1, 3, 256, 200))


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
