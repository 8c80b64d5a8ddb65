"""The laws of finding directions, on the toy face that knows the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dvlatent.checkpoint import load_direction, save_direction
from dvlatent.directions import Direction
from dvlatent.editing.find import METHODS, angle_degrees, ends, find, measured_on, sample_curve, spell, tail_difference
from dvlatent.editing.survey import Population
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint


def scored(correlation=0.0, faces=1500, psi=1.0):
    """A toy population, read by a perfect predictor."""
    toy, seeds = ToyFaces(correlation=correlation), tuple(range(faces))
    w = toy.w_mean + psi * (toy.mapping(DICE[:faces]) - toy.w_mean)
    read = toy.read(broadcast(w, toy.num_layers))
    return toy, Population(seeds, torch.stack(list(read.values()), dim=1), tuple(read), psi, fingerprint(toy))


DICE = normal(range(6000), ToyFaces.z_dim)


@pytest.fixture(scope="module", autouse=True)
def dice_thrown_once():
    """A seed is always the same z, so each is drawn once for this file: seconds saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvlatent.editing.survey.normal", lambda seeds, dim: DICE[list(seeds)])
        yield


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
def test_every_method_finds_what_nothing_travels_with(free, by, name):
    toy, population = free
    assert angle_degrees(find(toy, population, name, by), toy.truth[name]) < (25 if by == "lda" else 12)


@pytest.mark.parametrize("correlation", [-0.6, 0.3, 0.6])
def test_the_raw_mean_difference_leans_as_far_as_the_closed_form_says(correlation):
    """cov(w, age) is (size of age, correlation * size of glasses) on the two axes: the lean is its angle (sizes 1.5 and 1)."""
    toy, population = scored(correlation, faces=6000)
    raw, age, glasses = find(toy, population, "age"), toy.truth["age"].vector, toy.truth["glasses"].vector
    lean = np.degrees(np.arctan2(float(raw.vector @ glasses), float(raw.vector @ age)))
    assert lean == pytest.approx(np.degrees(np.arctan2(correlation * 1.0, 1.5)), abs=2.5)


@pytest.mark.parametrize("options", [{"balance": ("glasses",)}, {"by": "ridge"}, {"by": "svm"}, {"by": "logistic"}], ids=str)
def test_cures_stay_within_ten_degrees_where_the_raw_one_is_far_off(tied, options):
    toy, population = tied
    raw = angle_degrees(find(toy, population, "age"), toy.truth["age"])
    assert raw > 20
    assert angle_degrees(find(toy, population, "age", **options), toy.truth["age"]) <= 10


def test_both_cures_together_stay_within_ten_degrees(tied):
    toy, population = tied
    clean = find(toy, population, "age", balance="glasses").without(find(toy, population, "glasses", "logistic"))
    assert angle_degrees(clean, toy.truth["age"]) <= 10


def test_balancing_takes_out_what_it_names_and_nothing_else(tied):
    toy, population = tied
    leak = [abs(float(find(toy, population, "age", balance=b).vector @ toy.truth["glasses"].vector)) for b in ((), "smile", "glasses")]
    assert leak[2] < 0.1 < 0.3 < min(leak[:2])


def test_what_to_project_out_is_what_the_other_score_is_read_from_not_its_mean_difference(tied):
    """The other mean difference leans back toward age: taking it out turns too far, by atan(correlation * 1.5) against the truth."""
    toy, population = tied
    raw, truth = find(toy, population, "age"), toy.truth["age"]
    too_far, right = (raw.without(find(toy, population, "glasses", by)) for by in ("mean", "ridge"))
    assert angle_degrees(too_far, truth) == pytest.approx(np.degrees(np.arctan(0.6 * 1.5)), abs=3)
    assert angle_degrees(right, truth) <= 10


# ---- step, boundary, and the way back


@pytest.mark.parametrize("by", METHODS)
def test_coordinate_is_measured_in_standard_deviations_and_grows_with_the_score(tied, by):
    toy, population = tied
    direction, w = find(toy, population, "age", by), population.latents(toy)[1]
    coordinate = direction.coordinate(broadcast(w, toy.num_layers))
    assert float(coordinate.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert float(coordinate[population.column("age") > 60].mean()) > 0.5 > -0.5 > float(coordinate[population.column("age") < 30].mean())
    assert abs(float(coordinate.mean())) < 0.2  # symmetric ends: the boundary is near the middle


def test_the_boundary_of_a_mean_difference_is_halfway_between_the_two_means(tied):
    toy, population = tied
    direction, age = find(toy, population, "age", low=(18, 28), high=(55, 80)), population.column("age")
    coordinate = direction.coordinate(broadcast(population.latents(toy)[1], toy.num_layers))
    young, old = (float(coordinate[(age >= a) & (age <= b)].mean()) for a, b in ((18, 28), (55, 80)))
    assert young == pytest.approx(-old, abs=1e-4) and old > 0.5
    assert (direction.found_by["low_from"], direction.found_by["high_to"]) == pytest.approx((18, 80), abs=1)


@pytest.mark.parametrize("options", [{}, {"by": "svm", "ridge": 0.01}, {"balance": ("glasses", "smile"), "tails": 0.4}, {"by": "ridge"}])
def test_found_by_is_enough_to_find_it_again(tied, options, tmp_path):
    toy, population = tied
    save_direction(find(toy, population, "age", **options), tmp_path / "age.safetensors")
    assert (tmp_path / "age.safetensors").stat().st_size < 5000
    found = load_direction(tmp_path / "age.safetensors")
    told = found.found_by
    assert all(isinstance(value, (str, int, float)) for value in told.values())
    kept = {"low": (told["low_from"], told["low_to"]), "high": (told["high_from"], told["high_to"])} if told["method"] != "ridge" else {}
    kept |= {"balance": told["balance"].split(", ")} if "balance" in told else {}
    kept |= {"ridge": told["ridge"]} if "ridge" in told else {}
    again = find(toy, population, told["score"], told["method"], **kept)
    assert torch.equal(again.vector, found.vector) and again.found_by == told
    assert told["seeds"] == "0-1499" and told["psi"] == found.psi == 1.0 and "glasses" in told["scores"]


def test_layers_are_written_down(free):
    toy, population = free
    assert find(toy, population, "age", layers="middle").layers == (1,)
    assert find(toy, population, "age", layers=range(2)).layers == (0, 1)
    assert find(toy, population, "age").layers is None


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
    axis = measured_on(replace(found, found_by={}), toy, population)  # nobody knows its ends: the middle of the population
    assert axis.boundary == pytest.approx(float((population.latents(toy)[1].double() @ found.vector.double()).mean()), abs=1e-6)


# ---- how many faces


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


def test_draws_share_no_face_as_long_as_faces_last():
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


def test_seeds_are_spelled_short():
    assert spell((7,)) == "7" and spell((0, 1, 2, 9, 20, 21)) == "0-2, 9, 20-21"
    many, other = tuple(range(0, 4000, 2)), (*range(0, 3998, 2), 3999)
    assert len(spell(many)) < 60 and spell(many) != spell(other)


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
