"""Photos of people: find the faces, cut each out as the generator's training photos were cut, and paste an edited face back.

The cut is that of FFHQ (Karras et al. 2019, section A): a square, turned with the face; eyes and mouth give its size and position.
A generator knows only faces that are cut like this. Taught in notebook 06.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.errors import NoFace, ShapeError
from dvlatent.faces.detector import SURE, SURE_TWICE, FaceCheck, detector
from dvlatent.faces.landmarks import SIZE_PX, Landmarks, shape_predictor
from dvlatent.types import Image

SEARCH_PX = 1280  # the longer side of a photo is at most this long in the first search; photos up to half of it are doubled
FINE_PX = 4800  # and at most this long in the second, for photos without a large face; photos up to twice SEARCH_PX are doubled
WINDOW_PX = 80  # the smallest face that the detector sees
LARGEST_PX = 2**17  # of a photo's side and of a corner: beyond, a file states nonsense
REFINEMENTS = 2  # times that the cut is measured again in the aligned picture, where every face lies as the landmarks expect it
STRIP_PX = 256  # rows that paste_back computes at a time, so that large photos need little memory


@dataclass(frozen=True)
class Alignment:
    """Where an aligned face lies in its photo: enough to cut it out again and to paste it back."""

    quad: tuple[tuple[float, float], ...]  # corners (x, y): upper left, lower left, lower right, upper right; (0, 0) is a pixel center
    photo_size: tuple[int, int]  # height and width of the photo, in pixels

    def __post_init__(self) -> None:
        """Numbers become Python's own, as a file has them. Raises ShapeError for other corners or sizes."""
        quad, size = tuple((float(x), float(y)) for x, y in self.quad), tuple(int(side) for side in self.photo_size)
        if len(quad) != 4 or len(size) != 2 or min(size) < 1 or not max(*size, *np.abs(quad).ravel()) <= LARGEST_PX or _flat(quad):
            raise ShapeError(
                f"an alignment has the four corners of a square, in a photo of 1 to {LARGEST_PX:,} pixels a side; given: {self.quad} in "
                f"{self.photo_size}."
            )
        object.__setattr__(self, "quad", quad)
        object.__setattr__(self, "photo_size", size)

    @property
    def size_px(self) -> float:
        """The side of the square, in pixels of the photo."""
        return math.dist(self.quad[0], self.quad[3])


