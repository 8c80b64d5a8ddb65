"""What an edit of the face does to skin, hair and background: numbers that a predictor of age does not see. Taught in notebook 07.

All are of aligned faces and read at 256 px. Eyes, brows and mouth stay out of the five patches of skin.

    skin_detail(after) / skin_detail(before)  # above 1: finer lines than before
    skin_shift(before, after)  # how much another color the skin has, in Delta E
    low_pass(before, after)  # the edit without its fine lines: an ageing that survives this needs no wrinkles
    measure(before, after, load("face-parts"), {"judge": load("judge")}, load("identity"))  # all that, with intervals
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.faces.identity import SAME_PERSON_BELOW
from dvlatent.faces.parts import FaceParts
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import Identity, Image, Predictor

SIZE_PX = 256  # of the aligned face that the patches are given for
SKIN = {  # rows and columns, from and to
    "forehead": (78, 100, 104, 152),
    "left cheek": (140, 168, 76, 102),
    "right cheek": (140, 168, 154, 180),
    "left temple": (112, 128, 70, 84),
    "right temple": (112, 128, 172, 186),
}
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
COARSE_PX = 32  # what is left of a change that was blurred to so many pixels has no lines


def skin_detail(image: Image) -> Float[Tensor, " batch"]:
    """How finely the skin is drawn: the standard deviation of luminance between two blurs, 3 and 7 px wide, averaged over the patches."""
    light = (_checked(image) * image.new_tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)
    fine = F.avg_pool2d(light, 3, 1, 1) - F.avg_pool2d(light, 7, 1, 3)
    return torch.stack([patch.std(dim=(1, 2, 3)) for patch in skin_patches(fine)]).mean(dim=0)


def lab(image: Image) -> Float[Tensor, "batch 3 height width"]:
    """CIE L*a*b* (D65) of sRGB pictures: equal distances look about equally far apart."""
    rgb = ((image.float() + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = linear.new_tensor([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    white = linear.new_tensor([0.95047, 1.0, 1.08883])[:, None, None]
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear) / white
    bent = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = bent.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def skin_color(image: Image) -> Float[Tensor, "batch 3"]:
    """The mean color of the five patches, in Lab."""
    return torch.stack([patch.mean(dim=(2, 3)) for patch in skin_patches(lab(_checked(image)))]).mean(dim=0)


def skin_shift(before: Image, after: Image) -> Float[Tensor, " batch"]:
    """How far the skin's color moved: Delta E (CIE 1976). About 2 is what an eye notices."""
    return (skin_color(after) - skin_color(before)).norm(dim=1)


def chroma_shift(before: Image, after: Image, where: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    """How much more colorful a region became, such as the hair: the mean change of Lab chroma, weighted by `where` (0 to 1).

    Grey hair lowers it, bleached or reddened hair raises it. NaN for a face without such a region.
    """
    change = lab(after)[:, 1:].norm(dim=1) - lab(before)[:, 1:].norm(dim=1)  # [batch, height, width]
    weight = where.sum(dim=(1, 2))
    return torch.where(weight > 0.003 * where[0].numel(), (change * where).sum(dim=(1, 2)) / weight.clamp_min(1e-6), torch.nan)


def background_change(before: Image, after: Image, subject: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    """Mean absolute change outside the subject (face, hair and neck), in bytes of 255."""
    outside = 1 - subject
    change = 127.5 * (after - before).abs().mean(dim=1)
    return (change * outside).sum(dim=(1, 2)) / outside.sum(dim=(1, 2)).clamp_min(1e-6)


def low_pass(before: Image, after: Image, size_px: int = COARSE_PX) -> Image:
    """The before, with the change blurred to `size_px` pixels: all that is fine in the edit is gone, colors and shapes are not."""
    side = before.shape[-1]
    return (before + images.resize(images.resize(after - before, size_px), side)).clamp(-1, 1)


@torch.no_grad()
def measure(
    before: Image, after: Image, parts: FaceParts, readers: Mapping[str, Predictor], identity: Identity, score: str = "age"
) -> dict[str, Estimate]:
    """Over pairs of pictures: the change of `score` by every reader, and what else changed, with bootstrap intervals.

    Medians, but "same_person", "gender_flips" (by every reader that scores "male") and "background" are means. "without_lines" is the
    fraction of the change of score that is left after `low_pass`, by the first reader.
    """
    columns: dict[str, list[Tensor]] = {}

    def add(name: str, values: Tensor) -> None:
        columns.setdefault(name, []).append(values.float())

    first = next(iter(readers))
    for at in range(0, len(before), 8):
        was, now = before[at : at + 8], after[at : at + 8]
        for name, reader in readers.items():
            old, new, column = reader(was), reader(now), reader.names.index(score)
            add(f"{score} by {name}", (new - old)[:, column])
            if name == first:
                add("without_lines", (reader(low_pass(was, now)) - old)[:, column])
            if "male" in reader.names:
                male = reader.names.index("male")
                add("gender_flips", (new[:, male] > 0.5) != (old[:, male] > 0.5))
        add("same_person", (identity(now) - identity(was)).norm(dim=1) < SAME_PERSON_BELOW)
        add("skin_detail", skin_detail(now) / skin_detail(was))
        add("skin_shift", skin_shift(was, now))
        masks = parts(was)
        add("hair_chroma", chroma_shift(was, now, masks[:, parts.names.index("hair")]))
        add("background", background_change(was, now, 1 - masks[:, parts.names.index("rest")]))
    rows = {name: torch.cat(values).numpy() for name, values in columns.items()}
    means = ("same_person", "gender_flips", "background")
    found = {name: bootstrap(row, np.mean if name in means else np.nanmedian) for name, row in rows.items()}
    both = np.stack([rows["without_lines"], rows[f"{score} by {first}"]], axis=1)
    return found | {"without_lines": bootstrap(both, lambda pairs: float(np.divide(*np.median(pairs, axis=0))))}


def skin_patches(image: Float[Tensor, "batch channel 256 256"]) -> list[Tensor]:
    """The five patches of skin."""
    return [image[:, :, top:bottom, left:right] for top, bottom, left, right in SKIN.values()]


def _checked(image: Image) -> Image:
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
        raise ShapeError(f"skin is measured on aligned faces, [batch, 3, size, size]; this is {list(image.shape)}. Align the photo first.")
    return image if image.shape[-1] == SIZE_PX else images.resize(image, SIZE_PX)
