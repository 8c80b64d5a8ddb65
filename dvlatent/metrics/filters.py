"""Teacher and students on the same unseen faces, with the same measures. Taught in notebook 07.

    found = side_by_side(faces, age, {"student": older}, (-2, -1, 1, 2), range(500_000, 500_100), judge, identity)
    success(found["teacher"], "age", by=20), success(found["student"], "age", by=20)
    rises(found["student"], "age")  # does the dial go one way
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.directions import Direction
from dvlatent.editing.effects import Effects
from dvlatent.errors import ShapeError
from dvlatent.faces.combine import combine
from dvlatent.faces.perceptual import Distance
from dvlatent.latents import broadcast, w_of
from dvlatent.metrics.blobs import blobs
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import BATCH, Generator, Identity, Image, Predictor, Render, renderer

TEACHER = "teacher"
Apply = Callable[[Image, float], Image]  # a Filter, or anything that is called like one
Look = Callable[[str, float, Image, Image], None]  # who made it, the amount, before, after


@torch.no_grad()
def side_by_side(
    generator: Generator,
    direction: Direction,
    filters: Mapping[str, Apply],
    amounts: Sequence[float],
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None = None,
    psi: float = 0.7,
    render: Render | None = None,
    look: Look | None = None,
) -> dict[str, Effects]:
    """The same edit by the generator ("teacher") and by each filter, on the same faces: name -> Effects, for `success` and the like.

    Pictures are rounded to bytes first, as in a file. `look` is called with every pair of batches, for whatever else is to be measured.
    Raises DirectionMismatch for a direction of another generator, ShapeError for no seeds or a filter called "teacher".
    """
    direction.check(generator)
    if TEACHER in filters or not amounts:
        raise ShapeError(f"give amounts, and filters under names of their own; given: {list(amounts)}, {', '.join(filters)}.")
    judge, draw, rest = combine(predictors), renderer(generator, render)[0], iter(seeds)
    befores, done = [], []
    afters: dict[str, list[Tensor]] = {name: [] for name in (TEACHER, *filters)}
    apart: dict[str, list[Tensor]] = {name: [] for name in afters}
    while some := tuple(islice(rest, BATCH)):
        ws = broadcast(w_of(generator, some, psi), generator.num_layers)
        before = _bytes(draw(ws))
        who = identity(before).cpu() if identity else None
        befores.append(judge(before).float().cpu())
        edit: dict[str, Apply] = {TEACHER: lambda _, amount, ws=ws: draw(direction.move(ws, amount)), **filters}
        for name, apply in edit.items():
            made = [_bytes(apply(before, float(amount))) for amount in amounts]
            afters[name].append(torch.stack([judge(picture).float().cpu() for picture in made]))  # [amount, face, name]
            apart[name] += [torch.stack([(identity(picture).cpu() - who).norm(dim=1) for picture in made])] if identity else []
            for amount, picture in zip(amounts, made, strict=True):
                if look is not None:
                    look(name, float(amount), before, picture)
        done += some
    if not done:
        raise ShapeError("nothing can be measured on no faces: give seeds, such as range(500_000, 500_100).")
    told = tuple(float(amount) for amount in amounts), tuple(judge.names), tuple(done), torch.cat(befores)
    return {name: Effects(*told, torch.cat(afters[name], 1), torch.cat(apart[name], 1) if identity else None) for name in afters}


def rises(measured: Effects, name: str, slack: float = 0.0) -> Estimate:
    """The share of faces whose score rises from every amount to the next, the unedited face among them at amount 0.

    A step back by up to `slack` is forgiven: predictors jitter.
    """
    order = sorted([*enumerate(measured.amounts), (-1, 0.0)], key=lambda one: one[1])
    before, after = measured.before[:, measured.at(name)], measured.after[:, :, measured.at(name)]
    along = torch.stack([before if row < 0 else after[row] for row, _ in order])  # [amount, face]
    return bootstrap((along.diff(dim=0) > -slack if slack else along.diff(dim=0) > 0).all(dim=0).numpy())


class Features:
    """Describes pictures for KID: what the perceptual network sees in its last two stages, averaged over the picture: 192 numbers.

    KID is usually taken of Inception's features, trained on the same ImageNet: values compare among themselves only.
    """

    def __init__(self, distance: Distance) -> None:
        self.network = distance.network

    @torch.no_grad()
    def __call__(self, image: Image) -> Float[np.ndarray, "batch 192"]:
        """[batch, 3, size, size] in [-1, 1] -> [batch, 192]."""
        stages = self.network(images.resize(image, 256))[-2:]
        return torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1).cpu().numpy()


class Count:
    """Collects what `side_by_side` shows: features for KID, and pictures with blobs, by who made them."""

    def __init__(self, features: Features | None = None, amounts: Sequence[float] | None = None) -> None:
        self.features, self.amounts = features, amounts
        self.seen: dict[str, list[np.ndarray]] = {}
        self.pictures: dict[str, int] = {}
        self.spotted: dict[str, list[tuple[float, Image, Image]]] = {}

    def __call__(self, name: str, amount: float, before: Image, after: Image) -> None:
        """One batch of one maker."""
        if self.amounts is not None and amount not in self.amounts:
            return
        if self.features is not None:
            self.seen.setdefault(name, []).append(self.features(after))
        self.pictures[name] = self.pictures.get(name, 0) + len(after)
        spotted = self.spotted.setdefault(name, [])
        spotted += [(amount, a[None], b[None]) for a, b, found in zip(before, after, blobs(before, after), strict=True) if found]

    def cloud(self, name: str) -> Float[np.ndarray, "picture 192"]:
        """All features of one maker's pictures."""
        return np.concatenate(self.seen[name])


def seconds_a_photo(run: Callable[[], object], times: int = 20) -> float:
    """How long a call takes: the median of some, after one that does not count."""
    run()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def onnx_runner(path: str, threads: int = 2) -> Apply:
    """A filter's exported network as a function of pictures and a strength, run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Image, strength: float) -> Image:
        amount = np.full(len(image), strength, dtype=np.float32)
        return torch.from_numpy(session.run(None, {"image": image.numpy(), "strength": amount})[0])

    return run


def _bytes(picture: Image) -> Image:
    return images.from_uint8(images.to_uint8(picture))
