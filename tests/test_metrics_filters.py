"""Teacher and student with the same measures: the teacher's numbers are those of `effects`, and a do-nothing filter scores nothing."""

import numpy as np
import pytest
import torch
from pairs_toy import Colors, identity
from torch.testing import assert_close

from dvlatent.editing.effects import Effects, effects
from dvlatent.errors import ShapeError
from dvlatent.metrics.filters import TEACHER, kid_features, rises, seconds_a_photo, side_by_side
from dvlatent.toy.faces import ToyFaces

AMOUNTS = (-2.0, -1.0, 1.0, 2.0)


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=128)


def brighter(picture, amount):
    return picture + 0.05 * amount * (1 - picture.abs())


def test_the_teacher_is_measured_as_ever(toy):
    direction = toy.truth["skin tone"]
    found = side_by_side(toy, direction, {"nothing": lambda picture, _: picture}, AMOUNTS, range(10), Colors(), identity)
    plain = effects(toy, direction, AMOUNTS, range(10), Colors(), identity)
    for name in ("before", "after", "identity"):
        assert_close(getattr(found[TEACHER], name), getattr(plain, name), atol=2e-3, rtol=0)  # pictures are rounded to bytes here
    assert found[TEACHER].amounts == AMOUNTS and found["nothing"].seeds == tuple(range(10))
    assert float(found["nothing"].change("red").abs().max()) == 0 and float(found["nothing"].identity.max()) == 0
    assert rises(found["nothing"], "red").value == 0


def test_a_dial_rises_if_it_does(toy):
    found = side_by_side(toy, toy.truth["age"], {"brighter": brighter, "darker": lambda p, a: brighter(p, -a)}, AMOUNTS, range(9), Colors())
    assert rises(found["brighter"], "red").value == 1 and rises(found["darker"], "red").value == 0
    assert found["brighter"].identity is None


def test_rising_counts_the_unedited_face_and_sorts_the_amounts():
    after = torch.tensor([[2.0, 2.0, 2.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])[..., None]  # amounts 2, -1, 1
    before = torch.tensor([[0.0], [1.1], [3.0]])  # between -1 and 1: it fits, it is a bit too high, it is much too high
    measured = Effects((2.0, -1.0, 1.0), ("age",), (0, 1, 2), before, after, None)
    assert rises(measured, "age").value == pytest.approx(1 / 3)


def test_further_measures_see_every_batch_of_every_maker(toy):
    calls = []

    def also(name, amount, before, after):
        calls.append((name, amount, len(before)))
        assert before.shape == after.shape and (name == TEACHER or torch.equal(before, after))

    side_by_side(toy, toy.truth["smile"], {"nothing": lambda picture, _: picture}, (1.0, -1.0), range(10), Colors(), also=also)
    assert calls == [(name, amount, count) for count in (8, 2) for name in (TEACHER, "nothing") for amount in (1.0, -1.0)]


def test_kid_features_are_the_same_for_equal_pictures(perceptual, portraits):
    features = kid_features(perceptual, portraits.preview[:2])
    assert features.shape == (2, 192) and np.isfinite(features).all() and not np.allclose(features[0], features[1])
    np.testing.assert_allclose(kid_features(perceptual, portraits.preview[:1]), features[:1], rtol=1e-3, atol=1e-4)


def test_nothing_to_measure_is_refused(toy):
    wrong = (({TEACHER: brighter}, AMOUNTS, [1], "of their own"), ({}, (), [1], "0 amounts"), ({}, (1,), [], "no faces"))
    for filters, amounts, seeds, words in wrong:
        with pytest.raises(ShapeError, match=words):
            side_by_side(toy, toy.truth["age"], filters, amounts, seeds, Colors())


def test_times_are_medians():
    ticks = []
    assert seconds_a_photo(lambda: ticks.append(1), 5) >= 0 and len(ticks) == 6
    assert np.isfinite(seconds_a_photo(lambda: None, 3))
