"""What the door to pixels lets in, and what it refuses in words."""

import io
import os
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import GRAY, HEIGHT, PHOTO, WIDTH, error, gray3, pixels
from PIL import Image, ImageOps

from dvlatent.errors import ImageError
from dvlatent.images import read

pytestmark = pytest.mark.shapes


# ---- reading every kind

DEEP = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 75).astype(np.uint16)  # 0 ... 64725
HALF = Image.fromarray((np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 255).astype(np.uint8))  # a chequered alpha
ON_WHITE = np.where(np.asarray(HALF)[..., None] > 0, pixels(), 255)


def with_alpha(kind):
    photo = PHOTO.convert(kind)
    photo.putalpha(HALF)
    return photo


def three_colors():
    photo = Image.fromarray((np.indices((HEIGHT, WIDTH))[1] % 3).astype(np.uint8)).convert("P")
    photo.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 759)
    return photo


COLUMNS = np.eye(3, dtype=np.uint8)[np.indices((HEIGHT, WIDTH))[1] % 3] * 255  # red, green, blue in turn
HOLED = np.where((np.indices((HEIGHT, WIDTH))[1] % 3 == 1)[..., None], 255, COLUMNS)
KINDS = {
    "color.png": (PHOTO, {}, pixels(), 0),
    "color.bmp": (PHOTO, {}, pixels(), 0),
    "color.tiff": (PHOTO, {}, pixels(), 0),
    "color.ppm": (PHOTO, {}, pixels(), 0),
    "color.webp": (PHOTO, {"lossless": True}, pixels(), 0),
    "color.jpg": (PHOTO, {"quality": 95}, pixels(), 3),
    "progressive.jpg": (PHOTO, {"quality": 95, "progressive": True}, pixels(), 3),
    "color.gif": (PHOTO, {}, pixels(), 8),
    "gray.png": (PHOTO.convert("L"), {}, gray3(GRAY), 0),
    "gray.jpg": (PHOTO.convert("L"), {"quality": 95}, gray3(GRAY), 2),
    "black and white.png": (HALF.convert("1"), {}, gray3(HALF), 0),
    "palette.png": (three_colors(), {}, COLUMNS, 0),
    "palette with a hole.png": (three_colors(), {"transparency": 1}, HOLED, 0),
    "palette with a hole.gif": (three_colors(), {"transparency": 1}, HOLED, 0),
    "transparent.png": (with_alpha("RGB"), {}, ON_WHITE, 0),
    "transparent.webp": (with_alpha("RGB"), {"lossless": True}, ON_WHITE, 0),
    "transparent gray.png": (with_alpha("L"), {}, np.where(np.asarray(HALF)[..., None] > 0, gray3(GRAY), 255), 0),
    "one color transparent.png": (Image.fromarray(COLUMNS), {"transparency": (0, 255, 0)}, HOLED, 0),
    "16 bits.png": (Image.fromarray(DEEP), {}, gray3(DEEP / 257), 1e-3),
    "16 bits.tiff": (Image.fromarray(DEEP), {}, gray3(DEEP / 257), 1e-3),
    "32 bits.tiff": (Image.fromarray(DEEP.astype(np.int32)), {}, gray3(DEEP / 257), 1e-3),
    "32 bits, stretched.tiff": (Image.fromarray(DEEP.astype(np.int32) * 1000 - 5), {}, gray3(DEEP / DEEP.max() * 255), 1e-2),
    "floats to 1.tiff": (Image.fromarray(GRAY.astype(np.float32) / 255), {}, gray3(GRAY), 1e-3),
    "floats to 255.tiff": (Image.fromarray(GRAY.astype(np.float32)), {}, gray3(GRAY), 1e-3),
    "print colors.tiff": (PHOTO.convert("CMYK"), {}, pixels(), 1),
    "print colors.jpg": (PHOTO.convert("CMYK"), {"quality": 95}, pixels(), 4),
    "television colors.tiff": (PHOTO.convert("YCbCr"), {}, pixels(), 2),
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
    frames = [Image.new("RGB", (7, 5), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert error(read(tmp_path / f"a.{suffix}"), np.full((5, 7, 3), (255, 0, 0))) < 3


# ---- refusing to read


def bomb(path, width=30_000, height=30_000):
    """A PNG of a few bytes that says it has 900 million pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b""))


def test_refuses_what_is_not_a_picture_file(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture, only a name that says so")
    (tmp_path / "noise.jpg").write_bytes(np.random.RandomState(0).bytes(5000))
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        ".": "is a folder.*Name a file inside it",
        "missing.png": "there is no file .*missing.png. Check the spelling",
        "empty.png": "is empty .0 bytes.*again",
        "text.png": "not a picture that can be read.*Give a PNG, JPEG",
        "noise.jpg": "not a picture that can be read.*HEIC photo",
        "pipe.png": "not an ordinary file",
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
    with pytest.raises(ImageError, match=r"damaged or cut short|not a picture that can be read"):
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
