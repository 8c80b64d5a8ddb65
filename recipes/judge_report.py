"""Measuring the judge on faces that nobody trained on, and shipping it: `dvlatent train judge`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from common import LICENSE
from jaxtyping import Float
from judge import JudgeConfig, LabelPool, glasses_labels, label_pool, train_judge
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError
from dvlatent.faces.judge import Judge
from dvlatent.training import progress
from dvlatent.types import Predictor
from dvlatent.zoo import load

GROUPS = ((0, 10), (10, 20), (20, 35), (35, 50), (50, 65), (65, 81))  # perceived ages, in years
UNSEEN = 20_000  # the first seed that neither the finding of directions nor the judge has seen
SAVE_EVERY = 200  # steps
Scores = Float[np.ndarray, "face name"]


@torch.no_grad()
def read_pool(judge: Predictor, pool: LabelPool) -> Scores:
    """What the judge says of every face of a pool: [faces, 4]."""
    pieces = np.array_split(pool.pictures[: pool.done], max(1, pool.done // 64))
    return torch.cat([judge(images.from_uint8(piece)) for piece in pieces]).numpy()


def judge_report(says: Scores, labels: Scores, glasses: Mapping[int, bool], first_seed: int) -> dict[str, object]:
    """How far the judge [faces, 4] agrees with the labels [faces, 3] and, where `glasses` knows the seed, with the eye.

    Errors are judge minus label: `bias` above 0 says older. `calibration` has one (says, label) pair of means per tenth of the faces,
    by what the judge says. Smile is compared where its label is known. Numbers are rounded for the file's description.
    """
    (age, male, smile, wears), (true_age, true_male, true_smile) = says.T, labels.T
    smiling = np.isfinite(true_smile)
    report: dict[str, object] = {"faces": len(says)}
    report["age"] = _errors(age, true_age) | {"calibration_years": _tenths(age, true_age, 1)}
    groups = {f"{low} to {high - 1}": (true_age >= low) & (true_age < high) for low, high in GROUPS}
    report["age"]["by_group"] = {name: _errors(age[inside], true_age[inside]) for name, inside in groups.items() if inside.any()}
    report["male"] = _yes_or_no(male > 0.5, true_male > 0.5) | {"calibration": _tenths(male, true_male, 2)}
    report["smile"] = _errors(smile[smiling], true_smile[smiling], 3) | {"calibration": _tenths(smile[smiling], true_smile[smiling], 3)}
    known = [(face, glasses[first_seed + face]) for face in range(len(says)) if first_seed + face in glasses]
    if known:
        faces, truth = (np.array(column) for column in zip(*known, strict=True))
        report["glasses"] = _yes_or_no(wears[faces] > 0.5, truth) | {"calibration": _tenths(wears[faces], truth.astype(float), 2)}
    return report


def ship_judge(out: Path, folder: Path, test_faces: tuple[int, int] = (1000, 200), **chosen: int) -> None:
    """Render and label faces, train a judge on them, measure it on unseen ones, write it. All of it resumes from `folder`.

    `chosen` are fields of JudgeConfig, e.g. faces and steps. `test_faces` is how many it is measured on: at psi 1, then at psi 0.7.
    """
    config = JudgeConfig(**chosen)
    generator, predictors = load("faces"), [load("attributes"), load("landmarks")]

    def rendered(name: str, config: JudgeConfig, full: bool = False) -> LabelPool:
        faces = label_pool(generator, predictors, folder / name, config, full)
        return list(tqdm(faces, total=config.faces, unit="face", desc=name))[-1]

    pool, glasses = rendered("faces", config), glasses_labels()
    kept, plan = folder / "training.safetensors", asdict(config)
    state, before = checkpoint.load(kept, "judge in training") if kept.exists() else ({}, {"config": plan})
    if before["config"] != plan:
        raise CheckpointError(f"{kept} is a training with {before['config']}; {plan} was asked for. Delete it, or give another --pool.")
    steps = train_judge(pool, glasses, config, state)
    for step in progress(steps, config.steps, lambda step: f"off by {step.off_years:.1f} years"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == config.steps - 1:
            checkpoint.save(kept, step.state(), {"kind": "judge in training", "config": plan})
    tensors = _halved(checkpoint.load(kept, "judge in training")[0])
    judge = Judge(config.width).eval().requires_grad_(False)
    judge.load_state_dict(tensors)
    scores = {}
    for psi, full, count in ((1.0, False, test_faces[0]), (0.7, False, test_faces[1]), (0.7, True, test_faces[1])):
        name = f"{'full renders' if full else 'previews'} at psi {psi:g}"
        test = rendered(name.replace(" ", "-"), replace(config, first_seed=UNSEEN, faces=count, psi=psi), full)
        eye = glasses if psi == 1 else {}  # the eye looked at psi 1
        scores[name] = judge_report(read_pool(judge, test), test.labels[: test.done], eye, UNSEEN)
    description = {
        "kind": "judge",
        "width": config.width,
        "names": Judge.names,
        "trained": f"{config.faces} previews from seed {config.first_seed} at psi {config.psi:g}, {config.steps} steps of {config.batch}",
        "labels": "age and male: `attributes`; smile: `landmarks`; glasses: one person's eye. Perceived, and no truer than its teachers",
        "config": plan,
        "command": f"dvlatent train judge --out {out.name} --faces {config.faces} --steps {config.steps}",
        "licence": LICENSE,
        "scores": scores,
    }
    checkpoint.save(out, tensors, description)
    print(f"{out}: {scores}", file=sys.stderr)


def _halved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The averaged judge of a training, as the file will hold it: what is measured is what is shipped."""
    mine = {name.removeprefix("average."): tensor for name, tensor in state.items() if name.startswith("average.")}
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in mine.items()}


def _errors(says: np.ndarray, truth: np.ndarray, digits: int = 2) -> dict[str, object]:
    off = says - truth
    combine = float(np.corrcoef(says, truth)[0, 1]) if len(off) > 1 and says.std() > 0 and truth.std() > 0 else 0.0
    means = {"mae": np.abs(off).mean(), "bias": off.mean(), "correlation": combine}
    return {"faces": len(off)} | {name: round(float(value), digits) for name, value in means.items()}


def _yes_or_no(says: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    both, any_said, any_true = (says & truth).sum(), max(says.sum(), 1), max(truth.sum(), 1)
    shares = {"accuracy": (says == truth).mean(), "precision": both / any_said, "recall": both / any_true}
    return {"faces": len(says), "yes": int(truth.sum())} | {name: round(float(value), 4) for name, value in shares.items()}


def _tenths(says: np.ndarray, truth: np.ndarray, digits: int) -> list[tuple[float, float]]:
    """(mean of what is said, mean of the truth) in each tenth of the faces, from the lowest said to the highest."""
    order = np.argsort(says, kind="stable")
    return [tuple(round(float(side[part].mean()), digits) for side in (says, truth)) for part in np.array_split(order, 10) if len(part)]
