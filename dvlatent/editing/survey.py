"""Surveys: draw many faces and score each. Seeds go in, a population comes out. Taught in notebooks 03 and 05.

`dvlatent survey --faces 20000 --out faces.safetensors` makes the population that we ship; it can be stopped and run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import checkpoint, files, images
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.faces.attributes import combine
from dvlatent.latents import broadcast, normal, truncate, w_of
from dvlatent.types import BATCH, Generator, Predictor, Render, W, Z, fingerprint, renderer

SHIPPED = checkpoint.WEIGHTS / "faces-population.safetensors"
CHUNK = 1000  # z's that are mapped together


@dataclass(frozen=True, eq=False)
class Population:
    """Many faces: the face of `seeds[i]` has `scores[i]`. Their latents come back from the seeds."""

    seeds: tuple[int, ...]
    scores: Float[Tensor, "face name"]
    names: tuple[str, ...]  # what the columns of scores are
    psi: float  # truncation of the faces that were scored
    generator: str  # fingerprint of the generator that drew them
    render: str = "full"  # what was scored: "preview", "full", or "own" for the caller's own renderer

    def __len__(self) -> int:
        return len(self.seeds)

    def column(self, name: str) -> Float[Tensor, " face"]:
        """One score of every face. Raises ShapeError for a name that was not scored."""
        if name not in self.names:
            raise ShapeError(f"these faces were not scored for '{name}', only for {', '.join(self.names)}. Survey with a predictor of it.")
        return self.scores[:, self.names.index(name)]

    def take(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Population:
        """A part of the faces: the first `rows`, a slice, row numbers, or a mask. Raises ShapeError for rows that do not exist."""
        if isinstance(rows, int):
            if not 0 <= rows <= len(self):
                raise ShapeError(f"the population has {len(self):,} faces, {rows:,} of them were asked for. Survey more, or take fewer.")
            rows = range(rows)
        try:
            chosen = torch.arange(len(self))[rows if isinstance(rows, slice) else torch.as_tensor(rows)]
        except IndexError as reason:
            raise ShapeError(f"the population has {len(self)} faces ({reason}). Survey more, or take fewer.") from reason
        return replace(self, seeds=tuple(self.seeds[row] for row in chosen.tolist()), scores=self.scores[chosen])

    @torch.no_grad()
    def latents(self, generator: Generator) -> tuple[Z, W]:
        """The z and the truncated w of every face; 20,000 in seconds. Raises CheckpointError for a generator that did not draw them."""
        if fingerprint(generator) != self.generator:
            raise CheckpointError(
                f"this population was drawn by generator {self.generator}, this one is {fingerprint(generator)}. "
                "Survey this generator, or load the one that drew it."
            )
        if "_latents" not in self.__dict__:  # every search in this population asks for them again
            z = normal(self.seeds, generator.z_dim)
            w = torch.cat([generator.mapping(part.to(generator.w_mean.device)) for part in z.split(CHUNK)])
            object.__setattr__(self, "_latents", (z, truncate(w, toward=generator.w_mean, psi=self.psi)))
        return self.__dict__["_latents"]


@dataclass(frozen=True, eq=False)
class SurveyStep:
    """One step of a survey: the faces that it scored, and how far the survey is."""

    index: int  # faces scored so far, including these
    total: int  # faces asked for
    population: Population  # the faces of this step; `collect` joins them


def survey(
    generator: Generator,
    predictors: Predictor | Sequence[Predictor],
    seeds: Iterable[int],
    psi: float = 1.0,
    *,
    render: Render | None = None,
    batch: int = BATCH,
) -> Iterator[SurveyStep]:
    """Draw and score faces, `batch` at a time: an iterator of steps that you can stop at any step.

    Several predictors give their columns side by side. `render` draws ws; by default it is the generator's fast `preview` if there is
    one, else its `synthesis`. Pictures are rounded to bytes first, so a picture that was saved in between has the same scores.
    Truncation pulls toward the generator's w_mean. Raises ShapeError for two columns of one name, and for invalid seeds.
    """
    seeds, predictor = list(seeds), combine(predictors)
    draw, kind = renderer(generator, render)
    made_by = fingerprint(generator)
    for start in range(0, len(seeds), batch):
        part = tuple(seeds[start : start + batch])
        with torch.no_grad():
            w = w_of(generator, part, psi)
            picture = images.from_uint8(images.to_uint8(draw(broadcast(w, generator.num_layers))))
            scores = predictor(picture).float().cpu()  # [batch, name]
        done = start + len(part)
        yield SurveyStep(done, len(seeds), Population(part, scores, tuple(predictor.names), float(psi), made_by, kind))


def collect(steps: Iterable[SurveyStep]) -> Population:
    """All faces of a survey as one population: `collect(survey(...))`. Raises ShapeError if there are no steps."""
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
) -> Iterator[SurveyStep]:
    """`survey` into a file: the same steps, and every face is on disk as soon as it is scored.

    Until then they lie beside `out`, in a file for this generator, psi, columns and kind of picture. If the call is repeated with the same
    ones, the first step holds all faces that are there. After the last step `out` is written, with the `description`, and the other file
    is removed.
    """
    out, seeds, predictor = Path(out), list(seeds), combine(predictors)
    names, kind = tuple(predictor.names), renderer(generator, render)[1]
    known = Population((), torch.empty(0, len(names)), names, float(psi), fingerprint(generator), kind)
    part = part_path(out, known)
    known = load(part) if part.exists() else known
    there = {seed: row for row, seed in enumerate(known.seeds)}
    found, missing = [seed for seed in seeds if seed in there], [seed for seed in seeds if seed not in there]
    if found:
        yield SurveyStep(len(found), len(seeds), known.take([there[seed] for seed in found]))
    for step in survey(generator, predictor, missing, psi, render=render, batch=batch):
        scores = torch.cat([known.scores, step.population.scores])
        known = replace(known, seeds=known.seeds + step.population.seeds, scores=scores)
        save(known, part)
        yield replace(step, index=len(found) + step.index, total=len(seeds))
    there = {seed: row for row, seed in enumerate(known.seeds)}
    save(known.take([there[seed] for seed in seeds]), out, **description)
    part.unlink(missing_ok=True)  # another survey of the same faces may have been quicker


def save(population: Population, path: Path | str, command: str = "", **description: object) -> None:
    """Write a population to a .safetensors file, scores as 32-bit floats, and what else is known about it."""
    metadata = {"kind": "population", "names": population.names, "psi": population.psi, "generator": population.generator}
    metadata |= {"render": population.render, "command": command, **description}
    seeds = torch.tensor(population.seeds, dtype=torch.int64)
    checkpoint.save(path, {"seeds": seeds, "scores": population.scores.float()}, metadata)


def load(path: Path | str = SHIPPED) -> Population:
    """Read a population; without a path the one that we ship, of `dvlatent.load("faces")`. Raises CheckpointError for another file."""
    tensors, description = checkpoint.load(path, "population")
    try:
        seeds, names = tuple(tensors["seeds"].tolist()), tuple(map(str, description["names"]))
        render, psi = str(description.get("render", "full")), float(files.number(description["psi"], -100, 100))
        generator, scores = str(description["generator"]), checkpoint.floats(tensors, "scores", len(seeds), len(names))
        if not all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds) or len(set(names)) < len(names):
            raise ValueError("its seeds are no seeds, or two columns have one name")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a complete population: {error}. Save it again with survey.save.") from error
    return Population(seeds, scores, names, psi, generator, render)


def part_path(out: Path, settings: Population) -> Path:
    """Where an unfinished survey keeps its faces: beside `out`, under a name that depends on the settings."""
    words = json.dumps([settings.generator, settings.psi, settings.names, settings.render])
    return out.with_suffix(f".{hashlib.sha256(words.encode()).hexdigest()[:8]}.part.safetensors")
