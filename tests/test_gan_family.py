"""The GAN family: the idea of each member as a law, and what is shipped. The shared loop has its tests in `test_gan_train.py`."""

import math
from dataclasses import replace

import gan_family
import numpy as np
import pytest
import torch
from contract import first_broken
from torch.nn import functional as F

from dvlatent import checkpoint, load, normal
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import ShapeError
from dvlatent.gan.biggan import Attention, BigDiscriminator, BigGAN, ConditionalNorm, orthogonal_penalty, truncated_normal
from dvlatent.gan.dcgan import DCGAN, DCGANDiscriminator
from dvlatent.gan.progressive import EqualizedConv, ProgressiveDiscriminator, ProgressiveGAN, level_at, pixel_norm, whole_and_fade
from dvlatent.gan.stackgan import Caption, StackDiscriminator, StageOne, StageTwo, caption, tokens
from dvlatent.gan.train import TrainConfig, train
from dvlatent.metrics.latent import PathConfig, path_lengths, trimmed_mean

SMALL = (8, 8, 8)


def progressive(level):
    torch.manual_seed(0)
    nets = ProgressiveGAN(SMALL, z_dim=8), ProgressiveDiscriminator(SMALL)
    for net in nets:
        net.level.fill_(level)
    return nets


@pytest.mark.parametrize("shipped", [False, True])
def test_the_dcgan_is_the_published_one_at_half_its_width(shipped):
    """4 x 4 kernels, 64 px; at width 64 the generator of Radford et al. has 3,576,704 numbers that are learned."""
    generator = load("dcgan") if shipped else DCGAN().eval().requires_grad_(False)
    assert first_broken(generator) == "" and generator.width == 32
    assert sum(value.numel() for value in DCGAN(64).parameters()) == 3_576_704
    assert DCGANDiscriminator()(torch.zeros(2, 3, 64, 64)).shape == (2,)


def test_the_shipped_stylegan2_is_a_generator_whose_w_is_straighter_than_its_z():
    generator = load("stylegan2-64")
    assert first_broken(generator) == ""
    lengths = [trimmed_mean(path_lengths(generator, load("perceptual"), space, PathConfig(pairs=16))) for space in "wz"]
    assert lengths[0] < 0.6 * lengths[1]


@pytest.mark.parametrize("shipped", [False, True])
def test_progressive_gan_is_a_generator(shipped):
    assert first_broken(load("progressive") if shipped else progressive(2)[0].eval().requires_grad_(False)) == ""


@pytest.mark.parametrize(("images", "level"), [(0, 0), (1000, 0), (1500, 0.5), (2000, 1), (3000, 1), (3250, 1.25), (4000, 2), (9000, 2)])
def test_each_size_settles_and_the_next_fades_in(images, level):
    assert level_at(images, last=2, kimg=1) == level
    whole, fade = whole_and_fade(torch.tensor(float(level)))
    assert whole == math.ceil(level) and fade == (level % 1 or 1)


def test_a_new_size_begins_as_the_old_one_and_ends_as_its_own():
    """Figure 2: at fade 0 the doubled picture, at 1 the new one, half of each between; the discriminator alike."""
    small, half, large = (progressive(level) for level in (1, 1.5, 2))
    z, image = torch.randn(4, 8), torch.rand(4, 3, 16, 16) * 2 - 1
    raw = [torch.atanh(generator(z).double()) for generator, _ in (small, half, large)]
    assert [one.shape[-1] for one in raw] == [8, 16, 16]
    old = F.interpolate(raw[0], scale_factor=2)
    assert torch.allclose(raw[1], (old + raw[2]) / 2, atol=1e-4) and not torch.allclose(old, raw[2], atol=0.1)
    begun = progressive(1 + 1e-6)
    assert torch.allclose(torch.atanh(begun[0](z).double()), old, atol=1e-4)
    assert torch.allclose(begun[1](image), small[1](image), atol=1e-4)


def test_layers_start_alike_whatever_their_width():
    """Equalized: weights are stored at size one, the output of unit noise has variance two, which the leaky ReLU needs."""
    torch.manual_seed(0)
    for channels in (4, 256):
        layer = EqualizedConv(channels, 64, 3)
        assert layer(torch.randn(8, channels, 16, 16))[:, :, 1:-1, 1:-1].var().item() == pytest.approx(2, rel=0.25)
        assert layer.weight.std().item() == pytest.approx(1, rel=0.1)
    assert torch.allclose(pixel_norm(100 * torch.randn(2, 8, 3, 3)).square().mean(1), torch.ones(2, 3, 3))


