"""docs/teaching: plans that fit the clock and name what the lessons have."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANS = sorted((ROOT / "docs" / "teaching").glob("[0-9][0-9]_*.md"))


def lesson(plan: Path) -> str:
    """The source of the lesson of a plan, as plain text."""
    return re.sub(r"^# ?", "", (ROOT / "notebooks" / "src" / f"{plan.stem}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)


def rows(plan: Path, section: str) -> list[list[str]]:
    """The cells of a section's table."""
    part = plan.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")][2:]


def test_every_lesson_has_a_plan():
    assert [plan.stem for plan in PLANS] == [source.stem for source in sorted((ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py"))]


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
