"""Pivotal tuning: change the generator a little around one found face, until it draws the photo (Roich et al. 2021). Taught in notebook 06.

Inversion moves the point and keeps the generator; what the generator cannot draw anywhere is lost: a mole, a hat, the room. Tuning keeps
the point, where edits work, and changes the weights of a copy of the generator.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import images
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.faces.perceptual import Distance
from dvlatent.inversion.invert import Target, checked
from dvlatent.latents import broadcast, normal
from dvlatent.types import Generator, Identity, Image, Ws, renderer


@dataclass(frozen=True)
class TuneConfig:
    """How to tune. A weight of 0 leaves its part out of the loss."""

    steps: int = 40  # optimizer steps
    lr: float = 1.5e-3  # Adam's learning rate at its highest, as a fraction of each parameter's root mean square
    parameters: str = r"blocks\.\d+\.conv\d\.(weight|depthwise|bias)"  # names of the parameters that may change, a regular expression
    pixel_weight: float = 2.0  # weight of the differences of pixels, at several scales
    perceptual_weight: float = 1.0  # weight of the perceptual distance
    identity_weight: float = 0.1  # weight of the squared identity distance
    locality_weight: float = 1.0  # how strongly nearby faces must stay as they were (Roich et al. 2021, equation 5); 0 saves time
    locality_every: int = 4  # steps between two nearby faces
    locality_radius: float = 5.0  # distance of the nearby faces, in W
    preview: bool = False  # draw previews, three times as fast; the full render then follows a little less
    seed: int = 0  # of the nearby faces

    def __post_init__(self) -> None:
        if self.steps < 0 or self.locality_every < 1 or not self.lr > 0:
            raise ShapeError(
                "tuning needs 0 steps or more, a step or more between nearby faces and a learning rate above 0; given: "
                f"{self.steps} steps, locality_every {self.locality_every}, lr {self.lr}."
            )


@dataclass(frozen=True, eq=False)
class TuneStep:
    """The state of a tuning: what the tuned generator makes of ws."""

    index: int  # 0 is the generator as it was; the last step is the result
    image: Image  # the full render or preview, no larger than the photo
    loss: Float[Tensor, " batch"]
    parts: Mapping[str, Float[Tensor, " batch"]]  # of the loss, before their weights: pixels, perceptual, identity
    tuned: Generator  # a copy that changes with every step; after full renders it has no preview, which reads features as they were


def tune(
    generator: Generator,
    photo: Image,
    ws: Ws,
    config: TuneConfig | None = None,
    *,
    distance: Distance | None = None,
    identity: Identity | None = None,
) -> Iterator[TuneStep]:
    """Tune a copy of the generator until `ws`, which an inversion found, draws the photo: an aligned face, [1, 3, size, size] in [-1, 1].

    Raises ShapeError for more than one face, or a generator without parameters to tune; TrainingDiverged for a loss that is not finite.
    """
    config = config or TuneConfig()
    if len(checked(photo)) != 1 or tuple(ws.shape) != (1, generator.num_layers, generator.w_dim):
        raise ShapeError(f"a generator is tuned to one photo and its ws; these are {len(photo)} photos and ws {list(ws.shape)}. Take [:1].")
    tuned, ws = copy.deepcopy(generator), ws.detach()
    named = tuned.named_parameters() if isinstance(tuned, nn.Module) else ()
    chosen = [parameter.requires_grad_() for name, parameter in named if re.fullmatch(config.parameters, name)]
    if not chosen:
        raise ShapeError(f"no parameter of this generator matches '{config.parameters}': say which may change, TuneConfig(parameters=...).")
    draw, draw_before = (renderer(one, None if config.preview else one.synthesis)[0] for one in (tuned, generator))
    if not config.preview and hasattr(tuned, "preview_head"):
        tuned.preview_head = None
    with torch.no_grad():
        size_px = min(photo.shape[-1], draw_before(ws).shape[-1])
    distance, identity = distance if config.perceptual_weight else None, identity if config.identity_weight else None
    target = Target(images.resize(photo.to(ws), size_px), distance, identity)
    weights = {"pixels": config.pixel_weight, "perceptual": config.perceptual_weight, "identity": config.identity_weight}
    sizes = [float(parameter.detach().square().mean().sqrt()) or 1.0 for parameter in chosen]
    adam = torch.optim.Adam([{"params": [parameter]} for parameter in chosen], betas=(0.9, 0.99))
    for index in range(config.steps + 1):
        if index == config.steps:
            tuned.requires_grad_(False)
        with torch.set_grad_enabled(index < config.steps):
            image = images.resize(draw(ws), size_px)
            parts = target.parts(image)
            loss = sum(weights[name] * part for name, part in parts.items())
            if not torch.isfinite(loss).all():
                raise TrainingDiverged(f"tuning broke at step {index}: its loss is {loss.item()}. Lower the learning rate ({config.lr}).")
            if index < config.steps:
                adam.zero_grad()
                loss.sum().backward()
                if config.locality_weight and index % config.locality_every == 0:
                    near = _nearby(generator, ws, config.seed + index, config.locality_radius)
                    with torch.no_grad():
                        before = images.resize(draw_before(near), size_px)
                    difference = _difference(images.resize(draw(near), size_px), before, distance)
                    (config.locality_weight * config.locality_every * difference).backward()
        yield TuneStep(index, image.detach(), loss.detach(), {name: part.detach() for name, part in parts.items()}, tuned)
        if index < config.steps:
            for group, size in zip(adam.param_groups, sizes, strict=True):
                group["lr"] = config.lr * size * min(1.0, (index + 1) / 5, 2 * (1 - index / config.steps))
            adam.step()


def _nearby(generator: Generator, ws: Ws, seed: int, radius: float) -> Ws:
    """A face near ws, in the direction of a seed's face (Roich et al. 2021, equation 4)."""
    toward = broadcast(generator.mapping(normal(seed, generator.z_dim).to(ws)), generator.num_layers) - ws
    return ws + radius * toward / toward.norm(dim=-1, keepdim=True)


def _difference(image: Image, other: Image, distance: Distance | None) -> Tensor:
    """Squared difference of pixels plus perceptual distance: one number."""
    pixels = (image - other).square().mean()
    return pixels + distance(image, other).mean() if distance else pixels
