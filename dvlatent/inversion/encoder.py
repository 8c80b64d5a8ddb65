"""The encoder: from a photo to the w that draws it, in one look. Taught in notebook 06.

It looks twice: closely at the face, with a network that can already tell people apart, and from afar at a thumbnail of the whole
picture, for hair, pose, light and colour. Such a guess is never exact (Richardson et al. 2021): it is where a search should start.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image, W

SIZE_PX = 128  # what it reads: the whole aligned face
CLOSE_UP = (slice(33, 121), slice(20, 108))  # rows and columns of it in which the face lies: what dlib cuts out, on average
CLOSE_UP_PX = 150  # what the network of close-ups is used to
THUMBNAIL_PX = 16

Looks = Float[Tensor, "batch look"]  # what both looks saw


class Encoder(nn.Module):
    """Guesses the w of aligned faces: [batch, 3, size, size] in [-1, 1], of any size from 64 px, -> [batch, w_dim].

    Inside, w is told in whitened coordinates around the mean, `w = centre + coordinates @ frame`, so that every coordinate varies by 1
    in the population, and an encoder that knows nothing answers with the average face.
    `close_up` turns [batch, 3, 150, 150] into `close_up_dim` numbers and is never trained here; `dvlatent.load("encoder")` has dlib's
    identity network there, without its last layer. So an identity distance flatters this encoder: it looks with the eyes of its judge.
    Use it in `eval()` mode. It knows only faces that its generator draws; MODELS.md has its scores.
    """

    def __init__(self, close_up: nn.Module, hidden: int = 1024, w_dim: int = 512, close_up_dim: int = 256) -> None:
        super().__init__()
        self.hidden, self.looks = hidden, close_up_dim + 3 * THUMBNAIL_PX**2
        self.close_up = close_up.requires_grad_(False)
        self.register_buffer("middle", torch.zeros(self.looks))  # of what the looks see in the population ...
        self.register_buffer("spread", torch.ones(self.looks))  # ... and its standard deviation
        self.plain = nn.Linear(self.looks, w_dim)  # most of the answer is linear
        layers = [nn.Linear(self.looks, hidden), nn.ReLU(), nn.Dropout(0.4), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.4)]
        self.bent = nn.Sequential(*layers, nn.Linear(hidden, w_dim))
        for last in (self.plain, self.bent[-1]):  # at first, everybody is the average face
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("centre", torch.zeros(w_dim))
        self.register_buffer("frame", torch.eye(w_dim))  # a row for each coordinate: its axis in W, as long as its spread

    def forward(self, image: Image) -> W:
        """The w of every face. Raises ShapeError for what is no batch of square pictures."""
        return self.guess(self.look(image))

    def look(self, image: Image) -> Looks:
        """What it sees of every face, closely and from afar."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[2] < SIZE_PX // 2:
            raise ShapeError(
                f"the encoder reads square aligned faces, [batch, 3, size, size] of {SIZE_PX // 2} px or more; this has shape "
                f"{list(image.shape)}. Align a photo first, or use image[None] for one face without its batch."
            )
        if not image.is_floating_point():
            raise ShapeError(f"faces are floats in [-1, 1]; these are {image.dtype}. Use images.from_uint8 for bytes.")
        image = reduced(image.to(self.centre.dtype))
        face = F.interpolate(image[(..., *CLOSE_UP)], size=(CLOSE_UP_PX, CLOSE_UP_PX), mode="bilinear", align_corners=False)
        thumbnail = F.interpolate(image, size=(THUMBNAIL_PX, THUMBNAIL_PX), mode="area")
        return torch.cat([self.close_up(face).to(image), thumbnail.flatten(1)], dim=1)

    def guess(self, looks: Looks) -> W:
        """From what it saw to w."""
        looks = (looks - self.middle) / self.std
        return self.centre + (self.plain(looks) + self.bent(looks)) @ self.frame

    def own(self) -> dict[str, Tensor]:
        """What was trained, and its units: all that a file of it needs to hold."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("close_up.")}

    def load_own(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `own` gave. Raises RuntimeError for tensors that do not fit."""
        self.load_state_dict({**tensors, **{f"close_up.{name}": tensor for name, tensor in self.close_up.state_dict().items()}})


def reduced(image: Image) -> Image:
    """What the encoder sees of a picture: clamped, 128 pixels; larger ones are reduced by area, smaller ones drawn larger."""
    image = image.clamp(-1, 1)
    if image.shape[-1] < SIZE_PX:
        return F.interpolate(image, size=(SIZE_PX, SIZE_PX), mode="bilinear", align_corners=False)
    return F.interpolate(image, size=(SIZE_PX, SIZE_PX), mode="area")
