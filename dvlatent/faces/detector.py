"""Whether a picture shows one clean face: what a detector that knows nothing of generators says. Taught in notebook 07.

A generator sometimes draws a melted face, or a second head at the edge. dlib's detector (King 2009; histograms of oriented gradients) was
never trained on its pictures, so its doubt is worth something.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.types import Image

SIZE_PX = 256  # every picture is searched at this size, where an aligned face is twice as large as the detector's window
NONE = -1.0  # the score of a face that was not found: the detector is asked for everything above it
NEAR = 0.15  # the aligned face has its middle this near to the usual place, as a share of the picture's side
MIDDLE = (0.5, 0.59)  # the usual place, across and down


class Clean:
    """A Predictor of two scores: `sure`, the detector's confidence in the aligned face (a good one has about 2, one in doubt less than
    0.5, none -1), and `others`, its confidence in the best other face (-1: there is none).

    `clean(image)` is [batch, 2] for square aligned faces of any size from 128 px. No files are needed, no gradient flows.
    """

    names = ("sure", "others")

    def __init__(self) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()

    def __call__(self, image: Image) -> Float[Tensor, "batch 2"]:
        """Both scores of every picture: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[2] < SIZE_PX // 2:
            raise ShapeError(
                f"cleanness is read from square aligned faces, [batch, 3, size, size] of {SIZE_PX // 2} px or more; this has shape "
                f"{list(image.shape)}. Align a photo first, use image[None] for one face without its batch."
            )
        pixels = images.to_uint8(images.resize(image, SIZE_PX)) if len(image) else []
        return torch.tensor([self._read(face) for face in pixels]).reshape(-1, 2).to(image.device)

    def _read(self, pixels: object) -> tuple[float, float]:
        boxes, scores, _ = self._detector.run(pixels, 0, NONE)
        sure, others = NONE, NONE
        for box, score in zip(boxes, scores, strict=True):
            x, y = (box.left() + box.right()) / 2 / SIZE_PX, (box.top() + box.bottom()) / 2 / SIZE_PX
            if max(abs(x - MIDDLE[0]), abs(y - MIDDLE[1])) <= NEAR:
                sure = max(sure, float(score))
            else:
                others = max(others, float(score))
        return sure, others
