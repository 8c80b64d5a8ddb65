"""Pairs of faces, before and after an edit: which are worth learning from, and a folder that keeps them. Taught in notebook 07.

The generator is the teacher (Viazovetskyi, Ivashkin and Kashin 2020, section 3): it draws a face, moves its latent along the edit and draws
it again with the same noise. Not every pair shows the edit and nothing else. A network that learns from bad pairs learns their mistakes, so
each pair is scored, and is kept only if it passes all `Rules`. A folder of pairs has

    pairs.json          the settings: generator, direction, strengths, rules, and how many pairs are asked for
    shards/000012.json  one block of seeds: id, seed, strength, scores, identity distance and the SHA-256 of both files of each pair, and
                        why the others were refused; written after their pictures
    train_A, train_B    the pictures before and after, with equal file names: pix2pixHD's own loader reads these two folders

Pictures are JPEG files of quality 95 with full color resolution: a third of the bytes of PNG (31 kB against 106 kB at 256 px), with an
error far below what a student can copy. Processes share nothing but the folder: each draws its own blocks, by number. The first `count`
kept pairs in the order of their seeds are the result, whatever the number of processes. (The two folders may hold a few pairs more.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dvlatent import files, images
from dvlatent.directions import Direction, Edit
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.faces.attributes import combine
from dvlatent.latents import broadcast, w_of
from dvlatent.types import BATCH, Generator, Identity, Image, Predictor, Render, fingerprint, renderer

KEPT = "kept"  # the reason of a pair that passed
FIRST_SEED = 2_000_000  # directions, the judge and all measurements use seeds below
BLOCK = 32  # seeds of a shard: what is drawn again after a process was killed
SIDES = ("train_A", "train_B")  # before, after
Shards = dict[int, dict[str, Any]]  # what is known of each block


@dataclass(frozen=True)
class PairsConfig:
    """What is drawn for each seed."""

    low: float = 2.0  # strength of the edit, in steps of its direction; each seed has its own between low and high ...
    high: float = 2.0  # ... so that the student has a dial; if both are equal, the student knows that strength only
    psi: float = 0.8  # truncation: lower is cleaner, higher has more kinds of people

    def __post_init__(self) -> None:
        if not (-20 <= self.low <= self.high <= 20 and max(-self.low, self.high) > 0 and 0 < self.psi <= 1):
            raise ShapeError(
                f"strengths run from a low to a high one within -20 to 20, not both 0, and psi lies in (0, 1]; given: {self.low:g} to "
                f"{self.high:g}, psi {self.psi:g}. Ageing is low=-2, high=2."
            )

    def strength(self, seed: int) -> float:
        """How far the face of this seed is moved; always the same for the same seed.

        A strength is drawn with a probability in proportion to its size: strong edits show the most, and the weak ones between are learned
        from them.
        """
        square = np.random.default_rng([seed, 7]).uniform(self.low * abs(self.low), self.high * abs(self.high))
        return float(np.copysign(np.sqrt(abs(square)), square))


@dataclass(frozen=True)
class Rules:
    """When a pair is worth learning from. A pair must pass every rule; the first one that it breaks is its reason."""

    score: str  # what the edit is meant to change
    min_change: float  # how far that score must move for each step, in its own unit
    tolerance: float = 0.0  # the error of its predictor: a change that is too small by this much still passes
    ends: tuple[float, float] = (-1e9, 1e9)  # where the scale ends: a face beyond may stay where it is
    log_odds: bool = False  # the score is a probability: compare log-odds
    max_change: dict[str, float] = field(default_factory=dict)  # how far other scores may move
    within: dict[str, tuple[float, float]] = field(default_factory=dict)  # the range of a score in both pictures: the faces are clean
    identity_limit: float = 0.6  # from this identity distance on, the picture after shows another person


CLEAN = {"sure": (0.4, 99.0), "others": (-99.0, 0.3), "yaw": (-45.0, 45.0)}
POSE = {"yaw": 8.0, "pitch": 8.0, "roll": 3.0}
RULES = {  # of the directions that we ship; the scores are those of attributes, landmarks and clean
    "age": Rules("age", 3.0, 1.5, (6.0, 68.0), False, {**POSE, "male": 0.35, "smile": 0.4, "mouth_open": 0.15}, CLEAN, 0.6),
    "gender": Rules("male", 1.5, 0.5, (-4.0, 4.0), True, {**POSE, "age": 12.0, "smile": 0.5, "mouth_open": 0.15}, CLEAN, 0.75),
    "smile": Rules("smile", 0.15, 0.1, (-0.3, 1.6), False, {**POSE, "age": 10.0, "male": 0.35}, CLEAN, 0.55),
}


STAY = {**POSE, "age": 12.0, "male": 0.35, "smile": 0.5, "mouth_open": 0.15}  # what may change by so much when something else is edited


def rules_for(edit: Direction | Edit, names: Sequence[str], score: str | None = None, min_change: float | None = None) -> Rules:
    """Rules for pairs of any edit, for predictors of these `names`. Age, gender and smile have their own: `RULES`.

    The score is the one that the direction was found by, unless you name another. Every step must move it by `min_change`: a fifth of its
    standard deviation among the faces that `find` compared, as the rules of age and smile ask; half of that is the tolerance, and a face
    beyond the lowest or highest 2 % may stay where it is. What else may change is `STAY`. Raises ShapeError if it is unknown what the edit
    changes, or how far.
    """
    first = _terms(edit)[0][1]
    found = first.found_by
    own = RULES[first.name].score if first.name in RULES else None
    score = score or str(found.get("score") or own or "")
    if score not in names:
        what = f"'{score}', which nobody reads here" if score else "nobody knows what"
        raise ShapeError(f"the edit '{first.name}' changes {what}: say --score and one of {', '.join(names)}, or name more --predictors.")
    rules = next((one for one in RULES.values() if one.score == score), None)
    if rules is None:
        std = float(found.get("score_std", 0)) if found.get("score") == score else 0.0
        if not (std or min_change):
            raise ShapeError(f"how far must '{score}' move in a step? '{first.name}' does not say: give --min-change, or find it again.")
        ends = (float(found["score_low"]), float(found["score_high"])) if std else (-1e9, 1e9)
        rules = Rules(score, 0.2 * std, 0.1 * std, ends, False, {name: limit for name, limit in STAY.items() if name != score}, CLEAN)
    if min_change:
        rules = replace(rules, min_change=min_change, tolerance=min_change / 2)
    read = {part: {name: limit for name, limit in getattr(rules, part).items() if name in names} for part in ("max_change", "within")}
    return replace(rules, **read)


def _terms(edit: Direction | Edit) -> tuple[tuple[float, Direction], ...]:
    return edit.terms if isinstance(edit, Edit) else ((1.0, edit),)


@dataclass(frozen=True, eq=False)
class PairStep:
    """A batch of candidates: pictures, scores, and the reason why each is kept or not."""

    index: int  # candidates so far, with these
    total: int  # candidates asked for
    seeds: tuple[int, ...]
    strength: Float[Tensor, " batch"]  # in steps of the direction
    before: Image  # rounded to bytes, as in a file
    after: Image
    names: tuple[str, ...]  # what was scored
    scores: Float[Tensor, "2 batch name"]  # before, after
    identity_distance: Float[Tensor, " batch"]  # 0 without an identity network
    reasons: tuple[str, ...]  # "kept", or the first rule that was broken

    @property
    def kept(self) -> Bool[Tensor, " batch"]:
        """Which of them passed every rule."""
        return torch.tensor([reason == KEPT for reason in self.reasons], dtype=torch.bool)


def candidates(
    generator: Generator,
    edit: Direction | Edit,
    seeds: Iterable[int],
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None,
    rules: Rules,
    config: PairsConfig | None = None,
    *,
    render: Render | None = None,
    batch: int = BATCH,
) -> Iterator[PairStep]:
    """Draw the face of each seed before and after its edit, score both, and check the pair.

    Only the layers of the direction are moved (an edit moves all its directions together), and the generator's noise is constant: nothing
    differs but the edit. The predictor of the edited score reads each picture and its mirror image, and both readings must pass. `render`
    is as in `survey`. Leave the judge out of `predictors`: it measures the student later. Raises DirectionMismatch for a direction of
    another generator, ShapeError for a rule about a score that no predictor gives.
    """
    config, seeds = config or PairsConfig(), list(seeds)
    for _, direction in _terms(edit):
        direction.check(generator)
    several = [predictors] if hasattr(predictors, "names") else list(predictors)
    predictor, draw = combine(several), renderer(generator, render)[0]
    if missing := sorted({rules.score, *rules.max_change, *rules.within} - set(predictor.names)):
        scored = ", ".join(predictor.names)
        raise ShapeError(f"the rules ask for {', '.join(missing)}; the predictors score {scored}. Add one that scores it.")
    read = reader(next(one for one in several if rules.score in one.names), rules.score)
    for first in range(0, len(seeds), batch):
        chosen = tuple(seeds[first : first + batch])
        with torch.no_grad():
            ws = broadcast(w_of(generator, chosen, config.psi), generator.num_layers)
            strength = torch.tensor([config.strength(seed) for seed in chosen], dtype=torch.float32)
            moved = ws
            for amount, direction in _terms(edit):
                moved = direction.move(moved, amount * strength.to(ws))
            pictures = [images.from_uint8(images.to_uint8(draw(one))) for one in (ws, moved)]
            scores = torch.stack([predictor(picture).float().cpu() for picture in pictures])  # [2, batch, name]
            mirrored = torch.stack([read(picture.flip(-1)).cpu() for picture in pictures])  # [2, batch]
            people = [identity(picture).cpu() for picture in pictures] if identity else [torch.zeros(len(chosen), 1)] * 2
        distance = (people[1] - people[0]).norm(dim=1)
        reasons = check_pairs(rules, predictor.names, strength, scores, mirrored, distance)
        yield PairStep(first + len(chosen), len(seeds), chosen, strength, *pictures, tuple(predictor.names), scores, distance, reasons)


def reader(predictor: Predictor, score: str) -> Callable[[Image], Float[Tensor, " batch"]]:
    """One score of a predictor, as a function of pictures."""
    column = predictor.names.index(score)
    return lambda image: predictor(image)[:, column].float()


def check_pairs(
    rules: Rules,
    names: Sequence[str],
    strength: Float[Tensor, " batch"],
    scores: Float[Tensor, "2 batch name"],
    mirrored: Float[Tensor, "2 batch"],
    identity_distance: Float[Tensor, " batch"],
) -> tuple[str, ...]:
    """The reason of each pair: "kept", or the first rule that it breaks, in the order of the rules.

    `mirrored` is the edited score as read from the mirror images. Not a number breaks a rule.
    """
    column = {name: scores[:, :, at] for at, name in enumerate(names)}  # each [2, batch]
    broken: dict[str, Tensor] = {}
    for name, (low, high) in rules.within.items():
        broken[f"not clean ({name})"] = ~((column[name] >= low) & (column[name] <= high)).all(0)
    readings = torch.stack([column[rules.score], mirrored])  # [2 readings, 2, batch]
    if rules.log_odds:
        readings = torch.logit(readings.clamp(0.0005, 0.9995))
    negative = strength < 0
    change = torch.where(negative, -1.0, 1.0) * (readings[:, 1] - readings[:, 0])  # [2 readings, batch]
    at_the_end = torch.where(negative, readings[:, 1] <= rules.ends[0], readings[:, 1] >= rules.ends[1])
    needed = torch.where(at_the_end, 0.0, rules.min_change * strength.abs()) - rules.tolerance
    broken[f"{rules.score} did not move enough"] = ~(change >= needed).all(0)
    for name, limit in rules.max_change.items():
        broken[f"{name} changed"] = ~((column[name][1] - column[name][0]).abs() <= limit)
    broken["another person"] = ~(identity_distance < rules.identity_limit)
    reasons = np.full(len(strength), KEPT, dtype=object)
    for reason, rows in reversed(broken.items()):  # the first rule is written last
        reasons[rows.numpy()] = reason
    return tuple(reasons.tolist())


@dataclass(frozen=True)
class PairsProgress:
    """How full a folder is, with the work of all processes."""

    tried: int  # seeds that were drawn and checked
    kept: int  # pairs among them that passed
    count: int  # pairs asked for
    reasons: dict[str, int]  # how often each reason was given, "kept" among them
    steps: tuple[PairStep, ...] = ()  # the candidates of the block that was just drawn
    complete: bool = False  # every block that is needed exists

    @property
    def kept_fraction(self) -> float:
        """Kept pairs of all that were tried."""
        return self.kept / self.tried if self.tried else math.nan


def write_pairs(
    folder: Path | str,
    generator: Generator,
    edit: Direction | Edit,
    count: int,
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None,
    rules: Rules,
    config: PairsConfig | None = None,
    *,
    first_seed: int = FIRST_SEED,
    rank: int = 0,
    world_size: int = 1,
    render: Render | None = None,
    **about: object,
) -> Iterator[PairsProgress]:
    """Fill a folder until it holds `count` pairs; yields after every block of seeds. Call it again to resume, or with a larger count.

    `about` is what else pairs.json should say, such as the command.

    Process `rank` of `world_size` draws the blocks rank, rank + world_size, ...; all processes use the same folder. What a killed process
    left out is drawn by the next call. Raises CheckpointError for a folder of other pairs, ShapeError for a count below 1 or an impossible
    rank.
    """
    folder, config = Path(folder), config or PairsConfig()
    if count < 1 or not 0 <= rank < world_size:
        raise ShapeError(f"{count} pairs by process {rank} of {world_size}: give a count of 1 or more, and a process number from 0.")
    settings = {
        "kind": "pairs",
        "generator": fingerprint(generator),
        "render": renderer(generator, render)[1],
        "direction": _described(edit),
        "config": asdict(config),
        "rules": asdict(rules),
        "names": list(combine(predictors).names),  # the columns of before and after in a shard
        "first_seed": first_seed,
        "block": BLOCK,
    }
    _prepare(folder, json.loads(json.dumps(settings)), {"count": count, **about})
    shards = _read_shards(folder, first_seed)
    for block in itertools.count(rank, world_size):
        if sum(len(shard["pairs"]) for number, shard in shards.items() if number < block) >= count:
            break
        if block not in shards:
            steps = list(candidates(generator, edit, _seeds(first_seed, block), predictors, identity, rules, config, render=render))
            _write_block(folder, block, steps)
            shards = _read_shards(folder, first_seed, shards)
            yield _progress(shards, count, tuple(steps))
    _remove_orphans(folder, first_seed)
    yield _progress(shards, count)


class Pairs:
    """Pairs to learn from: `before, after, strength = pairs.batch([0, 5, 7])`.

    Reads what `write_pairs` made. Each picture is opened by its id and compared with its SHA-256. With `reverse`, every pair is offered
    backwards, too (numbers from `len / 2` on): the edited face as input, the natural one as target, the strength with its sign changed.
    Raises CheckpointError for a folder that is not complete, and for files that differ from what its shards say.
    """

    def __init__(self, folder: Path | str, *, reverse: bool = False) -> None:
        self.folder, self.reverse = Path(folder), reverse
        self.settings = _read_settings(self.folder)
        self.rows = _rows(_read_shards(self.folder, self.settings["first_seed"]))[: self.settings["count"]]
        if len(self.rows) < self.settings["count"]:
            raise CheckpointError(f"{folder} has {len(self.rows)} of {self.settings['count']} pairs. Run `dvlatent pairs` to its end.")

    def __len__(self) -> int:
        return len(self.rows) * (2 if self.reverse else 1)

    @property
    def command(self) -> str:
        """The command that makes the same pairs again."""
        if "command" in self.settings:
            return str(self.settings["command"])
        config, full = self.settings["config"], "" if self.settings["render"] == "preview" else " --full"
        try:
            edit = f"{self.settings['direction']['name']}:{config['low']:+g}..{config['high']:+g}"
            psi = float(config["psi"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder}/pairs.json does not say which pairs these are: {error!r}. Make them again.") from error
        options = f"--psi {psi:g} --first-seed {self.settings['first_seed']} --count {len(self.rows)}{full}"
        return f'dvlatent pairs --edit "{edit}" {options} --out {self.folder.name}'

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every pair, in order: its seed in ten digits."""
        return tuple(row["id"] for row in self.rows)

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, pictures after and the strengths: [batch, 3, size, size] in [-1, 1] twice, and [batch] in steps."""
        rows, before, after, strength = len(self.rows), [], [], []
        for index in indices:
            if not 0 <= index < len(self):
                raise ShapeError(f"there is no pair {index}: the folder has {len(self)}, numbered from 0.")
            row, backwards = self.rows[int(index) % rows], index >= rows
            a, b = (self._picture(side, row["id"], digest) for side, digest in zip(SIDES, row["sha256"], strict=True))
            before.append(b if backwards else a)
            after.append(a if backwards else b)
            strength.append(-row["strength"] if backwards else row["strength"])
        return torch.cat(before), torch.cat(after), torch.tensor(strength, dtype=torch.float32)

    def _picture(self, side: str, name: str, digest: str) -> Image:
        path = self.folder / side / f"{name}.jpg"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise CheckpointError(f"{path} is missing, or not what its shard describes. Make the pairs again, or copy the file again.")
        return images.read(path)


def _described(edit: Direction | Edit) -> dict[str, Any]:
    """What is moved, for the settings: names, layers and steps, and the hash of all vectors."""
    terms, sha256 = _terms(edit), hashlib.sha256()
    for _, one in terms:
        sha256.update(one.vector.detach().cpu().float().numpy().astype("<f4").tobytes())
    rows = [{"layers": one.layers, "step": one.step} for _, one in terms]
    if isinstance(edit, Direction):
        return {"name": edit.name, **rows[0], "sha256": sha256.hexdigest()}
    amounts = [{"amount": amount, **row} for (amount, _), row in zip(terms, rows, strict=True)]
    return {"name": ", ".join(dict.fromkeys(one.name for _, one in terms)), "terms": amounts, "sha256": sha256.hexdigest()}


def _prepare(folder: Path, settings: dict[str, Any], about: dict[str, Any]) -> None:
    """Make the folder and write its settings, after a check that it has the same ones if it exists."""
    try:
        for name in (*SIDES, "shards"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        words = f"{folder} cannot be filled ({reason.strerror}). Choose a folder that is yours, on a disk with room."
        raise CheckpointError(words) from reason
    found = _read_settings(folder) if (folder / "pairs.json").exists() else settings
    other = [name for name in settings if found.get(name) != settings[name]]
    if other:
        raise CheckpointError(
            f"{folder} holds pairs of another {', '.join(other)} ({', '.join(str(found.get(name)) for name in other)[:300]}). "
            "Choose an empty folder, or ask for the same."
        )
    _write_text(folder / "pairs.json", json.dumps({**settings, **about}))


def _seeds(first_seed: int, block: int) -> range:
    return range(first_seed + block * BLOCK, first_seed + (block + 1) * BLOCK)


def _write_block(folder: Path, block: int, steps: Sequence[PairStep]) -> None:
    """Write the kept pictures, then their shard. The lock stops `_remove_orphans` from removing them in between."""
    reasons = Counter(reason for step in steps for reason in step.reasons)
    with _lock(folder):
        pairs = [_write_pair(folder, step, at) for step in steps for at in torch.nonzero(step.kept)[:, 0].tolist()]
        shard = {"reasons": dict(sorted(reasons.items())), "pairs": pairs}
        _write_text(folder / "shards" / f"{block:06d}.json", json.dumps(shard))


def _write_pair(folder: Path, step: PairStep, at: int) -> dict[str, Any]:
    name, digests = f"{step.seeds[at]:010d}", []
    for side, picture in zip(SIDES, (step.before, step.after), strict=True):
        path = folder / side / f"{name}.jpg"
        images.write(picture[at : at + 1], path)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    before, after = ([round(score, 4) for score in scores[at].tolist()] for scores in step.scores)
    row = {"id": name, "seed": step.seeds[at], "strength": round(float(step.strength[at]), 5), "before": before, "after": after}
    return {**row, "identity_distance": round(float(step.identity_distance[at]), 4), "sha256": digests}


def _remove_orphans(folder: Path, first_seed: int) -> None:
    """Remove pictures of no shard: a process was killed between the two."""
    with _lock(folder):
        ids = {row["id"] for shard in _read_shards(folder, first_seed).values() for row in shard["pairs"]}
        for path in (path for side in SIDES for path in (folder / side).glob("*.jpg")):
            if re.fullmatch("[0-9]{10}", path.stem) and path.stem not in ids:
                path.unlink()


def _lock(folder: Path) -> Any:
    from filelock import FileLock

    return FileLock(folder / "shards" / "writing.lock")


def _progress(shards: Shards, count: int, steps: tuple[PairStep, ...] = ()) -> PairsProgress:
    reasons = sum((Counter(shard["reasons"]) for shard in shards.values()), Counter())
    complete = not steps and len(_rows(shards)) >= count
    return PairsProgress(sum(reasons.values()), reasons[KEPT], count, dict(reasons.most_common()), steps, complete)


def _rows(shards: Shards) -> list[dict[str, Any]]:
    """The pairs in the order of their seeds, up to the first block that is missing: another process is not done, or was killed."""
    rows: list[dict[str, Any]] = []
    for block in itertools.takewhile(shards.__contains__, itertools.count()):
        rows += shards[block]["pairs"]
    return rows


def _read_settings(folder: Path) -> dict[str, Any]:
    settings = files.read_json(folder / "pairs.json")
    numbers = ("first_seed", "count") if isinstance(settings, dict) and settings.get("kind") == "pairs" else ()
    whole = bool(numbers) and all(type(settings.get(name)) is int and 0 <= settings[name] < 2**32 for name in numbers)
    if not whole or not all(isinstance(settings.get(name), dict) for name in ("config", "rules", "direction")) or "render" not in settings:
        raise CheckpointError(f"{folder / 'pairs.json'} does not describe pairs. Give a folder that `dvlatent pairs` made.")
    return settings


def _read_shards(folder: Path, first_seed: int, known: Shards | None = None) -> Shards:
    """Every shard of the folder; those that are `known` are not read again."""
    known = known or {}
    numbers = sorted(int(path.stem) for path in (folder / "shards").glob("*.json") if re.fullmatch("[0-9]+", path.stem))
    return known | {block: _read_shard(folder, block, first_seed) for block in numbers if block not in known}


def _read_shard(folder: Path, block: int, first_seed: int) -> dict[str, Any]:
    """A shard from anywhere: each row must be a pair of this block, none may occur twice, no id may lead out of the folder."""
    path = folder / "shards" / f"{block:06d}.json"
    try:
        shard = files.read_json(path)
        left = {f"{seed:010d}" for seed in _seeds(first_seed, block)}
        for row in shard["pairs"]:
            left.remove(row["id"])
            digests = [re.fullmatch("[0-9a-f]{64}", digest) for digest in row["sha256"]]
            files.number(row["strength"], -20, 20)
            if not (len(digests) == 2 and all(digests)):
                raise ValueError(f"{row['id']} is no pair")
        for count in shard["reasons"].values():
            files.number(count, 0, BLOCK * 2, whole=True)
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}. Delete it and run `dvlatent pairs` again, which draws it again.") from error
    return shard


def _write_text(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    with files.draft(path) as part:
        part.write_text(text, encoding="utf-8")
