"""Inversion on the toy face, whose truth is known; and its file: exact, and nothing else is read as one."""

import math
from collections import deque
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from dvlatent import checkpoint
from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.faces.align import Alignment
from dvlatent.inversion.invert import Inversion, InvertConfig, invert
from dvlatent.inversion.optimizers import AdamConfig, QuasiNewtonConfig
from dvlatent.latents import broadcast, normal, truncate
from dvlatent.toy.faces import ToyFaces
from dvlatent.whitening import Whitening

QUICK = InvertConfig(steps=12)
ALIGNMENT = Alignment(((0.1, 1 / 3), (0.25, 80.5), (90.0, 79.0), (89.0, -3.5)), (100, 120))


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


@pytest.fixture(scope="module", autouse=True)
def whitened_once(toy):
    """The coordinates of the toy's W take longer to measure than the searches here."""
    whitening = Whitening.of(toy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Whitening, "of", lambda generator: whitening)
        yield


def ws_of(toy, seeds=(3, 4)):
    return broadcast(truncate(toy.mapping(normal(seeds, toy.z_dim)), toward=toy.w_mean, psi=0.7), toy.num_layers)


@pytest.fixture(scope="module")
def photo(toy):
    """Two faces."""
    return toy.synthesis(ws_of(toy))


def last(steps):
    return deque(steps, maxlen=1)[0]


@pytest.mark.parametrize(("optimizer", "steps", "error"), [(QuasiNewtonConfig(), 60, 1e-4), (AdamConfig(noise=0), 100, 1e-3)])
def test_a_known_face_is_found_again(toy, photo, optimizer, steps, error):
    step = last(invert(toy, photo[:1], InvertConfig(steps=steps, space="w", mean_weight=0, optimizer=optimizer)))
    away = (toy.factors(step.ws) - toy.factors(ws_of(toy, [3]))).abs()
    assert float((step.image - photo[:1]).square().mean()) < error
    assert float(away.median()) < 0.1  # standard deviations of the population


def test_the_result_is_the_best_point_of_the_search(toy, photo):
    step = last(invert(toy, photo, InvertConfig(steps=30, space="w", mean_weight=0)))
    assert_close(step.loss, step.losses.min(dim=0).values)


def test_the_pull_toward_the_average_face_falls():
    config = InvertConfig(steps=10, mean_weight=0.1, initial_mean_weight=10.0)
    pulls = [config.mean_weight_at(progress / 100) for progress in range(101)]
    assert pulls[0] == pytest.approx(10) and pulls[-1] == pytest.approx(0.1)
    assert all(after <= before for before, after in pairwise(pulls))
    assert InvertConfig(mean_weight=0.0).mean_weight_at(0.0) == 0


def test_in_w_all_layers_are_one_and_in_w_plus_they_split(toy, photo):
    one, many = (last(invert(toy, photo[:1], InvertConfig(steps=20, space=space))).ws for space in ("w", "w+"))
    assert_close(one, one[:, :1].expand_as(one))
    assert float((many - many.mean(dim=1, keepdim=True)).abs().max()) > 0.01


@pytest.mark.parametrize("optimizer", [QuasiNewtonConfig(), AdamConfig()])
def test_a_photo_in_a_batch_is_found_as_if_alone(toy, photo, optimizer):
    config = replace(QUICK, optimizer=optimizer)
    both = last(invert(toy, photo, config))
    alone = [last(invert(toy, one, config)) for one in photo.split(1)]
    assert torch.equal(both.ws, torch.cat([step.ws for step in alone]))
    assert torch.equal(both.losses, torch.cat([step.losses for step in alone], dim=1))


def test_the_picture_of_a_step_is_that_of_its_ws(toy, photo):
    for step in invert(toy, photo, QUICK):
        assert torch.equal(step.image, torch.cat([toy.synthesis(one) for one in step.ws.split(1)]))
    assert step.index == QUICK.steps and len(step.losses) == QUICK.steps + 1 and step.progress == 1


def test_it_starts_where_it_is_asked_to(toy, photo):
    other = ws_of(toy, (8, 9))
    for start in (None, other[:, 0], other):
        step = next(invert(toy, photo, InvertConfig(steps=0), start=start))
        assert_close(step.ws, broadcast(toy.w_mean.expand(2, -1), 3) if start is None else other, atol=1e-5, rtol=1e-5)


def test_each_part_of_the_loss_can_be_left_out(toy, photo):
    def identity(image):
        return image.mean(dim=(2, 3))

    photo = photo[:1]
    full = last(invert(toy, photo, QUICK, identity=identity))
    assert set(full.parts) == {"pixels", "identity", "delta", "mean"}
    for weight in ("pixel_weight", "identity_weight", "delta_weight", "mean_weight"):
        without = last(invert(toy, photo, replace(QUICK, **{weight: 0.0}), identity=identity))
        assert not torch.equal(without.ws, full.ws), weight
    bare = replace(QUICK, identity_weight=0.0)
    assert torch.equal(last(invert(toy, photo, bare, identity=identity)).ws, last(invert(toy, photo, QUICK)).ws)


def test_a_stronger_pull_keeps_the_layers_together(toy):
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1  # no face: W+ runs away
    loose, tight = (last(invert(toy, photo, InvertConfig(steps=30, delta_weight=pull))).parts["delta"] for pull in (0.0, 1.0))
    assert tight < loose / 4


def test_in_seconds_the_whole_schedule_is_run(toy, photo, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("dvlatent.inversion.invert.time.monotonic", lambda: 0.1 * next(ticks))
    steps = list(invert(toy, photo, InvertConfig(seconds=0.75)))  # one clock for both photos
    assert [round(step.progress * 0.75, 3) for step in steps] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75]


