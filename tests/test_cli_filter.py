"""`dvlatent filter`, in words and files, with toys in the place of the filters that we ship."""

import re
import subprocess

import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image as Pillow

from dvlatent import images, video, zoo
from dvlatent.cli.main import main
from dvlatent.distillation.filter import Filter, apply_to_photo
from dvlatent.distillation.pix2pixhd import Student


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
    edited, plain = (torch.cat(list(video.frames(tmp_path / name))) for name in ("talk-filtered.mp4", "talk.mp4"))
    assert video.frames(tmp_path / "talk-filtered.mp4").fps == 12 and edited.shape == plain.shape == (3, 3, 256, 256)
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
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"] and len(video.frames(tmp_path / "new" / "out.mp4")) == 2
