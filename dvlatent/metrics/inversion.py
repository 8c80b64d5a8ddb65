"""How good an inversion is: how like the photo, how near to the true w, and how well it can be edited. Taught in notebook 06."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.directions import Direction, Edit
from dvlatent.errors import ShapeError
from dvlatent.faces.perceptual import Distance
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.metrics.filters import seconds_a_photo
from dvlatent.types import Generator, Identity, Image, Predictor, Render, Ws


@dataclass(frozen=True, eq=False)
class Likeness:
    """How like their photos some pictures are, one number for each pair; measured on bytes, as saved files are."""

    psnr_db: Float[Tensor, " batch"]  # peak signal to noise ratio: higher is nearer; +6 is half the error
    ssim: Float[Tensor, " batch"]  # structural similarity (Wang et al. 2004), 1 for equal pictures
    perceptual: Float[Tensor, " batch"] | None  # perceptual distance; None if it was not measured
    identity: Float[Tensor, " batch"] | None  # identity distance; below 0.6 it is one person for the network


@torch.no_grad()
def likeness(
    picture: Image, photo: Image, distance: Callable[[Image, Image], Tensor] | None = None, identity: Identity | None = None
) -> Likeness:
    """Compare each picture with its photo, at the smaller of the two sizes. Raises ShapeError for other than one photo a picture."""
    from skimage.metrics import structural_similarity

    if picture.ndim != 4 or photo.ndim != 4 or len(picture) != len(photo):
        given = f"{list(picture.shape)} and {list(photo.shape)}"
        raise ShapeError(f"one photo for every picture was needed, both [batch, 3, size, size]; given {given}. Use images.resize or [:1].")
    side = min(picture.shape[-1], photo.shape[-1])
    bytes_of = [images.to_uint8(images.resize(one.cpu(), side)) for one in (picture, photo)]
    picture, photo = (images.from_uint8(one) for one in bytes_of)
    error = (picture - photo).double().square().mean(dim=(1, 2, 3))
    ssim = [structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in zip(*bytes_of, strict=True)]
    return Likeness(
        10 * torch.log10(4 / error),
        torch.tensor(ssim, dtype=torch.double),
        distance(picture, photo) if distance else None,
        (identity(picture) - identity(photo)).norm(dim=1) if identity else None,
    )


def away_from_truth(ws: Ws, truth: Ws, w_mean: Float[Tensor, " w"]) -> Float[Tensor, " batch"]:
    """|ws - truth| / |truth - w_mean|, for generated faces, whose ws are known: 0 is found, 1 is as far away as the mean."""
    return (ws - truth).flatten(1).norm(dim=1) / (truth - w_mean).flatten(1).norm(dim=1)


@dataclass(frozen=True, eq=False)
class Edited:
    """The effect of an edit on inverted photos, as the judge scores it; one row or number for each photo."""

    before: Float[Tensor, "batch name"]  # scores of the photos themselves
    after: Float[Tensor, "batch name"]  # scores of the edited pictures
    names: tuple[str, ...]
    identity: Float[Tensor, " batch"]  # identity distance from the photo to the edited picture

    def change(self, name: str) -> Float[Tensor, " batch"]:
        """How far one score moved, from the photo to the edited picture."""
        return (self.after - self.before)[:, self.names.index(name)]


@torch.no_grad()
def edited(render: Render, ws: Ws, photo: Image, edit: Direction | Edit, judge: Predictor, identity: Identity) -> Edited:
    """Edit the ws found for each photo, and compare the picture with the photo: does the edit still work, on the same person?

    `render` draws ws, e.g. `faces.synthesis` or `faces.preview`. Give a judge and an identity network that the search did not use.
    """
    picture, scores = render((1.0 * edit)(ws)), judge(photo)
    return Edited(scores, judge(picture), tuple(judge.names), (identity(picture) - identity(photo)).norm(dim=1))


def editing_consistency(
    render: Render, ws: Ws, edit: Direction | Edit, invert_again: Callable[[Image], Ws], distance: Callable[[Image, Image], Tensor]
) -> Float[Tensor, " batch"]:
    """Latent editing consistency (Tov et al. 2021, section 5): edit, invert the edited picture, undo the edit, compare with the start.

    `invert_again` finds the ws of pictures of faces. 0 is perfect: the edit means the same in both places.
    """
    with torch.no_grad():
        picture = render((1.0 * edit)(ws))
    found = invert_again(picture.clamp(-1, 1))
    with torch.no_grad():
        return distance(render((-1.0 * edit)(found)), render(ws))


def describe(likeness: Likeness) -> str:
    """A line for a table: the means over all photos."""
    formats = {"psnr_db": "{:.1f} dB", "ssim": "SSIM {:.3f}", "perceptual": "perceptual {:.3f}", "identity": "identity {:.2f}"}
    measured = {name: values for name in formats if (values := getattr(likeness, name)) is not None}
    return ", ".join(formats[name].format(float(np.mean(values.numpy()))) for name, values in measured.items())


def seconds_of_a_search(generator: Generator, photo: Image, *, distance: Distance, identity: Identity, steps: int = 4) -> float:
    """How long an inversion with the usual settings takes here, from a few steps of its first part (in W) and of its second (in W+)."""
    usual, seconds = InvertConfig(), []
    for config in (InvertConfig(space="w"), InvertConfig(split_after=0)):
        search = invert(generator, photo, config, distance=distance, identity=identity)
        seconds.append(seconds_a_photo(partial(next, search), steps))
    return usual.steps * (usual.split_after * seconds[0] + (1 - usual.split_after) * seconds[1])
