"""`dvlatent survey`, `find` and `edit`, in words and files, with the toy face in the place of the real one."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dvlatent import checkpoint, images, zoo
from dvlatent.checkpoint import load_direction, save_direction
from dvlatent.cli.main import main
from dvlatent.editing import survey
from dvlatent.errors import UnknownWords
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

toy = ToyFaces(resolution=64)


class Skin:
    """Reads skin tone and hair off fixed places of the picture."""

    names = ("skin", "top")

    def __call__(self, image):
        return torch.stack([image[:, :, 36:40, 28:36].mean(dim=(1, 2, 3)), image[:, :, :6].mean(dim=(1, 2, 3))], dim=1)


@pytest.fixture(autouse=True)
def toy_in_the_place_of_the_face(monkeypatch, tmp_path):
    monkeypatch.setitem(zoo.LOADERS, "faces", lambda: toy)
    monkeypatch.setitem(zoo.LOADERS, "attributes", Skin)
    for name in [name for name in zoo.LOADERS if name.endswith(("-direction", "-edit"))]:
        monkeypatch.delitem(zoo.LOADERS, name)
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


# ---- survey


def test_survey_writes_a_population(capsys):
    some = ("--faces", 12, "--first-seed", 5, "--psi", 0.8, "--predictors", "attributes", "--out", "./some.safetensors")
    code, out, _ = run(capsys, "survey", *some)
    found = survey.load("some.safetensors")
    assert code == 0 and "12 faces at psi 0.8" in out and "median" in out
    assert (found.seeds, found.names, found.psi, found.render) == (tuple(range(5, 17)), Skin.names, 0.8, "full")
    ws = truncate(broadcast(toy.mapping(normal(found.seeds, 32)), 3), toward=toy.w_mean, psi=0.8)
    assert_close(found.scores, Skin()(toy.synthesis(ws)), atol=1 / 127, rtol=0)
    told = checkpoint.load("some.safetensors", "population")[1]
    assert told["command"] == "dvlatent survey --faces 12 --first-seed 5 --psi 0.8 --predictors attributes --out some.safetensors"


SLOW = """
import sys, time, torch
from dvlatent import zoo
from dvlatent.cli import main
from dvlatent.toy.faces import ToyFaces

class Slow:
    names = ("mean",)
    def __call__(self, image):
        time.sleep(0.05)
        return image.mean(dim=(1, 2, 3))[:, None]

