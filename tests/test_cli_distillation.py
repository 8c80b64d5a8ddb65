"""`dvlatent pairs`, `distill` and `export`, in words and files, with toys in the place of the real networks."""

import re
import shutil
from dataclasses import asdict, replace
from functools import partial

import filters as recipe
import pytest
import torch
from distill_tiny import Blurred
from pairs_toy import CONFIG, RULES, Colors, identity, parts

from dvlatent import checkpoint, load, zoo
from dvlatent.cli import distillation
from dvlatent.cli.distillation import parse_edit
from dvlatent.cli.main import main
from dvlatent.distillation import pairs as pairs_module
from dvlatent.distillation import train as train_module
from dvlatent.distillation.filter import Filter
from dvlatent.distillation.pairs import Pairs, write_pairs
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.distillation.train import DistillConfig, distill
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, w_of
from dvlatent.toy.faces import ToyFaces
from dvlatent.training import progress

# pairs


class Shade:
    """A second predictor, for the command."""

    names = ("shade",)

    def __call__(self, image):
        return image.mean(dim=(1, 2, 3))[:, None]


@pytest.fixture
def small_house(monkeypatch):
    """The command, with a toy face in place of everything that is loaded."""
    toy = ToyFaces(resolution=128)
    direction = replace(toy.truth["background"], name="age")
    things = {"faces": toy, "age-direction": direction, "attributes": Colors(), "landmarks": Shade(), "identity": identity}
    for name, thing in things.items():
        monkeypatch.setitem(zoo.LOADERS, name, lambda thing=thing: thing)
    monkeypatch.setitem(pairs_module.RULES, "age", replace(RULES, within={}))
    monkeypatch.setattr(pairs_module, "BLOCK", 8)


def test_the_command_makes_pairs_and_goes_on(small_house, tmp_path, capsys):
    command = ["pairs", "--edit", "age:-2..+2", "--out", str(tmp_path / "p"), "--first-seed", "2"]
    assert main([*command, "--count", "3"]) == 0
    words = capsys.readouterr().out
    assert f"{tmp_path / 'p'}: 3 pairs;" in words and "50% of 8 seeds were kept" in words and "did not move enough" in words
    ids = Pairs(tmp_path / "p").ids
    assert len(ids) == 3 and ids[0] == "0000000002"
    assert main([*command, "--count", "5"]) == 0 and Pairs(tmp_path / "p").ids[:3] == ids and len(Pairs(tmp_path / "p")) == 5
    assert main([*command, "--count", "3", "--psi", "0.5"]) == 1 and "another config" in capsys.readouterr().err
    for edit, words in (("nose:2", "'nose' is no edit: say one of"), ("age", "is no edit")):
        assert main(["pairs", "--edit", edit, "--out", "p"]) == 1 and words in capsys.readouterr().err
    assert Pairs(tmp_path / "p").command == "dvlatent pairs --edit age:-2..+2 --out p --first-seed 2 --count 5"


