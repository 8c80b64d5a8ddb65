"""`dvlatent invert` and `edit --from`, in words and files, with the toy face instead of the real one."""

import json
import re
import tempfile

import pytest
import torch
from PIL import Image

from dvlatent import images, zoo
from dvlatent.cli.main import main
from dvlatent.errors import NoFace
from dvlatent.faces.align import Alignment, crop, paste_back
from dvlatent.inversion.invert import Inversion
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces

toy = ToyFaces(resolution=32)
REAL = dict(zoo.LOADERS)
ALIGNMENT = Alignment(((20.0, 10.0), (20.0, 50.0), (60.0, 50.0), (60.0, 10.0)), (70, 90))


def aligner(photo, face=0, size_px=1024):
    if face or photo.shape[2:] != (70, 90):
        raise NoFace(f"there is no face number {face}")
    return ALIGNMENT, crop(photo, ALIGNMENT, size_px)


@pytest.fixture(autouse=True)
def toy_networks(monkeypatch, tmp_path):
    for name, stands_in in {"faces": toy, "perceptual": None, "identity": None, "aligner": aligner}.items():
        monkeypatch.setitem(zoo.LOADERS, name, lambda it=stands_in: it)
    monkeypatch.setitem(zoo.LOADERS, "encoder", lambda: lambda face: toy.w_mean[None] + 0.1)
    monkeypatch.setitem(zoo.LOADERS, "age-direction", lambda: toy.truth["age"])
    monkeypatch.chdir(tmp_path)
    room = torch.linspace(-1, 1, 90).expand(1, 3, 70, 90)
    face = toy.synthesis(broadcast(toy.mapping(normal(3, 32)), 3))
    images.write(paste_back(room, face, ALIGNMENT), "me.png")


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_photo_is_found_edited_and_put_back(capsys):
    code, out, bar = run(capsys, "invert", "me.png", "--steps", 20, "--out", "mine.safetensors", "--picture", "both.png")
    assert code == 0 and "mine.safetensors: " in out and " dB" in out and "dvlatent edit --from mine.safetensors" in out and "left" in bar
    mine = Inversion.load("mine.safetensors")
    assert mine.alignment == ALIGNMENT and mine.config["steps"] == 20 and len(mine.history) == 21
    assert mine.history[-1] < mine.history[0] / 1.2
    assert Image.open("both.png").size == (2 * 32 + 4, 32)
    code, out, _ = run(capsys, "edit", "--from", "mine.safetensors", "--age", "+2", "--paste-back", "me.png", "--out", "older.png")
    before, after = (images.to_uint8(images.read(name))[0] for name in ("me.png", "older.png"))
    changed = (before != after).any(axis=-1)
    assert code == 0 and "age +2" in out and changed[25:35, 35:45].mean() > 0.5
    changed[11:50, 21:60] = False
    assert not changed.any()  # the rest of the photo, to the bit


def test_edit_without_a_photo_shows_before_and_after(capsys):
    run(capsys, "invert", "me.png", "--steps", 1, "--out", "mine.safetensors")
    code, out, _ = run(capsys, "edit", "--from", "mine.safetensors", "--age", "-1", "--out", "two.png")
    ws = Inversion.load("mine.safetensors").ws
    by_hand = torch.cat([toy.synthesis(ws), toy.synthesis((-1 * toy.truth["age"])(ws))])
    assert code == 0 and "mine.safetensors, age -1; before and after" in out
    assert torch.equal(images.read("two.png"), images.from_uint8(images.to_uint8(images.grid(by_hand, columns=2))))


def test_where_it_begins(capsys):
    for start, first in (("mean", toy.w_mean), ("encoder", toy.w_mean + 0.1), (None, toy.w_mean + 0.1)):
        options = () if start is None else ("--start", start)
        assert run(capsys, "invert", "me.png", "--steps", 0, *options, "--out", "mine.safetensors", "--overwrite")[0] == 0
        assert torch.allclose(Inversion.load("mine.safetensors").ws, first, atol=1e-5)
    run(capsys, "invert", "me.png", "--steps", 5, "--space", "w", "--out", "some.safetensors")
    run(capsys, "invert", "me.png", "--steps", 0, "--start", "some.safetensors", "--out", "mine.safetensors", "--overwrite")
    assert torch.allclose(Inversion.load("mine.safetensors").ws, Inversion.load("some.safetensors").ws, atol=1e-5)


def test_seconds_instead_of_steps(capsys):
    assert run(capsys, "invert", "me.png", "--seconds", 0.3, "--out", "mine.safetensors")[0] == 0
    assert Inversion.load("mine.safetensors").config["seconds"] == 0.3


