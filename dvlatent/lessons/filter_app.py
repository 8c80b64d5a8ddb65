"""The filter in a notebook: a photo from a file or the camera, dials, before and after. Taught in notebook 08.

The kernel does the work, so it needs no build and runs in JupyterLab and on Colab. `still` makes the picture for pages without a kernel.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anywidget
import torch
import traitlets
from PIL import Image as Pillow

from dvlatent import images
from dvlatent.distillation.filter import WORDS, Filter, apply_to_photo
from dvlatent.errors import DvlatentError, ShapeError
from dvlatent.types import Image

SHOWN_PX = 900  # the longer side of the picture in the notebook
LIMIT_BYTES = 60_000_000  # of a photo from the page


class FilterApp(anywidget.AnyWidget):
    """The widget that `filter_app` makes. `result` is the edited photo as a tensor: use it in the next cell."""

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")
    _dials = traitlets.List().tag(sync=True)
    _given = traitlets.Bytes().tag(sync=True)  # a photo file from the page
    _before = traitlets.Bytes().tag(sync=True)  # JPEG
    _after = traitlets.Bytes().tag(sync=True)  # JPEG
    words = traitlets.Unicode().tag(sync=True)  # what happened, in a sentence
    strengths = traitlets.Dict().tag(sync=True)

    def __init__(self, filters: Mapping[str, Filter], photo: Image | None = None) -> None:
        ends = {name: WORDS.get(one.name, ("less", "more")) for name, one in filters.items()}
        dials = [{"name": name, "low": one.low, "high": one.high, "ends": ends[name]} for name, one in filters.items()]
        self._filters, self._photo, self.result = dict(filters), None, None
        words = "Choose a photo of somebody who agreed, or use the camera."
        super().__init__(_dials=dials, strengths=dict.fromkeys(filters, 0.0), words=words)
        self.observe(lambda change: self._take(bytes(change["new"])), names="_given")
        self.observe(lambda change: self._edit(), names="strengths")
        if photo is not None:
            self._show(photo)

    def _take(self, file: bytes) -> None:
        path = Path("photo")
        try:
            if len(file) > LIMIT_BYTES:
                raise ShapeError(f"this file has {len(file):,} bytes; up to {LIMIT_BYTES:,} are read. Shrink the photo first.")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "photo")
                path.write_bytes(file)
                photo = images.read(path)
            self._show(photo)
        except DvlatentError as error:
            self.words = str(error).replace(str(path), "this file") if file else "This file is empty: choose another one."

    def _show(self, photo: Image) -> None:
        self._photo = images.resize(photo, SHOWN_PX) if max(photo.shape[2:]) > SHOWN_PX else photo
        self._before = self._after = _jpeg(self._photo)
        self.result = self._photo
        self.words = "Move a dial."
        self._edit()

    def _edit(self) -> None:
        if self._photo is None:
            return
        steps = [(self._filters[name], float(value)) for name, value in self.strengths.items() if name in self._filters and value]
        try:
            self.result = apply_to_photo(self._photo, steps)
            self._after = _jpeg(self.result)
            self.words = ", ".join(f"{one.name} {strength:+.1f}" for one, strength in steps) or "As photographed."
        except DvlatentError as error:
            self.words = str(error)


def filter_app(filters: Filter | Mapping[str, Filter], photo: Image | None = None) -> FilterApp:
    """Dials for one filter or several by name; show it as a cell's last value, and tag the cell `nbval-ignore-output`.

    `photo` [1, 3, height, width] is there from the start; without one, people choose a file or use the camera. Nothing leaves the kernel.
    """
    return FilterApp({filters.name: filters} if isinstance(filters, Filter) else filters, photo)


def _jpeg(photo: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(images.to_uint8(photo)[0]).save(file, "JPEG", quality=90)
    return file.getvalue()
