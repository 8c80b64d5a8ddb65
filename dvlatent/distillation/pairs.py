"""A folder of pairs: made by one process or many, stopped and resumed without loss, read back by id. Taught in notebook 07.

    DIR/pairs.json          what they are: generator, direction, strengths, rules
    DIR/shards/000012.json  the pairs of one block of seeds, and why the others were refused; written whole, when its pictures are
    DIR/train_A, train_B    before and after, one file name for both: pix2pixHD's own loader reads these two folders
    DIR/manifest.jsonl      one line a pair: id, seed, strength, scores, identity distance, SHA-256 of both files

Pictures are JPEG of quality 95 with full colour resolution: a third of the bytes of PNG (31 kB against 106 kB at 256 px), and what it
changes is far less than what a student can copy. Blocks belong to processes by their number, nothing is shared but the folder, and the
first `count` kept pairs in the order of their seeds are the answer: the same, whoever made them. (The folders may hold a few pairs more.)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.directions import Direction
from dvlatent.distillation.pairing import KEPT, PairsConfig, Rules, Step, candidates
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.faces.combine import combine
from dvlatent.types import Generator, Identity, Image, Predictor, Render, fingerprint, renderer

FIRST_SEED = 2_000_000  # directions, the judge and every measurement use seeds below
BLOCK = 32  # seeds of a shard: what a process that is killed has to draw again
SIDES = ("train_A", "train_B")  # before, after
NAME = re.compile(r"[0-9]{10}")  # an id: the seed
LIMIT_BYTES = 2**30  # of a manifest; one of ours has about 400 bytes a pair


@dataclass(frozen=True)
class Progress:
    """How far a folder is: what is known of all processes."""

    tried: int  # seeds that were drawn and judged
    kept: int  # pairs among them that passed
    count: int  # pairs asked for
    reasons: dict[str, int]  # how often each reason was given, "kept" among them
    last: tuple[Step, ...] = ()  # the candidates of the block that was just drawn
    complete: bool = False  # every block that is needed is there, and the manifest is written

    @property
    def share(self) -> float:
        """Kept pairs of all that were tried."""
        return self.kept / self.tried if self.tried else math.nan

    @property
    def fresh(self) -> int:
        """Pairs kept of the block that was just drawn."""
        return sum(int(step.kept.sum()) for step in self.last)


def write(
    folder: Path | str,
    generator: Generator,
    direction: Direction,
    count: int,
    predictors: Predictor | Sequence[Predictor],
    identity: Identity | None,
    rules: Rules,
    config: PairsConfig | None = None,
    *,
    first: int = FIRST_SEED,
    process: int = 0,
    processes: int = 1,
    render: Render | None = None,
) -> Iterator[Progress]:
    """Fill a folder until it holds `count` pairs; yields after every block of seeds. Call it again to resume, or with a larger count.

    Process `process` of `processes` draws every so manieth block; they need only see the same folder. Whoever finds everything there
    writes the manifest. If another process died, what it left out is drawn by the next call. Raises CheckpointError for a folder of
    other pairs, ShapeError for a count that is none.
    """
    folder, config = Path(folder), config or PairsConfig()
    if count < 1 or not 0 <= process < processes:
        raise ShapeError(f"{count} pairs by process {process} of {processes}: give a count of 1 or more, and a process number from 0.")
    told = {
        "kind": "pairs",
        "generator": fingerprint(generator),
        "render": renderer(generator, render)[1],
        "direction": {"name": direction.name, "layers": direction.layers, "step": direction.step, "sha256": _digest_of(direction)},
        "config": asdict(config),
        "rules": asdict(rules),
        "names": list(combine(predictors).names),  # what the columns of before and after in the manifest are
        "first": first,
        "block": BLOCK,
    }
    _settle(folder, json.loads(json.dumps(told)))
    known: dict[int, dict[str, Any]] = {}
    block = process
    while not _enough(folder, known, block, count):
        if block not in known:
            seeds = range(first + block * BLOCK, first + (block + 1) * BLOCK)
            steps = list(candidates(generator, direction, seeds, predictors, identity, rules, config, render=render))
            known[block] = _write_block(folder, block, steps)
            yield _progress(known, count, tuple(steps))
        block += processes
    yield replace(_progress(known, count), complete=_finish(folder, known, count))


class Pairs:
    """Pairs to learn from: `before, after, strength = pairs.batch([0, 5, 7])`.

    Reads what `write` made. Each picture is opened by its id and compared with its SHA-256. `reverse` offers every pair backwards, too
    (numbers from `len / 2` on): the edited face as input, the natural one as answer, minus the strength. `partial` reads a folder
    that is still growing, as far as it is. Raises CheckpointError for files that are not what the manifest says.
    """

    def __init__(self, folder: Path | str, *, reverse: bool = False, partial: bool = False) -> None:
        self.folder, self.reverse = Path(folder), reverse
        self.about = _read_settings(self.folder)
        if partial:
            shards = (_read_shard(self.folder, block) for block in _blocks(self.folder))
            rows = [row for shard in shards for row in shard["pairs"]]
        else:
            rows = _read_manifest(self.folder)
        self.rows = _checked(rows, self.folder)

    def __len__(self) -> int:
        return len(self.rows) * (2 if self.reverse else 1)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every pair, in order: its seed in ten digits."""
        return tuple(row["id"] for row in self.rows)

    def batch(self, indices: Sequence[int]) -> tuple[Image, Image, Float[Tensor, " batch"]]:
        """Pictures before, pictures after and the strengths: [batch, 3, size, size] in [-1, 1] twice, and [batch] in steps."""
        rows, before, after, strength = len(self.rows), [], [], []
        for index in indices:
            if not 0 <= index < len(self):
                raise ShapeError(f"there is no pair {index}: {len(self)} are there, numbered from 0.")
            row, backwards = self.rows[int(index) % rows], index >= rows
            a, b = (self._picture(side, row["id"], digest) for side, digest in zip(SIDES, row["sha256"], strict=True))
            before.append(b if backwards else a)
            after.append(a if backwards else b)
            strength.append(-row["strength"] if backwards else row["strength"])
        return torch.cat(before), torch.cat(after), torch.tensor(strength, dtype=torch.float32)

    def _picture(self, side: str, name: str, digest: str) -> Image:
        path = self.folder / side / f"{name}.jpg"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise CheckpointError(f"{path} is missing, or not what the manifest describes. Make the pairs again, or copy it anew.")
        return images.read(path)


