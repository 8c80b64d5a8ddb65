"""`dvlatent filter`, in words and files, with toys in the place of the filters that we ship."""

import json
import re
import subprocess

import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image as Pillow
from skimage.color import deltaE_ciede2000, rgb2lab
from test_images_picture import profile

from dvlatent import images, video, zoo
from dvlatent.cli.main import main
from dvlatent.distillation.filter import Filter, apply_to_photo
from dvlatent.distillation.pix2pixhd import Student


def brighter(image, strength):
    return image + 0.1 * strength.view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def older(aligner):
    return Filter(brighter, "age", aligner=aligner, about={"years": {"strength": [-2, -1, 1, 2], "years": [-18, -8, 9, 20]}})


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
    assert "her-age+2-smile+0.5.png: age +2 (about 20 years older), smile +0.5, 1 face\n" in capsys.readouterr().out
    wanted = apply_to_photo(photo, [(older, 2.0), (zoo.load("smile-filter"), 0.5)])
    assert (images.read(tmp_path / "her-age+2-smile+0.5.png") - wanted).abs().max() < 0.005
    for words, line in (
        ("no filter was asked for: give a strength by --age, --smile", []),
        (r"strength \+1\.5 is beyond", ["--smile", "1.5"]),
        ("there is no file", ["--age", "1"]),
    ):
        source = "nothing.png" if line == ["--age", "1"] else "her.png"
        assert main(["filter", str(tmp_path / source), *line]) == 1
        assert re.search(words, capsys.readouterr().err)


def test_the_dial_of_the_age_filter_may_be_given_in_years(shipped, photo, tmp_path, capsys):
    images.write(photo, tmp_path / "her.png")
    assert main(["filter", str(tmp_path / "her.png"), "--years", "-13"]) == 0
    assert "her-age-1.5.png: age -1.5 (about 13 years younger), 1 face\n" in capsys.readouterr().out
    assert main(["filter", str(tmp_path / "her.png"), "--years", "50"]) == 1
    assert "goes from -18 to +20 years, not to +50" in capsys.readouterr().err


def test_nothing_is_replaced_unless_asked(shipped, photo, tmp_path, capsys):
    images.write(photo, tmp_path / "her.png")
    out = tmp_path / "out.png"
    older, younger = (["filter", str(tmp_path / "her.png"), "--out", str(out), "--age", strength] for strength in ("2", "-2"))
    assert main(older) == 0
    before = out.read_bytes()
    assert main(younger) == 1 and "--overwrite to replace it" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main([*younger, "--overwrite"]) == 0
    assert out.read_bytes() != before
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


def test_every_file_of_a_folder_is_named_once(shipped, photo, tmp_path, capsys):
    """Done, or passed over and why; the edit is in every name, so another edit is another file."""
    folder, her = tmp_path / "photos", Pillow.fromarray(images.to_uint8(photo)[0])
    (folder / "more").mkdir(parents=True)
    written = {"a.jpg": "a-age+1.jpg", "b.tiff": "b-age+1.png", "c.bmp": "c-age+1.png", "d.jfif": "d-age+1.jpg", "e.webp": "e-age+1.webp"}
    for name in written:
        her.save(folder / name)
    Pillow.new("RGB", (64, 64)).save(folder / "nobody.png")
    Pillow.new("RGB", (1, 1)).save(folder / "one.png")
    her.save(folder / "b.png")  # would become b-age+1.png, as the TIFF
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no photo at all")
    (folder / "phone.heic").write_bytes(b"what a phone writes")
    moving = [her.rotate(turn).resize((256, 256)) for turn in range(6)]
    moving[0].save(folder / "moves.webp", save_all=True, append_images=moving[1:], duration=100)
    assert main(["filter", str(folder), "--age", "1"]) == 0
    said = "".join(capsys.readouterr())
    for name in [path.name for path in folder.iterdir()]:
        assert len(re.findall(rf"(?<=photos/){re.escape(name)}\b", said)) == 1 or name == "moves.webp", (name, said)
    out = tmp_path / "photos-age+1"
    assert {path.name for path in out.iterdir()} == {*written.values(), "moves-age+1.mp4"}
    for words in ("nobody.png: no face", "one.png: no face", "broken.jpg is not a picture", "notes.txt: neither a photo nor a film"):
        assert words in said
    assert "phone.heic: HEIC is read where pillow-heif" in said and "more: a folder" in said and "b.tiff: b.png takes its name" in said
    assert "6 of 13 files edited: age +1 (about 9 years older); 4 passed over, 3 refused" in said
    assert main(["filter", str(folder), "--age", "1"]) == 0 and "is there already" in capsys.readouterr().err
    assert main(["filter", str(folder / "a.jpg"), str(folder / "c.bmp"), "--age", "-1", "--out", str(out)]) == 0
    assert {"a-age+1.jpg", "a-age-1.jpg", "c-age-1.png"} <= {path.name for path in out.iterdir()}
    (tmp_path / "empty").mkdir()
    assert main(["filter", str(tmp_path / "empty"), "--age", "1"]) == 1 and "has no files" in capsys.readouterr().err


