"""A second version of every figure, laid out anew for a phone: one panel under the other, text as large as the page's.

It runs in the lesson's kernel while its page is made (build.py starts it); the notebooks never hold it.
"""

from __future__ import annotations

import base64
import io
import textwrap
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import AutoLocator, MaxNLocator
from PIL import Image

from dvlatent.lessons import plot

MIME = "application/vnd.dvlatent.phone"
WIDTH, DPI = 3.5, 200  # inches, 350 px of the page; pixels drawn per inch
POINTS, LINE, GAP = plot.SMALLEST, 0.22, 0.08  # of text, 15 px; inches of a line, and between two pictures
LETTER = POINTS / 72 * 0.6  # inches of a letter, with a reserve


def watch() -> None:
    """From now on, every figure that a lesson shows carries its version for a phone."""
    encode, display, mosaic, ready = plot.encode, plot._display, plot._mosaic, []

    def remembering(rows, dpi, *more, **named):
        fig = mosaic(rows, dpi, *more, **named)
        words = dict(zip(("caption", "words_down", "words_across", "corner", "rules"), more, strict=False))
        fig.cells = {"rows": rows, **words, **named}
        return fig

    def twice(fig):
        data, kind = encode(fig)
        size = fig.get_size_inches()
        small, its = encode(relaid(fig)) if can_be_relaid(fig) else slices(data, fig.get_figwidth())
        ready.append(f"data:image/{its};base64,{base64.b64encode(small).decode()}")
        fig.set_size_inches(size)  # the page shows the first one at this size
        return data, kind

    def together(data, kind, width):
        display(data | ({MIME: ready.pop()} if ready else {}), kind, width)

    plot.encode, plot._display, plot._mosaic = twice, together, remembering


def can_be_relaid(fig: Figure) -> bool:
    """Whether its pictures or its axes are known; a drawing with axes of its own is cut into slices instead."""
    return hasattr(fig, "cells") or (bool(fig.axes) and all(axes.get_subplotspec() for axes in fig.axes))


def relaid(fig: Figure) -> Figure:
    """The figure for a phone; a chart is changed in place."""
    return cards(**fig.cells) if hasattr(fig, "cells") else stacked(fig)


def cards(rows, caption=None, words_down=None, words_across=None, corner="", rules=(False, False)) -> Figure:
    """Pictures in lines of two to five, each under its words; a row of a table becomes a block under the row's name."""
    fig = Figure(figsize=(WIDTH, 1), dpi=DPI, facecolor=plot.PAPER)
    tasks, y = [], 0.0  # what to draw, once the height is known

    def write(words: str, x: float = 0, width: float = WIDTH, **style) -> float:
        lines = [line for part in words.split("\n") for line in textwrap.wrap(part, max(int(width / LETTER), 4)) or [""]]
        tasks.append(("text", x, y, "\n".join(lines), style))
        return LINE * len(lines)

    blocks = [(words_down[at] if words_down else "", row) for at, row in enumerate(rows)]
    if not (words_down or words_across or any(rules)):
        blocks = [("", [cell for row in rows for cell in row])]  # no table: let it flow
    if corner and any(rules):
        y += write(corner, style="italic")
    for name, row in blocks:
        if name:
            y += write(name.replace("\n", " "), weight="bold")
        titles = [((cell and cell[1]) or (words_across[at] if words_across else "")).replace("\n", " ") for at, cell in enumerate(row)]
        columns = len(row) if any(rules) else in_a_line(len(row), titles)
        size = (WIDTH - GAP * (columns - 1)) / columns
        for start in range(0, len(row), columns):
            across = [column * (size + GAP) for column in range(columns)]
            line = list(zip(across, row[start : start + columns], titles[start : start + columns], strict=False))
            y += max((write(title, x, size) for x, _, title in line if title), default=0)
            tasks += [("picture", x, y, cell[0], size) for x, cell, _ in line if cell]
            y += size + GAP
    if caption:
        y += write(caption, color=plot.QUIET)
    fig.set_size_inches(WIDTH, y)
    for kind, x, top, what, how in tasks:
        if kind == "text":
            style = {"color": plot.INK, "family": "DejaVu Sans", "size": POINTS, "linespacing": 1.2, **how}
            fig.text(x / WIDTH, 1 - top / y, what, va="top", **style)
        else:
            axes = fig.add_axes((x / WIDTH, 1 - (top + how) / y, how / WIDTH, how / y))
            axes.imshow(np.asarray(Image.fromarray(what).resize((round(how * DPI),) * 2)), interpolation="nearest", aspect="auto")
            axes.axis("off")
    return fig


