"""Figures made for eyes: one style, faces big enough to see, and alt text on every picture. Used in every notebook.

A figure is made by one of the functions here and shown by `show(fig, alt=...)`. Photographs travel as JPEG, charts as PNG, the
map of the course as SVG: kinds of picture that GitHub, Colab, JupyterLab and exported pages all show.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image as PillowImage
from PIL import ImageFile

from dvlatent.errors import ShapeError
from dvlatent.images import resize, to_uint8
from dvlatent.types import Image

WIDTH = 11.0  # inches of a full figure; 1100 pixels of a page
DPI = 150  # pixels drawn per inch: sharp on a projector, small in a file
TALLEST = 3.6  # inches of one face at most
GAP, LINE = 0.08, 0.26  # inches between two faces; of one line of text
SMALLEST = 11  # points; no text leaves `show` smaller than this
MAP = Path(__file__).with_name("course_map.svg")
ImageFile.MAXBLOCK = 2**24  # bytes of Pillow's buffer: `optimize` overflows the usual one on pictures of noise
INK, QUIET, PAPER = "#222222", "#5c5c5c", "#ffffff"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#8f4b9e", "#56b4e9", "#b8860b")  # distinct with any colour vision (after Okabe and Ito 2008)

STYLE = {
    "font.size": 13, "axes.titlesize": 15, "axes.labelsize": 13, "xtick.labelsize": 12, "ytick.labelsize": 12, "legend.fontsize": 12,
    "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": QUIET, "xtick.color": QUIET,
    "ytick.color": QUIET, "axes.titlelocation": "left", "axes.titlepad": 10, "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8, "lines.linewidth": 2.4, "lines.markersize": 7, "legend.frameon": False,
}  # fmt: skip


def chart(rows: int = 1, columns: int = 1, height: float = 4.5, **options) -> tuple[Figure, Axes | np.ndarray]:
    """A full-width figure and its axes, as `plt.subplots(rows, columns, **options)` would give them. Height in inches.

    It puts matplotlib into the house style for the rest of the session: titles, lines and legends are styled when they are drawn.
    """
    matplotlib.rcParams.update(STYLE)
    fig = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    return fig, fig.subplots(rows, columns, **options)


def strip(image: Image, titles: Sequence[str] | None = None, caption: str | None = None) -> Figure:
    """All faces in one row."""
    return faces(image, columns=max(len(image), 1), titles=titles, caption=caption)


def faces(image: Image, columns: int | None = None, titles: Sequence[str] | None = None, caption: str | None = None) -> Figure:
    """A grid of faces, row by row. Without `columns`, about as wide as a lecture hall's screen."""
    count = _count(image)
    if titles is not None and len(titles) != count:
        raise ShapeError(f"{count} faces were given and {len(titles)} titles: give one title per face, '' for none.")
    columns = min(columns or math.ceil(math.sqrt(2 * count)), count)
    size, dpi = _cell(columns, image.shape[-1])
    cells = list(zip(_pixels(image, size), titles or [""] * count, strict=True))
    return _mosaic([cells[at : at + columns] for at in range(0, count, columns)], dpi, caption)


def labeled_grid(
    image: Image, rows: Image | Sequence[str], columns: Image | Sequence[str], corner: str = "", caption: str | None = None
) -> Figure:
    """A table of faces, [rows * columns] of them row by row, whose headers are faces or words. `corner` tells which is which."""
    if _count(image) != len(rows) * len(columns):
        need = len(rows) * len(columns)
        raise ShapeError(f"{len(rows)} row and {len(columns)} column headers need {need} faces; {len(image)} were given.")
    words_down, words_across = ([*h] if isinstance(h[0], str) else None for h in (rows, columns))
    size, dpi = _cell(len(columns) + (words_down is None), image.shape[-1], left=_label_inches(words_down))
    body = [(face, "") for face in _pixels(image, size)]
    table = [body[at : at + len(columns)] for at in range(0, len(body), len(columns))]
    if words_down is None:
        table = [[(face, ""), *row] for face, row in zip(_pixels(rows, size), table, strict=True)]
        words_across = ["", *words_across] if words_across else None
    if words_across is None:
        table = [[*([] if words_down else [None]), *((face, "") for face in _pixels(columns, size))], *table]
        words_down = ["", *words_down] if words_down else None
    return _mosaic(table, dpi, caption, words_down, words_across, corner, rules=(words_across is None, words_down is None))


