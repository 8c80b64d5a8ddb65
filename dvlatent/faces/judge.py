"""The judge: a held-out predictor that evaluates edits. Taught in notebook 05.

A predictor that found a direction praises every edit that fools it. So another one must evaluate the direction: the judge has another
architecture, was trained on other faces, and sees the whole picture instead of a chip around the face.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.faces.landmarks import checked
from dvlatent.types import Image

SIZE_PX = 96  # the size at which it sees the whole aligned face
BINS, BIN_YEARS = 41, 2  # ages 0, 2 ... 80: it predicts a distribution over them, and gives its mean


class Judge(nn.Module):
    """Reads perceived age, perceived gender, smile and glasses from whole aligned faces; about 0.9 million weights.

    A Predictor: `judge(image)` is [batch, 4], in the order of `names`: perceived age in years (0 to 80), probability of "perceived
    male", smile in the unit of `faces.landmarks`, probability of glasses (or sunglasses). Pictures are square, aligned as FFHQ is,
    of any size from 96 px; larger ones are reduced by area. It is differentiable; use `eval()` mode to read single faces.

    Its scores are perceptions, and it learned them from another predictor: it notices an edit that only fools the chip of that network,
    but not a mistake that both make. One person labelled the glasses by eye. MEASUREMENTS.md has its scores. Raises ShapeError for pictures
    of another shape.
    """

    names = ("age", "male", "smile", "glasses")

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        sizes = (width, 2 * width, 4 * width, 8 * width)
        self.stem = layer(3, width, stride=2)  # 48 pixels
        self.blocks = nn.Sequential(*[Block(before, after) for before, after in pairwise(sizes)])  # 24, 12, 6
        self.hidden = nn.Linear(9 * sizes[-1], 128)
        self.heads = nn.Linear(128, BINS + 3)
        self.register_buffer("ages", torch.arange(BINS) * float(BIN_YEARS), persistent=False)
        self.register_buffer("smile_unit", torch.tensor([0.0, 1.0]))  # mean and standard deviation of the smiles it learned from
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Image) -> Float[Tensor, "batch 4"]:
        """Scores of every face: [batch, 3, size, size] in [-1, 1] -> [batch, 4]."""
        ages, others = self.logits(image)
        male, smile, glasses = others.unbind(1)
        mean, std = self.smile_unit
        return torch.stack([ages.softmax(1) @ self.ages, male.sigmoid(), mean + std * smile, glasses.sigmoid()], dim=1)

    def logits(self, image: Image) -> tuple[Float[Tensor, "batch bins"], Float[Tensor, "batch 3"]]:
        """What training compares with the labels: logits of the ages, then male, smile (in standard deviations) and glasses."""
        checked(image, SIZE_PX)
        x = F.interpolate(image.clamp(-1, 1).to(self.ages.dtype), size=(SIZE_PX, SIZE_PX), mode="area")
        x = self.blocks(self.stem(x.contiguous(memory_format=torch.channels_last)))
        x = F.avg_pool2d(x, 2).flatten(1)  # [batch, 9 * channels]: nine positions, because an aligned face has its eyes at fixed ones
        return self.heads(F.relu(self.hidden(x))).split([BINS, 3], dim=1)


class SharpJudge(nn.Module):
    """Reads perceived age and gender from the face at 224 px, where lines and pores can be seen: 96 px, the judge's size, hide them.

    A Predictor: `judge(image)` is [batch, 2]: perceived age in years, probability of "perceived male". It describes the face's square by
    mean and standard deviation, in 4 x 4 cells, of what an EfficientNet-Lite0 that knows ImageNet sees, and a small network reads that. It
    learned from another reader than the judge did, which taught nothing else here, and from edited faces too. Pictures as the judge takes
    them. Raises ShapeError for pictures of another shape. Taught in notebook 07.
    """

    names = ("age", "male")
    size_px, cells = 224, 4
    channels = (16, 24, 40, 80, 112)  # of the network's five stages
    square = (5 / 32, 7 / 32, 22 / 32)  # left, top and side of the face's square

    def __init__(self, network: nn.Module, width: int = 64) -> None:
        super().__init__()
        self.width, self.network = width, [network]  # in a list, since its weights are not ours to keep
        count = 2 * sum(self.channels) * self.cells**2
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.register_buffer("unit", torch.tensor([35.0, 15.0]))  # mean and standard deviation of the ages that it learned from
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(count, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 2))

    def forward(self, image: Image) -> Float[Tensor, "batch 2"]:
        """Scores of every face: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        return self.scores(self.describe(image))

    def describe(self, image: Image) -> Float[Tensor, "batch 8704"]:
        """The description that the head reads."""
        checked(image, SIZE_PX)
        left, top, side = (round(part * image.shape[-1]) for part in self.square)
        face = image[:, :, top : top + side, left : left + side].clamp(-1, 1)
        face = F.interpolate(face, size=(self.size_px, self.size_px), mode="bilinear", antialias=True, align_corners=False)
        return torch.cat([self._in_cells(stage) for stage in self.network[0](face)], dim=1)

    def _in_cells(self, stage: Tensor) -> Tensor:
        """[batch, channel, side, side] -> the mean and standard deviation of each cell, [batch, 2 * channel * cells**2]."""
        stage = stage.float()
        mean = F.adaptive_avg_pool2d(stage, self.cells)
        power = F.adaptive_avg_pool2d(stage.square(), self.cells)
        return torch.cat([mean, (power - mean.square()).clamp_min(1e-6).sqrt()], dim=1).flatten(1)

    def scores(self, description: Float[Tensor, "batch 8704"]) -> Float[Tensor, "batch 2"]:
        """What the head reads from descriptions."""
        age, male = self.head((description - self.mean) / self.std).unbind(1)
        return torch.stack([self.unit[0] + self.unit[1] * age, male.sigmoid()], dim=1)


class Block(nn.Module):
    """Two convolutions that halve the side, and a shortcut around them (He et al. 2016, figure 2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = layer(before, after, stride=2)
        self.second = layer(after, after, bounded=False)
        self.around = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, before, side, side] -> [batch, after, side / 2, side / 2]."""
        return F.relu(self.second(self.first(x)) + self.around(F.avg_pool2d(x, 2)))


def layer(before: int, after: int, stride: int = 1, bounded: bool = True) -> nn.Sequential:
    """A 3 x 3 convolution and its batch norm, then a ReLU if `bounded`."""
    layers = [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, nn.ReLU()) if bounded else nn.Sequential(*layers)


@lru_cache(maxsize=1)
def glasses_labels() -> dict[int, bool]:
    """Whether the face of a seed, at psi 1, wears glasses or sunglasses: seed -> yes or no. One person labelled them by eye.

    Seeds below 10,000 are for finding directions, seeds to 19,999 for the judge, seeds from 20,000 on (unselected) for measuring.
    """
    labels = json.loads(Path(__file__).with_name("glasses.json").read_text())
    return {seed: True for seed in labels["with"]} | {seed: False for seed in labels["without"]}
