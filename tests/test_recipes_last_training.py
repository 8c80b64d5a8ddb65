"""A filter's last training: what is put back into a pair, why a pair is refused, and that it goes on after a stop."""

import last_training as recipe
import torch

from dvlatent import load
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.metrics.edits import chroma_shift

TINY = recipe.LastConfig(steps=4, batch=2, adversarial=[[1, 0.1]], bf16=False)


class Drawings:
    """Four pairs of 64 px: the picture after is darker."""

    def __len__(self):
        return 4

    def batch(self, indices):
        before = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))[indices]
        return before, before - 0.2, torch.full((len(indices),), 2.0)


def halves():
    """A gray-green picture whose upper half is hair and whose lower half is skin, with a border of background, and its masks."""
    before = torch.tensor([0.1, 0.2, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 128, 128)
    parts = torch.zeros(1, 6, 128, 128)
    parts[:, 0] = 1
    parts[:, 0, 32:96, 32:96] = 0
    parts[:, 2, 32:64, 32:96] = parts[:, 1, 64:96, 32:96] = 1
    return before, parts


def test_mending_puts_back_background_skin_color_and_hair_color():
    before, parts = halves()
    after = (before + torch.tensor([0.2, 0.0, -0.1]).view(1, 3, 1, 1)).clamp(-1, 1)
    mended = recipe.mend(before, after, parts, parts)
    assert torch.equal(mended[:, :, :16], before[:, :, :16])  # far from the face
    torch.testing.assert_close(mended[:, :, 74:86, 42:86], before[:, :, 74:86, 42:86], atol=0.01, rtol=0)  # skin of one color
    assert chroma_shift(before, after, parts[:, 2]) > 5 and chroma_shift(before, mended, parts[:, 2]) < 0.5


def test_hair_may_be_put_back_with_the_background():
    before, parts = halves()
    mended = recipe.mend(before, before + 0.3, parts, parts, (), hair=True)
    assert torch.equal(mended[:, :, :62], before[:, :, :62]) and (mended - before)[:, :, 80:90, 50:80].min() > 0.2


def test_eyes_keep_their_hue_and_take_the_new_light():
    before, parts = halves()
    parts[:, recipe.EYES, 70:90, 40:80] = 1
    blue = before + torch.tensor([-0.3, -0.1, 0.5]).view(1, 3, 1, 1)
    mended = recipe.mend(before, blue, parts, parts, ())
    was, eye, cheek = ((one[0] + 1)[:, rows, 60] / 2 for one, rows in ((before, 80), (mended, 80), (mended, 66)))
    assert was[1] > was[2] and eye[1] > eye[2] and cheek[2] > cheek[1]  # green, still green, and blue outside
    light = torch.tensor(recipe.LUMINANCE)
    torch.testing.assert_close(light @ eye, light @ ((blue[0] + 1)[:, 80, 60] / 2), atol=1e-4, rtol=0)


def test_the_loss_of_fine_patterns_sees_a_weave_and_a_blur():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    plain, weave = torch.zeros(1, 3, 64, 64), (0.2 * (-1) ** (x + y)).expand(1, 3, 64, 64)
    wave = torch.sin(0.3 * x).expand(1, 3, 64, 64)
    pores = 0.2 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(pores, 5, 1, 2)
    away = lambda a, b: float((recipe.fine_energy(a) - recipe.fine_energy(b)).abs().mean())  # noqa: E731
    assert away(plain + weave, plain) > 0.02 and away(pores, soft) > 0.02
    assert away(pores, pores.flip(-1)) < 0.5 * away(pores, soft)  # other pores are as good
    assert away(wave, wave + 0.3) < 1e-4  # another color is another loss's matter


def test_a_pair_is_refused_for_the_first_rule_that_it_breaks():
    names = ("smile", "mouth_open", "eyes_open", "yaw", "pitch", "roll", "glasses")
    young = {**dict.fromkeys(names, 0.0), "age": 30.0, "male": 0.1, "finder_male": 0.1}
    young |= {"person": torch.zeros(128), "detail": 1.0}
    old, age, smile = {**young, "age": 50.0, "detail": 1.2}, recipe.PLANS["age"], recipe.PLANS["smile"]
    assert recipe.refuse(age, young, old, 2.0) == ""
    assert recipe.refuse(age, young, {**old, "age": 32.0, "male": 0.9}, 2.0) == "age did not move"
    assert recipe.refuse(age, young, {**old, "person": torch.ones(128)}, 2.0) == "another person"
    assert recipe.refuse(age, young, {**old, "male": 0.9}, 2.0) == "male changed"
    assert recipe.refuse(age, young, {**old, "glasses": 0.5}, 2.0) == "glasses changed"
    assert recipe.refuse(age, young, {**old, "detail": 0.9}, 2.0) == "no finer"
    assert recipe.refuse(age, old, young, -2.0) == ""
    assert recipe.refuse(age, old, {**young, "age": 49.0}, -2.0) == "age did not move"
    assert recipe.refuse(smile, young, {**young, "smile": 0.5, "detail": 0.9}, 2.0) == ""
    assert recipe.refuse(smile, young, {**young, "smile": 0.5, "age": 45.0}, 2.0) == "age changed"


def test_strengths_are_a_matter_of_the_seed():
    drawn = [recipe.strengths(seed) for seed in range(50)]
    assert drawn == [recipe.strengths(seed) for seed in range(50)]
    assert all(0.4 <= older <= 2 and -2 <= younger <= -0.4 for older, younger in drawn)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    perceptual = load("perceptual")

    def trained(config, run):
        torch.manual_seed(0)
        steps = list(recipe.train(Student(width=4, blocks=1), Drawings(), perceptual, config, run))
        return steps[-1]

    whole = trained(TINY, tmp_path / "a.safetensors")
    assert {"pixel", "perceptual", "coarse", "fine", "adversarial", "discriminator"} == set(whole.losses)
    assert all(torch.isfinite(weight).all() for weight in whole.ema.parameters())
    torch.manual_seed(0)
    running = recipe.train(Student(width=4, blocks=1), Drawings(), perceptual, TINY, tmp_path / "b.safetensors", keep_every=2)
    assert [next(running).index for _ in range(3)] == [0, 1, 2]
    running.close()
    again = trained(TINY, tmp_path / "b.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(whole.ema.parameters(), again.ema.parameters(), strict=True))


def test_gray_photos_stay_gray():
    gray = torch.rand(2, 1, 32, 32).repeat(1, 3, 1, 1)
    found = recipe.recolor(gray, torch.rand(2, 6))
    torch.testing.assert_close(found, found[:, :1].expand(-1, 3, -1, -1))
