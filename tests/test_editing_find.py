"""Finding directions: on the toy face that knows the truth, and every method against a closed form, a slow way or scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS
from sklearn.linear_model import LogisticRegression, Ridge

from dvlatent.checkpoint import load_direction, save_direction
from dvlatent.directions import Direction
from dvlatent.editing import find as module
from dvlatent.editing.find import ENDS, METHODS, angle_degrees, ends, find, measured_on, sample_curve, seed_ranges, tail_difference
from dvlatent.editing.survey import Population
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint

Z = normal(range(6000), ToyFaces.z_dim)
DIM = 6
FITS = {**ENDS, "ridge": lambda w, high: module.ridge_regression(w, high.astype(float))}


@pytest.fixture(scope="module", autouse=True)
def z_drawn_once():
    """A seed is always the same z, so each is drawn once for this file: that saves seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvlatent.editing.survey.normal", lambda seeds, dim: Z[list(seeds)])
        yield


def scored(correlation=0.0, faces=1500, psi=1.0):
    """A toy population, read by a perfect predictor."""
    toy, seeds = ToyFaces(correlation=correlation), tuple(range(faces))
    w = toy.w_mean + psi * (toy.mapping(Z[:faces]) - toy.w_mean)
    read = toy.read(broadcast(w, toy.num_layers))
    return toy, Population(seeds, torch.stack(list(read.values()), dim=1), tuple(read), psi, fingerprint(toy))


@pytest.fixture(scope="module")
def free():
    return scored()


@pytest.fixture(scope="module")
def tied():
    return scored(0.6)


def changed(population, name, scores):
    columns = population.scores.clone()
    columns[:, population.names.index(name)] = torch.as_tensor(scores, dtype=columns.dtype)
    return replace(population, scores=columns)


# ---- the angle to the truth


@pytest.mark.parametrize("by", METHODS)
@pytest.mark.parametrize("name", ["age", "smile", "hair color"])
def test_every_method_finds_a_score_that_no_other_goes_with(free, by, name):
    toy, population = free
    assert angle_degrees(find(toy, population, name, by), toy.truth[name]) < (25 if by == "lda" else 12)


@pytest.mark.parametrize("correlation", [-0.6, 0.3, 0.6])
def test_the_raw_mean_difference_leans_as_far_as_the_closed_form_says(correlation):
    """cov(w, age) is (size of age, correlation * size of glasses) on the two axes: the lean is its angle (sizes 1.5 and 1)."""
    toy, population = scored(correlation, faces=6000)
    raw, age, glasses = find(toy, population, "age"), toy.truth["age"].vector, toy.truth["glasses"].vector
    lean = np.degrees(np.arctan2(float(raw.vector @ glasses), float(raw.vector @ age)))
    assert lean == pytest.approx(np.degrees(np.arctan2(correlation * 1.0, 1.5)), abs=2.5)


def test_cures_stay_within_ten_degrees_where_the_raw_one_is_far_off(tied):
    toy, population = tied
    assert angle_degrees(find(toy, population, "age"), toy.truth["age"]) > 20
    cures = [find(toy, population, "age", balance="glasses"), *(find(toy, population, "age", by) for by in ("ridge", "svm", "logistic"))]
    cures.append(cures[0].without(find(toy, population, "glasses", "logistic")))
    assert max(angle_degrees(cure, toy.truth["age"]) for cure in cures) <= 10


def test_balancing_takes_out_what_it_names_and_nothing_else(tied):
    toy, population = tied
    leak = [abs(float(find(toy, population, "age", balance=b).vector @ toy.truth["glasses"].vector)) for b in ((), "smile", "glasses")]
    assert leak[2] < 0.1 < 0.3 < min(leak[:2])


def test_projection_needs_what_the_other_score_is_read_from_not_its_mean_difference(tied):
    """The other mean difference leans back toward age: without it the result turns too far, by atan(correlation * 1.5) from the truth."""
    toy, population = tied
    raw, truth = find(toy, population, "age"), toy.truth["age"]
    too_far, right = (raw.without(find(toy, population, "glasses", by)) for by in ("mean", "ridge"))
    assert angle_degrees(too_far, truth) == pytest.approx(np.degrees(np.arctan(0.6 * 1.5)), abs=3)
    assert angle_degrees(right, truth) <= 10


# ---- step, boundary, and how to find it again


