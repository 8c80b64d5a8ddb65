"""The picture that the tests of the door to pixels look at, and how far another is from it."""

import numpy as np
import torch
from PIL import Image

HEIGHT, WIDTH = 24, 36


def pixels(height=HEIGHT, width=WIDTH):
    """A smooth colored picture without any symmetry, [height, width, 3]."""
    y, x = np.mgrid[0:1 : height * 1j, 0:1 : width * 1j]
    return np.stack([255 * x, 200 * y, 120 * (1 - x) * y + 60], -1).round().astype(np.uint8)


PHOTO = Image.fromarray(pixels())
GRAY = np.asarray(PHOTO.convert("L"))


def error(image, expected):
    """Mean difference in levels of 255."""
    assert image.shape == (1, 3, *expected.shape[:2]) and image.dtype == torch.float32
    assert image.min() >= -1 and image.max() <= 1
    return np.abs((image[0].permute(1, 2, 0).numpy() + 1) * 127.5 - expected.astype(float)).mean()


def gray3(values):
    return np.repeat(np.asarray(values)[..., None], 3, -1)
