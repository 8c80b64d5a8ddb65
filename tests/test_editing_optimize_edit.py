"""An edit found by gradient: it reaches its goal and keeps the person, and moves only its layers."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import dvlatent
from dvlatent.cli.main import main
from dvlatent.editing.effects import effects
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.errors import DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.latents import broadcast, w_of
from dvlatent.toy.faces import ToyFaces
from dvlatent.whitening import Whitening

QUICK = OptimizeEditConfig(steps=12, batch=2, goal=6.0, softness=1.0, score_range=(0.0, 100.0), psi=1.0, lr=0.1)


class Reader:
    """Reads "age" from the brightness of the upper half and "male" from the lower one: invented, but with gradients."""

    names = ("age", "male")

    def __call__(self, image):
        upper, lower = image.chunk(2, dim=2)
        return torch.stack([50 + 40 * upper.mean(dim=(1, 2, 3)), torch.sigmoid(2 * lower.mean(dim=(1, 2, 3)))], dim=1)


def person(image):
    return image[:, 0, ::4, ::4].flatten(1) / 4


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=16)


@pytest.fixture(scope="module", autouse=True)
def whitened_once(toy):
    whitening = Whitening.plain(toy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Whitening, "plain", lambda generator: whitening)
        yield


def last(search):
    *_, step = search
    return step


def test_it_reaches_the_goal_on_faces_it_never_saw(toy):
    start = replace(toy.truth["age"], layers=(1, 2))
    step = last(optimize_edit(toy, start, Reader(), person, QUICK, amount=0.5))
    ws = broadcast(w_of(toy, range(50), 1.0), toy.num_layers)
    moved = step.edit(ws)
    assert torch.equal(moved[:, 0], ws[:, 0]) and not torch.equal(moved[:, 1], moved[:, 2])
    gains = [float((Reader()(toy.synthesis(one)) - Reader()(toy.synthesis(ws)))[:, 0].mean()) for one in (moved, (0.5 * start)(ws))]
    others = [toy.truth["smile"], toy.truth["pose"]]
    across = last(optimize_edit(toy, start, Reader(), person, replace(QUICK, steps=2), without=others)).edit(ws)
    for other in others:
        assert_close(other.coordinate(across), other.coordinate(ws), atol=1e-4, rtol=1e-4)
    assert gains[0] > 2 * abs(gains[1]) and gains[0] > QUICK.goal / 2


def test_the_person_stays_more_the_same_if_identity_counts(toy):
    free, held = (replace(QUICK, identity_weight=weight, identity_limit=0.05, preserve={}) for weight in (0.0, 200.0))
    steps = [last(optimize_edit(toy, toy.truth["age"], Reader(), person, one, amount=0.5)) for one in (free, held)]
    assert steps[1].identity_distance < 0.8 * steps[0].identity_distance


def test_twice_is_the_same(toy):
    one = last(optimize_edit(toy, toy.truth["age"], Reader(), person, replace(QUICK, steps=2)))
    with torch.no_grad():  # as in a lesson
        two = last(optimize_edit(toy, toy.truth["age"], Reader(), person, replace(QUICK, steps=2)))
    vectors = [torch.stack([part.vector for _, part in step.edit.terms]) for step in (one, two)]
    assert one.loss == two.loss and torch.equal(*vectors)


def test_impossible_searches_are_refused(toy):
    for wrong in ({"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"color_weight": -1.0}, {"score_range": (3.0, 3.0)}):
        with pytest.raises(ShapeError, match="lr and softness above 0"):
            OptimizeEditConfig(**wrong)
    with pytest.raises(ShapeError, match="not smile"):
        next(optimize_edit(toy, toy.truth["smile"], Reader(), person, QUICK))
    with pytest.raises(DirectionMismatch):
        next(optimize_edit(toy, ToyFaces(resolution=8).truth["age"], Reader(), person, QUICK))
    with pytest.raises(TrainingDiverged, match="learning rate"):
        last(optimize_edit(toy, toy.truth["age"], Reader(), lambda image: image.flatten(1) * torch.nan, QUICK))


def test_the_one_that_we_ship_ages_and_keeps_the_person(faces, judge, identity):
    found = effects(faces, dvlatent.load("age-edit"), [1.0], range(310_000, 310_008), judge, identity)
    adults = found.take((found.before[:, 0] >= 18) & (found.before[:, 0] <= 55))
    assert float(adults.change("age").mean()) > 22 and float((adults.identity < 0.6).float().mean()) > 0.7


def test_on_the_command_line(capsys, tmp_path):
    assert main(["edit", "--seeds", "3", "--age-edit", "-0.5", "--strip", "2", "--out", str(tmp_path / "young.png")]) == 0
    assert "age-edit -0.5" in capsys.readouterr().out
