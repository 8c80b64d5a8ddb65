"""How good an inversion is: how like the photo, how near to the truth, and how well it can still be edited. Taught in notebook 06."""

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
    """How like their photos pictures are, one number for each pair; measured on bytes, as they would be saved."""

    psnr_db: Float[Tensor, " batch"]  # peak signal to noise ratio: higher is nearer; +6 is half the error
    ssim: Float[Tensor, " batch"]  # structural similarity (Wang et al. 2004), 1 for equal pictures
    perceptual: Float[Tensor, " batch"] | None  # how different they look; None if it was not measured
    identity: Float[Tensor, " batch"] | None  # how far apart the people are; below 0.6 it is one person for the network


@torch.no_grad()
def likeness(
    picture: Image, photo: Image, distance: Callable[[Image, Image], Tensor] | None = None, identity: Identity | None = None
) -> Likeness:
    """Compare each picture with its photo; the larger of the two sizes is brought to the smaller. Raises ShapeError for other numbers."""
    from skimage.metrics import structural_similarity

    if picture.ndim != 4 or photo.ndim != 4 or len(picture) != len(photo):
        given = f"{list(picture.shape)} and {list(photo.shape)}"
        raise ShapeError(f"one photo for every picture was needed, both [batch, 3, size, size]; given {given}. Use images.resize or [:1].")
    side = min(picture.shape[-1], photo.shape[-1])
    bytes_of = [images.to_uint8(images.resize(one.cpu(), side)) for one in (picture, photo)]
    ours, theirs = (images.from_uint8(one) for one in bytes_of)
    error = (ours - theirs).double().square().mean(dim=(1, 2, 3))
    ssim = [structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in zip(*bytes_of, strict=True)]
    return Likeness(
        10 * torch.log10(4 / error),
        torch.tensor(ssim, dtype=torch.double),
        distance(ours, theirs) if distance else None,
        (identity(ours) - identity(theirs)).norm(dim=1) if identity else None,
    )


def away_from_truth(ws: Ws, truth: Ws, w_mean: Float[Tensor, " w"]) -> Float[Tensor, " batch"]:
    """On the generator's own faces, whose ws are known: |ws - truth| / |truth - w_mean|. 0 is found, 1 is no better than the mean."""
    return (ws - truth).flatten(1).norm(dim=1) / (truth - w_mean).flatten(1).norm(dim=1)


@dataclass(frozen=True, eq=False)
class Edited:
    """What an edit did to inverted photos, by the judge; every number is one for each photo."""

    before: Float[Tensor, "batch name"]  # scores of the photos themselves
    after: Float[Tensor, "batch name"]  # scores of the edited pictures
    names: tuple[str, ...]
    identity: Float[Tensor, " batch"]  # how far the edited person is from the one in the photo

    def change(self, name: str) -> Float[Tensor, " batch"]:
        """How far one score moved, from the photo to the edited picture."""
        return (self.after - self.before)[:, self.names.index(name)]


@torch.no_grad()
def edited(render: Render, ws: Ws, photo: Image, edit: Direction | Edit, judge: Predictor, identity: Identity) -> Edited:
    """Edit what was found for each photo, and compare it with the photo: does the edit still work, and is it still the same person?

    `render` draws ws, e.g. `faces.synthesis` or `faces.preview`; judge and identity had better not be what the search looked at.
    """
    picture, scores = render((1.0 * edit)(ws)), judge(photo)
    return Edited(scores, judge(picture), tuple(judge.names), (identity(picture) - identity(photo)).norm(dim=1))


def editing_consistency(
    render: Render, ws: Ws, edit: Direction | Edit, again: Callable[[Image], Ws], distance: Callable[[Image, Image], Tensor]
) -> Float[Tensor, " batch"]:
    """Latent editing consistency (Tov et al. 2021, section 5): edit, invert the edited picture, undo the edit; how different does it look?

    `again` inverts pictures of faces. 0 is perfect: what was found means the same wherever it is edited to.
    """
    with torch.no_grad():
        picture = render((1.0 * edit)(ws))
    found = again(picture.clamp(-1, 1))
    with torch.no_grad():
        return distance(render((-1.0 * edit)(found)), render(ws))


def describe(one: Likeness) -> str:
    """A line for a table: the means over all photos."""
    values = {"psnr_db": "{:.1f} dB", "ssim": "SSIM {:.3f}", "perceptual": "perceptual {:.3f}", "identity": "identity {:.2f}"}
    parts = [text.format(float(np.mean(numbers.numpy()))) for name, text in values.items() if (numbers := getattr(one, name)) is not None]
    return ", ".join(parts)


def seconds_of_a_search(generator: Generator, photo: Image, *, distance: Distance, identity: Identity, looks: int = 4) -> float:
    """How long an inversion with the usual settings takes here, from a few looks of its first part (in W) and of its second (in W+)."""
    usual, pace = InvertConfig(), []
    for config in (InvertConfig(space="w"), InvertConfig(apart=0)):
        search = invert(generator, photo, config, distance=distance, identity=identity)
        pace.append(seconds_a_photo(partial(next, search), looks))
    return usual.steps * (usual.apart * pace[0] + (1 - usual.apart) * pace[1])
