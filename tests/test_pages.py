"""The pages of the course, in a browser and beside it: they fit a desk and a phone, stand still when asked, and lead where they say."""

import io
import re
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from test_lessons_lab import browser  # noqa: F401  (a fixture)

from dvlatent.lessons import plot

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import build  # noqa: E402
import outputs  # noqa: E402
import phone  # noqa: E402

LESSON = '''\
# %% [markdown]
# # 00 · Does it fit?
#
# **Question:** does it?

# %%
import torch
from dvlatent.lessons import plot

# %% [markdown]
# ## A chart, and a wörd
#
# | a | b | c | d |
# |---|---|---|---|
# | a_rather_long_name_of_something.safetensors | one | two | another_rather_long_name_of_something |

# %%
fig, (left, right) = plot.chart(1, 2)
left.plot([0, 1], label="a line with a long name")
left.set(title="A title that is a good deal longer than a phone is wide, and then some", xlabel="an axis with a name as long as this")
left.legend()
right.bar([f"a long name {at}" for at in range(8)], range(8))
plot.show(fig, alt="a line and eight bars, and as an alternative text it has a line that is longer than any page of code is wide" * 2)

# %%
for name in ("first", "second"):
    print(f"{name:20}" + "".join(f"{value:<18}" for value in ("one and two", 0.123, "0.1 (0.0 to 0.2)", 3, 4, 5)))
print("a line of words that is no table and is longer than a phone is wide, so it has to be broken somewhere in the middle")

# %%
frames = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 64, 64)
plot.show_film(frames, seconds=2, alt="a square that turns from black to white")

# %%
plot.show_map(current="00")
'''


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of one lesson, as pages."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "src").mkdir()
    (folder / "repository.txt").write_text("ada/face\n")
    (folder / "src" / "00_fits.py").write_text(LESSON)
    assert build.html([], folder / "out", folder, jobs=1) == 0
    return folder / "out"


@pytest.fixture
def visit(browser, course):  # noqa: F811
    """Open a page of the course in a window of some width; it may ask nothing of a network, and no script may fail."""
    contexts, troubles = [], []

    def go(name, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        context.set_default_timeout(120_000)  # a busy computer
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.append(request.url[:80]) if request.url.startswith("http") else None)
        page.goto(f"{(course / name.partition('?')[0]).as_uri()}{name[len(name.partition('?')[0]) :]}")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not troubles


MEASURE = """() => {
  const all = [...document.querySelectorAll("body *")].filter((e) => e.getClientRects().length);
  const worded = all.filter((e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const scale = (e) => (e.ownerSVGElement ? e.ownerSVGElement.getScreenCTM().a : 1);
  const sizes = worded.map((e) => parseFloat(getComputedStyle(e).fontSize) * scale(e));
  const scrolled = all.filter((e) => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX));
  return {width: document.documentElement.scrollWidth, smallest: Math.min(...sizes), scrolled: scrolled.map((e) => e.tagName)};
}"""


DOCUMENTS = ["GLOSSARY", "MODELS", "MEASUREMENTS", "teaching/README", "teaching/05_finding_directions"]


@pytest.mark.parametrize("name", ["00_fits.html", "index.html", "search.html?q=word", *(f"docs/{name}.html" for name in DOCUMENTS)])
def test_a_page_fits_a_phone_with_text_that_one_can_read(visit, name):
    measured = visit(name, width=390).evaluate(MEASURE)
    assert measured["width"] == 390 and measured["smallest"] >= 14 and not measured["scrolled"]


def test_a_phone_is_shown_the_figure_laid_out_for_it_and_a_desk_the_other(visit):
    shown = {}
    for width in (390, 1280):
        page = visit("00_fits.html", width=width)
        shown[width] = page.evaluate("[document.querySelector('.relaid img').currentSrc, document.querySelector('.relaid img').width]")
        measured = page.evaluate(MEASURE)
        assert measured["width"] == width and not measured["scrolled"]
    assert shown[390][1] == 350 and shown[1280][1] == 1100
    small, large = (Image.open(io.BytesIO(b64decode(shown[width][0].partition(",")[2]))) for width in (390, 1280))
    assert small.width == 700 and small.height > small.width and large.width == 1650


def test_a_film_pauses_and_stands_still_for_who_asks_for_less_motion(visit):
    state = "getComputedStyle(document.querySelector('.film > div')).animationPlayState"
    page = visit("00_fits.html")
    assert page.evaluate(state) == "running"
    page.get_by_label("Pause").check()
    assert page.evaluate(state) == "paused"
    calm = visit("00_fits.html", reduced_motion="reduce")
    assert calm.evaluate(state) == "paused"
    calm.get_by_label("Play").check()
    assert calm.evaluate(state) == "running"


def test_a_page_is_dark_where_that_is_wished_and_a_button_changes_it(visit):
    paper = "getComputedStyle(document.body).backgroundColor"
    page = visit("00_fits.html", color_scheme="dark")
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Light").click()
    assert dark == "rgb(21, 24, 28)" and page.evaluate(paper) == "rgb(255, 255, 255)"
    assert visit("00_fits.html", color_scheme="light").evaluate(paper) == "rgb(255, 255, 255)"


def test_the_list_of_sections_and_the_map_lead_where_they_say(visit):
    page = visit("00_fits.html")
    page.locator(".toc a", has_text="A chart").click()
    assert page.url.endswith("#a-chart-and-a-wörd") or page.url.endswith("#a-chart-and-a-w%C3%B6rd")
    assert 0 <= page.locator("h2").first.evaluate("h => h.getBoundingClientRect().top") < 200
    index = visit("index.html")
    index.locator(".map #lesson-00 rect").first.click()
    assert index.url.endswith("/00_fits.html") and index.locator(".map a").count() == 1
    phone = visit("index.html", width=390)
    phone.locator(".cards a").click()
    assert phone.url.endswith("/00_fits.html")


