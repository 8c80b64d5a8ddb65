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

from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.gan.data import Warp, ring, ring_centers
from dvlatent.gan.digits import DigitDiscriminator, DigitGenerator
from dvlatent.gan.points import PointDiscriminator, PointGenerator
from dvlatent.gan.train import LOSSES, TrainConfig, discriminator_loss, generator_loss, gradient_penalty, train, training_state
from dvlatent.training import finish


def pair(seed=0, width=16, depth=2):
    torch.manual_seed(seed)
    return PointGenerator(width, depth), PointDiscriminator(width, depth)


def weights(*nets):
    return torch.cat([value.detach().flatten().clone() for net in nets for value in net.state_dict().values()])


def numbers(step):
    return [step.discriminator_loss, step.generator_loss, step.penalty, step.real_score, step.fake_score]


def test_it_is_the_loop_one_would_write_by_hand():
    """Three steps without penalty: two Adams, the two losses of Goodfellow et al., the same random numbers."""
    points, config = ring(100), TrainConfig(steps=3, batch=8, penalty=0.0, lr=0.01, discriminator_lr=0.02)
    generator, discriminator = pair()
    *_, last = train(generator, discriminator, points, config)

    mine, opponent = pair()
    adams = [torch.optim.Adam(net.parameters(), lr, betas=(0.0, 0.99)) for net, lr in ((mine, 0.01), (opponent, 0.02))]
    rng = torch.Generator().manual_seed(0)

    def draw():
        chosen = torch.randint(100, (8,), generator=rng)
        z = torch.randn(8, 2, generator=rng)
        torch.randint(100, (8,), generator=rng)  # whose labels the generated ones have
        return points[chosen], z

    for _ in range(3):
        real, z = draw()
        real_loss = F.binary_cross_entropy_with_logits(opponent(real), torch.ones(8))
        fake_loss = F.binary_cross_entropy_with_logits(opponent(mine(z).detach()), torch.zeros(8))
        adams[1].zero_grad()
        (real_loss + fake_loss).backward()
        adams[1].step()
        loss = F.binary_cross_entropy_with_logits(opponent(mine(draw()[1])), torch.ones(8))
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
    assert last.images == 24 and abs(last.generator_loss - loss.item()) < 1e-6
    assert (weights(mine, opponent) - weights(generator, discriminator)).abs().max() < 1e-6


def test_losses_are_those_of_the_papers():
    real, fake = torch.tensor([2.0, -0.5]), torch.tensor([1.5, -3.0])
    chance_real, chance_fake = torch.sigmoid(real), torch.sigmoid(fake)
    assert discriminator_loss("non-saturating", real, fake).isclose(-chance_real.log().mean() - (1 - chance_fake).log().mean())
    assert generator_loss("non-saturating", fake).isclose(-chance_fake.log().mean())
    assert discriminator_loss("hinge", real, fake) == (0 + 1.5) / 2 + (2.5 + 0) / 2
    assert discriminator_loss("wgan-gp", real, fake) == fake.mean() - real.mean()
    assert generator_loss("hinge", fake) == generator_loss("wgan-gp", fake) == -fake.mean()


