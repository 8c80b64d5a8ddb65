"""Path length and separability: closed forms, truths of drawn data, and laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dvlatent.errors import ShapeError
from dvlatent.latents import lerp, normal
from dvlatent.metrics import latent as measure
from dvlatent.metrics.latent import PathConfig, conditional_entropy, fit_plane, path_lengths, separability, surest, trimmed_mean


class Linear:
    """A generator whose pictures are its w, so that path lengths are known in closed form."""

    z_dim = w_dim = 12
    num_layers, resolution = 2, 2
    w_mean = torch.zeros(12)

    def __init__(self, stretch: float = 1.0) -> None:
        self.stretch = stretch

    def mapping(self, z):
        return self.stretch * z

    def synthesis(self, ws):
        return ws.mean(dim=1).view(-1, 3, 2, 2)


def squared(a, b):
    return (a - b).square().sum(dim=(1, 2, 3))


def planted(faces=400, numbers=20, gap=3.0, seed=0):
    """Two clouds, `gap` standard deviations apart: the best cut is right with probability Phi(gap / 2)."""
    rng = np.random.RandomState(seed)
    label = rng.rand(faces) < 0.5
    return rng.randn(faces, numbers) + gap * np.where(label, 0.5, -0.5)[:, None] * np.eye(numbers)[0], label


@pytest.mark.parametrize("stretch", [1.0, 0.25])
def test_on_straight_lines_the_path_length_is_the_squared_distance_of_the_ends(stretch):
    generator = Linear(stretch)
    w = generator.mapping(normal(range(12), 12))
    lengths = path_lengths(generator, squared, "w", PathConfig(pairs=6, epsilon=1e-2))
    assert_close(torch.from_numpy(lengths).float(), (w[0::2] - w[1::2]).square().sum(dim=1), rtol=1e-3, atol=1e-3)


def test_on_arcs_of_a_sphere_the_path_length_is_the_squared_angle():
    class Sphere(Linear):
        def mapping(self, z):
            return z / z.norm(dim=1, keepdim=True)

    z = normal(range(12), 12)
    angle = torch.acos(torch.cosine_similarity(z[0::2], z[1::2]))
    lengths = path_lengths(Sphere(), squared, "z", PathConfig(pairs=6, epsilon=1e-2))
    assert_close(torch.from_numpy(lengths).float(), angle.square(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize("ends", [True, False])
def test_the_batch_and_the_number_of_pairs_change_no_pair(space, ends):
    one = path_lengths(Linear(), squared, space, PathConfig(pairs=5, epsilon=0.1, batch=1, ends=ends))
    other = path_lengths(Linear(), squared, space, PathConfig(pairs=5, epsilon=0.1, batch=4, ends=ends))
    np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(one[:3], path_lengths(Linear(), squared, space, PathConfig(pairs=3, epsilon=0.1, ends=ends)), rtol=1e-4)


def test_a_full_path_is_measured_anywhere_between_its_ends():
    class Bent(Linear):
        def synthesis(self, ws):
            drawn.append(ws[:, 0])
            return super().synthesis(ws)

    drawn = []
    path_lengths(Bent(), squared, "w", PathConfig(pairs=4, epsilon=0.5, ends=False))
    w = normal(range(8), 12)
    where = ((drawn[0] - w[0::2]) * (w[1::2] - w[0::2])).sum(1) / (w[1::2] - w[0::2]).square().sum(1)
    assert ((where > 0) & (where < 0.5)).all() and where.std() > 0
    ends = [lerp(a[None], b[None], float(t) + 0.5) for a, b, t in zip(w[0::2], w[1::2], where, strict=True)]
    assert_close(drawn[1], torch.cat(ends))


@pytest.mark.parametrize("wrong", [{"space": "x"}, {"pairs": 0}, {"epsilon": 0.0}, {"epsilon": 2.0}])
def test_impossible_paths_are_refused_in_words(wrong):
    space = wrong.pop("space", "w")
    with pytest.raises(ShapeError, match="path lengths need"):
        path_lengths(Linear(), squared, space, PathConfig(**wrong))


def test_trimming_takes_one_percent_from_both_ends_and_keeps_what_is_at_the_limit():
    values = np.arange(1001.0)
    values[0], values[-1] = -1e9, 1e9
    assert trimmed_mean(values) == pytest.approx(500)
    assert trimmed_mean(values, percent=0) == pytest.approx(values.mean())


def test_the_plane_is_the_one_of_the_normal_equations():
    x, y = planted()
    vector, offset = fit_plane(x, y, ridge=0.3)
    centered, target = x - x.mean(axis=0), np.where(y, 1.0, -1.0)
    ridge = 0.3 * len(x) * x.var(axis=0).mean() * np.eye(x.shape[1])
    by_hand = np.linalg.solve(centered.T @ centered + ridge, centered.T @ (target - target.mean()))
    np.testing.assert_allclose(vector, by_hand, atol=1e-9)
    assert offset == pytest.approx(target.mean() - x.mean(axis=0) @ by_hand)


def test_the_ridge_is_the_one_that_a_plain_search_chooses():
    x, y = planted(faces=90, numbers=60, gap=1.0)
    part, right = measure._parts(y, 3, 1), []
    for ridge in measure.RIDGES:
        planes = [fit_plane(x[part != fold], y[part != fold], ridge) for fold in range(3)]
        right.append(sum(((x[part == fold] @ n + offset > 0) == y[part == fold]).sum() for fold, (n, offset) in enumerate(planes)))
    best = max(ridge for ridge, count in zip(measure.RIDGES, right, strict=True) if count == max(right))
    assert measure._best_ridge(x, y, measure.RIDGES, seed=0) == best


@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_the_plane_cuts_alike_wherever_the_cloud_lies_and_however_large_it_is(scale, shift):
    x, y = planted(faces=60, numbers=5)
    vector, offset = fit_plane(x, y, ridge=0.1)
    moved, moved_offset = fit_plane(scale * x + shift, y, ridge=0.1)
    np.testing.assert_allclose((scale * x + shift) @ moved + moved_offset, x @ vector + offset, atol=1e-6)


def test_separability_finds_the_accuracy_that_was_planted():
    found = separability(*planted(faces=3000, gap=3.0))
    truth = 0.5 * (1 + math.erf(1.5 / math.sqrt(2)))
    assert found.accuracy.low - 0.01 <= truth <= found.accuracy.high + 0.01
    assert found.accuracy.samples == 3000


def test_noise_is_not_separable_even_where_it_can_be_fitted_perfectly():
    rng = np.random.RandomState(0)
    found = separability(rng.randn(200, 512), rng.rand(200) < 0.5, ridges=(1e-3,))
    assert found.fitted == 1.0, "with more numbers than faces every label can be fitted"
    assert found.accuracy.value == pytest.approx(0.5, abs=0.12)
    assert found.entropy.value > 0.9


@pytest.mark.parametrize(
    "side, label, bits",
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 0.0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 0.0),  # the wrong way round tells as much
        ([0, 1, 0, 1], [0, 0, 1, 1], 1.0),
        ([0, 0, 0, 0], [0, 0, 0, 1], 0.8112781),  # a useless cut leaves what the label had to tell
        ([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], 0.5 * 0.8112781),
    ],
)
def test_conditional_entropy_in_bits(side, label, bits):
    assert conditional_entropy(np.array(side, bool), np.array(label, bool)) == pytest.approx(bits, abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_a_cut_never_takes_knowledge_away(pairs):
    side, label = np.array(pairs, dtype=bool).T
    alone = conditional_entropy(np.zeros_like(label), label)
    assert -1e-12 <= conditional_entropy(side, label) <= alone + 1e-12 <= 1 + 1e-9


def test_the_surest_half():
    assert surest(np.array([0.1, 0.4, 0.3, 0.2])).tolist() == [False, True, True, False]
    assert surest(np.zeros(10), keep=0.3).sum() == 3


@pytest.mark.parametrize("labels", [np.zeros(30, bool), np.arange(30), np.zeros(7, bool)])
def test_labels_that_cannot_be_cut_are_refused_in_words(labels):
    with pytest.raises(ShapeError, match=r"needs at least 20 faces of each label|True or False"):
        separability(np.random.RandomState(0).randn(30, 4), labels, folds=10)
