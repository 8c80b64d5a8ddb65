"""The lessons keep every rule of notebooks/rules.py, their folded solutions pass their own checks, and no rule is blind."""

import copy
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))

import build  # noqa: E402
import rules  # noqa: E402

REPO = rules.repository(NOTEBOOKS)
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SOURCES = sorted((NOTEBOOKS / "src").glob("[0-9][0-9]_*.py"))
lessons = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def test_there_are_lessons():
    assert LESSONS, "run: python notebooks/build.py execute"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_source_has_its_notebook(source):
    assert (NOTEBOOKS / f"{source.stem}.ipynb").exists(), f"run: python notebooks/build.py execute {source.stem}"


@lessons
def test_a_lesson_keeps_every_rule(lesson):
    source = NOTEBOOKS / "src" / f"{lesson.stem}.py"
    assert source.exists(), f"{lesson.name} has no source"
    found = rules.problems(nbformat.read(lesson, 4), lesson.stem, REPO, lesson.stat().st_size, build.read(source))
    assert not found, "\n".join(found)


# Each rule on a small lesson that keeps all of them, and on the same lesson with one thing broken.


def run_cell(source, count, *outputs, tags=()):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {})


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def good():
    badge = rules.BADGE.format(repo=REPO, name="42_answers")
    opening = "\n\n".join(f"{part} text" for part in rules.OPENING)
    title = f"# 42 · What is an answer?\n\n[![Open in Colab](badge.svg)]({badge})\n\n{opening}"
    photo = shown({"image/jpeg": "abcd", "text/plain": "three faces in a row"}, **{"image/jpeg": {"alt": "three faces in a row"}})
    cells = [
        new_markdown_cell(title),
        run_cell(rules.SETUP.format(repo=REPO), 1, tags=["setup"]),
        run_cell("from dvlatent.lessons.teach import check\nshow(faces)", 2, printed("✓ 3 faces at 0.25/0.5, see a/tmp/b\n"), photo),
        run_cell("morph(a, b)", 3, shown({rules.WIDGET: {"model_id": "1"}}), tags=["nbval-ignore-output"]),
    ]
    for number in (1, 2, 3):
        stub = f"answer = ...\ncheck('exercise {number}', answer, {number})"
        cells += [
            new_markdown_cell(f"### Exercise {number}: count\nHow many? It costs $5."),
            run_cell(stub, 3 + number, printed(f"… exercise {number}: not answered yet\n"), tags=["exercise"]),
            new_markdown_cell(f"<details><summary>Solution</summary>\n\n```python\n# one line\nanswer = {number}\n```\n</details>"),
        ]
    cells.append(new_markdown_cell("## The answer\nYes.\n\n## What next\nMore.\n\n```\n# no heading\n```"))
    return nbformat.v4.new_notebook(cells=cells)


def change(at, **fields):
    return lambda notebook: notebook.cells[at].update(fields)


def output(at, *outputs):
    return lambda notebook: notebook.cells[at].update(outputs=list(outputs))


def rewrite(at, old, new):
    return lambda notebook: notebook.cells[at].update(source=notebook.cells[at].source.replace(old, new))


