"""The encoder: reads any size alike, learns what it is shown, goes on after a stop, and is as good as its file says."""

import json
from dataclasses import replace

import encoder as recipe
import numpy as np
import pytest
import torch
from common import parser, run
from encoder import EncoderConfig, draw_pool, encoder_scores, feature_pool, pool_ws, principal, train_encoder
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent import checkpoint, images, load
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.inversion.encoder import CLOSE_UP_PX, Encoder
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

TINY = EncoderConfig(faces=300, steps=150, batch=64, hidden=32, lr=4e-3, bf16=False)


class CloseUp(nn.Module):
    """The gray of 25 squares."""

    def forward(self, face):
        assert face.shape[1:] == (3, CLOSE_UP_PX, CLOSE_UP_PX)
        return F.adaptive_avg_pool2d(face.mean(dim=1), 5).flatten(1)


def blank(**sizes):
    torch.manual_seed(0)
    return Encoder(CloseUp(), **{"hidden": 8, "w_dim": 6, "close_up_dim": 25, **sizes}).eval()


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=64)


@pytest.fixture(scope="module")
def pool(toy, tmp_path_factory):
    """300 toy faces: their pictures, their features, their w."""
    folder = tmp_path_factory.mktemp("pool")
    *_, (pictures, drawn) = draw_pool(toy, folder, TINY)
    *_, (features, read) = feature_pool(blank(), pictures, folder, TINY)
    assert (drawn, read) == (300, 600)
    return pictures, features, pool_ws(toy, TINY), folder


@pytest.fixture(scope="module")
def shipped():
    return load("encoder")


def face(size, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, (2, 3, size, size))).float()


def test_an_untrained_encoder_gives_the_average_face():
    encoder = blank()
    encoder.head.center.copy_(torch.arange(6.0))
    assert_close(encoder(face(128)), torch.arange(6.0).expand(2, -1))


@pytest.mark.parametrize("times", [2, 3])
def test_a_larger_picture_of_the_same_pixels_has_the_same_features(times):
    """Reduced by area, every pixel written `times` by `times` times is that pixel again."""
    small, encoder = face(128), blank()
    assert_close(encoder.features(small.repeat_interleave(times, 2).repeat_interleave(times, 3)), encoder.features(small))


@pytest.mark.parametrize("shape", [(3, 128, 128), (1, 1, 128, 128), (1, 3, 128, 100), (1, 3, 63, 63)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="square aligned faces"):
        blank()(torch.zeros(shape))
    with pytest.raises(ShapeError, match="from_uint8"):
        blank()(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))


def test_principal_axes_whiten():
    first, second = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    rows = torch.randn(500, 6, generator=first) @ torch.randn(6, 6, generator=second)
    axes, std = principal(rows)
    assert_close(axes @ axes.T, torch.eye(6), atol=1e-5, rtol=0)
    white = rows @ axes.T / std
    assert_close(white.T @ white / 500, torch.eye(6), atol=1e-4, rtol=0)
    assert (std.diff() <= 0).all()


def test_training_learns_w_from_pictures(toy, pool):
    """On toy faces that it never saw it comes nearer to the true w than the average face, and than an encoder of mixed-up faces."""
    _, features, w, _ = pool
    unseen = replace(TINY, first_seed=5000, faces=40)
    true = pool_ws(toy, unseen)
    seen = blank().features(images.resize(toy.synthesis(broadcast(true, toy.num_layers)), 128))
    mixed = torch.from_numpy(np.random.RandomState(0).permutation(len(w)))
    errors = []
    for order in (torch.arange(len(w)), mixed):
        *_, step = train_encoder(features, w[order], toy.w_mean, TINY)
        errors.append(float((step.head(seen) - true).norm(dim=1).mean()))
    far = float((true - toy.w_mean).norm(dim=1).mean())
    assert errors[0] < 0.8 * far < 0.8 * errors[1] * 1.1


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(toy, pool, tmp_path):
    _, features, w, _ = pool
    config, kept = replace(TINY, steps=6), tmp_path / "kept.safetensors"
    *_, whole = train_encoder(features, w, toy.w_mean, config)
    for step in train_encoder(features, w, toy.w_mean, config):
        if step.index == 2:
            step.save(kept)
            break
    *_, rest = train_encoder(features, w, toy.w_mean, config, resume=kept)
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(tensor, rest.head.state_dict()[name]), name
    with pytest.raises(CheckpointError, match="same config"):
        next(train_encoder(features, w, toy.w_mean, replace(config, hidden=16), resume=kept))