zoo.LOADERS["faces"] = lambda: ToyFaces(resolution=16)
zoo.LOADERS["attributes"] = Slow
sys.exit(main(["survey", "--faces", sys.argv[1], "--predictors", "attributes", "--out", "slow.safetensors"]))
"""


def test_ctrl_c_keeps_what_is_scored_and_the_same_command_goes_on(tmp_path):
    command, here = [sys.executable, "-c", SLOW], {**os.environ, "OMP_NUM_THREADS": "1"}
    state = subprocess.Popen([*command, "4000"], cwd=tmp_path, env=here, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("slow.*.part.safetensors")):
        assert time.monotonic() < deadline and state.poll() is None
        time.sleep(0.05)
    state.send_signal(signal.SIGINT)
    said = state.communicate(timeout=60)[1]
    assert state.returncode == 130 and "the same command goes on from them" in said and "Traceback" not in said
    assert not (tmp_path / "slow.safetensors").exists()
    kept = len(survey.load(next(tmp_path.glob("slow.*.part.safetensors"))))
    done = subprocess.run([*command, str(kept + 8)], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and len(survey.load(tmp_path / "slow.safetensors")) == kept + 8
    assert os.listdir(tmp_path) == ["slow.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--faces", 0, "--out", "a.safetensors"), "needs faces, 0"),
        (("--faces", 3, "--out", "a.npz"), r"a.npz should end in .safetensors"),
        (("--faces", 3, "--out", "nowhere/a.safetensors"), "no folder nowhere"),
        (("--faces", 3, "--predictors", "toy", "--out", "a.safetensors"), "'toy' gives no scores"),
        (("--faces", 3, "--predictors", "beard", "--out", "a.safetensors"), "nothing called 'beard'"),
        (("--faces", 3, "--predictors", "attributes,attributes", "--out", "a.safetensors"), "skin, top, skin, top"),
        (("--faces", 3, "--first-seed", -1, "--out", "a.safetensors"), "seed -1"),
    ],
)
def test_survey_refuses_in_one_sentence(capsys, arguments, words):
    code, _, said = run(capsys, "survey", "--predictors", "attributes", *arguments)
    assert code == 1 and words in said and "Traceback" not in said


# ---- find


def population(names=("age", "glasses")):
    """600 toy faces with their true factors as scores; age and glasses go together."""
    tied = ToyFaces(resolution=64, correlation=0.6)
    seeds = tuple(range(600))
    scores = tied.factors(broadcast(tied.mapping(normal(seeds, 32)), 3))
    columns = [tied.factor_names.index(name) for name in names]
    survey.save(survey.Population(seeds, scores[:, columns], names, 1.0, survey.fingerprint(tied)), "toy.safetensors")
    zoo.LOADERS["faces"] = lambda: tied  # undone by the fixture
    return tied.truth


def test_find_writes_a_direction_close_to_the_truth(capsys):
    truth = population()
    ends = ("--low", -3, -0.5, "--high", 0.5, 3, "--population", "toy.safetensors")
    code, out, _ = run(capsys, "find", "--attribute", "age", *ends, "--out", "raw.safetensors")
    assert code == 0 and "method: mean" in out
    cured = ("--balance", "glasses", "--layers", "0-1", "--name", "years", "--out", "cure.safetensors")
    run(capsys, "find", "--attribute", "age", *ends, *cured)
    raw, cure = load_direction("raw.safetensors"), load_direction("cure.safetensors")
    command = "dvlatent find --attribute age --low -3 -0.5 --high 0.5 3 --population toy.safetensors --out raw.safetensors"
    assert raw.found_by["command"] == command
    assert raw.name == "age" and cure.name == "years" and cure.layers == (0, 1)
    assert cure.found_by["balance"] == "glasses" and cure.generator == truth["age"].generator
    assert cure.vector @ truth["age"].vector > raw.vector @ truth["age"].vector > 0.7


def test_find_projects_others_out(capsys):
    population()
    file = ("--population", "toy.safetensors")
    run(capsys, "find", "--attribute", "glasses", "--by", "logistic", *file, "--out", "glasses.safetensors")  # what glasses are read from
    code, _, _ = run(capsys, "find", "--attribute", "age", "--without", "glasses", *file, "--out", "age.safetensors")
    age, glasses = load_direction("age.safetensors"), load_direction("glasses.safetensors")
    assert code == 0 and abs(float(age.vector @ glasses.vector)) < 1e-5 and age.found_by["without"] == "glasses"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--attribute", "beard"), "beard"),
        (("--attribute", "age", "--by", "magic"), "no way 'magic'"),
        (("--attribute", "age", "--low", 5, 9, "--high", 0, 1), "must lie below"),
        (("--attribute", "age", "--population", "missing.safetensors"), "missing.safetensors cannot be read"),
        (("--attribute", "age", "--layers", "hair"), "'hair'"),
        (("--attribute", "age", "--by", "ridge", "--ridge", -1), "a regularization of -1"),
        (("--attribute", "age", "--faces", -3), "600 faces, -3 of them"),
    ],
)
def test_find_refuses_in_one_sentence(capsys, arguments, words):
    population()
    code, _, said = run(capsys, "find", "--population", "toy.safetensors", "--out", "a.safetensors", *arguments)
    assert code == 1 and words in said and "Traceback" not in said
    assert not os.path.exists("a.safetensors")


# ---- edit


def test_edit_draws_before_and_after(capsys):
    save_direction(toy.truth["age"], "age.safetensors")
    save_direction(toy.truth["smile"], "smile.safetensors")
    wanted = ("--direction", "age.safetensors:+2", "--direction", "smile.safetensors:-1")
    code, out, _ = run(capsys, "edit", "--seeds", "7", *wanted, "--psi", 0.5, "--out", "face.png")
    assert code == 0 and "seed 7 at psi 0.5, age +2, smile -1; before and after" in out
    ws = truncate(broadcast(toy.mapping(normal(7, 32)), 3), toward=toy.w_mean, psi=0.5)
    by_hand = torch.cat([toy.synthesis(ws), toy.synthesis((2 * toy.truth["age"] - 1 * toy.truth["smile"])(ws))])
    assert_close(images.read("face.png"), images.from_uint8(images.to_uint8(images.grid(by_hand, columns=2))))


def test_shipped_directions_are_options(capsys, monkeypatch):
    monkeypatch.setitem(zoo.LOADERS, "age-direction", lambda: toy.truth["age"])
    monkeypatch.setitem(zoo.LOADERS, "smile-direction", lambda: toy.truth["smile"])
    code, out, _ = run(capsys, "edit", "--age", "+2", "--smile", "-1", "--strip", 3, "--seeds", "1,2", "--out", "strip.png")
    assert code == 0 and "age +2, smile -1; 3 faces from the opposite edit to this one" in out
    width, height = Image.open("strip.png").size
    assert width == pytest.approx(1.5 * height, rel=0.02)  # two rows of three
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    said = capsys.readouterr().out
    assert "--age STEPS" in said and "--smile STEPS" in said and "--gender" not in said


def test_the_middle_of_a_strip_is_the_face_itself(capsys):
    save_direction(toy.truth["age"], "age.safetensors")
    run(capsys, "edit", "--direction", "age.safetensors:3", "--strip", "--out", "strip.png")
    run(capsys, "generate", "--seeds", 85, "--out", "face.png")
    strip = images.read("strip.png")
    faces = [strip[..., at : at + 512] for at in range(0, strip.shape[-1], 512 + 4)]
    assert len(faces) == 5
    assert (faces[2] - images.resize(images.read("face.png"), 512)).abs().mean() < 0.01
    young, old = (toy.read(toy.truth["age"].move(broadcast(toy.mapping(normal(85, 32)), 3), amount))["age"] for amount in (-3, 3))
    assert young < old and (faces[0] - faces[4]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no edit was asked for: give --words, or steps along --direction FILE:STEPS"),
        (("--direction", "none.safetensors:1"), "none.safetensors cannot be read"),
        (("--direction", "age.safetensors:1", "--strip", 1), "two faces or more, 1"),
        (("--direction", "age.safetensors:1", "--out", "face.txt"), "face.txt"),
        (("--direction", "other.safetensors:1"), "Find the direction again"),
    ],
)
def test_edit_refuses_in_one_sentence(capsys, arguments, words):
    save_direction(toy.truth["age"], "age.safetensors")
    save_direction(ToyFaces(resolution=8).truth["age"], "other.safetensors")
    code, _, said = run(capsys, "edit", *arguments)
    assert code == 1 and words in said and "Traceback" not in said


@pytest.mark.parametrize("given", ["age.txt:1", "age.safetensors:much", "age.safetensors"])
def test_edit_refuses_what_is_no_file_and_steps(capsys, given):
    with pytest.raises(SystemExit) as stop:
        main(["edit", "--direction", given])
    assert stop.value.code == 2 and "--direction" in capsys.readouterr().err


# ---- words


class Says:
    """Knows that "old" is age, and that "happy" is a smile; the axes are the truth."""

    axes = torch.stack([toy.truth["age"].vector, toy.truth["smile"].vector], dim=1)

    def difference(self, phrase, against):
        if (phrase, against) not in (("old", "a face"), ("happy", "a face"), ("old", "happy")):
            raise UnknownWords(f"'{phrase}' means nothing to this model.")
        return torch.tensor({"old": (1.0, 0.0), "happy": (0.0, 1.0)}[phrase])


@pytest.fixture
def words(monkeypatch):
    monkeypatch.setitem(zoo.LOADERS, "words", Says)


def test_words_are_found_and_kept(capsys, words):
    found = run(capsys, "find", "--words", "old", "--against", "happy", "--layers", "1", "--out", "old.safetensors")
    old = load_direction("old.safetensors")
    assert found[0] == 0 and "old.safetensors: old, one step is 1." in found[1]
    assert_close(old.vector, toy.truth["age"].vector) and old.layers == (1,)
    assert old.found_by == {
        "method": "words",
        "against": "happy",
        "command": "dvlatent find --words old --against happy --layers 1 --out old.safetensors",
    }


def test_words_edit_a_face(capsys, words):
    code, out, _ = run(capsys, "edit", "--seed", 7, "--words", "old", "--words", "happy:-1", "--out", "face.png")
    assert code == 0 and "seed 7 at psi 0.7, 'old' +3, 'happy' -1; before and after" in out
    old, happy = (toy.truth[name] for name in ("age", "smile"))
    ws = truncate(broadcast(toy.mapping(normal(7, 32)), 3), toward=toy.w_mean, psi=0.7)
    picture = images.read("face.png")[..., -64:]
    assert (picture - toy.synthesis((3 * old - 1 * happy)(ws))).abs().mean() < 0.02
    assert (picture - toy.synthesis(ws)).abs().mean() > 0.04


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("edit", "--words", "plomb: +3"), "'plomb' means nothing"),
        (("find", "--words", "plomb", "--out", "a.safetensors"), "'plomb' means nothing"),
        (("find", "--words", "old", "--by", "lda", "--out", "a.safetensors"), "words need no scores: leave --by out"),
        (("find", "--words", "old", "--low", 1, 2, "--out", "a.safetensors"), "words need no scores: leave --low out"),
    ],
)
def test_words_refuse_in_one_sentence(capsys, words, arguments, said):
    code, _, err = run(capsys, *arguments)
    assert code == 1 and said in err and "Traceback" not in err
