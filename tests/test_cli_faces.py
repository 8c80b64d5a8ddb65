"""`dvlatent generate`, `walk`, `mix` and `models`, and what all commands share: options, overwriting, places that cannot be written."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from dvlatent import images, video, zoo
from dvlatent.cli.arguments import sheet_px
from dvlatent.cli.main import main, parser
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, lerp, mix, w_of
from dvlatent.toy.faces import ToyFaces

toy = ToyFaces(resolution=64)
COMMANDS = next(action.choices for action in parser()._actions if action.dest == "command")


@pytest.fixture(autouse=True)
def toy_in_the_place_of_the_face(monkeypatch, tmp_path):
    monkeypatch.setitem(zoo.LOADERS, "faces", lambda: toy)
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def drawn(ws):
    return images.from_uint8(images.to_uint8(toy.synthesis(ws)))


def ws_of(seeds, psi=0.7):
    return broadcast(w_of(toy, seeds, psi), toy.num_layers)


# ---- generate, walk, mix


def test_generate_draws_one_file_a_seed(capsys):
    code, out, _ = run(capsys, "generate", "--seed", "3,7-8", "--trunc", 0.5, "--outdir", "few")  # as NVIDIA's programs take them
    assert code == 0 and out == "few: seed 3, 7, 8 at psi 0.5\n" and sorted(os.listdir("few")) == [f"seed000{n}.png" for n in (3, 7, 8)]
    assert_close(images.read("few/seed0007.png"), drawn(ws_of([7], 0.5)))


def test_generate_draws_one_sheet_if_asked(capsys):
    code, out, _ = run(capsys, "generate", "--seeds", "3,7-8", "--psi", 0.5, "--out", "sheet.png")
    assert code == 0 and "sheet.png: seed 3, 7, 8 at psi 0.5" in out
    assert_close(images.read("sheet.png"), images.grid(drawn(ws_of([3, 7, 8], 0.5))))


def test_a_sheet_is_bounded_and_the_words_are_too(capsys):
    _, out, _ = run(capsys, "generate", "--seeds", "0-200", "--out", "sheet.jpg")
    assert out == "sheet.jpg: 201 seeds from 0 to 200 at psi 0.7\n" and max(Image.open("sheet.jpg").size) == 15 * 68 - 4
    for rows, columns in ((1, 1), (4, 4), (14, 15), (201, 2), (100, 100)):
        side = sheet_px(rows, columns, 1024)
        assert rows * columns * (side + 4) ** 2 <= 20_000_000 and max(rows, columns) * (side + 4) <= 16_000
    assert (sheet_px(1, 2, 1024), sheet_px(4, 4, 1024), sheet_px(14, 15, 1024)) == (1024, 1024, 304)
    with pytest.raises(ShapeError, match="1,000,000 faces do not fit one sheet"):
        sheet_px(1000, 1000, 1024)


def test_walk_leads_through_every_face_and_back(capsys):
    code, out, _ = run(capsys, "walk", "--seeds", "1,4", "--frames", 4, "--fps", 8, "--out", "walk.mp4")
    assert code == 0 and "seed 1, 4 at psi 0.7, 8 frames, 1.0 s" in out
    frames = torch.cat(list(video.frames("walk.mp4")))
    ends = drawn(ws_of([1, 4]))
    assert len(frames) == 8 and (frames[[0, 4]] - ends).abs().mean() < 0.04
    halfway = drawn(lerp(ws_of([1]), ws_of([4]), 0.5))
    run(capsys, "walk", "--seeds", "1,4", "--frames", 5, "--one-way", "--out", "there.mp4")
    frames = torch.cat(list(video.frames("there.mp4")))
    assert len(frames) == 5 and (frames[[0, 2, 4]] - torch.cat([ends[:1], halfway, ends[1:]])).abs().mean() < 0.04
    assert run(capsys, "walk", "--seeds", "1", "--out", "one.mp4")[0] == 1


def test_mix_draws_a_table(capsys):
    code, out, _ = run(capsys, "mix", "--rows", "1,4", "--cols", "7,8,9", "--layers", "1-2", "--out", "mix.png")
    assert code == 0 and "columns seed 7, 8, 9 give the 1 to 2 layers" in out
    table = images.read("mix.png")
    tile = lambda row, column: table[..., row * 68 : row * 68 + 64, column * 68 : column * 68 + 64]  # noqa: E731
    assert torch.equal(tile(0, 0), torch.ones(1, 3, 64, 64))
    assert_close(tile(0, 3), drawn(ws_of([9])))
    assert_close(tile(2, 0), drawn(ws_of([4])))
    assert_close(tile(2, 3), drawn(mix(ws_of([4]), ws_of([9]), [1, 2])))


def test_models_are_listed_with_a_line_each(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(zoo.available())
    assert all(len(line.split()) > 2 and len(line) < 110 for line in out.splitlines())
    assert tuple(json.loads(run(capsys, "models", "--json")[1])) == zoo.available()


# ---- what all commands share


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_gets_the_usage_of_its_command(command, capsys):
    needed = {"invert": ["a.jpg", "--out", "a"], "score": ["a.jpg"], "filter": ["a.jpg"], "distill": ["a", "--out", "a"]}
    needed |= {"export": ["a", "--out", "a"], "survey": ["--out", "a"], "find": ["--attribute", "a", "--out", "a"]}
    needed |= {"pairs": ["--edit", "a", "--out", "a"], "convert": ["a.pkl", "a.safetensors"], "train-gan": ["a", "--out", "a"]}
    with pytest.raises(SystemExit) as stop:
        main([command, *needed.get(command, []), "--xelp=3"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"usage: dvlatent {command}" in said and "there is no option --xelp. Did you mean --help?" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate --sedes 3", "there is no option --sedes. Did you mean --seeds?"),
        ("generate 3", "'3' is one word too many"),
        ("fliter a.jpg", "there is no 'fliter'. Did you mean filter?"),
        ("qqqq", "there is no 'qqqq'. Say one of assets, models, generate"),
        ("invert a.jpg --out b --space z", "there is no 'z'. Say one of w, w+."),
        *((f"generate --seeds={wrong}", "is not a list of numbers and ranges such as 3,5,10-12") for wrong in "10-5 -3 x 1,,2 3²".split()),
        ("generate --seeds 0-99999999", "more than 1,000,000 numbers"),
        ("generate --psi nan", "'nan' is not a number"),
        ("generate --psi 5", "'5' draws no faces"),
        ("edit --age inf", "'inf' is not a number"),
        ("invert a.jpg --out b --seconds nan", "'nan' is not a number"),
        ("edit --direction mine.safetensors:nan", "'nan' is not a number"),
    ],
)
def test_wrong_options_are_refused_in_words(line, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2 and words in capsys.readouterr().err


LINES = ["generate --out a.png", "generate --outdir . --seeds 3", "edit --age 1 --out a.png", "mix --out a.png", "walk --out a.gif"]


@pytest.mark.parametrize("line", LINES)
def test_nothing_is_replaced_unless_asked(line, capsys, monkeypatch):
    monkeypatch.setitem(zoo.LOADERS, "age-direction", lambda: toy.truth["age"])
    for name in ("a.png", "a.gif", "seed0003.png"):
        with open(name, "w") as file:
            file.write("mine")
    code, _, said = run(capsys, *line.split())
    assert code == 1 and "is there already" in said and "--overwrite to replace it" in said
    assert {open(name).read() for name in os.listdir()} == {"mine"}
    assert run(capsys, *line.split(), "--overwrite")[0] == 0
    assert sum(os.path.getsize(name) > 4 for name in os.listdir()) == 1


PLACES = """generate --out {}/a.png | generate --outdir {} | edit --out {}/a.png | walk --out {}/a.mp4 | mix --out {}/a.png
| export age-filter --out {}/a.onnx | survey --out {}/a.safetensors | find --attribute age --out {}/a.safetensors
| invert a.png --out {}/a.safetensors | pairs --edit age:2 --out {} | distill pairs --out {}/a.safetensors""".split("|")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="/proc is a folder that nobody can write into")
@pytest.mark.parametrize("line", PLACES)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(line, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "load", lambda name: pytest.fail(f"{name} was loaded first"))
    code, _, said = run(capsys, *line.format("/proc").split())
    assert code == 1 and "nothing can be written into /proc" in said and said.count("\n") == 1


def test_a_full_disk_in_the_middle_is_one_sentence(capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "seed0003.png")

    monkeypatch.setattr(images, "write", full)
    code, _, said = run(capsys, "generate", "--seeds", "3")
    words = "Stopped: seed0003.png: No space left on device. Make room, or choose another place. Faces that are drawn stay.\n"
    assert code == 1 and said == words


def test_help_is_instant_and_a_reader_may_leave():
    for command in ("", *COMMANDS):
        words = [sys.executable, "-X", "importtime", "-m", "dvlatent", *command.split(), "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "usage: dvlatent" in done.stdout and " torch\n" not in done.stderr and " numpy\n" not in done.stderr, command
    piped = subprocess.run(f"{sys.executable} -m dvlatent models | head -1", shell=True, capture_output=True, text=True, check=True)
    assert piped.stdout.startswith("faces") and piped.stderr == ""
