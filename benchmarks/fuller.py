"""The direction toward a fuller face: how much wider jaw and cheeks become, and what else changes.

    python benchmarks/fuller.py [--faces 60] [--first-seed 20000]

Full renders at 256 px, psi 0.8, adults by the finder who look ahead (within 15 degrees): nothing was fitted on them. Medians with 95 %
bootstrap intervals; "same person" and "gender flips" are means.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from ageing import adults, drawn

import dvlatent
from dvlatent.faces.identity import SAME_PERSON_BELOW
from dvlatent.faces.landmarks import fullness, geometry
from dvlatent.metrics.edits import skin_shift
from dvlatent.stats import bootstrap

AMOUNTS = (-2.0, -1.0, 1.0, 2.0)
LARGEST_YAW = 15.0  # degrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=60, help="unseen adults (default 60)")
    parser.add_argument("--first-seed", type=int, default=20_000, help="of the faces (default 20000)")
    chosen = parser.parse_args()
    names = ("faces", "landmarks", "identity", "judge", "attributes", "fuller-direction")
    generator, landmarks, identity, judge, finder, fuller = (dvlatent.load(name) for name in names)
    ws, before = adults(generator, finder, chosen.faces, chosen.first_seed)
    points = landmarks.points(before)
    ahead = geometry(points)[:, 3].abs() < LARGEST_YAW
    ws, before, points = ws[ahead], before[ahead], points[ahead]
    person, was = identity(before), judge(before)
    print(f"{len(ws)} of {chosen.faces} adults look ahead")
    for amount in AMOUNTS:
        after = drawn(generator, fuller.move(ws, amount))
        now, distance = judge(after), (identity(after) - person).norm(dim=1)
        shape, change = landmarks.points(after), now - was
        rows = {
            "width, percent": 100 * (fullness(shape) / fullness(points) - 1),
            "identity distance": distance,
            "same person": (distance < SAME_PERSON_BELOW).float(),
            "years": change[:, judge.names.index("age")],
            "gender flips": ((now > 0.5) != (was > 0.5))[:, judge.names.index("male")].float(),
            "smile": (geometry(shape) - geometry(points))[:, 0],
            "skin Delta E": skin_shift(before, after),
        }
        print(f"fuller {amount:+g}")
        for name, row in rows.items():
            value = bootstrap(row.numpy(), np.mean if name in ("same person", "gender flips") else np.median)
            print(f"  {name:18} {value.value:6.2f}  ({value.low:.2f} to {value.high:.2f})")


if __name__ == "__main__":
    with torch.no_grad():
        main()
