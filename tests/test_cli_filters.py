"""`dvlatent pairs`, `distill`, `filter` and `export`, in words and files, with toys in the place of the real networks."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import filters as recipe
import pytest
import torch
from distill_tiny import Blurred
from imageio_ffmpeg import get_ffmpeg_exe
from pairs_toy import CONFIG, RULES, Colors, identity, parts
from PIL import Image as Pillow

from dvlatent import checkpoint, images, load, video, zoo
from dvlatent.cli.filters import parse_edit
from dvlatent.cli.main import main
from dvlatent.distillation import pairs as pairs_module
from dvlatent.distillation import train as train_module
from dvlatent.distillation.filter import Filter, apply_to_photo
from dvlatent.distillation.pairs import Pairs, write_pairs
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.distillation.train import DistillConfig, distill
from dvlatent.errors import ShapeError
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
    monkeypatch.setitem(pairs_module.READS, "blue", "attributes")
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
    for edit, words in (("nose:2", "no rules for pairs of 'nose'"), ("age", "is no edit")):
        assert main(["pairs", "--edit", edit, "--out", "p"]) == 1 and words in capsys.readouterr().err
    assert Pairs(tmp_path / "p").command == "dvlatent pairs --edit \"age:-2..+2\" --psi 0.8 --first-seed 2 --count 5 --full --out p"


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
    """Three trainings: the second begins with the first one's weights, the last one's factor is given; what is finished is kept."""
    chain = {"age-1": ("stop_after", 2), "age-2": ("start", "age-1"), "age": ("amplify", 1.2)}
    stages = {name: replace(recipe.STAGES[name], steps=3, config={"batch": 2}, **{key: value}) for name, (key, value) in chain.items()}
    monkeypatch.setattr(recipe, "STAGES", stages)
    monkeypatch.setattr(recipe, "PAIRS", {"age": ["--edit", "age:-2..+2", "--first-seed", "2", "--count", "4"]})
    monkeypatch.setattr(recipe, "HOLDOUT", 2)
    monkeypatch.setattr(recipe, "FINISH", {})
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


def test_help_is_instant():
    command = [sys.executable, "-X", "importtime", "-m", "dvlatent", "distill", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "discriminator-from" in done.stdout and " torch\n" not in done.stderr


# filter and export


def brighter(image, strength):
    return image + 0.1 * strength.view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def older(aligner):
    return Filter(brighter, "age", aligner=aligner)


@pytest.fixture
def shipped(monkeypatch, older):
    """As if an age filter and a smile filter were shipped, and nothing else."""
    for name in [name for name in zoo.LOADERS if name.endswith("-filter")]:
        monkeypatch.delitem(zoo.LOADERS, name)
    monkeypatch.setitem(zoo.LOADERS, "age-filter", lambda: older)
    smile = Filter(Student(4, 3, 1).eval(), "smile", 0, 1, aligner=older.aligner)
    monkeypatch.setitem(zoo.LOADERS, "smile-filter", lambda: smile)


def test_the_command_filters_a_photo(shipped, older, photo, tmp_path, capsys):
    images.write(photo, tmp_path / "her.png")
    assert main(["filter", str(tmp_path / "her.png"), "--age", "+2", "--smile", "0.5"]) == 0
    assert "her-filtered.png: age +2, smile +0.5" in capsys.readouterr().out
    wanted = apply_to_photo(photo, [(older, 2.0), (zoo.load("smile-filter"), 0.5)])
    assert (images.read(tmp_path / "her-filtered.png") - wanted).abs().max() < 0.005
    for words, line in (
        ("no filter was asked for: give a strength by --age, --smile", []),
        (r"strength \+1\.5 is beyond", ["--smile", "1.5"]),
        ("there is no file", ["--age", "1"]),
    ):
        source = "nothing.png" if line == ["--age", "1"] else "her.png"
        assert main(["filter", str(tmp_path / source), *line]) == 1
        assert re.search(words, capsys.readouterr().err)


def test_nothing_is_replaced_unless_asked(shipped, photo, tmp_path, capsys):
    images.write(photo, tmp_path / "her.png")
    older, younger = (["filter", str(tmp_path / "her.png"), "--age", strength] for strength in ("2", "-2"))
    assert main(older) == 0
    before = (tmp_path / "her-filtered.png").read_bytes()
    assert main(younger) == 1 and "--overwrite to replace it" in capsys.readouterr().err
    assert (tmp_path / "her-filtered.png").read_bytes() == before
    assert main([*younger, "--overwrite"]) == 0
    assert (tmp_path / "her-filtered.png").read_bytes() != before
    video.film(torch.zeros(2, 3, 64, 64), tmp_path / "a.mp4", fps=2, progress=False)
    film = (tmp_path / "a.mp4").read_bytes()
    assert main(["filter", str(tmp_path / "a.mp4"), "--age", "1", "--out", str(tmp_path / "a.mp4"), "--overwrite"]) == 1
    assert "is the film itself" in capsys.readouterr().err and (tmp_path / "a.mp4").read_bytes() == film


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_edited_photo_says_so_if_asked(shipped, photo, suffix, tmp_path):
    images.write(photo, tmp_path / "her.png")
    plain, marked = tmp_path / f"plain{suffix}", tmp_path / f"marked{suffix}"
    assert main(["filter", str(tmp_path / "her.png"), "--age", "2", "--out", str(plain)]) == 0
    assert main(["filter", str(tmp_path / "her.png"), "--age", "2", "--out", str(marked), "--mark", "--mark-corner"]) == 0
    assert Pillow.open(marked).getexif()[0x010E] == "edited: age +2" and not Pillow.open(plain).getexif()
    change = (images.read(marked) - images.read(plain)).abs().amax((0, 1)) > 0.1
    assert change[-20:, -60:].any() and not change[:-40].any()


def test_the_command_filters_a_folder_and_goes_on(shipped, photo, tmp_path, capsys):
    folder = tmp_path / "photos"
    images.write(photo, folder / "a.jpg")
    images.write(torch.zeros(1, 3, 64, 64), folder / "b.png")  # nobody there
    (folder / "c.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no photo at all")
    assert main(["filter", str(folder), "--age", "1"]) == 0
    words = capsys.readouterr()
    assert "1 of 3 photos edited, 2 refused" in words.out and "b.png: no face" in words.err and "c.jpg: " in words.err
    out = tmp_path / "photos-filtered"
    assert [path.name for path in out.iterdir()] == ["a.jpg"]
    assert main(["filter", str(folder), "--age", "1"]) == 0 and "1 were done before" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["filter", str(tmp_path / "empty"), "--age", "1"]) == 1 and "has no photos" in capsys.readouterr().err


def test_the_command_filters_a_film(shipped, photo, tmp_path, capsys):
    small = photo[..., 0:256, 90:346]
    shots = torch.cat([small, torch.zeros_like(small), small.roll(4, -1)])
    video.film(shots, tmp_path / "talk.mp4", fps=12, progress=False)
    assert main(["filter", str(tmp_path / "talk.mp4"), "--age", "2"]) == 0
    assert "1 frames without a face" in capsys.readouterr().out
    fps, count, pieces = video.frames(tmp_path / "talk-filtered.mp4")
    edited, plain = torch.cat(list(pieces)), torch.cat(list(video.frames(tmp_path / "talk.mp4")[2]))
    assert fps == 12 and count == 3 and edited.shape == plain.shape == (3, 3, 256, 256)
    change = (edited - plain)[..., 60:160, 90:170].mean(dim=(1, 2, 3))
    assert float(change[0]) > 0.1 and abs(float(change[1])) < 0.02 and float(change[2]) > 0.1
    assert "sound" not in streams(tmp_path / "talk-filtered.mp4") and len(list(tmp_path.iterdir())) == 2


def streams(path):
    """What a film consists of, in ffmpeg's words, with "sound" for audio."""
    words = subprocess.run([get_ffmpeg_exe(), "-i", path], capture_output=True, text=True, check=False).stderr
    return "picture " * words.count("Video: ") + "sound " * words.count("Audio: ")


