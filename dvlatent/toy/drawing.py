"""The toy face's brush: a flat portrait made of smooth distance functions, one layer of paint after another.

A *distance* is negative inside a shape and positive outside; `cover` turns it into paint with a soft edge one pixel wide,
so that every pixel is differentiable in every trait. x grows to the right, y downward.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Map = Float[Tensor, "batch height width"]  # one number a pixel: a coordinate, a distance or an amount of paint
Trait = Float[Tensor, "batch 1 1"]  # one number a face
Color = Float[Tensor, "batch 3 1 1"] | tuple[float, float, float]

SKIN = ((0.99, 0.87, 0.78), (0.96, 0.78, 0.64), (0.87, 0.65, 0.48), (0.70, 0.48, 0.33), (0.50, 0.33, 0.23), (0.36, 0.23, 0.17))
HAIR = ((0.11, 0.10, 0.12), (0.25, 0.16, 0.12), (0.42, 0.25, 0.15), (0.63, 0.30, 0.15), (0.78, 0.55, 0.27), (0.92, 0.77, 0.48))
IRIS = ((0.24, 0.14, 0.09), (0.45, 0.28, 0.13), (0.38, 0.48, 0.24), (0.27, 0.52, 0.52), (0.28, 0.50, 0.76))
WALL = ((0.97, 0.83, 0.62), (0.97, 0.76, 0.68), (0.90, 0.77, 0.88), (0.72, 0.80, 0.93), (0.68, 0.87, 0.86), (0.77, 0.88, 0.72))
CLOTH = ((0.78, 0.32, 0.25), (0.88, 0.62, 0.22), (0.36, 0.52, 0.36), (0.17, 0.45, 0.50), (0.21, 0.29, 0.50), (0.47, 0.27, 0.46))
FRAME = 0.83  # half the width of the picture; a head is about 0.8 wide and 1 high
GRAY, INK, CREAM = (0.84, 0.85, 0.88), (0.16, 0.11, 0.12), (1.0, 0.985, 0.96)


class Canvas:
    """A picture being painted, and the coordinates of its pixels."""

    def __init__(self, like: Tensor, resolution: int) -> None:
        self.pixel = 2 * FRAME / resolution
        position = (torch.arange(resolution, dtype=like.dtype, device=like.device) + 0.5) * self.pixel - FRAME
        self.x, self.y = position.view(1, 1, -1), position.view(1, -1, 1) + 0.05
        self.rgb = like.new_zeros(1, 3, 1, 1)

    def paint(self, color: Color, amount: Map | float) -> None:
        """Cover what is there with `amount` (0 to 1) of a color."""
        color = self.rgb.new_tensor(color).view(1, 3, 1, 1) if isinstance(color, tuple) else color
        self.rgb = torch.lerp(self.rgb, color, amount.unsqueeze(1))

    def cover(self, distance: Map, soft: float = 0.0) -> Map:
        """Paint inside a shape: 1 well inside, 0 well outside, an edge of one pixel (or `soft`) between."""
        return torch.sigmoid(distance * (-4 / max(self.pixel, soft)))

    def stroke(self, distance: Map, half: Trait | float, soft: float = 0.0) -> Map:
        """Paint along a shape's edge, `half` to each side; lines thinner than a pixel grow faint, as they should."""
        sharp = 4 / max(self.pixel, soft)
        return torch.sigmoid((half - distance) * sharp) - torch.sigmoid((-half - distance) * sharp)


def ellipse(x: Map, y: Map, rx: Trait | float, ry: Trait | float) -> Map:
    """Distance to an ellipse, exact to first order at its edge (Quilez, "ellipsoid - distance")."""
    u, v = x / rx, y / ry
    k = (u * u + v * v + 1e-6).sqrt()
    return k * (k - 1) / ((u / rx).square() + (v / ry).square() + 1e-6).sqrt()


def box(x: Map, y: Map, rx: Trait | float, ry: Trait | float, corner: Trait | float) -> Map:
    """Distance to a rectangle with rounded corners."""
    u, v = x.abs() - rx + corner, y.abs() - ry + corner
    return (u.clamp_min(0).square() + v.clamp_min(0).square() + 1e-8).sqrt() + torch.maximum(u, v).clamp_max(0) - corner


def segment(x: Map, y: Map, start: tuple, stop: tuple) -> Map:
    """Distance to a straight line from `start` to `stop`."""
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    px, py = x - start[0], y - start[1]
    along = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return ((px - along * dx).square() + (py - along * dy).square() + 1e-8).sqrt()


def union(a: Map, b: Map, round_by: float) -> Map:
    """Distance to both shapes together, the seam filled softly (polynomial smooth minimum)."""
    h = (round_by - (a - b).abs()).clamp_min(0) / round_by
    return torch.minimum(a, b) - h * h * round_by / 4


def overlap(a: Map, b: Map, round_by: float) -> Map:
    """Distance to the intersection of two shapes, its corner rounded."""
    return -union(-a, -b, round_by)


def bump(x: Map, width: Trait | float) -> Map:
    """A hill of height 1 and the given width."""
    return torch.exp(-(x / width).square().clamp_max(40))


def ramp(fraction: Trait, colors: tuple) -> Float[Tensor, "batch 3 1 1"]:
    """The color at a fraction (0 to 1) of the way through a row of colors."""
    position = fraction.reshape(-1, 1) * (len(colors) - 1)
    weight = (1 - (position - torch.arange(len(colors)).to(position)).abs()).clamp_min(0)  # [batch, color]
    return (weight @ position.new_tensor(colors)).view(-1, 3, 1, 1)


def tint(color: Tensor, red: float, green: float, blue: float) -> Tensor:
    """A color in another light: each channel scaled."""
    return color * color.new_tensor((red, green, blue)).view(1, 3, 1, 1)


def blend(a: Tensor, b: Tensor | tuple, fraction: Trait | float) -> Tensor:
    """The mixture of two colors: `a` at fraction 0, `b` at fraction 1."""
    b = a.new_tensor(b).view(1, 3, 1, 1) if isinstance(b, tuple) else b
    return a + (fraction.unsqueeze(1) if isinstance(fraction, Tensor) else fraction) * (b - a)


def between(fraction: Trait, low: float, high: float) -> Trait:
    """`low` at fraction 0, `high` at fraction 1."""
    return low + (high - low) * fraction
