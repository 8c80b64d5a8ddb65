"""The door to pixels: what it lets in, what it hands out, and what it refuses in words."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps, ImageSequence
from torch.testing import assert_close

from dvlatent.errors import ImageError, ShapeError
from dvlatent.images import film, from_uint8, grid, read, resize, to_uint8, write

pytestmark = pytest.mark.shapes
HEIGHT, WIDTH = 24, 36


def pixels(height=HEIGHT, width=WIDTH):
    """A smooth coloured picture without any symmetry, [height, width, 3]."""
    y, x = np.mgrid[0:1 : height * 1j, 0:1 : width * 1j]
    return np.stack([255 * x, 200 * y, 120 * (1 - x) * y + 60], -1).round().astype(np.uint8)


PHOTO = Image.fromarray(pixels())
GREY = np.asarray(PHOTO.convert("L"))


def error(image, expected):
    """Mean difference in levels of 255."""
    assert image.shape == (1, 3, *expected.shape[:2]) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1
    return np.abs((image[0].permute(1, 2, 0).numpy() + 1) * 127.5 - expected.astype(float)).mean()


def grey3(values):
    return np.repeat(np.asarray(values)[..., None], 3, -1)


# ---- reading every kind

DEEP = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 75).astype(np.uint16)  # 0 ... 64725
HALF = Image.fromarray((np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 255).astype(np.uint8))  # a chequered alpha
ON_WHITE = np.where(np.asarray(HALF)[..., None] > 0, pixels(), 255)


def with_alpha(kind):
    photo = PHOTO.convert(kind)
    photo.putalpha(HALF)
    return photo


def three_colours():
    photo = Image.fromarray((np.indices((HEIGHT, WIDTH))[1] % 3).astype(np.uint8)).convert("P")
    photo.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 759)
    return photo


COLUMNS = np.eye(3, dtype=np.uint8)[np.indices((HEIGHT, WIDTH))[1] % 3] * 255  # red, green, blue in turn
HOLED = np.where((np.indices((HEIGHT, WIDTH))[1] % 3 == 1)[..., None], 255, COLUMNS)
KINDS = {
    "colour.png": (PHOTO, {}, pixels(), 0),
    "colour.bmp": (PHOTO, {}, pixels(), 0),
    "colour.tiff": (PHOTO, {}, pixels(), 0),
    "colour.ppm": (PHOTO, {}, pixels(), 0),
    "colour.webp": (PHOTO, {"lossless": True}, pixels(), 0),
    "colour.jpg": (PHOTO, {"quality": 95}, pixels(), 3),
    "progressive.jpg": (PHOTO, {"quality": 95, "progressive": True}, pixels(), 3),
    "colour.gif": (PHOTO, {}, pixels(), 8),
    "grey.png": (PHOTO.convert("L"), {}, grey3(GREY), 0),
    "grey.jpg": (PHOTO.convert("L"), {"quality": 95}, grey3(GREY), 2),
    "black and white.png": (HALF.convert("1"), {}, grey3(HALF), 0),
    "palette.png": (three_colours(), {}, COLUMNS, 0),
    "palette with a hole.png": (three_colours(), {"transparency": 1}, HOLED, 0),
    "palette with a hole.gif": (three_colours(), {"transparency": 1}, HOLED, 0),
    "transparent.png": (with_alpha("RGB"), {}, ON_WHITE, 0),
    "transparent.webp": (with_alpha("RGB"), {"lossless": True}, ON_WHITE, 0),
    "transparent grey.png": (with_alpha("L"), {}, np.where(np.asarray(HALF)[..., None] > 0, grey3(GREY), 255), 0),
    "one colour transparent.png": (Image.fromarray(COLUMNS), {"transparency": (0, 255, 0)}, HOLED, 0),
    "16 bits.png": (Image.fromarray(DEEP), {}, grey3(DEEP / 257), 1e-3),
    "16 bits.tiff": (Image.fromarray(DEEP), {}, grey3(DEEP / 257), 1e-3),
    "32 bits.tiff": (Image.fromarray(DEEP.astype(np.int32)), {}, grey3(DEEP / 257), 1e-3),
    "32 bits, stretched.tiff": (Image.fromarray(DEEP.astype(np.int32) * 1000 - 5), {}, grey3(DEEP / DEEP.max() * 255), 1e-2),
    "floats to 1.tiff": (Image.fromarray(GREY.astype(np.float32) / 255), {}, grey3(GREY), 1e-3),
    "floats to 255.tiff": (Image.fromarray(GREY.astype(np.float32)), {}, grey3(GREY), 1e-3),
    "print colours.tiff": (PHOTO.convert("CMYK"), {}, pixels(), 1),
    "print colours.jpg": (PHOTO.convert("CMYK"), {"quality": 95}, pixels(), 4),
    "television colours.tiff": (PHOTO.convert("YCbCr"), {}, pixels(), 2),
}


@pytest.mark.parametrize("name", KINDS)
def test_reads_every_kind_of_picture(name, tmp_path):
    photo, options, expected, tolerance = KINDS[name]
    photo.save(tmp_path / name, **options)
    image = read(tmp_path / name)
    assert error(image, expected) <= tolerance + 1e-4
    assert image.is_contiguous()
    assert torch.equal(read(str(tmp_path / name)), image)
    assert torch.equal(read(io.BytesIO((tmp_path / name).read_bytes())), image)


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (3, 2), (255, 0, 0, 51)).save(tmp_path / "a.png")
    assert error(read(tmp_path / "a.png"), np.full((2, 3, 3), (255, 204, 204))) < 0.7


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_photos_are_upright(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    PHOTO.save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as photo:
        expected = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    assert expected.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    assert error(read(tmp_path / f"a.{suffix}"), expected) < 1e-4


NINETY_NINE = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0"  # orientations go from 1 to 8


@pytest.mark.parametrize("exif", [b"", b"MM\0*\0\0\0\x08" + b"\xff" * 40, NINETY_NINE])
def test_a_damaged_orientation_turns_nothing(exif, tmp_path):
    PHOTO.save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert error(read(tmp_path / "a.jpg"), pixels()) < 4


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_of_an_animation(suffix, tmp_path):
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert error(read(tmp_path / f"a.{suffix}"), np.full((5, 7, 3), (255, 0, 0))) < 3


# ---- refusing to read


def bomb(path, width=30_000, height=30_000):
    """A PNG of a few bytes that says it has 900 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b""))


