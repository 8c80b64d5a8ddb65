"""The preview: close to the full picture, every w heard, and a recipe that trains its head again."""

import numpy as np
import preview as recipe
import pytest
import torch
from preview import PreviewConfig, preview_scores, render_pool, train_preview, training_ws

from dvlatent import broadcast, checkpoint, normal
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN


def test_the_shipped_head_is_close_to_the_full_picture(faces, portraits, attributes):
    """On four faces; MEASUREMENTS.md has the measurement on 200."""
    error = (recipe.small(portraits.full) - portraits.preview.clamp(-1, 1)).square().mean(dim=(1, 2, 3))
    _, shipped = checkpoint.load(WEIGHTS / "faces-preview.safetensors", "preview head")
    assert abs(recipe.psnr_db(error) - shipped["scores"]["psnr_db"]) < 2
    scores = preview_scores(faces, attributes, faces=1, psi=0.7)
    assert scores["psnr_db"] > 27 and scores["median_change_age"] < 8


def test_every_w_is_heard(faces):
    ws = broadcast(faces.mapping(normal([3], faces.z_dim)), 16).clone().requires_grad_()
    faces.preview(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()


def test_a_batch_is_its_faces_to_the_bit_and_no_input_is_touched(faces, portraits):
    ws = portraits.ws[:2].clone()
    assert torch.equal(faces.preview(ws), portraits.preview[:2])
    assert torch.equal(ws, portraits.ws[:2])
    assert faces.preview(ws[:0]).shape == (0, 3, 256, 256)


def test_in_bfloat16_it_looks_the_same_and_has_the_same_gradient(faces, portraits):
    pictures, gradients = [], []
    for bf16 in (False, True):
        leaf = portraits.ws[:1].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            pictures.append(faces.preview(leaf))
        gradients += torch.autograd.grad(pictures[-1].square().mean(), leaf)
    assert pictures[1].dtype == torch.float32
    assert 0 < (pictures[0] - pictures[1]).square().mean() < 4e-4  # 40 dB: the head itself is 32 dB from the render
    assert (torch.cosine_similarity(*gradients, dim=2) > 0.99).all()


@torch.no_grad()
def test_a_square_of_the_features_gives_that_square_of_the_picture(faces, portraits):
    ws = portraits.ws[:1]
    features = faces.features(ws, blocks=5)
    part = faces.preview_head(features[:, :, 20:84, 40:104], ws, torch.tensor([[20, 40]]))
    assert (portraits.preview[:1, :, 40:168, 80:208] - part)[:, :, 8:-8, 8:-8].abs().max() < 1e-4


def test_without_a_head_the_preview_says_what_to_do():
    with pytest.raises(ShapeError, match=r"dvlatent\.load"):
        MobileStyleGAN().preview(torch.zeros(1, 16, 512))


@pytest.fixture(scope="module")
def pool(faces, tmp_path_factory):
    """Two rendered training faces, with a stop after the first: the folder, and the pool."""
    folder, config = tmp_path_factory.mktemp("pool"), PreviewConfig(faces=2)
    next(render_pool(faces, folder, config))
    first = np.load(folder / "pictures.npy")
    assert first[0].any() and not first[1].any()
    *_, pool = render_pool(faces, folder, config)
    assert np.array_equal(pool.pictures[0], first[0]) and pool.pictures[1].any()
    with pytest.raises(CheckpointError, match="as many faces"):
        next(render_pool(faces, folder, PreviewConfig(faces=3)))
    return folder, pool


def test_training_learns_and_goes_on_bit_for_bit(faces, pool, tmp_path):
    config = PreviewConfig(faces=2, steps=60, batch=2, crop=32, width=8, rank=1, examples=1)
    features, picture = (torch.from_numpy(np.float32(part[1:2])).permute(0, 3, 1, 2) for part in (pool[1].features, pool[1].pictures))
    ws, scores = training_ws(faces, 1, config), []  # the face that the linear start did not see
    for step in train_preview(faces, pool[1], config):
        scores.append((step.psnr_db, float((step.head(features, ws).detach() - picture).square().mean())))
        if step.index == 56:
            step.save(tmp_path / "run.safetensors")
    assert scores[-1][1] < 0.9 * scores[0][1]
    again = list(train_preview(faces, pool[1], config, resume=tmp_path / "run.safetensors"))
    assert [step.psnr_db for step in again] == [decibels for decibels, _ in scores[57:]]


def test_the_recipe_writes_a_head_that_loads(pool, tmp_path):
    out = tmp_path / "head.safetensors"
    recipe.make(out, pool[0], faces=2, steps=2, test_faces=1)
    tensors, description = checkpoint.load(out, "preview head")
    assert description["scores"]["faces"] == 1 and "python recipes/preview.py" in description["command"]
    assert tensors["first.weight"].shape == (description["width"], 256, 1, 1)
