"""The adapter for LPIPS, with a stand-in for the package, and without it."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from dvlatent.errors import AssetMissing
from dvlatent.faces.lpips import Lpips
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces


class Stand(nn.Module):
    def __init__(self, net, verbose):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, a, b):
        assert a.shape[-1] <= 64
        return self.gain * (a - b).square().mean(dim=(1, 2, 3), keepdim=True)


def test_without_the_package_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(AssetMissing, match="pip install lpips"):
        Lpips()


def test_invert_can_look_through_it(monkeypatch):
    package = ModuleType("lpips")
    package.LPIPS = Stand
    monkeypatch.setitem(sys.modules, "lpips", package)
    distance, toy = Lpips(size_px=64), ToyFaces(resolution=128)
    photo = toy.synthesis(broadcast(toy.mapping(normal([1, 2], 32)), 3))
    assert distance(photo, photo).tolist() == [0, 0] and distance(photo, photo.flip(0)).min() > 0
    steps = list(invert(toy, photo[:1], InvertConfig(steps=15, lr=0.2, pixels=0), distance=distance))
    assert steps[-1].parts["perceptual"] < steps[0].parts["perceptual"]
