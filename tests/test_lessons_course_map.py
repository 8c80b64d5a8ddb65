"""The map of the course is true, readable, and draws the same wherever it is shown."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_lessons_lab import browser  # noqa: F401  (fixture)
from test_lessons_plot import output_of  # noqa: F401  (fixture)

from dvlatent.lessons import plot

LESSONS = sorted((Path(__file__).parents[1] / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
SVG = plot.MAP.read_text(encoding="utf-8")
CARDS = dict(re.findall(r'<g id="lesson-(\d\d)"(.*?)\n  </g>', SVG, re.DOTALL))
OUTSIDE = """() => {  // every text beside the drawings that leaves its card or lies over another one
  const boxes = [...document.querySelectorAll("svg > text, [id^=lesson] > text, [id^=here] > text")].map(text => {
    const around = (text.closest("[id^=lesson]") || text.ownerSVGElement).querySelector("rect");
    return [text.textContent, text.getBoundingClientRect(), around.getBoundingClientRect()];
  }).filter(([, box]) => box.width);
  const cut = ([, a, card]) => a.left < card.left + 8 || a.right > card.right - 8 || a.top < card.top || a.bottom > card.bottom;
  const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const wrong = boxes.filter((box, i) => cut(box) || boxes.some(([, b], j) => j > i && over(box[1], b)));
  return [boxes.length, ...wrong.map(([words]) => words)];
}"""


def test_twelve_lessons_in_order_and_those_that_exist_are_in_color():
    assert list(CARDS) == [f"{number:02d}" for number in range(12)]
    assert [number for number, card in CARDS.items() if ">to come<" not in card] == [lesson.name[:2] for lesson in LESSONS]


def test_the_alt_text_names_every_lesson_and_none_is_to_come():
    (alt,) = re.findall(r"<desc[^>]*>(.*)</desc>", SVG)
    titles = [re.sub(r"<[^>]*>", "", title) for title in re.findall(r'<text x="14" y="160"[^>]*>(.*)</text>', SVG)]
    assert len(titles) == 12 and all(title.lower() in alt.lower() for title in titles)
    assert alt.endswith("11 limits.") and "to come" not in SVG


def test_the_file_is_plain():
    """Nothing that a page may strip or that may be missing elsewhere: no style sheet, script, reference, or file."""
    tree = ElementTree.fromstring(SVG)
    kinds = {element.tag.split("}")[1] for element in tree.iter() if isinstance(element.tag, str)}
    assert kinds <= {"svg", "title", "desc", "g", "rect", "circle", "path", "text", "tspan"}
    assert not re.search(r"href|url\(|https?:(?!//www\.w3\.org/2000/svg)", SVG)


@pytest.mark.parametrize("current", ["", "03"])
def test_it_is_shown_with_its_alt_text_and_the_current_lesson_framed(output_of, current):  # noqa: F811
    shown = output_of(lambda: plot.show_map(current))
    alt, svg = shown.data["text/plain"], shown.data["image/svg+xml"]
    assert shown.metadata["image/svg+xml"] == {"alt": alt, "width": 1100}
    assert re.findall(r'<g id="here-(\d\d)">', svg) == ([current] if current else []) and svg.count('display="none"') == 12 - bool(current)
    assert ("You are in lesson 03." in alt) == bool(current)


def test_a_lesson_that_is_not_on_the_map_is_refused():
    with pytest.raises(ValueError, match="from '00' to '11'"):
        plot.show_map("12")


def test_no_word_leaves_its_card_or_touches_another(browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 1150, "height": 950})
    page.set_content(SVG.replace('id="here-00" display="none"', 'id="here-00"'))
    assert page.evaluate(OUTSIDE) == [3 + 12 * 3 + (12 - len(LESSONS)) + 1]  # acts; three lines a lesson; "to come"; "you are here"
    page.set_content(SVG.replace("a filter, a face,", "a filter, a face, a slider, a dial"))
    assert page.evaluate(OUTSIDE)[1:] == ["a filter, a face, a slider, a dial"], "this check is blind"
    page.close()
