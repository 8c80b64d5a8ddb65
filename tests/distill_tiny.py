"""Tiny pairs, a tiny student and a perceptual distance that anyone can compute: for the tests of distillation, and for two processes."""

import torch
from torch.nn import functional as F

from dvlatent.distillation.pix2pixhd import MultiscaleDiscriminator, Student


class Tiny:
    """Twenty pairs of 32 px: the edit makes one corner brighter by strength / 4."""

    def __init__(self, count=20, side=32):
        rng = torch.Generator().manual_seed(1)
        self.before = F.interpolate(torch.rand(count, 3, 4, 4, generator=rng) - 0.5, side, mode="bilinear")
        self.strength = torch.rand(count, generator=rng) * 4 - 2
        corner = torch.zeros(1, 1, side, side)
        corner[..., : side // 2, : side // 2] = 0.25
        self.after = self.before + self.strength.view(-1, 1, 1, 1) * corner

    def __len__(self):
        return len(self.before)

    def batch(self, indices):
        at = list(indices)
        return self.before[at], self.after[at], self.strength[at]


class Blurred:
    """Mean squared difference of pictures made small."""

    def features(self, image):
        return (F.avg_pool2d(image, 4),)

    def __call__(self, a, b):
        a, b = (side if isinstance(side, tuple) else self.features(side) for side in (a, b))
        return (a[0] - b[0]).square().mean(dim=(1, 2, 3))


def nets(seed=0):
    torch.manual_seed(seed)
    return Student(width=4, blocks=1), MultiscaleDiscriminator(7, width=4, layers=2)
