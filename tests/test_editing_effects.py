"""What an edit does, on the toy face whose truth is known: a true direction moves one factor by one and leaks nothing."""


import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent.directions import Direction
from dvlatent.editing.effects import Effects, effects, effects_of, leak_cut, leakage, success
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

SEEDS = range(40)
ONE = dict.fromkeys(("age", "glasses", "smile", "pose"), 1.0)  # every factor's standard deviation in its own steps


class Truth:
    """A perfect predictor: it gets the ws themselves (`render=show_ws`) and reads the factors from them."""

    def __init__(self, toy, *names):
        self.toy, self.names = toy, names

    def __call__(self, ws):
        return self.toy.factors(ws)[:, [self.toy.factor_names.index(name) for name in self.names]]


def show_ws(ws):
    return ws


def person(ws):
    """An identity of two numbers: pose and smile, a tenth per step."""
    return 0.1 * torch.stack([ws[:, 0] @ POSE, ws[:, 1] @ SMILE], dim=1)


toy = ToyFaces(resolution=32)
age, smile, glasses, pose = (toy.truth[name] for name in ("age", "smile", "glasses", "pose"))
POSE, SMILE = (one.vector / one.step for one in (pose, smile))
truth = Truth(toy, *ONE)


def measure(edit, amounts=(1.0,), **options):
    return effects(toy, edit, amounts, SEEDS, truth, render=show_ws, **options)


def test_a_true_direction_moves_its_factor_by_one_step_and_leaks_nothing():
    found = measure(age, (-1, 2))
    assert (found.amounts, found.names, found.seeds) == ((-1.0, 2.0), tuple(ONE), tuple(SEEDS))
    assert_close(found.change("age"), torch.tensor([[-1.0], [2.0]]).expand(2, 40), atol=1e-5, rtol=0)
    for other in ("glasses", "smile", "pose"):
        assert_close(found.change(other), torch.zeros(2, 40), atol=1e-5, rtol=0)


def test_pictures_are_drawn_truncated_and_edited():
    class Bright:
        names = ("bright",)

        def __call__(self, image):
            return image.mean(dim=(1, 2, 3))[:, None]

    found = effects(toy, 2 * age - 1 * smile, (1, 0.5), [4, 11], Bright(), psi=0.5)
    ws = truncate(broadcast(toy.mapping(normal([4, 11], 32)), 3), toward=toy.w_mean, psi=0.5)
    assert_close(found.before, Bright()(toy.synthesis(ws)))
    by_hand = [toy.synthesis(smile.move(age.move(ws, 2 * part), -part)) for part in (1, 0.5)]
    assert_close(found.after, torch.stack([Bright()(picture) for picture in by_hand]))


def test_each_face_is_measured_alone_whatever_the_batches():
    alone = [effects(toy, age, (2,), [seed], truth, person, render=show_ws) for seed in SEEDS]
    found = effects(toy, age, (2,), iter(SEEDS), truth, person, render=show_ws)
    assert_close(found.before, torch.cat([one.before for one in alone]))
    assert_close(found.after, torch.cat([one.after for one in alone], dim=1))
    assert_close(found.identity, torch.cat([one.identity for one in alone], dim=1))


def test_identity_is_the_distance_to_the_unedited_face():
    found = measure(3 * smile + 4 * pose, (1, -2), identity=person)
    assert_close(found.identity, torch.tensor([[0.5], [1.0]]).expand(2, 40), atol=1e-5, rtol=0)
    assert measure(age).identity is None


def test_several_edits_on_the_same_faces_are_each_as_if_alone():
    both = effects_of(toy, {"age": age, "smile": 2 * smile}, (1, 2), SEEDS, truth, person, render=show_ws)
    for name, edit in (("age", age), ("smile", 2 * smile)):
        alone = measure(edit, (1, 2), identity=person)
        assert_close(both[name].after, alone.after)
        assert_close(both[name].identity, alone.identity)


# ---- success


def made(before, after, identity=None):
    """Effects with one score, "age", at amounts 1, 2 ..."""
    after, amounts = torch.tensor(after)[:, :, None], tuple(range(1, 1 + len(after)))
    identity = None if identity is None else torch.tensor(identity)
    return Effects(amounts, ("age",), tuple(range(len(before))), torch.tensor(before)[:, None], after, identity)


def test_success_counts_faces():
    found = made([30.0, 40, 50, 60], [[49.0, 60, 72, 60], [60, 60, 80, 90]], [[0.1, 0.7, 0.2, 0.1], [0.59, 0.6, 0.7, 0.7]])
    mild, strong = success(found, "age", by=20)
    assert (mild.amount, mild.moved.value, mild.kept.value, mild.both.value) == (1, 0.5, 0.75, 0.25)
    assert (strong.amount, strong.moved.value, strong.kept.value, strong.both.value) == (2, 1.0, 0.25, 0.25)  # 0.6 is somebody else
    assert mild.moved.samples == 4 and 0 <= mild.moved.low < 0.5 < mild.moved.high <= 1
    assert success(found, "age", by=-1)[0].moved.value == 0
    assert success(made([60.0, 60], [[39.0, 41]]), "age", by=-20)[0].moved.value == 0.5
    assert success(made([60.0, 60], [[39.0, 41]]), "age", by=-20)[0].both is None


