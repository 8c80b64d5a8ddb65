"""Distillation: its losses and its first step by hand, after a stop, in two processes; and a filter from a folder of pairs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distill_tiny import Blurred, Tiny, nets
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent.distillation.augment import TRIALS, PhotoWarp, jpeg
from dvlatent.distillation.train import (
    DistillConfig,
    Subset,
    amplitude_ratio,
    distill,
    stacked,
    trial_scores,
)
from dvlatent.errors import ShapeError, TrainingDiverged

ROOT = Path(__file__).resolve().parent.parent
SMALL = DistillConfig(steps=6, batch=4, coarse_steps=0, sample_every=0, cooldown=0.0)


def weights(*nets):
    return torch.cat([value.detach().flatten().clone() for net in nets for value in net.state_dict().values()])


def run(config=SMALL, pairs=None, seed=0, **more):
    return list(distill(*nets(seed), pairs or Tiny(), Blurred(), config, **more))


def test_the_first_step_is_the_one_that_one_would_write_by_hand():
    config, pairs = replace(SMALL, steps=1, pixel=3.0, perceptual=7.0, adversarial=0.5, features=2.0), Tiny()
    student, discriminator = nets()
    chosen = torch.randint(20, (4,), generator=torch.Generator().manual_seed(config.seed)).tolist()
    before, after, strength = pairs.batch(chosen)
    made = student(before, strength)
    real, fake = discriminator(stacked(before, after, strength)), discriminator(stacked(before, made.detach(), strength))
    discriminator_loss = sum((r[-1] - 1).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)) / 2
    adam = torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, (0.5, 0.99))
    discriminator_loss.backward()
    adam.step()
    fake, real = discriminator(stacked(before, made, strength)), discriminator(stacked(before, after, strength))
    losses = {
        "pixel": (made - after).abs().mean(),
        "perceptual": (F.avg_pool2d(made, 4) - F.avg_pool2d(after, 4)).square().mean(),
        "adversarial": sum((one[-1] - 1).square().mean() for one in fake),
        "features": sum((a - b).abs().mean() for f, r in zip(fake, real, strict=True) for a, b in zip(f[:-1], r[:-1], strict=True)) / 6,
    }
    loss = 3 * losses["pixel"] + 7 * losses["perceptual"] + 0.5 * losses["adversarial"] + 2 * losses["features"]
    adam = torch.optim.Adam(student.parameters(), config.lr, (0.5, 0.99))
    adam.zero_grad()
    loss.backward()
    adam.step()
    (step,) = run(config)
    assert step.losses == pytest.approx({name: value.item() for name, value in losses.items()}, rel=1e-5)
    assert (step.loss, step.discriminator_loss) == pytest.approx((loss.item(), discriminator_loss.item()), rel=1e-5)
    assert_close(weights(step.student, step.discriminator), weights(student, discriminator))


def test_a_weight_of_zero_leaves_its_loss_and_its_work_out():
    discriminator = weights(nets()[1])
    plain = run(replace(SMALL, steps=2, perceptual=0.0, adversarial=0.0, features=0.0))[-1]
    assert set(plain.losses) == {"pixel"} and plain.discriminator_loss == 0
    assert torch.equal(weights(plain.discriminator), discriminator)  # never touched
    *_, step = distill(*nets(), Tiny(), None, replace(SMALL, steps=2, perceptual=0.0))
    assert set(step.losses) == {"pixel", "adversarial", "features"}
    losses = [tuple(step.losses) for step in run(replace(SMALL, steps=3, discriminator_from=2))]
    assert losses == [("pixel", "perceptual")] * 2 + [("pixel", "perceptual", "adversarial", "features")]


def test_identity_is_the_distance_between_persons():
    def person(image):
        return image.mean(dim=(2, 3))

    (step,) = run(replace(SMALL, steps=1, identity=1.0, lr=0.0), identity=person)
    before, after, strength = Tiny().batch(torch.randint(20, (4,), generator=torch.Generator().manual_seed(0)).tolist())
    with torch.no_grad():
        by_hand = (person(step.student(before, strength)) - person(after)).norm(dim=1).mean().item()
    assert step.losses["identity"] == pytest.approx(by_hand, rel=1e-4)


def test_losses_see_small_pictures_in_coarse_steps_and_the_student_never_does():
    sizes = []

    class Watching(Blurred):
        def features(self, image):
            sizes.append(image.shape[-1])
            return super().features(image)

    student, discriminator = nets()
    student.stem.register_forward_hook(lambda layer, given, made: sizes.append(("student", 4 * given[0].shape[-1])))
    config = replace(SMALL, steps=2, coarse_steps=1, coarse_px=16, adversarial=0.0, features=0.0)
    list(distill(student, discriminator, Tiny(), Watching(), config))
    assert sizes == [("student", 32), 16, 16, ("student", 32), 32, 32]


def test_two_pairs_are_learned_by_heart():
    steps = run(DistillConfig(steps=60, batch=2, coarse_steps=0, adversarial=0.1, features=1.0, lr=3e-3), Subset(Tiny(), [0, 2]))
    first, last = (sum(step.losses["pixel"] for step in part) for part in (steps[:5], steps[-5:]))
    assert last < first / 3
    before, after, strength = Tiny().batch([0, 2])
    with torch.no_grad():
        assert (steps[-1].ema(before, strength) - after).abs().mean() < (before - after).abs().mean() / 2


def test_a_stop_changes_no_bit(tmp_path):
    """Weights, averages, optimizers and random numbers: with a cooldown, an augmentation and a discriminator that joins late."""
    config, more = replace(SMALL, cooldown=0.5, discriminator_from=1), {"augment": PhotoWarp()}
    whole = run(config, **more)
    stopped = distill(*nets(), Tiny(), Blurred(), config, **more)
    for step in stopped:
        if step.index == 3:
            step.save(tmp_path / "run.safetensors")
            break
    on = run(config, seed=5, resume=tmp_path / "run.safetensors", **more)
    assert [step.index for step in on] == [4, 5] and [step.loss for step in on] == [step.loss for step in whole[4:]]
    networks = [weights(steps[-1].student, steps[-1].ema, steps[-1].discriminator) for steps in (whole, on)]
    assert torch.equal(*networks)


TWO = """
import json, sys
import torch
from accelerate import Accelerator
from distill_tiny import Blurred, Tiny, nets
from test_distillation_train import HALF, numbers
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.train import distill
from dvlatent.training import finish
torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
found = numbers(distill(*nets(), Tiny(), Blurred(), HALF, augment=PhotoWarp(), accelerator=accelerator))
if accelerator.is_main_process:
    open(sys.argv[1], "w").write(json.dumps([accelerator.num_processes, *found]))