class Aligner:
    """Finds faces in photos and aligns them: `alignment, face = aligner(photo)`.

    dlib's detector for upright faces (King 2009; histograms of oriented gradients) finds faces from about 40 px, turned or tilted by up to
    about 30 degrees; in photos of more than 2560 px it finds a single small face from a sixtieth of the longer side. What it finds is cut
    out and looked at again, so that badges and folds of clothes are no faces. Read photos with `images.read`, which turns them upright and
    handles gray, 16-bit, CMYK, transparent and animated files. Raises AssetBroken for a file that is not a predictor of 68 points.
    """

    def __init__(self, shape_dat: str | os.PathLike[str]) -> None:
        self._predictor, self.landmarks, self.check = shape_predictor(Path(shape_dat)), Landmarks(shape_dat), FaceCheck()

    def __call__(
        self, photo: Float[Tensor, "1 3 height width"], face: int = 0, size_px: int = 1024
    ) -> tuple[Alignment, Float[Tensor, "1 3 size size"]]:
        """Where one face of the photo is, and the face aligned. Face 0 is the largest. Raises NoFace if the photo has no such face."""
        found = self.find(photo)
        if not 0 <= face < len(found):
            height, width = photo.shape[2:]
            needed_px = math.ceil(WINDOW_PX * max(height, width) / max(side * 2**double for side, double in _searches(height, width)))
            raise NoFace(
                f"no face was found in this {width}x{height} photo. One from {needed_px} px, seen from the front and upright, was needed: "
                "choose another photo, turn it upright, or cut it closer around the face."
                if not found
                else f"there is no face number {face}: {len(found)} found, numbered 0 (the largest) to {len(found) - 1}. Say face=0."
            )
        return found[face], crop(photo, found[face], size_px)

    def find(self, photo: Float[Tensor, "1 3 height width"]) -> list[Alignment]:
        """Every face of the photo, the largest first; the list may be empty. `crop` cuts them out."""
        height, width = _checked(photo, "photo").shape[2:]
        for side, double in _searches(height, width) if min(height, width) > 1 else ():  # dlib refuses the smallest
            if found := self._search(photo, side, double):
                return sorted(found, key=lambda one: -one.size_px)
        return []

    def _search(self, photo: Image, side: int, double: bool) -> list[Alignment]:
        """The faces that are seen when the photo's longer side has so many pixels."""
        import dlib

        pixels, found = images.to_uint8(images.resize(photo.detach(), side))[0], []
        scale = np.array([photo.shape[3] / pixels.shape[1], photo.shape[2] / pixels.shape[0]])
        for box, score, _ in zip(*detector().run(pixels, int(double)), strict=True):
            points = self._predictor(pixels, dlib.rectangle(box)).parts()
            rough = (np.array([(point.x, point.y) for point in points]) + 0.5) * scale - 0.5
            alignment = self._refined(photo, Alignment(square(rough), tuple(photo.shape[2:])), score)
            found += [alignment] if alignment else []
        return found

    def _refined(self, photo: Image, alignment: Alignment, score: float) -> Alignment | None:
        """The alignment, measured again in its own aligned picture: so an aligned face aligns to itself. None if that shows no face."""
        for index in range(REFINEMENTS):
            face = crop(photo, alignment, SIZE_PX)
            if index == REFINEMENTS - 1:
                again = float(self.check(face)[0, 0])
                if again <= SURE and score + again <= SURE_TWICE:
                    return None
            points = self.landmarks.points(face)[0].double().cpu().numpy()
            upper_left, lower_left, _, upper_right = np.array(alignment.quad)
            across, down = ((points + 0.5) / SIZE_PX).T[:, :, None]  # each [68, 1], 0 to 1
            points = upper_left + across * (upper_right - upper_left) + down * (lower_left - upper_left)
            alignment = Alignment(square(points), alignment.photo_size)
        return alignment


def _searches(height: int, width: int) -> list[tuple[int, bool]]:
    """In which sizes of a photo faces are searched: the longer side, and whether the detector doubles it. The second is a last resort."""
    longer = max(height, width)
    small = min(longer, SEARCH_PX)
    if longer <= SEARCH_PX / 2:
        return [(longer, True)]
    return [(small, False), (small, True) if longer <= 2 * SEARCH_PX else (min(longer, FINE_PX), False)]


def square(points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, "4 2"]:
    """The FFHQ square around 68 landmarks: upper left, lower left, lower right, upper right corner (Karras et al. 2019, section A).

    Its horizontal is the line of the eyes, corrected by the line from the eyes to the mouth. Its side is four eye distances, or 3.6 times
    the distance from eyes to mouth if that is more. Its center lies a tenth of that distance below the eyes.
    """
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    eyes, across = (left + right) / 2, right - left
    down = (points[48] + points[54]) / 2 - eyes
    x = across + np.array([down[1], -down[0]])  # both should be horizontal: their sum is the compromise
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    center = eyes + 0.1 * down
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])