def test_pools_resume_and_refuse_another_size(toy, pool):
    pictures, features, _, folder = pool
    kept, pictures[7], features[1, 50:60] = (pictures[7].copy(), features[1, 50:60].copy()), 0, 0
    *_, (again, _) = draw_pool(toy, folder, TINY)
    *_, (read, _) = feature_pool(blank(), again, folder, TINY)
    assert np.array_equal(again[7], kept[0])
    assert np.array_equal(read[1, 50:60], kept[1])
    with pytest.raises(CheckpointError, match="Delete it"):
        next(draw_pool(toy, folder, replace(TINY, faces=10)))


def test_scores_of_a_perfect_encoder_are_perfect(toy):
    truth = {}

    class Cheat(nn.Module):
        def forward(self, photo):
            return truth[round(float(photo.sum()), 2)]

    seeds = range(30, 33)
    for seed in seeds:
        w = truncate(toy.mapping(normal(seed, toy.z_dim)), toward=toy.w_mean, psi=0.7)
        photo = images.from_uint8(images.to_uint8(toy.synthesis(broadcast(w, toy.num_layers))))
        truth[round(float(photo.sum()), 2)] = w

    class Identity(CloseUp):
        def forward(self, image):
            return super().forward(images.resize(image, CLOSE_UP_PX))

        @staticmethod
        def distance(a, b):
            return (a - b).norm(dim=-1)

    scores = encoder_scores(Cheat(), toy, Identity(), lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), seeds, 0.7)
    assert scores["faces"] == 3 and scores["w_distance"] == 0 and scores["identity_below_0.6"] == 1 and scores["psnr_db"] > 45
    assert scores["mean_face_median"] > scores["identity_median"]


def test_the_shipped_encoder_is_what_its_file_says(shipped, faces, identity, perceptual):
    """Some of the faces it was measured on, drawn again: they must agree with the scores in the file."""
    description = checkpoint.load(WEIGHTS / "encoder.safetensors", "encoder")[1]
    scores = description["scores"]["previews at psi 0.7"]
    assert scores["identity_below_0.6"] >= 0.7 and scores["ms_median"] <= 60 and scores["faces"] >= 100
    again = encoder_scores(shipped, faces, identity, perceptual, range(20_500, 20_506), 0.7)
    assert again["identity_below_0.6"] >= 0.7
    assert again["w_distance"] < 0.9 and abs(again["psnr_db"] - scores["psnr_db"]) < 3
    assert again["identity_median"] < again["mean_face_median"] - 0.1


def test_each_photo_is_guessed_alone(shipped):
    photos = face(256)
    batch = shipped(photos)
    assert batch.shape == (2, 512) and batch.isfinite().all()
    assert_close(batch, torch.cat([shipped(photo) for photo in photos.split(1)]), atol=1e-3, rtol=1e-3)


def test_the_command_trains_and_writes(tmp_path, monkeypatch, faces):
    """The whole command on five faces and three steps, with the real networks."""
    pictures = np.random.RandomState(0).randint(0, 255, (5, 128, 128, 3), np.uint8)  # drawing is slow, and tested above
    pool, out = tmp_path / "pool", tmp_path / "encoder.safetensors"
    pool.mkdir()
    np.save(pool / "pictures.npy", pictures)
    monkeypatch.setattr(recipe, "load", lambda name: faces if name == "faces" else None)
    monkeypatch.setattr(recipe, "encoder_scores", lambda *given: {"faces": 0})
    options = parser("", pool=pool, faces=5, steps=3, test_faces=2)
    assert run(recipe.make, options, ["--out", str(out)]) == 0
    first = out.read_bytes()
    assert run(recipe.make, options, ["--out", str(out)]) == 0  # again from the pool: the same
    assert out.read_bytes() == first and not (pool / "training.safetensors").exists()
    tensors, description = checkpoint.load(out, "encoder")
    assert description["config"]["faces"] == 5
    assert description["command"] == "python recipes/encoder.py --out encoder.safetensors --faces 5 --steps 3"
    assert "CC0" in description["close_up"] and json.dumps(description["scores"])
    Encoder(nn.Identity(), description["hidden"]).head.load_state_dict(tensors)
    assert run(recipe.make, options, ["--out", str(out), "--faces", "6"]) == 1  # the pool is of another size