def test_refuses_what_is_no_picture_file(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture, only a name that says so")
    (tmp_path / "noise.jpg").write_bytes(np.random.RandomState(0).bytes(5000))
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        ".": "is a folder.*Name a file inside it",
        "missing.png": "there is no file .*missing.png. Check the spelling",
        "empty.png": "is empty .0 bytes.*again",
        "text.png": "no picture that can be read.*Give a PNG, JPEG",
        "noise.jpg": "no picture that can be read.*HEIC photo as JPEG",
        "pipe.png": "no ordinary file",
        "text.png/inside.png": "no file|cannot be opened",
        "n" * 5000: "no file|cannot be opened",
        "nul\0.png": "no file|cannot be opened",
    }.items():
        with pytest.raises(ImageError, match=words):
            read(tmp_path / name)
    with pytest.raises(ImageError, match="the given bytes"):
        read(io.BytesIO(b"GIF"))


@pytest.mark.parametrize("size", [(30_000, 30_000), (8_001, 8_001), (12_000, 10_000), (2_000_000, 1000)])
def test_refuses_a_bomb_before_it_goes_off(size, tmp_path):
    bomb(tmp_path / "bomb.png", *size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"bomb\.png has .*pixels; up to 64 million are read. Shrink it first"):
        read(tmp_path / "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_refuses_one_pixel_too_many(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH).shape[2:] == (HEIGHT, WIDTH)
    with pytest.raises(ImageError, match="36x24 pixels"):
        read(tmp_path / "a.png", max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_refuses_half_a_file(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"damaged or cut short|no picture that can be read"):
        read(path)


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_whatever_the_damage_it_is_a_picture_or_an_image_error(kind, where, byte, cut):
    file = io.BytesIO()
    PHOTO.save(file, kind)
    data = bytearray(file.getvalue())
    where %= len(data)
    data[where] = byte
    try:
        image = read(io.BytesIO(bytes(data[:where] if cut else data)), max_pixels=10**6)
    except ImageError:
        return
    assert image.shape[:2] == (1, 3) and image.isfinite().all()


def test_pillow_stays_quiet(tmp_path, recwarn):
    bomb(tmp_path / "bomb.png", 10_000, 10_000)
    with pytest.raises(ImageError):
        read(tmp_path / "bomb.png")
    assert not recwarn.list


# ---- bytes

bytes4 = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.just(3)))


@given(bytes4)
def test_round_trip_to_the_byte(array):
    image = from_uint8(array)
    assert image.shape == (len(array), 3, *array.shape[1:3]) and image.min() >= -1 and image.max() <= 1
    assert np.array_equal(to_uint8(image), array)
    assert torch.equal(from_uint8(array[0]), image[:1])


