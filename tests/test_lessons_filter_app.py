"""The filter's widget: in the kernel alone, and in JupyterLab, where a person ages the astronaut."""

import io
import re

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image as Pillow
from skimage import data
from test_lessons_lab import browser, lab, opened, wait  # noqa: F401  (fixtures)
from torch.testing import assert_close

from dvlatent import images
from dvlatent.distillation.filter import Filter
from dvlatent.lessons.filter_app import filter_app

NOTEBOOK = """\
import dvlatent
from dvlatent import images
from dvlatent.lessons.filter_app import filter_app
from skimage.data import astronaut
app = filter_app(dvlatent.load("age-filter"), images.from_uint8(astronaut()))
app"""


def lighter(image, strength):
    """A filter that anybody can check: every pixel a little lighter."""
    return image + 0.1 * strength.view(-1, 1, 1, 1)


@pytest.fixture
def app(aligner):
    return filter_app({"light": Filter(lighter, "light", -2, 2, 64, aligner)}, images.from_uint8(data.astronaut()))


def shown(file):
    return np.asarray(Pillow.open(io.BytesIO(bytes(file)))).astype(int)


def test_a_dial_edits_the_photo_and_zero_gives_it_back(app):
    assert bytes(app._after) == bytes(app._before)
    app.strengths = {"light": 2.0}
    change = shown(app._after) - shown(app._before)
    assert change[90:130, 200:250].mean() > 15 and abs(change[400:]).max() < 12  # her face; the suit but for JPEG
    assert app.words == "light +2.0"
    app.strengths = {"light": 0.0}
    assert bytes(app._after) == bytes(app._before)
    assert_close(app.result, images.from_uint8(data.astronaut()))


def test_a_file_from_the_page_is_read_like_any_other(app):
    buffer = io.BytesIO()
    Pillow.fromarray(data.astronaut()[:, ::-1]).resize((1200, 1200)).save(buffer, "PNG")
    app._given = buffer.getvalue()
    assert shown(app._before).shape == (900, 900, 3)  # large photos are shown smaller


@pytest.mark.parametrize(("file", "words"), [(b"no picture", "picture"), (b"", "empty")])
def test_what_is_no_photo_is_said_in_words_and_the_old_one_stays(app, file, words):
    before = bytes(app._before)
    app._take(file)
    assert words in app.words and bytes(app._before) == before


def test_no_face_is_said_in_words(app):
    app._show(torch.zeros(1, 3, 200, 200))
    app.strengths = {"light": 1.0}
    assert "no face" in app.words


def test_in_jupyterlab_a_dial_ages_the_astronaut(browser, lab):  # noqa: F811
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=[new_code_cell(NOTEBOOK)], metadata={"kernelspec": kernel}), lab[1] / "filter.ipynb")
    page, complaints = opened(browser, lab, "filter.ipynb", 120, ".dvapp-dial input")
    after = page.locator(".dvapp-after")
    wait(lambda: after.evaluate("image => image.complete && image.naturalWidth > 0"), 60, lambda: "no picture")
    before = after.get_attribute("src")
    page.locator(".dvapp-dial input").press("End")
    wait(lambda: after.get_attribute("src") != before, 60, lambda: page.locator(".dvapp [role=status]").inner_text())
    page.get_by_text(re.compile(r"^age \+2\.0$")).wait_for(timeout=20_000)
    assert not [words for words in complaints if re.search(r"widget|Uncaught", words, re.IGNORECASE)], complaints
    page.close()
