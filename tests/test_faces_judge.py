"""The judge: it reads pictures of any size alike, and is as good as its file says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent import checkpoint, load
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import ShapeError
from dvlatent.faces import judge as module
from dvlatent.faces.judge import Judge, SharpJudge, glasses_labels

RECORDED = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def blank():
    torch.manual_seed(0)
    return Judge(width=4).eval()


@pytest.mark.parametrize("times", [2, 3, 10])
def test_a_larger_picture_of_the_same_pixels_reads_the_same(blank, times):
    """Reduced by area, every pixel written `times` by `times` times is that pixel again."""
    face = torch.from_numpy(np.random.RandomState(0).uniform(-1, 1, (2, 3, 96, 96))).float()
    large = face.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    assert_close(blank(large), blank(face), atol=1e-3, rtol=1e-4)


def test_a_gradient_reaches_every_part_of_a_photo(judge, recorded_faces):
    for column in range(4):
        photo = recorded_faces[:1].clone().requires_grad_()
        judge(photo)[0, column].backward()
        parts = F.avg_pool2d(photo.grad.abs(), 64)
        assert photo.grad.isfinite().all() and (parts > 0).all()


def test_glasses_labels_cover_the_three_parts():
    labels = glasses_labels()
    find, learn, unseen = ([labels[seed] for seed in labels if low <= seed < low + 10_000] for low in (0, 10_000, 20_000))
    assert sum(find) >= 80 and sum(learn) >= 150 and 50 <= sum(unseen) <= 110
    assert sorted(seed for seed in labels if seed >= 20_000)[-1] < 20_400 and len(unseen) >= 390  # one run of seeds, none chosen
    text = json.loads(Path(module.__file__).with_name("glasses.json").read_text())
    assert not set(text["with"]) & set(text["without"]) and not set(text["unsure"]) & set(labels)
    assert len(text["with"]) + len(text["without"]) == len(labels) and text["psi"] == 1.0


def test_the_shipped_judge_agrees_with_the_original_package(judge, recorded_faces):
    """Faces of psi 0.7 that neither the judge nor the labels of its training saw; recorded with the package's own detector and chips."""
    scores, theirs = judge(recorded_faces).numpy(), RECORDED["theirs"][: len(recorded_faces)]
    assert np.abs(scores[:, 0] - theirs[:, 0]).mean() < 8
    assert ((scores[:, 1] > 0.5) == (theirs[:, 1] > 0.5)).mean() >= 0.75


def test_the_file_says_what_the_judge_is_worth():
    path = WEIGHTS / "judge.safetensors"
    _, description = checkpoint.load(path, "judge")
    assert path.stat().st_size < 4_000_000 and tuple(description["names"]) == Judge.names
    scores = description["scores"]["previews at psi 1"]
    assert scores["faces"] == 1000 and scores["age"]["mae"] < 6
    assert scores["male"]["accuracy"] > 0.88 and scores["smile"]["correlation"] > 0.8
    assert scores["glasses"]["faces"] >= 390 and scores["glasses"]["accuracy"] > 0.9
    assert {"previews at psi 0.7", "full renders at psi 0.7"} <= set(description["scores"])


@pytest.fixture(scope="module")
def sharp():
    torch.manual_seed(0)
    return SharpJudge(load("perceptual").network, width=8).eval()


def test_the_sharp_judge_sees_lines_that_the_judge_cannot(sharp, recorded_faces):
    """Lines two pixels wide on a face of 256: a third of the description moves, and nothing that is read at 32 px does."""
    face, lines = recorded_faces[:1], torch.zeros(1, 1, 256, 256)
    lines[..., 80:100:4, 90:166] = 0.15
    lines[..., 82:102:4, 90:166] = -0.15
    moved = (sharp.describe(face + lines) - sharp.describe(face)).abs() / sharp.describe(face).abs().clamp_min(0.1)
    assert (moved > 0.05).float().mean() > 0.1
    assert F.adaptive_avg_pool2d(lines, 32).abs().max() < 0.02


def test_the_sharp_judge_reads_any_size_and_gives_gradients(sharp, recorded_faces):
    photo = recorded_faces[:2].clone().requires_grad_()
    large = recorded_faces[:2].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close(sharp.describe(large), sharp.describe(photo), atol=0.5, rtol=0.2)
    sharp(photo)[:, 0].sum().backward()
    assert photo.grad.isfinite().all() and photo.grad[..., 60:220, 50:200].abs().max() > 0
    with pytest.raises(ShapeError):
        sharp(torch.zeros(1, 1, 256, 256))


def test_the_weights_of_the_sharp_judge_are_its_own(sharp):
    """The network that it looks through belongs to others and stays out of its file."""
    assert set(name.split(".")[0] for name in sharp.state_dict()) == {"mean", "std", "unit", "head"}