def test_every_level_and_its_neighbours():
    levels = np.arange(256, dtype=np.uint8)
    image = from_uint8(np.broadcast_to(levels[None, :, None, None], (1, 256, 1, 3)))
    for nudge in (-0.4, 0, 0.4):  # less than half a level
        assert np.array_equal(to_uint8(image + nudge / 127.5)[0, :, 0, 0], levels)
    assert to_uint8(torch.tensor([-7.0, -1, 0, 1, 7]).view(1, 1, 1, 5))[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_any_memory_order_and_float_will_do():
    image = from_uint8(pixels()[None])
    assert np.array_equal(to_uint8(from_uint8(pixels()[:, ::-1])), to_uint8(image.flip(3)))
    for same in (image.double(), image.clone().requires_grad_(), image.to(memory_format=torch.channels_last)):
        assert np.array_equal(to_uint8(same)[0], pixels())
    assert np.array_equal(to_uint8(image[:, :1])[0], grey3(pixels()[..., 0]))
    assert to_uint8(image).flags.c_contiguous


@pytest.mark.parametrize(
    "wrong", [*map(torch.zeros, [(3, 4, 4), (1, 4, 4, 3), (1, 2, 4, 4), (1, 3, 0, 4)]), torch.zeros(1, 3, 4, 4, dtype=torch.long)]
)
def test_refuses_a_tensor_that_is_no_picture(wrong, tmp_path):
    with pytest.raises(ShapeError, match=r"a picture is \[batch, 3 .*this is torch"):
        to_uint8(wrong)
    with pytest.raises(ShapeError):
        write(wrong, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4, 3), float), ((4, 4), np.uint8), ((1, 4, 4, 4), np.uint8), ((1, 3, 4, 4), np.uint8)])
def test_refuses_numbers_that_are_no_pixels(shape, dtype):
    with pytest.raises(ShapeError, match="pixels are bytes"):
        from_uint8(np.zeros(shape, dtype))


# ---- writing


@pytest.mark.parametrize(
    ("name", "kind", "tolerance"),
    [("a.png", "PNG", 1e-4), ("a.PNG", "PNG", 1e-4), ("a.jpg", "JPEG", 2), ("a.jpeg", "JPEG", 2), ("a.webp", "WEBP", 4)],
)
def test_what_is_written_can_be_read(name, kind, tolerance, tmp_path):
    path = tmp_path / "new" / "folder" / name
    for _ in range(2):  # the second replaces the first
        write(from_uint8(pixels()), path)
        assert error(read(path), pixels()) < tolerance
    with Image.open(path) as photo:
        assert photo.format == kind
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444 & ~os.umask(os.umask(0o022))  # readable as any new file is


@pytest.mark.parametrize(
    ("image", "name", "words", "kind"),
    [
        (torch.zeros(1, 3, 4, 4), "a.gif", r"ends in '.gif'; pictures end in .png, .jpg.*film", ImageError),
        (torch.zeros(1, 3, 4, 4), "a", r"ends in ''", ImageError),
        (torch.zeros(2, 3, 4, 4), "a.png", r"one picture.*\[2, 3, 4, 4\]. Use grid", ShapeError),
        (torch.full((1, 3, 4, 4), float("nan")), "a.png", "48 of 48 numbers are NaN or infinite", ImageError),
        (torch.tensor([0, float("inf")]).expand(1, 3, 4, 2), "a.jpg", "12 of 24 numbers", ImageError),
        (torch.zeros(1, 3, 2, 20_000), "a.webp", "too large for WEBP", ImageError),
        (torch.zeros(1, 3, 4, 4), "old.png/a.png", "nothing can be written into .*old.png", ImageError),
        (torch.zeros(1, 3, 4, 4), "folder.png", "cannot be replaced", ImageError),
    ],
)
def test_refuses_to_write(image, name, words, kind, tmp_path):
    (tmp_path / "old.png").write_text("old")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(kind, match=words):
        write(image, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "old.png"]
    assert (tmp_path / "old.png").read_text() == "old"


FULL = """
import resource, sys, torch
from dvlatent.errors import ImageError
from dvlatent.images import film, write
assert not {"PIL", "imageio", "imageio_ffmpeg"} & set(sys.modules), "heavy imports belong into the functions"
image = torch.randn(24, 3, 200, 200, generator=torch.Generator().manual_seed(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as on a full disk
for act, frames, name in ((write, image[:1], "a.png"), (film, image, "a.gif"), (film, image, "a.mp4")):
    try:
        act(frames, name)
    except ImageError as error:
        assert "could not be written" in str(error) and "disk full" in str(error), error
    else:
        raise SystemExit(f"{name} fitted")
"""


