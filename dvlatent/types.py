"""The shapes and protocols that every other file uses: read this first.

An image is a float tensor in [-1, 1]; a latent is a row of numbers that a generator turns into an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "batch channel height width"]  # values in [-1, 1]
Z = Float[Tensor, "batch z"]  # a random vector: standard normal numbers
W = Float[Tensor, "batch w"]  # what the mapping network makes of it
Ws = Float[Tensor, "batch layer w"]  # one w for every layer of the synthesis network
Render = Callable[[Ws], Image]  # draws ws: `generator.synthesis`, a faster preview, or a function of your own
Identity = Callable[[Image], Float[Tensor, "batch number"]]  # describes who is in the picture: near for one person, far for two
BATCH = 8  # faces that a long run draws and scores in one step


@runtime_checkable
class Generator(Protocol):
    """Anything that turns random vectors into pictures: z -> w -> image.

    Every class with these members works in every method, also a class written in a notebook.
    """

    z_dim: int  # numbers in a z
    w_dim: int  # numbers in a w
    num_layers: int  # how many w's `synthesis` takes, coarse to fine
    resolution: int  # height and width of an image, in pixels
    w_mean: Tensor  # [w], the average w: the point to truncate toward

    def mapping(self, z: Z) -> W:
        """Random vectors to coordinates: [batch, z_dim] -> [batch, w_dim]."""
        ...

    def synthesis(self, ws: Ws) -> Image:
        """Coordinates to pictures: [batch, num_layers, w_dim] -> [batch, 3, resolution, resolution]."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """Anything that scores pictures: one row for each image, one column for each name."""

    names: tuple[str, ...]  # of the columns, e.g. ("age", "male")

    def __call__(self, image: Image) -> Float[Tensor, "batch name"]:
        """Scores in the order of `names`: [batch, 3, height, width] -> [batch, name]."""
        ...


def fingerprint(generator: Generator) -> str:
    """Twelve letters that name a generator's W: the hash of its sizes and its mean w.

    Latents and directions carry it, so that a direction found on one generator is refused on another.
    """
    sizes = tuple(int(size) for size in (generator.z_dim, generator.w_dim, generator.num_layers, generator.resolution))
    mean = generator.w_mean.detach().cpu().float().numpy()
    return hashlib.sha256(repr(sizes).encode() + mean.astype("<f4").tobytes()).hexdigest()[:12]


def renderer(generator: Generator, render: Render | None) -> tuple[Render, str]:
    """The function that draws pictures, and its kind: "full" resolution, "preview", or "own" for one that you give.

    Without `render`, it is the generator's preview if there is one, else its synthesis.
    """
    has_preview = hasattr(generator, "preview") and getattr(generator, "preview_head", True) is not None
    preview = generator.preview if has_preview else None
    render = render or preview or generator.synthesis
    return render, "full" if render == generator.synthesis else "preview" if render == preview else "own"
