"""Surveys: every face is scored as if alone, latents come back from the seeds, and no score is lost."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent import checkpoint
from dvlatent.editing import survey
from dvlatent.editing.survey import Population, collect, resumable
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint

SEEDS = [3, 5, 8, 0, 21]


class Brightness:
    """A predictor: the mean brightness of some channels."""

    def __init__(self, *channels):
        self.names = tuple("red green blue".split()[channel] for channel in channels)
        self.channels, self.faces = list(channels), 0

    def __call__(self, image):
        self.faces += len(image)
        return image.mean(dim=(2, 3))[:, self.channels]


class Quick(ToyFaces):
    """A toy with a preview that is smaller and a little wrong."""

    def preview(self, ws):
        return self.synthesis(ws)[:, :, ::4, ::4] + 0.01


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=16)


def one_by_one(generator, seeds, psi, draw):
    """The obviously right loop."""
    rows = []
    for seed in seeds:
        w = generator.w_mean + psi * (generator.mapping(normal(seed, generator.z_dim)) - generator.w_mean)
        picture = draw(w[:, None].repeat(1, generator.num_layers, 1))
        levels = ((picture.clamp(-1, 1) + 1) * 127.5).round()  # what a file of it would hold
        rows.append((levels / 127.5 - 1).mean(dim=(2, 3)))
    return torch.cat(rows)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_survey_is_the_plain_loop(toy, batch):
    steps = list(survey.survey(toy, Brightness(0, 1, 2), SEEDS, psi=0.7, batch=batch))
    found = collect(steps)
    assert_close(found.scores, one_by_one(toy, SEEDS, 0.7, toy.synthesis))
    assert (found.seeds, found.names, found.psi, found.render) == (tuple(SEEDS), ("red", "green", "blue"), 0.7, "full")
    assert steps[-1].index == steps[-1].total == len(SEEDS)
    assert [len(step.population) for step in steps] == [min(batch, 5 - start) for start in range(0, 5, batch)]


def test_several_predictors_stand_side_by_side(toy):
    found = collect(survey.survey(toy, [Brightness(2), Brightness(0, 1)], SEEDS))
    assert found.names == ("blue", "red", "green")
    assert_close(found.scores, collect(survey.survey(toy, Brightness(2, 0, 1), SEEDS)).scores)


def test_previews_are_scored_if_there_are_any():
    quick = Quick(resolution=16)
    found = collect(survey.survey(quick, Brightness(0, 1, 2), SEEDS))
    assert found.render == "preview"
    assert_close(found.scores, one_by_one(quick, SEEDS, 1.0, quick.preview))
    full = collect(survey.survey(quick, Brightness(0, 1, 2), SEEDS, render=quick.synthesis))
    assert full.render == "full" and not torch.allclose(full.scores, found.scores, atol=1e-3)
    assert collect(survey.survey(quick, Brightness(0), [1], render=lambda ws: quick.synthesis(ws))).render == "own"
    quick.preview_head = None  # the face generator before its head is loaded
    assert collect(survey.survey(quick, Brightness(0), [1])).render == "full"


def test_a_survey_may_be_left_at_any_step(toy):
    predictor, steps = Brightness(0), []
    for step in survey.survey(toy, predictor, range(10**6), batch=3):
        steps.append(step)
        if step.index >= 6:
            break
    assert predictor.faces == 6 and collect(steps).seeds == tuple(range(6))


# ---- populations


def test_latents_come_back_from_the_seeds(toy, monkeypatch):
    monkeypatch.setattr(survey, "CHUNK", 2)  # so that five faces are three chunks
    found = collect(survey.survey(toy, Brightness(0), SEEDS, psi=0.7))
    z, w = found.latents(toy)
    assert_close(z, normal(SEEDS, toy.z_dim))
    assert_close(w, truncate(toy.mapping(z), toward=toy.w_mean, psi=0.7))
    assert_close(Brightness(0)(toy.synthesis(broadcast(w, toy.num_layers))), found.scores, atol=1 / 255, rtol=0)  # bytes are rounded


def test_take_keeps_seed_and_score_together(toy):
    everyone = collect(survey.survey(toy, Brightness(0, 1), SEEDS))
    red = everyone.column("red")
    bright = red > red.median()
    for rows in (bright, bright.numpy(), np.flatnonzero(bright), bright.nonzero()[:, 0].tolist()):
        part = everyone.take(rows)
        assert len(part) == 2 and (part.column("red") > red.median()).all() and (part.psi, part.names) == (1.0, ("red", "green"))
        assert_close(collect(survey.survey(toy, Brightness(0, 1), part.seeds)).scores, part.scores)
    assert everyone.take(2).seeds == everyone.take(slice(2)).seeds == (3, 5)
    assert everyone.take(slice(None, None, 2)).seeds == (3, 8, 21)


def test_a_population_is_the_same_after_a_file(toy, tmp_path):
    found = collect(survey.survey(toy, Brightness(0, 1), SEEDS, psi=0.5))
    survey.save(found, tmp_path / "faces.safetensors", "a command", licence="yours")
    again = survey.load(tmp_path / "faces.safetensors")
    assert torch.equal(again.scores, found.scores)  # every bit
    assert (again.seeds, again.names, again.psi) == (tuple(SEEDS), ("red", "green"), 0.5)
    assert (again.generator, again.render) == (fingerprint(toy), "full")
    assert checkpoint.load(tmp_path / "faces.safetensors", "population")[1].items() >= {"command": "a command", "licence": "yours"}.items()


# ---- stopping and going on


def test_what_is_scored_is_kept(toy, tmp_path):
    out, predictor = tmp_path / "faces.safetensors", Brightness(0, 1, 2)
    for step in resumable(out, toy, predictor, range(10), batch=4):
        if step.index == 8:
            break  # as Ctrl-C would
    assert predictor.faces == 8 and not out.exists()
    steps = list(resumable(out, toy, predictor, range(10), batch=4))
    assert predictor.faces == 10 and [step.index for step in steps] == [8, 10] and {step.total for step in steps} == {10}
    assert torch.equal(survey.load(out).scores, collect(survey.survey(toy, predictor, range(10))).scores)
    assert torch.equal(collect(steps).scores, survey.load(out).scores)
    assert [path.name for path in tmp_path.iterdir()] == ["faces.safetensors"]  # the other file is gone


def test_a_save_that_is_cut_loses_only_its_own_step(toy, tmp_path, monkeypatch):
    out, kept = tmp_path / "faces.safetensors", checkpoint.save_file

    def dies_at_three(tensors, path, metadata):
        if len(tensors["seeds"]) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        kept(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", dies_at_three)
    with pytest.raises(KeyboardInterrupt):
        list(resumable(out, toy, Brightness(0, 1), range(4), batch=1))
    monkeypatch.setattr(checkpoint, "save_file", kept)
    predictor = Brightness(0, 1)
    list(resumable(out, toy, predictor, range(4), batch=1))
    assert predictor.faces == 2 and torch.equal(survey.load(out).scores, collect(survey.survey(toy, predictor, range(4), batch=1)).scores)
    assert [path.name for path in tmp_path.iterdir()] == ["faces.safetensors"]


def test_other_settings_are_kept_in_another_file(toy, tmp_path):
    out = tmp_path / "faces.safetensors"
    for settings in ({}, {"psi": 0.5}, {"render": lambda ws: toy.synthesis(ws)}):
        next(resumable(out, toy, Brightness(0), range(9), **settings))
    next(resumable(out, toy, Brightness(1), range(9)))
    next(resumable(out, ToyFaces(resolution=8), Brightness(1), range(9)))
    assert len(list(tmp_path.iterdir())) == 5


# ---- refusals


def test_refuses_what_is_no_survey(toy):
    with pytest.raises(ShapeError, match="red, blue, red"):
        next(survey.survey(toy, [Brightness(0, 2), Brightness(0)], [1]))
    with pytest.raises(ShapeError, match="none"):
        next(survey.survey(toy, [], [1]))
    with pytest.raises(ShapeError, match="no faces is no population"):
        collect(survey.survey(toy, Brightness(0), []))
    with pytest.raises(ShapeError, match="seed -1"):
        next(survey.survey(toy, Brightness(0), [-1]))


def test_refuses_columns_and_rows_that_are_not_there(toy):
    found = collect(survey.survey(toy, Brightness(0, 1), SEEDS))
    with pytest.raises(ShapeError, match="not scored for 'age', only for red, green"):
        found.column("age")
    for rows in (6, [5], torch.ones(4, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="has 5 faces"):
            found.take(rows)


def test_a_population_of_another_generator_is_refused(toy):
    with pytest.raises(CheckpointError, match="drawn by generator 0123456789ab"):
        Population((1,), torch.zeros(1, 1), ("age",), 1.0, "0123456789ab").latents(toy)


@pytest.mark.parametrize("wrong", [{"scores": torch.zeros(2, 2)}, {"scores": torch.zeros(3, 2).log() * 0}, {"names": None}, {"psi": None}])
def test_files_that_are_no_population_are_refused(tmp_path, wrong):
    whole = {"scores": torch.zeros(3, 2), "names": ["age", "male"], "psi": 1.0, "generator": "0123456789ab"}
    scores, *rest = {**whole, **wrong}.items()
    checkpoint.save(tmp_path / "wrong.safetensors", {"seeds": torch.arange(3), "scores": scores[1]}, {"kind": "population", **dict(rest)})
    with pytest.raises(CheckpointError, match=r"wrong.safetensors"):
        survey.load(tmp_path / "wrong.safetensors")


# ---- what we ship


def test_the_shipped_population_is_whole():
    population = survey.load()
    age, male = population.column("age"), population.column("male")
    assert len(population) >= 1000 and population.psi == 1.0 and population.seeds == tuple(range(len(population)))
    assert 0 < age.min() and age.max() <= 80 and 0.3 < (male > 0.5).float().mean() < 0.7


def test_the_shipped_scores_are_what_a_survey_gives(faces, attributes):
    shipped = survey.load().take([85, 265, 777])
    again = collect(survey.survey(faces, attributes, shipped.seeds, shipped.psi))
    columns = [shipped.names.index(name) for name in again.names]
    assert again.render == shipped.render == "preview"
    assert_close(again.scores, shipped.scores[:, columns], atol=0.1, rtol=0)
