"""The digit networks: laws of every generator, the instrument's promises, what is shipped, and the commands that make it."""

import json

import pytest
import torch
from digit_classifier import ClassifyConfig, classifier_scores, set_temperature, train_classifier
from digits import draw_digits
from safetensors import safe_open

from dvlatent import broadcast, checkpoint, load, normal
from dvlatent.checkpoint import WEIGHTS
from dvlatent.cli.main import main
from dvlatent.contract import check_generator
from dvlatent.errors import ShapeError
from dvlatent.gan.data import Digits
from dvlatent.gan.digits import DigitClassifier, DigitDiscriminator, DigitGenerator
from dvlatent.types import Generator, Predictor


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


@pytest.fixture(scope="module")
def classifier():
    return load("digit-classifier")


@pytest.fixture(scope="module")
def generator():
    return load("digits")


def test_the_shipped_generator_keeps_every_law(generator):
    assert isinstance(generator, Generator)
    report = check_generator(generator)
    assert report, report


def test_an_untrained_one_keeps_them_too():
    torch.manual_seed(0)
    for classes in (0, 10):
        report = check_generator(DigitGenerator(8, classes=classes).eval().requires_grad_(False))
        assert report, report


def test_colour_and_grey_are_the_same_digit(generator):
    z = normal([1, 2], generator.z_dim)
    picture, grey = generator.synthesis(broadcast(generator.mapping(z), 1)), generator(z)
    assert picture.shape == (2, 3, 28, 28) and torch.equal(picture, grey.expand(-1, 3, -1, -1))


def test_the_classifier_keeps_its_promises(classifier, mnist):
    """The bar of the course, on digits that neither its weights nor its temperature saw."""
    assert isinstance(classifier, Predictor) and classifier.names == tuple("0123456789")
    scores = classifier_scores(classifier, mnist.split()[1])
    assert scores["accuracy"] >= 0.98 and scores["calibration_error"] <= 0.01 and scores["accuracy_at_0.9"] >= 0.99
    _, shipped = checkpoint.load(WEIGHTS / "digit-classifier.safetensors", "digit classifier")
    assert abs(scores["accuracy"] - shipped["scores"]["accuracy"]) < 0.002


def test_the_classifier_reads_grey_and_colour_one_and_many(classifier, mnist):
    images = mnist.images[::1000]
    chances = classifier(images)
    assert chances.shape == (5, 10) and torch.allclose(chances.sum(1), torch.ones(5))
    assert torch.allclose(classifier(images.expand(-1, 3, -1, -1)), chances, atol=1e-5)
    assert torch.allclose(classifier(images[2:3]), chances[2:3], atol=1e-5)
    assert classifier.features(images).shape == (5, classifier.feature_dim)


def test_shipped_digits_reach_their_bar(generator, classifier):
    """A fifth of the 5,000 that MODELS.md reports."""
    fake = draw_digits(generator, 1000, seed=1)
    sure, named = classifier(fake).max(1)
    shares = named.bincount(minlength=10) / 1000
    assert (sure >= 0.9).float().mean() >= 0.94
    assert -torch.special.xlogy(shares, shares).sum() / torch.tensor(10.0).log() >= 0.97
    _, shipped = checkpoint.load(WEIGHTS / "digits.safetensors", "digit generator")
    assert shipped["scores"]["named_at_0.9"] >= 0.95 and shipped["scores"]["entropy_of_classes"] >= 0.97


def test_shipped_digits_are_no_copies(generator, mnist):
    """A drawn digit is about as far from the nearest digit seen in training as a held-out digit is."""
    seen, held = (part.images.flatten(1) for part in mnist.split())
    with torch.no_grad():
        fake = draw_digits(generator, 500).flatten(1)
    near_fake, near_held = (torch.cdist(some, seen).min(1).values.median() for some in (fake, held))
    assert near_fake > 0.75 * near_held


@pytest.mark.parametrize("name", ["digits", "digit-classifier"])
def test_shipped_files_are_small_and_tell_their_story(name):
    path = WEIGHTS / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        story = json.loads(file.metadata()["description"])
        assert all(file.get_tensor(key).dtype == torch.float16 for key in file.keys() if "num_batches" not in key)
    assert path.stat().st_size < 2e6 and f"dvlatent train {name}" in story["command"] and story["scores"] and story["licence"]


