"""Generator tuning: bend the generator a little around one found face, until it draws the photo (Roich et al. 2021). Taught in notebook 06.

Inversion moves the point and leaves the generator; what no point can draw stays lost: a mole, a hat, the room. Tuning keeps the point,
where edits work, and moves the generator. It is done on a copy, and what changed is kept as a small file of low-rank differences.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.faces.perceptual import Distance
from dvlatent.inversion.invert import Target, checked
from dvlatent.latents import broadcast, normal
from dvlatent.types import Generator, Identity, Image, Ws, fingerprint, renderer


@dataclass(frozen=True)
class TuneConfig:
    """How to tune. A weight of 0 leaves its part of the loss out."""

    steps: int = 40  # optimiser steps
    lr: float = 1.5e-3  # of Adam, in root-mean-squares of each weight
    tunes: str = r"blocks\.\d+\.conv\d\.(weight|depthwise|bias)"  # names of the parameters that may change, as a regular expression
    rank: int = 32  # of what is kept of each weight's difference
    locality: float = 1.0  # how strongly nearby faces must stay as they were (Roich et al. 2021, equation 5); 0 saves time
    every: int = 4  # steps between two looks at a nearby face
    away: float = 5.0  # how far away it lies, in W
    pixels: float = 2.0  # weight of the differences of pixels, at several scales
    perceptual: float = 1.0  # weight of how different the pictures look
    identity: float = 0.1  # weight of how far apart the people are
    preview: bool = False  # look at previews, three times quicker; the full render then follows less
    seed: int = 0  # of the nearby faces

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rank < 1 or self.every < 1 or not self.lr > 0:
            raise ShapeError(
                f"tuning needs no negative number of steps, a rank and an interval of 1 or more and a rate above 0; given: {self.steps} "
                f"steps, rank {self.rank}, every {self.every}, rate {self.rate}."
            )


@dataclass(frozen=True, eq=False)
class Tuning:
    """How a tuned generator differs from the original: for each parameter two factors, or the plain difference of a small one."""

    difference: Mapping[str, Tensor]  # float16; "NAME" or "NAME.left" [rows, rank] and "NAME.right" [rank, columns]
    generator: str  # fingerprint of the original
    config: Mapping[str, Any]  # how it was found

    @property
    def nbytes(self) -> int:
        """Bytes of the differences."""
        return sum(part.nbytes for part in self.difference.values())

    def apply(self, generator: Generator) -> Any:
        """A tuned copy of the generator, which stays as it is. Tuned by full renders it has no preview any more.

        Raises DirectionMismatch for another generator.
        """
        parameters = dict(generator.named_parameters())
        names = {name.removesuffix(".left").removesuffix(".right") for name in self.difference}
        if self.generator != fingerprint(generator) or not names <= set(parameters):
            raise DirectionMismatch(
                f"this tuning belongs to generator {self.generator}; this is {fingerprint(generator)}. Load the one that was tuned."
            )
        tuned = copy.deepcopy(generator)
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if name in names:
                    parameter += self._whole(name, parameter)
        if self.config.get("preview") is False and hasattr(tuned, "preview_head"):
            tuned.preview_head = None  # it reads features as they were before
        return tuned

    def _whole(self, name: str, like: Tensor) -> Tensor:
        parts = [self.difference[part].to(like) for part in (name, f"{name}.left", f"{name}.right") if part in self.difference]
        whole = parts[0] if len(parts) == 1 else parts[0] @ parts[1]
        if whole.numel() != like.numel():
            raise DirectionMismatch(f"this tuning changes {whole.numel()} numbers of {name}, which has {like.numel()}. Tune again.")
        return whole.view_as(like)

    def save(self, path: Path | str) -> None:
        """Write a .safetensors file; it appears whole or not at all."""
        checkpoint.save(path, dict(self.difference), {"kind": "tuning", "generator": self.generator, "config": dict(self.config)})

    @classmethod
    def load(cls, path: Path | str) -> Tuning:
        """Read what `save` wrote. Raises CheckpointError for anything else."""
        tensors, description = checkpoint.load(path, "tuning")
        try:
            whole = {name: tensor.half() for name, tensor in tensors.items()}
            if not all(torch.isfinite(tensor).all() for tensor in whole.values()):
                raise ValueError("it holds numbers that are not finite")
            return cls(whole, str(description["generator"]), dict(description["config"]))
        except (KeyError, TypeError, ValueError) as reason:
            raise CheckpointError(f"{path} is no whole tuning ({reason}). Tune again.") from reason


@dataclass(frozen=True, eq=False)
class TuneStep:
    """Where the tuning is: what the tuned generator makes of ws now."""

    index: int  # 0 is the generator as it was; the last step is the result
    image: Image  # the full render or preview, no larger than the photo
    loss: Float[Tensor, " batch"]
    parts: Mapping[str, Float[Tensor, " batch"]]  # what it consists of, before the weights
    config: TuneConfig
    original: Generator
    tuned: Generator  # goes on changing with the next step

    def tuning(self) -> Tuning:
        """What changed, as small as `config.rank` makes it: `step.tuning().apply(generator)` is the tuned generator to use."""
        before, kept = dict(self.original.named_parameters()), {}
        for name, now in self.tuned.named_parameters():
            change = (now - before[name]).detach()
            if not re.fullmatch(self.config.tunes, name) or not change.any():
                continue
            if change.ndim == 2 and self.config.rank * sum(change.shape) < change.numel():
                left, sizes, right = torch.linalg.svd(change, full_matrices=False)
                root = sizes[: self.config.rank].sqrt()
                kept[f"{name}.left"], kept[f"{name}.right"] = left[:, : len(root)] * root, root[:, None] * right[: len(root)]
            else:
                kept[name] = change.clone()
        return Tuning({name: part.half().cpu() for name, part in kept.items()}, fingerprint(self.original), asdict(self.config))


def tune(
    generator: Generator,
    photo: Image,
    ws: Ws,
    config: TuneConfig | None = None,
    *,
    distance: Distance | None = None,
    identity: Identity | None = None,
) -> Iterator[TuneStep]:
    """Bend a copy of the generator until `ws`, which an inversion found, draws the photo: an aligned face, [1, 3, size, size] in [-1, 1].

    Raises ShapeError for what is no single face, or a generator without the parameters to tune; TrainingDiverged when it breaks.
    """
    config = config or TuneConfig()
    if len(checked(photo)) != 1 or tuple(ws.shape) != (1, generator.num_layers, generator.w_dim):
        raise ShapeError(f"a generator is tuned to one photo and its ws; these are {len(photo)} photos and ws {list(ws.shape)}. Take [:1].")
    tuned, ws = copy.deepcopy(generator), ws.detach()
    named = tuned.named_parameters() if isinstance(tuned, nn.Module) else ()
    chosen = [parameter.requires_grad_() for name, parameter in named if re.fullmatch(config.tunes, name)]
    if not chosen:
        raise ShapeError(f"no parameter of this generator is called '{config.tunes}': say in TuneConfig(tunes=...) which may change.")
    whole = [renderer(one, None if config.preview else one.synthesis)[0] for one in (tuned, generator)]
    with torch.no_grad():
        size_px = min(photo.shape[-1], whole[1](ws).shape[-1])
    draw, before = (lambda some, render=render: images.resize(render(some), size_px) for render in whole)
    target = Target(images.resize(photo.to(ws), size_px), config, distance, identity)
    groups = [{"params": [parameter], "size": float(parameter.detach().square().mean().sqrt()) or 1.0} for parameter in chosen]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
    for index in count():
        left = 1 - index / config.steps if config.steps else 0.0
        with torch.set_grad_enabled(left > 0):
            adam.zero_grad()
            picture = draw(ws)
            parts = target.parts(picture)
            loss = sum((getattr(config, name) * part for name, part in parts.items()), picture.new_zeros(1))
            if not torch.isfinite(loss).all():
                raise TrainingDiverged(f"tuning broke at step {index}: its loss is {loss.item()}. Lower the rate ({config.rate}).")
            if left > 0:
                loss.sum().backward()
                if config.locality and index % config.every == 0:
                    near = _nearby(generator, ws, config.seed + index, config.away)
                    with torch.no_grad():
                        was = before(near)
                    (config.locality * config.every * _apart(draw(near), was, distance)).backward()
        yield TuneStep(index, picture.detach(), loss.detach(), {n: p.detach() for n, p in parts.items()}, config, generator, tuned)
        if left <= 0:
            return
        for group in adam.param_groups:
            group["lr"] = config.lr * group["size"] * min(1.0, (index + 1) / 5, 2 * left)
        adam.step()


def _nearby(generator: Generator, ws: Ws, seed: int, away: float) -> Ws:
    """A face not far from ws, toward that of a seed (Roich et al. 2021, equation 4)."""
    toward = broadcast(generator.mapping(normal(seed, generator.z_dim).to(ws)), generator.num_layers) - ws
    return ws + away * toward / toward.norm(dim=-1, keepdim=True)


def _apart(now: Image, before: Image, distance: Distance | None) -> Tensor:
    pixels = (now - before).square().mean()
    return pixels + distance(now, before).mean() if distance else pixels
