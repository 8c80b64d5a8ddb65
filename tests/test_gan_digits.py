"""The digit networks: laws of every generator, and what each network promises. `test_recipes_digits.py` has what is shipped."""

import pytest
import torch
from contract import first_broken

from dvlatent import broadcast, load, normal
from dvlatent.errors import ShapeError
from dvlatent.gan.digits import DigitClassifier, DigitDiscriminator, DigitGenerator
from dvlatent.types import Generator, Predictor


@pytest.fixture(scope="module")
def classifier():
    return load("digit-classifier")


@pytest.fixture(scope="module")
def generator():
    return load("digits")


def test_trained_or_not_a_generator_keeps_every_law(generator):
    torch.manual_seed(0)
    for one in (generator, *(DigitGenerator(8, classes=classes).eval().requires_grad_(False) for classes in (0, 10))):
        assert isinstance(one, Generator) and first_broken(one) == ""


def test_color_and_gray_are_the_same_digit(generator):
    z = normal([1, 2], generator.z_dim)
    picture, gray = generator.synthesis(broadcast(generator.mapping(z), 1)), generator(z)
    assert picture.shape == (2, 3, 28, 28) and torch.equal(picture, gray.expand(-1, 3, -1, -1))


def test_the_classifier_reads_gray_and_color_one_and_many(classifier, mnist):
    images = mnist.images[::1000]
    probabilities = classifier(images)
    assert isinstance(classifier, Predictor) and classifier.names == tuple("0123456789")
    assert probabilities.shape == (5, 10) and torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.allclose(classifier(images.expand(-1, 3, -1, -1)), probabilities, atol=1e-5)
    assert torch.allclose(classifier(images[2:3]), probabilities[2:3], atol=1e-5)
    assert classifier.features(images).shape == (5, classifier.feature_dim)


def test_z_chooses_the_digit_and_labels_overrule_it(generator, classifier):
    z = normal(range(200), generator.z_dim)
    votes, w = z[:, :10].argmax(1), generator.mapping(z)
    assert torch.equal(w[:, :10].argmax(1), votes) and torch.equal(w[:, 10:], z[:, 10:])
    others = (votes + 1) % 10
    for digits, labels in ((votes, None), (others, others)):
        assert (classifier(generator(z, labels)).argmax(1) == digits).float().mean() > 0.93
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


def test_the_discriminator_sees_when_all_digits_are_alike():
    torch.manual_seed(0)
    discriminator, image = DigitDiscriminator(8, classes=0), torch.rand(4, 1, 28, 28)
    alone, company = discriminator(image[:1]), discriminator(image)
    assert (discriminator(image[:1].repeat(4, 1, 1, 1))[0] - company[0]).abs() > 1e-6
    assert alone.shape == (1,) and discriminator(image.repeat(2, 1, 1, 1)).shape == (8,)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 2, 28, 28), (28, 28)])
def test_refuses_what_is_no_digit(shape):
    with pytest.raises(ShapeError, match=r"\[batch, 1 or 3, 28, 28\]"):
        DigitClassifier(4).features(torch.zeros(shape))


def test_refuses_ws_of_another_shape():
    with pytest.raises(ShapeError, match="broadcast"):
        DigitGenerator(8).synthesis(torch.zeros(2, 64))
