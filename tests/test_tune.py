"""Generator tuning, on a generator of one layer whose every number can be followed."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dvlatent.errors import CheckpointError, DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.inversion.tune import TuneConfig, Tuning, tune
from dvlatent.latents import normal
from dvlatent.toy.faces import ToyFaces

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TuneConfig(steps=30, tunes=r"paint\.(weight|bias)", lr=0.05, rank=64, locality=0)


class Painter(nn.Module):
    """w to a picture by one matrix."""

    z_dim = w_dim = 24
    num_layers, resolution = 2, 16

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.paint, self.other = nn.Linear(24, 3 * 16 * 16), nn.Linear(24, 1)
        self.register_buffer("w_mean", torch.zeros(24))
        self.requires_grad_(False)

    def mapping(self, z):
        return 2 * z

    def synthesis(self, ws):
        return self.paint(ws.mean(dim=1)).view(-1, 3, 16, 16) * 0.3


@pytest.fixture
def painter():
    return Painter()


@pytest.fixture
def photo():
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


WS = normal([7, 8], 24)[None]  # one face, two layers


def run(generator, photo, config=QUICK):
    *_, step = tune(generator, photo, WS, config)
    return step


def error(generator, photo):
    return float((generator.synthesis(WS) - photo).abs().mean())


def test_it_draws_the_photo_and_the_original_stays_equal_to_the_bit(painter, photo):
    before = copy.deepcopy(painter.state_dict())
    tuned = run(painter, photo).tuning().apply(painter)
    assert error(tuned, photo) < error(painter, photo) / 4
    assert all(torch.equal(before[name], now) for name, now in painter.state_dict().items())
    assert not any(parameter.requires_grad for parameter in painter.parameters())
    assert torch.equal(tuned.other.weight, painter.other.weight)


def test_steps_start_at_the_generator_as_it_is(painter, photo):
    steps = list(tune(painter, photo, WS, QUICK))
    assert torch.equal(steps[0].image, painter.synthesis(WS)) and len(steps) == 31
    assert steps[-1].loss < steps[0].loss / 4
    assert next(tune(painter, photo, WS, QUICK)).tuning().difference == {}


def test_a_generator_tuned_by_full_renders_loses_its_preview(painter, photo):
    painter.preview_head = nn.Linear(1, 1).requires_grad_(False)
    tuned = run(painter, photo).tuning().apply(painter)
    assert tuned.preview_head is None and painter.preview_head is not None


def test_saved_and_loaded_it_tunes_to_the_same_bits(painter, photo, tmp_path):
    tuning = run(painter, photo).tuning()
    tuning.save(tmp_path / "mine.safetensors")
    again = Tuning.load(tmp_path / "mine.safetensors")
    assert torch.equal(again.apply(painter).synthesis(WS), tuning.apply(painter).synthesis(WS))
    assert again.config == tuning.config and again.generator == tuning.generator
    assert (tmp_path / "mine.safetensors").stat().st_size < tuning.nbytes + 4096


def test_a_low_rank_is_smaller_and_still_most_of_it(painter, photo):
    tuned, config = run(painter, photo), TuneConfig(**{**vars(QUICK), "rank": 1})
    whole, small = tuned.tuning(), run(painter, photo, config).tuning()
    assert small.nbytes < whole.nbytes / 5
    assert error(small.apply(painter), photo) < error(painter, photo) / 2  # one photo needs one direction
    assert_close(whole.apply(painter).paint.weight, tuned.tuned.paint.weight, atol=1e-3, rtol=1e-2)  # in half precision


def test_locality_keeps_other_faces_as_they_were(painter, photo):
    far = normal(range(20, 60), 24)[:, None].expand(-1, 2, -1)
    changes = []
    for locality in (0.0, 10.0):
        tuned = run(painter, photo, TuneConfig(**{**vars(QUICK), "locality": locality, "every": 1})).tuning().apply(painter)
        changes.append(float((tuned.synthesis(far) - painter.synthesis(far)).abs().mean()))
    assert changes[1] < changes[0] / 1.5


def test_what_does_not_fit_is_refused(painter, photo, tmp_path):
    with pytest.raises(ShapeError, match="no parameter"):
        next(tune(ToyFaces(resolution=16), photo, torch.zeros(1, 3, 32)))
    with pytest.raises(ShapeError, match="one photo"):
        run(painter, photo.expand(2, -1, -1, -1))
    with pytest.raises(ShapeError, match="rank"):
        TuneConfig(rank=0)
    with pytest.raises(TrainingDiverged, match="Lower the rate"):
        run(painter, photo, TuneConfig(**{**vars(QUICK), "rate": 1e38}))
    tuning = run(painter, photo, TuneConfig(**{**vars(QUICK), "steps": 1})).tuning()
    with pytest.raises(DirectionMismatch, match="belongs to"):
        tuning.apply(ToyFaces(resolution=16))
    cut = Tuning({name: part[:1] for name, part in tuning.difference.items()}, tuning.generator, {})
    with pytest.raises(DirectionMismatch, match="Tune again"):
        cut.apply(painter)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError):
        Tuning.load(tmp_path / "text.safetensors")