def test_refuses_in_words_when_the_disk_is_full(tmp_path):
    names = ["a.gif", "a.mp4", "a.png"]
    for name in names:
        (tmp_path / name).write_text("old")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert {(tmp_path / name).read_text() for name in names} == {"old"}


# ---- grid


@pytest.mark.parametrize(
    ("batch", "columns", "rows", "wide"), [(1, None, 1, 1), (4, None, 2, 2), (5, None, 2, 3), (5, 2, 3, 2), (3, 9, 1, 3), (6, 1, 6, 1)]
)
@pytest.mark.parametrize("gap", [0, 3])
def test_grid_puts_every_picture_in_its_place(batch, columns, rows, wide, gap):
    image = torch.randn(batch, 3, 4, 6, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    sheet = grid(image, columns, gap_px=gap)
    assert sheet.shape == (1, 3, rows * 4 + (rows - 1) * gap, wide * 6 + (wide - 1) * gap)
    covered = torch.zeros_like(sheet, dtype=torch.bool)
    for index in range(batch):
        row, column = divmod(index, wide)
        place = (..., slice(row * (4 + gap), row * (4 + gap) + 4), slice(column * (6 + gap), column * (6 + gap) + 6))
        assert torch.equal(sheet[place][0], image[index])
        covered[place] = True
    assert (sheet[~covered] == 1).all()  # white between and after


@pytest.mark.parametrize(
    ("shape", "options"), [((3, 4, 4), {}), ((0, 3, 4, 4), {}), ((2, 3, 4, 4), {"columns": 0}), ((2, 3, 4, 4), {"gap_px": -1})]
)
def test_refuses_a_grid_of_nothing(shape, options):
    with pytest.raises(ShapeError, match="grid takes at least one picture"):
        grid(torch.zeros(shape), **options)


# ---- resize


def blocks(image, factor_y, factor_x):
    """The mean of every block, with loops."""
    batch, channels, height, width = image.shape
    out = torch.empty(batch, channels, height // factor_y, width // factor_x, dtype=image.dtype)
    for y in range(out.shape[2]):
        for x in range(out.shape[3]):
            out[..., y, x] = image[..., y * factor_y : (y + 1) * factor_y, x * factor_x : (x + 1) * factor_x].mean((2, 3))
    return out


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 4))
def test_shrinking_by_whole_factors_averages_areas(seed, factor_y, factor_x):
    image = torch.randn(2, 3, 3 * factor_y, 2 * factor_x, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert_close(resize(image, (3, 2)), blocks(image, factor_y, factor_x))
    assert_close(resize(image, (3, 2)).mean(), image.mean())


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40))
def test_any_size_keeps_flat_flat_and_the_range(seed, height, width):
    image = torch.rand(1, 3, 17, 13, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    small = resize(image, (height, width))
    assert small.shape == (1, 3, height, width)
    assert image.min() - 1e-6 <= small.min() and small.max() <= image.max() + 1e-6
    assert_close(resize(torch.full((1, 3, 17, 13), 0.3), (height, width)), torch.full((1, 3, height, width), 0.3))


def test_one_number_is_the_longer_side():
    assert resize(torch.zeros(1, 3, 40, 20), 10).shape[2:] == (10, 5)
    assert resize(torch.zeros(1, 3, 20, 41), 82).shape[2:] == (40, 82)
    assert resize(torch.zeros(1, 3, 400, 1), 10).shape[2:] == (10, 1)
    assert resize(torch.zeros(1, 1, 16, 16), np.int64(8)).shape[2:] == (8, 8)
    image = from_uint8(pixels())
    assert resize(image, WIDTH) is image


@pytest.mark.parametrize(("size", "mode"), [((20, 30), "BILINEAR"), ((48, 72), "BICUBIC"), ((50, 40), "BICUBIC")])
def test_other_sizes_agree_with_pillow(size, mode):
    expected = np.asarray(PHOTO.resize(size[::-1], Image.Resampling[mode]))
    assert error(resize(from_uint8(pixels()), size), expected) < 0.8  # Pillow rounds between the two axes


@pytest.mark.parametrize("size", [(3, 2), (4, 5), (9, 10)])
def test_resize_has_the_right_slope(size):
    image = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    inside = torch.ones_like(resize(image, size))
    if size == (9, 10):  # where bicubic is cut back to the range, the slope is zero
        raw = torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True)
        inside = ((raw > image.min()) & (raw < image.max())).double()
    assert torch.autograd.gradcheck(lambda image: resize(image, size) * inside, image)


