"""What the shipped directions do to 500 unseen faces: success, identity and leakage, with intervals.

    python benchmarks/directions.py [--faces 500] [--edit-only]

Neither the finder nor the judge saw these faces (seeds from 400,000 on, psi 0.7, previews); all of them have a perceived age of 18 to 55
before the edit. The judge, which did not find the directions, measures success and leakage; dlib's network measures identity.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from tqdm import tqdm

import dvlatent
from dvlatent.editing import find, survey
from dvlatent.editing.effects import Effects, effects_of, leak_cut, leakage, success
from dvlatent.latents import w_of

FIRST_SEED = 400_000
ADULT = (18, 55)  # perceived years before the edit: for a child, +20 years have no known answer
AGE, SHOWN = (1.65, 1.85), 1.65  # steps
KEPT = 0.8  # fraction of the faces that should stay the same person
EDIT = (0.9, 1.0)  # amounts of the edit found by gradient
OTHERS = {"male": (-3.0, -2.0, 2.0, 3.0), "smile": (-2.0, -1.5, 1.5, 2.0)}  # steps of the gender and the smile direction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=500, help="unseen adults (default 500)")
    parser.add_argument("--edit-only", action="store_true", help="only the edit found by gradient")
    chosen = parser.parse_args()
    wanted = chosen.faces
    faces, judge, identity = dvlatent.load("faces"), dvlatent.load("judge"), dvlatent.load("identity")
    age, gender, smile = (dvlatent.load(f"{name}-direction") for name in ("age", "gender", "smile"))
    population = survey.load().take(10_000)
    raw = find.find(faces, population, "age", low=(18, 28), high=(55, 100))
    projected = find.measured_on(raw.without(find.find(faces, population, "male", by="logistic")), faces, population)
    seeds = adults(faces, judge, wanted)

    def measured(edits, amounts, count: int = wanted) -> dict[str, Effects]:
        return effects_of(faces, edits, amounts, tqdm(seeds[:count], unit="face", desc=", ".join(edits)), judge, identity)

    edit = dvlatent.load("age-edit")
    by_gradient = measured({"age": edit}, EDIT)["age"]
    print(f"the edit found by gradient: +20 perceived years, {len(seeds)} adults perceived {ADULT[0]} to {ADULT[1]}")
    report(success(by_gradient, "age", by=20))
    whole = pick(by_gradient, [EDIT.index(1.0)])
    if chosen.edit_only:
        show_leak("edit", whole)
        return
    found = measured({"age": age}, AGE)["age"]
    print("the age direction: the same")
    report(success(found, "age", by=20))
    others = measured({"raw": (1.3 * raw), "projected": 1.6 * projected}, (1.0,))
    show_leak("raw", others["raw"])
    show_leak("projected", others["projected"], others["raw"])
    show_leak("shipped", pick(found, [AGE.index(SHOWN)]), others["raw"])
    show_leak("edit", whole, others["raw"])
    for name, direction in (("male", gender), ("smile", smile)):
        one = measured({name: direction}, OTHERS[name], wanted // 2)[name]
        for falling in (False, True):
            rows = [row for row, amount in enumerate(one.amounts) if (amount < 0) == falling]
            print(f"{name}: past 0.5 {'downward' if falling else 'upward'}, of the faces that begin on the other side")
            report(success(pick(one, rows), name, past=0.5, falling=falling))


def adults(faces, judge, wanted: int) -> list[int]:
    """The first unseen seeds whose faces the judge perceives as adults."""
    found: list[int] = []
    with tqdm(total=wanted, unit="adult") as bar:
        for first in range(FIRST_SEED, FIRST_SEED + 10 * wanted, 8):
            w = w_of(faces, range(first, first + 8), 0.7)
            years = judge(faces.preview(dvlatent.broadcast(w, faces.num_layers)))[:, 0]
            found += [first + row for row in range(8) if ADULT[0] <= years[row] <= ADULT[1]]
            bar.n = min(len(found), wanted)
            bar.refresh()
            if len(found) >= wanted:
                break
    return found[:wanted]


def pick(found: Effects, rows: list[int]) -> Effects:
    """The effects of these amounts."""
    amounts = tuple(found.amounts[row] for row in rows)
    return replace(found, amounts=amounts, after=found.after[rows], identity=found.identity[rows])


def show_leak(name: str, found: Effects, raw: Effects | None = None) -> None:
    """Print how much "male" changes along with 20 perceived years."""
    leak = leakage({"age": found}, std={"age": 20.0, "male": 1.0, "smile": 1.0, "glasses": 1.0}).at("age", "male")
    women = found.take(found.before[:, 1] < 0.5)
    turned = 100 * (women.after[0, :, 1] > 0.5).float().mean()
    cut = f"   leak cut by {leak_cut(raw, found, 'age', 'male')}" if raw else ""
    print(f"  {name:10} change of 'male': {leak}   women who became men {turned:.0f} %{cut}")


def report(answers) -> None:
    print(f"  {'steps':>6}   moved                 same person           both")
    for one in answers:
        print(f"  {one.amount:+6.2f}   {one.moved!s:20}  {one.kept!s:20}  {one.both}")
    if kept := [one for one in answers if one.kept.value >= KEPT]:
        print(f"  best that keeps {KEPT:.0%}: {max(kept, key=lambda one: one.moved.value).amount:g}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
