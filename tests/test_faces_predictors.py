"""Laws of all predictors: one row per face whatever the batch, scores in range for any picture, other input refused; several as one."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent.errors import ShapeError
from dvlatent.faces.attributes import CombinedPredictor
from dvlatent.faces.detector import FaceCheck
from dvlatent.faces.identity import Identity
from dvlatent.types import Predictor

NAMES = {  # and the smallest picture, in pixels
    "attributes": (("age", "male"), 64),
    "landmarks": (("smile", "mouth_open", "eyes_open", "yaw", "pitch", "roll"), 128),
    "identity": (Identity.names, 128),
    "judge": (("age", "male", "smile", "glasses"), 96),
    "face_check": (("sure", "others"), 128),
}


@pytest.fixture(scope="module")
def face_check():
    return FaceCheck()


@pytest.mark.parametrize("name", NAMES)
def test_each_face_is_scored_alone(request, name, recorded_faces):
    """In a batch, in another order, or one by one: the same numbers."""
    predictor = request.getfixturevalue(name)
    scores = predictor(recorded_faces[:3])
    assert isinstance(predictor, Predictor) and predictor.names == NAMES[name][0] and scores.shape == (3, len(predictor.names))
    assert_close(scores, torch.cat([predictor(face) for face in recorded_faces[:3].split(1)]), atol=1e-3, rtol=1e-4)
    assert_close(scores.flip(0), predictor(recorded_faces[:3].flip(0)), atol=1e-3, rtol=1e-4)
    assert predictor(recorded_faces[:0]).shape == (0, len(predictor.names))


@pytest.mark.parametrize("name", ["attributes", "judge"])
def test_scores_stay_in_range_for_any_picture(request, name):
    predictor = request.getfixturevalue(name)
    scores = predictor(torch.from_numpy(np.random.RandomState(0).uniform(-3, 3, (4, 3, 100, 100))))
    for column in range(len(predictor.names)):
        high = {"age": 80, "smile": torch.inf}.get(predictor.names[column], 1)
        assert ((scores[:, column] >= 0) | (high == torch.inf)).all() and (scores[:, column] <= high).all() and scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_other_input_is_refused(request, name):
    predictor, smallest = request.getfixturevalue(name), NAMES[name][1]
    for shape in ((3, 256, 256), (1, 1, 256, 256), (1, 3, 256, 200), (1, 3, smallest - 1, smallest - 1)):
        with pytest.raises(ShapeError, match=f"square aligned faces.* {smallest} px or more"):
            predictor(torch.zeros(shape))
    with pytest.raises(ShapeError, match="from_uint8"):
        predictor(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    if name in ("attributes", "landmarks"):
        with pytest.raises(ShapeError, match="not finite"):
            predictor(torch.full((1, 3, 256, 256), torch.nan))


class Constant:
    def __init__(self, **scores):
        self.names, self.scores = tuple(scores), list(scores.values())

    def __call__(self, image):
        return torch.tensor([self.scores]).expand(len(image), -1)


def test_combined_predictors_give_all_columns_and_refuse_two_of_one_name():
    both = CombinedPredictor(Constant(age=30.0, male=0.1), Constant(smile=0.5))
    assert isinstance(both, Predictor) and both.names == ("age", "male", "smile")
    assert_close(both(torch.zeros(2, 3, 8, 8)), torch.tensor([[30.0, 0.1, 0.5]] * 2))
    with pytest.raises(ShapeError, match="age"):
        CombinedPredictor(Constant(age=1.0), Constant(smile=0.0, age=2.0))
    with pytest.raises(ShapeError, match="none"):
        CombinedPredictor()
