"""The GAN loop: against a loop written out by hand, closed forms, itself after a stop, and itself in two processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dvlatent import checkpoint
from dvlatent.errors import CheckpointError, ShapeError, TrainingDiverged
from dvlatent.gan.data import Warp, ring, ring_centres
from dvlatent.gan.digits import DigitDiscriminator, DigitGenerator
from dvlatent.gan.points import PointDiscriminator, PointGenerator
from dvlatent.gan.train import LOSSES, TrainConfig, _State, discriminator_loss, generator_loss, slope, train
from dvlatent.training import update_ema

pytestmark = pytest.mark.usefixtures("one_thread")


def pair(seed=0, width=16, depth=2):
    torch.manual_seed(seed)
    return PointGenerator(width, depth), PointDiscriminator(width, depth)


def weights(*nets):
    return torch.cat([value.detach().flatten().clone() for net in nets for value in net.state_dict().values()])


def test_it_is_the_loop_one_would_write_by_hand():
    """Three steps without penalty: two Adams, the two losses of Goodfellow et al., the same dice."""
    points, config = ring(100), TrainConfig(steps=3, batch=8, penalty=0.0, lr=0.01, discriminator_lr=0.02)
    generator, discriminator = pair()
    *_, last = train(generator, discriminator, points, config)

    mine, judge = pair()
    adams = [torch.optim.Adam(net.parameters(), lr, betas=(0.0, 0.99)) for net, lr in ((mine, 0.01), (judge, 0.02))]
    rng = torch.Generator().manual_seed(0)

    def draw():
        chosen = torch.randint(100, (8,), generator=rng)
        z = torch.randn(8, 2, generator=rng)
        torch.randint(100, (8,), generator=rng)  # whose labels the generated ones have
        return points[chosen], z

    for _ in range(3):
        real, z = draw()
        real_loss = F.binary_cross_entropy_with_logits(judge(real), torch.ones(8))
        fake_loss = F.binary_cross_entropy_with_logits(judge(mine(z).detach()), torch.zeros(8))
        adams[1].zero_grad()
        (real_loss + fake_loss).backward()
        adams[1].step()
        loss = F.binary_cross_entropy_with_logits(judge(mine(draw()[1])), torch.ones(8))
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
    assert last.images == 24 and abs(last.generator_loss - loss.item()) < 1e-6
    assert (weights(mine, judge) - weights(generator, discriminator)).abs().max() < 1e-6


def test_losses_are_those_of_the_papers():
    real, fake = torch.tensor([2.0, -0.5]), torch.tensor([1.5, -3.0])
    chance_real, chance_fake = torch.sigmoid(real), torch.sigmoid(fake)
    assert discriminator_loss("non-saturating", real, fake).isclose(-chance_real.log().mean() - (1 - chance_fake).log().mean())
    assert generator_loss("non-saturating", fake).isclose(-chance_fake.log().mean())
    assert discriminator_loss("hinge", real, fake) == (0 + 1.5) / 2 + (2.5 + 0) / 2
    assert discriminator_loss("wgan-gp", real, fake) == fake.mean() - real.mean()
    assert generator_loss("hinge", fake) == generator_loss("wgan-gp", fake) == -fake.mean()


def test_the_slope_of_a_plane_is_known():
    plane = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    with torch.no_grad():
        plane[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    real, fake, rng = ring(6), ring(6, seed=1), torch.Generator().manual_seed(0)
    assert slope("non-saturating", plane, real, fake, [], rng).isclose(torch.tensor(25.0))
    assert slope("wgan-gp", plane, real, fake, [], rng).isclose(torch.tensor(16.0))
    bowl = lambda point: point.square().sum(1) / 2  # noqa: E731  its slope at a point is the point
    assert slope("hinge", bowl, real, fake, [], rng).isclose(real.square().sum(1).mean())


def test_lazy_penalties_correct_adam_and_count():
    generator, discriminator = pair()
    state = _State(generator, discriminator, TrainConfig(lazy=4, discriminator_lr=0.01, beta1=0.5, beta2=0.99))
    group = state.discriminator_optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.008) and group["betas"] == pytest.approx((0.5**0.8, 0.99**0.8))
    assert state.generator_adam.param_groups[0]["betas"] == (0.5, 0.99)
    *_, last = train(generator, discriminator, ring(50), TrainConfig(steps=8, batch=4, lazy=4))
    assert last.penalty > 0
    *_, last = train(*pair(), ring(50), TrainConfig(steps=8, batch=4, penalty=0.0))
    assert last.penalty == 0


def test_the_average_forgets_half_in_its_half_life():
    (generator, _), (ema, _) = pair(), pair()
    for start, net in ((0.0, ema), (1.0, generator)):
        for weight in net.parameters():
            weight.data.fill_(start)
    for _ in range(20):
        update_ema(ema, generator, images=100_000, batch=10, half_life=200)  # far along: no ramp
    assert torch.allclose(weights(ema), torch.tensor(0.5))


def test_without_averaging_the_average_is_the_generator():
    generator, discriminator = pair()
    *_, last = train(generator, discriminator, ring(50), TrainConfig(steps=3, batch=4, ema_images=0))
    assert torch.equal(weights(last.ema), weights(last.generator))
    assert not last.ema.training and not any(weight.requires_grad for weight in last.ema.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_ring_is_learned_whole(loss):
    """Every one of eight places gets points, and most points lie near one."""
    chosen = {"wgan-gp": {"penalty": 1.0, "critic_steps": 2}}.get(loss, {"penalty": 0.1})
    config = TrainConfig(steps=700, batch=128, loss=loss, lr=2e-3, discriminator_lr=4e-3, ema_images=5000, **chosen)
    *_, last = train(*pair(width=64), ring(2000), config)
    with torch.no_grad():
        points = last.ema(torch.randn(1000, 2, generator=torch.Generator().manual_seed(1)))
    distance, nearest = torch.cdist(points, ring_centres()).min(1)
    assert len(nearest[distance < 0.5].unique()) == 8 and (distance < 0.5).float().mean() > 0.55


class Dicey(nn.Module):
    """A generator with dice of its own, as StyleGAN2's noise has, and a buffer that moves."""

    z_dim = 2

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, z):
        return self.layers(z)


