"""The judge's recipe: faces are rendered and labelled once, training learns and goes on after a stop, the report is right."""

import json
from dataclasses import replace

import judge as recipe
import numpy as np
import pytest
import scipy.fft
import torch
from disturb import _blocky, disturb
from judge import JudgeConfig, LabelPool, age_balanced, label_pool, read_pool, report, small, train_judge
from torch.testing import assert_close

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError
from dvlatent.faces.judge import Judge
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces

TINY = JudgeConfig(faces=120, steps=100, batch=12, width=4, lr=6e-3, bf16=False, first_seed=0)


@pytest.fixture(scope="module")
def drawn():
    """Toy faces with their true age in years, hair length for "male", smile from 0 to 1; and which ones wear a black bar for glasses."""
    toy = ToyFaces(resolution=48)
    ws = broadcast(toy.mapping(normal(range(160), toy.z_dim)), toy.num_layers)
    truth = toy.read(ws)
    labels = torch.stack([truth["age"], (truth["hair length"] > 0.5).float(), truth["smile"]], dim=1).numpy()
    labels[::10, 2] = np.nan  # as where no landmarks were found
    glasses = {seed: bool(wears > 0.5) for seed, wears in enumerate(truth["glasses"].tolist())}
    pictures = small(toy.synthesis(ws))  # drawn at 48 px, which takes a quarter of the time
    pictures[[seed for seed, wears in glasses.items() if wears], 40:52, 20:76] = 0
    return pictures, labels.astype(np.float32), glasses


def pool_of(drawn, faces):
    pictures, labels, _ = drawn
    return LabelPool(pictures[faces], labels[faces], len(pictures[faces]))


def test_training_learns_from_pictures(drawn):
    """On drawn faces that it never saw: ages better than always saying the mean, faces with glasses above those without."""
    _, labels, glasses = drawn
    *_, step = train_judge(pool_of(drawn, slice(0, 120)), {seed: glasses[seed] for seed in range(120)}, TINY)
    scores = read_pool(step.judge, pool_of(drawn, slice(120, 160)))
    age, wears = labels[120:, 0], np.array([glasses[seed] for seed in range(120, 160)])
    assert np.abs(scores[:, 0] - age).mean() < 0.8 * np.abs(labels[:120, 0].mean() - age).mean()
    assert scores[wears, 3].mean() > scores[~wears, 3].mean() + 0.4


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(drawn, tmp_path):
    pool, glasses, config = pool_of(drawn, slice(0, 40)), drawn[2], JudgeConfig(faces=40, steps=6, batch=8, width=4, first_seed=0)
    *_, whole = train_judge(pool, glasses, config)
    for step in train_judge(pool, glasses, config):
        if step.index == 2:
            step.save(tmp_path / "kept.safetensors")
            break
    rest = list(train_judge(pool, glasses, config, resume=tmp_path / "kept.safetensors"))
    assert [step.index for step in rest] == [3, 4, 5] and rest[-1].loss == whole.loss
    assert all(torch.equal(tensor, rest[-1].judge.state_dict()[name]) for name, tensor in whole.judge.state_dict().items())
    with pytest.raises(CheckpointError, match="give the same config"):
        next(train_judge(pool, glasses, replace(config, width=8), resume=tmp_path / "kept.safetensors"))


def test_without_labels_for_glasses_the_rest_is_still_learned(drawn):
    step = next(train_judge(pool_of(drawn, slice(0, 40)), {}, TINY))
    assert np.isfinite(step.loss)


class Reader:
    """A predictor made of pixel means, so that its answers can be known."""

    names = ("smile", "male", "age")

    def __call__(self, image):
        return (image.mean((2, 3)) + 1) / 2 * torch.tensor([1.0, 1.0, 80.0])


def test_faces_are_rendered_once_and_labelled(tmp_path):
    toy, config = ToyFaces(resolution=128), JudgeConfig(faces=3, first_seed=7)
    next(label_pool(toy, [Reader()], tmp_path, config))  # stopped after the first face
    first = np.load(tmp_path / "pictures.npy")
    assert first[0].any() and not first[1:].any()
    *_, pool = label_pool(toy, [Reader()], tmp_path, config)
    assert pool.done == 3 and np.array_equal(pool.pictures[0], first[0])
    face = toy.synthesis(broadcast(toy.mapping(normal([8], toy.z_dim)), toy.num_layers))
    assert_close(torch.from_numpy(pool.labels[1]), Reader()(face)[0, [2, 1, 0]], atol=0.2, rtol=0.01)  # age, male, smile
    with pytest.raises(CheckpointError, match="as many faces"):
        next(label_pool(toy, [Reader()], tmp_path, JudgeConfig(faces=4)))
    with pytest.raises(CheckpointError, match="no predictor gives age, male, smile"):
        next(label_pool(toy, [], tmp_path, config))


