"""The latent map: drag a point over the plane and see what a decoder draws there, in the page, without a kernel. Taught in notebook 02.

`latent_map.js` is one plain module. JupyterLab runs it as an anywidget; a page made of the notebook holds the same module and the
same data as text, and needs neither a kernel nor a network. `still` makes the picture that stands beside it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from PIL import Image as Pillow
from torch import Tensor, nn

from dvlatent.errors import ShapeError
from dvlatent.images import grid, resize, to_uint8
from dvlatent.types import Image

COLORS = ("#332288", "#2f93c4", "#44aa99", "#117733", "#8a8a2b", "#b99a1f", "#cc6677", "#882255", "#aa4499", "#555555")  # of the .js
THUMB = 0.043  # width of a thumbnail, as a fraction of the plane's
COLUMNS = 20  # thumbnails in a row of the sprite
FALLBACK = "Here is a map to move about on; it needs a browser that runs scripts. The picture beside it shows the same."
HERE = Path(__file__)


class LatentMap(anywidget.AnyWidget):
    """The widget that `latent_map` makes. `code` follows the point: read it in the next cell."""

    _esm = HERE.with_suffix(".js")
    _css = HERE.with_suffix(".css")
    _data = traitlets.Dict().tag(sync=True)
    code = traitlets.List(trait=traitlets.Float(), default_value=[0.0, 0.0]).tag(sync=True)

    def page(self) -> str:
        """The same map as HTML with everything in it, for pages without a kernel."""
        data = json.dumps(self._data).replace("<", "\\u003c")  # no name or title can end the script
        name = f"dvmap-{hashlib.sha256(data.encode()).hexdigest()[:12]}"
        module, style = HERE.with_suffix(".js").read_text(encoding="utf-8"), HERE.with_suffix(".css").read_text(encoding="utf-8")
        start = f'mount(document.getElementById("{name}"), {data});'
        return (
            f'<style>{style}</style><div id="{name}"><p>{html.escape(FALLBACK)}</p></div><script type="module">{module}\n{start}</script>'
        )

    _ipython_display_ = None  # ipywidgets 7 would show itself by this, without the page

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/plain": self._data["title"], "text/html": self.page()}, metadata


def latent_map(
    decoder: nn.Sequential, codes: Float[Tensor, "picture 2"], images: Image, labels: Int[Tensor, " picture"] | None = None,
    names: Sequence[str] | None = None, title: str = "A map of pictures", thumbs: int = 320,
) -> LatentMap:  # fmt: skip
    """A map to drag a point over; show it as a cell's last value, and tag the cell `nbval-ignore-output`.

    `decoder` is Linear layers with SiLU between them, from 2 numbers to the logits of a picture; `codes` are the coordinates of
    `images` in [-1, 1]. With `labels` from 0 to 9 every class has its colour and its name. Raises ShapeError for anything else.
    """
    layers = pack(decoder)
    channels, side = _fits(layers, codes, images, labels)
    points, window = codes.detach().cpu().float().numpy(), _window(codes)
    kept = _spaced(points, window, thumbs)
    order = np.concatenate([kept, np.setdiff1d(np.arange(len(points)), kept)])  # those with a thumbnail first
    cell = min(side, 28 if channels == 1 else 32)
    small = resize(images[kept], cell) if side > cell else images[kept]
    numbers = labels.cpu().numpy().astype(np.uint8)[order] if labels is not None else np.zeros(len(points), np.uint8)
    named = list(names) if names else [str(label) for label in range(int(numbers.max()) + 1)] if labels is not None else []
    center = [(window[0] + window[1]) / 2, (window[2] + window[3]) / 2]
    data = {
        "title": title, "layers": layers, "side": side, "channels": channels, "window": window, "start": center, "names": named,
        "codes": _text(points[order].astype("<f4")), "labels": _text(numbers), "sprite": _sprite(small), "thumbs": len(kept),
        "columns": COLUMNS, "cell": cell, "thumb": THUMB * (window[1] - window[0]),
    }  # fmt: skip
    return LatentMap(_data=data, code=center)


def still(
    decoder: nn.Sequential, codes: Float[Tensor, "picture 2"], images: Image, labels: Int[Tensor, " picture"] | None = None,
    thumbs: int = 320, count: int = 16,
) -> Figure:  # fmt: skip
    """The map as two pictures: the data at their codes, and what the decoder draws on a grid of `count` times `count`. For `plot.show`."""
    channels, side = _fits(pack(decoder), codes, images, labels)
    points, window = codes.detach().cpu().float().numpy(), _window(codes)
    fig = Figure(figsize=(11, 5.8), dpi=150, facecolor="#ffffff", layout="constrained")
    fig.get_layout_engine().set(h_pad=0.14)  # inches: room for titles
    data, decoded = fig.subplots(1, 2)
    inks = [COLORS[int(label) % 10] if labels is not None else "#5c5c5c" for label in (labels if labels is not None else codes)]
    data.scatter(points[:, 0], points[:, 1], c=inks, s=5, alpha=0.35, linewidths=0)
    pixels, half = to_uint8(images), THUMB * (window[1] - window[0]) / 2
    for at in _spaced(points, window, thumbs):
        x, y = points[at]
        data.imshow(_inked(pixels[at], inks[at]), extent=(x - half, x + half, y - half, y + half), zorder=2)
    lines = [(np.arange(count) + 0.5) / count * (high - low) + low for low, high in (window[:2], window[2:])]
    everywhere = torch.tensor([[x, y] for y in lines[1][::-1] for x in lines[0]], dtype=torch.float32)
    with torch.no_grad():
        ink = torch.sigmoid(decoder(everywhere)).view(count, count, channels, side, side).permute(0, 3, 1, 4, 2)
    wall = ink.reshape(count * side, count * side, channels).numpy()
    decoded.imshow(1 - wall[..., 0] if channels == 1 else wall, extent=window, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    for axes, title in ((data, "the pictures, where the encoder puts them"), (decoded, "what the decoder draws, everywhere")):
        axes.set(xlim=window[:2], ylim=window[2:], aspect="equal", xlabel="first number")
        axes.set_title(title, size=14, loc="left")
        axes.grid(visible=False)
    data.set_ylabel("second number")
    return fig


def pack(decoder: nn.Sequential) -> list[dict[str, Any]]:
    """The decoder as text: whole numbers of 16 bits (8 in the large last layer) and one scale for each row. Raises ShapeError."""
    layers = [layer for layer in decoder if isinstance(layer, nn.Linear)]
    right = [kind for layer in layers for kind in (nn.Linear, nn.SiLU)][:-1]
    if not layers or [type(layer) for layer in decoder] != right or layers[0].in_features != 2:
        kinds = ", ".join(type(layer).__name__ for layer in decoder)
        raise ShapeError(f"the page decodes Linear layers with SiLU between them that begin with 2 numbers; this decoder is: {kinds}.")
    packed = []
    for layer in layers:
        bits = 8 if layer is layers[-1] and len(layers) > 1 else 16
        weight = layer.weight.detach().cpu().double().numpy()  # [outputs, inputs]
        scale = np.maximum(np.abs(weight).max(axis=1), 1e-12) / (2 ** (bits - 1) - 1)
        whole = np.round(weight / scale[:, None]).astype(f"<i{bits // 8}")
        bias = layer.bias.detach().cpu().numpy() if layer.bias is not None else np.zeros(len(weight))
        text = {"weight": _text(whole), "scale": _text(scale.astype("<f4")), "bias": _text(bias.astype("<f4"))}
        packed.append({"inputs": layer.in_features, "outputs": layer.out_features, "bits": bits, **text})
    return packed


def _fits(layers: list[dict[str, Any]], codes: Tensor, images: Tensor, labels: Tensor | None) -> tuple[int, int]:
    """Channels and side of the pictures; raises ShapeError if the parts do not belong together."""
    shape, outputs = tuple(images.shape), layers[-1]["outputs"]
    count = len(codes)
    square = len(shape) == 4 and shape[0] == count and shape[1] in (1, 3) and shape[2] == shape[3]
    if tuple(codes.shape) != (count, 2) or count < 2 or not square:
        raise ShapeError(f"a map needs codes [picture, 2] and as many square pictures; these are {list(codes.shape)} and {list(shape)}.")
    if shape[1] * shape[2] ** 2 != outputs:
        raise ShapeError(f"the decoder draws {outputs} numbers, a picture of shape {list(shape[1:])} has {shape[1] * shape[2] ** 2}.")
    if labels is not None and (tuple(labels.shape) != (count,) or int(labels.min()) < 0 or int(labels.max()) > 9):
        raise ShapeError(f"one label from 0 to 9 per picture was needed: {count} pictures, labels of shape {list(labels.shape)}.")
    return shape[1], shape[2]


def _window(codes: Tensor) -> list[float]:
    """Left, right, bottom, top of a square with nearly all codes in it, and some room around."""
    low, high = (torch.quantile(codes.detach().cpu().float(), q, dim=0) for q in (0.005, 0.995))
    center, half = (low + high) / 2, 1.15 * float((high - low).max()) / 2 or 1.0
    return [round(float(x), 4) for x in (center[0] - half, center[0] + half, center[1] - half, center[1] + half)]


def _spaced(points: np.ndarray, window: list[float], most: int) -> np.ndarray:
    """Which pictures to show small: inside the window, in random order, none over another."""
    gap, kept = 0.95 * THUMB * (window[1] - window[0]), []
    inside = (points >= (window[0] + gap / 2, window[2] + gap / 2)) & (points <= (window[1] - gap / 2, window[3] - gap / 2))
    for at in np.random.RandomState(0).permutation(np.flatnonzero(inside.all(axis=1))):
        if len(kept) < most and (not kept or np.abs(points[kept] - points[at]).max(axis=1).min() > gap):
            kept.append(at)
    return np.array(kept, dtype=int)


def _inked(pixels: np.ndarray, color: str) -> np.ndarray:
    """A thumbnail: a face as it is, a digit as ink of this colour on a clear background."""
    if pixels.shape[-1] == 3 and (pixels != pixels[..., :1]).any():
        return pixels
    ink = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.uint8)
    return np.dstack([np.broadcast_to(ink, (*pixels.shape[:2], 3)), pixels[..., 0]])


def _sprite(small: Image) -> str:
    """All thumbnails in one picture, as a data URL."""
    wall = to_uint8(grid(small, columns=COLUMNS, gap_px=0))[0]
    gray = not (wall != wall[..., :1]).any()
    file = io.BytesIO()
    picture = Pillow.fromarray(wall[..., 0] if gray else wall)
    picture.save(file, "PNG" if gray else "JPEG", **({"optimize": True} if gray else {"quality": 75}))
    return f"data:image/{'png' if gray else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _text(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
