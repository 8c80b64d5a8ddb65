"""The filters that we ship: what their files say, the same outputs from ONNX, and that they do to unseen faces what their name says."""

import onnxruntime
import pytest
import torch
from torch.testing import assert_close

import dvlatent
from dvlatent.checkpoint import WEIGHTS
from dvlatent.distillation.filter import export_onnx
from dvlatent.latents import w_of
from dvlatent.metrics.blobs import blobs
from dvlatent.zoo import available

NAMES = [name for name in available() if name.endswith("-filter") and name != "fuller-filter"]  # which test_distillation_warp.py tests
READ = {"age": "age", "gender": "male", "smile": "smile"}  # what the judge reads of each


@pytest.fixture(scope="module")
def people(faces):
    """Four unseen faces, [4, 3, 256, 256]."""
    with torch.no_grad():
        return faces.preview(dvlatent.broadcast(w_of(faces, range(510_000, 510_004), 0.7), faces.num_layers)).clamp(-1, 1)


@pytest.fixture(scope="module", params=NAMES)
def one(request):
    return dvlatent.load(request.param)


def test_age_is_among_them():
    assert "age-filter" in NAMES


def test_the_file_is_small_and_says_how_to_make_it_again(one):
    assert (WEIGHTS / f"{one.name}-filter.safetensors").stat().st_size <= 8_000_000
    assert one.about["command"] == f"python recipes/filters.py {one.name} --out {one.name}-filter.safetensors"
    assert set(one.about["scores"]) >= {"as drawn", "occluded", "JPEG 20"} and one.about["pairs"] > 100


def test_onnx_runtime_gives_the_same_pictures(one, people, tmp_path):
    session = onnxruntime.InferenceSession(export_onnx(one, tmp_path / "one.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    strength = torch.tensor([one.low, -0.5, 1.0, one.high])
    (given,) = session.run(None, {"image": people.numpy(), "strength": strength.numpy()})
    assert_close(torch.from_numpy(given), one.network(people, strength), atol=1e-4, rtol=0)


def test_it_does_what_its_name_says_and_makes_no_blobs(one, people, judge):
    column = judge.names.index(READ[one.name])
    less, more = one(people, one.low), one(people, one.high)
    before, low, high = (judge(picture)[:, column].mean() for picture in (people, less, more))
    assert low < before < high
    assert not any(blobs(people, less)) and not any(blobs(people, more))


def test_the_way_without_pairs_is_there_to_compare_with(people):
    cyclegan = dvlatent.load("age-cyclegan")
    with torch.no_grad():
        old, young = cyclegan(people, 2.0), cyclegan(people, -2.0)
    assert old.shape == people.shape and bool(torch.isfinite(old).all())
    assert float((old - young).abs().mean()) > 0.05  # two generators, not one
    assert "recipes/cyclegan.py" in cyclegan.about["command"]