def crop(photo: Float[Tensor, "1 3 height width"], alignment: Alignment, size_px: int = 1024) -> Float[Tensor, "1 3 size size"]:
    """The aligned face: cut out of the photo, turned upright and resized to `size_px`, antialiased, as the FFHQ script does.

    Where the square leaves the photo, the photo is mirrored at its edge and fades into a blur, then into its median color.
    """
    from PIL import Image as Pillow

    _fits(photo, alignment)
    height, width = alignment.photo_size
    quad, side = np.array(alignment.quad), alignment.size_px
    border = max(round(0.1 * side), 3)
    left, top = np.maximum(np.floor(quad.min(0)).astype(int) - border, 0)
    right, bottom = np.minimum(np.ceil(quad.max(0)).astype(int) + border, (width, height))
    if right - left < 2 or bottom - top < 2:
        raise ShapeError(f"this alignment lies outside its {width}x{height} photo (corners {alignment.quad}). Align the photo again.")
    window, quad = images.as_floats(photo.detach()[:, :, top:bottom, left:right]).float().cpu(), quad - (left, top)
    shrink = side / size_px / 2
    if shrink > 1:
        old = np.array([right - left, bottom - top])
        window = images.resize(window, (math.ceil(old[1] / shrink), math.ceil(old[0] / shrink)))
        ratio = np.array([window.shape[3], window.shape[2]]) / old
        quad, side, border = (quad + 0.5) * ratio - 0.5, side / shrink, max(round(0.1 * side / shrink), 3)
    canvas = window[0].numpy()
    outside = [*np.ceil(-quad.min(0) + border), *np.ceil(quad.max(0) + border - (canvas.shape[2], canvas.shape[1]))]
    if max(outside) > border - 4:
        pad = [max(int(edge), round(0.3 * side)) for edge in outside]  # left, top, right, bottom
        canvas, quad = _extended(canvas, pad, side), quad + pad[:2]
    size = np.array([canvas.shape[2], canvas.shape[1]])
    across, down, center = quad[3] - quad[0], quad[1] - quad[0], 2 * (quad.mean(0) + 0.5) / size - 1
    square_to_canvas = torch.from_numpy(np.stack([across / size, down / size, center], axis=1))[None].float()
    grid = F.affine_grid(square_to_canvas, [1, 3, 2 * size_px, 2 * size_px], align_corners=False)  # as fine as the window, or finer
    fine = F.grid_sample(torch.from_numpy(canvas)[None].float(), grid, padding_mode="border", align_corners=False)[0].numpy()
    planes = (Pillow.fromarray(plane).resize((size_px, size_px), Pillow.Resampling.LANCZOS) for plane in fine)
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))[None].clamp_(-1, 1).to(photo.device)


def _flat(quad: tuple[tuple[float, float], ...]) -> bool:
    """Whether four corners are far from a square: cut out, they could ask for any amount of memory."""
    corners = np.array(quad)
    across, down = corners[3] - corners[0], corners[1] - corners[0]
    area = abs(across[0] * down[1] - across[1] * down[0])
    return not area > 0.1 * np.ptp(corners, axis=0).max() ** 2


def soft_mask(size_px: int = 256, edge: float = 0.15) -> Float[Tensor, "1 1 size size"]:
    """How much of the edited face is pasted: 1 in the center, falling to 0 at all four sides over the fraction `edge` of the square."""
    position = (torch.arange(size_px) + 0.5) / size_px
    ramp = ((torch.minimum(position, 1 - position) - 0.02) / edge).clamp(0, 1)
    ramp = ramp.square() * (3 - 2 * ramp)
    return (ramp[:, None] * ramp)[None, None]


@torch.no_grad()
def paste_back(
    photo: Float[Tensor, "1 3 height width"],
    edited: Float[Tensor, "1 3 size size"],
    alignment: Alignment,
    mask: Float[Tensor, "1 1 mask_size mask_size"] | None = None,
) -> Float[Tensor, "1 3 height width"]:
    """The photo with the edited face where the face was. Where the mask is 0, and outside the square, every bit of the photo stays.

    `mask` lies over the edited face, has any size, and goes from 0 (photo) to 1 (edited); by default it is `soft_mask()`.
    """
    _checked(edited, "edited face")
    result = photo.clone()
    for rows, columns, weight, new in laid(edited.to(photo), _fits(photo, alignment), mask):
        old = photo[:, :, rows, columns]
        result[:, :, rows, columns] = torch.where(weight > 0, old + weight * (new.clamp(-1, 1) - old), old)
    return result


def laid(
    face: Float[Tensor, "1 3 size size"], alignment: Alignment, mask: Float[Tensor, "1 1 mask_size mask_size"] | None = None
) -> Iterator[tuple[slice, slice, Float[Tensor, "1 1 rows columns"], Float[Tensor, "1 3 rows columns"]]]:
    """An aligned picture laid where its face is in the photo, a strip after the other: rows, columns, weight of the mask, the picture."""
    mask = (soft_mask() if mask is None else mask).to(face)
    if mask.ndim != 4 or mask.shape[:2] != (1, 1) or not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ShapeError(f"a mask is [1, 1, size, size] with values 0 to 1; this one has shape {list(mask.shape)}. Start from soft_mask().")
    side = max(round(alignment.size_px), 1)
    if side < face.shape[-1]:
        face = images.resize(face, (side, side))  # antialiased: grid_sample would only skip pixels
    for rows, columns, grid in strips(alignment):
        grid = grid.to(face)
        weight = F.grid_sample(mask, grid, align_corners=False)  # zero outside
        yield rows, columns, weight, F.grid_sample(face, grid, mode="bicubic", padding_mode="border", align_corners=False)


