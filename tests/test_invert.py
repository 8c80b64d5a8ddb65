"""Inversion on the toy face, whose truth is known."""

import math
from collections import deque
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from dvlatent.errors import ShapeError, TrainingDiverged
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = InvertConfig(steps=12, lr=0.2)


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


def some_ws(toy, seeds=(3, 4)):
    return broadcast(truncate(toy.mapping(normal(seeds, toy.z_dim)), toward=toy.w_mean, psi=0.7), toy.num_layers)


def last(steps):
    return deque(steps, maxlen=1)[0]


def test_a_known_face_is_found_again(toy):
    ws = some_ws(toy, [3])
    photo = toy.synthesis(ws)
    for optimizer, steps, error in (("quasi-newton", 60, 1e-4), ("adam", 150, 1e-3)):
        step = last(invert(toy, photo, InvertConfig(steps=steps, space="w", centre=0, noise=0, optimizer=optimizer)))
        away = (toy.factors(step.ws) - toy.factors(ws)).abs()
        assert float((step.image - photo).square().mean()) < error
        assert float(away.median()) < 0.1  # steps of the population


def test_the_result_is_the_best_point_of_the_search(toy):
    photo = toy.synthesis(some_ws(toy))
    losses = torch.stack([step.loss for step in invert(toy, photo, InvertConfig(steps=30, space="w", centre=0))])
    assert_close(losses[-1], losses.min(dim=0).values)


def test_the_average_face_draws_less_and_less():
    config = InvertConfig(steps=10, centre=0.1, centre_first=10.0)
    pulls = [config.centre_at(progress / 100) for progress in range(101)]
    assert pulls[0] == pytest.approx(10) and pulls[-1] == pytest.approx(0.1)
    assert all(after <= before for before, after in pairwise(pulls))
    assert InvertConfig(centre=0.0).centre_at(0.0) == 0


def test_in_w_all_layers_are_one_and_in_w_plus_they_part(toy):
    photo = toy.synthesis(some_ws(toy))
    one, many = (last(invert(toy, photo, InvertConfig(steps=20, space=space))).ws for space in ("w", "w+"))
    assert_close(one, one[:, :1].expand_as(one))
    assert float((many - many.mean(dim=1, keepdim=True)).abs().max()) > 0.01


def test_a_photo_in_a_batch_is_found_as_if_alone(toy):
    photo = toy.synthesis(some_ws(toy))
    both = last(invert(toy, photo, QUICK)).ws
    assert torch.equal(both, torch.cat([last(invert(toy, one, QUICK)).ws for one in photo.split(1)]))


def test_the_picture_of_a_step_is_that_of_its_ws(toy):
    for step in invert(toy, toy.synthesis(some_ws(toy)), QUICK):
        assert torch.equal(step.image, torch.cat([toy.synthesis(one) for one in step.ws.split(1)]))
    assert step.index == QUICK.steps and len(step.losses) == QUICK.steps + 1 and step.progress == 1


def test_it_starts_where_it_is_told(toy):
    ws, other = some_ws(toy), some_ws(toy, (8, 9))
    quiet = InvertConfig(steps=0)
    for start in (None, other[:, 0], other):
        step = next(invert(toy, toy.synthesis(ws), quiet, start=start))
        assert_close(step.ws, broadcast(toy.w_mean.expand(2, -1), 3) if start is None else other, atol=1e-5, rtol=1e-5)


def test_each_part_of_the_loss_can_be_left_out(toy):
    photo = toy.synthesis(some_ws(toy))
    identity = lambda image: image.mean(dim=(2, 3))  # noqa: E731
    full = last(invert(toy, photo, QUICK, identity=identity))
    assert set(full.parts) == {"pixels", "identity", "together", "centre"}
    for part in full.parts:
        without = last(invert(toy, photo, InvertConfig(**{**vars(QUICK), part: 0.0}), identity=identity))
        assert not torch.equal(without.ws, full.ws), part
    bare = InvertConfig(**{**vars(QUICK), "identity": 0.0})
    assert torch.equal(last(invert(toy, photo, bare, identity=identity)).ws, last(invert(toy, photo, QUICK)).ws)


