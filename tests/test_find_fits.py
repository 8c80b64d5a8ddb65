"""The fits behind `find`, against closed forms, slow ways and scikit-learn."""

import numpy as np
import pytest
from sklearn.covariance import OAS
from sklearn.linear_model import LogisticRegression, Ridge

from dvlatent.editing import find_fits as fits
from dvlatent.editing.find import ENDS, angle_degrees, ends
from dvlatent.errors import ShapeError

DIM = 6
FITS = {**ENDS, "ridge": lambda w, high: fits.ridge_regression(w, high.astype(float))}


def normal_faces(seed=0, faces=20_000, noise=0.0):
    """Normal latents w with a known covariance S, and a score read from w @ normal through a curve: everything is known in closed form."""
    rng = np.random.RandomState(seed)
    turn = np.linalg.qr(rng.randn(DIM, DIM))[0] * np.linspace(0.5, 2, DIM)
    w = rng.randn(faces, DIM) @ turn.T + 3
    vector = rng.randn(DIM)
    return w, np.tanh(0.2 * (w - 3) @ vector + noise * rng.randn(faces)), vector, turn @ turn.T


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_mean_difference_finds_the_pattern_and_the_others_the_normal(noise):
    """w normal, score a curve of w @ n: mean difference ∝ S n, all regressions ∝ n (Brillinger 1983; Haufe et al. 2014)."""
    w, score, normal, covariance = normal_faces(noise=noise)
    low, high = ends(score, None, None)
    rows = low | high
    assert angle_degrees(normal, covariance @ normal) > 15
    assert angle_degrees(fits.mean_difference(w[rows], high[rows]).vector, covariance @ normal) < 2
    for fit in (fits.lda, fits.logistic, fits.svm) if noise else (fits.lda,):  # ends that can be cut cleanly: the ridge has its say
        assert angle_degrees(fit(w[rows], high[rows]).vector, normal) < 3, fit
    assert angle_degrees(fits.ridge_regression(w, score).vector, normal) < 2


def test_balanced_mean_difference_is_the_partial_covariance():
    """Scores w @ n1 and w @ n2, normal w: cov(w, first), the second held fixed, is S n1 - S n2 (n2ᵀ S n1) / (n2ᵀ S n2)."""
    w, _, n1, s = normal_faces()
    n2 = n1 + 1.5 * np.random.RandomState(5).randn(DIM)
    low, high = ends(w @ n1, None, None)
    rows = low | high
    weight = fits.overlap_weights((w @ n2)[rows, None], high[rows])
    found = fits.mean_difference(w[rows], high[rows], weight).vector
    expected = s @ n1 - s @ n2 * (n2 @ s @ n1) / (n2 @ s @ n2)
    assert angle_degrees(found, expected) < 3 < 15 < angle_degrees(s @ n1, expected)
    assert abs(n2 @ found) < 0.02 * abs(n2 @ fits.mean_difference(w[rows], high[rows]).vector)  # nothing of the other score is left


@pytest.mark.parametrize("name", FITS)
def test_turning_scaling_and_moving_w_moves_the_cut_along(name):
    w, score, _, _ = normal_faces(faces=600, noise=0.5)
    high, turn = score > 0, np.linalg.qr(np.random.RandomState(1).randn(DIM, DIM))[0]
    here, there = FITS[name](w, high), FITS[name](7 * w @ turn.T - 2, high)
    assert angle_degrees(there.vector, turn @ here.vector) < 0.1
    assert here.ridge == pytest.approx(there.ridge) if here.ridge else there.ridge is None
    side, moved = w @ here.vector - here.threshold, (7 * w @ turn.T - 2) @ there.vector - there.threshold
    assert np.allclose(moved / moved.std(), side / side.std(), atol=2e-2)