def test_disturbed_faces_are_still_the_same_faces(drawn):
    face = images.from_uint8(drawn[0][:1]).expand(64, -1, -1, -1)
    seen = disturb(face, torch.Generator().manual_seed(0))
    assert torch.equal(seen, disturb(face, torch.Generator().manual_seed(0)))
    assert seen.shape == face.shape and seen.abs().max() <= 1 and seen.isfinite().all()
    likeness = [[np.corrcoef(one.flatten(), other.flatten())[0, 1] for other in (face[0], face[0].flip(2))] for one in seen]
    assert np.median(np.max(likeness, axis=1)) > 0.8
    assert (seen[1:] - seen[:-1]).abs().mean(dim=(1, 2, 3)).min() > 0.02  # no two alike


def test_blocks_are_those_of_jpeg():
    """Against scipy's cosines, block by block, all waves rounded to the steps stated."""
    image = torch.from_numpy(np.random.RandomState(0).uniform(-1, 1, (2, 3, 16, 16)))
    coarse = torch.tensor([0.05, 0.1]).double().view(2, 1, 1, 1)
    at = np.arange(8)
    for face, top, left in ((0, 0, 8), (1, 8, 0)):
        block = image[face, 1, top : top + 8, left : left + 8].numpy()
        step = (1 + at + at[:, None]) * float(coarse[face])
        waves = np.round(scipy.fft.dctn(block, norm="ortho") / step) * step
        ours = _blocky(image.float(), coarse.float())[face, 1, top : top + 8, left : left + 8]
        assert_close(ours, torch.from_numpy(scipy.fft.idctn(waves, norm="ortho")).float(), atol=1e-4, rtol=0)


def test_rare_ages_come_more_often():
    ages = np.array([30.0] * 900 + [5.0] * 100)
    plain, even = age_balanced(ages, 0.0), age_balanced(ages, 1.0)
    assert_close(plain.sum(), 1.0)
    assert_close((plain[900:].sum(), even[900:].sum()), (0.1, 0.5))


def test_the_report_knows_a_perfect_judge_and_a_shifted_one():
    rng = np.random.RandomState(0)
    labels = np.stack([rng.uniform(0, 80, 200), rng.rand(200), rng.randn(200)], axis=1)
    labels[:20, 2] = np.nan
    glasses = {1000 + face: bool(face % 5 == 0) for face in range(100)}
    scores = np.concatenate([np.nan_to_num(labels), [[float(face % 5 == 0)] for face in range(200)]], axis=1)
    perfect = report(scores, labels, glasses, 1000)
    assert perfect["age"]["mae"] == perfect["age"]["bias"] == 0 and perfect["age"]["correlation"] == 1
    assert perfect["male"]["accuracy"] == perfect["glasses"]["precision"] == perfect["glasses"]["recall"] == 1
    assert perfect["smile"]["faces"] == 180 and perfect["glasses"]["faces"] == 100 and perfect["glasses"]["yes"] == 20
    assert sum(group["faces"] for group in perfect["age"]["by_group"].values()) == 200
    older = report(scores + np.array([3, 0, 0, 0]), labels, {}, 1000)
    assert older["age"]["bias"] == 3 and all(group["bias"] == 3 for group in older["age"]["by_group"].values())
    assert all(abs(said - true - 3) < 0.11 for said, true in older["age"]["calibration_years"]) and "glasses" not in older
    json.dumps(perfect)


def test_the_recipe_writes_a_judge_that_loads_and_does_so_again(tmp_path):
    out, options = tmp_path / "judge.safetensors", {"pool": tmp_path / "pool", "faces": 3, "steps": 2, "test_faces": (2, 1)}
    recipe.make(out, **options)
    tensors, description = checkpoint.load(out, "judge")
    Judge(description["width"]).load_state_dict(tensors)
    assert description["scores"]["full renders at psi 0.7"]["faces"] == 1
    assert description["command"] == "python recipes/judge.py --out judge.safetensors --faces 3 --steps 2"
    before = out.read_bytes()
    recipe.make(out, **options)  # its faces are there, only the training is repeated
    assert out.read_bytes() == before