def test_what_a_photo_carries_comes_back(shipped, photo, tmp_path):
    """Held upright by its tag, with a date, a place and the colors of a phone: outside the face the eye sees no difference."""
    exif = Pillow.Exif()
    exif[0x0112], exif[0x0132], exif[0x8825] = 6, "2024:05:06 07:08:09", {1: "N", 2: (52.0, 31.0, 12.0)}
    turned = Pillow.fromarray(images.to_uint8(photo)[0]).rotate(90)
    turned.save(tmp_path / "a.jpg", exif=exif, icc_profile=profile(), quality=90)
    assert main(["filter", str(tmp_path / "a.jpg"), "--age", "1"]) == 0
    before, after = (images.open(path) for path in (tmp_path / "a.jpg", tmp_path / "a-age+1.jpg"))
    assert after.profile == profile() and after.tags == {0x0132: "2024:05:06 07:08:09"}
    assert dict(Pillow.open(tmp_path / "a-age+1.jpg").getexif()) == after.tags
    difference = deltaE_ciede2000(*(rgb2lab(images.to_uint8(one.shown)[0]) for one in (before, after)))
    assert difference[230:].mean() < 1 and difference[100:150, 190:240].mean() > 1


def test_what_cannot_be_written_is_said_before_the_work(shipped, photo, tmp_path, capsys, monkeypatch):
    images.write(photo, tmp_path / "her.png")
    monkeypatch.setattr(images, "open", None)
    for out, words in (
        ("out.tif", "should end in .png, .jpg"),
        ("her.png/out.png", "nothing can be written"),
        ("her.png", "is there already"),
    ):
        assert main(["filter", str(tmp_path / "her.png"), "--age", "1", "--out", str(tmp_path / out)]) == 1
        assert words in capsys.readouterr().err


