"""The encoder: from a photo to the w that draws it, without a search. Taught in notebook 06.

It reads two things: a close-up of the face, through a network that tells people apart, and a thumbnail of the whole picture, for hair,
pose, light and color. Its guess is never exact (Richardson et al. 2021): a search should start there. `recipes/encoder.py` trains it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.faces.landmarks import checked
from dvlatent.types import Image, W

SIZE_PX = 128  # the aligned face as the encoder reads it
CLOSE_UP = (slice(33, 121), slice(20, 108))  # rows and columns of the face in it: what dlib cuts out, on average
CLOSE_UP_PX = 150  # the input size of the identity network
THUMBNAIL_PX = 16

Features = Float[Tensor, "batch feature"]  # of the close-up, then the pixels of the thumbnail


class Encoder(nn.Module):
    """Guesses the w of aligned faces: [batch, 3, size, size] in [-1, 1], 64 px or more, -> [batch, w_dim].

    `close_up` turns [batch, 3, 150, 150] into `close_up_dim` numbers and is never trained here. In `dvlatent.load("encoder")` it is dlib's
    identity network without its last layer, so identity distances flatter this encoder: it sees with the network that measures it.
    Use it in `eval()` mode. It only knows faces that its generator draws; MEASUREMENTS.md has its scores.
    """

    def __init__(self, close_up: nn.Module, hidden: int = 1024, w_dim: int = 512, close_up_dim: int = 256) -> None:
        super().__init__()
        self.close_up = close_up.requires_grad_(False)
        self.head = Head(close_up_dim + 3 * THUMBNAIL_PX**2, hidden, w_dim)

    def forward(self, image: Image) -> W:
        """The w of every face. Raises ShapeError for anything but a batch of square pictures."""
        return self.head(self.features(image))

    def features(self, image: Image) -> Features:
        """Close-up and thumbnail of every face, as numbers."""
        image = reduced(checked(image, SIZE_PX // 2).to(self.head.center.dtype))
        face = F.interpolate(image[(..., *CLOSE_UP)], size=(CLOSE_UP_PX, CLOSE_UP_PX), mode="bilinear", align_corners=False)
        thumbnail = F.interpolate(image, size=(THUMBNAIL_PX, THUMBNAIL_PX), mode="area")
        return torch.cat([self.close_up(face).to(image), thumbnail.flatten(1)], dim=1)


class Head(nn.Module):
    """The trained part: features to w, [batch, features] -> [batch, w_dim].

    It answers in whitened coordinates, `w = center + coordinates @ axes`: every coordinate varies by 1 in the population, and an untrained
    head gives the average face.
    """

    def __init__(self, features: int, hidden: int, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))  # of the features in the population ...
        self.register_buffer("std", torch.ones(features))  # ... and their standard deviation
        self.linear = nn.Linear(features, w_dim)  # most of the answer is linear
        layers = [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.4), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.4)]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, w_dim))
        for last in (self.linear, self.mlp[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("center", torch.zeros(w_dim))
        self.register_buffer("axes", torch.eye(w_dim))  # a row for each coordinate: its axis in W, one standard deviation long

    def forward(self, features: Features) -> W:
        """The w of every row."""
        features = (features - self.mean) / self.std
        return self.center + (self.linear(features) + self.mlp(features)) @ self.axes


def reduced(image: Image) -> Image:
    """The picture clamped and brought to 128 pixels: larger ones by area, smaller ones bilinearly."""
    image = image.clamp(-1, 1)
    if image.shape[-1] < SIZE_PX:
        return F.interpolate(image, size=(SIZE_PX, SIZE_PX), mode="bilinear", align_corners=False)
    return F.interpolate(image, size=(SIZE_PX, SIZE_PX), mode="area")