@pytest.mark.parametrize("name", FITS)
def test_the_vector_points_to_the_high_end(name):
    w, score, _, _ = normal_faces(faces=400)
    high = score > 0
    fit, other = FITS[name](w, high), FITS[name](w, ~high)
    assert (fit.vector @ w[high].mean(axis=0)) > fit.threshold > (fit.vector @ w[~high].mean(axis=0))
    assert angle_degrees(fit.vector, other.vector) > 178


@pytest.mark.parametrize("name", ["mean", "lda", "logistic", "svm"])
def test_a_face_of_weight_two_is_two_faces(name):
    w, score, _, _ = normal_faces(faces=300, noise=1.0)
    high, count = score > 0, np.random.RandomState(0).randint(1, 4, 300)
    options = {"ridge": 0.1} if name in ("logistic", "svm") else {}
    weighted = ENDS[name](w, high, count.astype(float), **options)
    repeated = ENDS[name](w.repeat(count, axis=0), high.repeat(count), **options)
    tolerance = 4 if name == "lda" else 0.1  # how much lda shrinks depends on the number of faces
    assert angle_degrees(weighted.vector, repeated.vector) < tolerance


def test_mean_difference_against_a_loop():
    w, score, _, _ = normal_faces(faces=50)
    top, bottom = ([face for face, value in zip(w, score, strict=True) if (value > 0) == side] for side in (True, False))
    fit = fits.mean_difference(w, score > 0)
    assert np.allclose(fit.vector, sum(top) / len(top) - sum(bottom) / len(bottom))
    assert fit.threshold == pytest.approx(fit.vector @ (sum(top) / len(top) + sum(bottom) / len(bottom)) / 2)


def test_lda_shrinks_as_scikit_learn_does():
    w = normal_faces(faces=40)[0]
    high = np.arange(40) < 20  # ends of one size: equal weights
    std = w - np.where(high[:, None], w[high].mean(axis=0), w[~high].mean(axis=0))
    theirs = OAS(assume_centered=True).fit(std)
    ours = fits.lda(w, high)
    assert ours.ridge == pytest.approx(theirs.shrinkage_)
    assert np.allclose(theirs.covariance_ @ ours.vector, w[high].mean(axis=0) - w[~high].mean(axis=0))


def test_ridge_is_scikit_learns_and_its_choice_that_of_leaving_one_out():
    w, score, _, _ = normal_faces(faces=60, noise=2.0)
    std = w - w.mean(axis=0)
    unit = np.linalg.eigvalsh(std.T @ std).mean()
    ours = fits.ridge_regression(w, score, ridge=0.3)
    theirs = Ridge(alpha=0.3 * unit).fit(w, score)
    assert np.allclose(ours.vector, theirs.coef_)
    assert ours.vector @ np.ones(DIM) == pytest.approx(theirs.coef_.sum())

    def left_out(ridge):
        keep = [np.arange(60) != face for face in range(60)]
        return sum((score[i] - Ridge(alpha=ridge * unit).fit(w[k], score[k]).predict(w[i : i + 1])[0]) ** 2 for i, k in enumerate(keep))

    losses = [left_out(ridge) for ridge in fits.RIDGES]
    assert left_out(fits.ridge_regression(w, score).ridge) <= 1.02 * min(losses)  # generalised cross-validation is nearly that


def test_logistic_is_the_minimum_it_says():
    """At the minimum the gradient is zero: mean of (p - y) x + ridge * vector, x centred and scaled by one number."""
    w, score, _, _ = normal_faces(faces=500, noise=1.0)
    high = score > 0
    fit = fits.logistic(w, high, ridge=0.05)
    weight = fits.equal_ends(high) / 500
    x = w - weight @ w
    scale = np.sqrt(weight @ (x**2).mean(axis=1))
    chance = 1 / (1 + np.exp(fit.threshold - w @ fit.vector))
    gradient = (weight * (chance - high)) @ x / scale + 0.05 * fit.vector * scale
    assert np.abs(gradient).max() < 1e-4 and abs(weight @ (chance - high)) < 1e-4


