"""Perceived age and perceived gender of aligned faces; several predictors as one. Taught in notebooks 03 and 05.

Two small networks of dlib guess what a stranger would guess from a picture. Neither says how old a person is or who they are.
They look at a chip, a small square cut around the face. The original finds five landmarks and cuts along them. Generated
faces are aligned already, so one fixed cut serves all of them: the mean of what the original cut from 60 generated faces.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.faces.landmarks import checked
from dvlatent.faces.onnx_graph import OnnxGraph, read_onnx
from dvlatent.types import Image, Predictor

CENTER_X, CENTER_Y = 0.5046, 0.6068  # center of the chip, as a fraction of the picture from its left and upper edge
SPAN = 0.6457  # from the center of the chip's first pixel to the center of its last, as a fraction of the picture
BLUR = 0.54  # standard deviation of the chip's blur in chip pixels; dlib's three halvings and one interpolation blur as much
AGE_PX, GENDER_PX = 64, 32
AGES = np.array([0.25, *range(1, 81)], dtype=np.float32)  # years that the 81 outputs stand for
MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)[:, None, None]  # of red, green and blue, in bytes
SMALLEST_PX = 64  # a picture of 64 px still gives the gender chip a pixel and a half for each of its own


class Attributes:
    """Reads the perceived age (years, 0.25 to 80) and the probability of "perceived male" (0 to 1) from aligned faces.

    A Predictor: `attributes(image)` is [batch, 2], in the order of `names`. The pictures are aligned as FFHQ is, square, of any
    size from 64 px. It uses as many threads as torch does when it is made. No gradient flows through it, but through `differentiable()`.
    Raises AssetBroken for a file that is not the right network.
    """

    names = ("age", "male")

    def __init__(self, age_onnx: str | os.PathLike[str], gender_onnx: str | os.PathLike[str]) -> None:
        self._files = Path(age_onnx), Path(gender_onnx)
        self._age = _session(Path(age_onnx), AGE_PX, len(AGES))
        self._gender = _session(Path(gender_onnx), GENDER_PX, 2)

    def __reduce__(self) -> tuple[Any, ...]:  # copied, pickled, or sent to another process: the files are read again
        return type(self), self._files

    def __call__(self, image: Image) -> Float[Tensor, "batch 2"]:
        """Perceived age and probability of perceived male: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        scores = [self._read(face) for face in image.split(32)] if len(checked(image, SMALLEST_PX)) else [torch.empty(0, 2)]
        return torch.cat(scores).to(image.device)

    def differentiable(self) -> DifferentiableAttributes:
        """The same two networks run by torch: slower, but with gradients."""
        return DifferentiableAttributes(*self._files)

    def _read(self, image: Image) -> Float[Tensor, "batch 2"]:
        image = image.detach()
        years = _probabilities(self._age, chip(image, AGE_PX)) @ AGES  # the expectation, as the authors compute it
        male = _probabilities(self._gender, chip(image, GENDER_PX))[:, 1]
        return torch.from_numpy(np.stack([years, male], axis=1))