@pytest.mark.parametrize("by", METHODS)
def test_coordinate_is_measured_in_standard_deviations_and_grows_with_the_score(tied, by):
    toy, population = tied
    direction, w = find(toy, population, "age", by), population.latents(toy)[1]
    coordinate = direction.coordinate(broadcast(w, toy.num_layers))
    assert float(coordinate.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert float(coordinate[population.column("age") > 60].mean()) > 0.5 > -0.5 > float(coordinate[population.column("age") < 30].mean())
    assert abs(float(coordinate.mean())) < 0.2  # symmetric ends: the boundary is near the mean


def test_the_boundary_of_a_mean_difference_is_halfway_between_the_two_means(tied):
    toy, population = tied
    direction, age = find(toy, population, "age", low=(18, 28), high=(55, 80)), population.column("age")
    coordinate = direction.coordinate(broadcast(population.latents(toy)[1], toy.num_layers))
    young, old = (float(coordinate[(age >= a) & (age <= b)].mean()) for a, b in ((18, 28), (55, 80)))
    assert young == pytest.approx(-old, abs=1e-4) and old > 0.5
    assert (direction.found_by["low_from"], direction.found_by["high_to"]) == pytest.approx((18, 80), abs=1)


@pytest.mark.parametrize(
    "options", [{"layers": "middle"}, {"by": "svm", "ridge": 0.01}, {"balance": ("glasses", "smile"), "tails": 0.4}, {"by": "ridge"}]
)
def test_found_by_is_enough_to_find_it_again(tied, options, tmp_path):
    toy, population = tied
    save_direction(find(toy, population, "age", **options), tmp_path / "age.safetensors")
    assert (tmp_path / "age.safetensors").stat().st_size < 5000
    found = load_direction(tmp_path / "age.safetensors")
    known = found.found_by
    assert all(isinstance(value, (str, int, float)) for value in known.values())
    kept = {end: (known[f"{end}_from"], known[f"{end}_to"]) for end in ("low", "high") if f"{end}_from" in known}
    kept |= {"balance": known["balance"].split(", ")} if "balance" in known else {}
    kept |= {"ridge": known["ridge"]} if "ridge" in known else {}
    again = find(toy, population, known["score"], known["method"], **kept)
    assert torch.equal(again.vector, found.vector) and again.found_by == known
    assert found.layers == ((1,) if "layers" in options else None)
    assert known["seeds"] == "0-1499" and known["psi"] == found.psi == 1.0 and "glasses" in known["scores"]


def test_measuring_again_changes_the_scale_and_not_the_vector(tied):
    toy, population = tied
    found = find(toy, population, "age")
    same = measured_on(found, toy, population)
    assert torch.equal(same.vector, found.vector)
    assert (same.step, same.boundary) == pytest.approx((found.step, found.boundary), abs=1e-6)
    half = measured_on(found, toy, scored(0.6, psi=0.5)[1])
    assert half.step == pytest.approx(found.step / 2, rel=1e-3) and half.psi == 0.5
    clean = measured_on(found.without(toy.truth["glasses"]), toy, population)
    along = population.latents(toy)[1].double() @ clean.vector.double()
    assert clean.step == pytest.approx(float(along.std(correction=0)), rel=1e-5) != found.step
    assert clean.found_by["without"] == "glasses" and clean.found_by["measured_on"] == "0-1499"
    axis = measured_on(replace(found, found_by={}), toy, population)  # its ends are unknown: the mean of the population
    assert axis.boundary == pytest.approx(float((population.latents(toy)[1].double() @ found.vector.double()).mean()), abs=1e-6)


# ---- how many faces, and small things


def test_the_curve_climbs_to_the_truth_and_its_interval_narrows(free):
    toy, population = free
    w, age = population.latents(toy)[1].numpy(), population.column("age").numpy()
    curve = dict(sample_curve(w, age, (40, 150, 750), toy.truth["age"], repeats=8))
    values = [curve[size].value for size in (40, 150, 750)]
    assert values == sorted(values) and values[-1] > 0.98
    assert all(point.low <= point.value <= point.high for point in curve.values())
    assert curve[750].high - curve[750].low < curve[40].high - curve[40].low
    whole = tail_difference(w, age)
    assert next(sample_curve(w, age, [len(w)], whole, repeats=2))[1].value == pytest.approx(1)
    assert curve == dict(sample_curve(w, age, (40, 150, 750), toy.truth["age"], repeats=8))


def test_samples_share_no_face_until_all_are_used():
    seen, w, score = [], np.arange(400.0)[:, None].repeat(2, 1), np.arange(400.0)
    list(sample_curve(w, score, [100], np.ones(2), lambda w, score: seen.append(set(score)) or np.ones(2), repeats=4))
    assert set.union(*seen) == set(score)


def test_angles():
    x, y = np.eye(2)
    assert (angle_degrees(x, y), angle_degrees(x, -x), angle_degrees(x, 3 * x)) == pytest.approx((90, 180, 0))
    assert angle_degrees(Direction("x", torch.tensor([1.0, 0.0])), x + 1e-7 * y) == pytest.approx(np.degrees(1e-7), rel=1e-4)


def test_ends_of_halves_and_of_few_values():
    low, high = ends(np.arange(101.0), None, None, tails=0.5)
    assert not (low & high).any() and (low | high).all()
    low, high = ends(np.repeat([0.0, 1.0], [80, 20]), None, None)
    assert (low.sum(), high.sum()) == (80, 20)


def test_seeds_as_text():
    assert seed_ranges((7,)) == "7" and seed_ranges((0, 1, 2, 9, 20, 21)) == "0-2, 9, 20-21"
    many, other = tuple(range(0, 4000, 2)), (*range(0, 3998, 2), 3999)
    assert len(seed_ranges(many)) < 60 and seed_ranges(many) != seed_ranges(other)


# ---- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "agee"}, "not scored for 'agee', only for pose"),
        ({"balance": ("smile", "wrinkles")}, "not scored for 'wrinkles'"),
        ({"by": "magic"}, "no way 'magic'.*mean, lda"),
        ({"by": "ridge", "low": (1, 2)}, "'ridge' to find a direction between two ends"),
        ({"low": (18, 28), "high": (84.9, 85)}, r"of 1500 faces have a 'age' of 84.9 to 85, and 10 are needed. Widen"),
        ({"low": (55, 80), "high": (18, 28)}, "must lie below the high end"),
        ({"low": (18, 40), "high": (30, 60)}, "must lie below the high end"),
        ({"tails": 0.7}, "tails of 0.7"),
        ({"balance": ("age",)}, "too little in common.*Balance fewer scores"),
    ],
)
def test_refuses_in_words(free, options, words):
    toy, population = free
    with pytest.raises(ShapeError, match=words):
        find(toy, population, **{"name": "age", **options})


