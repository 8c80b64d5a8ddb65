"""The two ways downhill, on valleys whose bottom is known."""

from itertools import pairwise

import pytest
import torch

from dvlatent.errors import ShapeError
from dvlatent.inversion.optimizers import AdamConfig, QuasiNewtonConfig


def quasi_newton(point, curvature):
    return QuasiNewtonConfig().start(point, curvature)


def walk(optimizer, objective, steps, l2=0.0):
    values = []
    for step in range(steps):
        at = optimizer.ask(step / steps).requires_grad_()
        value = objective(at)
        (gradient,) = torch.autograd.grad(value, at)
        optimizer.tell(value.item(), gradient, torch.as_tensor(l2))
        values.append(float(objective(optimizer.best)))
    return values


def long_valley(at):
    """A thousand times steeper across than along."""
    steep = torch.logspace(-3, 0, at.numel()).view_as(at)
    return (steep * (at - 0.3).square()).sum() / 2


def rosenbrock(at):
    x, y = at[0]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def test_with_the_true_curvature_two_steps_are_enough():
    curvature = torch.logspace(-3, 0, 20)[None]
    values = walk(quasi_newton(torch.zeros(1, 20), curvature), long_valley, 3)  # the first one is short
    assert values[-1] < 1e-12


def test_without_it_the_curvature_is_learned_on_the_way_and_adam_is_left_behind():
    ours, adam = (
        walk(config.start(torch.zeros(1, 20), torch.ones(1, 20)), long_valley, 40)
        for config in (QuasiNewtonConfig(), AdamConfig(lr=0.1, noise=0))
    )
    assert ours[-1] < 1e-6 and ours[-1] < adam[-1] / 100


def test_a_bent_valley_is_followed_to_its_end_and_the_best_only_improves():
    optimizer = quasi_newton(torch.tensor([[-1.2, 1.0]]), torch.ones(1, 2))
    values = walk(optimizer, rosenbrock, 150)
    assert values[-1] < 1e-8
    assert all(after <= before for before, after in pairwise(values))


def test_a_step_that_brings_less_than_promised_is_taken_back():
    optimizer = quasi_newton(torch.tensor([[0.4]]), torch.tensor([[1e-6]]))  # it takes the valley for a flat one: the step is far too long
    values = walk(optimizer, lambda at: 50 * at.square().sum(), 12)
    assert values[0] == pytest.approx(8.0) and values[-1] < 1e-6


def test_no_step_is_longer_than_it_may_be():
    optimizer = QuasiNewtonConfig(longest_step=0.5).start(torch.zeros(2, 8), torch.full((2, 8), 1e-9))
    walk(optimizer, lambda at: at.sum(), 1)
    assert float(optimizer.ask(0.0).square().mean(dim=1).sqrt().max()) == pytest.approx(0.5)


def test_l2_pulls_to_zero_and_may_change_on_the_way():
    def objective(at):
        return (at - 1).square().sum() / 2

    optimizer = quasi_newton(torch.zeros(1, 3), torch.ones(1, 3))
    walk(optimizer, objective, 10, l2=1.0)
    assert optimizer.best.tolist() == [pytest.approx([0.5] * 3, abs=1e-5)]  # half way between 0 and 1
    walk(optimizer, objective, 10, l2=3.0)
    assert optimizer.best.tolist() == [pytest.approx([0.25] * 3, abs=1e-5)]


def test_it_forgets_where_the_objective_becomes_another():
    optimizer = quasi_newton(torch.zeros(1, 3), torch.ones(1, 3))
    walk(optimizer, lambda at: (at - 1).square().sum(), 10)
    optimizer.forget()
    walk(optimizer, lambda at: 7 + (at + 1).square().sum(), 10)  # worse everywhere near: without forgetting, nothing would be accepted
    assert optimizer.best.tolist() == [pytest.approx([-1.0] * 3, abs=1e-4)]


def test_in_the_end_both_ask_for_the_best_point():
    for config in (QuasiNewtonConfig(), AdamConfig()):
        optimizer = config.start(torch.zeros(2, 3), torch.ones(2, 3))
        walk(optimizer, long_valley, 5)
        assert torch.equal(optimizer.ask(1.0), optimizer.best)


def test_adam_is_adam():
    config = AdamConfig(lr=0.1, noise=0)
    at = torch.zeros(1, 5, requires_grad=True)
    adam = torch.optim.Adam([at], betas=(0.9, 0.99))
    for step in range(10):
        adam.zero_grad()
        (long_valley(at) + 0.5 * at.square().sum() / 2).backward()
        adam.param_groups[0]["lr"] = config.lr_at(step / 10)
        adam.step()
    optimizer = config.start(torch.zeros(1, 5), torch.ones(1, 5))
    walk(optimizer, long_valley, 10, l2=0.5)
    assert torch.allclose(optimizer.best, at.detach(), atol=1e-6)


def test_its_learning_rate_rises_and_falls_and_its_noise_ends():
    config = AdamConfig(lr=0.2, ramp_up=0.1, ramp_down=0.5, noise=0.05, noise_until=0.3)
    assert config.lr_at(0.0) < config.lr_at(0.05) < config.lr_at(0.3) == 0.2 > config.lr_at(0.8) > config.lr_at(1.0) == 0
    assert config.noise_at(0.0) == 0.05 > config.noise_at(0.2) > config.noise_at(0.3) == 0
    points = [config.start(torch.zeros(3, 4), torch.ones(3, 4)).ask(0.0) for _ in range(2)]
    assert torch.equal(*points) and points[0][0].any() and not points[0][1:].any()  # only in the row that all layers share


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"noise": -0.1}])
def test_wrong_configs_are_refused(wrong):
    with pytest.raises(ShapeError, match="Adam needs"):
        AdamConfig(**wrong)
