"""Whether a picture shows one intact face: the opinion of a detector that knows nothing of generators. Taught in notebook 07.

A generator sometimes draws a melted face, or a second head at the edge. dlib's detector (King 2009; histograms of oriented gradients) was
never trained on such pictures, so its doubt is informative.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.faces.landmarks import checked
from dvlatent.types import Image

SIZE_PX = 256  # every picture is searched at this size, where an aligned face is twice as large as the detector's window
NOT_FOUND = -1.0  # the score of a face that was not found: the detector is asked for everything above it
CENTER = (0.5, 0.59)  # where the center of the aligned face usually is, across and down
NEAR = 0.15  # how far from there it may be, as a fraction of the picture's side
SURE = 0.75  # a face of a photo scores more when it is cut out: folds of clothes and badges reach 0.64, most faces 0.9 and more
SURE_TWICE = 1.4  # or the scores before and after the cut add up to more: for folds and badges to 1.2, for nearly all faces to 1.5


@lru_cache(maxsize=1)
def detector() -> Any:
    """dlib's detector of upright faces, made once (a quarter of a second) and shared."""
    import dlib

    return dlib.get_frontal_face_detector()


class FaceCheck:
    """A Predictor of two scores: `sure`, the detector's confidence in the aligned face, and `others`, in the best other face.

    A good face has about 2, a doubtful one less than 0.5; -1 means that none was found. `face_check(image)` is [batch, 2] for square
    aligned faces of any size from 128 px. It needs no files; no gradient flows through it.
    """

    names = ("sure", "others")

    def __call__(self, image: Image) -> Float[Tensor, "batch 2"]:
        """Both scores of every picture: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        pixels = images.to_uint8(images.resize(image, SIZE_PX)) if len(checked(image)) else []
        return torch.tensor([self._read(face) for face in pixels]).reshape(-1, 2).to(image.device)

    def _read(self, pixels: np.ndarray) -> tuple[float, float]:
        boxes, scores, _ = detector().run(pixels, 0, NOT_FOUND)
        sure, others = NOT_FOUND, NOT_FOUND
        for box, score in zip(boxes, scores, strict=True):
            x, y = (box.left() + box.right()) / 2 / SIZE_PX, (box.top() + box.bottom()) / 2 / SIZE_PX
            if max(abs(x - CENTER[0]), abs(y - CENTER[1])) <= NEAR:
                sure = max(sure, float(score))
            else:
                others = max(others, float(score))
        return sure, others
