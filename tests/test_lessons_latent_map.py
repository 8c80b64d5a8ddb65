"""The latent map in a real browser: from a file alone, offline, by mouse and by keyboard; and in JupyterLab."""

import base64
import io
import re
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image as Pillow
from test_lessons_lab import browser, lab, opened  # noqa: F401  (fixtures)
from torch import nn
from torch.testing import assert_close

from dvlatent.autoencoder.model import perceptron
from dvlatent.errors import ShapeError
from dvlatent.lessons.latent_map import latent_map, pack, still

PLANE, PICTURE = ".dvmap-plane", "canvas.dvmap-picture"
NOTEBOOK = """\
import torch
from dvlatent.autoencoder.model import perceptron
from dvlatent.lessons.latent_map import latent_map
torch.manual_seed(0)
map_ = latent_map(perceptron(2, 16, 64), torch.randn(40, 2), torch.rand(40, 1, 8, 8), torch.arange(40) % 10, title="A small map")
map_"""
ASK = "print('code', *[f'{number:.2f}' for number in map_.code])"


def small(channels=1, side=12, count=60, hidden=(24, 32)):
    """A decoder that nobody trained, loud enough to be seen, and pictures at random places."""
    torch.manual_seed(0)
    decoder = perceptron(2, *hidden, channels * side**2)
    with torch.no_grad():
        for layer in decoder[::2]:
            layer.weight.mul_(3)
    return decoder, torch.randn(count, 2), 2 * torch.rand(count, channels, side, side) - 1, torch.arange(count) % 10


def unpacked(layers, code):
    """What the page computes, slowly, from the text alone."""
    x = np.asarray(code, dtype=np.float64)
    for at, layer in enumerate(layers):
        whole = np.frombuffer(base64.b64decode(layer["weight"]), f"<i{layer['bits'] // 8}").reshape(layer["outputs"], layer["inputs"])
        scale, bias = (np.frombuffer(base64.b64decode(layer[name]), "<f4") for name in ("scale", "bias"))
        x = (whole * scale[:, None]) @ x + bias
        x = 1 / (1 + np.exp(-x)) * (1 if at == len(layers) - 1 else x)
    return x


@pytest.fixture(scope="module")
def page_of(browser, tmp_path_factory):  # noqa: F811
    """Opens a widget as a page of its own, from a file, with no network; gives the page and what the browser complained about."""
    contexts = []

    def open_page(widget, style="", **options):
        file = tmp_path_factory.mktemp("page") / "map.html"
        head = "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>A page</title>"
        file.write_text(f"{head}<body style='{style}'>{widget.page()}</body></html>", encoding="utf-8")
        for earlier in contexts[:-1]:
            earlier.close()
        del contexts[:-1]
        context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900}, **options)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        page.goto(file.as_uri())
        page.wait_for_selector(PLANE)
        contexts.append(context)
        return page, complaints

    yield open_page
    for context in contexts:
        context.close()


def pixels(page, selector=PICTURE):
    """The canvas as numbers: [height, width, 4]."""
    text = page.eval_on_selector(selector, "canvas => canvas.toDataURL()").split(",")[1]
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(text))).convert("RGBA")).astype(int)


def drag(page, start, end, steps=10):
    """Drag over the plane; start and end are fractions of its width and height."""
    box = page.locator(PLANE).bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=steps)
    page.mouse.up()


def code(page):
    numbers = re.findall(r"[−-]?\d+\.\d+", page.locator(".dvmap-where b").inner_text())
    return np.array([float(number.replace("−", "-")) for number in numbers])


# Without a browser


def test_the_text_decodes_to_what_torch_decodes():
    decoder, codes, _, _ = small()
    with torch.no_grad():
        ink = torch.sigmoid(decoder(codes)).double()
    text = torch.from_numpy(np.stack([unpacked(pack(decoder), code) for code in codes.numpy()]))
    assert_close(text, ink, atol=3 / 255, rtol=0)
    assert (text - ink).abs().mean() < 0.5 / 255


def test_the_page_is_the_same_for_the_same_map_and_asks_for_nothing():
    decoder, codes, images, labels = small()
    page = latent_map(decoder, codes, images, labels).page()
    assert page == latent_map(decoder, codes, images, labels).page()
    assert not re.search(r"https?:|\bimport\b|<link|src=", page)


def test_the_notebook_gets_both_the_widget_and_the_page():
    data, _ = latent_map(*small())._repr_mimebundle_()
    assert set(data) == {"text/plain", "application/vnd.jupyter.widget-view+json", "text/html"}


@pytest.mark.parametrize("own, kept, lost", [("<b>moves alone</b>", "moves alone", "something to"), (None, "something to", "alone")])
def test_an_exported_lesson_keeps_a_widget_that_needs_no_kernel(own, kept, lost, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "notebooks")
    from pages import lesson_page

    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "a map", **({"text/html": own} if own else {})}
    cell = new_code_cell("map_", outputs=[new_output("display_data", data=data)])
    page = lesson_page(new_notebook(cells=[new_markdown_cell("# 42 · A map?"), cell]))
    assert kept in page and lost not in page


