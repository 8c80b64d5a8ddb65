"""Executed lessons as pages that work offline: our own CSS, no scripts but those of our widgets, alt text kept. Used by build.py."""

from __future__ import annotations

import copy
import re
from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from rules import WIDGET

MOVED = "<p class='moved'>In JupyterLab and Colab there is something to move here; the picture beside it shows the same.</p>"
CSS = Path(__file__).with_suffix(".css")


def lesson_page(notebook: NotebookNode, ran: str = "", failure: str = "", near: tuple[str, str] = ("", "")) -> str:
    """One lesson as a whole page. `ran` says how long it took, `near` names the lessons before and after it."""
    notebook = offline(notebook)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True)
    exporter.embed_images = True
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r"<p>⟦([^⟧]*)⟧</p>", lambda mark: f"<details><summary>{mark[1]}</summary>" if mark[1] else "</details>", body)
    body = re.sub(r'(href="[\w./-]+)\.ipynb(#[^"]*)?"', r'\1.html\2"', body)
    warning = f"<p class='failed'>This lesson stopped: {escape(failure)}</p>" if failure else ""
    before, after = (f'<a class="{kind}" href="{name}.html">{words}</a>' if name else "" for kind, name, words in _links(near))
    links = f'<nav aria-label="lessons"><a href="index.html">All lessons</a>{before}{after}</nav>'
    return _page(title(notebook), f"{links}<main>{warning}{body}</main>{links}", f'<meta name="ran" content="{escape(ran)}">')


def ran_in(page: Path) -> str:
    """How long the lesson of a page took, as `lesson_page` wrote it; empty without a page."""
    found = page.exists() and re.search(r'<meta name="ran" content="([^"]*)">', page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def index_page(lessons: list[tuple[str, NotebookNode, str]]) -> str:
    """The table of all lessons: title, question, time. Each is (name, notebook, how long it took); without a time it has no page yet."""
    rows = ""
    for name, notebook, ran in lessons:
        link = f'<a href="{name}.html">{escape(title(notebook))}</a>' if ran else escape(title(notebook))
        rows += f'<tr><td>{link}</td><td>{escape(question(notebook))}</td><td class="time">{ran or "not run yet"}</td></tr>'
    head = "<tr><th scope='col'>Lesson</th><th scope='col'>Question</th><th scope='col'>Ran in</th></tr>"
    lead = "<h1>How does a face filter work?</h1><p>The lessons as they ran on this computer. Open the notebooks themselves to play.</p>"
    return _page("How does a face filter work?", f"<main>{lead}<table><thead>{head}</thead><tbody>{rows}</tbody></table></main>")


def title(notebook: NotebookNode) -> str:
    """The first-level heading."""
    found = re.search(r"^# (.*)", notebook.cells[0].source, re.MULTILINE)
    return found[1].strip() if found else "A lesson without a title"


def question(notebook: NotebookNode) -> str:
    """The lesson's question, without its markup."""
    found = re.search(r"\*\*Question:\*\*\s*(.*?)(?:\n\n|\Z)", notebook.cells[0].source, re.DOTALL)
    return re.sub(r"[*`_]|\s*\n\s*", lambda mark: " " if "\n" in mark[0] else "", found[1]).strip() if found else ""


def offline(notebook: NotebookNode) -> NotebookNode:
    """Without what a page alone cannot show, the badge's picture and kernels' widgets; folded parts marked, for nbconvert closes them too early."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[!\[([^\]]+)\]\(https?://[^)]*\)\]\((\S+?)\)", r"[\1](\2)", cell.source)
            cell.source = re.sub(r"<details>\s*<summary>(.*?)</summary>", r"⟦\1⟧\n", cell.source).replace("</details>", "\n⟦⟧\n")
        for out in cell.get("outputs", []):
            data, alone = out.get("data", {}), None
            if WIDGET in data:  # some bring a page of their own that needs no kernel
                alone = data.get("text/html", MOVED)
            elif "image/svg+xml" in data:  # nbconvert would drop its alt text; the drawing itself has a title and a description
                alone = data["image/svg+xml"]
            if alone:
                out.data, out.metadata = nbformat.from_dict({"text/html": alone}), nbformat.from_dict({})
    return notebook


def _links(near: tuple[str, str]) -> list[tuple[str, str, str]]:
    return [("previous", near[0], "← Previous"), ("next", near[1], "Next →")]


def _page(name: str, body: str, more: str = "") -> str:
    colors = HtmlFormatter(style="default").get_style_defs(".highlight").replace("background: #f8f8f8;", "")
    style = CSS.read_text(encoding="utf-8") + colors
    view = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f"<head>{view}{more}<title>{escape(name)}</title><style>{style}</style></head>"
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>{body}</body></html>\n'
