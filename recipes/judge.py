"""Train the judge (`dvlatent/faces/judge.py`) on generated faces that other predictors label.

`python recipes/judge.py --out judge.safetensors` renders and labels faces once into --pool, 28 kB each: unedited ones, because the labels
of edited faces would be what the finder of directions believes. Then it trains the network, and measures it on unseen faces. All stages
resume.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, natural, parser, run
from disturb import disturb
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError
from dvlatent.faces.judge import BIN_YEARS, SIZE_PX, Judge, glasses_labels
from dvlatent.training import TrainingState, autocast, progress, warm_decay, warmup_cosine
from dvlatent.types import Generator, Image, Predictor
from dvlatent.zoo import load

LABELS = ("age", "male", "smile")  # columns of the labels; glasses come from `glasses_labels`
AGE_GROUPS = ((0, 10), (10, 20), (20, 35), (35, 50), (50, 65), (65, 81))  # perceived, in years
FIRST_TEST_SEED = 20_000  # neither the judge nor the directions learn from seeds from here on
SAVE_EVERY = 200  # steps
Scores = Float[np.ndarray, "face name"]


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge is trained."""

    faces: int = 10_000  # rendered once
    first_seed: int = 10_000  # the second half of the survey: directions are found on the first half
    psi: float = 1.0  # truncation of the faces: 1 keeps all their variety
    steps: int = 3000  # optimizer steps
    batch: int = 64  # faces in a step
    labelled: float = 0.25  # fraction of a batch with a label for glasses ...
    wearers: float = 0.4  # ... and the fraction of these that wear them
    usual_wearers: float = 0.19  # fraction that wears glasses among faces that were not selected
    age_balance: float = 0.5  # 0: ages as they come; 1: children and old people as often as others
    lr: float = 2e-3  # AdamW's learning rate at its highest
    weight_decay: float = 0.02  # of AdamW
    blur_years: float = 2.5  # standard deviation of the distribution over ages that a label becomes
    width: int = 24  # channels after the first layer
    bf16: bool = True  # 16-bit numbers: twice as fast where the processor has them
    seed: int = 0  # of the first weights, the order and the augmentation


@dataclass(frozen=True)
class LabelPool:
    """Faces to learn from, in the order of their seeds."""

    pictures: np.ndarray  # [faces, 96, 96, 3] uint8, on disk
    labels: np.ndarray  # [faces, 3] float32, on disk: age, male, smile; not finite where unknown
    done: int  # how many are rendered


@dataclass(frozen=True)
class JudgeStep:
    """The result of one step of training."""

    index: int
    loss: float  # of this batch
    error_years: float  # mean absolute error of this batch's ages
    judge: Judge  # the moving average of the weights, in eval mode: the one to keep
    save: Callable[[Path], None]  # writes all that `train_judge(..., resume=path)` needs to go on bit for bit


@torch.no_grad()
def label_pool(
    generator: Generator, predictors: Sequence[Predictor], folder: Path, config: JudgeConfig, full: bool = False
) -> Iterator[LabelPool]:
    """Render and label faces into two .npy files; yields the pool as it grows, and resumes.

    Together the predictors give age, male and smile. Previews where the generator has them, unless `full`.
    Raises CheckpointError if the folder holds a pool of another size, or if a label is missing.
    """
    columns = {name: (which, predictor.names.index(name)) for which, predictor in enumerate(predictors) for name in predictor.names}
    if missing := [name for name in LABELS if name not in columns]:
        raise CheckpointError(f"no predictor gives {', '.join(missing)}; {', '.join(LABELS)} are needed. Add one that does.")
    pictures = array_on_disk(folder / "pictures.npy", (config.faces, SIZE_PX, SIZE_PX, 3), np.uint8)
    labels = array_on_disk(folder / "labels.npy", (config.faces, len(LABELS)), np.float32)
    draw = generator.synthesis if full else getattr(generator, "preview", generator.synthesis)
    for face in range(config.faces):
        if not pictures[face].any():
            picture = natural(generator, draw, config.first_seed + face, config.psi)
            scores = [predictor(picture)[0] for predictor in predictors]
            labels[face] = [float(scores[which][column]) for which, column in (columns[name] for name in LABELS)]
            pictures[face] = small(picture)[0]
        yield LabelPool(pictures, labels, face + 1)


def small(image: Image) -> np.ndarray:
    """What the judge sees of a picture, as bytes: [batch, 96, 96, 3]."""
    return images.to_uint8(F.interpolate(image.clamp(-1, 1), size=(SIZE_PX, SIZE_PX), mode="area"))


