"""Landmarks: the mirror law, the same points at every size, a known pose is found, and smiles agree with the eye."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent import images
from dvlatent.assets import asset_path
from dvlatent.errors import AssetBroken
from dvlatent.faces import landmarks as module
from dvlatent.faces.landmarks import Landmarks, aspect, geometry, pose

SIGNS = torch.tensor([1.0, 1, 1, -1, 1, -1])  # what a mirror does to each score


def test_the_mirror_turns_yaw_and_roll_and_nothing_else(landmarks, recorded_faces):
    assert_close(landmarks(recorded_faces[:4].flip(-1)), landmarks(recorded_faces[:4]) * SIGNS, atol=2e-4, rtol=0.0)


def test_the_mirror_moves_every_point_to_its_partner(landmarks, recorded_faces):
    points = landmarks.points(recorded_faces[:2])[:, module.MIRRORED]
    points[..., 0] = 255 - points[..., 0]
    assert_close(landmarks.points(recorded_faces[:2].flip(-1)), points, atol=1e-4, rtol=0.0)
    assert (module.MIRRORED[module.MIRRORED] == np.arange(68)).all()


@pytest.mark.parametrize("times", [2, 4])
def test_points_stay_where_they_are_at_every_size(landmarks, recorded_faces, times):
    """Every pixel repeated: shrinking by area gives the same picture back, so the points only scale."""
    larger = recorded_faces[:3].repeat_interleave(times, 2).repeat_interleave(times, 3)
    assert_close((landmarks.points(larger) + 0.5) / times - 0.5, landmarks.points(recorded_faces[:3]), atol=1e-3, rtol=0.0)


def test_small_pictures_score_as_large_ones(landmarks, recorded_faces):
    difference = (landmarks(images.resize(recorded_faces, 128)) - landmarks(recorded_faces)).abs().median(dim=0).values
    assert (difference < torch.tensor([0.1, 0.03, 0.03, 2.0, 2.0, 1.0])).all(), difference


def test_agrees_with_dlibs_own_detector_and_landmarks(landmarks, recorded_faces):
    """The second source: the detector's rectangle in each picture, where it finds one."""
    import dlib

    detector, distances = dlib.get_frontal_face_detector(), []
    for pixels, ours in zip(images.to_uint8(recorded_faces), landmarks.points(recorded_faces).numpy(), strict=True):
        for box in detector(pixels, 0)[:1]:
            theirs = np.array([(point.x, point.y) for point in landmarks._predictor(pixels, box).parts()])
            distances.append(np.linalg.norm(ours - theirs, axis=1).mean())
    assert len(distances) >= 10 and np.median(distances) < 1.5


def rotation(yaw, pitch, roll):
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ nod @ tilt


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (-50, 10, 5), (10, -25, -20), (0, 20, 170)])
def test_pose_finds_the_rotation_of_a_turned_mean_face(angles):
    seen = 87 * (rotation(*angles) @ module.SHAPE.T.double().numpy())[:2].T + [128, 140]
    points = torch.zeros(1, 68, 2, dtype=torch.float64)
    points[0, list(module.RIGID)] = torch.from_numpy(seen)
    assert_close(pose(points)[0], torch.tensor(angles, dtype=torch.float64), atol=1e-5, rtol=0.0)


def test_the_nose_of_a_face_with_positive_yaw_lies_to_the_right():
    """In the picture, the tip of the nose moves to the right of the middle of the eyes; with positive pitch it moves up."""
    eyes, nose = module.SHAPE[:4].double().mean(0).numpy(), module.SHAPE[7].double().numpy()
    assert (rotation(20, 0, 0) @ (nose - eyes))[0] > 0.1
    assert (rotation(0, 20, 0) @ (nose - eyes))[1] < (nose - eyes)[1]


def test_scores_do_not_depend_on_the_scale_or_place_of_the_points(landmarks, recorded_faces):
    points = landmarks.points(recorded_faces[:3])
    assert_close(geometry(4 * points + 17), geometry(points), atol=1e-3, rtol=1e-4)


def test_an_eye_twice_as_wide_as_high_has_aspect_one_half():
    eye = torch.tensor([[[0.0, 0], [1, 1], [3, 1], [4, 0], [3, -1], [1, -1]]])
    assert_close(aspect(eye, tuple(range(6))), torch.tensor([0.5]))


BROAD, STILL = [3, 7], [1, 5, 8]


def test_smiles_rank_as_seen(landmarks, recorded_faces):
    """By eye: these of the recorded faces smile with their teeth shown, and those keep their mouths still."""
    smile = landmarks(recorded_faces)[:, 0]
    assert smile[BROAD].min() > 0.7 and smile[STILL].max() < 0.5


def test_files_that_are_no_predictor_are_refused(tmp_path):
    with pytest.raises(AssetBroken, match="dvlatent assets"):
        Landmarks(tmp_path / "missing.dat")
    (tmp_path / "text.dat").write_text("no predictor")
    with pytest.raises(AssetBroken, match="dvlatent assets"):
        Landmarks(tmp_path / "text.dat")
    with pytest.raises(AssetBroken, match="68 are needed"):
        Landmarks(asset_path("face_recognition_models/models/shape_predictor_5_face_landmarks.dat"))