def test_thumbnails_do_not_overlap_and_stay_inside():
    decoder, codes, images, labels = small(count=400)
    data = latent_map(decoder, codes, images, labels, thumbs=1000)._data
    shown = np.frombuffer(base64.b64decode(data["codes"]), "<f4").reshape(-1, 2)[: data["thumbs"]]
    gap = np.abs(shown[:, None] - shown[None]).max(axis=2) + 9 * np.eye(len(shown))
    left, right, bottom, top = data["window"]
    assert 50 < len(shown) < 400 and gap.min() >= 0.9 * data["thumb"] and right - left == pytest.approx(top - bottom, abs=1e-3)
    assert (shown > (left, bottom)).all() and (shown < (right, top)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_still_picture_shows_data_and_decoder(channels):
    fig = still(*small(channels), count=4)
    titles = [axes.get_title(loc="left") for axes in fig.axes]
    assert len(titles) == 2 and all(titles) and len(fig.axes[0].images) > 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder": perceptron(3, 8, 144)}, "begin with 2"),
        ({"decoder": nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 144))}, "Linear, ReLU, Linear"),
        ({"decoder": perceptron(2, 8, 100)}, "100 numbers.*144"),
        ({"codes": torch.zeros(59, 2)}, r"\[59, 2\]"),
        ({"labels": torch.arange(60)}, "0 to 9"),
    ],
)
def test_what_no_page_can_show_is_refused_in_words(change, words):
    decoder, codes, images, labels = small()
    with pytest.raises(ShapeError, match=words):
        latent_map(**{"decoder": decoder, "codes": codes, "images": images, "labels": labels, **change})


# In a browser


@pytest.mark.parametrize("channels", [1, 3])
def test_dragging_shows_what_torch_decodes_there(page_of, channels):
    decoder, codes, images, labels = small(channels, side=10)
    page, complaints = page_of(latent_map(decoder, codes, images, labels))
    before, (left, right, bottom, top) = pixels(page), latent_map(decoder, codes, images, labels)._data["window"]
    drag(page, (0.5, 0.5), (0.8, 0.3))
    assert_close(code(page), np.array([left + 0.8 * (right - left), top - 0.3 * (top - bottom)]), atol=0.02, rtol=0)
    assert (pixels(page) != before).mean() > 0.3
    page.keyboard.press("Home")  # to a place that is known exactly
    with torch.no_grad():
        center = torch.tensor([[(left + right) / 2, (bottom + top) / 2]])
        ink = torch.sigmoid(decoder(center)).view(channels, 10, 10).permute(1, 2, 0).numpy()
    shown = pixels(page)[15::30, 15::30, :channels] / 255  # the middles of 10 x 10 cells of 30 pixels
    expected = ink if channels == 3 else 1 - ink * (255 - 0x1D) / 255  # ink on paper
    assert np.abs(shown - expected).mean() < 0.05 and np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.99  # smoothed, so nearly
    assert not complaints, complaints


def test_a_new_picture_within_a_frame_of_the_drag(page_of):
    """From the moment the page hears of the hand to the painted canvas; a decoder twice as wide as the one that is shipped."""
    page, complaints = page_of(latent_map(*small(side=28, hidden=(128, 256))))
    page.evaluate("""() => {
      window.times = []; let seen = 0;
      document.addEventListener("pointermove", () => { seen = performance.now(); }, true);
      document.querySelector("[id^=dvmap]").addEventListener("dvmap-painted", () => seen && times.push(performance.now() - seen));
    }""")
    drag(page, (0.1, 0.2), (0.9, 0.7), steps=60)
    times = page.evaluate("times")
    assert len(times) >= 20 and statistics.median(times) <= 16, times
    assert not complaints, complaints


def test_keys_move_the_point_and_are_spoken(page_of):
    page, complaints = page_of(latent_map(*small()))
    plane = page.get_by_role("application")
    assert "Arrow keys" in plane.get_attribute("aria-label")
    plane.focus()
    start, width = code(page), 0.02 * np.ptp(latent_map(*small())._data["window"][:2])
    for key, way in [("ArrowRight", (1, 0)), ("ArrowUp", (0, 1)), ("ArrowLeft", (-1, 0)), ("Shift+ArrowDown", (0, -5))]:
        before = code(page)
        page.keyboard.press(key)
        assert_close(code(page) - before, width * np.array(way), atol=0.011, rtol=0)
    page.wait_for_timeout(500)
    spoken = page.get_by_role("status")
    assert spoken.get_attribute("aria-live") == "polite" and page.locator(".dvmap-where b").inner_text() in spoken.text_content()
    page.keyboard.press("Home")
    assert_close(code(page), start, atol=0.011, rtol=0)
    assert page.locator(PLANE).evaluate("e => getComputedStyle(e).outlineStyle") != "none", "focus is not seen"
    assert not complaints, complaints