def test_going_on_after_a_stop_is_bit_for_bit_the_same(tmp_path):
    config = TrainConfig(steps=9, batch=8, lazy=3)

    def start():
        torch.manual_seed(3)
        return Dicey(), PointDiscriminator(8, 1)

    whole = start()
    told = [(step.discriminator_loss, step.generator_loss, step.penalty, step.real_score) for step in train(*whole, ring(40), config)]
    stopped = start()
    for step in train(*stopped, ring(40), config):
        if step.index == 3:
            step.save(tmp_path / "run.safetensors")
        if step.index == 5:
            break
    again = start()
    torch.manual_seed(99)  # another process: its dice stand elsewhere
    steps = list(train(*again, ring(40), config, resume=tmp_path / "run.safetensors"))
    assert [step.index for step in steps] == [4, 5, 6, 7, 8]
    assert [(step.discriminator_loss, step.generator_loss, step.penalty, step.real_score) for step in steps] == told[4:]
    assert torch.equal(weights(*again), weights(*whole))


def test_going_on_with_labels_moved_digits_and_a_critic_that_compares(tmp_path):
    images, labels = torch.rand(20, 1, 28, 28) * 2 - 1, torch.arange(20) % 10
    config = TrainConfig(steps=4, batch=4, loss="wgan-gp", discriminator_steps=2)

    def start():
        torch.manual_seed(0)
        return DigitGenerator(8, classes=10), DigitDiscriminator(8, classes=10)

    more = {"labels": labels, "augment": Warp(share=0.5)}
    for step in train(*start(), images, config, **more):
        if step.index == 1:
            step.save(tmp_path / "run.safetensors")
    whole = weights(step.generator, step.discriminator, step.ema)
    *_, step = train(*start(), images, config, **more, resume=tmp_path / "run.safetensors")
    assert torch.equal(weights(step.generator, step.discriminator, step.ema), whole)


