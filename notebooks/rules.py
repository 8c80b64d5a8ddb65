"""The rules of a lesson, each one a function that yields what is broken. `build.py` prints them, the tests hold them.

Why each rule exists is told in src/README.md.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

LINES, SETUP_LINES, MEGABYTES, EXERCISES = 15, 6, 2.5, 3
WIDGET = "application/vnd.jupyter.widget-view+json"
OPENING = ("**Question:**", "**You will:**", "**Before this:**", "**Time:**", "**Explains:**")
BADGE = "https://colab.research.google.com/github/{repo}/blob/main/notebooks/{name}.ipynb"
SETUP = """\
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/{repo}"')
    get_ipython().system("dvlatent assets")"""
EXTRAS = {"09": "words"}  # lessons that need more than the first download, and its name
ELSEWHERE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|var|opt|mnt|private|content)/\w|\b[A-Z]:\\\w")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
FOLDED = re.compile(r"<details>\s*<summary>Solution.*?</summary>\s*```python\n(.*?)^```.*?</details>", re.DOTALL | re.MULTILINE)


def problems(notebook: NotebookNode, name: str, repo: str, size: int = 0, source: NotebookNode | None = None) -> list[str]:
    """Everything that is broken in an executed lesson. `source` is its .py, read by jupytext; `size` the file's bytes."""
    found = [f"cell {at}: {trouble}" for at, cell in enumerate(notebook.cells, 1) for rule in CELL_RULES for trouble in rule(cell)]
    found += [trouble for rule in NOTEBOOK_RULES for trouble in rule(notebook)]
    found += [*_opening(notebook, name, repo), *_setup(notebook, name, repo)]
    if size > MEGABYTES * 2**20:
        found.append(f"the file has {size / 2**20:.1f} MB, more than {MEGABYTES}: show fewer or smaller photographs")
    if source is not None and _pair(source) != _pair(notebook):
        found.append("the .ipynb is not what its .py says: run build.py execute again")
    return found


def solved(notebook: NotebookNode) -> NotebookNode:
    """The lesson with every folded solution written under its exercise, and its check made strict."""
    result = copy.deepcopy(notebook)
    result.cells = []
    for at, cell in enumerate(notebook.cells):
        result.cells.append(copy.deepcopy(cell))
        if "exercise" in _tags(cell):
            solution = FOLDED.search(notebook.cells[at + 1].source).group(1)
            checks = [ast.get_source_segment(cell.source, node) for node in _checks(cell.source)]
            strict = "from dvlatent.lessons.teach import strict as _strict\nwith _strict():\n" + "\n".join(f"    {line}" for line in checks)
            result.cells.append(nbformat.v4.new_code_cell(f"{solution}\n{strict}"))  # never run: nbval runs it and compares nothing
    return result


def text_of(cell: NotebookNode) -> str:
    """All text that a code cell printed."""
    outputs = cell.get("outputs", [])
    return "\n".join(out.get("text") or str(out.get("data", {}).get("text/plain", "")) for out in outputs)


def _lines(cell: NotebookNode) -> Iterator[str]:
    count = len(cell.source.splitlines())
    if cell.cell_type == "code" and count > LINES:
        yield f"{count} lines of code, more than {LINES}: split it, or move what is no idea into the library"


def _errors(cell: NotebookNode) -> Iterator[str]:
    for out in cell.get("outputs", []):
        if out.output_type == "error":
            yield f"it failed with {out.ename}: {out.evalue}"
        elif out.get("name") == "stderr":
            yield f"it wrote to stderr: {out.text.strip()[:80]!r}"
    if "✗ " in text_of(cell):
        yield "a check in it is not passed"


def _alt(cell: NotebookNode) -> Iterator[str]:
    for out in cell.get("outputs", []):
        for mime in out.get("data", {}):
            if mime.startswith("image/") and len(str(out.metadata.get(mime, {}).get("alt", "")).split()) < 3:
                yield f"a picture ({mime}) without alt text: show it by plot.show(fig, alt=...)"
    html = [str(out.get("data", {}).get("text/html", "")) for out in cell.get("outputs", [])]
    markdown = FENCE.sub("", cell.source) if cell.cell_type == "markdown" else ""
    for tag in re.findall(r"<img\b[^>]*>", " ".join([*html, markdown])):
        if not re.search(r"\balt=([\"'])\s*\S.*?\1", tag):
            yield "an <img> without alt text"
    if re.search(r"!\[\s*\]\(", markdown):
        yield "a picture in the text without alt text"


def _widgets(cell: NotebookNode) -> Iterator[str]:
    if any(WIDGET in out.get("data", {}) for out in cell.get("outputs", [])) and "nbval-ignore-output" not in _tags(cell):
        yield "a widget in a cell that is not tagged nbval-ignore-output"