def test_ridge_is_chosen_stronger_where_faces_are_few():
    rng = np.random.RandomState(0)
    w = rng.randn(3000, 40)
    high = w[:, 0] + 2 * rng.randn(3000) > 0
    for fit in (fits.logistic, fits.svm):
        assert fit(w[:60], high[:60]).ridge > fit(w, high).ridge


# ---- balancing


def test_one_yes_or_no_score_is_compared_within_each_answer():
    """Overlap weights for two groups are the classic ones: the difference within each, weighted by a * b / (a + b) of its two shares."""
    rng = np.random.RandomState(0)
    man = rng.rand(400) < 0.5
    high = rng.rand(400) < np.where(man, 0.8, 0.3)  # the old are mostly men
    w = rng.randn(400, 3) + high[:, None] * [1, 0, 0] + man[:, None] * [0, 2, 0]
    weight = fits.overlap_weights(man[:, None].astype(float), high)
    shares = [(np.mean(man[high] == group), np.mean(man[~high] == group)) for group in (False, True)]
    inside = [w[high & (man == g)].mean(axis=0) - w[~high & (man == g)].mean(axis=0) for g in (False, True)]
    expected = np.ema(inside, axis=0, weights=[a * b / (a + b) for a, b in shares])
    assert np.allclose(fits.mean_difference(w, high, weight).vector, expected, atol=1e-4)
    assert abs(fits.mean_difference(w, high).vector[1]) > 0.8 and abs(expected[1]) < 0.3


def test_means_spreads_and_correlations_agree_at_both_ends():
    rng = np.random.RandomState(1)
    others = rng.randn(2000, 3)
    high = others @ [1, -0.5, 0] + others[:, 0] * others[:, 1] + rng.randn(2000) > 0
    others[:, 2] = np.exp(others[:, 2] + others[:, 0])  # a skewed scale must not matter
    weight = fits.overlap_weights(others, high)
    z = fits.normal_scores(others)
    for moment in (*z.T, *(z**2).T, z[:, 0] * z[:, 1], z[:, 0] * z[:, 2], z[:, 1] * z[:, 2]):
        top, bottom = (np.ema(moment[end], weights=weight[end]) for end in (high, ~high))
        assert top == pytest.approx(bottom, abs=1e-4)
    assert weight[high].sum() == pytest.approx(weight[~high].sum()) == pytest.approx(1000)


def test_the_chance_is_scikit_learns_unpenalised_one():
    rng = np.random.RandomState(2)
    other = rng.randn(500, 1)
    high = other[:, 0] + 2 * rng.randn(500) > 0
    z = fits.normal_scores(other)
    columns = np.concatenate([z, z**2], axis=1)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns, high, sample_weight=fits.equal_ends(high))
    chance = model.predict_proba(columns)[:, 1]
    expected = fits.equal_ends(high, np.where(high, 1 - chance, chance))
    assert np.allclose(fits.overlap_weights(other, high), expected, rtol=1e-2)


def test_alike_ends_need_no_weights():
    other = np.tile(np.arange(200.0), 2)[:, None]
    assert np.allclose(fits.overlap_weights(other, np.arange(400) < 200), 1, atol=1e-6)


def test_refuses_ends_with_nothing_in_common():
    other = np.arange(200.0)
    with pytest.raises(ShapeError, match=r"100 and 100 faces.*too little in common.*survey more faces"):
        fits.overlap_weights(other[:, None], other >= 100)
    with pytest.raises(ShapeError, match="worth only"):
        fits.overlap_weights(np.r_[np.zeros(100), np.ones(100)][:, None], other >= 98)


def test_effective_counts():
    assert fits.effective(np.ones(7)) == pytest.approx(7)
    assert fits.effective(np.array([1.0, 1.0, 0.0])) == pytest.approx(2)
