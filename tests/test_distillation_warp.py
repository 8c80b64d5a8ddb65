"""Filters that move pixels: nothing at strength 0 and at the edges, the flow as asked for, the same pixels in photos and from ONNX."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.testing import assert_close

import dvlatent
from dvlatent import images
from dvlatent.distillation.filter import Filter, apply_to_photo, changes, export_onnx, export_web, faces_of
from dvlatent.distillation.warp import LARGEST, WarpNetwork
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.faces.align import Alignment
from dvlatent.faces.landmarks import MIRRORED, fullness

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import fuller_filter as recipe


class Shift(WarpNetwork):
    """Takes every pixel, but those near the edges, from a sixteenth of the side further right."""

    def flow(self, image, strength):
        flow = torch.zeros(len(image), 2, 32, 32)
        flow[:, 0, 2:-2, 2:-2] = 0.125
        return flow * strength.view(-1, 1, 1, 1) / self.reach


@pytest.fixture(scope="module")
def shift(aligner):
    return Filter(Shift(), "fuller", aligner=aligner)


@pytest.fixture(scope="module")
def fuller():
    return dvlatent.load("fuller-filter")


def noise(size, seed=0):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", [64, 256, 512])
def test_pixels_come_from_where_the_flow_says(shift, size):
    """A sixteenth of the side is a whole number of pixels, so they are the same ones, at any size."""
    face, by, inner = noise(size), size // 16, slice(size // 4, 3 * size // 4)
    moved = shift(face, 2.0)
    assert_close(moved[..., inner, inner], face[..., inner, size // 4 + by : 3 * size // 4 + by], atol=1e-3, rtol=0)
    assert_close(moved[..., 0], face[..., 0], atol=0.05, rtol=0)  # the edges stay
    assert torch.equal(shift(face, 0.0), face)


def test_a_flow_is_in_proportion_to_strength_bounded_and_zero_at_the_edges():
    torch.manual_seed(0)
    net, face, strength = WarpNetwork(), noise(256), torch.tensor([2.0, 1.0, -2.0])
    with torch.no_grad():
        net.out.weight.mul_(1000)  # far too bold
        full, half, minus = net.flow(face.expand(3, -1, -1, -1), strength)
    assert_close(half, full / 2) and not torch.allclose(minus, -full, atol=0.01)  # each sign has its own field
    assert 0.9 * LARGEST < float(full.abs().max()) <= LARGEST
    assert float(torch.cat([full[:, 0], full[:, -1], full[:, :, 0], full[:, :, -1]]).abs().max()) == 0


def test_a_photo_keeps_its_own_sharpness(shift):
    """In a photo of three times the size that is looked at, pixels are the photo's own; outside the square every bit stays."""
    photo = noise(1000)
    square = Alignment(((99.5, 99.5), (99.5, 867.5), (867.5, 867.5), (867.5, 99.5)), (1000, 1000))  # 768 px: 48 are a sixteenth
    shift._aligner, kept = type("Known", (), {"find": lambda self, photo: [square]})(), shift._aligner
    edited = shift.apply_to_photo(photo, 2.0)
    shift._aligner = kept
    assert_close(edited[..., 400:600, 400:600], photo[..., 400:600, 448:648], atol=2e-3, rtol=0)
    assert torch.equal(edited[..., :99], photo[..., :99]) and torch.equal(edited[..., 868:, :], photo[..., 868:, :])


def test_colors_are_added_before_pixels_are_moved(shift, photo):
    brighter = Filter(lambda image, strength: image + 0.1 * strength.view(-1, 1, 1, 1), "age", aligner=shift.aligner)
    both = [apply_to_photo(photo, steps) for steps in ([(shift, 1.0), (brighter, 1.0)], [(brighter, 1.0), (shift, 1.0)])]
    assert torch.equal(*both)
    apart, inside = shift.apply_to_photo(brighter.apply_to_photo(photo, 1.0), 1.0), (..., slice(100, 160), slice(190, 250))
    assert float((both[0] - apart)[inside].abs().mean()) < 0.005 < 0.1 < float((both[0] - photo)[inside].abs().mean())