class DifferentiableAttributes(nn.Module):
    """Attributes with gradients: the same numbers, to a millionth."""

    names = Attributes.names

    def __init__(self, age_onnx: Path, gender_onnx: Path) -> None:
        super().__init__()
        self.age, self.gender = OnnxGraph(age_onnx), OnnxGraph(gender_onnx)

    def forward(self, image: Image) -> Float[Tensor, "batch 2"]:
        """As Attributes: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        years = self.age(_standard(chip(image, AGE_PX))) @ torch.from_numpy(AGES)
        return torch.stack([years, self.gender(_standard(chip(image, GENDER_PX)))[:, 1]], dim=1).to(image.device)


class CombinedPredictor:
    """Several predictors as one: `CombinedPredictor(attributes, landmarks)(image)` has the columns of the first, then of the second.

    Raises ShapeError if there are no predictors, or if two of them use the same name.
    """

    def __init__(self, *predictors: Predictor) -> None:
        names = tuple(name for predictor in predictors for name in predictor.names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not predictors:
            raise ShapeError(
                f"{len(predictors)} predictors give the names {', '.join(names) or '(none)'}; at least one is needed, and each column "
                f"needs its own name. Leave out one of those that say {', '.join(twice) or 'nothing'}."
            )
        self.predictors, self.names = predictors, names

    def __call__(self, image: Image) -> Float[Tensor, "batch name"]:
        """Scores of every image, in the order of `names`."""
        return torch.cat([predictor(image) for predictor in self.predictors], dim=1)


def combine(predictors: Predictor | Sequence[Predictor]) -> Predictor:
    """One predictor with all their columns, in order."""
    several = [predictors] if hasattr(predictors, "names") else list(predictors)
    return several[0] if len(several) == 1 else CombinedPredictor(*several)


def chip(image: Image, size_px: int) -> Float[Tensor, "batch 3 size size"]:
    """What the networks see: the face cut out and shrunk, [batch, 3, size_px, size_px] in [-1, 1]. It is blurred before it is shrunk."""
    side = checked(image, SMALLEST_PX).shape[-1]
    top, rows = _sampling(side, CENTER_Y, size_px)
    left, columns = _sampling(side, CENTER_X, size_px)
    window = image[:, :, top : top + rows.shape[1], left : left + columns.shape[1]]
    faces = (face.float().cpu().clamp(-1, 1) for face in window)  # one at a time: large windows together would not fit the cache
    chips = [rows @ (face @ columns.T) for face in faces]  # each [3, size_px, size_px]
    return torch.stack(chips) if chips else torch.empty(0, 3, size_px, size_px)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept serves gradients too
def _sampling(side_px: int, center: float, size_px: int) -> tuple[int, Float[Tensor, "size window"]]:
    """Where the window begins, and the weights of its pixels in every chip pixel: a Gaussian, each row sums to one."""
    pitch = SPAN * side_px / (size_px - 1)  # picture pixels from one chip pixel to the next
    centers = center * side_px - 0.5 + pitch * (torch.arange(size_px, dtype=torch.float64) - (size_px - 1) / 2)
    width = max(BLUR * pitch, 0.5)  # at least half a picture pixel: between pixels one must interpolate
    first = max(int(centers[0] - 3 * width), 0)
    last = min(int(centers[-1] + 3 * width) + 1, side_px - 1)
    offset = torch.arange(first, last + 1) - centers[:, None]
    weights = torch.exp(-0.5 * (offset / width) ** 2)
    return first, (weights / weights.sum(dim=1, keepdim=True)).float()


def _standard(chips: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
    """Pixels as the networks were trained on them."""
    return (127.5 * (chips + 1) - torch.from_numpy(MEANS)) / 256


def _probabilities(session: Any, image: Float[Tensor, "batch 3 size size"]) -> Float[np.ndarray, "batch bins"]:
    pixels = _standard(image).numpy()
    if not np.isfinite(pixels).all():
        raise ShapeError("the faces hold numbers that are not finite (NaN), so no age can be read. Find the step that made the first one.")
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _session(path: Path, size_px: int, bins: int) -> Any:
    """The network of an ONNX file. Raises AssetBroken unless it takes chips of `size_px` and gives `bins` probabilities."""
    import onnxruntime  # slow to import, and seldom needed

    network = read_onnx(path)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or its idle threads keep torch's waiting
    options.log_severity_level = 4  # what goes wrong is said below
    try:
        session = onnxruntime.InferenceSession(
            network.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
        takes, gives = ([list(end.shape[1:]) for end in ends] for ends in (session.get_inputs(), session.get_outputs()))
    except Exception as reason:  # its errors have no common base class
        raise AssetBroken(f"{path} cannot be read as a network ({str(reason)[:200]}). Run `dvlatent assets` to repair it.") from reason
    if (takes, gives) != ([[3, size_px, size_px]], [[bins]]):
        raise AssetBroken(
            f"{path} takes {takes} and gives {gives}; a network from [3, {size_px}, {size_px}] to [{bins}] was needed. "
            "Give the age network first, then the gender network, or run `dvlatent assets` to repair them."
        )
    return session
