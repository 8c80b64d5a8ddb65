"""The morph slider without a browser: its frames, its words, and what it refuses. In a real JupyterLab: test_lessons_lab.py."""

import base64
import html
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from test_lessons_lab import browser  # noqa: F401  (fixture)

from dvlatent.errors import ShapeError
from dvlatent.lessons.morph import render, slider


class Hue:
    z_dim, w_dim, num_layers, resolution, w_mean = 3, 3, 2, 32, torch.zeros(3)
    mapping = staticmethod(lambda z: z)
    synthesis = staticmethod(lambda ws: ws.mean(1)[:, :, None, None].expand(-1, -1, 32, 32))


class WithPreview(Hue):
    preview = staticmethod(lambda ws: torch.ones(len(ws), 3, 16, 16))


A, B = torch.tensor([-1.0, -1, -1]), torch.tensor([1.0, 1, 1])


def color(picture):
    return np.asarray(Pillow.open(io.BytesIO(picture))).reshape(-1, 3).mean(0)


def test_the_frames_go_evenly_from_one_face_to_the_other():
    gray = [color(picture).mean() for picture in render(Hue(), A, B, frames=5)]
    np.testing.assert_allclose(gray, [0, 64, 128, 191, 255], atol=1.5)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 2, 3)])
def test_a_face_may_be_w_or_ws(shape):
    pictures = list(render(Hue(), A.expand(shape), B.expand(shape), frames=2))
    assert color(pictures[0]).mean() < 2 and color(pictures[1]).mean() > 253


def test_a_preview_is_used_where_there_is_one_and_large_faces_shrink():
    assert Pillow.open(io.BytesIO(next(render(WithPreview(), A, B)))).size == (16, 16)
    assert Pillow.open(io.BytesIO(next(render(Hue(), A, B, size_px=8)))).size == (8, 8)


@pytest.mark.parametrize("latent", [torch.zeros(2, 3), torch.zeros(4), torch.zeros(1, 3, 3), torch.zeros(2, 2, 3)])
def test_what_is_not_one_face_is_refused(latent):
    with pytest.raises(ShapeError, match="from one face to one other"):
        render(Hue(), A, latent)


def test_one_frame_is_no_morph():
    with pytest.raises(ShapeError, match="at least two frames"):
        render(Hue(), A, B, frames=1)


def test_every_frame_and_its_words_lie_in_the_page_and_names_are_text():
    pictures = list(render(Hue(), A, B, frames=5))
    page = slider(pictures, names=("Ada", "<b onclick='x'>Grace\""))
    words = [html.unescape(alt) for alt in re.findall(r' alt="([^"]*)"', page)]
    assert words[0] == "This is Ada." and words[1] == "25% of the way from Ada to <b onclick='x'>Grace\"." and len(words) == 5
    sources = re.findall(r"base64,([^\"]+)", page)
    assert [base64.b64decode(source) for source in sources] == pictures
    assert "<b" not in page.replace("<br>", "") and page.count("display: block;") == 1 and 'max="4"' in page


def test_on_a_page_without_a_kernel_the_slider_moves_and_has_a_name(browser, tmp_path):  # noqa: F811
    (tmp_path / "page.html").write_text(slider(list(render(Hue(), A, B, frames=5)), names=("Ada", "Grace")))
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    dial, seen = page.get_by_role("slider", name="Ada to Grace"), []
    dial.focus()
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        assert page.locator("output").inner_text() == page.locator("img:visible").get_attribute("alt")
        seen.append((dial.get_attribute("aria-valuetext"), color(page.locator("img:visible").screenshot(type="jpeg")).mean()))
    assert [words for words, _ in seen] == ["This is Ada.", "25% of the way from Ada to Grace.", "This is Grace."]
    np.testing.assert_allclose([gray for _, gray in seen], [0, 64, 255], atol=3)
    context.close()
