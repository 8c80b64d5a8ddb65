"""The sharp judge's recipe: descriptions are kept, labels average over cuts and mirrors, and the head learns what it is shown."""

import random

import numpy as np
import pytest
import sharp_judge as recipe
import torch

from dvlatent.faces.judge import SharpJudge


class Brightness:
    """Reads the mean brightness; counts how often it is asked."""

    names = ("age", "male")
    asked = 0

    def __call__(self, image, shift=(0.0, 0.0), zoom=1.0):
        self.asked += 1
        left = image[..., : image.shape[-1] // 2].mean(dim=(1, 2, 3))  # a mirror image reads otherwise
        return torch.stack([left, left], dim=1)


class Stages:
    """A network whose five stages are the picture at five sizes."""

    def __call__(self, face):
        return [
            torch.nn.functional.avg_pool2d(face, 14 * 2**at if at < 4 else 56).mean(1, keepdim=True).expand(-1, count, -1, -1)
            for at, count in enumerate(SharpJudge.channels)
        ]


def face(index):
    return torch.full((1, 3, 256, 256), index / 10 - 0.5)


def test_a_label_is_the_mean_of_mirrors():
    half_lit = torch.zeros(1, 3, 96, 96)
    half_lit[..., :48] = 1
    assert recipe.labels(Brightness(), half_lit, random.Random(0)).tolist() == [[0.5, 0.5]]


def test_what_was_described_is_not_described_again(tmp_path):
    judge, reader = SharpJudge(Stages(), width=4), Brightness()
    x, y = recipe.described(judge, reader, face, 10, tmp_path / "faces")
    np.testing.assert_allclose(y[:, 0], np.arange(10) / 10 - 0.5, atol=1e-4)
    count, y[8:] = reader.asked, 0
    again, _ = recipe.described(judge, reader, face, 10, tmp_path / "faces")
    assert reader.asked == count + recipe.VIEWS and np.array_equal(x, again)  # the last two only


def test_the_head_learns_and_is_measured(tmp_path):
    judge = SharpJudge(Stages(), width=16)
    rng = np.random.default_rng(0)
    age = rng.uniform(10, 70, 400).astype(np.float32)
    x = (age[:, None] / 70 + 0.05 * rng.standard_normal((400, judge.mean.numel()))).astype(np.float16)
    y = np.stack([age, (age > 40).astype(np.float32)], axis=1)
    recipe.train(judge, x, y, steps=60)
    with torch.no_grad():
        said = judge.scores(torch.from_numpy(x).float()).numpy()
    found = recipe.report(said, y)
    assert found["age"]["mae"] < 5 and found["male"]["accuracy"] > 0.9
    assert recipe.changes(np.array([[30, 0], [50, 0]]), np.array([[30, 0], [45, 0]]))["bias"] == pytest.approx(5)
