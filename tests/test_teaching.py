"""docs/teaching: plans that fit the clock and name what the lessons have; a quiz that checks; slides that need no network."""

import re
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import build  # noqa: E402
import teaching  # noqa: E402

QUIZ = (ROOT / "docs" / "teaching" / "quiz.md").read_text(encoding="utf-8")
LESSONS = [source.stem for source in sorted((ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py"))]
PLANS = [plan for plan in sorted((ROOT / "docs" / "teaching").glob("[0-9][0-9]_*.md")) if plan.stem in LESSONS]


def lesson(plan: Path) -> str:
    """The source of the lesson of a plan, as plain text."""
    return re.sub(r"^# ?", "", (ROOT / "notebooks" / "src" / f"{plan.stem}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)


def rows(plan: Path, section: str) -> list[list[str]]:
    """The cells of a section's table."""
    part = plan.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")][2:]


def test_every_lesson_has_a_plan():
    assert [plan.stem for plan in PLANS] == LESSONS


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_a_plan_fits_the_clock_and_follows_its_lesson(plan):
    table = rows(plan, "Minutes")
    assert [sum(int(row[at]) for row in table) for at in (0, 1)] == [45, 90]
    headings = ["Opening", *re.findall(r"^##+ (.*)", lesson(plan), re.MULTILINE)]
    parts = [re.match(r"\*\*(.+?)\*\*", row[2])[1] for row in table]
    unknown = [part for part in parts if part not in headings]
    assert not unknown, f"the lesson has no such section; it has {headings}"
    assert [headings.index(part) for part in parts] == sorted(headings.index(part) for part in parts), "in another order than the lesson"


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_every_prediction_of_a_lesson_is_in_its_plan(plan):
    section, asked = "Opening", []
    for heading, ask in re.findall(r"^##+ (.*)|^> \*\*(Predict):", lesson(plan), re.MULTILINE):
        section = heading or section
        asked += [section] if ask else []
    assert [row[0].strip("*") for row in rows(plan, "Predictions")] == asked


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_a_plan_has_all_its_parts(plan):
    text = plan.read_text(encoding="utf-8")
    expected = ["Goals", "Minutes", "Predictions", "Three misconceptions", "Five questions to discuss", "When the network is down"]
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == expected
    count = {name: len(re.findall(r"^(?:- |\d\. )", text.split(f"\n## {name}\n")[1].split("\n## ")[0], re.MULTILINE)) for name in expected}
    assert count["Three misconceptions"] == 3 and count["Five questions to discuss"] == 5


def test_the_quiz_has_forty_questions_whose_answers_give_themselves_away_by_nothing():
    asked = teaching.QUESTION.findall(QUIZ)
    assert [int(number) for number, _, _ in asked] == list(range(1, 41)) and QUIZ.count("**Answer:**") == 40
    letters = Counter(answer for _, _, answer in asked if answer.isalpha())
    choices = [re.findall(r"^- (\w)\) ", text, re.MULTILINE) for _, text, answer in asked if answer.isalpha()]
    assert all(choice == list("abcd") for choice in choices) and sorted(letters) == list("abcd") and max(letters.values()) <= 10


def test_the_quiz_for_the_class_is_made_of_the_page_and_knows_right_from_wrong(capsys):
    made = teaching.quiz_notebook(QUIZ, build.repository(build.HERE))
    assert nbformat.read(ROOT / "docs" / "teaching" / "quiz.ipynb", 4) == made, "say: python notebooks/build.py quiz"
    assert "Answer" not in nbformat.writes(made)
    room = {}
    exec(made.cells[2].source, room)
    for number, _, right in teaching.QUESTION.findall(QUIZ):
        room["answer"](int(number), right.upper() if right.isalpha() else float(right) if "." in right else int(right))
        room["answer"](int(number), "c" if right != "c" else "d")
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("✓") for line in said[::2]) and all(line.startswith("✗") for line in said[1::2]) and len(said) == 80


def test_a_deck_asks_first_then_shows_and_needs_no_network():
    cells = [
        nbformat.v4.new_markdown_cell("# 42 · An answer?\n\n**Question:** is it?\n\n**You will:** see"),
        nbformat.v4.new_markdown_cell("## Half\n\n> **Predict:** one,\n> or two?"),
        nbformat.v4.new_code_cell("secret", outputs=[nbformat.v4.new_output("stream", text="✓ a check\nhalf is 21\n")]),
        nbformat.v4.new_markdown_cell("**Check your guess:** it is one.\n\n## Exercises\n\n> **Predict:** never?"),
        nbformat.v4.new_code_cell("...", outputs=[nbformat.v4.new_output("stream", text="not shown")]),
        nbformat.v4.new_markdown_cell("## The answer\n\n**Question:** is it?\n**Answer:** it is."),
    ]
    drawing = nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg><title>x</title></svg>"})
    cells[1:1] = [nbformat.v4.new_code_cell("first", outputs=[drawing])]
    page = teaching.deck(nbformat.v4.new_notebook(cells=cells))
    plain = page.split("<script>")[0]
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\((?!data)""", plain)
    shown = re.sub(r"<[^>]+>", " ", plain[plain.index('class="slides"') :])
    order = ["An answer?", "is it?", "x", "Half", "one,", "half is 21", "it is one.", "it is."]
    assert sorted(order, key=shown.index) == order
    assert not [word for word in ("secret", "a check", "never", "not shown", "You will") if word in shown]
