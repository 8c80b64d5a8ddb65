"""The measures of an inversion, against closed forms and slow loops."""

import math

import pytest
import torch
from torch.testing import assert_close

from dvlatent import images
from dvlatent.directions import Direction
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.metrics.inversion import away_from_truth, describe, edited, editing_consistency, likeness
from dvlatent.toy.faces import ToyFaces

toy = ToyFaces(resolution=32)
ws = broadcast(toy.mapping(normal(range(3), 32)), 3)


def test_psnr_of_a_known_error():
    photo = torch.zeros(2, 3, 16, 16)
    levels = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1) / 127.5
    found = likeness(photo + levels, photo)
    assert_close(found.psnr_db, torch.tensor([20 * math.log10(255 / 10), 20 * math.log10(255 / 20)]).double(), atol=0.6, rtol=0)
    assert found.perceptual is None and found.identity is None


def test_likeness_is_of_bytes_and_of_the_smaller_size():
    photo = images.from_uint8(images.to_uint8(toy.synthesis(ws)))
    same = likeness(photo + 1e-4, photo)
    assert torch.isinf(same.psnr_db).all() and same.ssim.tolist() == [1, 1, 1]
    large = torch.nn.functional.interpolate(photo, scale_factor=2)
    assert torch.isinf(likeness(large, photo).psnr_db).all()
    other = likeness(photo, photo.flip(0), lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), lambda image: image.mean(dim=(2, 3)))
    assert other.ssim[0] < 0.9 and other.perceptual[0] > 0 and other.identity[0] > 0 and other.perceptual[1] == 0
    assert "SSIM" in describe(other) and "identity" in describe(other)
    with pytest.raises(ShapeError, match="one photo for every picture"):
        likeness(photo, photo[:1])


def test_away_from_truth_is_0_when_found_and_1_at_the_mean():
    assert away_from_truth(ws, ws, toy.w_mean).tolist() == [0, 0, 0]
    assert_close(away_from_truth(toy.w_mean.expand_as(ws), ws, toy.w_mean), torch.ones(3))
    half = (ws + toy.w_mean) / 2
    assert_close(away_from_truth(half, ws, toy.w_mean), torch.full((3,), 0.5))


class Truth:
    """A judge that reads the mean brightness, and its square."""

    names = ("bright", "square")

    def __call__(self, image):
        bright = image.mean(dim=(1, 2, 3))
        return torch.stack([bright, bright.square()], dim=1)


def test_edited_compares_the_edited_picture_with_the_photo():
    direction, photo = toy.truth["skin tone"], toy.synthesis(ws)
    found = edited(toy.synthesis, ws, photo, 2 * direction, Truth(), lambda image: image.mean(dim=(2, 3)))
    by_hand = toy.synthesis(direction.move(ws, 2.0))
    assert_close(found.change("bright"), by_hand.mean(dim=(1, 2, 3)) - photo.mean(dim=(1, 2, 3)))
    assert_close(found.identity, (by_hand.mean(dim=(2, 3)) - photo.mean(dim=(2, 3))).norm(dim=1))


def test_consistency_is_0_for_a_perfect_inversion_and_grows_with_its_error():
    pictures = {}

    def render(ws):
        picture = toy.synthesis(ws)
        pictures[picture.clamp(-1, 1).sum().item()] = ws
        return picture

    def distance(a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))

    def perfect(picture):
        return pictures[picture.sum().item()]

    edit: Direction = toy.truth["smile"]
    exact = editing_consistency(render, ws, edit, perfect, distance)
    wrong = editing_consistency(render, ws, edit, lambda picture: perfect(picture) + 0.1, distance)
    assert exact.max() < 1e-4 and wrong.min() > 1e-3
