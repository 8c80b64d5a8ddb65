"""Pairs: the edit shows and nothing else does; they are the same for any number of processes; a picture keeps its partner."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pairs_toy import CONFIG, RULES, Colors, parts
from torch.testing import assert_close

from dvlatent import images
from dvlatent.distillation.pairs import KEPT, SIDES, Pairs, PairsConfig, Rules, candidates, check_pairs, write_pairs
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

ROOT = Path(__file__).resolve().parent.parent
TOY = Path(__file__).with_name("pairs_toy.py")


def fill(folder, count, **options):
    generator, direction, predictor, identity = parts()
    return list(write_pairs(folder, generator, direction, count, predictor, identity, RULES, CONFIG, **options))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Forty pairs, made by one process without interruption, and its last step."""
    folder = tmp_path_factory.mktemp("made")
    return folder, fill(folder, 40)[-1]


def test_candidates_are_the_plain_loop():
    toy, direction, predictor, _ = parts()
    steps = list(candidates(toy, direction, range(20), predictor, None, RULES, CONFIG, batch=8))
    assert [len(step.seeds) for step in steps] == [8, 8, 4] and steps[-1].index == steps[-1].total == 20
    for seed in (0, 9, 19):
        step, at = steps[seed // 8], seed % 8
        w = truncate(toy.mapping(normal(seed, toy.z_dim)), toward=toy.w_mean, psi=CONFIG.psi)
        ws = broadcast(w, 3)
        last = torch.tensor([0, 0, 1.0])[:, None]  # the layer that carries the background
        moved = ws + CONFIG.strength(seed) * direction.step * last * direction.vector
        assert_close(step.before[at], images.from_uint8(images.to_uint8(toy.synthesis(ws)))[0])
        assert_close(step.after[at], images.from_uint8(images.to_uint8(toy.synthesis(moved)))[0])
        assert_close(step.scores[:, at], torch.stack([step.before[at], step.after[at]]).mean(dim=(2, 3)))
        assert float(step.strength[at]) == pytest.approx(CONFIG.strength(seed))


def test_strengths_fill_the_range_and_favour_strong_ones():
    found = np.array([PairsConfig(-2, 2).strength(seed) for seed in range(4000)])
    assert found.min() >= -2 and found.max() <= 2
    for low, high in ((0, 0.5), (0.5, 1), (1, 1.5), (1.5, 2)):  # density in proportion to the size: areas of rings
        assert ((abs(found) >= low) & (abs(found) < high)).mean() == pytest.approx((high**2 - low**2) / 4, abs=0.03)
    assert abs((found > 0).mean() - 0.5) < 0.03
    one_way = np.array([PairsConfig(0.5, 2).strength(seed) for seed in range(500)])
    assert one_way.min() >= 0.5 and one_way.max() <= 2
    assert {PairsConfig(2, 2).strength(seed) for seed in range(5)} == {2.0}


GOOD = {"age": (30.0, 45.0), "male": (0.1, 0.2), "sure": (2.0, 1.8)}


@pytest.mark.parametrize(
    ("strength", "change", "mirrored", "identity_distance", "reason"),
    [
        (1.0, {}, (30, 44), 0.3, KEPT),
        (1.0, {"sure": (2.0, 0.1)}, (30, 44), 0.3, "not clean (sure)"),
        (1.0, {"sure": (0.1, 2.0)}, (30, 44), 0.3, "not clean (sure)"),
        (1.0, {"sure": (2.0, float("nan"))}, (30, 44), 0.3, "not clean (sure)"),
        (1.0, {"age": (30, 33)}, (30, 44), 0.3, "age did not move enough"),
        (1.0, {}, (30, 33), 0.3, "age did not move enough"),  # the mirror image does not agree
        (-1.0, {}, (30, 44), 0.3, "age did not move enough"),  # moved, the wrong way
        (-1.0, {"age": (30, 25)}, (30, 25), 0.3, KEPT),
        (0.1, {"age": (30, 30)}, (30, 30), 0.3, KEPT),  # within the tolerance
        (1.0, {"age": (75, 74.5)}, (75, 75), 0.3, KEPT),  # at the end of the scale
        (1.0, {"age": (75, 71)}, (75, 75), 0.3, "age did not move enough"),  # but not back
        (-1.0, {"age": (5, 4.5)}, (5, 5), 0.3, KEPT),
        (1.0, {"male": (0.1, 0.6)}, (30, 44), 0.3, "male changed"),
        (1.0, {}, (30, 44), 0.6, "another person"),
        (1.0, {"sure": (0.0, 0.0), "male": (0, 1)}, (30, 44), 0.9, "not clean (sure)"),  # the first broken rule is named
    ],
)
def test_every_rule_refuses_on_its_own(strength, change, mirrored, identity_distance, reason):
    rules = Rules("age", 5.0, 1.5, (6.0, 70.0), max_change={"male": 0.3}, within={"sure": (0.5, 9.0)})
    scores = torch.tensor([list(pair) for pair in (GOOD | change).values()]).T[:, None].float()  # [2, 1, 3]
    mirrored, distance = torch.tensor(mirrored)[:, None].float(), torch.tensor([identity_distance])
    assert check_pairs(rules, tuple(GOOD), torch.tensor([strength]), scores, mirrored, distance) == (reason,)


def test_probabilities_move_in_odds():
    rules = Rules("male", 2.0, log_odds=True)
    scores = torch.tensor([[[0.01], [0.5], [0.9]], [[0.2], [0.6], [0.99]]])  # log-odds by 3.2, 0.4 and 2.4
    reasons = check_pairs(rules, ["male"], torch.ones(3), scores, scores[:, :, 0], torch.zeros(3))
    assert [reason == KEPT for reason in reasons] == [True, False, True]


def test_the_mirror_image_is_read():
    class OneEyed(Colors):
        def __call__(self, image):  # sees the left edge only: the background, brighter there or not
            return image[..., :8].mean(dim=(2, 3))

    toy, direction, _, _ = parts()
    easy = replace(RULES, max_change={}, within={}, identity_limit=9.0)

    def reasons(predictor):
        return sum((step.reasons for step in candidates(toy, direction, range(60), predictor, None, easy, CONFIG)), ())

    plain, half = reasons(Colors()), reasons(OneEyed())
    assert Counter(plain)[KEPT] and Counter(half)[KEPT] and plain != half


def test_rules_about_unknown_scores_are_refused():
    toy, direction, predictor, _ = parts()
    with pytest.raises(ShapeError, match="rules ask for nose"):
        next(candidates(toy, direction, [1], predictor, None, replace(RULES, max_change={"nose": 1.0}), CONFIG))
    with pytest.raises(DirectionMismatch):
        next(candidates(ToyFaces(resolution=32, seed=1), direction, [1], predictor, None, RULES, CONFIG))
    for low, high, psi in ((2, -2, 0.8), (0, 0, 0.8), (1, 2, 0), (1, float("nan"), 1)):
        with pytest.raises(ShapeError, match="strengths run from"):
            PairsConfig(low, high, psi)


def test_a_folder_holds_what_was_kept(made):
    folder, last = made
    toy, direction, predictor, identity = parts()
    pairs = Pairs(folder)
    assert pairs.settings["names"] == ["red", "green", "blue"] and last.complete
    assert len(pairs) == 40 and last.kept >= 40 and last.kept_fraction == last.kept / last.tried
    assert sum(last.reasons.values()) == last.tried
    seeds = range(2_000_000, 2_000_000 + last.tried)
    plain = list(candidates(toy, direction, seeds, predictor, identity, RULES, CONFIG))
    kept = [seed for step in plain for seed, reason in zip(step.seeds, step.reasons, strict=True) if reason == KEPT]
    assert [int(name) for name in pairs.ids] == kept[:40]  # the first that pass, in the order of their seeds
    before, after, strength = pairs.batch([0, 39])
    for at, row in enumerate((0, 39)):
        step = plain[(kept[row] - 2_000_000) // 8]
        here = kept[row] % 8
        assert (before[at] - step.before[here]).abs().mean() < 0.02 and (after[at] - step.after[here]).abs().mean() < 0.02  # JPEG's error
        assert float(strength[at]) == pytest.approx(float(step.strength[here]), abs=1e-4)
    assert before.shape == (2, 3, 32, 32) and before.dtype == strength.dtype == torch.float32


def test_pix2pixhd_would_pair_the_same_files(made):
    """Its loader sorts each folder by itself and pairs by place: that must give what the shards say."""
    a, b = (sorted(os.listdir(made[0] / side)) for side in SIDES)
    assert a == b and {f"{name}.jpg" for name in Pairs(made[0]).ids} <= set(a)


def test_backwards_pairs(made):
    pairs = Pairs(made[0], reverse=True)
    assert len(pairs) == 80
    (a, b, s), (c, d, t) = pairs.batch([3]), pairs.batch([43])
    assert torch.equal(a, d) and torch.equal(b, c) and float(s) == -float(t)
    with pytest.raises(ShapeError, match="no pair 80"):
        pairs.batch([80])


def test_pairs_go_by_id_not_by_order(made, tmp_path):
    """A stray file, or rows of a shard in another order, must not shift anything."""
    folder, first = copied(made[0], tmp_path), rows(made[0])
    (folder / "train_A" / "0000000000.jpg").write_bytes(b"stray")
    write_rows(folder, first[::-1])
    there = [*range(len(first) - 1, -1, -1), *range(len(first), 40)]
    for one, other in zip(Pairs(made[0]).batch(range(40)), Pairs(folder).batch(there), strict=True):
        assert torch.equal(one, other)


def test_more_pairs_go_on_from_those_there(made, tmp_path):
    folder = copied(made[0], tmp_path)
    drawn = [progress for progress in fill(folder, 60) if progress.steps]
    fresh = tmp_path / "fresh"
    assert len(drawn) < len([progress for progress in fill(fresh, 60) if progress.steps])
    assert Pairs(folder).rows == Pairs(fresh).rows and len(Pairs(fresh)) == 60
    assert Pairs(folder).ids[:40] == Pairs(made[0]).ids


def test_other_pairs_do_not_mix(made, tmp_path):
    folder, (toy, direction, predictor, identity) = copied(made[0], tmp_path), parts()
    with pytest.raises(CheckpointError, match="another config"):
        next(write_pairs(folder, toy, direction, 40, predictor, identity, RULES, PairsConfig(1, 1, 0.9)))
    with pytest.raises(CheckpointError, match="another direction"):
        next(write_pairs(folder, toy, toy.truth["age"], 40, predictor, identity, RULES, CONFIG))
    with pytest.raises(ShapeError, match="count of 1 or more"):
        next(write_pairs(folder, toy, direction, 0, predictor, identity, RULES, CONFIG))


def test_damaged_folders_are_refused(made, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        Pairs(tmp_path)
    first = rows(made[0])
    for number, wrong in enumerate(
        (
            {**first[0], "id": "../../secrets"},
            {**first[0], "id": "0002000999"},  # of another block
            {**first[0], "id": ["0002000000"]},
            {**first[0], "strength": 1e9},
            {**first[0], "strength": float("nan")},
            {**first[0], "strength": "strong"},
            {**first[0], "sha256": ["00", "11"]},
            {key: first[0][key] for key in ("id", "seed")},
            "a string",
            first[1],  # twice
        )
    ):
        folder = copied(made[0], tmp_path / str(number))
        write_rows(folder, [wrong, *first[1:]])
        with pytest.raises(CheckpointError, match=r"000000\.json is damaged.* again"):
            Pairs(folder)
        with pytest.raises(CheckpointError, match=r"000000\.json is damaged"):
            fill(folder, 40)
    folder = copied(made[0], tmp_path / "picture")
    other = folder / "train_B" / f"{first[1]['id']}.jpg"
    (folder / "train_B" / f"{first[0]['id']}.jpg").write_bytes(other.read_bytes())
    other.unlink()
    for index in (0, 1):
        with pytest.raises(CheckpointError, match="not what its shard describes"):
            Pairs(folder).batch([index])
    shard = folder / "shards" / "000000.json"
    for text, words in (("[1]", "damaged"), ('{"pairs": [], "reasons": {"kept": "x"}}', "damaged"), ('{"id": ', "cannot be read")):
        shard.write_text(text)
        with pytest.raises(CheckpointError, match=words):
            Pairs(folder)
    shard.unlink()
    with pytest.raises(CheckpointError, match="has 0 of 40 pairs"):
        Pairs(folder)
    for text in ("[1]", '{"kind": "pairs"}', '{"kind": "pairs", "first_seed": "a", "count": 3}'):
        (folder / "pairs.json").write_text(text)
        with pytest.raises(CheckpointError, match="does not describe pairs"):
            Pairs(folder)


def test_a_damaged_shard_costs_no_picture_and_a_rerun_repairs_the_folder(made, tmp_path):
    folder, first = copied(made[0], tmp_path), rows(made[0])
    there = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    write_rows(folder, [first[0]] * len(first))  # every pair is the same one: all others would look like litter
    with pytest.raises(CheckpointError, match=r"000000\.json is damaged.*Delete it"):
        fill(folder, 40)
    assert {path: path.read_bytes() for path in folder.rglob("*.jpg")} == there
    (folder / "shards" / "000000.json").unlink()
    fill(folder, 40)
    assert Pairs(folder).rows == Pairs(made[0]).rows and {path: path.read_bytes() for path in folder.rglob("*.jpg")} == there


def test_two_processes_and_a_kill_lose_nothing(made, tmp_path):
    """Two processes are killed while they write, then both go on: the pairs are those of one undisturbed process."""
    folder = tmp_path / "pairs"
    both = [launch(folder, rank, 2, wait=0.3) for rank in (0, 1)]
    for process in both:
        process.stdout.readline()  # a block each
    for process in both:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list((folder / "shards").glob("*.json"))) >= 2
    with pytest.raises(CheckpointError, match="of 40 pairs"):
        Pairs(folder)
    orphan = folder / "train_A" / "0002900000.jpg"  # as left by a process that was killed between the two sides of a pair
    orphan.write_bytes(b"half a picture")
    for rank in (0, 1, 0):
        last = fill(folder, 40, rank=rank, world_size=2)[-1]
    assert last.complete
    assert Pairs(folder).rows == Pairs(made[0]).rows
    assert not orphan.exists() and sorted(os.listdir(folder / "train_A")) == sorted(os.listdir(folder / "train_B"))
    Pairs(folder).batch(range(40))


def test_accelerate_launch(made, tmp_path):
    """`--multi_gpu` is how it starts several processes on one machine, with or without graphics cards; nothing here asks for one."""
    folder = tmp_path / "pairs"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", str(TOY), str(folder), "40"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"block of 0/2", "block of 1/2"} <= set(done.stdout.splitlines())
    assert Pairs(folder).rows == Pairs(made[0]).rows


def rows(folder):
    """The pairs of the first block."""
    return json.loads((folder / "shards" / "000000.json").read_text())["pairs"]


def write_rows(folder, pairs):
    (folder / "shards" / "000000.json").write_text(json.dumps({"reasons": {KEPT: len(pairs)}, "pairs": pairs}))


def copied(folder, into):
    import shutil

    return shutil.copytree(folder, into / "copy")


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def launch(folder, rank, world, wait=0.0):
    command = [sys.executable, "-u", str(TOY), str(folder), "40", str(wait)]
    return subprocess.Popen(command, env=environment(RANK=str(rank), WORLD_SIZE=str(world)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
