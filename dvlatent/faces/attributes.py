"""Perceived age and perceived gender of aligned faces. Taught in notebook 03.

Two small networks of dlib guess what a stranger would guess from a picture: neither says how old a person is or who they are.
They look at a chip, a small square cut around the face. The original finds five landmarks and cuts along them; generated
faces are aligned already, so one fixed cut serves all of them: the mean of what the original cut from 60 generated faces.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.faces.onnx_graph import OnnxGraph
from dvlatent.types import Image

CENTRE_X, CENTRE_Y = 0.5046, 0.6068  # middle of the chip, as a share of the picture from its left and upper edge
SPAN = 0.6457  # from the middle of the chip's first pixel to that of its last, as a share of the picture
BLUR = 0.54  # standard deviation of the chip's blur in chip pixels: what three halvings and one interpolation, dlib's way, amount to
AGE_PX, GENDER_PX = 64, 32
AGES = np.array([0.25, *range(1, 81)], dtype=np.float32)  # years that the 81 outputs stand for
MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)[:, None, None]  # of red, green and blue, in bytes
SMALLEST_PX = 64  # a picture of 64 px still gives the gender chip a pixel and a half for each of its own


class Attributes:
    """Reads the perceived age (years, 0.25 to 80) and the probability of "perceived male" (0 to 1) off aligned faces.

    A Predictor: `attributes(image)` is [batch, 2], in the order of `names`. The pictures are aligned as FFHQ is, square, of any
    size from 64 px. Threads are as many as torch's when it is made. No gradient flows through it; `differentiable()` has one.
    Raises AssetBroken for a file that is not the network it should be.
    """

    names = ("age", "male")

    def __init__(self, age_onnx: str | os.PathLike[str], gender_onnx: str | os.PathLike[str]) -> None:
        self._files = Path(age_onnx), Path(gender_onnx)
        self._age = _session(Path(age_onnx), AGE_PX, len(AGES))
        self._gender = _session(Path(gender_onnx), GENDER_PX, 2)

    def __call__(self, image: Image) -> Float[Tensor, "batch 2"]:
        """Perceived age and probability of perceived male: [batch, 3, size, size] in [-1, 1] -> [batch, 2]."""
        scores = [self._read(face) for face in image.split(32)] if len(_checked(image)) else [torch.empty(0, 2)]
        return torch.cat(scores).to(image.device)

    def differentiable(self) -> DifferentiableAttributes:
        """The same two networks run by torch, slower, with gradients: for a search that is to follow them."""
        return DifferentiableAttributes(*self._files)

    def _read(self, image: Image) -> Float[Tensor, "batch 2"]:
        image = image.detach()
        years = _probabilities(self._age, chip(image, AGE_PX)) @ AGES  # the expectation, as the authors take it
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


def _standard(chips: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 3 size size"]:
    """Pixels as the networks were trained on them."""
    return (127.5 * (chips + 1) - torch.from_numpy(MEANS)) / 256


def chip(image: Image, size_px: int) -> Float[Tensor, "batch 3 size size"]:
    """What the networks see: the face cut out and shrunk, [batch, 3, size_px, size_px] in [-1, 1]. Blurred before it is thinned out."""
    side = _checked(image).shape[-1]
    top, rows = _sampling(side, CENTRE_Y, size_px)
    left, columns = _sampling(side, CENTRE_X, size_px)
    window = image[:, :, top : top + rows.shape[1], left : left + columns.shape[1]]
    faces = (face.float().cpu().clamp(-1, 1) for face in window)  # one at a time: large windows together would not fit the cache
    chips = [rows @ (face @ columns.T) for face in faces]  # each [3, size_px, size_px]
    return torch.stack(chips) if chips else torch.empty(0, 3, size_px, size_px)


def describe(scores: Float[Tensor, "batch 2"]) -> list[str]:
    """Scores in words, one text a face: "perceived age 34, perceived female"."""
    return [f"perceived age {age:.0f}, perceived {'male' if male > 0.5 else 'female'}" for age, male in scores.tolist()]


@lru_cache(maxsize=16)
def _sampling(side_px: int, centre: float, size_px: int) -> tuple[int, Float[Tensor, "size window"]]:
    """Where the window begins, and the weights of its pixels in every chip pixel: a Gaussian, each row summing to one."""
    pitch = SPAN * side_px / (size_px - 1)  # picture pixels from one chip pixel to the next
    middles = centre * side_px - 0.5 + pitch * (torch.arange(size_px, dtype=torch.float64) - (size_px - 1) / 2)
    width = max(BLUR * pitch, 0.5)  # half a picture pixel at least: between pixels one must interpolate
    first = max(int(middles[0] - 3 * width), 0)
    last = min(int(middles[-1] + 3 * width) + 1, side_px - 1)
    away = torch.arange(first, last + 1) - middles[:, None]
    weights = torch.exp(-0.5 * (away / width) ** 2)
    return first, (weights / weights.sum(dim=1, keepdim=True)).float()


def _checked(image: Image) -> Image:
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[2] < SMALLEST_PX:
        raise ShapeError(
            f"perceived age and gender are read from square aligned faces, [batch, 3, size, size] of {SMALLEST_PX} px or more; this has "
            f"shape {list(image.shape)}. Align a photo first, use image[None] for one face without its batch, or resize a small one up."
        )
    if not image.is_floating_point():
        raise ShapeError(f"faces are floats in [-1, 1]; these are {image.dtype}. Use images.from_uint8 for bytes.")
    return image


def _probabilities(session: Any, image: Float[Tensor, "batch 3 size size"]) -> Float[np.ndarray, "batch bins"]:
    pixels = _standard(image).numpy()
    if not np.isfinite(pixels).all():
        raise ShapeError("the faces hold numbers that are not finite (NaN), so no age can be read. Find the step that made the first one.")
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _session(path: Path, size_px: int, bins: int) -> Any:
    """The network of an ONNX file, refused in words unless it takes chips of `size_px` and gives `bins` probabilities."""
    import onnxruntime  # slow to import, and most of the house does without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or its idle threads keep torch's waiting
    options.log_severity_level = 4  # what goes wrong is said below
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as reason:  # its errors have no root of their own
        raise AssetBroken(f"{path} cannot be read as a network ({str(reason)[:200]}). Run `dvlatent assets` to repair it.") from reason
    takes, gives = ([list(end.shape[1:]) for end in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if (takes, gives) != ([[3, size_px, size_px]], [[bins]]):
        raise AssetBroken(
            f"{path} takes {takes} and gives {gives}; a network from [3, {size_px}, {size_px}] to [{bins}] was needed. "
            "Give the age network first, then the gender network, or run `dvlatent assets` to repair them."
        )
    return session
