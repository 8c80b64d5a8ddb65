"""The door to pixels from inside: bytes, files written, grids and sizes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pictures import PHOTO, WIDTH, error, gray3, pixels
from PIL import Image
from torch.testing import assert_close

from dvlatent.errors import ImageError, ShapeError
from dvlatent.images import from_uint8, grid, read, resize, to_uint8, write

pytestmark = pytest.mark.shapes


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
    assert np.array_equal(to_uint8(image[:, :1])[0], gray3(pixels()[..., 0]))
    assert to_uint8(image).flags.c_contiguous


@pytest.mark.parametrize(
    "wrong", [*map(torch.zeros, [(3, 4, 4), (1, 4, 4, 3), (1, 2, 4, 4), (1, 3, 0, 4)]), torch.zeros(1, 3, 4, 4, dtype=torch.long)]
)
def test_refuses_a_tensor_that_is_not_a_picture(wrong, tmp_path):
    with pytest.raises(ShapeError, match=r"a picture is \[batch, 3 .*this is torch"):
        to_uint8(wrong)
    with pytest.raises(ShapeError):
        write(wrong, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4, 3), float), ((4, 4), np.uint8), ((1, 4, 4, 4), np.uint8), ((1, 3, 4, 4), np.uint8)])
def test_refuses_numbers_that_are_not_pixels(shape, dtype):
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
        (torch.zeros(1, 3, 4, 4), "folder.png", "cannot be written", ImageError),
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
from dvlatent.images import write
from dvlatent.video import film
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
def test_grid_puts_every_picture_in_its_cell(batch, columns, rows, wide, gap):
    image = torch.randn(batch, 3, 4, 6, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    sheet = grid(image, columns, gap_px=gap)
    assert sheet.shape == (1, 3, rows * 4 + (rows - 1) * gap, wide * 6 + (wide - 1) * gap)
    covered = torch.zeros_like(sheet, dtype=torch.bool)
    for index in range(batch):
        row, column = divmod(index, wide)
        cell = (..., slice(row * (4 + gap), row * (4 + gap) + 4), slice(column * (6 + gap), column * (6 + gap) + 6))
        assert torch.equal(sheet[cell][0], image[index])
        covered[cell] = True
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
def test_resize_has_the_right_gradient(size):
    image = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    inside = torch.ones_like(resize(image, size))
    if size == (9, 10):  # where bicubic is cut back to the range, the gradient is zero
        raw = torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True)
        inside = ((raw > image.min()) & (raw < image.max())).double()
    assert torch.autograd.gradcheck(lambda image: resize(image, size) * inside, image)


@pytest.mark.parametrize("size", [0, -4, (0, 4), (4,), (4, 4, 4), ()])
def test_refuses_an_impossible_size(size):
    with pytest.raises(ShapeError, match="a size is one number of pixels"):
        resize(torch.zeros(1, 3, 8, 8), size)
