"""Inversion: find the latent whose picture is nearest to a photo. The generator run backwards, by optimisation. Taught in notebook 06.

    alignment, face = dvlatent.load("aligner")(images.read("me.jpg"), size_px=256)
    for step in invert(generator, face, distance=dvlatent.load("perceptual"), identity=dvlatent.load("identity")):
        print(step.index, step.loss)
    mine = step.inversion(alignment)  # keep it with mine.save("me.npz")

W is where the generator's own faces live; W+ gives every layer a w of its own (Abdal et al. 2019). W+ comes nearer to any photo, and what
lies far from W edits badly (Tov et al. 2021): `together` and `centre` say how hard the answer is held back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.faces.align import Alignment
from dvlatent.faces.perceptual import Distance
from dvlatent.inversion.inversion import Inversion
from dvlatent.inversion.optimizers import Adam, QuasiNewton
from dvlatent.latents import broadcast
from dvlatent.types import Generator, Identity, Image, W, Ws, fingerprint, renderer
from dvlatent.whitening import Whitening, levels


@dataclass(frozen=True)
class InvertConfig:
    """How to search. A weight of 0 leaves its part of the loss out."""

    steps: int = 80  # looks at a picture, each with its gradient
    seconds: float | None = None  # instead of steps: be done by then, however fast the computer is
    space: str = "w+"  # "w": one w for all layers; "w+": a w for every layer
    apart: float = 0.3  # share of the steps after which the layers may part, in W+
    together: float = 0.4  # how strongly the w's of the layers are drawn to each other, in W+
    centre: float = 0.25  # how strongly their mean is drawn to the average face, in the end; 0.0025 suits faces it drew itself
    centre_first: float = 2.5  # and at first: whoever starts near the average face does not get lost
    pixels: float = 12.0  # weight of the differences of pixels, at several scales, once the layers part ...
    pixels_first: float = 3.0  # ... and while all share one w: there, colours that fit lead astray
    perceptual: float = 1.0  # weight of how different the pictures look
    identity: float = 0.3  # weight of how far apart the people are
    preview: bool = True  # look at quick previews while all layers share one w; otherwise at full renders, each as long as three
    rounded: bool = False  # draw in bfloat16, all but the last picture: 1.7 times as fast on a processor made for it
    optimizer: str = "quasi-newton"  # or "adam", which alone uses what follows
    lr: float = 0.2  # of Adam, in standard deviations of the population
    ramp_up: float = 0.05  # share of the steps in which the rate grows from 0
    ramp_down: float = 0.5  # share of the steps, at the end, in which it falls to 0 again
    noise: float = 0.05  # added to w at first, in standard deviations, so that the search does not stick early
    noise_until: float = 0.3  # share of the steps by which the noise is gone
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        timeless = self.seconds is not None and not self.seconds > 0
        unknown = self.space not in ("w", "w+") or self.optimizer not in ("quasi-newton", "adam")
        if unknown or self.steps < 0 or not self.lr > 0 or timeless:
            raise ShapeError(
                "an inversion needs space 'w' or 'w+', optimiser 'quasi-newton' or 'adam', no negative number of steps, a rate and seconds "
                f"above 0; given: {self.space!r}, {self.optimiser!r}, {self.steps} steps, rate {self.rate}, seconds {self.seconds}."
            )
        pulls = self.together, self.centre, self.centre_first
        if min(self.pixels, self.pixels_first, self.perceptual, self.identity, *pulls, self.noise) < 0:
            raise ShapeError("a weight of an inversion is negative: use 0 to leave a part out.")

    @property
    def parted(self) -> float:
        """The share of the steps after which each layer has a w of its own; beyond 1 in W."""
        return self.apart if self.space == "w+" else 2.0

    def weights(self, parted: bool) -> dict[str, float]:
        """Of every part of the loss, while all layers share one w or once they have parted; `centre` as it is in the end."""
        pixels = self.pixels if parted else self.pixels_first
        seen = {"pixels": pixels, "perceptual": self.perceptual, "identity": self.identity}
        return {**seen, "together": self.together, "centre": self.centre}

    def centre_at(self, progress: float) -> float:
        """How strongly the average face draws: from `centre_first` down to `centre`, a constant share less at every step."""
        soon = 0.8 * min(self.parted, 1.0)  # the share of the steps by which it is down
        left = max(0.0, 1 - progress / soon) if soon else 0.0
        return self.centre and self.centre * max(1.0, self.centre_first / self.centre) ** left

    def lr_at(self, progress: float) -> float:
        """The learning rate: up, level, and down to 0."""
        return self.lr * min(1.0, progress / max(self.ramp_up, 1e-3) + 0.1, (1 - progress) / max(self.ramp_down, 1e-3))

    def noise_at(self, progress: float) -> float:
        """How much noise is added (Karras et al. 2020, appendix D): falling to 0."""
        return (self.optimizer == "adam") * self.noise * max(0.0, 1 - progress / max(self.noise_until, 1e-3)) ** 2


@dataclass(frozen=True, eq=False)
class Step:
    """Where the search is: the picture of `ws`, and how far it is from the photo."""

    index: int  # 0 is the start; the last step is the result, the best point on the way
    progress: float  # 0 at the start, 1 at the end
    ws: Ws  # [batch, layer, w]
    image: Image  # what ws looks like: the preview, or the full render brought to its size
    loss: Float[Tensor, " batch"]  # what is made small, by the weights of the end, so that all steps compare
    parts: Mapping[str, Float[Tensor, " batch"]]  # what it consists of, before the weights
    config: InvertConfig
    generator: str  # fingerprint of the generator
    losses: tuple[Float[Tensor, " batch"], ...]  # of every step so far

    def inversion(self, alignment: Alignment | None = None, row: int = 0) -> Inversion:
        """This step as a value to keep: the photo of one row of the batch, and where its face lies in the whole photo."""
        history = torch.stack(self.losses)[:, row]
        return Inversion(self.ws[row : row + 1].clone(), history, self.generator, alignment, vars(self.config).copy())


def invert(
    generator: Generator,
    photo: Image,
    config: InvertConfig | None = None,
    *,
    distance: Distance | None = None,
    identity: Identity | None = None,
    start: W | Ws | None = None,
) -> Iterator[Step]:
    """Search for the ws whose pictures look like the photos: aligned faces, [batch, 3, size, size] in [-1, 1].

    `distance` is how different pictures look, `identity` describes people; without them those parts are left out. It starts at the
    average face, or at `start`: one w, or ws, for each photo. Every photo of a batch is searched for by itself: alone it gives the same.
    Raises ShapeError for what is no aligned face, TrainingDiverged as soon as a number is none.
    """
    config, name_of = config or InvertConfig(), fingerprint(generator)
    look, space = Look(generator, config), Whitening.of(generator)
    began_at = torch.cat(space.coordinates(_start(generator, len(checked(photo)), start)), dim=1)  # [photo, 1 + layer, w]
    kind = Adam if config.optimizer == "adam" else QuasiNewton
    optimizers = [kind(one, torch.cat([space.shared[None], space.layers])) for one in began_at]
    targets = [Target(images.resize(one.to(began_at), look.size_px), config, distance, identity) for one in photo.split(1)]
    last = config.weights(config.space == "w+")
    rng, losses, began, parted = torch.Generator().manual_seed(config.seed), [], time.monotonic(), False
    for index in count():
        spent = (time.monotonic() - began) / config.seconds if config.seconds else index / config.steps if config.steps else 1.0
        progress = min(spent, 1.0)
        noise = config.noise_at(progress) * torch.randn(1, 1, generator.w_dim, generator=rng).to(began_at)
        if parted != (parted := progress >= config.parted):
            for optimizer in optimizers:
                optimizer.forget()  # what is looked at changes, and what may move
        pulls = began_at.new_full((1 + generator.num_layers, 1), parted * 2 * config.together / generator.num_layers / generator.w_dim)
        pulls[0] = 2 * config.centre_at(progress) / generator.w_dim  # the curvature of both pulls
        weights = config.weights(parted)
        rows = []
        for row, (optimizer, target) in enumerate(zip(optimizers, targets, strict=True)):  # one after the other: no photo feels its neighbours
            here = (optimizer.trial if progress < 1 else optimizer.best).clone().requires_grad_(progress < 1)
            with torch.set_grad_enabled(progress < 1):
                ws = space.ws(here[None, :1] + here[None, 1:] + noise)
                picture = look(ws, progress)
                parts = target.parts(picture)
                seen = sum(weights[name] * part for name, part in parts.items())
                pulled = {"together": here[None, 1:].square().mean(dim=(1, 2)), "centre": here[None, 0].square().mean(dim=1)}
            loss = sum(last[name] * part.detach() for name, part in {**parts, **pulled}.items())
            if not torch.isfinite(loss).all():
                raise TrainingDiverged(
                    f"the inversion broke at step {index}, photo {row}: its loss is {loss.item()}. See whether the photo or the start "
                    f"holds numbers that are not finite; with Adam, lower the rate ({config.rate})."
                )
            if progress < 1:
                (slope,) = torch.autograd.grad(seen, here)
                slope[1:] *= parted
                optimizer.tell(float(seen.detach()), slope, pulls, config.lr_at(progress))
            rows.append([part.detach() for part in (ws, picture, loss, *parts.values(), *pulled.values())])
        ws, picture, loss, *values = (torch.cat(column) for column in zip(*rows, strict=True))
        losses.append(loss)
        yield Step(index, progress, ws, picture, loss, dict(zip([*parts, *pulled], values, strict=True)), config, name_of, tuple(losses))
        if progress == 1:
            return


class Look:
    """What is looked at: previews in W, full renders in W+.

    In W a preview is what the full render becomes. In W+ that ends: the preview only imitates the work of the last layers, and a search
    through it finds ws whose preview is the photo and whose full render is not (2 to 3 dB and a tint apart).
    """

    def __init__(self, generator: Generator, config: InvertConfig) -> None:
        self.quick, kind = renderer(generator, None if config.preview else generator.synthesis)
        self.full, self.until, self.rounded = generator.synthesis, config.parted if kind == "preview" else 0.0, config.rounded
        with torch.no_grad():
            self.size_px = self.quick(broadcast(generator.w_mean[None], generator.num_layers)).shape[-1]

    def __call__(self, ws: Ws, progress: float) -> Image:
        """The picture of ws; full renders are brought to the size of previews."""
        with torch.autocast(ws.device.type, torch.bfloat16, enabled=self.rounded and progress < 1):
            picture = self.quick(ws) if progress < self.until else self.full(ws)
        return picture.to(ws) if progress < self.until else images.resize(picture.to(ws), self.size_px)


class Target:
    """A photo, looked at once: what every picture is compared with."""

    def __init__(self, photo: Image, config: InvertConfig, distance: Distance | None, identity: Identity | None) -> None:
        with torch.no_grad():
            self.levels = levels(photo) if config.pixels or config.pixels_first else []
            self.seen = distance.features(photo) if distance and config.perceptual else None
            self.person = identity(photo) if identity and config.identity else None
        self.distance, self.identity = distance, identity

    def parts(self, picture: Image) -> dict[str, Float[Tensor, " batch"]]:
        """How far a picture is from the photo, in each way that counts."""
        parts = {}
        if self.levels:
            pairs = zip(levels(picture), self.levels, strict=True)
            parts["pixels"] = torch.stack([(a - b).square().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)
        if self.seen:
            parts["perceptual"] = self.distance(picture, self.seen)
        if self.person is not None:
            parts["identity"] = (self.identity(picture) - self.person).square().sum(dim=1)
        return parts


def _start(generator: Generator, photos: int, start: W | Ws | None) -> Ws:
    """A copy of where to begin: [photo, layer, w]."""
    ws = generator.w_mean[None] if start is None else start.detach().to(generator.w_mean)
    ws = broadcast(ws, generator.num_layers) if ws.ndim == 2 else ws
    if tuple(ws.shape[1:]) != (generator.num_layers, generator.w_dim) or len(ws) not in (1, photos) or not torch.isfinite(ws).all():
        raise ShapeError(
            f"start is one w, [batch, {generator.w_dim}], or ws, [batch, {generator.num_layers}, {generator.w_dim}], of finite numbers for "
            f"each of {photos} photos, or one for all; this has shape {list(start.shape)}. Give what an encoder or another inversion found."
        )
    return ws.expand(photos, -1, -1).clone()


def checked(photo: Image) -> Image:
    """The aligned faces, or ShapeError."""
    if photo.ndim != 4 or photo.shape[1] != 3 or photo.shape[2] != photo.shape[3] or 0 in photo.shape or not photo.is_floating_point():
        raise ShapeError(
            f"aligned faces were needed, [batch, 3, size, size] of floats in [-1, 1]; this is {photo.dtype} of shape {list(photo.shape)}. "
            "Align a photo first: alignment, face = dvlatent.load('aligner')(photo)."
        )
    if not torch.isfinite(photo).all():
        raise ShapeError("the photo holds NaN or infinite numbers. Read it again with images.read.")
    return photo.detach()
