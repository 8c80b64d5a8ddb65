"""Distances between clouds: closed forms of Gaussians, hand examples, slow loops, and peers."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.testing import assert_close

from dvlatent.errors import ShapeError
from dvlatent.metrics import features as quality
from dvlatent.metrics.features import frechet, gaussian_frechet, kid, knn_accuracy, neighbors


def cloud(samples=400, numbers=5, seed=0, shift=0.0, scale=1.0):
    return shift + scale * np.random.RandomState(seed).randn(samples, numbers)


def covariance(numbers, seed):
    mix = np.random.RandomState(seed).randn(numbers, numbers)
    return mix @ mix.T + 0.1 * np.eye(numbers)


# Frechet


@pytest.mark.parametrize(("gap", "a", "b"), [(0, 1, 1), (3, 1, 1), (0, 1, 4), (2, 0.25, 9)])
def test_gaussians_whose_axes_agree_have_a_closed_form(gap, a, b):
    n = 7
    expected = n * gap**2 + n * (a**0.5 - b**0.5) ** 2
    assert gaussian_frechet(np.zeros(n), a * np.eye(n), np.full(n, gap), b * np.eye(n)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("numbers", [1, 2, 24])
def test_gaussians_in_general_agree_with_the_matrix_root_of_scipy(numbers):
    rng = np.random.RandomState(3)
    m, n, a, b = rng.randn(numbers), rng.randn(numbers), covariance(numbers, 1), covariance(numbers, 2)
    expected = np.square(m - n).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert gaussian_frechet(m, a, n, b) == pytest.approx(expected, rel=1e-9)


def test_covariances_without_full_rank_do_no_harm():
    """Ten samples of fifty numbers: the usual matrix root answers with complex numbers or noise."""
    few = cloud(10, 50)
    assert float(frechet(few, few)) == pytest.approx(0, abs=1e-6)
    assert float(frechet(few, few + 2.0)) == pytest.approx(4 * 50, rel=1e-9)


def test_frechet_of_samples_nears_the_truth_and_says_how_many_there_were():
    found = frechet(cloud(20_000), cloud(10_000, seed=1, shift=1.0, scale=2.0))
    assert float(found) == pytest.approx(5 * 1 + 5 * (2 - 1) ** 2, rel=0.05)
    assert (found.real, found.fake) == (20_000, 10_000) and str(found).endswith("(N = 20,000 and 10,000)")


def test_frechet_is_biased_upward_when_samples_are_few():
    few, many = (np.mean([float(frechet(cloud(n, 20, 2 * s), cloud(n, 20, 2 * s + 1))) for s in range(5)]) for n in (60, 960))
    assert few > 8 * many > 0


# KID


def test_the_kernel_distance_is_that_of_an_obviously_right_loop():
    a, b = cloud(8, 3), cloud(9, 3, seed=1, shift=0.5)
    k = lambda x, y: (float(x @ y) / 3 + 1) ** 3  # noqa: E731
    same_a = np.mean([k(a[i], a[j]) for i in range(8) for j in range(8) if i != j])
    same_b = np.mean([k(b[i], b[j]) for i in range(9) for j in range(9) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert quality._mmd(a, b) == pytest.approx(same_a + same_b - 2 * across, rel=1e-12)


def test_kid_is_unbiased_whatever_the_number_of_samples():
    """For x, y of one number each, E k = 1 + 3 E[x]E[y] + 3 E[x²]E[y²] + E[x³]E[y³]: normal against shifted normal in closed form."""
    shift = 0.5
    m1, m2, m3 = shift, 1 + shift**2, shift**3 + 3 * shift
    truth = (1 + 3 * 1) + (1 + 3 * m1**2 + 3 * m2**2 + m3**2) - 2 * (1 + 3 * m2)
    for n, rounds in ((10, 4000), (200, 200)):
        rng = np.random.RandomState(0)
        values = [quality._mmd(rng.randn(n, 1), shift + rng.randn(n, 1)) for _ in range(rounds)]
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / rounds**0.5


def test_kid_of_equal_clouds_has_zero_in_its_interval_and_of_others_not():
    same, other = kid(cloud(2000), cloud(2000, seed=1)), kid(cloud(2000), cloud(2000, seed=1, shift=0.3))
    assert same.low < 0 < same.high < other.low
    assert same.samples == 2000


# Maps


@pytest.mark.parametrize("k", [1, 3, 10])
def test_knn_accuracy_is_that_of_an_obviously_right_loop(k):
    rng = np.random.RandomState(0)
    y, truth = rng.randint(0, 4, 300), rng.randint(0, 4, 100)
    x, test = cloud(300, 2) + y[:, None], cloud(100, 2, seed=1) + truth[:, None]
    named = [np.bincount(y[np.argsort(np.linalg.norm(x - one, axis=1))[:k]]).argmax() for one in test]
    assert knn_accuracy(x, y, test, truth, k).value == np.mean(named == truth)


def test_a_perfect_map_and_a_meaningless_one():
    y = np.arange(1000) % 10
    perfect = np.stack([y, y], axis=1) + 0.1 * cloud(1000, 2)
    assert knn_accuracy(perfect, y, perfect + 0.01, y).value == 1
    nothing = knn_accuracy(cloud(1000, 2), y, cloud(1000, 2, seed=1), y)
    assert nothing.low < 0.1 < nothing.high and nothing.samples == 1000


def test_neighbors_on_a_line_by_hand():
    """Two a's, two b's and a c in a row, nearest neighbour of each: a-a, a-a, b-b, b-b, c-b."""
    table = neighbors(np.array([[0.0], [1], [5], [6], [8]]), np.array(list("aabbc")), k=1)
    assert np.array_equal(table, [[1, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_rows_of_neighbors_add_up_and_nobody_counts_themselves():
    y = np.arange(90) % 3
    table = neighbors(cloud(90, 2), y, k=89)  # everybody else: 29 of one's own, 30 of each other
    assert_close(torch.from_numpy(table), torch.full((3, 3), 30 / 89, dtype=torch.float64) - torch.eye(3, dtype=torch.float64) / 89)


def test_tensors_far_from_zero_are_measured_as_well_as_arrays():
    y = np.arange(200) % 2
    x = cloud(200, 2) + 3 * y[:, None]
    far = torch.from_numpy(x + 1e6)
    assert knn_accuracy(far, torch.from_numpy(y), far, y).value == knn_accuracy(x, y, x, y).value


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frechet(cloud(5, 2), cloud(5, 3)), "same width.*2 and 3"),
        (lambda: frechet(np.zeros((4, 1, 28)), cloud(5, 3)), r"\[4, 1, 28\].*Flatten"),
        (lambda: frechet(np.full((4, 2), np.nan), cloud(5, 2)), "not finite"),
        (lambda: kid(cloud(5), cloud(5)), "20 blocks.*2 to 2"),
        (lambda: knn_accuracy(cloud(20), np.zeros(19), cloud(9), np.zeros(9)), r"20 codes.*\[19\]"),
        (lambda: neighbors(cloud(10), np.zeros(10), k=10), "k = 10.*1 to 9"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(call, words):
    with pytest.raises(ShapeError, match=words):
        call()