def test_refuses_scores_that_say_nothing(free):
    toy, population = free
    with pytest.raises(ShapeError, match="'age' of 1500 faces never changes"):
        find(toy, changed(population, "age", 40.0), "age")
    with pytest.raises(ShapeError, match="'smile' of 1500 faces never changes"):
        find(toy, changed(population, "smile", 0.5), "age", balance="smile")
    gap = torch.where(torch.arange(1500) < 3, torch.nan, population.column("age"))
    with pytest.raises(ShapeError, match=r"3 of 1500 faces have no 'age'.*population.take"):
        find(toy, changed(population, "age", gap), "age")
    with pytest.raises(ShapeError, match="fewer than 20"):
        find(toy, population.take(range(12)), "age")


def test_refuses_strangers(free):
    toy, population = free
    with pytest.raises(CheckpointError, match="drawn by generator"):
        find(ToyFaces(seed=1), population, "age")
    with pytest.raises(DirectionMismatch, match="Find the direction again"):
        measured_on(replace(toy.truth["age"], generator="stranger"), toy, population)
    with pytest.raises(DirectionMismatch, match="two vectors of one W"):
        angle_degrees(np.ones(3), np.ones(4))
    with pytest.raises(ShapeError, match="sizes from 20 to the 30"):
        list(sample_curve(np.ones((30, 2)), np.arange(30.0), [31], np.ones(2)))


# ---- the methods, on arrays


def normal_faces(seed=0, faces=20_000, noise=0.0):
    """Normal latents w with a known covariance S, and a score read from w @ n through a curve: everything is known in closed form."""
    rng = np.random.RandomState(seed)
    turn = np.linalg.qr(rng.randn(DIM, DIM))[0] * np.linspace(0.5, 2, DIM)
    w = rng.randn(faces, DIM) @ turn.T + 3
    vector = rng.randn(DIM)
    return w, np.tanh(0.2 * (w - 3) @ vector + noise * rng.randn(faces)), vector, turn @ turn.T


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_mean_difference_finds_the_pattern_and_the_others_the_filter(noise):
    """w normal, score a curve of w @ n: mean difference ∝ S n, all regressions ∝ n (Brillinger 1983; Haufe et al. 2014)."""
    w, score, n, covariance = normal_faces(noise=noise)
    low, high = ends(score, None, None)
    rows = low | high
    assert angle_degrees(n, covariance @ n) > 15
    assert angle_degrees(module.mean_difference(w[rows], high[rows]).vector, covariance @ n) < 2
    for by in ("lda", "logistic", "svm") if noise else ("lda",):  # ends that can be cut cleanly: the strength matters
        assert angle_degrees(ENDS[by](w[rows], high[rows]).vector, n) < 3, by
    assert angle_degrees(module.ridge_regression(w, score).vector, n) < 2


