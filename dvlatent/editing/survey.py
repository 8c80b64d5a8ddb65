"""Drawing many faces and scoring each: seeds in, a population out. Taught in notebooks 03 and 05.

`dvlatent survey --faces 20000 --out faces.safetensors` makes the population that we ship; it can be stopped and run again.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import checkpoint, images, zoo
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.faces.combine import combine
from dvlatent.latents import broadcast, normal, truncate, w_of
from dvlatent.types import BATCH, Generator, Predictor, Render, W, Z, fingerprint, renderer

SHIPPED = zoo.WEIGHTS / "faces-population.safetensors"
CHUNK = 1000  # z's mapped together: 2 MB of numbers


@dataclass(frozen=True, eq=False)
class Population:
    """Many faces: seed `seeds[i]` looks as `scores[i]` says. Their latents come back from the seeds."""

    seeds: tuple[int, ...]
    scores: Float[Tensor, "face name"]
    names: tuple[str, ...]  # what the columns of scores are
    psi: float  # truncation of the faces that were scored
    generator: str  # fingerprint of the generator that drew them
    render: str = "full"  # what was scored: "preview", "full", or "own" for a renderer of the caller's

    def __len__(self) -> int:
        return len(self.seeds)

    def column(self, name: str) -> Float[Tensor, " face"]:
        """One score of every face. Raises ShapeError for a name that was not scored."""
        if name not in self.names:
            raise ShapeError(f"these faces were not scored for '{name}', only for {', '.join(self.names)}. Survey with a predictor of it.")
        return self.scores[:, self.names.index(name)]

    def take(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Population:
        """Some of the faces: the first so many, a slice, row numbers, or True for those to take. Raises ShapeError beyond the last."""
        if isinstance(rows, int):
            rows = range(rows)
        try:
            chosen = torch.arange(len(self))[rows if isinstance(rows, slice) else torch.as_tensor(rows)]
        except IndexError as reason:
            raise ShapeError(f"the population has {len(self)} faces ({reason}). Survey more, or take fewer.") from reason
        return replace(self, seeds=tuple(self.seeds[row] for row in chosen.tolist()), scores=self.scores[chosen])

    @torch.no_grad()
    def latents(self, generator: Generator) -> tuple[Z, W]:
        """The z and the w of every face; 20,000 in seconds. Raises CheckpointError for a generator that did not draw them."""
        if fingerprint(generator) != self.generator:
            raise CheckpointError(
                f"this population was drawn by generator {self.generator}, this one is {fingerprint(generator)}. "
                "Survey this generator, or load the one that drew it."
            )
        if "_known" not in self.__dict__:  # every search in this population asks for them again
            z = normal(self.seeds, generator.z_dim)
            object.__setattr__(self, "_known", (z, _mapped(generator, z, self.psi)))
        return self.__dict__["_known"]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a survey: the faces that it scored, and how far it is."""

    index: int  # faces scored so far, these included
    total: int  # faces asked for
    seconds_left: float  # at the pace so far
    population: Population  # the faces of this step; `collect` joins them

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of this step's faces."""
        return self.population.seeds

    @property
    def scores(self) -> Float[Tensor, "face name"]:
        """Their scores."""
        return self.population.scores


def survey(
    generator: Generator,
    predictors: Predictor | Sequence[Predictor],
    seeds: Iterable[int],
    psi: float = 1.0,
    *,
    render: Render | None = None,
    batch: int = BATCH,
) -> Iterator[Step]:
    """Draw and score faces, `batch` at a time: an iterator of steps, to be stopped whenever you like.

    One predictor or several, whose columns are put side by side. `render` draws ws: unless told, the generator's quick
    `preview` where it has one, and else its `synthesis`. Pictures are rounded to bytes first, as in a file, so that their scores are
    the same whether they were saved in between or not. Truncation pulls toward the generator's w_mean.
    Raises ShapeError for two columns of one name, and for seeds that are none.
    """
    seeds, look = list(seeds), combine(predictors)
    draw, kind = renderer(generator, render)
    made_by, began = fingerprint(generator), time.perf_counter()
    for at in range(0, len(seeds), batch):
        some = tuple(seeds[at : at + batch])
        with torch.no_grad():
            w = w_of(generator, some, psi)
            picture = images.from_uint8(images.to_uint8(draw(broadcast(w, generator.num_layers))))
            scores = look(picture).float().cpu()  # [batch, name]
        done = at + len(some)
        left = (time.perf_counter() - began) / done * (len(seeds) - done)
        yield Step(done, len(seeds), left, Population(some, scores, tuple(look.names), float(psi), made_by, kind))


