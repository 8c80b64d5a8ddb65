"""Films: true colors, browsers play them, frames are streamed, and nothing half-written stays behind."""

import time

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
import torch
from pictures import pixels
from PIL import Image, ImageSequence

from dvlatent.errors import ImageError, ShapeError
from dvlatent.images import from_uint8, resize
from dvlatent.video import film, frames

pytestmark = pytest.mark.shapes


def journey(count=9, height=31, width=45):
    """A smooth picture that slides to the left, odd on both sides."""
    wide = pixels(height, width + 2 * count)
    return torch.cat([from_uint8(wide[:, 2 * index : 2 * index + width]) for index in range(count)])


def mp4_frames(path):
    """What the header of an MP4 says, and its frames as bytes, [frame, height, width, 3]."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def gif_frames(path):
    """What a GIF shows, [frame, height, width, 3], and for how many milliseconds in all."""
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0  # without end
        shown = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)]
    return np.stack([frame for frame, _ in shown]), sum(duration for _, duration in shown)


def test_gif_is_faithful_and_repeats(tmp_path):
    image = journey()
    film(image, tmp_path / "a.gif", fps=24)
    shown, duration = gif_frames(tmp_path / "a.gif")
    assert len(shown) == 9 and abs(duration - 375) <= 5  # a GIF counts hundredths of a second
    near = resize(from_uint8(shown)[..., :30, :45], (10, 15)) - resize(image[..., :30, :45], (10, 15))
    assert 10 * torch.log10(4 / near.square().mean()) > 38  # dithered pixels average to the right color


def test_gif_of_two_colors_is_exact_also_when_one_comes_back(tmp_path):
    image = torch.ones(5, 3, 9, 9)
    image[[1, 3]] = -1
    film(image, tmp_path / "a.gif", fps=10)
    assert gif_frames(tmp_path / "a.gif")[0].mean((1, 2, 3)).tolist() == [255, 0, 255, 0, 255]


def test_mp4_plays_in_browsers_and_is_faithful(tmp_path):
    image = journey()
    film(image, tmp_path / "a.mp4", fps=24)
    about, shown = mp4_frames(tmp_path / "a.mp4")
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p(") and "bt709" in about["pix_fmt"]
    assert about["fps"] == 24 and shown.shape == (9, 32, 46, 3)  # odd sides made even
    back = from_uint8(shown)[..., :31, :45]
    assert 10 * torch.log10(4 / (back - image).square().mean()) > 30
    assert np.abs(shown[:, 31].astype(float) - shown[:, 30]).mean() < 4  # by repeating the edge, not by a black line
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # starts before it has arrived


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.GIF"])
def test_a_film_from_pieces_is_the_same_film(name, tmp_path):
    image = journey()
    film(image, tmp_path / name)
    film((piece for piece in image.split([1, 3, 5])), tmp_path / "new" / name, progress=False)
    film(list(image.split(1)), tmp_path / "list" / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / "new" / name).read_bytes() == (tmp_path / "list" / name).read_bytes()
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_film_takes_its_frames_one_at_a_time(tmp_path):
    alive = 0

    class Frame:
        def __init__(self):
            nonlocal alive
            alive += 1
            assert alive <= 2, "the film hoards its frames"

        def __del__(self):
            nonlocal alive
            alive -= 1

    def pieces():
        for index in range(12):
            piece = torch.full((1, 3, 16, 16), index / 12)
            piece.token = Frame()
            yield piece
            del piece

    film(pieces(), tmp_path / "a.mp4")
    assert len(mp4_frames(tmp_path / "a.mp4")[1]) == 12


def test_progress_only_when_it_takes_long(tmp_path, capsys):
    film(journey(2), tmp_path / "a.gif")
    assert capsys.readouterr().err == ""

    def slow():
        for piece in journey(3).split(1):
            time.sleep(0.8)
            yield piece

    film(slow(), tmp_path / "a.gif")
    assert "a.gif" in capsys.readouterr().err


def broken_pieces(error):
    yield torch.zeros(1, 3, 8, 8)
    raise error


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
@pytest.mark.parametrize(
    ("frames", "options", "kind", "words"),
    [
        (torch.zeros(0, 3, 8, 8), {}, ImageError, "at least one frame"),
        ([], {}, ImageError, "at least one frame"),
        (lambda: broken_pieces(OSError("the caller's own trouble")), {}, OSError, "the caller's own trouble"),
        ([torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)], {}, ShapeError, r"one size; the first was \(8, 8\), this one is \(8, 9\)"),
        ([torch.zeros(3, 8, 8)], {}, ShapeError, "a picture is"),
        (torch.full((2, 3, 8, 8), float("nan")), {}, ImageError, "NaN"),
        (lambda: broken_pieces(KeyboardInterrupt("stop")), {}, KeyboardInterrupt, "stop"),
        (torch.zeros(2, 3, 8, 8), {"fps": 0}, ImageError, "0 frames a second"),
        (torch.zeros(2, 3, 8, 8), {"fps": 241}, ImageError, "241 frames a second"),
    ],
)
def test_refuses_a_film(suffix, frames, options, kind, words, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    with pytest.raises(kind, match=words):
        film(frames() if callable(frames) else frames, path, **options)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert not [child for child in psutil.Process().children() if "ffmpeg" in child.name() and child.status() != psutil.STATUS_ZOMBIE]


def test_refuses_other_kinds_of_film(tmp_path):
    with pytest.raises(ImageError, match=r"ends in '.avi'; films are written as .gif or .mp4"):
        film(journey(2), tmp_path / "a.avi")
    with pytest.raises(ImageError, match="a GIF shows up to 50"):
        film(journey(2), tmp_path / "a.gif", fps=60)


@pytest.mark.parametrize("fps", [0.5, 12, 23.976, 30000 / 1001])
def test_a_film_is_read_frame_by_frame_as_it_was_written(fps, tmp_path):
    film(journey(5, 32, 46), tmp_path / "a.mp4", fps=fps)
    rate, count, pieces = frames(tmp_path / "a.mp4")
    shown = list(pieces)
    assert rate == pytest.approx(fps, abs=0.01) and count == len(shown) == 5
    assert all(frame.shape == (1, 3, 32, 46) for frame in shown)
    assert 10 * torch.log10(4 / (torch.cat(shown) - journey(5, 32, 46)).square().mean()) > 30


@pytest.mark.parametrize(("name", "words"), [("a.mp4", "not a film that can be read"), ("empty.mp4", "empty"), ("none.mp4", "no file")])
def test_refuses_to_read_what_is_not_a_film(name, words, tmp_path):
    (tmp_path / "a.mp4").write_text("text")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ImageError, match=words):
        frames(tmp_path / name)


def test_refuses_a_film_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg._io.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("no ffmpeg")))
    with pytest.raises(ImageError, match="pip install imageio-ffmpeg"):
        film(journey(2), tmp_path / "a.mp4")
