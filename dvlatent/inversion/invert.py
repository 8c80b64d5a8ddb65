"""Inversion: find the latent whose picture is nearest to a photo. The generator runs backwards, by optimization. Taught in notebook 06.

    alignment, face = dvlatent.load("aligner")(images.read("me.jpg"), size_px=256)
    for step in invert(generator, face, distance=dvlatent.load("perceptual"), identity=dvlatent.load("identity")):
        print(step.index, step.loss)
    mine = step.inversion(alignment)  # keep it with mine.save("me.safetensors")

The generator's own faces lie in W, with one w for all layers. W+ gives every layer its own w (Abdal et al. 2019). W+ comes nearer to any
photo, but points far from W are hard to edit (Tov et al. 2021): `delta_weight` and `mean_weight` hold the search back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count, tee
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.faces.align import Alignment
from dvlatent.faces.perceptual import Distance
from dvlatent.inversion.optimizers import AdamConfig, QuasiNewtonConfig
from dvlatent.latents import broadcast
from dvlatent.training import autocast
from dvlatent.types import Generator, Identity, Image, Render, W, Ws, fingerprint, renderer
from dvlatent.whitening import Whitening, levels


@dataclass(frozen=True)
class InvertConfig:
    """How to search. A weight of 0 leaves its part out of the loss."""

    steps: int = 80  # pictures to draw, each with its gradient
    seconds: float | None = None  # instead of steps: finish by then, on a computer of any speed
    space: str = "w+"  # "w": one w for all layers; "w+": a w for every layer
    split_after: float = 0.3  # in W+: fraction of the steps after which every layer gets its own w
    delta_weight: float = 0.4  # pull on the w of each layer toward their mean, in W+
    mean_weight: float = 0.25  # pull on that mean toward the average face, in the end; 0.0025 suits faces that the generator drew
    initial_mean_weight: float = 2.5  # the same pull at first: near the average face, a search does not get lost
    pixel_weight: float = 12.0  # weight of the differences of pixels, at several scales, once the layers are split ...
    initial_pixel_weight: float = 3.0  # ... and before: while all layers share one w, matching colors leads astray
    perceptual_weight: float = 1.0  # weight of the perceptual distance
    identity_weight: float = 0.3  # weight of the squared identity distance
    preview: bool = True  # draw previews while all layers share one w; otherwise full renders, each as long as three previews
    bf16: bool = False  # draw in bfloat16, all but the last picture: 1.7 times as fast on a processor that is made for it
    optimizer: QuasiNewtonConfig | AdamConfig = field(default_factory=QuasiNewtonConfig)

    def __post_init__(self) -> None:
        no_time = self.seconds is not None and not self.seconds > 0
        if self.space not in ("w", "w+") or not isinstance(self.optimizer, (QuasiNewtonConfig, AdamConfig)) or self.steps < 0 or no_time:
            raise ShapeError(
                "an inversion needs space 'w' or 'w+', a QuasiNewtonConfig or AdamConfig, 0 steps or more and seconds above 0; "
                f"given: {self.space!r}, {self.optimizer!r}, {self.steps} steps, seconds {self.seconds}."
            )
        if negative := [name for name, value in vars(self).items() if name.endswith("_weight") and value < 0]:
            raise ShapeError(f"{', '.join(negative)} of an inversion must not be negative: use 0 to leave a part out.")

    @property
    def split_at(self) -> float:
        """The progress at which every layer gets its own w; beyond 1 in W."""
        return self.split_after if self.space == "w+" else 2.0

    def weights(self, split: bool) -> dict[str, float]:
        """The weight of every part of the loss, before or after the split; `mean` as it is in the end."""
        pixels = self.pixel_weight if split else self.initial_pixel_weight
        compared = {"pixels": pixels, "perceptual": self.perceptual_weight, "identity": self.identity_weight}
        return {**compared, "delta": self.delta_weight, "mean": self.mean_weight}

    def mean_weight_at(self, progress: float) -> float:
        """The pull toward the average face: it falls from `initial_mean_weight` to `mean_weight` by a constant factor a step."""
        until = 0.8 * min(self.split_at, 1.0)
        left = max(0.0, 1 - progress / until) if until else 0.0
        return self.mean_weight and self.mean_weight * max(1.0, self.initial_mean_weight / self.mean_weight) ** left

    def l2(self, progress: float, split: bool, point: Float[Tensor, "row w"]) -> Float[Tensor, "row 1"]:
        """Both pulls as the optimizer needs them: l2 / 2 times the square of a coordinate. Row 0 of a point is shared by all layers."""
        layers, w_dim = len(point) - 1, point.shape[1]
        l2 = point.new_full((1 + layers, 1), split * 2 * self.delta_weight / layers / w_dim)
        l2[0] = 2 * self.mean_weight_at(progress) / w_dim
        return l2

    def schedule(self) -> Iterator[float]:
        """The progress at every step, by number or by the clock: from 0 to 1."""
        began, progress = time.monotonic(), 0.0
        for index in count():
            if self.seconds:
                progress = min((time.monotonic() - began) / self.seconds, 1.0)
            else:
                progress = index / self.steps if self.steps else 1.0
            yield progress
            if progress == 1:
                return


@dataclass(frozen=True, eq=False)
class InvertStep:
    """The state of a search: ws, their picture, and how far it is from the photo."""

    index: int  # 0 is the start; the last step is the result, the best point of all
    progress: float  # 0 at the start, 1 at the end
    ws: Ws  # [batch, layer, w]
    image: Image  # the picture of ws: a preview, or a full render reduced to its size
    loss: Float[Tensor, " batch"]  # what the search makes small, with the weights of the end, so that all steps compare
    parts: Mapping[str, Float[Tensor, " batch"]]  # of the loss, before their weights: pixels, perceptual, identity, delta, mean
    losses: Float[Tensor, "step batch"]  # of every step so far
    config: InvertConfig
    generator: str  # fingerprint of the generator

    def inversion(self, alignment: Alignment | None = None, row: int = 0) -> Inversion:
        """This step as a value to keep, for one photo of the batch; `alignment` says where the face lies in the whole photo."""
        config = {**vars(self.config), "optimizer": repr(self.config.optimizer)}
        return Inversion(self.ws[row : row + 1].clone(), self.losses[:, row], self.generator, alignment, config)


def invert(
    generator: Generator,
    photo: Image,
    config: InvertConfig | None = None,
    *,
    distance: Distance | None = None,
    identity: Identity | None = None,
    start: W | Ws | None = None,
) -> Iterator[InvertStep]:
    """Search for the ws whose pictures look like the photos: aligned faces, [batch, 3, size, size] in [-1, 1].

    `distance` tells how different pictures look, `identity` describes people; without one of them its part is left out. The search starts
    at the average face, or at `start`: one w or ws for each photo, or one for all. Every photo is searched for by itself, as if alone.
    Raises ShapeError for a photo or start of the wrong shape, TrainingDiverged for a loss that is not finite.
    """
    config = config or InvertConfig()
    start = _start(generator, len(checked(photo)), start)
    draw, _ = renderer(generator, None if config.preview else generator.synthesis)
    with torch.no_grad():
        size_px = draw(start[:1]).shape[-1]
    distance, identity = distance if config.perceptual_weight else None, identity if config.identity_weight else None
    targets = [Target(images.resize(one.to(start), size_px), distance, identity) for one in photo.split(1)]
    whitening, schedules = Whitening.of(generator), tee(config.schedule(), len(photo))  # one clock for all
    tasks = zip(targets, start.split(1), schedules, strict=True)
    searches = [_search(generator, draw, whitening, *task, config) for task in tasks]
    for steps in zip(*searches, strict=True):
        yield _batch(steps)


def _search(
    generator: Generator, draw: Render, whitening: Whitening, target: Target, start: Ws, schedule: Iterator[float], config: InvertConfig
) -> Iterator[InvertStep]:
    """The search for one photo.

    It draws by `draw` in W and full renders in W+. In W+ a preview only imitates the last layers: a search through previews finds ws
    whose preview is the photo and whose full render is not (2 to 3 dB and a tint away from it).
    """
    begin = torch.cat(whitening.coordinates(start), dim=1)[0]  # [1 + layer, w]: what all layers share, then what each adds
    optimizer = config.optimizer.start(begin, torch.cat([whitening.shared[None], whitening.layers]))
    final, losses, split, name = config.weights(config.space == "w+"), [], False, fingerprint(generator)
    for index, progress in enumerate(schedule):
        if split != (split := progress >= config.split_at):
            optimizer.forget()  # from now on the objective is another one
        searching, weights = progress < 1, config.weights(split)
        point = optimizer.ask(progress).requires_grad_(searching)
        with torch.set_grad_enabled(searching):
            ws = whitening.ws(point[None, :1] + point[None, 1:])  # [1, layer, w]
            with autocast(ws.device, config.bf16 and searching):
                image = generator.synthesis(ws) if split else draw(ws)
            image = images.resize(image.to(ws), target.size_px)
            parts = target.parts(image)
            value = sum(weights[key] * part for key, part in parts.items())
        parts |= {"delta": point[None, 1:].square().mean(dim=(1, 2)), "mean": point[None, 0].square().mean(dim=1)}
        parts = {key: part.detach() for key, part in parts.items()}
        loss = sum(final[key] * part for key, part in parts.items())
        if not torch.isfinite(loss).all():
            raise TrainingDiverged(
                f"the inversion broke at step {index}: its loss is {loss.item()}. Check that the photo and the start hold finite numbers; "
                "with Adam, lower the learning rate."
            )
        if searching:
            (gradient,) = torch.autograd.grad(value, point)
            gradient[1:] *= split  # before the split only what all layers share moves
            optimizer.tell(value.item(), gradient, config.l2(progress, split, point))
        losses.append(loss)
        yield InvertStep(index, progress, ws.detach(), image.detach(), loss, parts, torch.stack(losses), config, name)


def _batch(steps: Sequence[InvertStep]) -> InvertStep:
    """The same step of several searches as one value."""
    ws, image, loss = (torch.cat([getattr(step, name) for step in steps]) for name in ("ws", "image", "loss"))
    parts = {name: torch.cat([step.parts[name] for step in steps]) for name in steps[0].parts}
    return replace(steps[0], ws=ws, image=image, loss=loss, parts=parts, losses=torch.cat([step.losses for step in steps], dim=1))


class Target:
    """A photo with its features, computed once: every picture is compared with it."""

    def __init__(self, photo: Image, distance: Distance | None, identity: Identity | None) -> None:
        self.size_px, self.distance, self.identity = photo.shape[-1], distance, identity
        with torch.no_grad():
            self.levels = levels(photo)
            self.features = distance.features(photo) if distance else None
            self.person = identity(photo) if identity else None

    def parts(self, picture: Image) -> dict[str, Float[Tensor, " batch"]]:
        """How far a picture of the photo's size is from the photo, in each way that counts."""
        pairs = zip(levels(picture), self.levels, strict=True)
        parts = {"pixels": torch.stack([(a - b).square().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)}
        if self.distance:
            parts["perceptual"] = self.distance(picture, self.features)
        if self.identity:
            parts["identity"] = (self.identity(picture) - self.person).square().sum(dim=1)
        return parts


def checked(photo: Image) -> Image:
    """The aligned faces themselves. Raises ShapeError for anything else."""
    if photo.ndim != 4 or photo.shape[1] != 3 or photo.shape[2] != photo.shape[3] or 0 in photo.shape or not photo.is_floating_point():
        raise ShapeError(
            f"aligned faces were needed, [batch, 3, size, size] of floats in [-1, 1]; this is {photo.dtype} of shape {list(photo.shape)}. "
            "Align a photo first: alignment, face = dvlatent.load('aligner')(photo)."
        )
    if not torch.isfinite(photo).all():
        raise ShapeError("the photo holds NaN or infinite numbers. Read it again with images.read.")
    return photo.detach()


def _start(generator: Generator, photos: int, start: W | Ws | None) -> Ws:
    """Where to begin: a copy, [photo, layer, w]."""
    ws = generator.w_mean[None] if start is None else start.detach().to(generator.w_mean)
    ws = broadcast(ws, generator.num_layers) if ws.ndim == 2 else ws
    if tuple(ws.shape[1:]) != (generator.num_layers, generator.w_dim) or len(ws) not in (1, photos) or not torch.isfinite(ws).all():
        raise ShapeError(
            f"start is one w, [batch, {generator.w_dim}], or ws, [batch, {generator.num_layers}, {generator.w_dim}], of finite numbers for "
            f"each of {photos} photos, or one for all; this has shape {list(start.shape)}. Give what an encoder or another inversion found."
        )
    return ws.expand(photos, -1, -1).clone()


@dataclass(frozen=True, eq=False)
class Inversion:
    """The ws of one photo, with all that is needed to draw it again and to paste it back; kept in a small file."""

    ws: Ws  # [1, layer, w]
    history: Float[Tensor, " step"]  # the loss at every step
    generator: str  # fingerprint of the generator
    alignment: Alignment | None = None  # where the face lies in its photo
    config: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  # how it was found

    def check(self, generator: Generator) -> None:
        """Raise DirectionMismatch unless these ws belong to this generator."""
        shape = (1, generator.num_layers, generator.w_dim)
        if tuple(self.ws.shape) != shape or self.generator != fingerprint(generator):
            raise DirectionMismatch(
                f"this inversion has ws {list(self.ws.shape)} of generator {self.generator}; this generator is {fingerprint(generator)} "
                f"with ws {list(shape)}. Load the generator it was found on, or invert the photo again on this one."
            )

    def save(self, path: Path | str) -> None:
        """Write a .safetensors file, exact to the bit. Raises CheckpointError as `checkpoint.save` does."""
        description = {"kind": "inversion", "generator": self.generator, "config": dict(self.config)}
        description["alignment"] = asdict(self.alignment) if self.alignment else None
        checkpoint.save(path, {"ws": self.ws.float(), "history": self.history.float()}, description)

    @classmethod
    def load(cls, path: Path | str) -> Inversion:
        """Read what `save` wrote. Nothing in the file is run. Raises CheckpointError if it is missing, broken or something else."""
        tensors, description = checkpoint.load(path, "inversion")
        try:
            ws, history = checkpoint.floats(tensors, "ws", 1, None, None), checkpoint.floats(tensors, "history", None)
            alignment = None if description["alignment"] is None else Alignment(**description["alignment"])
            return cls(ws, history, str(description["generator"]), alignment, dict(description["config"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is no complete inversion: {error}. Give a file that `dvlatent invert` wrote.") from error
