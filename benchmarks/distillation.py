"""The filters that we ship against the generator that taught them, on unseen faces, read by the judge.

    python benchmarks/distillation.py [--filter age-filter] [--faces 500] [--blobs 1000] [--cyclegan FILE] [--threads 2]

Faces are seeds from 500,000 on, psi 0.7, previews of 256 px; nothing was trained on them. For ages, perceived years count between 18
and 55 before the edit. Seconds are those of the wall clock: nothing else should use the computer.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from skimage.data import astronaut
from tqdm import tqdm

import dvlatent
from dvlatent import images
from dvlatent.distillation.filter import Filter, export_onnx
from dvlatent.editing.effects import Effects, success
from dvlatent.errors import NoFace
from dvlatent.latents import w_of
from dvlatent.metrics.blobs import blobs
from dvlatent.metrics.features import kid
from dvlatent.metrics.filters import TEACHER, kid_features, onnx_runner, rises, seconds_a_photo, side_by_side
from dvlatent.metrics.inversion import seconds_of_a_search
from dvlatent.zoo import read_cyclegan

FIRST_SEED, AMOUNTS = 500_000, (-2.0, -1.0, 1.0, 1.85)
SCORES = {"age": ("age", {"by": 20.0}, 1.85), "gender": ("male", {"past": 0.5}, 2.0), "smile": ("smile", {"past": 0.5}, 2.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="age-filter", help="a filter by name or file (default age-filter)")
    parser.add_argument("--faces", type=int, default=500, help="unseen faces for success, identity, KID and the dial (default 500)")
    parser.add_argument("--blobs", type=int, default=1000, help="outputs that are searched for blobs (default 1000)")
    parser.add_argument("--cyclegan", type=Path, help="a file of recipes/cyclegan.py, to compare with")
    parser.add_argument("--threads", type=int, default=2, help="for the times (default 2)")
    parser.add_argument("--spotted", type=Path, help="write pictures with blobs to this file: before, the filter's, the teacher's")
    chosen = parser.parse_args()
    one: Filter = dvlatent.load(chosen.filter)
    faces, judge, identity = dvlatent.load("faces"), dvlatent.load("judge"), dvlatent.load("identity")
    direction = dvlatent.load(f"{one.name}-direction")
    score, target, amount = SCORES[one.name]
    amounts = tuple(value if value != AMOUNTS[-1] else amount for value in AMOUNTS)
    filters = {"student": one}
    if chosen.cyclegan is not None:
        filters["cyclegan"] = read_cyclegan(chosen.cyclegan)
    if chosen.faces:
        features: dict[str, list[np.ndarray]] = {name: [] for name in (TEACHER, *filters)}
        perceptual = dvlatent.load("perceptual")

        def measure(name: str, at: float, before: torch.Tensor, after: torch.Tensor) -> None:
            if at == amount:
                features[name].append(kid_features(perceptual, after))

        seeds = tqdm(range(FIRST_SEED, FIRST_SEED + chosen.faces), unit="face")
        found = side_by_side(faces, direction, filters, amounts, seeds, judge, identity, also=measure)
        report(found, {name: np.concatenate(parts) for name, parts in features.items()}, score, target, amount)
    if chosen.blobs:
        search(faces, one, direction, chosen.blobs, chosen.spotted)
    edit_the_astronaut(one, identity, amount)
    times(one, faces, chosen.threads)


def report(found: dict[str, Effects], clouds: dict[str, np.ndarray], score: str, target: dict[str, float], amount: float) -> None:
    """Success, identity, the dial and KID, a line for each maker."""
    age = found[TEACHER].before[:, found[TEACHER].at("age")]
    asked = (age >= 18) & (age <= 55) if score == "age" else torch.ones(len(age), dtype=torch.bool)
    row = found[TEACHER].amounts.index(amount)
    print(f"{score} at {amount:+g} steps, {int(asked.sum())} faces: {target}; identity and dial on all {len(age)}")
    moved: dict[str, float] = {}
    for name, one in found.items():
        reached = success(one.take(asked), score, **target)[row]
        moved[name] = reached.moved.value
        kept = (one.identity < 0.6).float().mean(dim=1)
        ratio = moved[name] / moved[TEACHER]
        print(f"  {name:9} moved {reached.moved}  kept {reached.kept}  both {reached.both}  ratio to teacher {ratio:.2f}")
        fractions = (f"{at:+g}: {fraction:.2f}" for at, fraction in zip(one.amounts, kept.tolist(), strict=True))
        print(f"            same person at {', '.join(fractions)}")
        print(f"            dial rises for {rises(one, score)} of the faces")
        if "past" in target:
            gone = success(one, score, **target, falling=True)[0]
            print(f"            back below {target['past']:g} at {gone.amount:+g} steps: {gone.moved}")
    blocks = max(2, min(20, len(age) // 20))
    distance = {name: kid(clouds[TEACHER], clouds[name], blocks) for name in found if name != TEACHER}
    print("  KID to the teacher's pictures:", "  ".join(f"{name} {value}" for name, value in distance.items()), f"({len(age)} each)")


def search(faces: torch.nn.Module, one: Filter, direction: dvlatent.Direction, wanted: int, out: Path | None) -> None:
    """Blobs in so many outputs: five strengths of each face."""
    left = iter(range(FIRST_SEED + 10_000, FIRST_SEED + 10_000 + wanted))
    strengths = [one.low, one.low / 2, one.high / 4, one.high / 2, one.high]
    found: list[torch.Tensor] = []
    with tqdm(total=wanted, unit="picture") as bar, torch.no_grad():
        while bar.n < wanted and (seeds := list(islice(left, 8))):
            ws = dvlatent.broadcast(w_of(faces, seeds, 0.7), faces.num_layers)
            before = images.from_uint8(images.to_uint8(faces.preview(ws)))
            for strength in strengths:
                after = one(before, strength)
                for row, spots in enumerate(blobs(before, after)):
                    if spots:
                        target = faces.preview(direction.move(ws[row : row + 1], strength)).clamp(-1, 1)
                        found.append(torch.cat([before[row : row + 1], after[row : row + 1], target]))
            bar.update(len(seeds) * len(strengths))
    print(f"blobs: in {len(found)} of {wanted} outputs")
    if out is not None and found:
        images.write(images.grid(torch.cat(found[:8]), columns=3), out)


def edit_the_astronaut(one: Filter, identity: torch.nn.Module, amount: float) -> None:
    """A photo of a real person: is the astronaut still herself after the edit?"""
    photo, aligner = images.from_uint8(astronaut()), dvlatent.load("aligner")
    before = identity(aligner(photo, size_px=256)[1])
    for strength in (-amount, amount):
        try:
            after = identity(aligner(one.apply_to_photo(photo, strength), size_px=256)[1])
            print(f"astronaut at {strength:+g}: identity distance {float((after - before).norm()):.2f} (same person below 0.6)")
        except NoFace:
            print(f"astronaut at {strength:+g}: no face is found afterwards")


def times(one: Filter, faces: torch.nn.Module, threads: int) -> None:
    """One photo of 256 px through ONNX Runtime, and what inversion and an edit would take."""
    torch.set_num_threads(threads)
    photo = faces.preview(dvlatent.broadcast(faces.mapping(dvlatent.normal(FIRST_SEED, faces.z_dim)), faces.num_layers)).clamp(-1, 1)
    with tempfile.TemporaryDirectory() as folder:
        run = onnx_runner(str(export_onnx(one, Path(folder, "filter.onnx"))), threads)
        quick = seconds_a_photo(partial(run, photo, 1.0), 50)
    slow = seconds_of_a_search(faces, photo, distance=dvlatent.load("perceptual"), identity=dvlatent.load("identity"), steps=8)
    print(f"{threads} threads: filter {1000 * quick:.1f} ms; inversion with its usual settings: {slow:.0f} s")
    print(f"  the filter is {slow / quick:,.0f} times faster")


if __name__ == "__main__":
    main()
