"""The encoder: reads any size alike, learns what it is shown, goes on after a stop, and is as good as its file says."""

import json
from dataclasses import replace
from pathlib import Path

import encoder as training
import numpy as np
import pytest
import torch
from encoder import EncoderConfig, draw_pool, encoder_scores, look_pool, pool_ws, principal, train_encoder
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent import checkpoint, images, load
from dvlatent.checkpoint import WEIGHTS
from dvlatent.cli.main import main
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.inversion.encoder import CLOSE_UP_PX, Encoder
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = EncoderConfig(faces=300, steps=150, batch=64, hidden=32, lr=4e-3, bf16=False)


class Eyes(nn.Module):
    """Sees 25 grey squares of a close-up."""

    def forward(self, face):
        assert face.shape[1:] == (3, CLOSE_UP_PX, CLOSE_UP_PX)
        return F.adaptive_avg_pool2d(face.mean(dim=1), 5).flatten(1)


def blank(**sizes):
    torch.manual_seed(0)
    return Encoder(Eyes(), **{"hidden": 8, "w_dim": 6, "close_up_dim": 25, **sizes}).eval()


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=64)


@pytest.fixture(scope="module")
def seen(toy, tmp_path_factory):
    """300 toy faces: their pictures, what the tiny encoder saw of them, their w."""
    folder = tmp_path_factory.mktemp("pool")
    *_, (pictures, done) = draw_pool(toy, folder, TINY)
    *_, (looks, looked) = look_pool(blank(), pictures, folder, TINY)
    assert (done, looked) == (300, 600)
    return pictures, looks, pool_ws(toy, TINY), folder


@pytest.fixture(scope="module")
def shipped():
    return load("encoder")


def face(size, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, (2, 3, size, size))).float()


def test_an_encoder_that_knows_nothing_answers_with_the_average_face():
    encoder = blank()
    encoder.centre.copy_(torch.arange(6.0))
    assert_close(encoder(face(128)), torch.arange(6.0).expand(2, -1))


@pytest.mark.parametrize("times", [2, 3])
def test_a_larger_picture_of_the_same_pixels_is_seen_the_same(times):
    """Reduced by area, every pixel written `times` by `times` times is that pixel again."""
    small, encoder = face(128), blank()
    assert_close(encoder.look(small.repeat_interleave(times, 2).repeat_interleave(times, 3)), encoder.look(small))


@pytest.mark.parametrize("shape", [(3, 128, 128), (1, 1, 128, 128), (1, 3, 128, 100), (1, 3, 63, 63)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="square aligned faces"):
        blank()(torch.zeros(shape))
    with pytest.raises(ShapeError, match="from_uint8"):
        blank()(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))


def test_principal_axes_whiten():
    away = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    axes, std = principal(away)
    assert_close(axes @ axes.T, torch.eye(6), atol=1e-5, rtol=0)
    told = away @ axes.T / std
    assert_close(told.T @ told / 500, torch.eye(6), atol=1e-4, rtol=0)
    assert (std.diff() <= 0).all()


def test_training_learns_w_from_pictures(toy, seen):
    """On toy faces that it never saw it comes nearer to the true w than the average face, and than an encoder of mixed-up faces."""
    _, looks, w, _ = seen
    unseen = replace(TINY, first_seed=5000, faces=40)
    true = pool_ws(toy, unseen)
    photos = images.resize(toy.synthesis(broadcast(true, toy.num_layers)), 128)
    mixed = torch.from_numpy(np.random.RandomState(0).permutation(len(w)))
    errors = []
    for order in (torch.arange(len(w)), mixed):
        *_, step = train_encoder(looks, w[order], toy.w_mean, Eyes(), TINY)
        errors.append(float((step.encoder(photos) - true).norm(dim=1).mean()))
    away = float((true - toy.w_mean).norm(dim=1).mean())
    assert errors[0] < 0.8 * away < 0.8 * errors[1] * 1.1


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(toy, seen, tmp_path):
    _, looks, w, _ = seen
    config = replace(TINY, steps=6)
    *_, whole = train_encoder(looks, w, toy.w_mean, Eyes(), config)
    for step in train_encoder(looks, w, toy.w_mean, Eyes(), config):
        if step.index == 2:
            checkpoint.save(tmp_path / "kept.safetensors", step.state(), {"kind": "encoder in training"})
            break
    state, _ = checkpoint.load(tmp_path / "kept.safetensors", "encoder in training")
    *_, rest = train_encoder(looks, w, toy.w_mean, Eyes(), config, state)
    for name, tensor in whole.encoder.own().items():
        assert torch.equal(tensor, rest.encoder.own()[name]), name
    with pytest.raises(CheckpointError, match="another config"):
        next(train_encoder(looks, w, toy.w_mean, Eyes(), replace(config, hidden=16), state))