@pytest.mark.parametrize(
    ("changes", "drawn", "size_px"),
    [({"space": "w"}, "ppppp", 16), ({"split_after": 0.5}, "ppfff", 16), ({"preview": False}, "fffff", 32)],
)
def test_it_draws_previews_in_w_and_full_renders_in_w_plus(photo, changes, drawn, size_px):
    class Watched(ToyFaces):
        drawn = ""

        def preview(self, ws):
            self.drawn += "p"
            return super().synthesis(ws)[:, :, ::2, ::2]

        def synthesis(self, ws):
            self.drawn += "f"
            return super().synthesis(ws)

    watched = Watched(resolution=32)
    step = last(invert(watched, photo[:1], InvertConfig(steps=4, **changes)))
    assert watched.drawn[1:] == drawn and step.image.shape[-1] == size_px  # the first picture measures the size


@pytest.mark.parametrize(("bf16", "drawn"), [(False, "eeee"), (True, "bbbe")])
def test_with_bf16_it_draws_all_but_the_last_in_bfloat16(photo, bf16, drawn):
    class Watched(ToyFaces):
        drawn = ""

        def synthesis(self, ws):
            self.drawn += "eb"[torch.is_autocast_enabled("cpu")]
            with torch.autocast("cpu", enabled=False):  # it draws in float32 only
                return super().synthesis(ws)

    watched = Watched(resolution=32)
    step = last(invert(watched, photo[:1], InvertConfig(steps=3, bf16=bf16)))
    assert watched.drawn[1:] == drawn and step.image.dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_it(photo):
    class Broken(ToyFaces):
        calls = 0

        def synthesis(self, ws):
            self.calls += 1
            return super().synthesis(ws) * (math.nan if self.calls > 5 else 1)

    with pytest.raises(TrainingDiverged, match="step 4"):
        last(invert(Broken(resolution=32), photo[:1], QUICK))


NO_FACES = [torch.ones(3, 8, 8), torch.ones(1, 3, 8, 9), torch.ones(1, 1, 8, 8), torch.ones(1, 3, 8, 8).byte(), torch.ones(1, 3, 8, 8) / 0]


@pytest.mark.parametrize("photo", NO_FACES)
def test_anything_but_aligned_faces_is_refused(toy, photo):
    with pytest.raises(ShapeError):
        next(invert(toy, photo))


@pytest.mark.parametrize("start", [torch.zeros(1, 5), torch.zeros(1, 2, 32), torch.zeros(4, 32), torch.full((1, 32), math.nan)])
def test_wrong_starts_are_refused(toy, start):
    with pytest.raises(ShapeError, match="start"):
        next(invert(toy, torch.zeros(2, 3, 32, 32), start=start))


@pytest.mark.parametrize("wrong", [{"space": "z"}, {"optimizer": "luck"}, {"steps": -1}, {"seconds": 0}, {"pixel_weight": -1.0}])
def test_wrong_configs_are_refused(wrong):
    with pytest.raises(ShapeError):
        InvertConfig(**wrong)


# The file of an inversion


@pytest.fixture(scope="module")
def found(toy, photo):
    """The inversion of the second photo, and its step."""
    step = last(invert(toy, photo, InvertConfig(steps=4)))
    return step.inversion(ALIGNMENT, row=1), step


def test_a_step_becomes_an_inversion_of_one_of_its_photos(toy, found):
    inversion, step = found
    assert torch.equal(inversion.ws, step.ws[1:]) and torch.equal(inversion.history, step.losses[:, 1])
    assert inversion.config["steps"] == 4 and "memory" in inversion.config["optimizer"] and inversion.alignment == ALIGNMENT
    inversion.check(toy)
    with pytest.raises(DirectionMismatch, match="invert the photo again"):
        inversion.check(ToyFaces(resolution=32, seed=1))


def test_saved_and_loaded_it_draws_the_same_picture_to_the_bit(toy, found, tmp_path):
    inversion, step = found
    inversion.save(tmp_path / "mine.safetensors")
    again = Inversion.load(tmp_path / "mine.safetensors")
    assert torch.equal(again.ws, inversion.ws) and torch.equal(again.history, inversion.history)
    assert (again.generator, again.alignment, again.config) == (inversion.generator, inversion.alignment, inversion.config)
    assert torch.equal(toy.synthesis(again.ws), step.image[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_other_files_are_refused(found, tmp_path):
    path, inversion = tmp_path / "other.safetensors", found[0]
    inversion.save(path)
    good, about = checkpoint.load(path, "inversion")
    files = {
        "less": ({"ws": good["ws"]}, about),
        "whole numbers": ({**good, "ws": good["ws"].long()}, about),
        "two": ({**good, "ws": good["ws"].repeat(2, 1, 1)}, about),
        "nan": ({**good, "ws": good["ws"] * math.nan}, about),
        "not said": (good, {"kind": "inversion"}),
        "three corners": (good, {**about, "alignment": {**about["alignment"], "quad": about["alignment"]["quad"][:3]}}),
        "no number": (good, {**about, "alignment": {**about["alignment"], "quad": "abcd"}}),
        "another alignment": (good, {**about, "alignment": 3}),
        "another config": (good, {**about, "config": 3}),
    }
    for name, (tensors, description) in files.items():
        checkpoint.save(path, tensors, description)
        with pytest.raises(CheckpointError, match="is no complete inversion"):
            Inversion.load(path)
            pytest.fail(name)