def test_programs_get_json(shipped, photo, tmp_path, capsys):
    images.write(photo, tmp_path / "her.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert main(["filter", str(tmp_path / "her.png"), str(tmp_path / "broken.jpg"), "--age", "2", "--json"]) == 0
    done, refused = json.loads(capsys.readouterr().out)
    assert done["out"] == str(tmp_path / "her-age+2.png") and done["edit"] == {"age": 2} and done["seconds"] > 0
    assert len(done["faces"]) == 1 and abs(done["faces"][0]["size_px"] - 173) < 4 and len(done["faces"][0]["quad"]) == 4
    assert refused["file"].endswith("broken.jpg") and "not a picture" in refused["error"]


def test_a_strip_shows_before_after_and_the_dial(shipped, photo, tmp_path):
    images.write(photo, tmp_path / "her.png")
    assert main(["filter", str(tmp_path / "her.png"), "--age", "2", "--smile", "0.5", "--strip"]) == 0
    strip = images.read(tmp_path / "her-age+2-smile+0.5-strip.png")
    assert strip.shape == (1, 3, 512 + 2 * 80, 1028)
    change = (strip[..., :512, 516:] - strip[..., :512, :512])[..., 200:300, 200:300]
    assert float(change.mean()) == pytest.approx(0.2, abs=0.02)  # brighter after
    dial = strip[0, 0, 512 + 52]  # the line of the first dial: from -2 at an eighth to +2 at the end
    assert dial[1028 - 128] < -0.9 and dial[1028 // 2 + 50] < -0.9 and -0.1 < dial[200] < 0.1 and dial[50] == 1


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Three frames of 256 px at 12 a second; the middle one is black."""
    photo = images.from_uint8(pytest.importorskip("skimage.data").astronaut())[..., 0:256, 90:346]
    path = tmp_path_factory.mktemp("film") / "talk.mp4"
    video.film(torch.cat([photo, torch.zeros_like(photo), photo.roll(4, -1)]), path, fps=12, progress=False)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "webp"])
def test_the_command_filters_a_film(suffix, shipped, talk, tmp_path, capsys):
    source = tmp_path / f"talk.{suffix}"
    if suffix == "mp4":
        source.write_bytes(talk.read_bytes())
    else:
        first, *rest = (Pillow.fromarray(images.to_uint8(frame)[0]) for frame in video.frames(talk))
        first.save(source, save_all=True, append_images=rest, duration=83, lossless=True)
    assert main(["filter", str(source), "--age", "2", "--mark", "--json"]) == 0
    said, progress = capsys.readouterr()
    (record,) = json.loads(said)
    assert record["faces"] == [{"frames": 2, "size_px": pytest.approx(190, abs=25)}] and record["out"] == str(tmp_path / "talk-age+2.mp4")
    assert re.search(r"talk\.\w+ 100%.*frames/s, 00:00 left", progress)
    edited, plain = (torch.cat(list(video.frames(path))) for path in (tmp_path / "talk-age+2.mp4", source))
    assert float(video.frames(tmp_path / "talk-age+2.mp4").fps) == pytest.approx(12, abs=0.5) and edited.shape == plain.shape == (
        3,
        3,
        256,
        256,
    )
    change = (edited - plain)[..., 60:160, 90:170].mean(dim=(1, 2, 3))
    assert float(change[0]) > 0.1 and abs(float(change[1])) < 0.02 and float(change[2]) > 0.1
    assert "sound" not in streams(tmp_path / "talk-age+2.mp4") and b"edited: age +2" in (tmp_path / "talk-age+2.mp4").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_film_that_is_stopped_or_has_no_face_leaves_nothing(shipped, talk, tmp_path, capsys, monkeypatch):
    video.film(torch.zeros(2, 3, 64, 64), tmp_path / "dark.mp4", fps=2, progress=False)
    assert main(["filter", str(tmp_path / "dark.mp4"), "--age", "1"]) == 1 and "no face was found in this film" in capsys.readouterr().err
    assert main(["filter", str(talk), "--age", "1", "--face", "1", "--out", str(tmp_path / "a.mp4")]) == 1
    assert "there is no face number 1: 1 people found" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_text("older")

    def stopped(frames, people, steps):
        yield next(iter(frames))
        raise KeyboardInterrupt

    monkeypatch.setattr("dvlatent.distillation.film.edit", stopped)
    assert main(["filter", str(talk), "--age", "1", "--overwrite", "--out", str(tmp_path / "a.mp4")]) == 130
    assert (tmp_path / "a.mp4").read_text() == "older" and sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "dark.mp4"]


def streams(path):
    """What a film consists of, in ffmpeg's words, with "sound" for audio."""
    words = subprocess.run([get_ffmpeg_exe(), "-i", path], capture_output=True, text=True, check=False).stderr
    return "picture " * words.count("Video: ") + "sound " * words.count("Audio: ")


def test_a_film_keeps_its_sound(shipped, talk, tmp_path):
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-i", talk, *tone, tmp_path / "loud.mp4"], check=True)
    assert streams(tmp_path / "loud.mp4").split() == ["picture", "sound"]
    assert main(["filter", str(tmp_path / "loud.mp4"), "--age", "1", "--mark-corner", "--out", str(tmp_path / "new" / "out.mp4")]) == 0
    assert streams(tmp_path / "new" / "out.mp4").split() == ["picture", "sound"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"] and len(video.frames(tmp_path / "new" / "out.mp4")) == 3
    assert float(next(iter(video.frames(tmp_path / "new" / "out.mp4")))[..., -10:, -40:].mean()) < -0.3  # words on black