def test_eyes_stay_as_they_are(toy, seen):
    eyes = nn.Sequential(Eyes(), nn.Linear(25, 25))
    before = [parameter.clone() for parameter in eyes.parameters()]
    *_, step = train_encoder(seen[1], seen[2], toy.w_mean, eyes, replace(TINY, steps=3))
    assert all(torch.equal(*pair) for pair in zip(before, eyes.parameters(), strict=True))
    assert not any(name.startswith("close_up") for name in step.encoder.own())


def test_pools_resume_and_refuse_another_size(toy, seen):
    pictures, looks, _, folder = seen
    kept, pictures[7], looks[1, 50:60] = (pictures[7].copy(), looks[1, 50:60].copy()), 0, 0
    *_, (again, _) = draw_pool(toy, folder, TINY)
    *_, (looked, _) = look_pool(blank(), again, folder, TINY)
    assert np.array_equal(again[7], kept[0])
    assert np.array_equal(looked[1, 50:60], kept[1])
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

    class Who(Eyes):
        def forward(self, image):
            return super().forward(images.resize(image, CLOSE_UP_PX))

        @staticmethod
        def distance(a, b):
            return (a - b).norm(dim=-1)

    scores = encoder_scores(Cheat(), toy, Who(), lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), seeds, 0.7)
    assert scores["faces"] == 3 and scores["w_distance"] == 0 and scores["identity_below_0.6"] == 1 and scores["psnr_db"] > 45
    assert scores["mean_face_median"] > scores["identity_median"]


def test_the_shipped_encoder_is_what_its_file_says(shipped):
    """Some of the faces it was measured on, drawn again; and a fresh look must agree with the bar."""
    description = checkpoint.load(WEIGHTS / "encoder.safetensors", "encoder")[1]
    told = description["scores"]["previews at psi 0.7"]
    assert told["identity_below_0.6"] >= 0.7 and told["ms_median"] <= 60 and told["faces"] >= 100
    generator = load("faces")
    scores = encoder_scores(shipped, generator, load("identity"), load("perceptual"), range(20_500, 20_506), 0.7)
    assert scores["identity_below_0.6"] >= 0.7
    assert scores["w_distance"] < 0.9 and abs(scores["psnr_db"] - told["psnr_db"]) < 3
    assert scores["identity_median"] < scores["mean_face_median"] - 0.1


def test_each_photo_is_guessed_alone(shipped):
    photos = face(256)
    combine = shipped(photos)
    assert combine.shape == (2, 512) and combine.isfinite().all()
    assert_close(combine, torch.cat([shipped(photo) for photo in photos.split(1)]), atol=1e-3, rtol=1e-3)


def test_the_command_trains_ships_and_resumes(tmp_path, monkeypatch, toy):
    """The whole command on five faces and three steps, with the real networks."""
    pictures = np.random.RandomState(0).randint(0, 255, (5, 128, 128, 3), np.uint8)  # drawing is slow, and tested above
    pool, out = tmp_path / "pool", tmp_path / "encoder.safetensors"
    pool.mkdir()
    np.save(pool / "pictures.npy", pictures)
    monkeypatch.setattr(training, "encoder_scores", lambda *given: {"faces": 0})
    command = ["train", "encoder", "--out", str(out), "--faces", "5", "--steps", "3", "--pool", str(pool)]
    assert main(command) == 0
    first = out.read_bytes()
    assert main(command) == 0  # all of it is done: written again, the same
    assert out.read_bytes() == first
    description = checkpoint.load(out, "encoder")[1]
    assert description["config"]["faces"] == 5 and "dvlatent train encoder" in description["command"]
    assert "CC0" in description["close_up"] and json.dumps(description["scores"])
    assert main([*command[:-3], "4", *command[-2:]]) == 1  # another config
    assert Path(pool / "training.safetensors").exists()
