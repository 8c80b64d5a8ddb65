"""The recipes of lessons 01 and 02: the digit networks and the two maps. What is shipped reaches its bar; each recipe runs in few steps."""

from functools import partial

import digit_classifier
import digit_map
import digits
import face_map
import pytest
import torch
from digit_classifier import ClassifyConfig, classifier_scores, set_temperature, train_classifier
from digits import draw_digits

from dvlatent import checkpoint, images, load, zoo
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.gan.data import Digits
from dvlatent.gan.digits import DigitClassifier, DigitGenerator


@pytest.fixture(scope="module")
def classifier():
    return load("digit-classifier")


@pytest.fixture(scope="module")
def fake():
    """A fifth of the 5,000 that MEASUREMENTS.md reports."""
    return draw_digits(load("digits"), 1000, seed=1)


def test_the_shipped_classifier_reaches_its_bar(classifier, mnist):
    """The bar of the course, on digits that neither its weights nor its temperature saw."""
    scores = classifier_scores(classifier, mnist.split()[1])
    assert scores["accuracy"] >= 0.98 and scores["calibration_error"] <= 0.01 and scores["accuracy_at_0.9"] >= 0.99
    _, shipped = checkpoint.load(WEIGHTS / "digit-classifier.safetensors", "digit classifier")
    assert abs(scores["accuracy"] - shipped["scores"]["accuracy"]) < 0.002


def test_shipped_digits_reach_their_bar(fake, classifier):
    confidence, named = classifier(fake).max(1)
    fractions = named.bincount(minlength=10) / 1000
    assert (confidence >= 0.9).float().mean() >= 0.94
    assert -torch.special.xlogy(fractions, fractions).sum() / torch.tensor(10.0).log() >= 0.97
    _, shipped = checkpoint.load(WEIGHTS / "digits.safetensors", "digit generator")
    assert shipped["scores"]["named_at_0.9"] >= 0.95 and shipped["scores"]["entropy_of_classes"] >= 0.97


def test_shipped_digits_are_no_copies(fake, mnist):
    """A drawn digit is about as far from the nearest digit seen in training as a held-out digit is."""
    seen, held_out = (part.images.flatten(1) for part in mnist.split())
    near_fake, near_held_out = (torch.cdist(part, seen).min(1).values.median() for part in (fake[:500].flatten(1), held_out))
    assert near_fake > 0.75 * near_held_out


def test_the_shipped_digit_map_beats_the_plane_of_pca(mnist):
    """The bar: 1.5 times the accuracy of the ten nearest on two principal components, on held-out digits."""
    scores = digit_map.map_scores(load("digit-map"), mnist)
    assert scores["accuracy"] >= 1.5 * scores["pca_accuracy"]


@pytest.mark.parametrize(("name", "side", "channels"), [("digit-map", 28, 1), ("face-map", 64, 3)])
def test_the_shipped_maps_draw(name, side, channels):
    net = load(name)
    assert net.decode(torch.zeros(1, 2)).shape == (1, channels, side, side) and not net.training
    with pytest.raises(CheckpointError, match="was needed"):
        zoo.read_map(WEIGHTS / "faces-preview.safetensors")


def test_training_a_classifier_learns_and_leaves_the_global_random_numbers_alone(mnist):
    few, config = Digits(mnist.images[::25], mnist.labels[::25]), ClassifyConfig(steps=60, batch=32, width=8, calibration=40)  # 200
    before = torch.get_rng_state()
    *_, last = train_classifier(few, config)
    assert torch.equal(before, torch.get_rng_state())
    assert not last.classifier.training and classifier_scores(last.classifier, few)["accuracy"] > 0.5
    first, again = (next(train_classifier(few, config)) for _ in range(2))
    assert first.loss == again.loss and torch.equal(first.classifier.last.weight, again.classifier.last.weight)


def test_the_temperature_undoes_shouting(mnist, classifier):
    """Logits three times too large: the temperature finds the three."""
    loud, few = DigitClassifier(classifier.width).eval(), mnist.split()[1]
    loud.load_state_dict(classifier.state_dict())
    set_temperature(loud, few)
    quiet = float(loud.temperature)
    with torch.no_grad():
        loud.last.weight.mul_(3)
        loud.last.bias.mul_(3)
    set_temperature(loud, few)
    assert float(loud.temperature) == pytest.approx(3 * quiet, rel=0.03)


def test_the_digit_recipe_writes_a_generator_that_loads(tmp_path, monkeypatch):
    out = tmp_path / "digits.safetensors"
    monkeypatch.setattr(digits, "SAVE_EVERY", 2)
    monkeypatch.setattr(digits, "digit_scores", partial(digits.digit_scores, count=500))
    digits.make(out, steps=3)
    tensors, description = checkpoint.load(out, "digit generator")
    net = DigitGenerator(description["width"], description["z_dim"], description["classes"])
    checkpoint.load_weights(net, tensors, out.name)
    assert description["steps_done"] == 3 and description["scores"]["digits"] == 500
    assert description["command"] == "python recipes/digits.py --out digits.safetensors --steps 3"
    assert not list(tmp_path.glob("*.run.safetensors"))


def test_the_classifier_recipe_writes_scores(tmp_path):
    digit_classifier.make(tmp_path / "classifier.safetensors", steps=3)
    assert checkpoint.load(tmp_path / "classifier.safetensors", "digit classifier")[1]["scores"]["digits"] == 1000


def test_the_map_recipes_write_maps_that_load(tmp_path):
    digit_map.make(tmp_path / "digits.safetensors", steps=5)
    assert zoo.read_map(tmp_path / "digits.safetensors").decode(torch.zeros(1, 2)).shape == (1, 1, 28, 28)
    out, pool = tmp_path / "faces.safetensors", tmp_path / "pool"
    first = face_map.face_pool(pool, 10)[0].copy()
    face_map.face_pool(pool, 10)[9:] = 0  # as if it had been stopped
    face_map.make(out, pool, faces=10, steps=2)
    rendered = face_map.face_pool(pool, 10)
    assert (rendered[0] == first).all() and rendered[9].any()
    assert zoo.read_map(out).decode(torch.zeros(1, 2)).shape == (1, 3, 64, 64)
    assert checkpoint.load(out, "autoencoder")[1]["scores"]["held_out_faces"] == 2
    assert images.read(tmp_path / "faces-small.jpg").shape == (1, 3, 40, 400)
    with pytest.raises(ShapeError, match="too few"):
        face_map.make(out, pool, faces=9)
