"""What all trainings share: closed forms of schedules and averages, a state that comes back, batches shared, a bar that saves."""

import io
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dvlatent import checkpoint, training
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.training import (
    TrainingState,
    autocast,
    cooldown,
    ema_decay,
    progress,
    reduce_gradients,
    shard,
    update_ema,
    warm_decay,
    warmup_cosine,
)


@dataclass(frozen=True)
class Config:
    steps: int = 8
    seed: int = 0
    lr: float = 0.1
    cooldown: float = 0.75


def state(config=None, width=3):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1))
    return TrainingState(config or Config(), {"net": net}, {"adam": torch.optim.Adam(net.parameters(), lr=0.1)})


def step(state):
    """Learn from one batch; gives what the next step needs besides the networks."""
    x = torch.randn(8, 2, generator=state.rng)
    state.scale_lr(cooldown(state.index, state.config.steps, 0.5))
    state.update("adam", state.networks["net"](x).square().mean())
    state.index += 1
    state.tensors["last"] = x
    return torch.cat([value.flatten().float() for value in state.networks["net"].state_dict().values()])


def test_a_run_goes_on_bit_for_bit(tmp_path):
    path, whole = tmp_path / "run.safetensors", state()
    for _ in range(3):
        step(whole)
    whole.save(path)
    expected = [step(whole).clone() for _ in range(3)]
    again = state()
    torch.manual_seed(99)
    again.load(path)
    assert again.index == 3 and all(torch.equal(step(again), one) for one in expected)
    assert torch.equal(again.tensors["last"], whole.tensors["last"])


def test_what_does_not_belong_here_is_refused(tmp_path):
    path, run = tmp_path / "run.safetensors", state()
    for _ in range(3):
        step(run)
    run.save(path)
    with pytest.raises(CheckpointError, match="Only `steps` may differ"):
        state(Config(lr=1.0)).load(path)
    with pytest.raises(CheckpointError, match="has done 3 of 8 steps and cannot go on toward 3"):
        state(Config(steps=3)).load(path)
    with pytest.raises(CheckpointError, match=r"has done 3 of 8 steps and cannot go on toward 9.*the end is fixed"):
        state(Config(steps=9)).load(path)  # the learning rates fall since step 2
    with pytest.raises(CheckpointError, match=r"net of .* does not fit"):
        state(width=4).load(path)
    tensors, description = checkpoint.load(path, "training")
    checkpoint.save(path, {name: value for name, value in tensors.items() if name != "rng"}, description)
    with pytest.raises(CheckpointError, match="no complete training run"):
        state().load(path)


def test_learning_rates_follow_their_closed_forms():
    assert [cooldown(index, 10, 0.5) for index in (0, 5, 6, 9)] == pytest.approx([1, 1, 0.8, 0.2]) and cooldown(9, 10, 0.0) == 1
    assert [warmup_cosine(index, 100, warmup=10) for index in (0, 50, 100)] == pytest.approx([0.1, 0.5, 0])


def test_averages_forget_half_in_their_half_life_and_their_first_weights_soon():
    ema, net = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.zeros_(ema.weight)
    net.running_mean.fill_(7)
    for _ in range(20):
        update_ema(ema, net, ema_decay(images=100_000, batch=10, half_life=200))  # far along: no ramp
    assert torch.allclose(ema.weight, torch.tensor(0.5)) and (ema.running_mean == 7).all()
    assert ema_decay(1000, 10, 10_000) == ema_decay(1000, 10, 50) and ema_decay(1000, 10, 0) == 0
    assert warm_decay(0, 0.9) == 0.1 and warm_decay(10_000, 0.9) == 0.9


def test_an_update_is_clipped_to_a_length():
    linear = nn.Linear(1, 1, bias=False)
    run = TrainingState(Config(), {}, {"sgd": torch.optim.SGD(linear.parameters(), lr=1.0)})
    before = linear.weight.item()
    run.update("sgd", 1000 * linear.weight.sum(), clip=0.5)
    assert before - linear.weight.item() == pytest.approx(0.5, rel=1e-4)


def test_a_batch_is_shared_evenly_and_gradients_are_averaged():
    two = SimpleNamespace(num_processes=2, process_index=1, reduce=lambda gradients, how: gradients / 2)
    assert shard(8, None) == slice(None) and shard(8, two) == slice(4, 8)
    with pytest.raises(ShapeError, match="batch of 9 cannot be shared by 2 processes"):
        shard(9, two)
    linear = nn.Linear(2, 1)
    linear(torch.ones(1, 2)).sum().backward()
    reduce_gradients(torch.optim.SGD(linear.parameters(), lr=1.0), two)
    assert linear.weight.grad.tolist() == [[0.5, 0.5]] and linear.bias.grad.tolist() == [0.5]


def test_half_precision_other_than_bf16_is_refused():
    with pytest.raises(ShapeError, match="bf16"):
        autocast(torch.device("cpu"), False, SimpleNamespace(mixed_precision="fp16"))


def test_the_bar_saves_on_the_way_but_not_at_the_end(tmp_path):
    saved = []
    steps = [SimpleNamespace(index=index, save=lambda path, index=index: saved.append((path, index))) for index in range(2, 8)]
    assert [one.index for one in progress(steps, 8, lambda one: "", quiet=True, save=tmp_path, every=2)] == list(range(2, 8))
    assert saved == [(tmp_path, 3), (tmp_path, 5)]


def test_the_bar_of_a_resumed_run_keeps_its_pace(monkeypatch):
    """What was done before counts as done, but not as work of this process: the pace and the time left are those of now."""
    bars = []

    class Bar(training.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options, file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr(training, "tqdm", Bar)
    seen = [(bars[0].initial, bars[0].n) for _ in progress([SimpleNamespace(index=index) for index in range(5, 8)], 8, lambda one: "now")]
    assert seen == [(5, 6), (5, 7), (5, 8)] and bars[0].total == 8 and bars[0].postfix == "now"


def test_a_process_that_is_not_the_first_shows_and_writes_nothing(capsys):
    def refused(path):
        raise AssertionError("only the first process writes")

    steps = [SimpleNamespace(index=index, save=refused) for index in range(4)]
    assert [one.index for one in progress(steps, 4, lambda one: "", quiet=True, save=None, every=1)] == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "")