def test_bytes_are_moved_as_floats_are(shift, photo):
    pixels = images.to_uint8(photo)[0]
    picture, steps = images.Picture(pixels), [(shift, 1.0)]
    edited = picture.changed(changes(picture.shown, steps, faces_of(picture.shown, steps)))
    assert np.abs(edited.pixels.astype(int) - images.to_uint8(shift.apply_to_photo(photo, 1.0))[0]).max() <= 1


def test_the_page_refuses_what_it_cannot_do(shift, tmp_path):
    with pytest.raises(ShapeError, match="moves pixels"):
        export_web(shift, tmp_path)
    assert not list(tmp_path.iterdir())


def test_onnx_runtime_moves_the_same_pixels_at_any_size(fuller, recorded_faces, tmp_path):
    session = onnxruntime.InferenceSession(export_onnx(fuller, tmp_path / "one.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    strength = torch.tensor([-2.0, 1.5])
    for size in (256, 400):
        faces = images.resize(recorded_faces[:2], size)
        (given,) = session.run(None, {"image": faces.numpy(), "strength": strength.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(given), fuller.network(faces, strength), atol=2e-3, rtol=0)


def test_the_shipped_filter_widens_and_narrows_and_leaves_eyes_and_edges(fuller, recorded_faces, landmarks):
    faces = recorded_faces[:6]
    thin, wide = fuller(faces, -2.0), fuller(faces, 2.0)
    before, less, more = (landmarks.points(picture) for picture in (faces, thin, wide))
    assert float((fullness(more) / fullness(before)).median()) > 1.05 and float((fullness(less) / fullness(before)).median()) < 0.96
    assert float((more - before)[:, 36:48].norm(dim=2).mean()) < 2.5  # of 256 px
    assert float((wide - faces)[..., :16, :].abs().mean()) < 1 / 127.5


def test_a_file_of_another_shape_is_refused(tmp_path):
    from dvlatent import checkpoint

    tensors, about = checkpoint.load(checkpoint.WEIGHTS / "fuller-filter.safetensors", "filter")
    checkpoint.save(tmp_path / "odd.safetensors", tensors, {**about, "width": 8})
    with pytest.raises(CheckpointError, match="does not fit"):
        dvlatent.load(tmp_path / "odd.safetensors")


def test_the_jaw_goes_as_the_teachers_and_the_rest_stays(landmarks, recorded_faces):
    """Of a turned, larger, shifted face with a wider jaw and an open mouth, only the wider jaw is asked for."""
    face = landmarks.points(recorded_faces[:1]) / 128 - 1
    face = (face + face[:, MIRRORED] * torch.tensor([-1.0, 1.0])) / 2
    wider = face.clone()
    wider[:, :17, 0] *= 1.2
    odd = wider.clone()
    odd[:, 48:, 1] += 0.1
    turned = 1.5 * odd @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]]) + torch.tensor([3.0, -1.0])
    assert_close(recipe.asked(face, turned), wider, atol=1e-4, rtol=0)


def test_the_loss_is_least_for_the_flow_that_the_landmarks_ask_for():
    points = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    right = torch.zeros(1, 2, 32, 32)
    right[:, 0] = 0.1
    zero = recipe.losses(right, points + torch.tensor([0.1, 0.0]), points, torch.zeros(1, 32, 32))
    assert float(zero["jaw"]) < 1e-6 > float(zero["rest"]) and float(zero["smooth"]) == 0 and float(zero["still"]) == 0 < float(zero["far"])
    seen = recipe.losses(right, points, points, torch.ones(1, 32, 32))
    assert [float(seen[name]) for name in ("jaw", "rest")] == pytest.approx([0.05, 0.05]) and float(seen["still"]) > 0