def test_the_search_finds_sections_of_all_pages(visit):
    page = visit("00_fits.html")
    page.get_by_role("searchbox").fill("Word CHART")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_selector("#results li")
    first = page.locator("#results a").first
    assert "search.html?q=" in page.url and first.get_attribute("href") == "00_fits.html#a-chart-and-a-wörd"
    assert "confounder" in visit("search.html?q=confounder").locator("#results mark").first.inner_text().lower()
    assert visit("search.html?q=nothingofthekind").locator("#results li").count() == 0


def test_every_link_of_a_page_leads_to_a_page_that_is_there(course):
    dead = []
    for page in course.rglob("*.html"):
        for link in re.findall(r'href="(?!https?:|data:|mailto:)([^"#]*)', page.read_text(encoding="utf-8").split("<script>const")[0]):
            missing = link and not (page.parent / link).exists()
            lesson = re.fullmatch(r"(\.\./)*\d\d_\w+\.html", link)  # this course has one lesson
            dead += [f"{page.name}: {link}"] if missing and not lesson else []
    assert not dead


def words_of(fig):
    """Every text that is drawn of a figure for a phone: words, size in CSS pixels, place."""
    fig.draw_without_rendering()
    every = [axis for axes in fig.axes if axes.axison for axis in (axes.xaxis, axes.yaxis)]
    ticks = {label for axis in every for label in axis.get_ticklabels()} - {tick.label1 for axis in every for tick in axis._update_ticks()}
    shown = [text for text in fig.findobj(Text) if text not in ticks and text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_fontsize() / 72 * 100, text.get_window_extent()) for text in shown]


def chart():
    fig, (left, right) = plot.chart(1, 2, height=4)
    left.plot([0, 1, 4], label="one curve of several")
    left.set(title="What a lecture hall reads from the last row without effort", xlabel="an axis with a name as long as this one")
    left.legend(ncols=3, title="heading")
    fig.legend([left.lines[0]], ["an entry of the whole figure that is too long for a phone"], loc="outside lower center")
    right.imshow(np.eye(3), aspect="auto")
    for row in range(3):
        for column in range(3):
            right.text(column, row, "−0.1 … +0.4", ha="center", va="center")
    return fig


def faces():
    image = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 32, 32)
    caption = "A caption that goes on for longer than a phone is wide."
    return plot.strip(image, titles=["a", "25 % of the way", "half", "75 %", "b"], caption=caption)


@pytest.mark.parametrize("make", [chart, faces])
def test_a_figure_for_a_phone_has_large_words_inside_it_that_do_not_touch(make, monkeypatch):
    with monkeypatch.context() as patch:
        for name in ("encode", "_display", "_mosaic"):
            patch.setattr(plot, name, getattr(plot, name))  # put back afterwards
        phone.watch()
        fig = make()
        before = {word for text, _, _ in words_of(fig) for word in text.split() if word.isalpha()}
        small = phone.relaid(fig)
    assert small.get_figwidth() == phone.WIDTH
    words = words_of(small)
    assert min(size for _, size, _ in words) >= 14 and before <= {word for text, _, _ in words for word in text.split()}
    outside = [text for text, _, box in words if box.x0 < -1 or box.x1 > small.bbox.x1 + 1 or box.y0 < -1 or box.y1 > small.bbox.y1 + 1]
    touching = [(a[0], b[0]) for at, a in enumerate(words) for b in words[at + 1 :] if a[2].padded(-2).overlaps(b[2].padded(-2))]
    assert not outside and not touching


def test_a_drawing_is_cut_where_it_is_white_into_pieces_as_wide_as_a_phone():
    sheet = np.full((60, 1100, 3), 255, np.uint8)
    for at in range(0, 1100, 100):
        sheet[:, at + 10 : at + 90] = at // 5
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    data, kind = phone.slices(file.getvalue(), 11)
    cut = np.asarray(Image.open(io.BytesIO(data)))
    assert kind == "jpeg" and cut.shape == (240, 350, 3)  # three, three, three and two squares
    assert [round(float(cut[60 * row + 30, 50, 0]) / 20) for row in range(4)] == [0, 3, 6, 9]


def test_printed_lines_are_one_box_and_columns_a_table():
    lines = "faces      years  <kept>\nraw        28     33 %\nboth       27     86 %\na line of words\n\n  an indented one\n"
    html = outputs.printed(lines)
    assert html.count("class='printed'") == 1 and html.count("<tr>") == 3 and html.count("<td>") == 9
    assert "&lt;kept&gt;" in html and html.count('class="row"') == 3 and "\u00a0\u00a0an indented" in html


def test_names_of_columns_may_leave_the_first_one_out():
    html = outputs.printed("            years   same\nraw            28   33 %\nboth           27   86 %\n")
    assert html.count("<tr>") == 3 and "<tr><td></td><td>years</td><td>same</td></tr>" in html


def test_a_film_keeps_every_frame_and_its_speed():
    file = io.BytesIO()
    frames = [Image.new("RGB", (32, 16), (at, at, at)) for at in (0, 100, 200)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=500, lossless=True)
    html = outputs.film(file.getvalue(), "three grays", 64)
    assert "film 1.5s steps(3,jump-none)" in html and "width:64px;aspect-ratio:32/16" in html and 'aria-label="three grays"' in html
    column = np.asarray(Image.open(io.BytesIO(b64decode(re.search(r"base64,([^)]*)", html)[1]))))
    assert column.shape == (48, 32, 3) and [round(column[row, 5, 0] / 100) for row in (8, 24, 40)] == [0, 1, 2]
