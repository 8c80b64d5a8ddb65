"""Latent arithmetic: averages, straight lines, arcs and journeys. Taught in notebooks 03 and 04."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import ShapeError
from dvlatent.types import W, Ws

Latent = Float[Tensor, "batch *rest"]  # z, w or ws


def broadcast(w: W, num_layers: int) -> Ws:
    """Give every layer the same w: [batch, w] -> [batch, num_layers, w]. No memory is copied."""
    if w.ndim != 2:
        raise ShapeError(f"broadcast takes one w per face, [batch, w]; this has shape {list(w.shape)}. Is it ws already?")
    return w.unsqueeze(1).expand(-1, num_layers, -1)


def lerp(a: Latent, b: Latent, t: float | Float[Tensor, " step"]) -> Latent:
    """The straight line from a (t = 0) to b (t = 1); t outside 0 ... 1 extrapolates. The line to use in W.

    A row of t gives one latent per t, and a and b must then be one latent each.
    """
    t = _column(t, a, b)
    return a + t * (b - a)


def slerp(a: Latent, b: Latent, t: float | Float[Tensor, " step"]) -> Latent:
    """The arc from a to b at constant speed (Shoemake 1985); lengths change evenly. The path to use in Z.

    Normal vectors of many numbers lie near a sphere; the straight line cuts through its empty inside.
    Parallel, opposite or zero vectors have no single arc: there the straight line is taken.
    """
    t = _column(t, a, b)
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    cosine = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine.clamp_min(1e-12)
    arc = arc * (length_a + t * (length_b - length_a))
    straight = (sine < 1e-4) | (length_a < 1e-12) | (length_b < 1e-12)
    return torch.where(straight, a + t * (b - a), arc)


def mean(latents: Latent, weights: Float[Tensor, " batch"] | None = None) -> Latent:
    """The blend of several faces, as a batch of one: [batch, ...] -> [1, ...]. Weights are made to sum to one."""
    if len(latents) == 0:
        raise ShapeError("mean needs at least one latent; it was given none.")
    if weights is None:
        return latents.mean(dim=0, keepdim=True)
    if len(weights) != len(latents) or float(weights.sum()) == 0:
        raise ShapeError(f"mean needs one weight per latent, not summing to zero: {len(latents)} latents, weights {weights.tolist()}.")
    share = (weights / weights.sum()).to(latents).view(-1, *[1] * (latents.ndim - 1))
    return (share * latents).sum(dim=0, keepdim=True)


def truncate(ws: Latent, *, toward: Float[Tensor, " w"], psi: float) -> Latent:
    """Pull every latent toward the average face (Karras et al. 2019, appendix B).

    psi = 1 changes nothing, psi = 0 gives the average face; 0.7 is the usual choice.
    """
    return toward + psi * (ws - toward)


def layer_range(layers: str | int | Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Layer numbers from a name (coarse, middle, fine, all), one number or several.

    Of the 16 layers of the face generator, 0-4 are coarse (pose, shape, hair), 5-8 middle (features),
    9-15 fine (colours); other generators are cut in the same proportion (Karras et al. 2019, figure 3).
    """
    cuts = {"coarse": (0, 5), "middle": (5, 9), "fine": (9, 16), "all": (0, 16)}
    if isinstance(layers, str):
        if layers not in cuts:
            raise ShapeError(f"there are no layers called '{layers}': say {', '.join(cuts)}, or give layer numbers.")
        start, stop = (round(cut * num_layers / 16) for cut in cuts[layers])
        return tuple(range(start, stop))
    chosen = (layers,) if isinstance(layers, int) else tuple(layers)
    if not all(0 <= layer < num_layers for layer in chosen):
        raise ShapeError(f"layers {list(chosen)} do not fit a generator of {num_layers} layers: use 0 to {num_layers - 1}.")
    return chosen


def mix(base: Ws, style: Ws, layers: str | int | Iterable[int]) -> Ws:
    """Style mixing: `base`, with the named layers taken from `style` (Karras et al. 2019, section 3.1)."""
    if base.ndim != 3 or base.shape[1:] != style.shape[1:]:
        raise ShapeError(f"mix takes two ws of the same layers, [batch, layer, w]; these are {list(base.shape)} and {list(style.shape)}.")
    chosen = torch.zeros(base.shape[1], 1, dtype=torch.bool, device=base.device)
    chosen[list(layer_range(layers, base.shape[1]))] = True
    return torch.where(chosen, style, base)


def walk(stops: Latent, frames: int, *, loop: bool = False) -> Latent:
    """A smooth journey through every stop: [stop, ...] -> [frames, ...] (Catmull and Rom 1974).

    Speed and direction change smoothly at the stops. With `loop`, the last frame leads back to the first, so that
    the film can repeat for ever. For a seeded journey: `walk(generator.mapping(normal(range(5), z_dim)), 60, loop=True)`.
    """
    count = len(stops)
    if count < 2 or frames < 2:
        raise ShapeError(f"a walk needs at least two stops and two frames; it was given {count} stops and {frames} frames.")
    where = torch.linspace(0, count if loop else count - 1, frames + 1 if loop else frames, dtype=torch.float64)[:frames]
    leg = where.floor().long().clamp_max(count - 1 if loop else count - 2)
    t = (where - leg).to(stops).view(-1, *[1] * (stops.ndim - 1))

    def stop(offset: int) -> Tensor:
        if loop:
            return stops[(leg + offset) % count]
        before, after = 2 * stops[0] - stops[1], 2 * stops[-1] - stops[-2]  # mirrored ends: the path starts straight
        return torch.cat([before[None], stops, after[None]])[leg + offset + 1]

    p0, p1, p2, p3 = (stop(offset) for offset in (-1, 0, 1, 2))
    return 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)


def _column(t: float | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """t, shaped to scale latents: one number for all, or one per step of the way from one a to one b."""
    if a.shape[-1] != b.shape[-1] or a.ndim != b.ndim:
        raise ShapeError(f"two latents of one kind are needed; these are {list(a.shape)} and {list(b.shape)}.")
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)
    return t if t.ndim == 0 else t.view(-1, *[1] * (a.ndim - 1))