finish(accelerator)
"""
HALF = DistillConfig(steps=4, batch=4, coarse_steps=2, coarse_px=16, sample_every=0)


def numbers(steps):
    """All losses, and a sum for each weight of the student and its average.

    Not of the discriminator: biases before an instance norm do nothing, so their gradients are rounding errors, which Adam makes large.
    """
    *_, last = steps = list(steps)
    losses = [[step.loss, step.discriminator_loss, *step.losses.values()] for step in steps]
    return losses, [float(weight.detach().double().abs().sum()) for net in (last.student, last.ema) for weight in net.parameters()]


def test_two_processes_train_as_one(tmp_path):
    """Over gloo, on the CPU: the same losses and weights as one process with the same global batch."""
    script, result = tmp_path / "two.py", tmp_path / "two.json"
    script.write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), str(result)]
    here = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    count, *two = json.loads(result.read_text())
    assert count == 2
    for one, other in zip(numbers(run(HALF, augment=PhotoWarp())), two, strict=True):
        assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-3, atol=1e-4)


def test_mixed_precision_comes_near_the_full_one():
    full, half = (run(replace(SMALL, steps=3, bf16=kind))[-1] for kind in (False, True))
    assert half.losses == pytest.approx(full.losses, rel=0.05)
    assert half.losses != full.losses
    assert all(weight.dtype == torch.float32 for weight in half.student.parameters())


def test_broken_numbers_stop_the_run():
    pairs = Tiny()
    pairs.after[:] = float("nan")
    with pytest.raises(TrainingDiverged, match="broke at step 0"):
        run(pairs=pairs)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"steps": 0}, "cannot be trained on"),
        ({"pixel": -1.0}, "weight of pixel"),
        ({"pixel": 0.0, "perceptual": 0.0, "adversarial": 0.0, "features": 0.0}, "nothing to learn"),
        ({"identity": 1.0}, "pass identity="),
    ],
)
def test_refuses_in_words(change, words):
    with pytest.raises(ShapeError, match=words):
        run(replace(SMALL, **change))


def test_sample_grids_come_on_a_fixed_schedule_and_show_unseen_pairs():
    steps = run(replace(SMALL, sample_every=3), unseen=Subset(Tiny(), [3, 4]))
    assert [step.sample_grid is not None for step in steps] == [False, False, True] * 2
    grid = steps[2].sample_grid
    assert grid.shape == (1, 3, 2 * 32 + 4, 3 * 32 + 8)  # two rows of before, student, teacher
    assert_close(grid[0, :, :32, :32], Tiny().before[3])
    assert_close(grid[0, :, 36:, 72:], Tiny().after[4])


def test_trials_know_nothing_done_from_all_done():
    pairs = Subset(Tiny(), [1, 2, 5])

    class Nothing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, image, strength):
            return image

    scores = trial_scores(Nothing(), pairs, Blurred())
    assert set(scores) == set(TRIALS) and all(score["left"] == 1 for score in scores.values())

    class All(Nothing):
        def forward(self, image, strength):
            return (image + strength.view(-1, 1, 1, 1) * (Tiny().after - Tiny().before)[:1] / Tiny().strength[0]).clamp(-1, 1)

    scores = trial_scores(All(), pairs, Blurred())
    assert scores["as drawn"]["left"] < 1e-3 and scores["as drawn"]["psnr_db"] > 60
    assert scores["shifted 10 %"]["left"] > 0.05  # this one always paints the same corner


def test_both_pictures_of_a_pair_are_changed_alike():
    warp, rng = PhotoWarp(cover=0.5, soften=0.5), torch.Generator().manual_seed(0)
    image = torch.rand(16, 3, 32, 32, generator=rng) * 2 - 1
    numbers = warp.draw(16, rng)
    changed = warp(image, numbers)
    assert torch.equal(changed, warp(image.clone(), numbers)) and changed.abs().max() <= 1
    assert (changed != image).flatten(1).any(1).float().mean() > 0.7
    assert_close(warp(image[4:9], numbers[4:9]), changed[4:9])  # a picture's change is its own: processes may divide a batch
    still = PhotoWarp(fraction=0.0, cover=0.0, soften=0.0)(image, numbers)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(still, image, strict=True))


def test_trials_do_what_their_names_say():
    image = Tiny(side=64).before[:2]
    shifted, turned, dark, covered = (TRIALS[name](image) for name in ("shifted 10 %", "turned 15 degrees", "darkened", "occluded"))
    assert torch.equal(shifted[..., 6:, 6:], image[..., :-6, :-6])
    assert_close(turned[..., 31:33, 31:33].mean(), image[..., 31:33, 31:33].mean(), atol=0.01, rtol=0)
    assert_close((dark + 1) / 2, 0.4 * (image + 1) / 2)
    assert 0.1 < (covered != image).float().mean() < 0.2
    assert 20 < float(-10 * torch.log10(((jpeg(image) - image) / 2).square().mean())) < 50


@pytest.mark.parametrize("fraction, factor", [(1 / 1.3, 1.3), (1.0, 1.0), (1.2, 1.0), (0.25, 2.0)])
def test_the_amplitude_ratio_makes_up_for_a_weak_change(fraction, factor):
    """1/1.3 of the change needs the factor 1.3; a strong student keeps its change, and the factor is 2 at most."""
    pairs = Tiny()

    class Weak(torch.nn.Linear):
        def forward(self, before, strength):
            row = [int((pairs.before == one).flatten(1).all(1).nonzero()[0]) for one in before]
            return before + fraction * (pairs.after[row] - before)

    assert amplitude_ratio(Weak(1, 1), pairs, lambda image: image.mean(dim=(1, 2, 3))) == pytest.approx(factor, abs=0.02)