def _settle(folder: Path, told: dict[str, Any]) -> None:
    """Write what the folder is for, or find that it is for this."""
    for name in (*SIDES, "shards"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not (folder / "pairs.json").exists():
        _write_json(folder / "pairs.json", told)
    there = _read_settings(folder)
    other = [name for name in told if name in there and there[name] != told[name]]
    if other:
        raise CheckpointError(
            f"{folder} holds pairs of another {', '.join(other)} ({', '.join(str(there.get(name)) for name in other)[:300]}). "
            "Choose an empty folder, or ask for the same."
        )


def _enough(folder: Path, known: dict[int, dict[str, Any]], block: int, count: int) -> bool:
    """Whether the blocks before this one hold the pairs asked for. Reads what other processes have written since."""
    for number in _blocks(folder):
        if number not in known:
            known[number] = _read_shard(folder, number)
    return sum(len(shard["pairs"]) for number, shard in known.items() if number < block) >= count


def _write_block(folder: Path, block: int, steps: Sequence[Step]) -> dict[str, Any]:
    """The kept pictures first, then the shard that makes them count. The lock keeps `_finish` from sweeping them up in between."""
    reasons = Counter(reason for step in steps for reason in step.reasons)
    with _lock(folder):
        pairs = [_write_pair(folder, step, at) for step in steps for at in torch.nonzero(step.kept)[:, 0].tolist()]
        shard = {"names": list(steps[0].names), "reasons": dict(sorted(reasons.items())), "pairs": pairs}
        _write_json(_shard_path(folder, block), shard)
    return shard


def _write_pair(folder: Path, step: Step, at: int) -> dict[str, Any]:
    name, digests = f"{step.seeds[at]:010d}", []
    for side, picture in zip(SIDES, (step.before, step.after), strict=True):
        path = folder / side / f"{name}.jpg"
        images.write(picture[at : at + 1], path)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    before, after = ([round(score, 4) for score in scores[at].tolist()] for scores in step.scores)
    told = {"id": name, "seed": step.seeds[at], "strength": round(float(step.strength[at]), 5), "before": before, "after": after}
    return {**told, "apart": round(float(step.apart[at]), 4), "sha256": digests}


def _finish(folder: Path, known: dict[int, dict[str, Any]], count: int) -> bool:
    """Write the manifest if no block is left out, and remove pictures of no block: a process was killed while it wrote them."""
    if _first_gap(known, count) is not None:
        return False  # another process is not there yet, and will do this; or it died, and the next call draws what it left out
    with _lock(folder):
        every = [row for block in _blocks(folder) for row in _read_shard(folder, block)["pairs"]]
        part = folder / ".manifest.part"
        part.write_text("".join(json.dumps(row) + "\n" for row in every[:count]), encoding="utf-8")
        part.replace(folder / "manifest.jsonl")
        ours = {row["id"] for row in every}
        for path in (path for side in SIDES for path in (folder / side).glob("*.jpg")):
            if NAME.fullmatch(path.stem) and path.stem not in ours:
                path.unlink()
    return True


def _lock(folder: Path) -> Any:
    from filelock import FileLock

    return FileLock(folder / "shards" / "writing.lock")


def _first_gap(known: dict[int, dict[str, Any]], count: int) -> int | None:
    """The first block that is needed and not there."""
    kept, block = 0, 0
    while kept < count:
        if block not in known:
            return block
        kept, block = kept + len(known[block]["pairs"]), block + 1
    return None


def _progress(known: dict[int, dict[str, Any]], count: int, last: tuple[Step, ...] = ()) -> Progress:
    reasons = sum((Counter(shard["reasons"]) for shard in known.values()), Counter())
    return Progress(sum(reasons.values()), reasons[KEPT], count, dict(reasons.most_common()), last)


def _blocks(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in (folder / "shards").glob("*.json") if path.stem.isdigit())


def _shard_path(folder: Path, block: int) -> Path:
    return folder / "shards" / f"{block:06d}.json"


def _read_shard(folder: Path, block: int) -> dict[str, Any]:
    shard = _read_json(_shard_path(folder, block))
    reasons, pairs = shard.get("reasons"), shard.get("pairs")
    good = isinstance(reasons, dict) and isinstance(pairs, list) and all(isinstance(n, int) for n in reasons.values())
    if not good or reasons.get(KEPT, 0) != len(pairs) or sum(reasons.values()) != BLOCK:
        raise CheckpointError(f"{_shard_path(folder, block)} is no shard of {BLOCK} seeds. Delete it; the same command draws it again.")
    return shard


def _read_settings(folder: Path) -> dict[str, Any]:
    told = _read_json(folder / "pairs.json")
    if told.get("kind") != "pairs":
        raise CheckpointError(f"{folder / 'pairs.json'} does not describe pairs. Give a folder that `dvlatent pairs` made.")
    return told


def _read_manifest(folder: Path) -> list[Any]:
    path = folder / "manifest.jsonl"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no manifest.jsonl: no pairs, or not all of them yet. Run `dvlatent pairs` to its end.")
    if path.stat().st_size > LIMIT_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; manifests have at most {LIMIT_BYTES:,}.")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}. Delete it and run `dvlatent pairs` again; pictures are kept.") from error


