"""Films: true colors, browsers play them, frames are streamed, and nothing half-written stays behind."""

import re
import subprocess
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
from dvlatent.video import animated, film, frames

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
    opened = frames(tmp_path / "a.mp4")
    for _ in range(2):  # as often as it is asked
        shown = torch.cat(list(opened))
        assert float(opened.fps) == pytest.approx(fps, abs=1e-4) and len(opened) == len(shown) == 5 and not opened.cut_short
        assert shown.shape == (5, 3, 32, 46)
        assert 10 * torch.log10(4 / (shown - journey(5, 32, 46)).square().mean()) > 30


def ffmpeg(*options):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lavfi(*sources):
    return [word for source in sources for word in ("-f", "lavfi", "-i", source)]


CLOCK, TONE = "color=s=64x48:r=30:d=4,geq=lum=16+1.8*N:cb=128:cr=128", "sine=d=4"  # brighter by 54 of 219 levels a second
UNEVEN = {
    "every twelfth": "not(mod(n,12))",
    "all but every twelfth": "mod(n,12)",
    "by fits": "lt(mod(n*n,7),2)",
    "late": "gte(n,15)",
    "sound late": "1",
}


@pytest.mark.parametrize("kind", UNEVEN)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts"])
def test_the_picture_is_in_step_with_the_sound_whatever_its_times(suffix, kind, tmp_path):
    codecs = ["-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"] if suffix == "webm" else ["-pix_fmt", "yuv420p", "-c:a", "aac"]
    vfr = ["-vf", f"select='{UNEVEN[kind]}'", "-fps_mode", "vfr", *(["-af", "atrim=1"] if kind == "sound late" else [])]
    ffmpeg(*lavfi(CLOCK, TONE), *vfr, *codecs, tmp_path / f"a.{suffix}")
    opened = frames(tmp_path / f"a.{suffix}")
    shown = torch.cat(list(opened))
    frame_s = 0.4 if kind == "every twelfth" else 1 / float(opened.fps)
    assert abs(len(shown) / opened.fps - 4) <= frame_s + 0.05 and not opened.cut_short  # a TS file begins within a packet of sound
    assert film(shown, tmp_path / "b.mp4", fps=float(opened.fps), sound=opened.path)
    for picture in (shown, torch.cat(list(frames(tmp_path / "b.mp4")))):
        for second in (0.9, 2.1, 3.3):
            told = (float(picture[round(second * opened.fps)].mean()) + 1) / 2 * 219 / 54
            assert abs(told - second) <= frame_s + 0.05
    told = ffmpeg("-i", tmp_path / "b.mp4", "-map", "0:a", "-c", "copy", "-f", "framecrc", "-")
    unit, packet = re.search(r"#tb 0: 1/(\d+)", told), re.search(r"^0, *-?\d+, *(-?\d+)", told, re.MULTILINE)
    assert abs(int(packet[1]) / int(unit[1]) - (kind == "sound late")) < 0.1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm"])
