"""Train the judge that sees lines (`SharpJudge`): `python recipes/sharp_judge.py --out judge-224.safetensors`.

It reads previews of --faces seeds, and the full renders, before and after, of the pairs that `filters.py` drew into --pairs: so it knows
edited faces. All are labeled by face-api (`tfjs.py`), which taught neither the finder nor an edit: the mean of six readings, of cuts that
wander and of their mirror images. What the frozen network says of each face is kept in --pool, so training takes minutes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, natural, parser, run
from judge import AGE_GROUPS, _errors, _yes_or_no, age_balanced
from last_training import PairFiles
from tfjs import AGE_GENDER, FACE_API, FaceApi, fetch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.faces.judge import SharpJudge
from dvlatent.training import cooldown
from dvlatent.types import Image, Predictor
from dvlatent.zoo import load

VIEWS, JITTER, AT_ONCE = 3, 0.02, 8  # cuts of a face for its label, how far they wander, faces read together
UNSEEN, UNSEEN_PAIRS = 1000, 60  # the last previews, and the first pairs of each filter: to measure on
BATCH, LR, DECAY = 128, 1e-3, 0.05


@torch.no_grad()
def labels(reader: Predictor, faces: Image, rng: random.Random) -> Tensor:
    """Perceived age and probability of perceived male, [batch, 2]."""
    readings = []
    for _ in range(VIEWS):
        across, down, zoom = (rng.uniform(-JITTER, JITTER) for _ in range(3))
        readings.append(reader(torch.cat([faces, faces.flip(-1)]), (across, down), 1 + zoom).unflatten(0, (2, -1)).mean(dim=0))
    return torch.stack(readings).mean(dim=0)


@torch.no_grad()
def described(judge: SharpJudge, reader: Predictor, draw: Callable[[int], Image], count: int, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Descriptions and labels of `count` faces, on disk; goes on where it was stopped."""
    x = array_on_disk(file.with_suffix(".x.npy"), (count, judge.mean.numel()), np.float16)
    y = array_on_disk(file.with_suffix(".y.npy"), (count, len(judge.names)), np.float32)
    for first in tqdm(range(0, count, AT_ONCE), unit_scale=AT_ONCE, unit="face", desc=file.name):
        rows = range(first, min(first + AT_ONCE, count))
        if y[rows[-1]].any():
            continue
        faces = torch.cat([draw(index) for index in rows])
        with torch.autocast("cpu", torch.bfloat16):
            x[rows.start : rows.stop] = judge.describe(faces).float().numpy()
        y[rows.start : rows.stop] = labels(reader, faces, random.Random(first)).numpy()
    return x, y


def train(judge: SharpJudge, x: np.ndarray, y: np.ndarray, steps: int, seed: int = 0) -> None:
    """Fit the head in place: the error of the age in standard deviations, and the cross-entropy of the gender."""
    torch.manual_seed(seed)
    rng, chances = np.random.default_rng(seed), age_balanced(y[:, 0], 0.5)
    sample = torch.from_numpy(x[rng.choice(len(x), min(4000, len(x)), replace=False)]).float()
    judge.mean.copy_(sample.mean(dim=0))
    judge.std.copy_(sample.std(dim=0).clamp_min(1e-3))
    adam = torch.optim.AdamW(judge.head.parameters(), LR, weight_decay=DECAY)
    judge.train()

    for index in (bar := tqdm(range(steps), unit="step", desc="training")):
        rows = rng.choice(len(x), BATCH, p=chances)
        truth = torch.from_numpy(y[rows])
        found = judge.scores(torch.from_numpy(x[rows]).float())
        error = (found[:, 0] - truth[:, 0]) / judge.unit[1]
        loss = F.smooth_l1_loss(error, torch.zeros_like(error)) + 0.3 * F.binary_cross_entropy(found[:, 1], truth[:, 1].clamp(0, 1))
        for group in adam.param_groups:
            group["lr"] = LR * cooldown(index, steps, 0.5)
        adam.zero_grad()
        loss.backward()
        adam.step()
        bar.set_postfix_str(f"error {float(error.detach().abs().mean() * judge.unit[1]):.1f} years", refresh=False)
    judge.eval()


def report(scores: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    """How well scores [faces, 2] agree with the labels."""
    found: dict[str, object] = {"age": _errors(scores[:, 0], truth[:, 0]), "male": _yes_or_no(scores[:, 1] > 0.5, truth[:, 1] > 0.5)}
    groups = {f"{low} to {high - 1}": (truth[:, 0] >= low) & (truth[:, 0] < high) for low, high in AGE_GROUPS}
    return found | {"by_group": {name: _errors(scores[at, 0], truth[at, 0]) for name, at in groups.items() if at.any()}}


def changes(scores: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    """How well the years between a before and its after agree: rows before, after, before, after ..."""
    return _errors(scores[1::2, 0] - scores[::2, 0], truth[1::2, 0] - truth[::2, 0])


def make(out: Path, pool: Path, pairs: Path, faces: int, steps: int) -> None:
    """Describe the faces, train the head, measure it on unseen faces and pairs, write it."""
    judge, generator = SharpJudge(load("perceptual").network), load("faces")
    reader = FaceApi(*fetch(FACE_API, AGE_GENDER, pairs / "readers"))
    x, y = described(judge, reader, lambda seed: natural(generator, generator.preview, seed, 1.0), faces, pool / "previews")
    learn, tests = [(x[:-UNSEEN], y[:-UNSEEN])], {"previews": (x[-UNSEEN:], y[-UNSEEN:])}
    for folder in sorted(pairs.glob("pairs-*-2")):
        dataset = PairFiles(folder)
        both = described(
            judge,
            reader,
            lambda at, pictures=dataset.pictures: images.from_uint8(pictures[at // 2, at % 2][None]),
            2 * len(dataset),
            pool / folder.name,
        )
        learn.append(tuple(part[2 * UNSEEN_PAIRS :] for part in both))
        tests[folder.name.split("-")[1]] = tuple(part[: 2 * UNSEEN_PAIRS] for part in both)
    train(judge, *(np.concatenate(parts) for parts in zip(*learn, strict=True)), steps)
    tensors = half(judge)
    judge.load_state_dict(tensors)  # what is measured is what is written
    scores: dict[str, object] = {}
    for name, (x, y) in tests.items():
        with torch.no_grad():
            said = judge.scores(torch.from_numpy(np.array(x)).float()).numpy()
        scores[name] = report(said, y) | ({} if name == "previews" else {"years between before and after": changes(said, y)})
    about = {"kind": "sharp judge", "width": judge.width, "names": judge.names, "faces": sum(len(part[1]) for part in learn)}
    about |= {"labels": "face-api 1.7.15 (MIT), the mean of six readings", "scores": scores, "licence": LICENSE}
    checkpoint.save(out, tensors, about | {"command": command("sharp_judge", out, faces=faces, steps=steps)})
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    options = {"pool": Path("build/sharp-judge"), "pairs": Path("build/filters"), "faces": 20_000, "steps": 4000}
    sys.exit(run(make, parser(__doc__, **options), kept="Descriptions are kept in --pool: the same command goes on."))
