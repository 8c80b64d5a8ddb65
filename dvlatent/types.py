"""The shapes and protocols of the house: read this first.

An image is a float tensor in [-1, 1]; a latent is a row of numbers that names one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "batch channel height width"]  # values in [-1, 1]
Z = Float[Tensor, "batch z"]  # what the dice give: standard normal
W = Float[Tensor, "batch w"]  # what the mapping network makes of it
Ws = Float[Tensor, "batch layer w"]  # one w for every layer of the synthesis network
Render = Callable[[Ws], Image]  # draws ws
Identity = Callable[[Image], Float[Tensor, "batch number"]]  # describes people
BATCH = 8  # faces of one step: on a CPU they are drawn one by one all the same, and scored together


@runtime_checkable
class Generator(Protocol):
    """Anything that turns dice into pictures: z -> w -> image.

    Any class with these members works in every method, one written in a notebook included.
    """

    z_dim: int  # numbers in a z
    w_dim: int  # numbers in a w
    num_layers: int  # how many w's `synthesis` takes, coarse to fine
    resolution: int  # height and width of an image, in pixels
    w_mean: Tensor  # [w], the average w: the point to truncate toward

    def mapping(self, z: Z) -> W:
        """Dice to coordinates: [batch, z_dim] -> [batch, w_dim]."""
        ...

    def synthesis(self, ws: Ws) -> Image:
        """Coordinates to picture: [batch, num_layers, w_dim] -> [batch, 3, resolution, resolution]."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Anything that reads pictures: an image gives one row of scores, one column a name."""

    names: tuple[str, ...]  # what the columns are, e.g. ("age", "male")

    def __call__(self, image: Image) -> Float[Tensor, "batch name"]:
        """Scores of every image, in the order of `names`."""
        ...


def fingerprint(generator: Generator) -> str:
    """Twelve letters that name a generator's W: the hash of its sizes and its mean w.

    Latents and directions carry it, so that one found on another generator is refused.
    """
    sizes = tuple(int(size) for size in (generator.z_dim, generator.w_dim, generator.num_layers, generator.resolution))
    mean = generator.w_mean.detach().cpu().float().numpy()
    return hashlib.sha256(repr(sizes).encode() + mean.astype("<f4").tobytes()).hexdigest()[:12]


def renderer(generator: Generator, render: Render | None) -> tuple[Render, str]:
    """What draws the pictures, and its kind."""
    headless = getattr(generator, "preview_head", "its own way") is None  # the face generator without the head that draws its previews
    preview = None if headless else getattr(generator, "preview", None)
    render = render or preview or generator.synthesis
    return render, "full" if render == generator.synthesis else "preview" if render == preview else "own"