def test_any_surveyed_attribute_becomes_a_filter(monkeypatch, tmp_path, capsys):
    """survey, find, pairs, distill, filter for an attribute that nobody wrote rules for: the blue of the background."""

    class Shapes:
        names = ("smile", "background")

        def __call__(self, image):
            return torch.stack([image[:, 0].mean((1, 2)), (image[:, 2] - image[:, 0])[:, :12, :12].mean((1, 2))], dim=1)

    toy = ToyFaces(resolution=128)
    mine = {"faces": toy, "mine": Shapes(), "attributes": Colors(), "landmarks": Shade(), "identity": identity, "perceptual": Perceptual()}
    for name, thing in mine.items():
        monkeypatch.setitem(zoo.LOADERS, name, lambda thing=thing: thing)
    monkeypatch.setattr(pairs_module, "CLEAN", {})
    monkeypatch.setattr(pairs_module, "BLOCK", 8)
    monkeypatch.setattr(train_module, "Student", partial(Student, width=4, blocks=1))
    monkeypatch.chdir(tmp_path)
    assert main("survey --faces 120 --predictors mine --out some.safetensors".split()) == 0
    find = "find --attribute background --by ridge --population some.safetensors --out backdrop.safetensors --name backdrop"
    assert main(find.split()) == 0 and abs(float(load("backdrop.safetensors").vector @ toy.truth["background"].vector)) > 0.7
    pairs = "pairs --edit backdrop.safetensors:-2..+2 --count 6 --first-seed 2 --out pairs".split()
    capsys.readouterr()
    assert main([*pairs, "--keep", "nose=1"]) == 1 and "--keep nose: what may stay is one of red, green" in capsys.readouterr().err
    assert main([*pairs, "--keep", "red=0.9", "--keep", "smile=any", "--identity-limit", "9"]) == 0
    found, words, rules = load("backdrop.safetensors").found_by, capsys.readouterr().err, Pairs("pairs").settings["rules"]
    assert f"background moves by {found['score_std'] / 5:.3g} for each step" in words and "more than: red 0.9 (--keep)" in words
    assert rules["score"] == "background" and rules["min_change"] == pytest.approx(0.2 * found["score_std"])
    assert rules["max_change"] == {"red": 0.9} and rules["identity_limit"] == 9 and Pairs("pairs").settings["scored_by"][-1] == "mine"
    distill = "distill pairs --out mine.safetensors --steps 1 --batch 2 --coarse-steps 0 --no-bf16 --holdout".split()
    assert main([*distill, "9"]) == 1 and "9 of 6 pairs cannot be held out to measure on: say --holdout 1" in capsys.readouterr().err
    assert main([*distill, "2", "--lr", "-1"]) == 1 and "the learning rates -1 and" in capsys.readouterr().err
    assert main([*distill, "2"]) == 0 and "PSNR dB" in capsys.readouterr().out
    assert main([*distill, "2"]) == 1 and "mine.safetensors is there already" in capsys.readouterr().err
    filtered, face = load("mine.safetensors"), Pairs("pairs").batch([0])[0]
    assert filtered.name == "backdrop" and not torch.equal(filtered(face, 2.0), filtered(face, -2.0))


def test_rules_of_an_edit_that_says_nothing_are_asked_for(monkeypatch, tmp_path, capsys):
    toy = ToyFaces(resolution=128)
    mine = {"faces": toy, "attributes": Colors(), "landmarks": Shade(), "identity": identity}
    for name, thing in mine.items():
        monkeypatch.setitem(zoo.LOADERS, name, lambda thing=thing: thing)
    monkeypatch.setattr(pairs_module, "CLEAN", {})
    monkeypatch.setattr(pairs_module, "BLOCK", 8)
    monkeypatch.chdir(tmp_path)
    both = 1.0 * replace(toy.truth["background"], found_by={}) + 0.1 * replace(toy.truth["age"], found_by={})
    checkpoint.save_edit(both, "both.safetensors")
    pairs = "pairs --edit both.safetensors:+2 --count 3 --out pairs --first-seed 2".split()
    assert main(pairs) == 1 and "nobody knows what: say --score and one of red, green, blue" in capsys.readouterr().err
    assert main([*pairs, "--score", "blue"]) == 1 and "how far must 'blue' move in a step?" in capsys.readouterr().err
    monkeypatch.setattr(distillation, "HOPELESS", 16)
    assert main([*pairs, "--score", "blue", "--min-change", "9"]) == 1 and "none of 16 seeds passed" in capsys.readouterr().err
    assert main([*pairs, "--score", "blue", "--min-change", "-1"]) == 1 and "must lie above 0" in capsys.readouterr().err
    pairs[-3] = "fresh"
    assert main([*pairs, "--score", "blue", "--min-change", "0.01", "--identity-limit", "9"]) == 0
    a, b, strength = Pairs("fresh").batch([0])
    by_hand = [toy.synthesis(ws) for seed in [int(Pairs("fresh").ids[0])] for ws in both_sides(toy, both, seed)]
    assert float(strength) == 2 and (a - by_hand[0]).abs().mean() < 0.02 and (b - by_hand[1]).abs().mean() < 0.02
    assert Pairs("fresh").settings["direction"]["name"] == "background, age"


def both_sides(toy, edit, seed):
    ws = broadcast(w_of(toy, [seed], 0.8), toy.num_layers)
    return ws, (2 * edit)(ws)