def test_balanced_mean_difference_is_the_partial_covariance():
    """Scores w @ n1 and w @ n2, normal w: cov(w, first), the second held fixed, is S n1 - S n2 (n2ᵀ S n1) / (n2ᵀ S n2)."""
    w, _, n1, s = normal_faces()
    n2 = n1 + 1.5 * np.random.RandomState(5).randn(DIM)
    low, high = ends(w @ n1, None, None)
    rows = low | high
    weight = module.overlap_weights((w @ n2)[rows, None], high[rows])
    found = module.mean_difference(w[rows], high[rows], weight).vector
    expected = s @ n1 - s @ n2 * (n2 @ s @ n1) / (n2 @ s @ n2)
    assert angle_degrees(found, expected) < 3 < 15 < angle_degrees(s @ n1, expected)
    assert abs(n2 @ found) < 0.02 * abs(n2 @ module.mean_difference(w[rows], high[rows]).vector)  # nothing of the other score is left


@pytest.mark.parametrize("name", FITS)
def test_turning_scaling_and_moving_w_moves_the_cut_along(name):
    w, score, _, _ = normal_faces(faces=600, noise=0.5)
    high, turn = score > 0, np.linalg.qr(np.random.RandomState(1).randn(DIM, DIM))[0]
    here, there = FITS[name](w, high), FITS[name](7 * w @ turn.T - 2, high)
    assert angle_degrees(there.vector, turn @ here.vector) < 0.1
    assert here.strength == pytest.approx(there.strength) if here.strength else there.strength is None
    side, moved = w @ here.vector - here.threshold, (7 * w @ turn.T - 2) @ there.vector - there.threshold
    assert np.allclose(moved / moved.std(), side / side.std(), atol=2e-2)


@pytest.mark.parametrize("name", FITS)
def test_the_vector_points_to_the_high_end(name):
    w, score, _, _ = normal_faces(faces=400)
    high = score > 0
    fit, other = FITS[name](w, high), FITS[name](w, ~high)
    assert (fit.vector @ w[high].mean(axis=0)) > fit.threshold > (fit.vector @ w[~high].mean(axis=0))
    assert angle_degrees(fit.vector, other.vector) > 178


@pytest.mark.parametrize("name", ENDS)
def test_a_face_of_weight_two_is_two_faces(name):
    w, score, _, _ = normal_faces(faces=300, noise=1.0)
    high, count = score > 0, np.random.RandomState(0).randint(1, 4, 300)
    options = {"ridge": 0.1} if name in ("logistic", "svm") else {}
    weighted = ENDS[name](w, high, count.astype(float), **options)
    repeated = ENDS[name](w.repeat(count, axis=0), high.repeat(count), **options)
    tolerance = 4 if name == "lda" else 0.1  # how much lda shrinks depends on the number of faces
    assert angle_degrees(weighted.vector, repeated.vector) < tolerance


def test_lda_shrinks_as_scikit_learn_does():
    w = normal_faces(faces=40)[0]
    high = np.arange(40) < 20  # ends of one size: equal weights
    difference = w[high].mean(axis=0) - w[~high].mean(axis=0)
    theirs = OAS(assume_centered=True).fit(w - np.where(high[:, None], w[high].mean(axis=0), w[~high].mean(axis=0)))
    ours = module.lda(w, high)
    assert ours.strength == pytest.approx(theirs.shrinkage_)
    assert np.allclose(theirs.covariance_ @ ours.vector, difference)


def test_ridge_counts_in_mean_variances_and_is_chosen_by_leaving_one_out():
    w, score, _, _ = normal_faces(faces=60, noise=2.0)
    unit = 60 * w.var(axis=0).mean()
    ours = module.ridge_regression(w, score, ridge=0.3)
    assert np.allclose(ours.vector, Ridge(alpha=0.3 * unit).fit(w, score).coef_)

    def left_out(ridge):
        keep = [np.arange(60) != face for face in range(60)]
        return sum((score[i] - Ridge(alpha=ridge * unit).fit(w[k], score[k]).predict(w[i : i + 1])[0]) ** 2 for i, k in enumerate(keep))

    losses = [left_out(ridge) for ridge in module.RIDGES]
    assert left_out(module.ridge_regression(w, score).strength) <= 1.001 * min(losses)