BROKEN = {
    "16 lines": (change(2, source="a = 1\n" * 16), "16 lines of code"),
    "an error": (output(2, new_output("error", ename="NameError", evalue="x", traceback=[])), "it failed with NameError"),
    "stderr": (output(2, printed("UserWarning", "stderr")), "it wrote to stderr"),
    "failed check": (output(2, printed("✗ mean: yours has shape [1]\n")), "a check in it is not passed"),
    "no alt": (output(2, shown({"image/png": "abcd", "text/plain": "<Figure>"})), "without alt text"),
    "short alt": (output(2, shown({"image/png": "abcd"}, **{"image/png": {"alt": "figure"}})), "without alt text"),
    "html image": (output(2, shown({"text/html": "<img src='a.png' alt=''>"})), "<img> without alt"),
    "markdown image": (rewrite(4, "How many?", "![](a.png)"), "a picture in the text without alt text"),
    "widget tag": (change(3, metadata={}), "not tagged nbval-ignore-output"),
    "path": (output(2, printed("saved to /home/ada/face.png\n")), "an absolute path"),
    "interact": (change(2, source="interact(f, x=3)"), "interact( makes nbval fail falsely"),
    "tex": (rewrite(4, "How many?", "Let $w = 3$."), "TeX in the text"),
    "not run": (change(2, execution_count=None), "not run once, in order"),
    "run twice": (change(2, execution_count=9), "not run once, in order"),
    "widget state": (lambda notebook: notebook.metadata.update(widgets={}), "metadata.widgets"),
    "two titles": (rewrite(4, "How many?", "# Two\nHow many?"), "2 first-level headings"),
    "no closing": (rewrite(-1, "## The answer", "## The end"), "the last two sections"),
    "two exercises": (change(11, metadata={}), "2 cells tagged 'exercise'"),
    "no heading": (rewrite(4, "### Exercise 1: ", "### Task: "), "exercise 1 has no heading"),
    "no check": (rewrite(5, "check(", "print("), "exercise 1 has no check"),
    "answered": (output(5, printed("✓ exercise 1\n")), "exercise 1 is answered already"),
    "not folded": (rewrite(6, "<details>", ""), "exercise 1 has no folded solution"),
    "no question": (rewrite(0, "What is an answer?", "Answers"), "the first line is no title"),
    "wrong number": (rewrite(0, "# 42", "# 41"), "the first line is no title"),
    "wrong badge": (rewrite(0, "42_answers.ipynb", "41_answers.ipynb"), "the Colab badge"),
    "opening order": (rewrite(0, "**Time:**", "**When:**"), "the opening needs"),
    "setup": (rewrite(1, "dvlatent assets", "dvlatent"), "the setup cell"),
}


def test_a_good_lesson_keeps_every_rule():
    assert rules.problems(good(), "42_answers", REPO, size=1000, source=good()) == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda name: name.replace(" ", "-"))
def test_each_rule_sees_what_it_is_for(broken):
    notebook, (spoil, words) = good(), BROKEN[broken]
    spoil(notebook)
    found = rules.problems(notebook, "42_answers", REPO)
    assert len(found) == 1 and words in found[0], found


def test_a_large_file_is_refused():
    (found,) = rules.problems(good(), "42_answers", REPO, size=3 * 2**20)
    assert "3.0 MB, more than 2.5" in found


@pytest.mark.parametrize("spoil", [change(2, source="other"), change(3, metadata={"tags": ["x"]}), lambda notebook: notebook.cells.pop()])
def test_a_notebook_that_is_not_its_source_is_refused(spoil):
    source = copy.deepcopy(good())
    spoil(source)
    assert rules.problems(good(), "42_answers", REPO, source=source) == ["the .ipynb is not what its .py says: run build.py execute again"]


def test_a_lesson_that_needs_an_extra_fetches_it():
    lesson = good()
    assert "the first code cell is not the setup cell of src/README.md, tagged 'setup'" in rules.problems(lesson, "09_words", REPO)
    rewrite(1, "dvlatent assets", "dvlatent assets --with words")(lesson)
    assert not [trouble for trouble in rules.problems(lesson, "09_words", REPO) if "setup" in trouble]


def test_the_setup_cell_is_short():
    assert len(rules.SETUP.splitlines()) <= rules.SETUP_LINES


def test_the_skeleton_keeps_the_rules():
    text = (NOTEBOOKS / "src" / "README.md").read_text()
    skeleton = jupytext.reads(text.split("```python\n", 1)[1].split("\n```\n\n## The rules")[0], "py:percent")
    skeleton = [trouble for trouble in rules.problems(skeleton, "04_averaging_and_interpolation", REPO) if "run once" not in trouble]
    assert skeleton == ["1 cells tagged 'exercise' instead of 3"]


def test_a_right_solution_passes_and_a_wrong_one_is_caught():
    lesson = nbformat.v4.new_notebook(cells=[new_code_cell("from dvlatent.lessons.teach import check"), *good().cells[4:7]])
    right = build.run(rules.solved(lesson))
    assert not right.failure and "✓ exercise 1" in rules.text_of(right.notebook.cells[3])
    lesson.cells[3].source = lesson.cells[3].source.replace("answer = 1", "answer = 2")
    wrong = build.run(rules.solved(lesson))
    assert "yours is 2, expected 1" in wrong.failure
