"""The quick look: close to the full picture, every w heard, and trained again by a tested command."""

import numpy as np
import pytest
import torch
from preview import PreviewConfig, preview_scores, render_pool, train_preview, training_ws

from dvlatent import broadcast, checkpoint, load, normal, truncate
from dvlatent.checkpoint import WEIGHTS
from dvlatent.cli.main import main
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN


@pytest.fixture(scope="module")
def faces():
    return load("faces")


def test_the_shipped_head_is_close_to_the_full_picture(faces):
    """A few of the 200 faces of `make bench`; MODELS.md has the whole measurement."""
    scores = preview_scores(faces, load("attributes"), faces=8, psi=0.7)
    _, shipped = checkpoint.load(WEIGHTS / "faces-preview.safetensors", "preview head")
    assert abs(scores["psnr_db"] - shipped["scores"]["psnr_db"]) < 2
    assert scores["median_change_age"] < 4


def test_every_w_is_heard(faces):
    ws = broadcast(faces.mapping(normal([3], faces.z_dim)), 16).clone().requires_grad_()
    faces.preview(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()


def test_same_ws_same_preview_and_no_input_is_touched(faces):
    ws = broadcast(faces.mapping(normal([3, 4], faces.z_dim)), 16)
    before = ws.clone()
    assert torch.equal(faces.preview(ws), faces.preview(ws))
    assert torch.equal(ws, before)
    assert (faces.preview(ws)[:1] - faces.preview(ws[:1])).abs().max() < 1e-4
    assert faces.preview(ws[:0]).shape == (0, 3, 256, 256)


def test_in_bfloat16_it_looks_the_same_and_has_the_same_gradient(faces):
    ws = truncate(broadcast(faces.mapping(normal([3], faces.z_dim)), 16), toward=faces.w_mean, psi=0.7)
    pictures, gradients = [], []
    for rounded in (False, True):
        leaf = ws.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            pictures.append(faces.preview(leaf))
        gradients += torch.autograd.grad(pictures[-1].square().mean(), leaf)
    assert pictures[1].dtype == torch.float32
    assert 0 < (pictures[0] - pictures[1]).square().mean() < 4e-4  # 40 dB: the head itself is 32 dB from the render
    assert (torch.cosine_similarity(*gradients, dim=2) > 0.99).all()


def test_a_square_of_the_features_gives_that_square_of_the_picture(faces):
    ws = truncate(broadcast(faces.mapping(normal([5], faces.z_dim)), 16), toward=faces.w_mean, psi=0.7)
    features = faces.features(ws, blocks=5)
    whole = faces.preview_head(features, ws)
    part = faces.preview_head(features[:, :, 20:84, 40:104], ws, torch.tensor([[20, 40]]))
    assert (whole[:, :, 40:168, 80:208] - part)[:, :, 8:-8, 8:-8].abs().max() < 1e-4


def test_without_a_head_the_preview_says_what_to_do():
    with pytest.raises(ShapeError, match=r"dvlatent\.load"):
        MobileStyleGAN().preview(torch.zeros(1, 16, 512))


def test_training_learns_and_resumes(faces, tmp_path):
    config = PreviewConfig(faces=2, steps=60, batch=2, crop=32, width=8, rank=1, examples=1)
    next(render_pool(faces, tmp_path, config))  # stopped after the first face
    first = np.load(tmp_path / "pictures.npy")[0]
    assert first.any() and not np.load(tmp_path / "pictures.npy")[1].any()
    *_, pool = render_pool(faces, tmp_path, config)
    assert np.array_equal(pool.pictures[0], first) and pool.pictures[1].any()
    features, picture = (torch.from_numpy(np.float32(part[1:2])).permute(0, 3, 1, 2) for part in (pool.features, pool.pictures))
    ws = training_ws(faces, 1, config)  # the face that the linear start did not see
    scores = [float((step.head(features, ws).detach() - picture).square().mean()) for step in train_preview(faces, pool, config)]
    assert scores[-1] < 0.9 * scores[0]
    with pytest.raises(CheckpointError, match="as many faces"):
        next(render_pool(faces, tmp_path, PreviewConfig(faces=3)))


def test_the_command_writes_a_head_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ship.ship_preview.__defaults__", (1,))  # measured on one face
    out = tmp_path / "head.safetensors"
    assert main(["train", "preview", "--out", str(out), "--faces", "2", "--steps", "2", "--pool", str(tmp_path / "pool")]) == 0
    tensors, description = checkpoint.load(out, "preview head")
    assert description["steps_done"] == 2 and description["scores"]["faces"] == 1 and "dvlatent train preview" in description["command"]
    assert tensors["first.weight"].shape == (description["width"], 256, 1, 1)


def test_w_mean_again_by_its_command(faces, tmp_path):
    out = tmp_path / "mean.safetensors"
    assert main(["train", "w-mean", "--out", str(out), "--faces", "2000"]) == 0
    mean, description = checkpoint.load(out, "mean w")
    expected = faces.mapping(normal(range(2000), 512)).mean(0)
    assert (mean["w_mean"] - expected).abs().max() < 1e-5
    _, shipped = checkpoint.load(WEIGHTS / "faces-w-mean.safetensors", "mean w")
    assert description["mapping_sha256"] == shipped["mapping_sha256"]