def test_a_stronger_pull_keeps_the_layers_together(toy):
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1  # no face: W+ runs away
    loose, tight = (last(invert(toy, photo, InvertConfig(steps=30, combine=pull))).parts["together"] for pull in (0.0, 1.0))
    assert tight < loose / 4


def test_in_seconds_the_whole_schedule_is_run(toy, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("dvlatent.inversion.invert.time.monotonic", lambda: 0.1 * next(ticks))
    steps = list(invert(toy, toy.synthesis(some_ws(toy)), InvertConfig(seconds=0.75)))
    assert [round(step.progress * 0.75, 3) for step in steps] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75]


def test_previews_are_looked_at_in_w_and_full_renders_in_w_plus(toy):
    class Quick(ToyFaces):
        seen = ""

        def preview(self, ws):
            self.seen += "p"
            return super().synthesis(ws)[:, :, ::2, ::2]

        def synthesis(self, ws):
            self.seen += "f"
            return super().synthesis(ws)

    photo, looks = toy.synthesis(some_ws(toy, [3])), {}
    for name, changes in {"w": {"space": "w"}, "w+": {"apart": 0.5}, "full": {"preview": False}}.items():
        quick = Quick(resolution=32)
        step = last(invert(quick, photo, InvertConfig(steps=4, **changes)))
        looks[name] = quick.seen[1:]  # the first look measures its size
        assert step.image.shape[-1] == (32 if name == "full" else 16)
    assert looks == {"w": "ppppp", "w+": "ppfff", "full": "fffff"}


def test_rounded_it_draws_all_but_the_last_in_bfloat16(toy):
    class Watched(ToyFaces):
        rounded = ""

        def synthesis(self, ws):
            self.rounded += "er"[torch.is_autocast_enabled("cpu")]
            with torch.autocast("cpu", enabled=False):  # it draws in float32 only
                return super().synthesis(ws)

    for rounded, expected in ((False, "eeee"), (True, "rrre")):
        watched = Watched(resolution=32)
        step = last(invert(watched, toy.synthesis(some_ws(toy, [3])), InvertConfig(steps=3, rounded=rounded)))
        assert watched.rounded[1:] == expected and step.image.dtype == torch.float32  # the first look measures its size


def test_numbers_that_are_none_stop_it(toy):
    class Broken(ToyFaces):
        calls = 0

        def synthesis(self, ws):
            self.calls += 1
            return super().synthesis(ws) * (math.nan if self.calls > 5 else 1)

    with pytest.raises(TrainingDiverged, match="step 4, photo 0"):
        last(invert(Broken(resolution=32), toy.synthesis(some_ws(toy, [3])), QUICK))


NO_FACES = [torch.ones(3, 8, 8), torch.ones(1, 3, 8, 9), torch.ones(1, 1, 8, 8), torch.ones(1, 3, 8, 8).byte(), torch.ones(1, 3, 8, 8) / 0]


@pytest.mark.parametrize("photo", NO_FACES)
def test_what_is_no_aligned_face_is_refused(toy, photo):
    with pytest.raises(ShapeError):
        next(invert(toy, photo))


def test_wrong_starts_and_configs_are_refused(toy):
    for start in (torch.zeros(1, 5), torch.zeros(1, 2, 32), torch.zeros(4, 32), torch.full((1, 32), math.nan)):
        with pytest.raises(ShapeError, match="start"):
            next(invert(toy, torch.zeros(2, 3, 32, 32), start=start))
    for wrong in ({"space": "z"}, {"optimiser": "luck"}, {"steps": -1}, {"rate": 0.0}, {"seconds": 0}, {"pixels": -1.0}):
        with pytest.raises(ShapeError):
            InvertConfig(**wrong)
