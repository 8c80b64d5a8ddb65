"""Teacher and students on the same unseen faces, with the same measures. Taught in notebook 07.

    found = side_by_side(faces, age, {"student": older}, (-2, -1, 1, 2), range(500_000, 500_100), judge, identity)
    success(found["teacher"], "age", by=20), success(found["student"], "age", by=20)
    rises(found["student"], "age")  # does the dial go one way
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from dvlatent import images
from dvlatent.directions import Direction, Edit
from dvlatent.editing.effects import Effects, Make, measure
from dvlatent.errors import ShapeError
from dvlatent.faces.perceptual import Distance
from dvlatent.stats import Estimate, bootstrap
from dvlatent.types import Generator, Identity, Image, Predictor, Render, Ws, renderer

TEACHER = "teacher"
Apply = Callable[[Image, float], Image]  # a Filter, or anything that is called like one
Measure = Callable[[str, float, Image, Image], None]  # the maker, the amount, pictures before and after


def side_by_side(
    generator: Generator,
    edit: Direction | Edit,
    filters: Mapping[str, Apply],
    amounts: Sequence[float],
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None = None,
    psi: float = 0.7,
    render: Render | None = None,
    also: Measure | None = None,
) -> dict[str, Effects]:
    """The same edit by the generator ("teacher") and by each filter, on the same faces: name -> Effects, for `success` and the like.

    Pictures are rounded to bytes first, as in a file. `also` is called with every batch, for further measures. Raises DirectionMismatch
    for an edit of another generator, ShapeError for no seeds, no amounts or a filter called "teacher".
    """
    for _, direction in (1.0 * edit).terms:
        direction.check(generator)
    if TEACHER in filters:
        raise ShapeError(f"give filters names of their own; '{TEACHER}' is the generator.")
    draw = renderer(generator, render)[0]
    makers = {TEACHER: lambda ws, _, amount: draw((amount * edit)(ws))}
    makers |= {name: lambda _, before, amount, apply=apply: apply(before, amount) for name, apply in filters.items()}

    def in_bytes(name: str, make: Make) -> Make:
        def made(ws: Ws, before: Image, amount: float) -> Image:
            picture = _as_bytes(make(ws, before, amount))
            if also is not None:
                also(name, amount, before, picture)
            return picture

        return made

    makers = {name: in_bytes(name, make) for name, make in makers.items()}
    return measure(generator, lambda ws: _as_bytes(draw(ws)), makers, amounts, seeds, predictors, identity, psi)


def rises(measured: Effects, name: str) -> Estimate:
    """The fraction of faces whose score rises from each amount to the next; the unedited face counts as amount 0."""
    order = sorted([*enumerate(measured.amounts), (-1, 0.0)], key=lambda one: one[1])
    before, after = measured.before[:, measured.at(name)], measured.after[:, :, measured.at(name)]
    along = torch.stack([before if row < 0 else after[row] for row, _ in order])  # [amount, face]
    return bootstrap((along.diff(dim=0) > 0).all(dim=0).numpy())


@torch.no_grad()
def kid_features(distance: Distance, image: Image) -> Float[np.ndarray, "batch 192"]:
    """Describe pictures for `kid`: [batch, 3, size, size] in [-1, 1] -> [batch, 192].

    The numbers are the activations of the perceptual network's last two stages, averaged over the picture. KID usually takes those of
    Inception, which was trained on the same ImageNet: compare these values only with each other.
    """
    stages = distance.network(images.resize(image, 256))[-2:]
    return torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1).cpu().numpy()


def seconds_a_photo(run: Callable[[], object], times: int = 20) -> float:
    """The time of a call: the median of some, after one that does not count."""
    run()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


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


def _as_bytes(picture: Image) -> Image:
    return images.from_uint8(images.to_uint8(picture))
