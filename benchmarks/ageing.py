"""The age filter and the edit that taught it: years by five readers, and what else changes.

    python benchmarks/ageing.py [--faces 40] [--first-seed 20000] [--filter FILE] [--edit FILE --amounts 1] [--readers build/readers]

Faces are full renders at 256 px, psi 0.8, the first from a seed on that the finder takes for 20 or older: nothing was trained on them.
face-api had no part in any training, faceres taught the edit; both come through npm's client into --readers. The last lines, which
other --strengths leave out, give the years of the dial, as the mean of the two medians, and how near single faces come to the years that
they are asked for.
"""

from __future__ import annotations

import argparse
import sys
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import dvlatent
from dvlatent import images
from dvlatent.distillation.filter import Filter
from dvlatent.latents import broadcast, w_of
from dvlatent.metrics.edits import measure
from dvlatent.stats import bootstrap
from dvlatent.types import Image, Ws

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
from tfjs import AGE_GENDER, FACE_API, FACERES, HUMAN, FaceApi, Faceres, fetch

PSI, ADULT, STRENGTHS = 0.8, 20.0, (-2.0, -1.0, 1.0, 2.0)
BATCH = 16  # faces at a time
WISHED = (-10, 10, 15, 20, 25)  # years
OUTSIDE = ("age by face-api", "age by faceres")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=40, help="unseen adults (default 40)")
    parser.add_argument("--first-seed", type=int, default=20_000, help="of the faces (default 20000)")
    parser.add_argument("--size", type=int, default=256, help="pixels of the faces that are edited; read at 256 (default 256)")
    parser.add_argument("--filter", default="age-filter", help="a filter by name or file; '' leaves it out (default age-filter)")
    parser.add_argument("--edit", default="age-edit", help="an edit by name or file; '' leaves it out (default age-edit)")
    parser.add_argument("--amounts", type=float, nargs="+", default=[1.0, -0.98], help="how often the edit is done (default 1 -0.98)")
    parser.add_argument("--strengths", type=float, nargs="+", default=list(STRENGTHS), help="of the filter (default -2 -1 1 2)")
    parser.add_argument("--readers", type=Path, default=Path("build/readers"), help="folder that keeps the outside readers")
    parser.add_argument("--sheet", type=Path, help="write the faces to this picture, a row each: before, then as printed")
    chosen = parser.parse_args()
    generator, identity, parts = (dvlatent.load(name) for name in ("faces", "identity", "face-parts"))
    readers = outside(chosen.readers)
    ws, large = adults(generator, readers["finder"], chosen.faces, chosen.first_seed, chosen.size)
    before = small(large)
    afters: dict[str, Tensor] = {}
    if chosen.edit:
        edit = dvlatent.load(chosen.edit)
        afters |= {f"edit {amount:+g}": drawn(generator, (amount * edit)(ws)) for amount in chosen.amounts}
    if chosen.filter:
        one = dvlatent.load(chosen.filter)
        afters |= {f"filter {strength:+g}": filtered(one, large, strength) for strength in chosen.strengths}
    found = {name: measure(before, after, parts, readers, identity) for name, after in afters.items()}
    for name, row in found.items():
        print(name, *(f"  {what:16} {value.value:7.2f}  ({value.low:.2f} to {value.high:.2f})" for what, value in row.items()), sep="\n")
    if chosen.filter and chosen.strengths == list(STRENGTHS):
        years = [round(float(np.mean([found[f"filter {strength:+g}"][reader].value for reader in OUTSIDE])), 1) for strength in STRENGTHS]
        print(f'"years": {{"strength": {list(STRENGTHS)}, "years": {years}}}')
        for wished in WISHED if one.dial else ():
            got = year_changes(readers, before, filtered(one, large, one.strength_of(wished)))
            near, middle = bootstrap(np.abs(got - wished) <= 5, np.mean), bootstrap(got, np.median)
            print(f"wished {wished:+d} years, got {middle.value:+.0f} ({middle.low:+.0f} to {middle.high:+.0f});", end=" ")
            print(f"within 5 years for {near.value:.0%} ({near.low:.0%} to {near.high:.0%})")
    if chosen.sheet:
        rows = torch.stack([before, *afters.values()], dim=1).flatten(0, 1)
        images.write(images.grid(rows, columns=1 + len(afters)), chosen.sheet)


@torch.no_grad()
def year_changes(readers: dict[str, nn.Module], before: Image, after: Image) -> np.ndarray:
    """How much older each face became, by the mean of the two outside readers."""
    outsiders = [readers[name.removeprefix("age by ")] for name in OUTSIDE]
    pieces = [slice(at, at + BATCH) for at in range(0, len(before), BATCH)]
    changes = [torch.cat([(reader(after[one]) - reader(before[one]))[:, 0] for one in pieces]) for reader in outsiders]
    return torch.stack(changes).mean(dim=0).numpy()


class BothWays(nn.Module):
    """A reader asked twice, of the picture and of its mirror image."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader, self.names = reader, reader.names

    def forward(self, image: Image) -> Tensor:
        """[batch, 3, size, size] -> [batch, score]."""
        return self.reader(torch.cat([image, image.flip(-1)])).unflatten(0, (2, -1)).mean(dim=0)


def outside(folder: Path) -> dict[str, nn.Module]:
    """The readers; the first one measures what is left without lines."""
    theirs = {"face-api": FaceApi(*fetch(FACE_API, AGE_GENDER, folder)), "faceres": Faceres(*fetch(HUMAN, FACERES, folder))}
    ours = {"finder": dvlatent.load("attributes"), "judge": dvlatent.load("judge"), "judge-224": dvlatent.load("judge-224")}
    return {name: BothWays(reader) for name, reader in {**theirs, **ours}.items()}


@torch.no_grad()
def adults(generator: nn.Module, finder: nn.Module, wanted: int, first_seed: int, size_px: int) -> tuple[Ws, Image]:
    """The first faces that the finder takes for 20 or older: their w and their pictures."""
    found: list[tuple[Ws, Image]] = []
    for seed in count(first_seed):
        if len(found) == wanted:
            return torch.cat([ws for ws, _ in found]), torch.cat([face for _, face in found])
        ws = broadcast(w_of(generator, [seed], PSI), generator.num_layers)
        face = drawn(generator, ws, size_px)
        if float(finder(face)[0, 0]) >= ADULT:
            found.append((ws, face))


@torch.no_grad()
def drawn(generator: nn.Module, ws: Ws, size_px: int = 256) -> Image:
    """Full renders, reduced."""
    return torch.cat([as_bytes(images.resize(generator.synthesis(one[None]), size_px)) for one in ws])


def filtered(one: Filter, faces: Image, strength: float) -> Image:
    """Faces after a filter, as they are read."""
    return torch.cat([small(one(faces[at : at + BATCH], strength)) for at in range(0, len(faces), BATCH)])


def small(faces: Image) -> Image:
    """As they are read: at 256 px, in bytes."""
    return as_bytes(images.resize(faces, 256))


def as_bytes(image: Image) -> Image:
    """As a file holds it."""
    return images.from_uint8(images.to_uint8(image))


if __name__ == "__main__":
    main()