@pytest.mark.parametrize("size", [0, -4, (0, 4), (4,), (4, 4, 4), ()])
def test_refuses_a_size_that_is_none(size):
    with pytest.raises(ShapeError, match="a size is one number of pixels"):
        resize(torch.zeros(1, 3, 8, 8), size)


# ---- films


def journey(count=9, height=31, width=45):
    """A smooth picture that slides to the left, odd on both sides."""
    wide = pixels(height, width + 2 * count)
    return torch.cat([from_uint8(wide[:, 2 * index : 2 * index + width]) for index in range(count)])


def frames_of(path):
    """Frames of an MP4, decoded by ffmpeg: [frame, height, width, 3]."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def local_palettes(data):
    """How many frames of a GIF bring colours of their own (by walking its blocks)."""
    at, count = 13 + 3 * (2 << (data[10] & 7)), 0
    while data[at] != 0x3B:
        flags = data[at + 9] if data[at] == 0x2C else 0
        count += flags >> 7
        at += (11 + (flags >> 7) * 3 * (2 << (flags & 7))) if data[at] == 0x2C else 2
        while data[at]:
            at += data[at] + 1
        at += 1
    return count


def test_gif_is_faithful_shares_its_palette_and_repeats(tmp_path):
    image = journey()
    film(image, tmp_path / "a.gif", fps=24)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 9 and gif.info["loop"] == 0  # for ever
        shown = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)]
    assert sum(duration for _, duration in shown) == 380  # 9 frames at 24 a second, to a hundredth
    assert local_palettes((tmp_path / "a.gif").read_bytes()) == 0
    colours = {tuple(colour) for frame, _ in shown for colour in frame.reshape(-1, 3)}
    assert len(colours) <= 256
    near = resize(torch.cat([from_uint8(frame) for frame, _ in shown])[..., :30, :45], (10, 15)) - resize(image[..., :30, :45], (10, 15))
    assert 10 * torch.log10(4 / near.square().mean()) > 38  # dithered pixels average to the right colour


def test_gif_of_two_colours_is_exact(tmp_path):
    image = torch.ones(3, 3, 9, 9)
    image[1] = -1
    film(image, tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert [np.asarray(frame.convert("RGB")).mean() for frame in ImageSequence.Iterator(gif)] == [255, 0, 255]


def test_mp4_plays_in_browsers_and_is_faithful(tmp_path):
    image = journey()
    film(image, tmp_path / "a.mp4", fps=24)
    about, shown = frames_of(tmp_path / "a.mp4")
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
    assert len(frames_of(tmp_path / "a.mp4")[1]) == 12


def test_progress_only_when_it_takes_long(tmp_path, capsys):
    import time

    film(journey(2), tmp_path / "a.gif")
    assert capsys.readouterr().err == ""

    def slow():
        for piece in journey(3).split(1):
            time.sleep(0.8)
            yield piece

    film(slow(), tmp_path / "a.gif")
    assert "a.gif" in capsys.readouterr().err


def broken_pieces():
    yield torch.zeros(1, 3, 8, 8)
    raise OSError("the caller's own trouble")


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
@pytest.mark.parametrize(
    ("frames", "options", "kind", "words"),
    [
        (torch.zeros(0, 3, 8, 8), {}, ImageError, "at least one frame"),
        ([], {}, ImageError, "at least one frame"),
        (lambda: broken_pieces(), {}, OSError, "the caller's own trouble"),
        ([torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)], {}, ShapeError, r"one size; the first was \(8, 8\), this one is \(8, 9\)"),
        ([torch.zeros(3, 8, 8)], {}, ShapeError, "a picture is"),
        (torch.full((2, 3, 8, 8), float("nan")), {}, ImageError, "NaN"),
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


def test_refuses_other_kinds_of_film(tmp_path):
    with pytest.raises(ImageError, match=r"ends in '.avi'; films are written as .gif or .mp4"):
        film(journey(2), tmp_path / "a.avi")
    with pytest.raises(ImageError, match="a GIF shows up to 50"):
        film(journey(2), tmp_path / "a.gif", fps=60)


def test_refuses_an_mp4_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError("no ffmpeg")))
    with pytest.raises(ImageError, match="pip install imageio-ffmpeg"):
        film(journey(2), tmp_path / "a.mp4")