@pytest.mark.parametrize(("text", "edit"), [("age:+2", ("age", 2, 2)), ("age:-2..+2", ("age", -2, 2)), ("smile:0..1.5", ("smile", 0, 1.5))])
def test_edits_in_words(text, edit):
    assert parse_edit(text) == edit
    for wrong in ("age", "age:", "age:old", "age:1..x"):
        with pytest.raises(ShapeError, match="is no edit"):
            parse_edit(wrong)


# distill


class Perceptual(Blurred):
    def to(self, device):
        return self


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pairs."""
    made = tmp_path_factory.mktemp("pairs")
    generator, direction, predictor, _ = parts()
    list(write_pairs(made, generator, direction, 6, predictor, identity, RULES, CONFIG))
    return made


@pytest.fixture
def toys(monkeypatch):
    """The command, with networks that anybody can compute; it keeps its run at every step."""
    monkeypatch.setitem(zoo.LOADERS, "perceptual", Perceptual)
    monkeypatch.setitem(zoo.LOADERS, "landmarks", Colors)
    monkeypatch.setattr(train_module, "Student", partial(Student, width=4, blocks=1))
    monkeypatch.setattr(train_module, "progress", partial(progress, every=1))


def test_a_filter_that_is_worse_than_none_is_warned_of():
    row = {"psnr_db": 20.0, "perceptual": 0.1234}
    words = train_module.score_table({"as drawn": {**row, "left": 1.25}, "JPEG 20": {**row, "left": 0.5}})
    assert re.search(r"as drawn +20.00 +0.1234 +1.25\n", words) and "Warning: worse than doing nothing (as drawn)" in words
    assert "Warning" not in train_module.score_table({"as drawn": {**row, "left": 0.99}})


def test_the_first_pairs_are_held_out(folder):
    learn, unseen = train_module.split(Pairs(folder, reverse=True), 2)
    assert (len(learn), len(unseen)) == (8, 2)  # forwards and backwards, and forwards only
    assert {number % 6 for number in learn.numbers} == {2, 3, 4, 5} and set(unseen.numbers) == {0, 1}
    with pytest.raises(ShapeError, match="6 of 6 pairs"):
        train_module.split(Pairs(folder, reverse=True), 6)


def test_a_filter_is_made_stopped_and_made_on(toys, folder, tmp_path, monkeypatch, capsys):
    options = ["--steps", "4", "--batch", "2", "--coarse-steps", "0", "--no-bf16", "--holdout", "2"]
    assert main(["distill", str(folder), "--out", str(tmp_path / "whole.safetensors"), *options]) == 0
    assert "on 2 unseen pairs" in capsys.readouterr().out

    def cut(*given, **named):
        for step in distill(*given, **named):
            yield step
            if step.index == 1:
                raise KeyboardInterrupt

    out = tmp_path / "mine.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(train_module, "distill", cut)
        assert main(["distill", str(folder), "--out", str(out), *options]) == 130
    assert (tmp_path / "mine.run.safetensors").exists()
    assert main(["distill", str(folder), "--out", str(out), *options]) == 0
    assert not (tmp_path / "mine.run.safetensors").exists()
    (whole, _), (stopped, about) = (checkpoint.load(path, "filter") for path in (tmp_path / "whole.safetensors", out))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert about["command"] == f"dvlatent distill {folder.name} --out mine.safetensors {' '.join(options)}"
    assert about["pairs_command"] == Pairs(folder).command and 1 <= about["amplified"] <= 2
    assert about["pairs"] == 4 and about["steps_done"] == 4 and about["scores"]["as drawn"]["left"] > 0
    assert about["made_as"]["direction"]["name"] == about["direction"]


def test_what_was_written_loads_as_a_filter_and_another_begins_there(toys, folder, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    distill_this = ["distill", str(folder), "--batch", "2", "--holdout", "2", "--out"]
    assert main([*distill_this, str(first), "--steps", "2", "--random-seed", "3"]) == 0
    one, face = load(first), torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(one(face, strength=0.0), face)
    amplify = ["--amplify", str(one.about["amplified"])]
    tensors, about = checkpoint.load(first, "filter")
    checkpoint.save(first, {name.replace("blocks.", "middle."): tensor for name, tensor in tensors.items()}, about)  # as older files are
    assert main([*distill_this, str(second), "--steps", "1", "--lr", "1e-9", *amplify, "--start", str(first)]) == 0
    other = load(second)
    assert torch.allclose(one(face, 2.0), other(face, 2.0), atol=2e-3)
    assert other.about["command"].endswith(f" {' '.join(amplify)} --start first.safetensors")
    assert other.about["started_from"]["steps_done"] == 2 and other.about["started_from"]["command"].endswith(" --random-seed 3")


def test_impossible_wishes_are_refused_at_once(folder, tmp_path, capsys):
    assert main(["distill", str(folder), "--out", str(tmp_path / "f.safetensors"), "--amplify", "0"]) == 1
    assert "--amplify 0 should lie above 0" in capsys.readouterr().err
    assert main(["distill", str(folder), "--out", str(tmp_path / "nowhere" / "f.safetensors")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_recipe_does_the_trainings_of_a_chain_and_goes_on(toys, small_house, tmp_path, monkeypatch):
    """Three trainings before the last: the second begins with the first one's weights, a factor is given; what is finished is kept."""
    chain = {"age-1": ("stop_after", 2), "age-2": ("start", "age-1"), "age": ("amplify", 1.2)}
    stages = {name: replace(recipe.STAGES[name], steps=3, config={"batch": 2}, **{key: value}) for name, (key, value) in chain.items()}
    monkeypatch.setattr(recipe, "STAGES", stages)
    monkeypatch.setattr(recipe, "PAIRS", {"age": ["--edit", "age:-2..+2", "--first-seed", "2", "--count", "4"]})
    monkeypatch.setattr(recipe, "HOLDOUT", 2)
    monkeypatch.setattr(recipe.last_training, "make", lambda what, start, out, pool, command: shutil.copy(start, out))
    recipe.make(tmp_path / "age-filter.safetensors", "age", tmp_path / "pool")
    made = {name: checkpoint.load(tmp_path / "pool" / f"{name}.safetensors", "filter")[1] for name in chain}
    about = load(tmp_path / "age-filter.safetensors").about
    assert about == made["age"] and about["command"] == "python recipes/filters.py age --out age-filter.safetensors"
    assert [made[name]["steps_done"] for name in chain] == [2, 3, 3] and about["amplified"] == 1.2
    assert "started_from" not in made["age-1"] and made["age-2"]["started_from"]["steps_done"] == 2
    monkeypatch.setattr(recipe, "distill_folder", None)  # nothing is trained again
    recipe.make(tmp_path / "again.safetensors", "age", tmp_path / "pool")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "age-filter.safetensors").read_bytes()


