"""pix2pixHD and CycleGAN against their published sizes; the laws of the student, untrained and trained."""

import pytest
import torch
from torch import nn

from dvlatent.distillation.cyclegan import CycleGAN
from dvlatent.distillation.pix2pixhd import Enhanced, GlobalGenerator, LocalEnhancer, MultiscaleDiscriminator, StandardizedConv, Student
from dvlatent.errors import ShapeError


def count(net):
    return sum(weight.numel() for weight in net.parameters())


def learned(seed=0, **sizes):
    """A student whose weights have all moved."""
    torch.manual_seed(seed)
    student = Student(**{"width": 4, "blocks": 2, **sizes}).eval().requires_grad_(False)
    for weight in student.parameters():
        weight.add_(0.3 * torch.randn_like(weight))
    return student


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        assert count(GlobalGenerator()) == 182_443_267  # printed by the authors' code
        assert count(MultiscaleDiscriminator()) == 5_535_618
        assert count(GlobalGenerator(downs=2)) == 11_378_179  # CycleGAN's: "11.378 M" in its log
        assert count(MultiscaleDiscriminator(channels=3, scales=1)) == 2_764_737  # "2.765 M"
        assert count(CycleGAN()) == 2 * (11_378_179 + 2_764_737)


def test_published_generators_keep_the_size_and_the_range():
    image = noise(2, 3, 64, 96)
    for net in (GlobalGenerator(width=4, blocks=1), CycleGAN(4, 1, 4)):
        made = net(image)
        assert made.shape == image.shape and made.abs().max() <= 1


def test_discriminators_see_the_picture_at_both_scales():
    features = MultiscaleDiscriminator(7, width=4)(noise(2, 7, 64, 64))
    assert [len(layers) for layers in features] == [5, 5]
    assert [layers[-1].shape for layers in features] == [(2, 1, 11, 11), (2, 1, 7, 7)]  # as the authors' padding of 2 gives
    assert CycleGAN(4, 1, 4).discriminator_a(noise(1, 3, 256, 256))[-1].shape == (1, 1, 30, 30)  # Isola et al.: 30 x 30 patches


def test_strength_zero_gives_the_photo_back_bit_for_bit():
    image = noise(2, 3, 32, 40)
    assert torch.equal(learned()(image, torch.zeros(2)), image)


def test_a_new_student_is_gentle_and_a_learned_one_is_not():
    torch.manual_seed(0)
    image = noise(1, 3, 64, 64)
    assert (Student()(image, torch.tensor([2.0])) - image).abs().mean() < 0.3
    assert (learned()(image, torch.tensor([2.0])) - image).abs().mean() > 0.05


@pytest.mark.parametrize("height, width", [(8, 8), (33, 50), (1, 7)])
def test_sides_may_have_any_length(height, width):
    assert learned()(noise(1, 3, height, width), torch.ones(1)).shape == (1, 3, height, width)


def test_padding_changes_only_what_is_near_it():
    student, image = learned(blocks=1), noise(1, 3, 96, 96)
    whole, cut = student.change(image, torch.ones(1)), student.change(image[..., :93, :93], torch.ones(1))
    assert torch.allclose(whole[..., :16, :16], cut[..., :16, :16], atol=1e-5)


def test_each_picture_has_its_own_strength_and_no_other_picture_matters():
    """Nothing is averaged over a batch, so a filter answers alike alone and in company."""
    student, image = learned(), noise(3, 3, 32, 32)
    batch = student(image, torch.tensor([-2.0, 0.5, 2.0]))
    for at, strength in enumerate((-2.0, 0.5, 2.0)):
        assert torch.allclose(batch[at : at + 1], student(image[at : at + 1], torch.tensor([strength])), atol=1e-4)


def test_no_layer_measures_its_activations():
    """Instance norm is what makes blobs: one bright spot would change the scale of everything else."""
    assert not any(isinstance(layer, nn.modules.batchnorm._NormBase) for layer in Student().modules())
    student, image = learned(blocks=1), noise(1, 3, 128, 128)
    spot = image.clone()
    spot[..., :4, :4] = 1
    far = (student(image, torch.ones(1)) - student(spot, torch.ones(1)))[..., 80:, 80:]
    assert torch.equal(far, torch.zeros_like(far))