def show(fig: Figure, alt: str) -> None:
    """Show the figure under this cell, with `alt` on the picture for everyone who cannot see it, and close it.

    The alt text is a sentence or two that say what there is to notice. It goes into the picture's metadata and is its plain text.
    """
    data, kind = encode(fig)
    width = round(fig.get_figwidth() * 100)
    _display({f"image/{kind}": data, "text/plain": _worded(alt)}, kind, width)
    pyplot.close(fig)  # matplotlib forgets the figure, also when pyplot made it
    fig.clear()


def show_map(current: str = "") -> None:
    """Show the map of the course under this cell; the card of lesson `current`, such as "00", gets a frame. Raises ValueError for others.

    The picture is `course_map.svg`, and its own description is the alt text. Used in notebook 00.
    """
    svg = MAP.read_text(encoding="utf-8")
    alt = re.search(r"<desc[^>]*>(.*?)</desc>", svg)[1]
    if current:
        hidden = f'<g id="here-{current}" display="none">'
        if hidden not in svg:
            raise ValueError(f"the map has no lesson '{current}': give two digits, from '00' to '11'.")
        svg, alt = svg.replace(hidden, f'<g id="here-{current}">'), f"{alt} You are in lesson {current}."
    _display({"image/svg+xml": svg, "text/plain": alt}, "svg+xml", round(100 * WIDTH))


def encode(fig: Figure) -> tuple[bytes, str]:
    """The figure's bytes and their kind: "jpeg" if it holds a photograph, else "png"."""
    for text in fig.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), SMALLEST))
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    drawing = PillowImage.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    photo = any(np.ndim(picture.get_array()) == 3 for picture in fig.findobj(matplotlib.image.AxesImage))
    file = io.BytesIO()
    if photo:
        drawing.save(file, "JPEG", quality=80, optimize=True, subsampling=0)
    else:
        drawing.quantize(128, dither=PillowImage.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue(), "jpeg" if photo else "png"


def show_film(frames: Image, alt: str, seconds: float = 4.0, size_px: int = 256, quality: int = 75) -> None:
    """Show moving pictures under this cell, repeating for ever; keep to about 48 frames of 256 pixels. Raises ShapeError for one frame.

    The film is an animated WebP labelled as PNG: browsers look at the bytes, and GitHub and exported pages show no picture labelled WebP.
    """
    if _count(frames) < 2:
        raise ShapeError(f"a film needs at least two frames; {len(frames)} were given. Use plot.strip for a single face.")
    first, *rest = (PillowImage.fromarray(frame) for frame in _pixels(frames, size_px))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=round(1000 * seconds / len(frames)), loop=0, quality=quality)
    _display({"image/png": file.getvalue(), "text/plain": _worded(alt)}, "png", size_px)