def strips(alignment: Alignment) -> Iterator[tuple[slice, slice, Float[Tensor, "1 rows columns 2"]]]:
    """The photo's rows and columns around the square, a few rows at a time, and where each pixel lies in the square, -1 to 1."""
    (height, width), quad = alignment.photo_size, np.array(alignment.quad)
    left, top = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, (width, height))
    into = np.linalg.inv(np.stack([quad[3] - quad[0], quad[1] - quad[0]], axis=1))  # photo pixels to fractions of the square
    for first in range(top, bottom, STRIP_PX):
        rows = slice(first, min(first + STRIP_PX, bottom))
        pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(rows.start, rows.stop)), axis=-1)
        yield rows, slice(left, right), torch.from_numpy(2 * (pixels - quad[0]) @ into.T - 1)[None]


def _extended(canvas: np.ndarray, pad: list[int], side: float) -> np.ndarray:
    """The canvas with margins: mirrored, more and more blurred outward, and fading into the median color (the FFHQ script)."""
    left, top, right, bottom = pad
    canvas = np.pad(canvas, ((0, 0), (top, bottom), (left, right)), mode="reflect" if min(canvas.shape[1:]) > 1 else "edge")
    rows, columns = (np.arange(length, dtype=np.float32) for length in canvas.shape[1:])
    across = 1 - np.minimum(columns / max(left, 1), (len(columns) - 1 - columns) / max(right, 1))
    down = 1 - np.minimum(rows / max(top, 1), (len(rows) - 1 - rows) / max(bottom, 1))
    outward = np.maximum(across, down[:, None])  # 1 at the outermost pixel, 0 where the photo begins, negative within
    canvas = canvas + (_blurred(canvas, 0.02 * side) - canvas) * np.clip(3 * outward + 1, 0, 1)
    return canvas + (np.median(canvas[:, ::4, ::4], axis=(1, 2), keepdims=True) - canvas) * np.clip(outward, 0, 1)


def _blurred(canvas: np.ndarray, width_px: float) -> np.ndarray:
    """A Gaussian blur; a wide one is computed on a smaller picture, which is cheaper and gives the same."""
    image, size = torch.from_numpy(canvas)[None], canvas.shape[1:]
    shrink = max(int(width_px / 4), 1)
    small = F.interpolate(image, [math.ceil(length / shrink) for length in size], mode="area") if shrink > 1 else image
    reach = math.ceil(3 * width_px / shrink) or 1
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype) / max(width_px / shrink, 1e-3)) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    small = F.conv2d(F.pad(small, (reach, reach, 0, 0), mode="replicate"), weights, groups=3)
    small = F.conv2d(F.pad(small, (0, 0, reach, reach), mode="replicate"), weights.transpose(2, 3), groups=3)
    return F.interpolate(small, size, mode="bilinear")[0].numpy() if shrink > 1 else small[0].numpy()


def _checked(photo: Image, what: str) -> Image:
    if photo.ndim != 4 or photo.shape[:2] != (1, 3) or 0 in photo.shape or not (photo.is_floating_point() or photo.dtype == torch.uint8):
        raise ShapeError(
            f"a {what} must be one picture, [1, 3, height, width], floats in [-1, 1] or bytes; this is {photo.dtype}, "
            f"{list(photo.shape)}. "
            "Read a file with images.read, take one of several with photo[:1]."
        )
    return photo


def _fits(photo: Image, alignment: Alignment) -> Alignment:
    if tuple(_checked(photo, "photo").shape[2:]) != alignment.photo_size:
        height, width = alignment.photo_size
        raise ShapeError(
            f"this alignment was found in a {width}x{height} photo, this one has {photo.shape[3]}x{photo.shape[2]} pixels. "
            "Give the photo itself, or align this one."
        )
    return alignment