def test_logistic_is_the_minimum_it_says():
    """At the minimum the gradient is zero: mean of (p - y) x + ridge * vector, x centered and scaled by one number."""
    w, score, _, _ = normal_faces(faces=500, noise=1.0)
    high = score > 0
    fit = module.logistic(w, high, ridge=0.05)
    weight = module.equal_ends(high) / 500
    x = w - weight @ w
    scale = np.sqrt(weight @ (x**2).mean(axis=1))
    chance = 1 / (1 + np.exp(fit.threshold - w @ fit.vector))
    gradient = (weight * (chance - high)) @ x / scale + 0.05 * fit.vector * scale
    assert np.abs(gradient).max() < 1e-4 and abs(weight @ (chance - high)) < 1e-4


def test_ridge_is_chosen_stronger_where_faces_are_few():
    rng = np.random.RandomState(0)
    w = rng.randn(3000, 40)
    high = w[:, 0] + 2 * rng.randn(3000) > 0
    for fit in (module.logistic, module.svm):
        assert fit(w[:60], high[:60]).strength > fit(w, high).strength


# ---- balancing


def test_one_yes_or_no_score_is_compared_within_each_answer():
    """Overlap weights for two groups are the classic ones: the difference within each, weighted by a * b / (a + b) of its two fractions."""
    rng = np.random.RandomState(0)
    man = rng.rand(400) < 0.5
    high = rng.rand(400) < np.where(man, 0.8, 0.3)  # the old are mostly men
    w = rng.randn(400, 3) + high[:, None] * [1, 0, 0] + man[:, None] * [0, 2, 0]
    weight = module.overlap_weights(man[:, None].astype(float), high)
    fractions = [(np.mean(man[high] == group), np.mean(man[~high] == group)) for group in (False, True)]
    inside = [w[high & (man == g)].mean(axis=0) - w[~high & (man == g)].mean(axis=0) for g in (False, True)]
    expected = np.average(inside, axis=0, weights=[a * b / (a + b) for a, b in fractions])
    assert np.allclose(module.mean_difference(w, high, weight).vector, expected, atol=1e-4)
    assert abs(module.mean_difference(w, high).vector[1]) > 0.8 and abs(expected[1]) < 0.3


def test_means_variances_and_correlations_agree_at_both_ends():
    rng = np.random.RandomState(1)
    others = rng.randn(2000, 3)
    high = others @ [1, -0.5, 0] + others[:, 0] * others[:, 1] + rng.randn(2000) > 0
    others[:, 2] = np.exp(others[:, 2] + others[:, 0])  # a skewed scale must not matter
    weight = module.overlap_weights(others, high)
    z = module.normal_scores(others)
    for moment in (*z.T, *(z**2).T, z[:, 0] * z[:, 1], z[:, 0] * z[:, 2], z[:, 1] * z[:, 2]):
        top, bottom = (np.average(moment[end], weights=weight[end]) for end in (high, ~high))
        assert top == pytest.approx(bottom, abs=1e-4)
    assert weight[high].sum() == pytest.approx(weight[~high].sum()) == pytest.approx(1000)


def test_the_chance_is_scikit_learns_unpenalized_one():
    rng = np.random.RandomState(2)
    other = rng.randn(500, 1)
    high = other[:, 0] + 2 * rng.randn(500) > 0
    z = module.normal_scores(other)
    columns = np.concatenate([z, z**2], axis=1)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(columns, high, sample_weight=module.equal_ends(high))
    chance = model.predict_proba(columns)[:, 1]
    expected = module.equal_ends(high, np.where(high, 1 - chance, chance))
    assert np.allclose(module.overlap_weights(other, high), expected, rtol=1e-2)


def test_equal_ends_need_no_weights_and_ends_with_nothing_in_common_are_refused():
    same = np.tile(np.arange(200.0), 2)[:, None]
    assert np.allclose(module.overlap_weights(same, np.arange(400) < 200), 1, atol=1e-6)
    other = np.arange(200.0)
    with pytest.raises(ShapeError, match=r"100 and 100 faces.*too little in common.*survey more faces"):
        module.overlap_weights(other[:, None], other >= 100)
    with pytest.raises(ShapeError, match="worth only"):
        module.overlap_weights(np.r_[np.zeros(100), np.ones(100)][:, None], other >= 98)


def test_effective_faces():
    assert module.effective_faces(np.ones(7)) == pytest.approx(7)
    assert module.effective_faces(np.array([1.0, 1.0, 0.0])) == pytest.approx(2)