def collect(steps: Iterable[Step]) -> Population:
    """All faces of a survey as one population: `collect(survey(...))`. Raises ShapeError if there are none."""
    parts = [step.population for step in steps]
    if not parts:
        raise ShapeError("a survey of no faces is no population: give it seeds, such as range(500).")
    seeds = tuple(seed for part in parts for seed in part.seeds)
    return replace(parts[0], seeds=seeds, scores=torch.cat([part.scores for part in parts]))


def resumable(
    out: Path | str,
    generator: Generator,
    predictors: Predictor | Sequence[Predictor],
    seeds: Iterable[int],
    psi: float = 1.0,
    *,
    render: Render | None = None,
    batch: int = BATCH,
    **description: object,
) -> Iterator[Step]:
    """`survey` into a file: the same steps, and every face kept on disk as soon as it is scored.

    The journal lies beside `out` and belongs to this generator, psi, columns and kind of picture: called again with the same
    ones, the first step holds all that is known already. After the last step `out` is written, with the `description`, and the
    journal removed.
    """
    out, seeds, look = Path(out), list(seeds), combine(predictors)
    kind = renderer(generator, render)[1]
    start = Population((), torch.empty(0, len(look.names)), tuple(look.names), float(psi), fingerprint(generator), kind)
    journal = journal_path(out, start)
    known = _read_journal(journal, len(start.names))
    have, missing = [seed for seed in seeds if seed in known], [seed for seed in seeds if seed not in known]
    if have:
        known_part = replace(start, seeds=tuple(have), scores=torch.tensor([known[seed] for seed in have]))
        yield Step(len(have), len(seeds), math.inf if missing else 0.0, known_part)
    with journal.open("a", encoding="utf-8") as file:
        for step in survey(generator, look, missing, psi, render=render, batch=batch):
            scored = dict(zip(step.seeds, step.scores.tolist(), strict=True))
            file.write("".join(json.dumps([seed, scores]) + "\n" for seed, scores in scored.items()))
            file.flush()
            known |= scored
            yield replace(step, index=len(have) + step.index, total=len(seeds))
    scores = torch.tensor([known[seed] for seed in seeds]).reshape(len(seeds), len(start.names))
    save(replace(start, seeds=tuple(seeds), scores=scores), out, **description)
    journal.unlink()


def save(population: Population, path: Path | str, command: str = "", **description: object) -> None:
    """Write a population to a .safetensors file, scores as 32-bit floats, and what else is known about it."""
    told = {"kind": "population", "names": population.names, "psi": population.psi, "generator": population.generator}
    told |= {"render": population.render, "command": command, **description}
    seeds = torch.tensor(population.seeds, dtype=torch.int64)
    checkpoint.save(path, {"seeds": seeds, "scores": population.scores.float()}, told)


def load(path: Path | str = SHIPPED) -> Population:
    """Read a population; without a path the shipped one of `dvlatent.load("faces")`. Raises CheckpointError if it is none."""
    tensors, description = checkpoint.load(path, "population")
    try:
        seeds, names = tuple(tensors["seeds"].tolist()), tuple(description["names"])
        render, psi = str(description.get("render", "full")), float(description["psi"])
        population = Population(seeds, tensors["scores"], names, psi, str(description["generator"]), render)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole population: {error}. Save it again with survey.save.") from error
    if population.scores.shape != (len(seeds), len(names)) or not torch.isfinite(population.scores).all():
        raise CheckpointError(f"{path} has {len(seeds)} seeds and scores of shape {list(population.scores.shape)}, or scores not finite.")
    return population


def journal_path(out: Path, settings: Population) -> Path:
    """Where an unfinished survey keeps its faces: beside `out`, with a name of its own for other settings."""
    told = json.dumps([settings.generator, settings.psi, settings.names, settings.render])
    return out.with_suffix(f".{hashlib.sha256(told.encode()).hexdigest()[:8]}.part.jsonl")


def _read_journal(path: Path, columns: int) -> dict[int, list[float]]:
    """Seeds and scores of a journal. A last line that was cut short is cut off, so that the next one begins afresh."""
    if not path.exists():
        return {}
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    with path.open("r+b") as file:
        file.truncate(len(whole + newline))
    known = {}
    for line in whole.splitlines():
        try:
            seed, scores = json.loads(line)
            usable = isinstance(seed, int) and isinstance(scores, list) and len(scores) == columns and all(map(math.isfinite, scores))
        except (ValueError, TypeError):
            continue  # not ours: scored again
        if usable:
            known[seed] = scores
    return known


def _mapped(generator: Generator, z: Z, psi: float) -> W:
    """The w of many z, truncated, some at a time."""
    parts = [generator.mapping(part.to(generator.w_mean.device)) for part in z.split(CHUNK)]
    return truncate(torch.cat(parts), toward=generator.w_mean, psi=psi)