def in_a_line(count: int, titles: list[str]) -> int:
    """How many pictures stand side by side, so that the longest word of a title fits over its picture."""
    word = max((len(word) for title in titles for word in title.split()), default=0) * LETTER
    wanted = {1: 1, 2: 2, 4: 2, 7: 4, 8: 4}.get(count, 3 if count < 10 else 5)
    return max(1, min(wanted, int((WIDTH + GAP) / (word + GAP)) if word else wanted))


def stacked(fig: Figure) -> Figure:
    """A chart's panels one under the other, or two by two if they are many and square."""
    width, height = fig.get_size_inches()
    panels: dict[tuple, list[Axes]] = {}
    for axes in fig.axes:
        panels.setdefault(axes.get_subplotspec().get_position(fig).bounds, []).append(axes)
    if len({bounds[0] for bounds in panels}) > 2:  # in a wide table, what stands below each other belongs together
        panels = dict(sorted(panels.items(), key=lambda panel: (panel[0][0], -panel[0][1])))
    shapes = [wide * width / (tall * height) for _, _, wide, tall in panels]
    columns = 2 if len(panels) >= 4 and max(shapes) < 1.3 else 1
    wide = WIDTH / columns
    words = [max(fit_words(axes, wide) for axes in group) for group in panels.values()]
    tall = [wide * table if (table := cell_lines(group[0])) else min(max(wide / shape, 2.4 / columns), 3.4) for shape, group in zip(shapes, panels.values(), strict=True)]
    tall = [inches + more for inches, more in zip(tall, words, strict=True)]
    lines = [max(tall[at : at + columns]) for at in range(0, len(tall), columns)]
    fig.set_size_inches(WIDTH, sum(lines))
    fig.set_dpi(DPI)
    grid = GridSpec(len(lines), columns, figure=fig, height_ratios=lines)
    for number, group in enumerate(panels.values()):
        for axes in group:
            axes.set_subplotspec(grid[number // columns, number % columns])
    for text in fig.findobj(Text):
        text.set_fontsize(POINTS)
    FigureCanvasAgg(fig)
    for axes in fig.axes:
        legends_above(axes, [*filter(None, [axes.get_legend()]), *(fig.legends if axes is fig.axes[0] else [])])
    fig.draw_without_rendering()
    more = sum(axes.get_legend().get_window_extent().height for axes in fig.axes if axes.get_legend()) / DPI / columns
    fig.set_size_inches(WIDTH, sum(lines) + more)
    for _ in range(3):  # words that make room move others
        fig.draw_without_rendering()
        for axes in fig.axes:
            untangle(axes)
    return fig


def legends_above(axes: Axes, legends: list[Legend]) -> None:
    """Legends as one between title and panel, where it hides nothing: one entry under the other, wrapped."""
    handles = [handle for legend in legends for handle in legend.legend_handles]
    words = [textwrap.fill(text.get_text(), int((WIDTH - 1.3) / LETTER)) for legend in legends for text in legend.get_texts()]
    heading = " ".join(legend.get_title().get_text() for legend in legends).strip()
    for legend in legends:
        legend.remove()
    if handles:
        how = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3, "handlelength": 1.2, "fontsize": POINTS, "title_fontsize": POINTS}
        axes.legend(handles, words, title=heading or None, alignment="left", **how)


def cell_lines(axes: Axes) -> float:
    """How tall a panel of cells with words in them must be, in widths; 0 for other panels."""
    words = [text.get_text() for text in axes.texts]
    return 0 if len(axes.images) != 1 or len(words) <= 8 else 1.7 if any(" " in word for word in words) else 1


def fit_words(axes: Axes, wide: float) -> float:
    """Wrap titles and labels to a panel's width, thin out its ticks; the inches that the words need."""
    lines = 0
    for text in (axes.title, axes._left_title, axes._right_title, axes.xaxis.label):
        if text.get_text():
            text.set_text("\n".join(textwrap.fill(part, int((wide - 0.2) / LETTER)) for part in text.get_text().split("\n")))
            lines += text.get_text().count("\n") + 1
    axes.yaxis.label.set_text(textwrap.fill(axes.yaxis.label.get_text(), int(2 / LETTER)))
    if axes._left_title.get_text():
        axes._left_title.set_position((0, 1))
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), AutoLocator):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if len(axes.get_shared_x_axes().get_siblings(axes)) > 1 or len(axes.get_shared_y_axes().get_siblings(axes)) > 1:
        axes.tick_params(labelbottom=True, labelleft=True)
    return LINE * lines


