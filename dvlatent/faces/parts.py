"""Where skin and hair are on an aligned face: soft masks, to measure and to protect what an edit should leave alone. Taught in notebook 07.

Nobody painted a mask for it. The generator's own features fall into clusters that are parts of faces (Melas-Kyriazi et al. 2021), somebody
named the clusters once, by eye, and a small head learned to find the same parts from the picture alone, through a network that is there
already (the perceptual one). So it works on photos, too. `recipes/face_parts.py` trains the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.types import Image

NAMES = ("rest", "skin", "hair")
SIZE_PX, GRID = 256, 64  # the picture that is looked at, and the positions along a side that are told apart
SCALE = 0.2  # of the features, so that they are about as large as a picture's numbers


class PartsHead(nn.Module):
    """Features of four or five stages, the picture and the position -> the log-odds of the three parts, [batch, 3, 64, 64]."""

    def __init__(self, channels: int = 272, width: int = 24) -> None:
        super().__init__()
        self.sizes = {"channels": channels, "width": width}
        self.mix = nn.Conv2d(channels + 3 + 2, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.out = nn.Conv2d(width, len(NAMES), 3, padding=1)

    def inputs(self, features: Sequence[Tensor], image: Image) -> Float[Tensor, "batch channel 64 64"]:
        """All that the head sees, brought to one size."""
        scaled = [*(SCALE * feature for feature in features), image]
        small = [F.interpolate(one, size=(GRID, GRID), mode="bilinear", antialias=True, align_corners=False) for one in scaled]
        along = torch.linspace(-1, 1, GRID, device=image.device, dtype=image.dtype)
        position = torch.stack(torch.meshgrid(along, along.abs(), indexing="ij"))  # how far down, how far from the middle
        return torch.cat([*small, position.expand(len(image), -1, -1, -1)], dim=1)

    def forward(self, x: Float[Tensor, "batch channel 64 64"]) -> Float[Tensor, "batch 3 64 64"]:
        """What `inputs` gave -> log-odds."""
        x = F.relu(self.mix(x))
        return self.out(x + F.relu(self.around(x)))


class FaceParts(nn.Module):
    """Soft masks of aligned faces: `parts(image)` is [batch, 3, size, size], the fractions of rest, skin (with the neck) and hair.

    `network` gives the features of a picture, stage by stage: that of the perceptual distance. Raises ShapeError for other shapes.
    """

    names = NAMES

    def __init__(self, network: nn.Module, head: PartsHead) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, image: Image) -> Float[Tensor, "batch 3 size size"]:
        """[batch, 3, size, size] in [-1, 1], aligned as FFHQ is -> the fractions of the parts, which add up to one."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
            raise ShapeError(
                f"parts are found on aligned faces, [batch, 3, size, size]; this is {list(image.shape)}. Align the photo first."
            )
        image = image.float()
        small = image if image.shape[-1] == SIZE_PX else images.resize(image, SIZE_PX)
        fractions = self.head(self.head.inputs(self.network(small), small)).softmax(dim=1)
        return F.interpolate(fractions, size=image.shape[2:], mode="bilinear", align_corners=False)

    def subject(self, image: Image) -> Float[Tensor, "batch size size"]:
        """The fraction of face, neck and hair together."""
        return 1 - self(image)[:, 0]