def test_a_film_keeps_its_sound(shipped, tmp_path, capsys):
    video.film(torch.zeros(2, 3, 64, 64), tmp_path / "silent.mp4", fps=2, progress=False)
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "silent.mp4", *tone, tmp_path / "loud.mp4"], check=True)
    assert streams(tmp_path / "loud.mp4").split() == ["picture", "sound"]
    assert main(["filter", str(tmp_path / "loud.mp4"), "--age", "1", "--out", str(tmp_path / "new" / "out.mp4")]) == 0
    assert "2 frames without a face" in capsys.readouterr().out
    assert streams(tmp_path / "new" / "out.mp4").split() == ["picture", "sound"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"] and video.frames(tmp_path / "new" / "out.mp4")[1] == 2


def test_the_command_exports(shipped, tmp_path, capsys):
    assert main(["export", "smile-filter", "--out", str(tmp_path / "smile.onnx")]) == 0
    assert "strength [batch] in [0, 1]" in capsys.readouterr().out and (tmp_path / "smile.onnx").stat().st_size > 1000
    assert main(["export", "smile-filter", "--web", "--out", str(tmp_path)]) == 0
    narrow, whole = (tmp_path / "smile.weights").stat().st_size, (tmp_path / "smile.onnx").stat().st_size
    assert f"smile.weights: smile, {(narrow + whole) / 1e6:.1f} MB" in capsys.readouterr().out
    assert main(["export", "age-direction", "--out", str(tmp_path / "age.onnx")]) == 1
    assert "is no filter" in capsys.readouterr().err