def test_a_film_that_was_cut_short_says_so(suffix, tmp_path):
    codecs = ["-c:v", "libvpx", "-c:a", "libopus"] if suffix == "webm" else ["-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg(*lavfi(CLOCK, TONE), *codecs, *(["-movflags", "+faststart"] if suffix == "mp4" else []), tmp_path / f"a.{suffix}")
    assert not frames(tmp_path / f"a.{suffix}").cut_short
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    opened = frames(tmp_path / f"half.{suffix}")
    assert opened.cut_short and 0.5 < opened.read_s < 3.5 and len(list(opened)) == pytest.approx(len(opened), abs=2)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animated_picture_is_a_film_with_its_own_times(suffix, tmp_path):
    still = [Image.fromarray(np.full((16, 24, 3), level, np.uint8)) for level in (0, 120, 250)]
    still[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=still[1:], duration=[100, 50, 250], lossless=True)
    still[0].save(tmp_path / f"one.{suffix}")
    opened = frames(tmp_path / f"a.{suffix}")
    levels = [round((float(frame.mean()) + 1) * 127.5) for frame in opened]
    assert opened.fps == 20 and levels == [0, 0, 120, 250, 250, 250, 250, 250] and len(opened) == 8
    assert animated(tmp_path / f"a.{suffix}") and not animated(tmp_path / f"one.{suffix}")


def test_a_film_is_read_upright_with_square_pixels(tmp_path):
    ffmpeg(*lavfi("color=red:s=64x48:r=5:d=1,drawbox=0:0:32:48:blue:fill"), "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    frame = next(iter(frames(tmp_path / "turned.mp4")))[0]
    assert frame.shape == (3, 64, 48) and frame[0, :24].mean() > 0.9 and frame[2, 40:].mean() > 0.9  # blue was on the left, now below
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", "setsar=2", tmp_path / "wide.mp4")
    assert next(iter(frames(tmp_path / "wide.mp4"))).shape == (1, 3, 48, 128)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_matrix_and_range_are_honored(matrix, levels, tmp_path):
    tags = f"scale=out_color_matrix={matrix}:out_range={levels},setparams=colorspace={matrix}:range={levels}"
    ffmpeg(
        *lavfi("color=0x20c040:s=64x48:r=5:d=1,format=rgb24"),
        "-vf",
        tags,
        "-pix_fmt",
        "yuv420p",
        "-color_range",
        levels,
        tmp_path / "a.mp4",
    )
    frame = (next(iter(frames(tmp_path / "a.mp4"))).mean((0, 2, 3)) + 1) * 127.5
    assert (frame - torch.tensor([32.0, 192.0, 64.0])).abs().max() < 4


def hlg(light):
    """The signal of a light between 0 and 1 (ITU-R BT.2100)."""
    return np.where(light <= 1 / 12, np.sqrt(3 * light), 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073)


def pq(nits):
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(("curve", "name"), [(lambda y: hlg(0.2645 * y), "arib-std-b67"), (lambda y: pq(203 * y), "smpte2084")])
def test_high_dynamic_range_is_mapped_to_ordinary_screens(curve, name, tmp_path):
    light = np.array([0.02, 0.05, 0.1, 0.18, 0.4, 0.7, 1.0, 2.0])  # of diffuse white, which has 75 % of the signal in HLG
    signal = np.round(64 + 876 * curve(light)).astype("<u2").repeat(16)[None].repeat(48, 0)
    (tmp_path / "raw").write_bytes(signal.tobytes() + np.full(signal.size // 2, 512, "<u2").tobytes())
    tags = f"setparams=range=tv:color_primaries=bt2020:color_trc={name}:colorspace=bt2020nc"
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "128x48", "-i", tmp_path / "raw"]
    ffmpeg(*raw, "-vf", tags, "-c:v", "libx265", "-x265-params", "log-level=none:lossless=1", tmp_path / "a.mp4")
    shown = (next(iter(frames(tmp_path / "a.mp4")))[0, :, 24, 8::16] + 1) * 127.5
    assert (shown - shown.mean(0)).abs().max() < 2  # gray stays gray
    wanted = 255 * torch.from_numpy(np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099))  # BT.709
    gamma = 255 * torch.from_numpy(light ** (1 / 2.4))  # as its screens show it
    assert (shown.mean(0)[:5] - torch.minimum(wanted, gamma)[:5]).min() > -6 and (
        shown.mean(0)[:5] - torch.maximum(wanted, gamma)[:5]
    ).max() < 14
    assert 220 < shown.mean(0)[6] < shown.mean(0)[7] <= 255  # white is white, and what is brighter is brighter


def test_paths_are_no_addresses_and_films_open_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("10:30.mp4", "http:/a.mp4", "-y.mp4", "a%03d.mp4", "pipe:1.mp4"):
        film(journey(3), name, fps=5)
        assert len(list(frames(name))) == 3
        assert film(frames(name), name, fps=5, sound=name) and len(frames(name)) == 3
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://localhost:9/x.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile 10:30.mp4\n")
    for name in ("list.mp4", "concat.mp4"):
        with pytest.raises(ImageError, match="not a film that can be read"):
            frames(name)


@pytest.mark.parametrize(
    ("suffix", "codec", "kept"),
    [("mkv", "libvorbis", "aac"), ("mkv", "libopus", "opus"), ("mov", "pcm_s16le", "aac"), ("mp4", "aac", "aac")],
)
def test_sound_is_copied_where_players_find_it_and_tags_are_dropped(suffix, codec, kept, tmp_path):
    (tmp_path / "tags").write_text(
        ";FFMETADATA1\nlocation=+48.1+011.5/\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle=secret place\n"
    )
    tags = [
        "-i",
        tmp_path / "tags",
        "-map_metadata",
        2,
        "-map_chapters",
        2,
        "-metadata:s",
        "handler_name=secret name",
        "-metadata",
        "title=secret",
    ]
    ffmpeg(
        *lavfi("testsrc2=s=64x48:r=10:d=1", "sine=d=1"),
        *tags,
        "-map",
        0,
        "-map",
        1,
        "-c:a",
        codec,
        "-pix_fmt",
        "yuv420p",
        tmp_path / f"a.{suffix}",
    )
    source = frames(tmp_path / f"a.{suffix}")
    assert film(source, tmp_path / "b.mp4", fps=10, sound=source.path, note="edited: age +2")
    words = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "b.mp4"], capture_output=True, text=True, check=False).stderr
    assert f"Audio: {kept}" in words and "comment         : edited: age +2" in words and abs(frames(tmp_path / "b.mp4").read_s - 1) < 0.1
    data = (tmp_path / "b.mp4").read_bytes()
    assert b"secret" not in data and b"+48.1" not in data


@pytest.mark.parametrize(("name", "words"), [("a.mp4", "not a film that can be read"), ("empty.mp4", "empty"), ("none.mp4", "no file")])
def test_refuses_to_read_what_is_not_a_film(name, words, tmp_path):
    (tmp_path / "a.mp4").write_text("text")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ImageError, match=words):
        frames(tmp_path / name)


def test_refuses_a_film_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("no ffmpeg")))
    with pytest.raises(ImageError, match="pip install imageio-ffmpeg"):
        film(journey(2), tmp_path / "a.mp4")