def test_a_path_drawn_by_hand_becomes_a_film(page_of):
    page, complaints = page_of(latent_map(*small()))
    play = page.get_by_role("button", name="Play the film")
    assert play.is_disabled() and not page.locator(".dvmap-strip").is_visible()
    page.get_by_role("button", name="Draw a path").click()
    drag(page, (0.2, 0.2), (0.8, 0.6), steps=15)
    assert page.get_by_role("button", name="Draw a path").get_attribute("aria-pressed") == "false"
    assert page.get_by_role("img", name="pictures along the path").is_visible()
    end, seen = code(page), []
    play.click()
    for _ in range(6):
        page.wait_for_timeout(150)
        seen.append(code(page))
    assert len({tuple(each) for each in seen}) >= 4 and (np.diff([each[0] for each in seen]) >= 0).all(), seen
    page.get_by_role("button", name="Play the film").wait_for(timeout=12_000)
    assert_close(code(page), end, atol=0.02, rtol=0)
    page.get_by_role("button", name="Clear").click()
    assert play.is_disabled() and not page.locator(".dvmap-strip").is_visible()
    assert not complaints, complaints


def test_a_path_by_keyboard_too(page_of):
    page, complaints = page_of(latent_map(*small()))
    page.get_by_role("application").focus()
    for key in ("Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowUp", "Enter", " "):
        page.keyboard.press(key)
    assert page.get_by_role("button", name="Stop the film").is_visible()
    assert not complaints, complaints


def test_decode_everywhere_paints_the_plane(page_of):
    page, complaints = page_of(latent_map(*small()))
    before = pixels(page, f"{PLANE} canvas")
    page.get_by_role("button", name="Decode everywhere").click()
    assert (pixels(page, f"{PLANE} canvas") != before).mean() > 0.3
    assert not complaints, complaints


def test_a_pressed_button_keeps_its_words_under_the_pointer(page_of):
    page, _ = page_of(latent_map(*small()))
    button = page.get_by_role("button", name="Decode everywhere")
    button.click()
    button.hover()
    ink, paper = button.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
    assert button.get_attribute("aria-pressed") == "true" and ink != paper and paper != "rgba(0, 0, 0, 0)"


def test_titles_and_names_are_text_and_never_script(page_of):
    bad = "</script><script>window.run = 1</script><img src=x onerror='window.run = 1'>"
    page, complaints = page_of(latent_map(*small(), names=[bad] * 10, title=bad))
    page.wait_for_timeout(300)
    assert page.evaluate("window.run === undefined") and page.locator(".dvmap").get_attribute("aria-label") == bad
    assert not complaints, complaints


def test_the_page_is_in_the_output_under_ipywidgets_7_too(monkeypatch):
    """Version 7 shows a widget by `_ipython_display_`, which comes before a bundle."""
    from anywidget import AnyWidget
    from IPython.core.formatters import DisplayFormatter

    monkeypatch.setattr(AnyWidget, "_ipython_display_", lambda self: None, raising=False)
    data, _ = DisplayFormatter().format(latent_map(*small()))
    assert "dvmap" in data["text/html"] and any("widget-view" in kind for kind in data)


def test_light_and_dark_follow_the_page(page_of):
    light, dark = (page_of(latent_map(*small()), style=f"background: {paper}")[0] for paper in ("#fff", "#111"))
    papers = [page.locator(".dvmap").evaluate("e => getComputedStyle(e).backgroundColor") for page in (light, dark)]
    assert papers == ["rgb(255, 255, 255)", "rgb(21, 24, 28)"]


def test_on_a_narrow_screen_nothing_is_cut(page_of):
    page, _ = page_of(latent_map(*small()))
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_everything_to_press_has_a_name(page_of):
    page, _ = page_of(latent_map(*small()))
    nameless = page.locator(".dvmap :is(button, [role], [tabindex])").evaluate_all(
        "all => all.filter(e => e.getAttribute('role') !== 'status' && !(e.getAttribute('aria-label') || e.textContent.trim())).length"
    )
    assert nameless == 0 and page.get_by_role("button").count() == 4 and page.get_by_role("img").count() == 1


def test_in_jupyterlab_the_same_map_tells_python_where_the_point_is(browser, lab):  # noqa: F811
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=[new_code_cell(NOTEBOOK), new_code_cell(ASK)], metadata={"kernelspec": kernel}), lab[1] / "map.ipynb")
    page, complaints = opened(browser, lab, "map.ipynb", 120, PLANE)
    before = pixels(page)
    drag(page, (0.5, 0.5), (0.7, 0.2))
    assert (pixels(page) != before).any()
    page.get_by_role("application").focus()
    before = code(page)
    page.keyboard.press("ArrowRight")
    assert (code(page) != before).any(), "JupyterLab took the key"
    page.wait_for_timeout(800)  # the kernel is told when the hand rests
    ask = page.locator(".jp-CodeCell").nth(1)
    ask.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    ask.get_by_text("code " + " ".join(f"{number:.2f}" for number in code(page))).wait_for(timeout=20_000)
    assert not [words for words in complaints if re.search(r"widget|map|Uncaught", words, re.IGNORECASE)], complaints
    page.close()
