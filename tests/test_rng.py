"""Seeds are addresses: the same number gives the same dice here, elsewhere and in any company."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvlatent.errors import DvlatentError, ShapeError
from dvlatent.latents import normal

pytestmark = pytest.mark.shapes
seeds = st.integers(0, 2**32 - 1)


@given(st.lists(seeds, max_size=4), st.integers(1, 9))
def test_every_row_is_numpys_own(seeds, dim):
    rows = normal(seeds, dim)
    assert rows.shape == (len(seeds), dim)
    for seed, row in zip(seeds, rows, strict=True):
        assert np.array_equal(row.numpy(), np.random.RandomState(seed).randn(1, dim)[0].astype(np.float32))


def test_the_best_known_seed_of_all():
    assert normal(0, 3)[0].tolist() == pytest.approx([1.76405235, 0.40015721, 0.97873798])


@given(st.lists(seeds, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_row_depends_on_its_seed_alone(seeds, random):
    shuffled = random.sample(seeds, len(seeds))
    company = normal(shuffled, 5)
    assert all(torch.equal(company[shuffled.index(seed)], normal(seed, 5)[0]) for seed in seeds)


def test_anything_that_lists_whole_numbers_will_do():
    for same in ([3, 4], (3, 4), range(3, 5), np.array([3, 4]), (seed for seed in [3, 4])):
        assert torch.equal(normal(same, 6), normal([3, 4], 6))
    assert torch.equal(normal(np.uint32(3), 6), normal([3], 6))


def test_float32_on_the_cpu_and_nobody_elses_dice_are_rolled():
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    z = normal([85, 265], 512)
    assert (z.dtype, z.device.type, z.shape) == (torch.float32, "cpu", (2, 512))
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, [2.0], "85", True, [False], None, [None], torch.tensor([1.0])])
def test_refuses_what_is_no_seed(seed):
    with pytest.raises(ShapeError, match="whole numbers from 0 to 4294967295") as caught:
        normal(seed, 4)
    assert isinstance(caught.value, DvlatentError)
