"""The direction and the filter toward a fuller face: how much wider jaw and cheeks become, and what else changes.

    python benchmarks/fuller.py [--faces 60] [--first-seed 20000] [--edits fuller-direction fuller-filter]

Full renders at 256 px, psi 0.8, adults by the finder who look ahead (within 15 degrees): nothing was fitted on them. Medians with 95 %
bootstrap intervals; fractions and the background are means. "Background" is the change outside the soft mask of face, neck and hair, before
and after, in levels of 255; "surely outside" is where that mask is below 0.1.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import torch
from ageing import adults, drawn

import dvlatent
from dvlatent.distillation.filter import Filter
from dvlatent.faces.identity import SAME_PERSON_BELOW
from dvlatent.faces.landmarks import fullness, geometry
from dvlatent.metrics.edits import background_change, skin_shift
from dvlatent.stats import bootstrap

AMOUNTS = (-2.0, -1.0, 1.0, 2.0)
LARGEST_YAW = 15.0  # degrees
MEANS = ("same person", "gender flips", "background", "surely outside")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=60, help="unseen adults (default 60)")
    parser.add_argument("--first-seed", type=int, default=20_000, help="of the faces (default 20000)")
    parser.add_argument("--edits", nargs="+", default=["fuller-direction", "fuller-filter"], help="names or files (default both of ours)")
    chosen = parser.parse_args()
    names = ("faces", "landmarks", "identity", "judge", "attributes", "face-parts")
    generator, landmarks, identity, judge, finder, parts = (dvlatent.load(name) for name in names)
    ws, before = adults(generator, finder, chosen.faces, chosen.first_seed, 256)
    points = landmarks.points(before)
    ahead = geometry(points)[:, 3].abs() < LARGEST_YAW
    ws, before, points = ws[ahead], before[ahead], points[ahead]
    person, was, subject = identity(before), judge(before), parts.subject(before)
    print(f"{len(ws)} of {chosen.faces} adults look ahead")
    for name, amount in product(chosen.edits, AMOUNTS):
        edit = dvlatent.load(name)
        after = edit(before, amount) if isinstance(edit, Filter) else drawn(generator, edit.move(ws, amount))
        now, distance = judge(after), (identity(after) - person).norm(dim=1)
        shape, change = landmarks.points(after), now - was
        either = torch.maximum(subject, parts.subject(after))
        rows = {
            "width, percent": 100 * (fullness(shape) / fullness(points) - 1),
            "identity distance": distance,
            "same person": (distance < SAME_PERSON_BELOW).float(),
            "years": change[:, judge.names.index("age")],
            "gender flips": ((now > 0.5) != (was > 0.5))[:, judge.names.index("male")].float(),
            "smile": (geometry(shape) - geometry(points))[:, 0],
            "skin Delta E": skin_shift(before, after),
            "background": background_change(before, after, either),
            "surely outside": background_change(before, after, (either > 0.1).float()),
        }
        print(f"{name} {amount:+g}")
        for what, row in rows.items():
            value = bootstrap(row.numpy(), np.mean if what in MEANS else np.median)
            print(f"  {what:18} {value.value:6.2f}  ({value.low:.2f} to {value.high:.2f})")


if __name__ == "__main__":
    with torch.no_grad():
        main()