def _checked(rows: list[Any], folder: Path) -> list[dict[str, Any]]:
    """A manifest comes from anywhere: every line must be a pair, none may be there twice, no name may lead out of the folder."""
    for number, row in enumerate(rows, 1):
        good = isinstance(row, dict) and isinstance(row.get("id"), str) and NAME.fullmatch(row["id"]) is not None
        good = good and isinstance(row.get("strength"), (int, float)) and abs(row["strength"]) <= 20
        digests = row.get("sha256") if good else None
        if not (isinstance(digests, list) and len(digests) == 2 and all(re.fullmatch("[0-9a-f]{64}", str(one)) for one in digests)):
            raise CheckpointError(f"line {number} of the manifest in {folder} is no pair: {str(row)[:120]}. Make the pairs again.")
    twice = [name for name, times in Counter(row["id"] for row in rows).items() if times > 1]
    if twice:
        raise CheckpointError(f"the manifest in {folder} has pair {twice[0]} twice. Make the pairs again.")
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LIMIT_BYTES // 64:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, far more than any of ours.")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Give a folder that `dvlatent pairs` made.") from error
    return told if isinstance(told, dict) else {}


def _write_json(path: Path, told: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(told), encoding="utf-8")
    part.replace(path)


def _digest_of(direction: Direction) -> str:
    return hashlib.sha256(direction.vector.detach().cpu().float().numpy().astype("<f4").tobytes()).hexdigest()
