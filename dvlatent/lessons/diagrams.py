"""Drawings of ideas, for the lessons: how a random vector becomes a face, and the game of two networks. Used in notebooks 01 and 03."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from dvlatent.images import from_uint8, resize, to_uint8
from dvlatent.latents import layer_range
from dvlatent.lessons.plot import COLORS, DPI, PAPER, QUIET, STYLE, WIDTH
from dvlatent.types import Image

LEVELS = {"coarse": COLORS[0], "middle": COLORS[1], "fine": COLORS[2]}  # the colours of the three levels in every figure


def level_colors(num_layers: int) -> list[str]:
    """The colour of every layer's level: coarse, middle or fine."""
    color_of = {layer: color for name, color in LEVELS.items() for layer in layer_range(name, num_layers)}
    return [color_of[layer] for layer in range(num_layers)]


def pipeline(z: Float[Tensor, " z"], w: Float[Tensor, " w"], image: Image, num_layers: int = 16) -> Figure:
    """z -> w -> image in one picture: the two vectors as tiles of colour, the layers that w steers, and the face."""
    height = 4.1
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
        page = fig.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        page.axis("off")
        _tiles(fig, page, 0.15, z, "z", "512 random numbers")
        _tiles(fig, page, 3.2, w, "w", "512 coordinates")
        _arrow(page, 1.95, 3.1, "mapping\nnetwork", "8 layers")
        _layers(page, 6.02, num_layers)
        _arrow(page, 7.45, 7.92, "", "")
        size = round(2.95 * DPI)
        corner = (round(8.0 * DPI) / (WIDTH * DPI), round(0.6 * DPI) / (height * DPI))
        face = fig.add_axes((*corner, size / (WIDTH * DPI), size / (height * DPI)))
        face.imshow(to_uint8(resize(image, size))[0], interpolation="nearest", aspect="auto")
        face.axis("off")
        page.text(8.0, 3.68, "image", size=17, weight="bold", va="bottom")
        page.text(8.0, 0.5, "1024 x 1024 pixels", color=QUIET, size=12, va="top")
    return fig


def _tiles(fig: Figure, page: Axes, left: float, vector: Tensor, name: str, below: str) -> None:
    """A vector as a sheet of coloured tiles, blue below zero and red above."""
    values = vector.detach().cpu().numpy().reshape(-1, 16)
    tall, bottom = 2.95, 0.6
    wide = tall * 16 / len(values)
    axes = fig.add_axes((left / WIDTH, bottom / 4.1, max(wide, 1.7) / WIDTH, tall / 4.1))
    reach = float(np.abs(values).max()) * 0.8
    axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    page.text(left, 3.68, name, size=17, weight="bold", va="bottom")
    page.text(left, bottom - 0.1, below, color=QUIET, size=12, va="top")


def _arrow(page: Axes, start: float, stop: float, above: str, below: str) -> None:
    page.annotate("", (stop, 2.07), (start, 2.07), arrowprops={"arrowstyle": "-|>", "lw": 2.4, "color": QUIET, "mutation_scale": 20})
    page.text((start + stop) / 2, 2.22, above, ha="center", va="bottom", size=12)
    page.text((start + stop) / 2, 1.92, below, ha="center", va="top", size=12, color=QUIET)


def _layers(page: Axes, center: float, num_layers: int) -> None:
    """The synthesis network as a pile of layers, 4 pixels at the top and 1024 at the bottom, each fed by w."""
    colors, tall = level_colors(num_layers), 2.95 / num_layers
    page.text(center, 3.68, "synthesis network", size=13, ha="center", va="bottom")
    page.text(center, 0.5, f"w steers each of {num_layers} layers", color=QUIET, size=12, ha="center", va="top")
    for layer, color in enumerate(colors):
        y = 3.55 - (layer + 0.5) * tall
        half = _half(layer, num_layers)
        page.barh(y, 2 * half, left=center - half, height=0.72 * tall, color=color)
        page.plot([4.95, center - half - 0.04], [2.07, y], color="#c8c8c8", lw=0.9, zorder=0)
    for name, color in LEVELS.items():
        chosen = layer_range(name, num_layers)
        y = 3.55 - (chosen[0] + len(chosen) / 2) * tall
        page.text(center + 0.1 + _half(chosen[-1], num_layers), y, name, color=color, size=13, weight="bold", va="center")


def _half(layer: int, num_layers: int) -> float:
    """Half the width of a layer's bar, in inches: the picture doubles, the bar grows evenly."""
    return 0.18 + 0.67 * layer / (num_layers - 1)


def arena(
    axes: Axes, discriminator: Callable[[Tensor], Tensor], real: Float[Tensor, "real 2"], fake: Float[Tensor, "fake 2"],
    title: str = "", reach: float = 3.0, arrows: int = 60,
) -> None:  # fmt: skip
    """The plane as the discriminator sees it, as in GAN Lab (Kahng et al. 2018): blue where it says generated, orange where real.

    Real points are grey, generated ones dark. An arrow shows how the generator's loss asks that point to move: downhill.
    """
    line = torch.linspace(-reach, reach, 61)
    plane = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).view(-1, 2)  # [61 * 61, 2], row by row from below
    with torch.no_grad():
        belief = torch.sigmoid(discriminator(plane)).view(61, 61)
    colors = matplotlib.colors.LinearSegmentedColormap.from_list("belief", ["#5aa0d6", "#dcebf6", "#ffffff", "#fbe3d3", "#ee9a5f"])
    style = {"origin": "lower", "extent": (-reach, reach, -reach, reach), "interpolation": "bilinear"}
    axes.imshow(belief, cmap=colors, vmin=0.2, vmax=0.8, **style)
    axes.plot(*real.T, "o", color="#8a8a8a", markersize=3, alpha=0.45, markeredgewidth=0)
    axes.plot(*fake.T, "o", color="#14324a", markersize=3.5, alpha=0.75, markeredgewidth=0)
    pushed = fake[:arrows].detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus(-discriminator(pushed)).sum(), pushed)
    length = gradient.norm(dim=1, keepdim=True)
    pull = -gradient / length.clamp_min(1e-6) * length.clamp(max=1.5).sqrt() * 0.6
    axes.quiver(*fake[:arrows].T, *pull.T, color="#14324a", angles="xy", scale_units="xy", scale=1, width=0.005, alpha=0.85)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], title=title)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def frame(draw: Callable[[Axes], None], size_px: int = 420) -> Image:
    """One square frame of a film, [1, 3, size, size] in [-1, 1], drawn by `draw(axes)`."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(size_px / 100, size_px / 100), dpi=100, facecolor=PAPER, layout="constrained")
        draw(fig.subplots())
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
    return from_uint8(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
