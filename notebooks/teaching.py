"""For a class: the quiz as a notebook, and decks of the lessons' figures that need no network. Used by build.py."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from pages import question, title
from rules import SETUP

HERE = Path(__file__).resolve().parent
REVEAL = HERE / "reveal"  # reveal.js 5.2.1, https://revealjs.com, MIT: see its LICENSE
LINES = 14  # printed lines that a slide holds
PREDICT = re.compile(r"^> \*\*Predict:\*\* (.*(?:\n>.*)*)", re.MULTILINE)
QUESTION = re.compile(r"^\*\*(\d+)\.\*\* (.*?)\n\n\*\*Answer:\*\* ([\w.]*\w)\. ", re.DOTALL | re.MULTILINE)
QUIZ = '''\
from hashlib import sha256

from dvlatent.lessons.teach import check

# what is right, so that reading it does not tell
SEALED = """
{sealed}
""".split()


def answer(number, mine):
    """Is it right?"""
    check(f"question {{number}}", mine, lambda given: sha256(f"{{number}} {{given}}".lower().encode()).hexdigest()[:6] == SEALED[number - 1])'''
TEMPLATE = """\
{%- extends 'base.html.j2' -%}
{%- block header -%}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ resources.metadata.name }}</title><style>{{ resources.style }}</style></head>{%- endblock -%}
{%- block body_header -%}<body><div class="reveal"><div class="slides">{%- endblock -%}
{%- block body_footer -%}</div></div>{%- endblock -%}
{%- block footer -%}<script>{{ resources.script }}
Reveal.initialize({width: 1280, height: 720, hash: true, slideNumber: true, transition: "none", plugins: [RevealNotes]});</script></body></html>{%- endblock -%}
"""


def seal(number: int, answer: str) -> str:
    """The mark of a right answer in the notebook of the quiz."""
    return hashlib.sha256(f"{number} {answer}".lower().encode()).hexdigest()[:6]


def quiz_notebook(text: str, repo: str) -> NotebookNode:
    """The quiz for the class: every question with a cell that checks the answer and does not show it."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    right = [seal(int(number), answer) for number, _, answer in QUESTION.findall(text)]
    opening = "# A quiz of forty questions\n\nReplace `...` by a letter in quotes, such as `\"a\"`, or by a number, and run the cell."
    cells = [nbformat.v4.new_markdown_cell(opening), nbformat.v4.new_code_cell(SETUP.format(repo=repo)), nbformat.v4.new_code_cell(QUIZ.format(sealed=textwrap.fill(" ".join(right), 80)))]
    for section in sections:
        cells.append(nbformat.v4.new_markdown_cell(f"## {section.splitlines()[0]}"))
        for number, asked, _ in QUESTION.findall(section):
            cells += [nbformat.v4.new_markdown_cell(f"**{number}.** {asked}"), nbformat.v4.new_code_cell(f"answer({number}, ...)")]
    for at, cell in enumerate(cells):
        cell["id"] = f"quiz-{at}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def deck(notebook: NotebookNode) -> str:
    """Slides of one executed lesson, one page that needs nothing else: what to guess, then the figure or the number that answers it."""
    slides = nbformat.v4.new_notebook(cells=list(_slides(notebook)))
    style = (REVEAL / "reveal.css").read_text(encoding="utf-8") + (HERE / "slides.css").read_text(encoding="utf-8")
    script = "\n".join((REVEAL / name).read_text(encoding="utf-8") for name in ("reveal.js", "notes.js"))
    exporter = SlidesExporter(extra_loaders=[DictLoader({"deck.html.j2": TEMPLATE})], template_file="deck.html.j2", exclude_input=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    resources = {"metadata": {"name": title(notebook)}, "style": style, "script": script.replace("</script", "<\\/script")}
    return exporter.from_notebook_node(slides, resources)[0]


def _slides(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Title and question; then a column for each section: its heading and what to guess, then what came out; then the answer."""
    yield _words(f"# {title(notebook)}\n\n{question(notebook)}", "slide")
    chapter, heading, kind, guessed = "", "", "subslide", False
    for cell in notebook.cells[1:]:
        for part in re.split(r"^(?=##+ )", cell.source, flags=re.MULTILINE) if cell.cell_type == "markdown" else []:
            if found := re.match(r"(##+ )(.*)", part):
                heading, kind, guessed = "".join(found.groups()), "slide", False
                chapter = heading if found[1] == "## " else chapter
            if chapter == "## The answer":
                yield _words(f"## The answer\n\n{part.partition('**Answer:**')[2]}", "slide")
                return
            if (guess := PREDICT.search(part)) and chapter != "## Exercises":
                yield _words(f"{heading}\n\n**Your guess:** {re.sub('^> ?', '', guess[1], flags=re.MULTILINE)}", kind)
                kind, guessed = "subslide", True
            if checked := part.partition("**Check your guess")[2]:
                yield _words("**Check your guess" + checked, "notes")
        for out in cell.get("outputs", []) if chapter != "## Exercises" else []:
            printed = "\n".join(line for line in str(out.get("text", "")).splitlines() if line.strip() and "✓" not in line)
            picture = any(mime.startswith("image/") for mime in out.get("data", {}))
            if picture or (guessed and 0 < len(printed.splitlines()) <= LINES):
                shown = out if picture else nbformat.v4.new_output("stream", text=printed)
                if svg := out.get("data", {}).get("image/svg+xml"):
                    shown = nbformat.v4.new_output("display_data", {"text/html": svg})  # nbconvert would drop its description
                if kind == "slide":
                    yield _words(heading, "slide")
                yield nbformat.v4.new_code_cell(outputs=[shown], metadata={"slideshow": {"slide_type": "subslide"}})
                kind = "subslide"


def _words(text: str, kind: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})