def untangle(axes: Axes) -> None:
    """Turn tick labels that run into each other, and break words inside a panel that do."""
    right = axes.figure.bbox.x1
    for text in (axes.title, axes._left_title, axes.xaxis.label):
        box = text.get_window_extent()
        if text.get_text() and (box.x1 > right or box.x0 < 0):
            middle = (box.x0 + box.x1) / 2
            room = right - box.x0 if text is axes._left_title else 2 * min(middle, right - middle)
            text.set_text(textwrap.fill(" ".join(text.get_text().split()), int(room / DPI / LETTER)))
    if legend := axes.get_legend():
        above = (legend.get_window_extent().y1 - axes.bbox.y1) / DPI * 72
        for place, text in (("left", axes._left_title), ("center", axes.title)):
            axes.set_title(text.get_text(), loc=place, pad=above, fontsize=POINTS)
    labels = [label for label in axes.get_xticklabels() if label.get_text() and label.get_visible()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    if any(left.x1 + 4 > right.x0 for left, right in pairwise(boxes)):
        axes.tick_params(axis="x", rotation=90)
    spans = [text.get_window_extent() for text in axes.texts]
    for text, span in zip(axes.texts, spans, strict=True):
        if any(span.overlaps(other) for other in spans if other is not span):
            text.set(text=text.get_text().replace(" ", "\n"), va="center")


def slices(data: bytes, inches: float) -> tuple[bytes, str]:
    """A drawing cut where it is white from top to bottom, into pieces as wide as a phone, one under the other."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    per_inch = picture.width / inches
    white = np.flatnonzero((np.asarray(picture) > 247).all(axis=(0, 2)))
    cuts, reach = [0], round(WIDTH * per_inch)
    while cuts[-1] + reach < picture.width:
        near = white[(white > cuts[-1] + reach // 4) & (white <= cuts[-1] + reach)]
        far = white[white > cuts[-1] + reach]
        cuts.append(int(near[-1] if len(near) else far[0] if len(far) else cuts[-1] + reach))
    pieces = [picture.crop((left, 0, right, picture.height)) for left, right in pairwise([*cuts, picture.width])]
    pieces = [piece if piece.width <= reach else piece.resize((reach, piece.height * reach // piece.width)) for piece in pieces]
    whole = Image.new("RGB", (reach, sum(piece.height for piece in pieces)), plot.PAPER)
    top = 0
    for piece in pieces:
        whole.paste(piece, (0, top))
        top += piece.height
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=85)
    return file.getvalue(), "jpeg"