def test_it_grows_inside_the_loop_and_stops_and_resumes(tmp_path):
    images, config = torch.rand(16, 3, 16, 16) * 2 - 1, TrainConfig(steps=5, batch=4)
    for resume in (None, tmp_path / "run.safetensors"):
        nets = progressive(0)
        for step in train(*nets, images, config, resume=resume):
            for net in nets:
                net.level.fill_(level_at(step.images, 2, 0.004))
            if resume is None and step.index == 1:
                step.save(tmp_path / "run.safetensors")
        if resume is None:
            first = step.ema(torch.ones(1, 8))
    assert first.shape[-1] == 16 and torch.equal(step.ema(torch.ones(1, 8)), first)


def test_conditional_norm_is_batch_norm_with_the_class_own_scale():
    torch.manual_seed(0)
    norm, x, condition = ConditionalNorm(3, 5), torch.randn(6, 3, 4, 4) * 7 + 2, torch.randn(6, 5)
    scale, shift = (one(condition)[:, :, None, None] for one in (norm.scale, norm.shift))
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    assert torch.allclose(norm(x, condition), (x - mean) / (var + 1e-5).sqrt() * (1 + scale) + shift, atol=1e-4)


def test_attention_is_the_loop_over_pixels_and_starts_as_nothing():
    torch.manual_seed(0)
    layer, x = Attention(8).eval(), torch.randn(1, 8, 3, 3)
    assert torch.equal(layer(x), x)
    layer.gate.data.fill_(1.0)
    query, key, value = (one(x)[0].flatten(1).T for one in (layer.query, layer.key, layer.value))  # [pixel, some]
    found = torch.stack([sum(w * v for w, v in zip((q @ key.T).softmax(0), value, strict=True)) for q in query])
    assert torch.allclose(layer(x), x + layer.out(found.T.view(1, -1, 3, 3)), atol=1e-5)


def test_orthogonal_filters_cost_nothing_and_equal_ones_what_the_sum_says():
    flat, tall = torch.nn.Linear(6, 3, bias=False), torch.nn.Linear(3, 6, bias=False)
    torch.nn.init.orthogonal_(flat.weight)
    assert orthogonal_penalty(flat, 1.0).item() == pytest.approx(0, abs=1e-5)
    for net in (flat, tall):
        net.weight.data.fill_(1.0)
        rows, columns = net.weight.shape
        assert orthogonal_penalty(net, 0.5).item() == pytest.approx(0.5 * rows * (rows - 1) * columns**2)


def test_truncated_numbers_keep_the_bell_inside_and_nothing_outside():
    z = truncated_normal(2000, 10, 0.5, torch.Generator().manual_seed(0))
    assert z.abs().max() <= 0.5 and z.std().item() == pytest.approx(0.28, abs=0.01)  # of a normal number cut at one half


def test_class_and_every_piece_of_z_are_heard_at_once():
    torch.manual_seed(0)
    generator, discriminator, z = BigGAN(8).eval(), BigDiscriminator(8).eval(), torch.randn(1, 64)
    first = generator(z, torch.tensor([3]))
    others = [z.clone() for _ in range(3)]
    for other, piece in zip(others, z.tensor_split(3, dim=1), strict=True):
        other[z == piece[0, 0]] += 3.0
    changed = [generator(z, torch.tensor([4])), *(generator(other, torch.tensor([3])) for other in others)]
    assert first.shape == (1, 1, 28, 28) and all((one - first).abs().max() > 1e-4 for one in changed)
    assert discriminator(first, torch.tensor([3])) != discriminator(first, torch.tensor([4]))


def test_captions_say_what_scores_say_and_unknown_words_are_refused():
    assert caption(20, 0.1, 1.0, -15) == "young woman smiling looks left" and caption(60, 0.9, 0.0, 0) == "old man serious looks ahead"
    assert tokens(["an old man", "man old"])[:, :2].tolist() == [[3, 5], [5, 3]]
    for wrong in ("a wise wizard", "old old old old old old"):
        with pytest.raises(ShapeError, match="say at most 5 of the words young"):
            tokens([wrong])


