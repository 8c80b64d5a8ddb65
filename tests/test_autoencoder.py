"""The autoencoder: shapes, closed forms, the same seed the same map. `test_recipes_digits.py` has the maps that are shipped."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dvlatent.autoencoder.model import FACES, Autoencoder, AutoencoderConfig, as_pictures, perceptron
from dvlatent.autoencoder.train import (
    AutoencoderTrainConfig,
    as_float,
    encode_all,
    information,
    loss_parts,
    pixel_weights,
    redraw_error,
    sample,
    train_autoencoder,
)
from dvlatent.errors import ShapeError

SMALL = AutoencoderConfig(side=8, encoder_side=8, encoder=(32,), decoder=(32,))


def bars(count=256, seed=0):
    """Pictures with two hidden numbers: a bright bar whose place and height vary. [count, 1, 8, 8], and the numbers [count, 2]."""
    truth = torch.from_numpy(np.random.RandomState(seed).rand(count, 2)).float()
    line = torch.linspace(0, 1, 8)
    across = torch.exp(-((line - truth[:, :1]) ** 2) / 0.05)  # [count, 8]
    down = torch.sigmoid(12 * (line - truth[:, 1:]))
    return (2 * down[:, :, None] * across[:, None] - 1)[:, None], truth


@pytest.mark.parametrize("config", [AutoencoderConfig(code=code, variational=v) for code in (1, 2, 3) for v in (False, True)] + [FACES])
def test_pictures_in_codes_between_pictures_out(config):
    net = Autoencoder(config).eval()
    image = 2 * torch.rand(3, config.channels, config.side, config.side) - 1
    code = net.encode(image)
    assert code.shape == (3, config.code)
    assert net.decode(code).shape == image.shape and net.decode(code).abs().max() <= 1
    assert_close(net(image), net.decode(code))


def test_by_hand_it_is_two_stacks_of_layers():
    net = Autoencoder(AutoencoderConfig(variational=True)).eval()
    image = 2 * torch.rand(2, 1, 28, 28) - 1
    x = (image.flatten(1) + 1) / 2
    for at, layer in enumerate(net.encoder):
        x = x * torch.sigmoid(x) if at % 2 else x @ layer.weight.T + layer.bias
    assert_close(net.encode(image), x[:, :2])
    for at, layer in enumerate(net.decoder):
        y = (x[:, :2] if at == 0 else y) @ layer.weight.T + layer.bias if at % 2 == 0 else y * torch.sigmoid(y)
    assert_close(net.decode(x[:, :2]), torch.tanh(y / 2).view(2, 1, 28, 28))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 1.0), (-2.0, 0.3), (0.2, 3.0)])
def test_information_is_the_closed_form_and_agrees_with_torch(mean, std):
    m, s = torch.full((1, 2), mean), torch.full((1, 2), std)
    peer = torch.distributions.kl_divergence(torch.distributions.Normal(m, s), torch.distributions.Normal(0, 1)).sum()
    assert_close(information(m, 2 * s.log())[0], peer)


def test_samples_of_a_cloud_have_its_mean_and_size_and_points_stay():
    m, log_variance = torch.tensor([[1.0, -2.0]]).repeat(20_000, 1), torch.tensor([[0.0, -2.0]]).repeat(20_000, 1)
    drawn = sample(m, log_variance, torch.Generator().manual_seed(0))
    assert_close(drawn.mean(0), torch.tensor([1.0, -2.0]), atol=0.03, rtol=0)
    assert_close(drawn.std(0), torch.tensor([1.0, math.exp(-1)]), atol=0.02, rtol=0)
    point, log_variance = Autoencoder(SMALL).posterior(bars(8)[0])
    assert torch.equal(sample(point, log_variance, torch.Generator()), point)


def test_a_loss_has_two_parts_the_ink_that_is_wrong_and_the_nats_of_the_cloud():
    net, image = Autoencoder(AutoencoderConfig(variational=True)), 2 * torch.rand(4, 1, 28, 28) - 1
    square, nats = loss_parts(net, image, -image, torch.Generator().manual_seed(1))
    mean, log_variance = net.encoder((image.flatten(1) + 1) / 2).split(2, dim=1)
    code = mean + log_variance.exp().sqrt() * torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    assert_close(square.flatten(1), (torch.sigmoid(net.decoder(code)) - (1 - image.flatten(1)) / 2).square())
    assert_close(nats, information(mean, log_variance))


@pytest.mark.parametrize("variational", [False, True])
def test_training_learns_and_the_same_seed_gives_the_same_net(variational):
    images, _ = bars()
    config, shape = AutoencoderTrainConfig(steps=150, batch=64, lr=5e-3, seed=3), replace(SMALL, variational=variational)
    torch.manual_seed(1)
    steps = list(train_autoencoder(images, Autoencoder(shape), config))
    torch.manual_seed(2)  # whatever was drawn before makes no difference
    *_, again = train_autoencoder(images, Autoencoder(shape), config)
    assert [step.index for step in steps] == list(range(150))
    assert steps[-1].error < 0.4 * steps[0].error and steps[-1].error == again.error
    assert math.isfinite(steps[-1].nats) == variational
    for mine, theirs in zip(steps[-1].net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_two_numbers_are_found_again_where_there_are_two():
    """The codes explain the true place and height: regress each on a polynomial of the code."""
    images, truth = bars(600)
    *_, step = train_autoencoder(images, Autoencoder(SMALL), AutoencoderTrainConfig(steps=500, batch=64, lr=5e-3))
    x, y = encode_all(step.net, images).double().T
    powers = torch.stack([x**i * y**j for i in range(5) for j in range(5 - i)], dim=1)
    fitted = powers @ torch.linalg.lstsq(powers, truth.double()).solution
    assert (1 - (fitted - truth).var(0) / truth.double().var(0)).min() > 0.8


def test_one_number_redraws_worse_than_two():
    images, _ = bars(400)
    error = []
    for code in (1, 2):
        *_, step = train_autoencoder(images, Autoencoder(replace(SMALL, code=code)), AutoencoderTrainConfig(steps=300, batch=64, lr=5e-3))
        error.append(redraw_error(step.net, images))
    assert error[1] < 0.7 * error[0]


def test_codes_have_mean_zero_and_spread_one():
    images, _ = bars(500)
    *_, step = train_autoencoder(images, Autoencoder(SMALL), AutoencoderTrainConfig(steps=300, batch=250, lr=3e-3))
    codes = encode_all(step.net, images)
    assert_close(codes.mean(0), torch.zeros(2), atol=0.15, rtol=0)
    assert_close(codes.std(0), torch.ones(2), atol=0.15, rtol=0)


def test_bytes_and_floats_are_the_same_pictures():
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    config = AutoencoderTrainConfig(steps=3, batch=8)
    *_, a = train_autoencoder(images, Autoencoder(SMALL), config)
    *_, b = train_autoencoder(as_float(images), Autoencoder(SMALL), config)
    assert a.error == b.error
    assert_close(encode_all(a.net, images, batch=7), encode_all(b.net, as_float(images)))
    mean = float(((b.net.eval()(as_float(images)) - as_float(images)) / 2).square().mean().detach())
    assert redraw_error(a.net, images, batch=11) == pytest.approx(mean, rel=1e-5)


def test_focus_counts_the_middle_more_and_one_on_average():
    flat, sharp = pixel_weights(9, 0.0), pixel_weights(9, 2.0)
    assert torch.equal(flat, torch.ones(9, 9)) and sharp.mean() == pytest.approx(1)
    assert sharp[4, 4] == sharp.max() and sharp[0, 0] == pytest.approx(float(sharp[4, 4]) * math.exp(-4))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Autoencoder().encode(torch.zeros(2, 3, 28, 28)), r"\[batch, 1, 28, 28\].*\[2, 3, 28, 28\]"),
        (lambda: Autoencoder().decode(torch.zeros(2, 3)), r"\[batch, 2\].*\[2, 3\]"),
        (lambda: Autoencoder(AutoencoderConfig(code=0)), "at least 1"),
        (lambda: next(train_autoencoder(torch.zeros(1, 1, 28, 28), Autoencoder())), "two pictures"),
        (lambda: next(train_autoencoder(torch.zeros(9, 1, 28, 28), Autoencoder(), AutoencoderTrainConfig(sigma=0.0))), "sigma"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call, words):
    with pytest.raises(ShapeError, match=words):
        call()


def test_the_last_numbers_are_logits_of_ink():
    assert_close(as_pictures(torch.tensor([[0.0, 100, -100, math.log(3)]]), 1, 2).flatten(), torch.tensor([0.0, 1, -1, 0.5]))
    assert [type(layer).__name__ for layer in perceptron(2, 3, 4)] == ["Linear", "SiLU", "Linear"]
