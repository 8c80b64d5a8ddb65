"""One slider that morphs one face into another. Taught in notebook 00.

All frames are rendered first and lie in the page, so that the slider moves without a kernel: in a notebook and on a page made of it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator

import torch
from jaxtyping import Float
from PIL import Image as Pillow
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.images import resize, to_uint8
from dvlatent.latents import broadcast, lerp
from dvlatent.types import Generator, Ws

Latent = Float[Tensor, "*any w"]  # one w, as [w], [1, w] or [1, layer, w]
MOVED = (  # of the slider: the words of the frame that it chooses are its value, the picture's and the line's
    "const box = this.closest('.dvmorph'), frames = box.querySelectorAll('img'), words = frames[this.value].alt;"
    "frames.forEach((frame, at) => { frame.style.display = at === +this.value ? 'block' : 'none'; });"
    "this.setAttribute('aria-valuetext', words); box.querySelector('output').textContent = words;"
)


def morph(generator: Generator, a: Latent, b: Latent, frames: int = 17, size_px: int = 384, names: tuple[str, str] = ("A", "B")) -> None:
    """Show a slider under this cell that morphs face `a` into face `b`; tag the cell `nbval-ignore-output`.

    Arrow keys, Page Up and Page Down, Home and End move it too. `generator.preview` renders the frames if there is one, else
    `generator.synthesis`. Raises ShapeError for latents that are not one face each, and for fewer than two frames.
    """
    from IPython.display import display  # only notebooks need it

    page = slider(list(render(generator, a, b, frames, size_px)), size_px, names)
    display({"text/html": page, "text/plain": f"A slider from {names[0]} to {names[1]}"}, raw=True)


def render(generator: Generator, a: Latent, b: Latent, frames: int = 17, size_px: int = 384) -> Iterator[bytes]:
    """The frames of the straight line in W from a to b, as JPEG bytes, one after the other."""
    if frames < 2:
        raise ShapeError(f"a morph needs at least two frames, its two ends; it was given {frames}.")
    start, end = _one_face(a, generator), _one_face(b, generator)
    return (_jpeg(generator, lerp(start, end, t), size_px) for t in torch.linspace(0, 1, frames).tolist())


def slider(pictures: list[bytes], size_px: int = 384, names: tuple[str, str] = ("A", "B")) -> str:
    """A picture, the slider that chooses it, and a line of words that says where the slider stands: HTML with everything in it."""
    last, frames = len(pictures) - 1, []
    for at, picture in enumerate(pictures):
        source, words = base64.b64encode(picture).decode(), html.escape(_where(at / last, names))
        style = f"display: {'none' if at else 'block'}; width: {size_px}px; max-width: 100%"
        frames.append(f'<img src="data:image/jpeg;base64,{source}" alt="{words}" style="{style}">')
    first, title = html.escape(_where(0, names)), html.escape(f"{names[0]} to {names[1]}")
    return (
        f'<div class="dvmorph" role="group" aria-label="{title}">{"".join(frames)}'
        f'<label>{title}<br><input type="range" min="0" max="{last}" value="0" autocomplete="off" aria-valuetext="{first}" '
        f'style="width: {size_px}px; max-width: 100%" oninput="{html.escape(MOVED)}" onkeydown="event.stopPropagation()">'
        f"</label><br><output>{first}</output></div>"
    )


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
