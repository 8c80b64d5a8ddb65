"""One slider that morphs one face into another. Taught in notebook 00.

All frames are rendered first, so that moving the slider only swaps pictures. Beside it a lesson shows the same
journey by `plot.strip`, for pages on which nothing can be moved.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import ipywidgets
import torch
from jaxtyping import Float
from PIL import Image as Pillow
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.images import resize, to_uint8
from dvlatent.latents import broadcast, lerp
from dvlatent.types import Generator, Ws

Latent = Float[Tensor, "*any w"]  # one w, as [w], [1, w] or [1, layer, w]


def morph(generator: Generator, a: Latent, b: Latent, frames: int = 17, size_px: int = 384, names: tuple[str, str] = ("A", "B")) -> None:
    """Show a slider under this cell that morphs face `a` into face `b`; tag the cell `nbval-ignore-output`.

    Arrow keys, Page Up and Page Down, Home and End move it too. `generator.preview` renders the frames if there is one, else
    `generator.synthesis`. Raises ShapeError for latents that are not one face each, and for fewer than two frames.
    """
    from IPython.display import display  # only notebooks need it

    journey = render(generator, a, b, frames, size_px)
    progress = ipywidgets.IntProgress(value=0, min=0, max=frames, description="Drawing")
    box = ipywidgets.VBox([progress])
    display(box)
    pictures = []
    for picture in journey:
        pictures.append(picture)
        progress.value = len(pictures)
    box.children = slider(pictures, size_px, names).children
    progress.close()


def render(generator: Generator, a: Latent, b: Latent, frames: int = 17, size_px: int = 384) -> Iterator[bytes]:
    """The frames of the straight line in W from a to b, as JPEG bytes, one after the other."""
    if frames < 2:
        raise ShapeError(f"a morph needs at least two frames, its two ends; it was given {frames}.")
    start, end = _one_face(a, generator), _one_face(b, generator)
    return (_jpeg(generator, lerp(start, end, t), size_px) for t in torch.linspace(0, 1, frames).tolist())


def slider(pictures: list[bytes], size_px: int = 384, names: tuple[str, str] = ("A", "B")) -> ipywidgets.VBox:
    """A picture, the slider that chooses it, and a line of words that says where the slider stands."""
    last = len(pictures) - 1
    picture = ipywidgets.Image(value=pictures[0], format="jpeg", width=size_px, height=size_px)
    dial = ipywidgets.IntSlider(
        value=0, min=0, max=last, step=1, description=f"{names[0]} to {names[1]}", continuous_update=True, readout=False,
        style={"description_width": "initial"}, layout=ipywidgets.Layout(width=f"{size_px}px"),
    )  # fmt: skip
    words = ipywidgets.Label(value=_where(0, names))

    def moved(change: dict) -> None:
        picture.value = pictures[change["new"]]
        words.value = _where(change["new"] / last, names)

    dial.observe(moved, names="value")
    return ipywidgets.VBox([picture, dial, words])


def _where(t: float, names: tuple[str, str]) -> str:
    """What the picture shows, in words: the slider's text for those who cannot see it."""
    return {0: f"This is {names[0]}.", 1: f"This is {names[1]}."}.get(t, f"{t:.0%} of the way from {names[0]} to {names[1]}.")


def _one_face(latent: Latent, generator: Generator) -> Ws:
    """One face as [1, layer, w], from any of the three shapes."""
    shape = tuple(latent.shape)
    if shape in ((generator.w_dim,), (1, generator.w_dim)):
        return broadcast(latent.reshape(1, -1), generator.num_layers)
    if shape == (1, generator.num_layers, generator.w_dim):
        return latent
    raise ShapeError(
        f"a morph goes from one face to one other: give a w of shape [{generator.w_dim}], or ws of shape "
        f"[1, {generator.num_layers}, {generator.w_dim}]; this has shape {list(shape)}. Use ws[:1] for the first of several."
    )


@torch.no_grad()
def _jpeg(generator: Generator, ws: Ws, size_px: int) -> bytes:
    image = getattr(generator, "preview", generator.synthesis)(ws)
    pixels = to_uint8(resize(image, size_px) if image.shape[-1] > size_px else image)[0]
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()