def train_judge(pool: LabelPool, glasses: Mapping[int, bool], config: JudgeConfig, resume: Path | None = None) -> Iterator[JudgeStep]:
    """Fit a judge to a pool; stop at any step, its judge is ready to use. `resume` goes on from a file of `step.save`, bit for bit.

    Ages are learned as distributions (Gao et al. 2017, equation 1), so that "either 20 or 40" is a possible answer. Raises
    CheckpointError for a run of another config.
    """
    torch.manual_seed(config.seed)
    judge, ema = Judge(config.width).train(), Judge(config.width).eval().requires_grad_(False)
    labels = torch.from_numpy(np.array(pool.labels[: pool.done]))  # [faces, 3]
    smiles = labels[:, 2][labels[:, 2].isfinite()]
    if len(smiles) > 1:
        judge.smile_unit.copy_(torch.stack([smiles.mean(), smiles.std().clamp_min(1e-6)]))
    ema.load_state_dict(judge.state_dict())
    adam = torch.optim.AdamW(judge.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    state = TrainingState(config, {"judge": judge, "ema": ema}, {"optimizer": adam})
    if resume is not None:
        state.load(resume)
    probability = age_balanced(labels[:, 0].numpy(), config.age_balance)
    known = {seed - config.first_seed: wears for seed, wears in glasses.items() if 0 <= seed - config.first_seed < pool.done}
    wearing, bare = (np.array(sorted(face for face, wears in known.items() if wears == kind), dtype=int) for kind in (True, False))
    labelled = round(config.labelled * config.batch) if len(wearing) and len(bare) else 0
    wearers = round(config.wearers * labelled)
    for index in range(state.index, config.steps):
        rng = np.random.RandomState([config.seed, index])  # every step has its own, so there is nothing to save
        faces = np.concatenate([
            rng.choice(wearing, wearers) if labelled else [],
            rng.choice(bare, labelled - wearers) if labelled else [],
            rng.choice(pool.done, config.batch - labelled, p=probability),
        ]).astype(int)
        state.scale_lr(warmup_cosine(index, config.steps))
        pictures = disturb(images.from_uint8(pool.pictures[faces]), torch.Generator().manual_seed(2**32 * config.seed + index))
        loss, error_years = judge_loss(judge, pictures, labels[faces], wearers, labelled, config)
        state.update("optimizer", loss, clip=2.0)
        for mine, latest in zip(ema.state_dict().values(), judge.state_dict().values(), strict=True):  # batch norm's statistics too
            mine.lerp_(latest, 1 - warm_decay(index, 0.998)) if mine.is_floating_point() else mine.copy_(latest)
        state.index = index + 1
        yield JudgeStep(index, loss.item(), error_years, ema, state.save)


def judge_loss(judge: Judge, pictures: Image, labels: Tensor, wearers: int, labelled: int, config: JudgeConfig) -> tuple[Tensor, float]:
    """The sum of four losses, and the mean error of the ages. The first `wearers` of the first `labelled` faces wear glasses."""
    with autocast(pictures.device, config.bf16):
        ages, others = (part.float() for part in judge.logits(pictures))
    male, smile, glasses = others.unbind(1)
    years = labels[:, 0].clamp(0, float(judge.ages[-1]))
    target = torch.softmax(-0.5 * ((judge.ages - years[:, None]) / config.blur_years) ** 2, dim=1)  # [batch, bins]
    error = ages.softmax(1) @ judge.ages - years
    loss = F.cross_entropy(ages, target) + F.smooth_l1_loss(error / BIN_YEARS, torch.zeros_like(error)) / 4
    loss = loss + F.binary_cross_entropy_with_logits(male, labels[:, 1])  # the label is a probability, so the answer becomes one
    known = labels[:, 2].isfinite()
    mean, std = judge.smile_unit
    if known.any():
        loss = loss + F.smooth_l1_loss(smile[known], ((labels[:, 2] - mean) / std)[known])
    if labelled:
        wears = (torch.arange(labelled) < wearers).float()
        odds = wearers / (labelled - wearers) * (1 - config.usual_wearers) / config.usual_wearers  # in the batch, over the usual odds
        loss = loss + F.binary_cross_entropy_with_logits(glasses[:labelled] + math.log(max(odds, 1e-6)), wears)
    return loss, float(error.detach().abs().mean())


def age_balanced(age_years: np.ndarray, balance: float) -> np.ndarray:
    """The probability to draw each face: the rarer its age, in groups of five years, the higher."""
    group = (age_years // 5).astype(int).clip(0, 15)
    count = np.bincount(group, minlength=16)
    weight = np.maximum(count[group], 0.005 * len(group)) ** -balance  # a handful of faces must not fill every batch
    return weight / weight.sum()


@torch.no_grad()
def read_pool(judge: Predictor, pool: LabelPool) -> Scores:
    """The judge's scores of every face of a pool: [faces, 4]."""
    parts = np.array_split(pool.pictures[: pool.done], max(1, pool.done // 64))
    return torch.cat([judge(images.from_uint8(part)) for part in parts]).numpy()


def report(scores: Scores, labels: Scores, glasses: Mapping[int, bool], first_seed: int) -> dict[str, object]:
    """How well the judge's scores [faces, 4] agree with the labels [faces, 3] and with `glasses`, for the seeds that it knows.

    Errors are score minus label: a `bias` above 0 says older. `calibration` has the pair of means (score, label) of every tenth of the
    faces, in the order of the scores. Smiles are compared where their label is known.
    """
    (age, male, smile, wears), (true_age, true_male, true_smile) = scores.T, labels.T
    smiling = np.isfinite(true_smile)
    found: dict[str, object] = {"faces": len(scores)}
    found["age"] = _errors(age, true_age) | {"calibration_years": _tenths(age, true_age, 1)}
    groups = {f"{low} to {high - 1}": (true_age >= low) & (true_age < high) for low, high in AGE_GROUPS}
    found["age"]["by_group"] = {name: _errors(age[inside], true_age[inside]) for name, inside in groups.items() if inside.any()}
    found["male"] = _yes_or_no(male > 0.5, true_male > 0.5) | {"calibration": _tenths(male, true_male, 2)}
    found["smile"] = _errors(smile[smiling], true_smile[smiling], 3) | {"calibration": _tenths(smile[smiling], true_smile[smiling], 3)}
    known = [(face, glasses[first_seed + face]) for face in range(len(scores)) if first_seed + face in glasses]
    if known:
        faces, truth = (np.array(column) for column in zip(*known, strict=True))
        found["glasses"] = _yes_or_no(wears[faces] > 0.5, truth) | {"calibration": _tenths(wears[faces], truth.astype(float), 2)}
    return found


def _errors(scores: np.ndarray, truth: np.ndarray, digits: int = 2) -> dict[str, object]:
    error = scores - truth
    varied = len(error) > 1 and scores.std() > 0 and truth.std() > 0
    means = {"mae": np.abs(error).mean(), "bias": error.mean(), "correlation": np.corrcoef(scores, truth)[0, 1] if varied else 0.0}
    return {"faces": len(error)} | {name: round(float(value), digits) for name, value in means.items()}


def _yes_or_no(said: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    both = (said & truth).sum()
    rates = {"accuracy": (said == truth).mean(), "precision": both / max(said.sum(), 1), "recall": both / max(truth.sum(), 1)}
    return {"faces": len(said), "yes": int(truth.sum())} | {name: round(float(value), 4) for name, value in rates.items()}


def _tenths(scores: np.ndarray, truth: np.ndarray, digits: int) -> list[tuple[float, float]]:
    order = np.argsort(scores, kind="stable")
    return [tuple(round(float(side[part].mean()), digits) for side in (scores, truth)) for part in np.array_split(order, 10) if len(part)]


def make(
    out: Path, pool: Path, faces: int = JudgeConfig.faces, steps: int = JudgeConfig.steps, test_faces: tuple[int, int] = (1000, 200)
) -> None:
    """Render and label faces, train a judge on them, measure it on `test_faces` unseen ones (at psi 1, at psi 0.7), write it."""
    config, kept = JudgeConfig(faces=faces, steps=steps), pool / "training.safetensors"
    generator, predictors, glasses = load("faces"), [load("attributes"), load("landmarks")], glasses_labels()

    def rendered(name: str, config: JudgeConfig, full: bool = False) -> LabelPool:
        *_, last = tqdm(label_pool(generator, predictors, pool / name, config, full), total=config.faces, unit="face", desc=name)
        return last

    labelled = rendered("faces", config)
    tests = {}  # rendered before the training, which does not resume once it is finished
    for psi, full, count in ((1.0, False, test_faces[0]), (0.7, False, test_faces[1]), (0.7, True, test_faces[1])):
        name = f"{'full renders' if full else 'previews'} at psi {psi:g}"
        tests[name] = rendered(name.replace(" ", "-"), replace(config, first_seed=FIRST_TEST_SEED, faces=count, psi=psi), full)
    training = train_judge(labelled, glasses, config, resume=kept if kept.exists() else None)
    *_, step = progress(training, steps, lambda step: f"error {step.error_years:.1f} years", save=kept, every=SAVE_EVERY)
    tensors, judge = half(step.judge), step.judge
    judge.load_state_dict(tensors)  # what is measured is what is written
    scores = {}
    for name, test in tests.items():
        seen = glasses if name.endswith("psi 1") else {}  # the glasses were labelled at psi 1
        scores[name] = report(read_pool(judge, test), test.labels[: test.done], seen, FIRST_TEST_SEED)
    description = {
        "kind": "judge",
        "width": config.width,
        "names": Judge.names,
        "trained": f"{faces} previews from seed {config.first_seed} at psi {config.psi:g}, {steps} steps of {config.batch}",
        "labels": "age and male: `attributes`; smile: `landmarks`; glasses: one person's eye. Perceived, and no truer than its teachers",
        "config": asdict(config),
        "command": command("judge", out, faces=faces, steps=steps),
        "licence": LICENSE,
        "scores": scores,
    }
    checkpoint.save(out, tensors, description)
    kept.unlink(missing_ok=True)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    options = {"pool": Path("build/judge"), "faces": JudgeConfig.faces, "steps": JudgeConfig.steps}
    sys.exit(run(make, parser(__doc__, **options), kept="Faces and training are kept in --pool: the same command goes on."))
