"""The bootstrap: as wide as theory says, right as often as it says, and the same every time."""

import numpy as np
import pytest

from dvlatent.errors import ShapeError
from dvlatent.stats import bootstrap


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.RandomState(0).randn(400)
    found = bootstrap(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert bootstrap(values) == found  # its random numbers are seeded
    assert str(found) == f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]" and found.samples == 400


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    intervals = [bootstrap(np.random.RandomState(seed).randn(60) + 3, resamples=200, seed=seed) for seed in range(200)]
    assert 0.88 <= np.mean([one.low < 3 < one.high for one in intervals]) <= 0.99


def test_what_belongs_to_one_sample_stays_together():
    rows = np.random.RandomState(0).randn(100, 1).repeat(2, axis=1)  # both columns are equal in every sample
    found = bootstrap(rows, lambda rows: (rows[:, 0] - rows[:, 1]).mean())
    assert found.low == found.value == found.high == 0


@pytest.mark.parametrize(("values", "level"), [([], 0.95), ([1.0], 0.95), ([1.0, 2.0], 0.0), ([1.0, 2.0], 1.0)])
def test_refuses_too_few_samples_and_impossible_levels(values, level):
    with pytest.raises(ShapeError, match="two samples at least and a level"):
        bootstrap(np.array(values), level=level)