def _mosaic(
    rows: list[list[tuple[np.ndarray, str] | None]], dpi: float, caption: str | None = None, words_down: Sequence[str] | None = None,
    words_across: Sequence[str] | None = None, corner: str = "", rules: tuple[bool, bool] = (False, False),
) -> Figure:  # fmt: skip
    """Faces at whole pixels, so that none is resampled: each cell, a face and its title, is drawn exactly as large as its array."""
    size, wide = max(len(cell[0]) for row in rows for cell in row if cell), max(map(len, rows))
    gap, line, left = round(GAP * dpi), round(LINE * dpi), round(_label_inches(words_down) * dpi)
    head = line * max((words.count("\n") + 1 for words in words_across or ()), default=0)
    title_lines = [max((cell[1].count("\n") + 1 for cell in row if cell and cell[1]), default=0) for row in rows]
    width = max(left + wide * size + (wide - 1) * gap, round(5 * dpi) if caption else 0)
    note = "\n".join(textwrap.wrap(caption or "", int(width / dpi * 10.5)))  # about 10.5 letters of 13 points fit an inch
    foot = line * (note.count("\n") + 1) + gap if note else 0
    height = head + sum(size + line * lines for lines in title_lines) + gap * (len(rows) - 1) + foot
    fig = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor=PAPER)
    top = height - head

    def write(x: float, y: float, words: str, ha: str, va: str, **options) -> None:
        style = {"color": INK, "family": "DejaVu Sans", "size": 13, "linespacing": 1.25, **options}
        fig.text(x / width, y / height, words, ha=ha, va=va, **style)

    for number, (row, lines) in enumerate(zip(rows, title_lines, strict=True)):
        bottom = top - lines * line - size
        if words_down:
            write(left - gap, bottom + size / 2, words_down[number], "right", "center")
        for column, cell in enumerate(row):
            x = left + column * (size + gap)
            if words_across and number == 0:
                write(x + size / 2, height, words_across[column], "center", "top")
            if cell is None:
                write(x + size / 2, bottom + size / 2, corner, "center", "center", style="italic")
                continue
            axes = fig.add_axes((x / width, bottom / height, size / width, size / height))
            axes.imshow(cell[0], interpolation="nearest", aspect="auto")
            axes.axis("off")
            write(x + size / 2, bottom + size + gap / 2, cell[1], "center", "bottom")
        if rules[0] and number == 0:
            _rule(fig, [left / width, 1], [(bottom - gap / 2) / height] * 2)
        top = bottom - gap
    if rules[1]:
        _rule(fig, [(left + size + gap / 2) / width] * 2, [foot / height, 1])
    write(0, gap / 2, note, "left", "bottom", color=QUIET)
    return fig


def _rule(fig: Figure, x: list[float], y: list[float]) -> None:
    """A thin line between the headers and the rest."""
    fig.add_artist(matplotlib.lines.Line2D(x, y, color=QUIET, linewidth=1.2))


def _cell(columns: int, resolution: int, left: float = 0) -> tuple[int, float]:
    """Pixels of a face, and pixels per inch, so that the row fills the width and no face is wider than TALLEST inches.

    Large pictures shrink by area to DPI; small ones keep their pixels, or grow by a whole number, and the DPI gives way.
    """
    inches = min((WIDTH - left - GAP * (columns - 1)) / columns, TALLEST)
    if resolution >= inches * DPI:
        return round(inches * DPI), DPI
    times = max(int(inches * DPI / resolution), math.ceil(inches * 96 / resolution))
    return times * resolution, times * resolution / inches


def _pixels(image: Image, size_px: int) -> np.ndarray:
    """[batch, size, size, 3] of uint8: by area when it shrinks, by whole numbers when it grows."""
    _count(image)
    pixels = to_uint8(resize(image, size_px) if image.shape[-1] > size_px else image)
    times = max(size_px // pixels.shape[1], 1)
    return pixels.repeat(times, axis=1).repeat(times, axis=2)


def _count(image: Image) -> int:
    if getattr(image, "ndim", 0) != 4 or image.shape[1] not in (1, 3) or len(image) == 0 or image.shape[2] != image.shape[3]:
        given = f"shape {list(image.shape)}" if hasattr(image, "shape") else f"a {type(image).__name__}"
        raise ShapeError(f"figures of faces need square images, [batch, 1 or 3, size, size] in [-1, 1], at least one; this is {given}.")
    return len(image)


def _label_inches(words: Sequence[str] | None) -> float:
    """Room to the left of a table for its words."""
    return 0.2 + 0.11 * max(len(line) for word in words for line in word.split("\n")) if words else 0.0


def _worded(alt: str) -> str:
    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(
            f"alt={alt!r} tells nothing to someone who cannot see the picture. Give a sentence that says what there is to notice, "
            "e.g. show(fig, alt='Five faces in a row, growing older from left to right.')."
        )
    return " ".join(alt.split())


def _display(data: dict, kind: str, width: int) -> None:
    """Hand the picture to the notebook; outside a notebook say its alt text."""
    from IPython import get_ipython  # only notebooks need it
    from IPython.display import display

    if get_ipython() is None:
        print(f"[picture: {data['text/plain']}]")
        return
    display(data, metadata={f"image/{kind}": {"alt": data["text/plain"], "width": width}}, raw=True)