def test_a_checkpoint_that_does_not_belong_here_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    for step in train(*pair(), ring(20), TrainConfig(steps=1, batch=4)):
        step.save(path)
    with pytest.raises(CheckpointError, match="Only `steps` may differ"):
        next(train(*pair(), ring(20), TrainConfig(steps=2, batch=4, lr=1.0), resume=path))
    with pytest.raises(CheckpointError, match="does not fit"):
        next(train(*pair(width=8), ring(20), TrainConfig(steps=2, batch=4), resume=path))
    with pytest.raises(CheckpointError, match="ask for more steps"):
        next(train(*pair(), ring(20), TrainConfig(steps=1, batch=4), resume=path))
    assert next(train(*pair(), ring(20), TrainConfig(steps=2, batch=4), resume=path)).index == 1
    tensors, description = checkpoint.load(path, "training")
    checkpoint.save(path, {name: value for name, value in tensors.items() if name != "dice"}, description)
    with pytest.raises(CheckpointError, match="no whole training run"):
        next(train(*pair(), ring(20), TrainConfig(steps=2, batch=4), resume=path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="cut short"):
        next(train(*pair(), ring(20), TrainConfig(steps=2, batch=4), resume=path))


def test_both_rates_fall_to_zero_over_the_cooldown():
    config = TrainConfig(steps=10, batch=4, cooldown=0.5)
    moves, before = [], None
    for step in train(*pair(), ring(20), config):
        now = weights(step.generator)
        if before is not None:
            moves.append(float((now - before).abs().max()))
        before = now
    assert max(moves[5:]) < max(moves[:4])
    assert moves[-1] < 0.5 * max(moves[:4])  # the last step has a fifth of the rate


def test_a_run_in_its_cooldown_keeps_its_plan(tmp_path):
    path, config = tmp_path / "run.safetensors", TrainConfig(steps=6, batch=4, cooldown=0.5)
    for step in train(*pair(), ring(20), config):
        if step.index == 3:
            step.save(path)
    whole = weights(step.generator, step.discriminator, step.ema)
    *_, again = train(*pair(), ring(20), config, resume=path)
    assert torch.equal(weights(again.generator, again.discriminator, again.ema), whole)
    with pytest.raises(CheckpointError, match="begun its cooldown toward 6 steps"):
        next(train(*pair(), ring(20), replace(config, steps=8), resume=path))


def test_numbers_that_break_stop_the_run_in_a_sentence():
    with pytest.raises(TrainingDiverged, match=r"broke at step \d+: .* lower the rates \(now 1e\+30"):
        for _ in train(*pair(), ring(20), TrainConfig(steps=50, batch=4, lr=1e30, discriminator_lr=1e30)):
            pass


@pytest.mark.parametrize(
    "config, images, words",
    [
        (TrainConfig(loss="least squares"), ring(4), "non-saturating, hinge, wgan-gp"),
        (TrainConfig(batch=0), ring(4), "must all be 1 or more"),
        (TrainConfig(cooldown=1.0), ring(4), "a share of the steps"),
        (TrainConfig(), ring(4)[:0], "at least one picture"),
    ],
)
def test_refuses_in_words(config, images, words):
    with pytest.raises(ShapeError, match=words):
        next(train(*pair(), images, config))


def test_refuses_a_generator_that_does_not_say_its_dice():
    with pytest.raises(ShapeError, match="z_dim"):
        next(train(nn.Linear(2, 2), PointDiscriminator(), ring(4)))


TWO = """
import json, sys
import torch
from accelerate import Accelerator
from dvlatent.data import Warp
from dvlatent.gan.train import TrainConfig, train
from dvlatent.gan.digits import DigitCritic, DigitGenerator
torch.set_num_threads(1)
torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
generator, critic = DigitGenerator(8, classes=10), DigitCritic(8, classes=10)
images, labels = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1, torch.arange(40) % 10
config, more = TrainConfig(steps=4, batch=16, lazy=2), {"labels": labels, "augment": Warp(), "accelerator": accelerator}
steps = list(train(generator, critic, images, config, **more))
told = [[s.critic_loss, s.generator_loss, s.penalty, s.real_score, s.fake_score] for s in steps]
total = [float(w.detach().double().abs().sum()) for net in (generator, critic, steps[-1].average) for w in net.parameters()]
if accelerator.is_main_process:
    open(sys.argv[1], "w").write(json.dumps([accelerator.num_processes, told, total]))
"""


def test_two_processes_train_as_one(tmp_path):
    """Over gloo, on the CPU: the same losses and weights as one process with the same global batch."""
    script, results = tmp_path / "two.py", {}
    script.write_text(TWO)
    root = Path(__file__).resolve().parent.parent
    for count in (1, 2):
        many = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if count == 2 else []
        launch = [sys.executable, *many, str(script), str(tmp_path / f"{count}.json")]
        here = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(launch, env=here, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        results[count] = json.loads((tmp_path / f"{count}.json").read_text())
    (one, told_one, total_one), (two, told_two, total_two) = results[1], results[2]
    assert (one, two) == (1, 2)
    assert torch.allclose(torch.tensor(told_one), torch.tensor(told_two), rtol=1e-3, atol=1e-4)
    assert torch.allclose(torch.tensor(total_one), torch.tensor(total_two), rtol=1e-3)
