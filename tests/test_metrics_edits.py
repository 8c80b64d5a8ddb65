"""What edits do to skin, hair and background: numbers on pictures whose truth is known."""

import numpy as np
import pytest
import torch
from skimage import color

from dvlatent.errors import ShapeError
from dvlatent.metrics.edits import background_change, chroma_shift, lab, low_pass, measure, skin_color, skin_detail, skin_shift


def picture(count=2, seed=0):
    """Smooth pictures in the color of skin, [count, 3, 256, 256]."""
    waves = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(waves, size=(256, 256), mode="bicubic")
    return torch.tensor([0.5, 0.1, -0.1])[:, None, None] + 0.05 * smooth


def lines(strength, period=6):
    """Wrinkles: thin horizontal lines, [1, 3, 256, 256]."""
    rows = (torch.arange(256) % period == 0).float()[:, None]
    return -strength * rows.expand(1, 3, 256, 256)


def test_lab_is_that_of_scikit_image():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    theirs = color.rgb2lab(((image[0] + 1) / 2).permute(1, 2, 0).numpy())
    np.testing.assert_allclose(lab(image)[0].permute(1, 2, 0), theirs, atol=0.02)


def test_detail_grows_with_lines_and_not_with_light_or_color():
    before = picture()
    finer = [skin_detail(before + lines(strength)) / skin_detail(before) for strength in (0.02, 0.05, 0.1)]
    assert 1 < finer[0].min() and (finer[0] < finer[1]).all() and (finer[1] < finer[2]).all()
    torch.testing.assert_close(skin_detail(before + 0.1), skin_detail(before))


def test_detail_looks_at_the_skin_alone():
    before, after = picture(), picture()
    after[:, :, 118:136, 92:164] += lines(0.5)[:, :, 118:136, 92:164]  # the eyes
    after[:, :, 180:215, 96:160] += lines(0.5)[:, :, 180:215, 96:160]  # the mouth
    torch.testing.assert_close(skin_detail(after), skin_detail(before))


def test_skin_shift_is_delta_e():
    before = picture()
    assert skin_shift(before, before).max() == 0
    lighter = before + 0.1
    expected = (skin_color(lighter) - skin_color(before)).norm(dim=1)
    torch.testing.assert_close(skin_shift(before, lighter), expected)
    assert skin_shift(before, before + lines(0.02)).max() < 2 < skin_shift(before, before + torch.tensor([0.2, 0, 0])[:, None, None]).min()


def test_gray_hair_has_less_chroma_and_red_hair_more():
    before, hair = picture(), torch.zeros(2, 256, 256)
    hair[:, :60] = 1
    gray = before.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert chroma_shift(before, gray, hair).max() < -5
    assert chroma_shift(before, before + torch.tensor([0.3, 0, 0])[:, None, None], hair).min() > 5
    assert chroma_shift(before, gray, torch.zeros(2, 256, 256)).isnan().all()


def test_background_change_counts_only_outside():
    before, subject = picture(), torch.zeros(2, 256, 256)
    subject[:, 64:192, 64:192] = 1
    inside, outside = before.clone(), before.clone()
    inside[:, :, 64:192, 64:192] += 0.2
    outside[:, :, :32] += 2 / 127.5
    assert background_change(before, inside, subject).max() == 0
    torch.testing.assert_close(background_change(before, outside, subject), torch.full((2,), 2 * 32 * 256 / (256**2 - 128**2)))


def test_low_pass_keeps_colors_and_drops_lines():
    before = picture()
    tinted = before + torch.tensor([0.1, 0, 0])[:, None, None]
    torch.testing.assert_close(low_pass(before, tinted), tinted, atol=1e-4, rtol=0)
    wrinkled = before + lines(0.1)
    rest = skin_detail(low_pass(before, wrinkled)) - skin_detail(before)
    assert (rest < 0.1 * (skin_detail(wrinkled) - skin_detail(before))).all()


def test_pictures_that_are_not_faces_are_refused():
    with pytest.raises(ShapeError, match="aligned"):
        skin_detail(torch.zeros(1, 3, 64, 32))


class Darkness(torch.nn.Module):
    """Older the darker a picture is; a man the redder it is."""

    names = ("age", "male")

    def forward(self, image):
        return torch.stack([-100 * image.mean(dim=(1, 2, 3)), (image[:, 0].mean(dim=(1, 2)) > 0.7).float()], dim=1)


class Halves(torch.nn.Module):
    """Above: hair; in the middle: skin; below: neither."""

    names = ("rest", "skin", "hair")

    def forward(self, image):
        rows = torch.arange(256)[:, None].expand(-1, 256)
        return torch.stack([rows >= 200, (rows >= 60) & (rows < 200), rows < 60]).float().expand(len(image), -1, -1, -1)


def test_an_edit_whose_effects_are_known_is_measured():
    before = picture(10)
    after = before - 0.1  # ten years for everybody, and nothing that a blur takes away
    after[:3] += torch.tensor([0.6, -0.3, -0.3])[:, None, None]  # three of ten turn red, and another person
    found = measure(before, after, Halves(), {"reader": Darkness()}, lambda image: image.mean(dim=(2, 3)) * 2)
    values = {name: one.value for name, one in found.items()}
    assert values["age by reader"] == pytest.approx(10, abs=0.01) and values["without_lines"] == pytest.approx(1, abs=0.01)
    assert values["same_person"] == pytest.approx(0.7) and values["gender_flips"] == pytest.approx(0.3)
    assert values["background"] == pytest.approx(127.5 * (0.7 * 0.1 + 0.3 * (0.5 + 0.4 + 0.4) / 3), abs=0.01)
    assert found["same_person"].low < 0.7 < found["same_person"].high and found["same_person"].samples == 10
