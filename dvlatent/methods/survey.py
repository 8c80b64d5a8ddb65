"""Drawing many faces and scoring each: seeds in, a population out. Taught in notebooks 03 and 05.

`python -m dvlatent.methods.survey --faces 1000` makes the population that notebook 03 cuts in two; it can be stopped and run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.checkpoints import format, registry
from dvlatent.errors import CheckpointError
from dvlatent.latents import broadcast, truncate
from dvlatent.rng import normal
from dvlatent.types import Generator, Predictor, W, Z, fingerprint

SHIPPED = registry.WEIGHTS / "faces-population.safetensors"


@dataclass(frozen=True)
class Population:
    """Many faces: seed `seeds[i]` looks as `scores[i]` says. Their latents come back from the seeds."""

    seeds: tuple[int, ...]
    scores: Float[Tensor, "face name"]
    names: tuple[str, ...]  # what the columns of scores are
    psi: float  # truncation of the faces that were scored
    generator: str  # fingerprint of the generator that drew them

    def column(self, name: str) -> Float[Tensor, " face"]:
        """One score of every face."""
        return self.scores[:, self.names.index(name)]

    def latents(self, generator: Generator) -> tuple[Z, W]:
        """The z and the w of every face. Raises CheckpointError for a generator that did not draw them."""
        if fingerprint(generator) != self.generator:
            raise CheckpointError(
                f"this population was drawn by generator {self.generator}, this one is {fingerprint(generator)}. "
                "Survey this generator, or load the one that drew it."
            )
        z = normal(self.seeds, generator.z_dim)
        return z, truncate(generator.mapping(z), toward=generator.w_mean, psi=self.psi)


@torch.no_grad()
def survey(generator: Generator, predictor: Predictor, seeds: Iterable[int], psi: float = 1.0) -> Iterator[tuple[int, Tensor]]:
    """Draw and score one face after another: yields (seed, scores [name])."""
    for seed in seeds:
        w = truncate(generator.mapping(normal(seed, generator.z_dim)), toward=generator.w_mean, psi=psi)
        yield seed, predictor(generator.synthesis(broadcast(w, generator.num_layers)))[0]


def save(population: Population, path: Path | str, command: str = "") -> None:
    """Write a population to a .safetensors file, scores as 32-bit floats."""
    description = {"kind": "population", "names": population.names, "psi": population.psi, "generator": population.generator}
    seeds = torch.tensor(population.seeds, dtype=torch.int64)
    format.save(path, {"seeds": seeds, "scores": population.scores.float()}, {**description, "command": command})


def load(path: Path | str = SHIPPED) -> Population:
    """Read a population; without a path the shipped one of `dvlatent.load("faces")`. Raises CheckpointError if it is none."""
    tensors, description = format.load(path, "population")
    try:
        seeds, names = tuple(tensors["seeds"].tolist()), tuple(description["names"])
        population = Population(seeds, tensors["scores"], names, float(description["psi"]), str(description["generator"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole population: {error}. Save it again with survey.save.") from error
    if population.scores.shape != (len(seeds), len(names)) or not torch.isfinite(population.scores).all():
        raise CheckpointError(f"{path} has {len(seeds)} seeds and scores of shape {list(population.scores.shape)}, or scores not finite.")
    return population


def main(arguments: list[str] | None = None) -> None:
    """Survey the face generator from seed 0 on; what is scored already is kept in a file beside the output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--faces", type=int, default=1000, help="how many")
    parser.add_argument("--psi", type=float, default=1.0, help="truncation")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="a .safetensors file")
    chosen = parser.parse_args(arguments)
    generator, predictor = registry.load("faces"), registry.load("attributes")
    identity = hashlib.sha256(f"{fingerprint(generator)} {chosen.psi} {predictor.names}".encode()).hexdigest()[:8]
    log = chosen.out.with_suffix(f".{identity}.part.jsonl")
    known = dict(json.loads(line) for line in log.read_text().splitlines()) if log.exists() else {}
    with log.open("a") as file:
        for seed, scores in survey(generator, predictor, (seed for seed in range(chosen.faces) if seed not in known), chosen.psi):
            known[seed] = scores.tolist()
            file.write(json.dumps([seed, known[seed]]) + "\n")
            print(f"\r{len(known)} of {chosen.faces} faces", end="", flush=True)
    print()
    scores = torch.tensor([known[seed] for seed in range(chosen.faces)])
    population = Population(tuple(range(chosen.faces)), scores, tuple(predictor.names), chosen.psi, fingerprint(generator))
    save(population, chosen.out, f"python -m dvlatent.methods.survey --faces {chosen.faces} --psi {chosen.psi:g}")
    log.unlink()


if __name__ == "__main__":
    main()