def test_a_caption_is_a_cloud_in_training_and_a_point_afterwards():
    torch.manual_seed(0)
    reader, said = Caption(4, augment=True), tokens(["old man"])
    assert torch.equal(*(reader(tokens([text])) for text in ("old man", "man old"))) is False  # drawn twice
    mean, log_variance = (one.detach() for one in reader.cloud(reader.words(said)).chunk(2, dim=1))
    reader(said)
    normal_pair = [torch.distributions.Normal(*one) for one in ((mean, (log_variance / 2).exp()), (torch.zeros(1), torch.ones(1)))]
    assert torch.allclose(reader.kl, torch.distributions.kl_divergence(*normal_pair).mean(), atol=1e-6)
    assert torch.equal(reader.eval()(said), mean)


def test_stage_two_keeps_stage_one_as_it_is_and_adds_to_its_picture():
    torch.manual_seed(0)
    one, said, images = StageOne(8), tokens(["old man", "young woman"] * 4), torch.rand(8, 3, 64, 64) * 2 - 1
    two, before = StageTwo(one, 8), [weight.clone() for weight in one.parameters()]
    config = TrainConfig(steps=2, batch=4, mismatched=True)
    discriminator = StackDiscriminator((8, 8, 8, 8), patch=2)
    *_, step = train(two, discriminator, images, config, labels=said, regularizer=lambda net: net.caption.kl)
    assert all(map(torch.equal, one.parameters(), before))
    z = normal(range(2), 64)
    with torch.no_grad():
        step.ema.to_image.weight.zero_(), step.ema.to_image.bias.zero_()
        alone, small = step.ema(z, said[:2]), one.eval()(z, said[:2])
    assert torch.allclose(alone, 0.99 * F.interpolate(small, scale_factor=4, mode="bilinear"), atol=1e-3)


def test_wrong_pairs_count_as_drawn_and_a_regularizer_as_loss():
    """One step on two networks of one weight: the losses by hand."""

    class Net(torch.nn.Module):
        z_dim = 1

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, label):
            return self.weight * x.flatten() * label

    config = TrainConfig(steps=1, batch=2, penalty=0, mismatched=True, lr=1.0, beta2=0.0)
    images, labels = torch.tensor([[2.0], [2.0]]), torch.tensor([3.0, 3.0])
    generator, discriminator = Net(), Net()
    generator.weight.data.fill_(0.0)  # draws zeros
    (step,) = train(generator, discriminator, images, config, labels=labels, regularizer=lambda net: 1e6 * net.weight)
    real = torch.tensor([6.0, 6.0])
    wrong = torch.cat([torch.zeros(2), real])
    assert step.discriminator_loss == pytest.approx((F.softplus(-real).mean() + F.softplus(wrong).mean()).item())
    assert step.fake_score == 3.0 and generator.weight.item() == pytest.approx(-1.0)  # Adam's first step, down the regularizer
    (plain,) = train(Net(), Net(), images, replace(config, mismatched=False), labels=labels)
    assert plain.discriminator_loss != step.discriminator_loss


def test_shipped_digits_are_the_classes_asked_for_and_truncation_trades_variety():
    generator, classifier = load("biggan"), load("digit-classifier")
    labels, right, spread = torch.arange(300) % 10, [], []
    for threshold in (0.3, 2.0):
        drawn = generator(truncated_normal(300, 64, threshold, torch.Generator().manual_seed(0)), labels)
        right.append((classifier(drawn).argmax(1) == labels).float().mean().item())
        spread.append(drawn.view(30, 10, -1).std(0).mean().item())
    assert min(right) > 0.93 and spread[0] < 0.5 * spread[1]


@pytest.mark.parametrize("member", ["progressive", "biggan", "stackgan"])
def test_the_recipe_trains_each_as_it_is_shipped(member, tmp_path, monkeypatch):
    faces = (torch.rand(24, 64, 64, 3) * 255 + 1).byte().numpy()
    np.save(tmp_path / "faces64.npy", faces)
    monkeypatch.setattr(gan_family, "COMPARED", 6)
    out = tmp_path / f"{member}.safetensors"
    gan_family.make(out, tmp_path, member, faces=24, steps=1)
    _, about = checkpoint.load(out, member)
    assert about["command"] == f"python recipes/gan_family.py --out {member}.safetensors --member {member} --faces 24 --steps 1"
    if (shipped := WEIGHTS / out.name).exists():
        shapes = [{name: value.shape for name, value in checkpoint.load(path, member)[0].items()} for path in (out, shipped)]
        assert shapes[0] == shapes[1]


def test_an_unknown_member_is_refused(tmp_path):
    with pytest.raises(ShapeError, match="no member 'dcgan': say --member progressive, biggan, stackgan"):
        gan_family.make(tmp_path / "a.safetensors", tmp_path, "dcgan")
