"""Filters that move pixels: for edits in which edges move, such as a fuller face. Taught in notebook 08.

A student that adds colors must paint a moved jaw at its new place and wipe it out at the old one; where it is unsure, both outlines are
seen. A warp network says instead where each pixel comes from, as a smooth flow field (Zhou et al. 2016, appearance flow). So colors cannot
change, and a photo stays as sharp as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import images
from dvlatent.faces.align import Alignment, soft_mask, strips
from dvlatent.types import Image

Flow = Float[Tensor, "batch 2 rows columns"]  # x and y of where a pixel comes from, less where it is: the side of the picture is 2
NODES = 32  # of the flow field along a side
SEEN_PX = 128  # side of the picture that the network sees
LARGEST = 0.12  # of a node's flow, along an axis


class WarpNetwork(nn.Module):
    """The student: aligned faces -> the flow field of each at full strength, one toward plus and one toward minus.

    The flow is in proportion to the strength, at most 0.12 along an axis, and 0 at the edges of the picture. About 300 thousand weights.
    """

    def __init__(self, width: int = 16, blocks: int = 2, reach: float = 2.0) -> None:
        super().__init__()
        self.sizes, self.reach = {"width": width, "blocks": blocks, "reach": reach}, reach  # to make another one
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList([nn.Conv2d(before, after, 3, 2, 1) for before, after in pairwise(widths)])
        self.blocks = nn.ModuleList([nn.Conv2d(4 * width, 4 * width, 3, 1, 1) for _ in range(2 * blocks)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(before, after, 4, 2, 1) for before, after in pairwise(widths[:1:-1])])
        self.out = nn.Conv2d(2 * width, 4, 3, 1, 1)

    def forward(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """Faces of any size and one strength for each, in steps (-reach to reach) -> the faces, their pixels moved."""
        return warp(image, self.flow(image, strength))

    def flow(self, image: Image, strength: Float[Tensor, " batch"]) -> Float[Tensor, "batch 2 32 32"]:
        """The flow field at a strength; the corner nodes lie at the corners of the picture."""
        x, skips = F.interpolate(image, (SEEN_PX, SEEN_PX), mode="bilinear", align_corners=False), []
        for layer in self.down:
            x = F.relu(layer(x))
            skips.append(x)  # 64, 32, 16, 8 px
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = x + second(F.relu(first(x)))
        for layer, skip in zip(self.up, skips[-2::-1], strict=False):
            x = F.relu(layer(x) + skip)
        inner = F.pad(LARGEST * torch.tanh(self.out(x))[:, :, 1:-1, 1:-1], (1, 1, 1, 1))  # no flow at the edges
        fraction = strength.to(image).reshape(-1, 1, 1, 1) / self.reach
        return F.relu(fraction) * inner[:, :2] + F.relu(-fraction) * inner[:, 2:]


def warp(image: Image, flow: Flow) -> Image:
    """The pictures with each pixel taken from where the flow says: [batch, channel, height, width] -> the same."""
    fine = F.interpolate(flow, image.shape[2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)  # [batch, height, width, 2]
    across, down = ((2 * torch.arange(side).to(flow) + 1) / side - 1 for side in (image.shape[3], image.shape[2]))
    here = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
    moved = F.grid_sample(image, here + fine.to(image), mode="bicubic", padding_mode="border", align_corners=False)
    return torch.where((fine == 0).all(-1)[:, None], image, moved.clamp(-1, 1))


def moved(photo: Image, alignment: Alignment, flow: Flow, change: Image, fade: float = 1.0) -> Iterator[images.Change]:
    """What differs in a photo once a face's pixels are moved, a strip after the other; `change` is added to its colors before.

    The flow fades at the edges of the face's square. The photo's own pixels are taken, so nothing is made smaller or enlarged.
    """
    quad, mask = np.array(alignment.quad), soft_mask().to(flow)
    onto = torch.from_numpy(np.stack([quad[3] - quad[0], quad[1] - quad[0]]) / 2).float()  # the square's -1 to 1 -> pixels
    sample = lambda picture, grid, corners: F.grid_sample(picture, grid, "bicubic", "border", corners)  # noqa: E731
    for rows, columns, grid in strips(alignment):
        grid = grid.float()
        shift = fade * F.grid_sample(mask, grid, align_corners=False) * sample(flow, grid, True)
        shift = shift.permute(0, 2, 3, 1)  # [1, rows, columns, 2]
        pixels = shift @ onto
        margin = int(pixels.abs().max()) + 3
        top, left = max(rows.start - margin, 0), max(columns.start - margin, 0)
        window = images.as_floats(photo[:, :, top : rows.stop + margin, left : columns.stop + margin]).float()
        down, across = torch.arange(rows.start - top, rows.stop - top), torch.arange(columns.start - left, columns.stop - left)
        here = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
        size = torch.tensor([window.shape[3], window.shape[2]])
        new = sample(window, (2 * (here + pixels) + 1) / size - 1, False)
        old = images.as_floats(photo[:, :, rows, columns]).float()
        new = torch.where((shift == 0).all(-1)[:, None], old, new.clamp(-1, 1))
        source = grid + shift
        added = fade * F.grid_sample(mask, source, align_corners=False) * sample(change, source, False)
        yield rows, columns, (new + added).clamp(-1, 1) - old