def _paths(cell: NotebookNode) -> Iterator[str]:
    if found := ELSEWHERE.search(text_of(cell)):
        yield f"an absolute path in the output: {text_of(cell)[found.start() : found.start() + 40]!r}"


def _banned(cell: NotebookNode) -> Iterator[str]:
    if cell.cell_type == "code" and (word := re.search(r"\b(interact\(|clear_output|tqdm|Output\(\))", cell.source)):
        yield f"{word[1]} makes nbval fail falsely"
    plain = re.sub(r"`[^`]*`", "", FENCE.sub("", cell.source))
    if cell.cell_type == "markdown" and re.search(r"\$\$|\$[^\s$][^$\n]*\$", plain):
        yield "TeX in the text; formulas are Unicode or a code block, so that the pages work offline"


def _order(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if not counts or counts != list(range(1, len(counts) + 1)):
        yield f"the cells were not run once, in order: their numbers are {counts}"


def _metadata(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "metadata.widgets is there; GitHub fails on it"


def _headings(notebook: NotebookNode) -> Iterator[str]:
    text = "\n\n".join(FENCE.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    titles = re.findall(r"^# .*", text, re.MULTILINE)
    if len(titles) != 1:
        yield f"{len(titles)} first-level headings instead of one: {titles}"
    closing = re.findall(r"^## (.*)", text, re.MULTILINE)[-2:]
    if closing != ["The answer", "What next"]:
        yield f"the last two sections are {closing} instead of 'The answer' and 'What next'"


def _exercises(notebook: NotebookNode) -> Iterator[str]:
    exercises = [at for at, cell in enumerate(notebook.cells) if "exercise" in _tags(cell)]
    if len(exercises) != EXERCISES:
        yield f"{len(exercises)} cells tagged 'exercise' instead of {EXERCISES}"
    for number, at in enumerate(exercises, 1):
        before, stub, after = (notebook.cells[where] if 0 <= where < len(notebook.cells) else None for where in (at - 1, at, at + 1))
        if before is None or not before.source.startswith(f"### Exercise {number}: "):
            yield f"exercise {number} has no heading '### Exercise {number}: ...' in the cell before it"
        if not _checks(stub.source):
            yield f"exercise {number} has no check(...) in its cell"
        elif stub.execution_count and "not answered yet" not in text_of(stub):
            yield f"exercise {number} is answered already: leave ... for the reader"
        if after is None or not FOLDED.search(after.source):
            yield f"exercise {number} has no folded solution after it: <details><summary>Solution</summary> and a ```python block"


def _opening(notebook: NotebookNode, name: str, repo: str) -> Iterator[str]:
    title = notebook.cells[0].source if notebook.cells else ""
    if not re.match(rf"# {name[:2]} · .*\?$", title, re.MULTILINE):
        yield f"the first line is no title like '# {name[:2]} · a question?'"
    if BADGE.format(repo=repo, name=name) not in title:
        yield f"the Colab badge does not lead to notebooks/{name}.ipynb of {repo}: run build.py badges"
    found = [title.find(part) for part in OPENING]
    if -1 in found or found != sorted(found):
        yield f"the opening needs, in this order: {' '.join(OPENING)}"


def _setup(notebook: NotebookNode, name: str, repo: str) -> Iterator[str]:
    assets = " --with ".join(["dvlatent assets", *[extra for lesson, extra in EXTRAS.items() if name.startswith(lesson)]])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or "setup" not in _tags(code[0]) or code[0].source != SETUP.format(repo=repo).replace("dvlatent assets", assets):
        yield "the first code cell is not the setup cell of src/README.md, tagged 'setup'"


def _checks(source: str) -> list[ast.Expr]:
    """The statements of a cell that are calls of check."""
    calls = (node for node in ast.parse(source).body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return [node for node in calls if ast.unparse(node.value.func) in ("check", "teach.check")]


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _pair(notebook: NotebookNode) -> list[tuple]:
    return [(cell.cell_type, cell.source.strip(), tuple(_tags(cell))) for cell in notebook.cells]


def repository(folder: Path) -> str:
    """OWNER/NAME, the one setting behind every badge and setup cell."""
    return (folder / "repository.txt").read_text(encoding="utf-8").strip()


def placeholders(texts: dict[str, str], repo: str, remote: str = "") -> list[str]:
    """Which files name nobody's repository, although one is known: from repository.txt, or from where this checkout came."""
    unset = "OWNER" "/dvlatent"
    cloned = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", remote)
    home = repo if repo != unset else cloned[1] if cloned else ""
    return [f"{name} still says {unset}: run `make badges REPO={home}`" for name, text in texts.items() if home and unset in text]


Rule = Callable[[NotebookNode], Iterator[str]]
CELL_RULES: tuple[Rule, ...] = (_lines, _errors, _alt, _widgets, _paths, _banned)
NOTEBOOK_RULES: tuple[Rule, ...] = (_order, _metadata, _headings, _exercises)