def test_dice_vote_for_the_digit_and_labels_overrule_them(generator, classifier):
    z = normal(range(200), generator.z_dim)
    votes, w = z[:, :10].argmax(1), generator.mapping(z)
    assert torch.equal(w[:, :10].argmax(1), votes) and torch.equal(w[:, 10:], z[:, 10:])
    assert (classifier(generator(z)).argmax(1) == votes).float().mean() > 0.93
    told = (votes + 1) % 10
    assert (classifier(generator(z, told)).argmax(1) == told).float().mean() > 0.93
    assert torch.equal(generator(z), generator(z, votes))


def test_labels_go_to_both_networks_or_to_none():
    z, labels = normal([0, 0], 64), torch.tensor([3, 8])
    with pytest.raises(ShapeError, match="no labels"):
        DigitGenerator(8, classes=0)(z, labels)
    image = DigitGenerator(8)(z).detach()
    for discriminator, given in ((DigitDiscriminator(8), []), (DigitDiscriminator(8, classes=0), [labels])):
        with pytest.raises(ShapeError, match="Give both networks the same"):
            discriminator(image, *given)
    discriminator = DigitDiscriminator(8)
    assert discriminator(image, labels)[0] != discriminator(image, labels.flip(0))[0]


def test_the_critic_sees_when_all_digits_are_alike():
    torch.manual_seed(0)
    discriminator, image = DigitDiscriminator(8, classes=0), torch.rand(4, 1, 28, 28)
    alone, combine = discriminator(image[:1]), discriminator(image)
    assert (discriminator(image[:1].repeat(4, 1, 1, 1))[0] - combine[0]).abs() > 1e-6
    assert alone.shape == (1,) and discriminator(image.repeat(2, 1, 1, 1)).shape == (8,)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 2, 28, 28), (28, 28)])
def test_refuses_what_is_no_digit(shape):
    with pytest.raises(ShapeError, match=r"\[batch, 1 or 3, 28, 28\]"):
        DigitClassifier(4).features(torch.zeros(shape))


def test_refuses_ws_of_another_shape():
    with pytest.raises(ShapeError, match="broadcast"):
        DigitGenerator(8).synthesis(torch.zeros(2, 64))


def test_training_a_classifier_learns_and_leaves_the_dice_alone(mnist):
    few = Digits(mnist.images[::25], mnist.labels[::25])  # 200
    before = torch.get_rng_state()
    *_, last = train_classifier(few, ClassifyConfig(steps=60, batch=32, width=8, kept=40))
    assert torch.equal(before, torch.get_rng_state())
    assert not last.classifier.training and classifier_scores(last.classifier, few)["accuracy"] > 0.5
    first, again = (next(train_classifier(few, ClassifyConfig(steps=60, batch=32, width=8, kept=40))) for _ in range(2))
    assert first.loss == again.loss and torch.equal(first.classifier.last.weight, again.classifier.last.weight)


def test_the_temperature_undoes_shouting(mnist, classifier):
    """Logits three times too large: the temperature finds the three."""
    loud = DigitClassifier(classifier.width)
    loud.load_state_dict(classifier.state_dict())
    loud.eval()
    few = Digits(mnist.split()[1].images, mnist.split()[1].labels)
    set_temperature(loud, few)
    quiet = float(loud.temperature)
    with torch.no_grad():
        loud.last.weight.mul_(3)
        loud.last.bias.mul_(3)
    set_temperature(loud, few)
    assert float(loud.temperature) == pytest.approx(3 * quiet, rel=0.03)


def test_the_commands_write_networks_that_load(tmp_path, monkeypatch):
    out = tmp_path / "digits.safetensors"
    monkeypatch.setattr("digits.SAVE_EVERY", 2)
    assert main(["train", "digits", "--out", str(out), "--steps", "3"]) == 0
    tensors, story = checkpoint.load(out, "digit generator")
    net = DigitGenerator(story["width"], story["z_dim"], story["classes"])
    checkpoint.load_weights(net, tensors, out.name)
    assert story["steps_done"] == 3 and story["classes"] == 10 and story["scores"]["digits"] == 5000
    assert not list(tmp_path.glob("*.run.safetensors"))
    out = tmp_path / "digit-classifier.safetensors"
    assert main(["train", "digit-classifier", "--out", str(out), "--steps", "3"]) == 0
    assert checkpoint.load(out, "digit classifier")[1]["scores"]["digits"] == 1000