def test_the_penalty_of_a_plane_is_known():
    plane = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    with torch.no_grad():
        plane[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    real, fake, rng = ring(6), ring(6, seed=1), torch.Generator().manual_seed(0)
    assert gradient_penalty("non-saturating", plane, real, fake, [], rng).isclose(torch.tensor(25.0))
    assert gradient_penalty("wgan-gp", plane, real, fake, [], rng).isclose(torch.tensor(16.0))
    bowl = lambda point: point.square().sum(1) / 2  # noqa: E731  its gradient at a point is the point
    assert gradient_penalty("hinge", bowl, real, fake, [], rng).isclose(real.square().sum(1).mean())


def test_lazy_penalties_correct_adam_and_count():
    state = training_state(*pair(), TrainConfig(lazy=4, discriminator_lr=0.01, beta1=0.5, beta2=0.99))
    group = state.optimizers["discriminator_optimizer"].param_groups[0]
    assert group["lr"] == pytest.approx(0.008) and group["betas"] == pytest.approx((0.5**0.8, 0.99**0.8))
    assert state.optimizers["generator_optimizer"].param_groups[0]["betas"] == (0.5, 0.99)
    *_, last = train(*pair(), ring(50), TrainConfig(steps=8, batch=4, lazy=4))
    assert last.penalty > 0
    *_, last = train(*pair(), ring(50), TrainConfig(steps=8, batch=4, penalty=0.0))
    assert last.penalty == 0


def test_without_averaging_the_average_is_the_generator():
    *_, last = train(*pair(), ring(50), TrainConfig(steps=3, batch=4, ema_images=0))
    assert torch.equal(weights(last.ema), weights(last.generator))
    assert not last.ema.training and not any(weight.requires_grad for weight in last.ema.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_ring_is_learned_whole(loss):
    """Every one of eight centers gets points, and most points lie near one."""
    chosen = {"wgan-gp": {"penalty": 1.0, "discriminator_steps": 2}}.get(loss, {"penalty": 0.1})
    config = TrainConfig(steps=700, batch=128, loss=loss, lr=2e-3, discriminator_lr=4e-3, ema_images=5000, **chosen)
    *_, last = train(*pair(width=64), ring(2000), config)
    with torch.no_grad():
        points = last.ema(torch.randn(1000, 2, generator=torch.Generator().manual_seed(1)))
    distance, nearest = torch.cdist(points, ring_centers()).min(1)
    assert len(nearest[distance < 0.5].unique()) == 8 and (distance < 0.5).float().mean() > 0.55


class Noisy(nn.Module):
    """A generator with random numbers of its own, as StyleGAN2's noise, and a buffer that moves."""

    z_dim = 2

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, z):
        return self.layers(z)


LABELED = {"labels": torch.arange(20) % 10, "augment": Warp(fraction=0.5)}
RUNS = {  # networks, pictures, config, options
    "noise and a cooldown": ((Noisy, lambda: PointDiscriminator(8, 1)), ring(40), TrainConfig(batch=8, lazy=3, cooldown=0.5), {}),
    "labels and moved digits": (
        (lambda: DigitGenerator(8), lambda: DigitDiscriminator(8)),
        torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1,
        TrainConfig(batch=4, loss="wgan-gp", discriminator_steps=2),
        LABELED,
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_going_on_after_a_stop_is_bit_for_bit_the_same(tmp_path, run):
    networks, images, config, more = run

    def steps(**resume):
        torch.manual_seed(3)
        made = [network() for network in networks]
        torch.manual_seed(99 if resume else 3)  # another process: its random numbers stand elsewhere
        return train(*made, images, replace(config, steps=6), **more, **resume)

    whole = [(numbers(step), weights(step.generator, step.discriminator, step.ema)) for step in steps()]
    for step in steps():
        if step.index == 3:
            step.save(tmp_path / "run.safetensors")
            break
    again = [(numbers(step), weights(step.generator, step.discriminator, step.ema)) for step in steps(resume=tmp_path / "run.safetensors")]
    assert len(again) == 2
    for (mine, mine_weights), (its, its_weights) in zip(again, whole[4:], strict=True):
        assert mine == its and torch.equal(mine_weights, its_weights)


def test_both_learning_rates_fall_over_the_cooldown():
    moves, before = [], None
    for step in train(*pair(), ring(20), TrainConfig(steps=10, batch=4, cooldown=0.5)):
        now = weights(step.generator)
        if before is not None:
            moves.append(float((now - before).abs().max()))
        before = now
    assert max(moves[5:]) < max(moves[:4])
    assert moves[-1] < 0.5 * max(moves[:4])  # the last step has a fifth of the learning rate


def test_numbers_that_break_stop_the_run_in_a_sentence():
    with pytest.raises(TrainingDiverged, match=r"broke at step \d+: .* lower the learning rates"):
        for _ in train(*pair(), ring(20), TrainConfig(steps=50, batch=4, lr=1e30, discriminator_lr=1e30)):
            pass


@pytest.mark.parametrize(
    ("config", "images", "words"),
    [
        (TrainConfig(loss="least squares"), ring(4), "non-saturating, hinge, wgan-gp"),
        (TrainConfig(batch=0), ring(4), "must all be 1 or more"),
        (TrainConfig(cooldown=1.0), ring(4), "a fraction of the steps"),
        (TrainConfig(), ring(4)[:0], "at least one picture"),
    ],
)
def test_refuses_in_words(config, images, words):
    with pytest.raises(ShapeError, match=words):
        next(train(*pair(), images, config))


def test_refuses_a_generator_that_does_not_say_its_z_dim():
    with pytest.raises(ShapeError, match="z_dim"):
        next(train(nn.Linear(2, 2), PointDiscriminator(), ring(4)))


def small_run(accelerator=None):
    """The losses of four steps, and the sizes of all weights after them."""
    torch.manual_seed(0)
    networks = DigitGenerator(8, classes=10), DigitDiscriminator(8, classes=10)
    images, labels = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1, torch.arange(40) % 10
    config = TrainConfig(steps=4, batch=16, lazy=2)
    steps = list(train(*networks, images, config, labels=labels, augment=Warp(), accelerator=accelerator))
    sizes = [float(w.detach().double().abs().sum()) for net in (*networks, steps[-1].ema) for w in net.parameters()]
    return [numbers(step) for step in steps], sizes


def test_two_processes_train_as_one(tmp_path):
    """Over gloo, on the CPU: the same losses and weights as one process with the same global batch."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, str(tmp_path / "two.json")]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    processes, losses, sizes = json.loads((tmp_path / "two.json").read_text())
    alone, sizes_alone = small_run()
    assert processes == 2
    assert torch.allclose(torch.tensor(losses), torch.tensor(alone), rtol=1e-3, atol=1e-4)
    assert torch.allclose(torch.tensor(sizes), torch.tensor(sizes_alone), rtol=1e-3)


if __name__ == "__main__":  # in one of the two processes
    from accelerate import Accelerator

    both = Accelerator(cpu=True)
    result = small_run(both)
    if both.is_main_process:
        Path(sys.argv[1]).write_text(json.dumps([both.num_processes, *result]))
    finish(both)
