"""Sixty-eight points on a face, and what their geometry says: smile, open mouth and eyes, pose of the head. Taught in notebook 05.

dlib's landmarks (Kazemi and Sullivan 2014) usually begin at the rectangle of a detector. Aligned faces all lie at the same place, so one
fixed rectangle serves all of them. The points of a picture and of its mirror image are averaged: that halves their jitter, and the points
of a mirrored face are exactly the mirrored points.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import files, images
from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.types import Image

SIZE_PX = 256  # every picture is read at this size, so that previews and full renders agree
FINER = 4  # dlib rounds its points to whole pixels: each pixel is repeated four times, so they are rounded to quarters
CENTER_X, CENTER_Y, HALF = 127.5, 151.0, 72.0  # the rectangle, in pixels of 256: the mean of dlib's detector on 200 generated faces,
# moved to the center (it lay 2 px to the left) and made 5 px narrower on each side, which loses fewest faces
SMALLEST_PX = 128
MIRRORED = np.array(
    [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ]
)  # which point each one is in the mirror  # fmt: skip

# Eye corners and nose, which hardly move when a face does, in units of the distance of the outer eye corners: x to the picture's right,
# y down, z away from the viewer. The mean shape of 1,500 generated faces and their mirror images, by factorisation of their landmarks
# (Tomasi and Kanade 1992), turned so that the average generated face has pitch 0.
RIGID = (36, 39, 42, 45, 27, 28, 29, 30, 31, 32, 33, 34, 35)
SHAPE = torch.tensor(
    [
        (-0.5, -0.2491, 0.2486), (-0.214, -0.233, 0.1846), (0.214, -0.233, 0.1846), (0.5, -0.2491, 0.2486),
        (0.0, -0.277, -0.0011), (0.0, -0.1418, -0.0812), (0.0, -0.0079, -0.1698), (0.0, 0.1311, -0.2569),
        (-0.1716, 0.2298, -0.0407), (-0.089, 0.2584, -0.0828), (0.0, 0.2837, -0.1103), (0.089, 0.2584, -0.0828), (0.1716, 0.2298, -0.0407),
    ]
)  # [13, 3]  # fmt: skip
LIFT = 1.3  # how much the lift of the mouth's corners counts, where its width counts 1: least squares on 148 faces labelled by eye
NO_SMILE, BROAD_SMILE = 0.679, 0.985  # the average raw value of the faces labelled "none" and of those labelled "broad"


class Landmarks:
    """Reads smile, mouth, eyes and the pose of the head from aligned faces: a Predictor, `landmarks(image)` is [batch, 6].

    The pictures are aligned as FFHQ is, square, of any size from 128 px; no detector runs. The scores, from 68 points:

    - `smile`: 0 is the average unsmiling, 1 the average broadly smiling generated face; more or less is possible. See `smile`.
    - `mouth_open`, `eyes_open`: height over width of the inner lips and of the eyes; 0 is closed. See `aspect`.
    - `yaw`, `pitch`, `roll`: degrees. Positive: the face turns toward the picture's right edge, looks up, tilts clockwise. See `pose`.

    Faces are read one after the other: dlib holds Python's lock while it works, so threads gain nothing. No gradient flows through.
    Raises AssetBroken for a file that is not a predictor of 68 points.
    """

    names = ("smile", "mouth_open", "eyes_open", "yaw", "pitch", "roll")

    def __init__(self, shape_dat: str | os.PathLike[str]) -> None:
        self._predictor = shape_predictor(Path(shape_dat))

    def __call__(self, image: Image) -> Float[Tensor, "batch 6"]:
        """The six scores of every face: [batch, 3, size, size] in [-1, 1] -> [batch, 6]."""
        return geometry(self.points(image))

    def points(self, image: Image) -> Float[Tensor, "batch 68 2"]:
        """The 68 points (x, y) in pixels of the picture, numbered from 0 as iBUG does. (0, 0) is the center of the upper left pixel."""
        found = [torch.from_numpy(self._read(face)) for face in checked(image).detach().split(1) if len(face)]
        points = torch.stack(found).float() if found else torch.empty(0, 68, 2)
        return ((points + 0.5) * (image.shape[-1] / SIZE_PX) - 0.5).to(image.device)

    def _read(self, face: Float[Tensor, "1 3 size size"]) -> Float[np.ndarray, "68 2"]:
        small = images.resize(face.float().cpu().clamp(-1, 1), SIZE_PX)
        if not torch.isfinite(small).all():
            raise ShapeError("the faces hold numbers that are not finite (NaN): no landmarks there. Find the step that made the first one.")
        gray = small[0].mean(0).add_(1).mul_(127.5).round_().to(torch.uint8).numpy().repeat(FINER, 0).repeat(FINER, 1)
        upright, mirrored = self._detect(gray), self._detect(np.ascontiguousarray(gray[:, ::-1]))[MIRRORED]
        mirrored[:, 0] = SIZE_PX - 1 - mirrored[:, 0]
        return (upright + mirrored) / 2

    def _detect(self, gray: np.ndarray) -> Float[np.ndarray, "68 2"]:
        import dlib

        edges = (CENTER_X - HALF, CENTER_Y - HALF, CENTER_X + HALF, CENTER_Y + HALF)
        found = self._predictor(gray, dlib.rectangle(*(round(FINER * edge + (FINER - 1) / 2) for edge in edges)))
        return (np.array([(point.x, point.y) for point in found.parts()], dtype=float) - (FINER - 1) / 2) / FINER


def geometry(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 6"]:
    """The scores of `Landmarks.names` from the points alone, whatever their scale."""
    eyes = (aspect(points, (36, 37, 38, 39, 40, 41)) + aspect(points, (42, 43, 44, 45, 46, 47))) / 2
    lips = aspect(points, (60, 61, 63, 64, 65, 67))
    return torch.cat([torch.stack([smile(points), lips, eyes], dim=1), pose(points)], dim=1)


def smile(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, " batch"]:
    """How broadly a face smiles: 0 is the average of faces labelled (by eye) as not smiling, 1 of those labelled as smiling broadly.

    It is the width of the mouth plus 1.3 times the distance of its lower lip below its corners, over the distance of the outer eye
    corners. Turning the head shortens mouth and eyes alike, so the quotient stays. On 114 generated faces labelled by eye, broad smiles
    and none differ with an area of 0.99 under the ROC curve. Babies have small mouths and score low; open mouths score high.
    """
    across = points[:, 45] - points[:, 36]  # [batch, 2], from one outer eye corner to the other
    eyes = across.norm(dim=1)
    down = torch.stack([-across[:, 1], across[:, 0]], dim=1) / eyes[:, None]  # of length one, perpendicular to the line of the eyes
    corners, lower_lip = points[:, [48, 54]].mean(1), points[:, [56, 57, 58, 65, 66, 67]].mean(1)
    lift = ((lower_lip - corners) * down).sum(1)
    raw = ((points[:, 54] - points[:, 48]).norm(dim=1) + LIFT * lift) / eyes
    return (raw - NO_SMILE) / (BROAD_SMILE - NO_SMILE)


def fullness(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, " batch"]:
    """How wide jaw and cheeks are, over the distance of the outer eye corners: about 1.3, with a standard deviation of 0.09.

    The mean of the widths between the points 3 and 13, 4 and 12, 5 and 11. For faces that look ahead: a turned head hides a cheek.
    """
    widths = torch.stack([(points[:, 16 - side] - points[:, side]).norm(dim=1) for side in (3, 4, 5)])
    return widths.mean(dim=0) / (points[:, 45] - points[:, 36]).norm(dim=1).clamp_min(1e-6)


def aspect(points: Float[Tensor, "batch 68 2"], around: tuple[int, ...]) -> Float[Tensor, " batch"]:
    """Height over width of an eye: (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|) for six points around it (Soukupova and Cech 2016, eq. 1).

    An open eye has about 0.3. Eyes and mouths of heads turned aside are narrower, so their values are higher.
    """
    p1, p2, p3, p4, p5, p6 = (points[:, index] for index in around)
    return ((p2 - p6).norm(dim=1) + (p3 - p5).norm(dim=1)) / (2 * (p1 - p4).norm(dim=1)).clamp_min(1e-6)


def pose(points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 3"]:
    """Yaw, pitch and roll in degrees: the rotation that best moves the mean face (13 points of eyes and nose) onto the points.

    Weak perspective: points = scale * (first two rows of the rotation) @ shape + shift. Least squares give the 2x3 matrix; its singular
    vectors give the nearest pair of perpendicular rows of equal length. The rotation is yaw (about the vertical) after pitch after roll.
    Pitch 0 is the average generated face; a long nose reads as looking down.
    """
    rigid = points[:, list(RIGID)].double()
    centered = (rigid - rigid.mean(1, keepdim=True)).transpose(1, 2)  # [batch, 2, 13]
    shape = SHAPE.to(centered).T  # [3, 13]
    camera = centered @ torch.linalg.pinv(shape - shape.mean(1, keepdim=True))  # [batch, 2, 3]
    left, _, right = torch.linalg.svd(camera, full_matrices=False)
    rows = left @ right  # [batch, 2, 3], orthonormal
    depth = torch.linalg.cross(rows[:, 0], rows[:, 1])  # the third row
    yaw = torch.atan2(-rows[:, 0, 2], depth[:, 2])
    pitch = torch.asin(rows[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(rows[:, 1, 0], rows[:, 1, 1])
    return torch.stack([yaw, pitch, roll], dim=1).rad2deg().to(points.dtype)


def checked(image: Image, smallest_px: int = SMALLEST_PX) -> Image:
    """The image itself. Raises ShapeError unless it is a batch of square faces of at least `smallest_px`, in floats."""
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[2] < smallest_px:
        raise ShapeError(
            f"scores are read from square aligned faces, [batch, 3, size, size] of {smallest_px} px or more; this has shape "
            f"{list(image.shape)}. Align a photo first, use image[None] for one face without its batch, or resize a small one up."
        )
    if not image.is_floating_point():
        raise ShapeError(f"faces are floats in [-1, 1]; these are {image.dtype}. Use images.from_uint8 for bytes.")
    return image


@lru_cache(maxsize=4)
def shape_predictor(path: Path) -> Any:
    """dlib's predictor of 68 points, read once (100 MB, one second) and shared. Raises AssetBroken for anything else."""
    import dlib

    try:
        predictor = dlib.shape_predictor(str(files.check(path, 256 * 2**20, AssetBroken)))
        count = predictor(np.zeros((8, 8), np.uint8), dlib.rectangle(0, 0, 7, 7)).num_parts
    except AssetBroken:
        raise
    except Exception as reason:
        raise AssetBroken(f"{path} is not a shape predictor ({str(reason)[:200]}). Run `dvlatent assets` to repair it.") from reason
    if count != 68:
        raise AssetBroken(f"{path} finds {count} points; 68 are needed. Give shape_predictor_68_face_landmarks.dat.")
    return predictor
