"""Search for the edit that ages most and keeps the person: `python recipes/age_edit.py --out age-edit.safetensors` (20 minutes)."""

from __future__ import annotations

import sys
from pathlib import Path

from common import LICENSE, command, parser, run

from dvlatent import checkpoint
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.training import progress
from dvlatent.zoo import load

SAVE_EVERY = 500  # steps
BOLDER = 1.3  # times what the search found: its reader sees more years in these edits than the judge does
BALANCE = 0.27  # steps of the gender direction taken back: wrinkles and moustaches look male to the judge


def make(out: Path, steps: int = 700) -> None:
    """Search from the age direction on, and write what is found: bolder, and with its maleness taken back."""
    generator, start, config = load("faces"), load("age-direction"), OptimizeEditConfig(steps=steps)
    reader, identity, gender = load("attributes").differentiable(), load("identity"), load("gender-direction")
    search = optimize_edit(generator, start, reader, identity, config, without=[gender])
    for step in progress(search, steps, lambda step: f"{step.gain:+.0f} years, identity {step.identity_distance:.2f}"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == steps - 1:
            made_by = command("age_edit", out, steps=steps)
            checkpoint.save_edit(BOLDER * step.edit - BALANCE * gender, out, updates=step.index + 1, command=made_by, licence=LICENSE)


if __name__ == "__main__":
    kept = f"The edit so far is written every {SAVE_EVERY} steps."
    sys.exit(run(make, parser(__doc__, steps=700), kept=kept))