def test_interrupted_it_keeps_what_is_there(capsys, monkeypatch):
    class Tired(ToyFaces):
        calls = 0

        def synthesis(self, ws):
            self.calls += 1
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().synthesis(ws)

    tired = Tired(resolution=32)
    monkeypatch.setitem(zoo.LOADERS, "faces", lambda: tired)
    code, _, said = run(capsys, "invert", "me.png", "--out", "mine.safetensors")
    assert code == 130 and "What 3 steps found is in mine.safetensors; --start mine.safetensors goes on from there." in said
    assert len(Inversion.load("mine.safetensors").history) == 4
    monkeypatch.setattr(tired, "calls", 5)
    code, _, said = run(capsys, "invert", "me.png", "--out", "none.safetensors")
    assert code == 130 and "Nothing was written" in said


def test_a_full_disk_at_the_end_loses_nothing(capsys, monkeypatch, tmp_path):
    """The save fails after the search: what was found lies elsewhere, and the command says where."""
    keep = Inversion.save

    def full(self, path):
        if str(path) == "mine.safetensors":
            raise OSError(28, "No space left on device", str(path))
        keep(self, path)

    monkeypatch.setattr(Inversion, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, out, said = run(capsys, "invert", "me.png", "--steps", 1, "--out", "mine.safetensors")
    where = re.search(r"What was found is in (\S+\.safetensors)\.", said).group(1)
    assert code == 0 and "No space left" in said and len(Inversion.load(where).history) == 2 and f"--from {where}" in out


def test_score_reads_every_face_and_goes_on_after_a_bad_photo(capsys, monkeypatch, photo):
    for name in ("aligner", "attributes", "landmarks"):
        monkeypatch.setitem(zoo.LOADERS, name, REAL[name])
    images.write(photo, "her.png")
    images.write(torch.zeros(1, 3, 99, 99), "dark.png")
    code, out, _ = run(capsys, "score", "dark.png", "none.jpg", "her.png")
    assert code == 0 and "dark.png: no face" in out and "there is no file none.jpg" in out and out.count("  face ") == 1  # not her badge
    assert re.search(r"face 0, 1[67]\d px wide from \(1\d\d, \d+\): [23]\d years, female \(99%\), smile 1\.", out)
    code, out, _ = run(capsys, "score", "--json", "her.png")
    (her,) = json.loads(out)[0]["faces"]
    assert code == 0 and 25 < her["age"] < 40 and her["male"] < 0.1 and abs(her["yaw"]) < 10 and len(her["quad"]) == 4
    assert run(capsys, "score", "dark.png")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.jpg", "--out", "mine.safetensors"), "there is no file none.jpg"),
        (("text.jpg", "--out", "mine.safetensors"), "text.jpg is not a picture"),
        (("small.png", "--out", "mine.safetensors"), "no face"),
        (("me.png", "--out", "mine.safetensors", "--face", 2), "no face number 2"),
        (("me.png", "--out", "mine.png"), "mine.png should end in .safetensors"),
        (("me.png", "--out", "nowhere/mine.safetensors"), "folder"),
        (("me.png", "--out", "mine.safetensors", "--steps", -1), "-1 steps"),
        (("me.png", "--out", "mine.safetensors", "--seconds", 0), "seconds 0"),
        (("me.png", "--out", "mine.safetensors", "--start", "here"), "--start here is unknown"),
        (("me.png", "--out", "mine.safetensors", "--start", "text.safetensors"), "text.safetensors cannot be read"),
        (("me.png", "--out", "mine.safetensors", "--start", "other.safetensors"), "invert the photo again"),
        (("me.png", "--out", "mine.safetensors", "--picture", "both.txt"), "both.txt"),
    ],
)
def test_invert_refuses_in_one_sentence(capsys, arguments, words):
    for name in ("text.jpg", "text.safetensors"):
        with open(name, "w") as file:
            file.write("hello")
    images.write(torch.zeros(1, 3, 20, 20), "small.png")
    Inversion(torch.zeros(1, 3, 32), torch.zeros(1), "another one").save("other.safetensors")
    code, _, said = run(capsys, "invert", *arguments)
    assert code == 1 and words in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "none.safetensors", "--age", 1), "none.safetensors cannot be read"),
        (("--from", "other.safetensors", "--age", 1), "invert the photo again"),
        (("--age", 1, "--paste-back", "me.png"), "--from FILE"),
        (("--from", "mine.safetensors", "--age", 1, "--paste-back", "me.png", "--strip"), "no --strip"),
        (("--from", "mine.safetensors", "--age", 1, "--paste-back", "small.png"), "20x20 pixels"),
        (("--from", "loose.safetensors", "--age", 1, "--paste-back", "me.png"), "does not say where its face lies"),
        (("--from", "mine.safetensors"), "no edit was asked for"),
    ],
)
def test_edit_from_refuses_in_one_sentence(capsys, arguments, words):
    images.write(torch.zeros(1, 3, 20, 20), "small.png")
    Inversion(torch.zeros(1, 3, 32), torch.zeros(1), "another one").save("other.safetensors")
    run(capsys, "invert", "me.png", "--steps", 0, "--out", "mine.safetensors")
    mine = Inversion.load("mine.safetensors")
    Inversion(mine.ws, mine.history, mine.generator).save("loose.safetensors")
    code, _, said = run(capsys, "edit", *arguments)
    assert code == 1 and words in said.lower() + said and "Traceback" not in said