def test_standardized_weights_are_what_they_say():
    for transposed, kernel in ((False, 3), (True, 4)):
        conv = StandardizedConv(6, 5, kernel, stride=2 if transposed else 1, transposed=transposed, gain=2.0)
        with torch.no_grad():
            conv.weight.mul_(7).add_(3)  # whatever training does
        weights = conv.standardized().transpose(0, 1) if transposed else conv.standardized()
        assert torch.allclose(weights.flatten(1).mean(1), torch.zeros(5), atol=1e-6)
        assert torch.allclose(weights.flatten(1).var(1, unbiased=False) * conv.inputs, torch.full((5,), 4.0), rtol=1e-3)


def test_the_folded_student_is_the_same_and_ordinary():
    student, image = learned(), noise(2, 3, 40, 32)
    folded = student.folded()
    assert not any(isinstance(layer, StandardizedConv) for layer in folded.modules())
    assert torch.allclose(folded(image, torch.tensor([1.0, -2.0])), student(image, torch.tensor([1.0, -2.0])), atol=1e-5)


def test_a_cyclegan_has_a_sign_and_no_dial():
    net, image = CycleGAN(4, 1, 4).eval(), noise(3, 3, 16, 16)
    made = net(image, torch.tensor([2.0, 0.0, -0.1]))
    assert torch.allclose(made[:1], net.there(image[:1])) and torch.allclose(made[2:], net.back(image[2:]))
    assert torch.equal(made[1], image[1])


def test_students_refuse_what_is_no_picture():
    student = learned()
    for image in (noise(3, 8, 8), noise(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match="a filter takes pictures"):
            student(image, torch.ones(1))
    with pytest.raises(ShapeError, match="one strength for each of 2"):
        student.change(noise(2, 3, 8, 8), torch.ones(3))


def test_an_amplified_student_changes_as_much_more():
    torch.manual_seed(0)
    student = Student(width=4, blocks=1).eval()
    photo, strength = torch.rand(1, 3, 32, 32) - 0.5, torch.tensor([1.0])
    once = student.change(photo, strength)
    student.amplify(1.3)
    assert torch.allclose(student.change(photo, strength), 1.3 * once, atol=1e-6) and once.abs().max() > 0
    assert torch.equal(student(photo, torch.zeros(1)), photo)


def test_an_enhancer_sees_what_the_student_adds_and_starts_from_it():
    """Without its own lines, the large picture is the small one's change, enlarged; with strength 0 it is the picture."""
    torch.manual_seed(0)
    student, enhancer = Student(width=4, downs=3, blocks=1).eval(), LocalEnhancer(width=4, blocks=1).eval()
    faces, strength = 0.5 * torch.rand(2, 3, 64, 64) - 0.25, torch.tensor([2.0, -1.0])
    both = Enhanced(student, enhancer).eval()
    assert torch.equal(both(faces, torch.zeros(2)), faces)
    torch.testing.assert_close(both.folded()(faces, strength), both(faces, strength))
    with torch.no_grad():
        enhancer.out.gain.zero_()
        dial = strength.view(-1, 1, 1, 1)
        change = student.change(torch.nn.functional.avg_pool2d(faces, 2), dial)
    enlarged = torch.nn.functional.interpolate(change, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(both(faces, strength), faces + dial / 2 * enlarged)


def test_the_enhancer_may_add_less_toward_minus():
    enhancer, faces = LocalEnhancer(width=4, blocks=1).eval().requires_grad_(False), 0.5 * noise(1, 3, 64, 64)
    change, whole = 0.1 * noise(1, 3, 32, 32, seed=1), {}
    for own in (0.0, 1.0):
        enhancer.own.copy_(torch.tensor([own, 1.0]))
        whole[own] = [enhancer(faces, change, torch.tensor(dial).view(1, 1, 1, 1)) for dial in (-1.0, 1.0)]
    smooth = torch.nn.functional.interpolate(change, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(whole[0.0][0], faces - smooth)
    assert torch.equal(whole[0.0][1], whole[1.0][1]) and not torch.equal(whole[0.0][0], whole[1.0][0])
