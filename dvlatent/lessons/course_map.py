"""The map of the course as one picture: twelve lessons in three acts, each with a small drawing. Used in notebook 00.

Everything is drawn in inches of the finished picture, from its lower left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyArrowPatch, FancyBboxPatch, Patch, Rectangle, Wedge

WIDTH, DPI = 11.0, 150
CARD = (2.57, 2.3)  # width and height of a lesson
GAP, ACT = 0.24, 0.42  # between two cards; the line that names an act
INK, QUIET, FAINT, PAPER = "#222222", "#5c5c5c", "#c9c9c9", "#ffffff"
BLUE, RED, GREEN, VIOLET, GOLD = "#0072b2", "#d55e00", "#009e73", "#8f4b9e", "#b8860b"
TINTS = {BLUE: "#f4f8fb", VIOLET: "#faf5fb", RED: "#fdf6f1"}
SKINS, HAIRS = ("#f3cfb0", "#c68d5f", "#8a5a3a"), ("#5b3a21", "#26201d", "#b5b5b5")
NOW = ("00", "01", "02", "03", "04", "05", "06", "07")  # the lessons that exist


@dataclass(frozen=True)
class Stop:
    """One lesson on the map."""

    number: str
    title: str
    claim: str  # what it makes you see, in two short lines
    draw: Callable[[Pen], None]  # its picture


class Pen:
    """Draws around a point of the map."""

    def __init__(self, axes: Axes, x: float, y: float, colour: str) -> None:
        self.axes, self.x, self.y, self.colour = axes, x, y, colour
        self.layer = 3.0  # what is drawn later lies above

    def above(self) -> float:
        """The next layer."""
        self.layer += 0.01
        return self.layer

    def add(self, patch: Patch) -> None:
        """Put a shape on the map."""
        self.axes.add_patch(patch).set_zorder(self.above())

    def face(self, x: float, y: float, r: float = 0.3, skin: str = SKINS[0], hair: str = HAIRS[0], old: bool = False) -> None:
        """A small drawn face; `old` gives it glasses and wrinkles."""
        x, y = self.x + x, self.y + y
        self.add(Circle((x, y + 0.1 * r), 1.12 * r, color=hair, linewidth=0))
        self.add(Circle((x, y - 0.08 * r), 0.93 * r, color=skin, linewidth=0))
        self.add(Wedge((x, y + 0.12 * r), 0.98 * r, 25, 155, width=0.35 * r, color=hair, linewidth=0))
        for side in (-1, 1):
            self.add(Circle((x + 0.34 * r * side, y), 0.09 * r, color=INK, linewidth=0))
            if old:
                self.add(Circle((x + 0.36 * r * side, y), 0.25 * r, fill=False, edgecolor=INK, linewidth=4 * r))
                cheek = {"theta1": 60 - 60 * side, "theta2": 120 - 60 * side, "color": QUIET}
                self.add(Arc((x + 0.3 * r * side, y - 0.36 * r), 0.62 * r, 0.5 * r, **cheek))
        self.add(Arc((x, y - 0.3 * r), 0.75 * r, 0.55 * r, theta1=200, theta2=340, color=INK, linewidth=1.6))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str | None = None, bend: float = 0.0) -> None:
        """From here to there."""
        places = [(self.x + x, self.y + y) for x, y in (start, end)]
        style = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 2.2, "color": colour or self.colour}
        self.add(FancyArrowPatch(*places, connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0, **style))

    def box(self, x: float, y: float, width: float, height: float, words: str = "", fill: str = PAPER, edge: str | None = None) -> None:
        """A box around a point, with words in it."""
        corner = (self.x + x - width / 2, self.y + y - height / 2)
        look = {"boxstyle": "round,pad=0,rounding_size=0.07", "facecolor": fill, "edgecolor": edge or self.colour, "linewidth": 1.8}
        self.add(FancyBboxPatch(corner, width, height, **look))
        self.words(x, y, words, size=11.5)

    def words(self, x: float, y: float, words: str, size: float = 12, colour: str = INK, **options: object) -> None:
        """Text in the middle of a point."""
        look = {"ha": "center", "va": "center_baseline", "size": size, "color": colour, **options}
        self.axes.text(self.x + x, self.y + y, words, zorder=self.above(), **look)

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str | None = None, width: float = 2.0, **options: object) -> None:
        """A line through points."""
        look = {"color": colour or self.colour, "linewidth": width, **options}
        self.axes.plot(self.x + np.array(xs), self.y + np.array(ys), zorder=self.above(), **look)


def _start(pen: Pen) -> None:
    pen.face(-0.62, 0)
    pen.arrow((-0.2, 0), (0.22, 0))
    pen.face(0.66, 0, hair=HAIRS[2], old=True)


def _game(pen: Pen) -> None:
    pen.box(-0.66, 0, 0.8, 0.42, "draws")
    pen.box(0.66, 0, 0.8, 0.42, "judges")
    pen.arrow((-0.45, 0.24), (0.45, 0.24), bend=-0.35)
    pen.arrow((0.45, -0.24), (-0.45, -0.24), bend=-0.35)


def _digits(pen: Pen) -> None:
    rng = np.random.RandomState(4)
    for digit, centre, colour in (("1", (-0.75, -0.05), BLUE), ("3", (0.12, 0.14), RED), ("8", (0.66, -0.08), VIOLET)):
        for dx, dy in rng.randn(6, 2) * (0.15, 0.12):
            pen.words(centre[0] + dx, centre[1] + dy, digit, size=13, colour=colour, weight="bold")


def _styles(pen: Pen) -> None:
    pen.box(-0.68, 0, 0.5, 0.5)
    for x, y in ((-0.13, 0.13), (0.13, 0.13), (0, 0), (-0.13, -0.13), (0.13, -0.13)):
        pen.add(Circle((pen.x - 0.68 + x, pen.y + y), 0.045, color=pen.colour, linewidth=0))
    pen.arrow((-0.3, 0), (0.2, 0))
    pen.face(0.66, 0, skin=SKINS[1], hair=HAIRS[1])


def _blend(pen: Pen) -> None:
    pen.line([-0.85, 0.85], [0, 0], width=4)
    pen.face(-0.82, 0, skin=SKINS[0], hair="#b5651d")
    pen.face(0, 0, skin="#dcae87", hair="#6d4227")
    pen.face(0.82, 0, skin=SKINS[1], hair=HAIRS[1])


def _direction(pen: Pen) -> None:
    rng = np.random.RandomState(1)
    for centre, colour in ((-0.5, GREEN), (0.5, GOLD)):
        spots = rng.randn(16, 2) * (0.16, 0.11) + (centre, 0.35 * centre)
        pen.line(spots[:, 0], spots[:, 1], colour, 0, marker="o", markersize=5, markeredgewidth=0)
    pen.arrow((-0.62, -0.27), (0.72, 0.2), INK)
    pen.words(-0.34, 0.2, "older", size=12)


def _inversion(pen: Pen) -> None:
    pen.box(-0.66, 0, 0.68, 0.72)
    pen.face(-0.66, -0.03, 0.25, skin=SKINS[2], hair=HAIRS[1])
    pen.words(0.05, 0.03, "?", size=20, weight="bold", colour=pen.colour)
    for reach in (0.34, 0.22, 0.1):
        pen.add(Circle((pen.x + 0.66, pen.y), reach, fill=reach == 0.1, color=pen.colour, linewidth=1.8))


def _distill(pen: Pen) -> None:
    for row in (0.22, -0.22):
        pen.face(-0.92, row, 0.15)
        pen.face(-0.48, row, 0.15, hair=HAIRS[2], old=True)
    pen.arrow((-0.2, 0), (0.18, 0))
    pen.box(0.68, 0, 0.84, 0.5, "fast\nnetwork")


def _filter(pen: Pen) -> None:
    pen.box(-0.38, 0, 0.52, 0.86, fill="#f2f2f2")
    pen.face(-0.38, 0.1, 0.19, skin=SKINS[1], hair=HAIRS[2], old=True)
    pen.line([-0.55, -0.21], [-0.28, -0.28], QUIET, 2)
    pen.line([-0.3], [-0.28], pen.colour, marker="o", markersize=7)
    pen.words(0.42, 0.02, "0.1 s", size=17, weight="bold", colour=pen.colour)


def _text(pen: Pen) -> None:
    pen.box(-0.5, 0, 1.05, 0.42, "“curly hair”")
    pen.arrow((0.1, 0), (0.42, 0))
    pen.face(0.82, 0, 0.26, hair="#6d3b12")
    for angle in np.linspace(0, np.pi, 8):
        pen.add(Circle((pen.x + 0.82 + 0.29 * np.cos(angle), pen.y + 0.05 + 0.29 * np.sin(angle)), 0.075, color="#6d3b12", linewidth=0))


def _family(pen: Pen) -> None:
    for x, y in ((-0.8, -0.2), (-0.27, -0.2), (0.27, -0.2), (0.8, -0.2)):
        pen.line([0, 0, x, x], [0.2, 0.02, 0.02, y], width=1.8)
        pen.add(Circle((pen.x + x, pen.y + y), 0.12, color=pen.colour, linewidth=0))
    pen.box(0, 0.28, 0.7, 0.28, "GAN")


def _limits(pen: Pen) -> None:
    for x, skin, hair in zip((-0.78, -0.26, 0.26), SKINS, HAIRS, strict=True):
        pen.face(x, 0, 0.21, skin, hair)
    pen.add(Circle((pen.x + 0.78, pen.y), 0.24, fill=False, edgecolor=QUIET, linewidth=1.8, linestyle="--"))
    pen.words(0.78, 0, "?", size=17, weight="bold", colour=QUIET)


ACTS = (
    ("Dice become faces", BLUE, (
        Stop("00", "Start here", "a filter, a face,\na slider", _start),
        Stop("01", "A game of two", "one draws, one judges,\nboth get better", _game),
        Stop("02", "A map of digits", "a network puts\npictures in order", _digits),
        Stop("03", "Sampling faces", "512 numbers in,\none face out", _styles),
    )),
    ("Faces become coordinates", VIOLET, (
        Stop("04", "Between faces", "the mean of two vectors\nis the blend of two faces", _blend),
        Stop("05", "Directions", "thousands of faces,\none formula of ageing", _direction),
        Stop("06", "Your own photo", "you are somewhere\nin there: find yourself", _inversion),
        Stop("07", "Distillation", "made-up pairs train\na fast network", _distill),
    )),
    ("Coordinates become a filter, and what lies beyond", RED, (
        Stop("08", "The filter", "photo in, photo out,\nin your hands", _filter),
        Stop("09", "Say it in words", "directions found\nby language", _text),
        Stop("10", "The family", "what each GAN added\nto the first", _family),
        Stop("11", "Limits", "whose faces it fails,\nand what nobody knows", _limits),
    )),
)  # fmt: skip


def course_map(done: Collection[str] = NOW) -> Figure:
    """The whole course at a glance: the lessons in `done` in colour, the ones still to come pale. Show it with `plot.show`."""
    height = len(ACTS) * (ACT + CARD[1] + GAP) - GAP + 0.04
    fig = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
    axes = fig.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    axes.axis("off")
    top = height
    for name, colour, stops in ACTS:
        axes.text(0.04, top - ACT / 2, name, size=16, weight="bold", color=colour, va="center")
        for column, stop in enumerate(stops):
            _card(axes, 0.02 + column * (CARD[0] + GAP - 0.02), top - ACT - CARD[1], stop, colour, stop.number in done)
        top -= ACT + CARD[1] + GAP
    return fig


def _card(axes: Axes, x: float, y: float, stop: Stop, colour: str, done: bool) -> None:
    """One lesson: its picture, number, title and claim, and the line to the next."""
    width, height = CARD
    look = {"linewidth": 2.6, "linestyle": "-"} if done else {"linewidth": 1.4, "linestyle": (0, (4, 3))}
    look |= {"facecolor": TINTS[colour], "edgecolor": colour} if done else {"facecolor": PAPER, "edgecolor": FAINT}
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", **look))
    stop.draw(Pen(axes, x + width / 2, y + height - 0.74, colour))
    axes.text(x + 0.14, y + 0.83, stop.number, size=14, weight="bold", color=colour if done else QUIET, va="center_baseline")
    axes.text(x + 0.5, y + 0.83, stop.title, size=14, weight="bold", color=INK if done else QUIET, va="center_baseline")
    axes.text(x + 0.14, y + 0.66, stop.claim, size=12, color=INK if done else QUIET, va="top", linespacing=1.3)
    if not done:
        axes.add_patch(Rectangle((x + 0.1, y + 1.0), width - 0.2, height - 1.1, color=PAPER, alpha=0.5, linewidth=0, zorder=5))
        look = {"size": 11, "style": "italic", "color": QUIET, "ha": "right", "va": "center_baseline"}
        axes.text(x + width - 0.12, y + height - 0.2, "to come", zorder=6, **look)