def test_success_past_a_score_asks_only_faces_from_the_other_side():
    found = made([0.2, 0.4, 0.9, 0.8], [[0.6, 0.4, 1.0, 0.1]])
    (up,), (down,) = success(found, "age", past=0.5), success(found, "age", past=0.5, falling=True)
    assert (up.moved.value, up.moved.samples) == (0.5, 2)  # of 0.2 and 0.4, one came past
    assert (down.moved.value, down.moved.samples) == (0.5, 2)  # of 0.9 and 0.8, the last fell below


def test_taking_faces_takes_all_of_theirs():
    found = measure(age + pose, (1, 2), identity=person)
    grown = found.before[:, found.at("age")] > 0
    part = found.take(grown)
    assert 0 < len(part.seeds) < 40 and (part.before[:, 0] > 0).all()
    again = effects(toy, age + pose, (1, 2), part.seeds, truth, person, render=show_ws)
    assert_close(again.after, part.after)
    assert_close(again.identity, part.identity)


# ---- leakage


def test_leakage_of_true_directions_is_the_identity():
    found = leakage(effects_of(toy, {"age": age, "smile": smile}, (-1, 1, 2), SEEDS, truth, render=show_ws), ONE)
    assert (found.edited, found.names, found.faces) == (("age", "smile"), tuple(ONE), 40)
    expected = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])
    for table in (found.value, found.low, found.high, found.raw):
        np.testing.assert_allclose(table, expected, atol=1e-5)


def test_a_direction_halfway_to_another_leaks_one_to_one():
    found = leakage({"age": measure(age + glasses - 0.5 * smile)}, ONE)
    np.testing.assert_allclose(found.value, [[1, 1, -0.5, 0]], atol=1e-5)
    found = leakage({"age": measure(3 * (age + glasses - 0.5 * smile), (1, 2))}, {**ONE, "glasses": 2.0})  # however far one goes
    np.testing.assert_allclose(found.value, [[1, 0.5, -0.5, 0]], atol=1e-5)
    np.testing.assert_allclose(found.raw, [[1, 1, -0.5, 0]], atol=1e-5)


def test_by_default_the_standard_deviation_is_that_of_the_faces():
    found = measure(age + glasses)
    std = found.before.std(dim=0)
    by_hand = (1 / std[1]) / (1 / std[0])
    assert_close(leakage({"age": found}).at("age", "glasses").value, float(by_hand), rtol=1e-4, atol=0)


def test_intervals_widen_with_the_differences_between_faces():
    """Half of the faces leak twice as much, the others nothing: the mean is known to within a bit."""
    before = torch.zeros(400, 2)
    after = torch.ones(1, 400, 2)
    after[0, :200, 1], after[0, 200:, 1] = 2.0, 0.0
    found = leakage({"a": Effects((1.0,), ("a", "b"), tuple(range(400)), before, after, None)}, {"a": 1, "b": 1}).at("a", "b")
    assert found.value == pytest.approx(1) and found.samples == 400
    assert found.high - found.low == pytest.approx(2 * 1.96 / 400**0.5, rel=0.15)  # normal theory: standard deviation 1


def test_a_cure_is_the_leak_that_it_removes():
    edits = {str(leak): age + leak * glasses for leak in (1.0, 0.25, 0.0, 2.0, -0.25)}
    leaky = effects_of(toy, edits, (1, 2), SEEDS, truth, render=show_ws)
    for leak, cut in ((0.25, 0.75), (0.0, 1.0), (2.0, -1.0), (1.0, 0.0), (-0.25, 0.75)):
        found = leak_cut(leaky["1.0"], leaky[str(leak)], "age", "glasses")
        assert_close([found.value, found.low, found.high], [cut] * 3, atol=1e-4, rtol=0)
    twice = measure(2 * age + 0.5 * glasses)
    assert leak_cut(leaky["1.0"], twice, "age", "glasses").value == pytest.approx(0.75, abs=1e-4)  # for every unit of age


def test_projection_cures_the_leak_of_a_mixed_direction():
    mixed = Direction("age", torch.nn.functional.normalize(age.vector + glasses.vector, dim=0), step=2.0)
    found = effects_of(toy, {"raw": mixed, "cure": mixed.without(glasses)}, (1,), range(12), truth, render=show_ws)
    assert leak_cut(found["raw"], found["cure"], "age", "glasses").value == pytest.approx(1, abs=1e-4)


# ---- refusals


def test_refuses_what_cannot_be_measured():
    with pytest.raises(ShapeError, match="no faces, 1 edits and 1 amounts"):
        effects(toy, age, (1,), [], truth)
    with pytest.raises(ShapeError, match="1 edits and 0 amounts"):
        effects(toy, age, (), SEEDS, truth)
    with pytest.raises(DirectionMismatch, match="Find the direction again"):
        effects(ToyFaces(resolution=16), 1 * smile + 2 * age, (1,), SEEDS, truth)


def test_refuses_questions_without_an_answer():
    found = measure(age)
    for target in ({}, {"by": 0}, {"by": 1, "past": 0.5}):
        with pytest.raises(ShapeError, match="say one target"):
            success(found, "age", **target)
    with pytest.raises(ShapeError, match="not scored for 'beard', only for age, glasses"):
        success(found, "beard", by=1)
    with pytest.raises(ShapeError, match="0 faces begin"):
        success(found, "age", past=-99)
    with pytest.raises(ShapeError, match="amount 0"):
        leakage({"age": measure(age, (0,))})
    with pytest.raises(ShapeError, match="one edit at least"):
        leakage({})
    other = effects(toy, age, (1,), range(40, 80), truth, render=show_ws)
    with pytest.raises(ShapeError, match="same seeds"):
        leak_cut(found, other, "age", "smile")
