"""Train a filter as we ship it: `python recipes/filters.py age --out age-filter.safetensors` (several hours).

Pairs are drawn into a folder of --pool, then a student learns from them in several trainings: first with losses at 128 px and with a
discriminator; the last ones at 256 px with the pixel and the perceptual loss alone, which removes the specks and fringes that a
discriminator leaves. Then it learns what is fine, such as wrinkles and teeth, from pairs of full renders (`last_training.py`). Smile and
gender begin with weights of the age filter: its trainings come first.
Several processes:
`accelerate launch --multi_gpu --num_processes 2 recipes/filters.py age --out age-filter.safetensors`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import last_training
from common import parser, run

from dvlatent.cli.distillation import distill_folder
from dvlatent.cli.main import main as dvlatent
from dvlatent.training import accelerated

PAIRS = {  # what is drawn for each filter
    "age": ["--edit", "age:-2..+2", "--psi", "1", "--first-seed", "0", "--count", "1600"],
    "smile": ["--edit", "smile:-2..+2", "--psi", "0.9", "--first-seed", "2000000", "--count", "1200"],
    "gender": ["--edit", "gender:-2..+2", "--psi", "0.9", "--first-seed", "2000000", "--count", "900"],
}
SECOND = {"batch": 4, "pixel": 5.0, "perceptual": 10.0, "coarse_steps": 8000}  # fields of DistillConfig: every training but the first
HOLDOUT = 100  # pairs that no filter learns from
LAST = {**SECOND, "coarse_steps": 0, "lr": 5e-4, "adversarial": 0.0, "features": 0.0}  # at full size, without a discriminator


@dataclass(frozen=True)
class Stage:
    """One training."""

    steps: int
    config: dict[str, float] = field(default_factory=lambda: SECOND)
    start: str | None = None  # the training whose weights it begins with
    stop_after: int | None = None  # steps after which it ends, though its learning rates fall more slowly
    amplify: float | None = None  # chosen by hand where the automatic factor is too strong


STAGES = {
    "age-1": Stage(4600, {"batch": 4, "coarse_steps": 3800, "discriminator_from": 1200}, stop_after=3500),
    "age-2": Stage(6000, start="age-1"),
    "age": Stage(800, LAST, start="age-2"),
    "smile-1": Stage(2500, start="age-1"),
    "smile": Stage(1200, LAST, start="smile-1", amplify=1.2),
    "gender-1": Stage(1500, start="age-2"),
    "gender-2": Stage(7000, start="gender-1"),
    "gender-3": Stage(1000, LAST, start="gender-2"),
    "gender": Stage(1400, LAST, start="gender-3", amplify=1.05),
}


def make(out: Path, what: str, pool: Path) -> None:
    """Draw the pairs of a filter, and do all trainings that lead to it. Pairs and finished trainings are kept in `pool`."""
    pool.mkdir(parents=True, exist_ok=True)
    trained = train(what, pool)
    if is_first():
        last_training.make(what, trained, out, pool, command=f"python recipes/filters.py {what} --out {what}-filter.safetensors")


def train(name: str, pool: Path) -> Path:
    """Do one training, after those that it begins with; gives its file."""
    stage, file = STAGES[name], pool / f"{name}.safetensors"
    what, begun = name.split("-")[0], file.with_suffix(".run.safetensors").exists()
    if file.exists() and not begun:
        return file
    start = train(stage.start, pool) if stage.start else None
    folder = pool / f"pairs-{what}"
    if code := dvlatent(["pairs", *PAIRS[what], "--out", str(folder)]):
        sys.exit(code)
    wait()
    command = f"python recipes/filters.py {what} --out {what}-filter.safetensors"
    options = {"start": start, "amplify": stage.amplify, "stop_after": stage.stop_after, "holdout": HOLDOUT, "command": command}
    distill_folder(folder, file, {"steps": stage.steps, **stage.config}, **options)
    wait()
    return file


def wait() -> None:
    """Until every process is here, if there are several."""
    if accelerator := accelerated():
        accelerator.wait_for_everyone()


def is_first() -> bool:
    """Whether this process writes the files."""
    accelerator = accelerated()
    return accelerator is None or accelerator.is_main_process


if __name__ == "__main__":
    arguments = parser(__doc__, pool=Path("build/filters"))
    arguments.add_argument("what", choices=list(PAIRS), help="the edit of the filter")
    sys.exit(run(make, arguments, kept="Pairs, finished trainings and the run are kept in --pool; the same command goes on from there."))
