"""The two ways downhill, on valleys whose bottom is known."""

from itertools import pairwise

import pytest
import torch

from dvlatent.inversion.optimizers import FARTHEST, Adam, QuasiNewton

pytestmark = pytest.mark.usefixtures("one_thread")


def walk(optimizer, objective, steps, l2=0.0, lr=0.1):
    values = []
    for _ in range(steps):
        at = optimizer.trial.clone().requires_grad_()
        seen = objective(at)
        (slope,) = torch.autograd.grad(seen, at)
        optimizer.tell(float(seen.detach()), slope, torch.as_tensor(l2), lr)
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
    values = walk(QuasiNewton(torch.zeros(1, 20), curvature), long_valley, 3)  # the first one is cautious
    assert values[-1] < 1e-12


def test_without_it_the_curvature_is_learned_on_the_way_and_adam_is_left_behind():
    ours = walk(QuasiNewton(torch.zeros(1, 20), torch.ones(1, 20)), long_valley, 40)
    adam = walk(Adam(torch.zeros(1, 20), torch.ones(1, 20)), long_valley, 40)
    assert ours[-1] < 1e-6 and ours[-1] < adam[-1] / 100


def test_a_bent_valley_is_followed_to_its_end_and_the_best_only_improves():
    optimizer = QuasiNewton(torch.tensor([[-1.2, 1.0]]), torch.ones(1, 2))
    values = walk(optimizer, rosenbrock, 150)
    assert values[-1] < 1e-8
    assert all(after <= before for before, after in pairwise(values))


def test_a_step_that_brings_less_than_promised_is_taken_back():
    optimizer = QuasiNewton(torch.tensor([[0.4]]), torch.tensor([[1e-6]]))  # it believes in a flat valley: the step is far too long
    values = walk(optimizer, lambda at: 50 * at.square().sum(), 12)
    assert values[0] == pytest.approx(8.0) and values[-1] < 1e-6


def test_no_step_is_farther_than_it_may_be():
    optimizer = QuasiNewton(torch.zeros(2, 8), torch.full((2, 8), 1e-9))
    walk(optimizer, lambda at: at.sum(), 1)
    assert float(optimizer.trial.square().mean(dim=1).sqrt().max()) == pytest.approx(FARTHEST)


def test_springs_pull_to_the_middle_and_may_change_on_the_way():
    middle = lambda at: (at - 1).square().sum() / 2  # noqa: E731
    optimizer = QuasiNewton(torch.zeros(1, 3), torch.ones(1, 3))
    walk(optimizer, middle, 10, l2=1.0)
    assert optimizer.best.tolist() == [pytest.approx([0.5] * 3, abs=1e-5)]  # half way between 0 and 1
    walk(optimizer, middle, 10, l2=3.0)
    assert optimizer.best.tolist() == [pytest.approx([0.25] * 3, abs=1e-5)]


def test_it_forgets_where_the_objective_becomes_another():
    optimizer = QuasiNewton(torch.zeros(1, 3), torch.ones(1, 3))
    walk(optimizer, lambda at: (at - 1).square().sum(), 10)
    optimizer.forget()
    walk(optimizer, lambda at: 7 + (at + 1).square().sum(), 10)  # worse everywhere near: without forgetting, nothing would be accepted
    assert optimizer.best.tolist() == [pytest.approx([-1.0] * 3, abs=1e-4)]


def test_adam_is_adam():
    at = torch.zeros(1, 5, requires_grad=True)
    adam = torch.optim.Adam([at], lr=0.1, betas=(0.9, 0.99))
    for _ in range(10):
        adam.zero_grad()
        (long_valley(at) + 0.5 * at.square().sum() / 2).backward()
        adam.step()
    optimizer = Adam(torch.zeros(1, 5), torch.ones(1, 5))
    walk(optimizer, long_valley, 10, l2=0.5)
    assert torch.allclose(optimizer.best, at.detach(), atol=1e-6)