def test_every_chain_of_the_recipe_ends_in_a_filter_that_we_ship():
    for name, stage in recipe.STAGES.items():
        assert stage.start is None or stage.start in recipe.STAGES
        assert replace(DistillConfig(), **{"steps": stage.steps, **stage.config}).batch == 4
        assert name.split("-")[0] in recipe.PAIRS and (name in recipe.PAIRS) == (f"{name}-filter" in zoo.LOADERS)
    assert set(recipe.PAIRS) == set(recipe.last_training.PLANS)
    for name, plan in recipe.last_training.PLANS.items():
        about = checkpoint.load(zoo.WEIGHTS / f"{name}-filter.safetensors", "filter")[1]
        assert about["config"] == asdict(plan.training) and about["amplified"] == plan.bolder
        assert about.get("years") == plan.about.get("years")


# export


def test_the_command_exports(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(zoo.LOADERS, "smile-filter", lambda: Filter(Student(4, 3, 1).eval(), "smile", 0, 1))
    assert main(["export", "smile-filter", "--out", str(tmp_path / "smile.onnx")]) == 0
    assert "strength [batch] in [0, 1]" in capsys.readouterr().out and (tmp_path / "smile.onnx").stat().st_size > 1000
    assert main(["export", "smile-filter", "--web", "--out", str(tmp_path)]) == 1
    assert "smile.onnx is there already" in capsys.readouterr().err
    assert main(["export", "smile-filter", "--web", "--out", str(tmp_path), "--overwrite"]) == 0
    narrow, whole = (tmp_path / "smile.weights").stat().st_size, (tmp_path / "smile.onnx").stat().st_size
    assert f"smile.weights: smile, {(narrow + whole) / 1e6:.1f} MB" in capsys.readouterr().out
    assert main(["export", "age-direction", "--out", str(tmp_path / "age.onnx")]) == 1
    assert "is no filter" in capsys.readouterr().err
