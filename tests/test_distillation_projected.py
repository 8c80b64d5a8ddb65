"""The projected discriminator: shapes, bounded gradients, and that it learns to tell lines from no lines."""

import torch

from dvlatent.distillation.projected import ProjectedDiscriminator, hinge_discriminator, hinge_generator

CHANNELS = (4, 6)


def features(seed, count=3, shift=0.0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, side, side, generator=rng) + shift for channels, side in zip(CHANNELS, (32, 16), strict=True)]


def test_one_verdict_for_every_patch_of_every_stage():
    discriminator = ProjectedDiscriminator(CHANNELS, downs=(2, 1), width=8)
    verdicts = discriminator(features(0), features(1), torch.ones(3))
    assert [list(one.shape) for one in verdicts] == [[3, 1, 8, 8], [3, 1, 8, 8]]


def test_the_answer_depends_on_question_answer_and_strength():
    discriminator = ProjectedDiscriminator(CHANNELS, downs=(2, 1), width=8).eval()
    base = discriminator(features(0), features(1), torch.ones(3))
    for other in (
        discriminator(features(2), features(1), torch.ones(3)),
        discriminator(features(0), features(2), torch.ones(3)),
        discriminator(features(0), features(1), -torch.ones(3)),
    ):
        assert all((a - b).abs().max() > 1e-4 for a, b in zip(base, other, strict=True))


def test_hinge_losses_are_their_formulas():
    real, made = [torch.tensor([2.0, 0.0])], [torch.tensor([-2.0, 0.5])]
    assert hinge_discriminator(real, made) == 0.5 + 0.75
    assert hinge_generator(made) == 0.75


def test_it_learns_and_its_gradient_says_where_to_go():
    torch.manual_seed(0)
    discriminator = ProjectedDiscriminator(CHANNELS, downs=(2, 1), width=8)
    adam = torch.optim.Adam(discriminator.parameters(), 3e-3, (0.0, 0.99))
    for step in range(60):
        question, strength = features(3 * step), torch.ones(3)
        real, made = (discriminator(question, features(3 * step + n, shift=s), strength) for n, s in ((1, 0.5), (2, -0.5)))
        loss = hinge_discriminator(real, made)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 1.2  # 2 is a guess
    answer = [one.requires_grad_() for one in features(900, shift=-0.5)]
    gradients = torch.autograd.grad(hinge_generator(discriminator(features(901), answer, torch.ones(3))), answer)
    assert all(gradient.mean() < 0 for gradient in gradients)  # larger features would be believed
