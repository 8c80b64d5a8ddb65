"""Latent arithmetic: seeds, averages, straight lines, arcs and journeys. Taught in notebooks 03 and 04."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.types import Generator, W, Ws, Z

Latent = Float[Tensor, "batch *rest"]  # z, w or ws
End = Float[Tensor, "#batch *rest"]  # of a line: as many as there are other ends, or one for all of them
EndWs = Float[Tensor, "#batch layer w"]
Line = Float[Tensor, "_ *rest"]  # one latent for every step along it
Amount = float | Float[Tensor, "*step"]  # how far along it, 0 to 1
Layers = str | SupportsIndex | Iterable[SupportsIndex]  # coarse, middle, fine, all, one number or several


def normal(seeds: SupportsIndex | Iterable[SupportsIndex], dim: int) -> Z:
    """One standard normal row per seed: [seeds, dim], float32, on the CPU.

    `RandomState(seed).randn(1, dim)` is NVIDIA's own recipe, so a seed shared on the web gives the same z here.
    Raises ShapeError for a seed that is not a whole number from 0 to 2**32 - 1.
    """
    seeds = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ShapeError(f"seed {seed!r} is not allowed: give whole numbers from 0 to 4294967295, e.g. normal([85, 265], 512).")
    rows = [np.random.RandomState(int(seed)).randn(1, dim) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows or [np.empty((0, dim))])).float()


def broadcast(w: W, num_layers: int) -> Ws:
    """Give every layer the same w: [batch, w] -> [batch, num_layers, w]. No memory is copied."""
    if w.ndim != 2:
        raise ShapeError(f"broadcast takes one w per face, [batch, w]; this has shape {list(w.shape)}. Is it ws already?")
    return w.unsqueeze(1).expand(-1, num_layers, -1)


def lerp(a: End, b: End, t: Amount) -> Line:
    """The straight line from a (t = 0) to b (t = 1); t outside 0 ... 1 extrapolates. The line to use in W.

    A row of t gives one latent per t: a and b are then one latent each, or as many as t, taken in pairs.
    """
    t = _column(t, a, b)
    return a + t * (b - a)


def slerp(a: End, b: End, t: Amount) -> Line:
    """The arc from a to b at constant speed (Shoemake 1985); lengths change evenly. The path to use in Z.

    Normal vectors of many numbers lie near a sphere; the straight line cuts through its empty inside.
    Parallel, opposite or zero vectors have no single arc: there the straight line is taken.
    """
    t = _column(t, a, b)
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    # The angle from both diagonals: acos of a dot product loses half the digits near 0 and 180 degrees, and its gradient is infinite there.
    minus, plus = (unit_a - unit_b).norm(dim=-1, keepdim=True), (unit_a + unit_b).norm(dim=-1, keepdim=True)
    straight = (minus * plus < 2e-4) | (length_a < 1e-12) | (length_b < 1e-12)  # minus * plus = 2 sin(angle)
    minus, plus = minus.masked_fill(straight, 1), plus.masked_fill(straight, 1)  # harmless where the arc is not taken
    angle = 2 * torch.atan2(minus, plus)
    arc = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / torch.sin(angle)
    arc = arc * (length_a + t * (length_b - length_a))
    return torch.where(straight, a + t * (b - a), arc)


def mean(latents: Latent, weights: Float[Tensor, " batch"] | None = None) -> Float[Tensor, "1 *rest"]:
    """The blend of several faces, as a batch of one: [batch, ...] -> [1, ...]. Weights are divided by their sum."""
    if len(latents) == 0:
        raise ShapeError("mean needs at least one latent; it was given none.")
    if weights is None:
        return latents.mean(dim=0, keepdim=True)
    if len(weights) != len(latents) or float(weights.sum()) == 0:
        raise ShapeError(f"mean needs one weight per latent, not summing to zero: {len(latents)} latents, weights {weights.tolist()}.")
    fractions = (weights / weights.sum()).to(latents).view(-1, *[1] * (latents.ndim - 1))
    return (fractions * latents).sum(dim=0, keepdim=True)


def truncate(ws: Latent, *, toward: Float[Tensor, " w"], psi: float, cutoff: int | None = None) -> Latent:
    """Pull every latent toward the average face (Karras et al. 2019, appendix B).

    psi = 1 changes nothing, psi = 0 gives the average face; 0.7 is the usual choice. With `cutoff`, ws [batch, layer, w] are pulled
    in their first `cutoff` layers only: shapes are those of the average, colors stay.
    """
    if toward.shape != ws.shape[-1:]:
        raise ShapeError(f"truncate pulls toward one w of {ws.shape[-1]} numbers; this is {list(toward.shape)}. Give generator.w_mean.")
    if cutoff is not None:
        if ws.ndim != 3 or not 0 <= cutoff <= ws.shape[1]:
            raise ShapeError(f"a cutoff is one of the layers of ws [batch, layer, w]: {cutoff} of {list(ws.shape)}. Broadcast first.")
        return torch.cat([truncate(ws[:, :cutoff], toward=toward, psi=psi), ws[:, cutoff:]], dim=1)
    return toward + psi * (ws - toward)


def layer_range(layers: Layers, num_layers: int) -> tuple[int, ...]:
    """Layer numbers from a name (coarse, middle, fine, all), one number or several.

    Of the 16 layers of the face generator, 0-4 are coarse (pose, shape, hair), 5-8 middle (features),
    9-15 fine (colors); other generators are cut in the same proportion (Karras et al. 2019, figure 3).
    """
    cuts = {"coarse": (0, 5), "middle": (5, 9), "fine": (9, 16), "all": (0, 16)}
    if isinstance(layers, str):
        if layers not in cuts:
            raise ShapeError(f"there are no layers called '{layers}': say {', '.join(cuts)}, or give layer numbers.")
        start, stop = (round(cut * num_layers / 16) for cut in cuts[layers])
        return tuple(range(start, stop))
    chosen = (layers,) if isinstance(layers, Integral) else tuple(layers)
    if not all(isinstance(layer, Integral) and 0 <= layer < num_layers for layer in chosen):
        raise ShapeError(f"layers {list(chosen)} do not fit a generator of {num_layers} layers: use 0 to {num_layers - 1}.")
    return tuple(int(layer) for layer in chosen)


def mix(base: EndWs, style: EndWs, layers: Layers) -> Float[Tensor, "_ layer w"]:
    """Style mixing: `base` with the named layers of `style` (Karras et al. 2019, section 3.1).

    One of the two may be a single face, which is then mixed with every face of the other.
    """
    if base.ndim != 3 or base.shape[1:] != style.shape[1:] or len({1, len(base), len(style)}) > 2:
        raise ShapeError(
            f"mix takes two ws of the same layers, [batch, layer, w]; these are {list(base.shape)} and {list(style.shape)}. "
            "Use broadcast(w, num_layers) first, and as many styles as bases, or one."
        )
    chosen = torch.zeros(base.shape[1], 1, dtype=torch.bool, device=base.device)
    chosen[list(layer_range(layers, base.shape[1]))] = True
    return torch.where(chosen, style, base)


def walk(stops: Float[Tensor, "stop *rest"], frames: int, *, loop: bool = False) -> Float[Tensor, "frame *rest"]:
    """A smooth journey through every stop: [stop, ...] -> [frames, ...] (Catmull and Rom 1974).

    Speed and direction change smoothly at the stops. With `loop`, the last frame leads back to the first, so that
    a film can repeat without a jump. For a seeded journey: `walk(generator.mapping(normal(range(5), z_dim)), 60, loop=True)`.
    """
    count = len(stops)
    if count < 2 or frames < 2:
        raise ShapeError(f"a walk needs at least two stops and two frames; it was given {count} stops and {frames} frames.")
    at = torch.linspace(0, count if loop else count - 1, frames + 1 if loop else frames, dtype=torch.float64)[:frames]
    leg = at.floor().long().clamp_max(count - 1 if loop else count - 2)
    t = (at - leg).to(stops).view(-1, *[1] * (stops.ndim - 1))

    def stop(offset: int) -> Tensor:
        if loop:
            return stops[(leg + offset) % count]
        before, after = 2 * stops[0] - stops[1], 2 * stops[-1] - stops[-2]  # mirrored ends: the path starts straight
        return torch.cat([before[None], stops, after[None]])[leg + offset + 1]

    p0, p1, p2, p3 = (stop(offset) for offset in (-1, 0, 1, 2))
    return 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)


def w_of(generator: Generator, seeds: SupportsIndex | Iterable[SupportsIndex], psi: float) -> W:
    """The truncated w of every seed: [seed, w], on the generator's device."""
    z = normal(seeds, generator.z_dim).to(generator.w_mean.device)
    return truncate(generator.mapping(z), toward=generator.w_mean, psi=psi)


def _column(t: float | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """t, shaped so that it scales latents: one number for all, or one for every step from a to b."""
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)
    if a.shape[1:] != b.shape[1:] or len({1, len(a), len(b), *t.shape}) > 2:
        raise ShapeError(
            f"two latents of one kind are needed, and one t, or as many as latents; these are {list(a.shape)} and {list(b.shape)}, "
            f"t {list(t.shape)}. For a row of t give one latent each: lerp(a[:1], b[:1], t)."
        )
    return t if t.ndim == 0 else t.view(-1, *[1] * (a.ndim - 1))
