"""From sources to lessons: `python notebooks/build.py {execute,html,badges,rules}`. src/README.md tells how to write one.

    execute [names]           src/NN_name.py -> NN_name.ipynb, run, with times and peak memory; a lesson that fails is not written
    html [names]              run each and write pages that work offline to build/course/, with an index
    badges --repo OWNER/NAME  point every Colab badge and setup cell to that repository
    rules [names]             say which rules the lessons as they are break
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from pages import index_page, lesson_page
from rules import problems, repository

HERE = Path(__file__).resolve().parent
SECONDS, GIGABYTES = 90, 4.0  # a lesson on two CPU cores
PEAK = """
import resource, sys
from pathlib import Path
status = Path("/proc/self/status")  # where there is one: the other count starts with the memory of whoever started Python
kib = int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(kib * (1 if sys.platform == "darwin" else 1024))
"""


@dataclass(frozen=True)
class Run:
    """What running one lesson gave."""

    notebook: NotebookNode  # with outputs, as far as it came
    seconds: float  # without starting Python
    peak: float  # gigabytes of memory
    failure: str = ""  # which cell failed and why, in words


class Line:
    """One line of progress that rewrites itself in a terminal, and is written once elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self.live = name, sys.stdout.isatty()

    def now(self, words: str) -> None:
        """Show where we are."""
        if self.live:
            print(f"\r\033[K{self.name:32} {words}", end="", flush=True)

    def end(self, words: str) -> None:
        """Show how it ended."""
        print(f"{chr(13) + chr(27) + '[K' if self.live else ''}{self.name:32} {words}", flush=True)


def read(source: Path) -> NotebookNode:
    """A lesson's source as a notebook whose cell ids depend on nothing but the text, so that diffs stay small."""
    notebook = jupytext.read(source)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return notebook


def run(notebook: NotebookNode, line: Line | None = None, folder: Path = HERE, timeout: int = 600) -> Run:
    """Run every cell in a fresh kernel of this Python, from `folder`, and stop at the first that fails."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    quiet = {"record_timing": False, "store_widget_state": False, "extra_arguments": ["--log-level=ERROR"]}
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, **quiet)
    client.reset_execution_trackers()
    failure, code = "", [at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    with client.setup_kernel():
        start, peak = time.perf_counter(), 0.0
        for number, at in enumerate(code, 1):
            if line:
                line.now(f"cell {number} of {len(code)}, {time.perf_counter() - start:.0f} s")
            try:
                client.execute_cell(notebook.cells[at], at)
            except (CellExecutionError, DeadKernelError, TimeoutError) as reason:
                failure = f"cell {at + 1} failed, it begins with {notebook.cells[at].source.splitlines()[0]!r}\n{_short(reason)}"
                break
        seconds = time.perf_counter() - start
        if not failure:
            notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
            client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1, store_history=False)
            peak = float(notebook.cells.pop().outputs[0].text) / 2**30
    return Run(notebook, seconds, peak, failure)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Only what a reader needs: no widget state, times, versions or machine names."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        for out in cell.get("outputs", []):
            out.pop("transient", None)
    return notebook


def execute(names: list[str], folder: Path = HERE) -> int:
    """Make every lesson anew; the number of lessons that failed or break a rule."""
    failed = 0
    for source in sources(names, folder):
        line, target = Line(source.stem), folder / f"{source.stem}.ipynb"
        result = run(read(source), line, folder)
        if result.failure:
            failed += 1
            line.end(f"FAILED and not written: {result.failure}")
            continue
        text = nbformat.writes(tidy(result.notebook)) + "\n"
        target.write_text(text, encoding="utf-8")
        line.end(f"{result.seconds:.0f} s, {result.peak:.1f} GB at most, {len(text.encode()) / 2**20:.1f} MB")
        broken = problems(result.notebook, source.stem, repository(folder), len(text.encode()), read(source))
        failed += bool(broken)
        for words in broken:
            print(f"    rule: {words}")
        for words in _remarks(result):
            print(f"    note: {words}")
    return failed


def html(names: list[str], out: Path, folder: Path = HERE) -> int:
    """Run every lesson and write its page; go on after a failure; the number of failures."""
    out.mkdir(parents=True, exist_ok=True)
    every, rows, failed = sources(names, folder), [], 0
    for at, source in enumerate(every):
        line = Line(source.stem)
        result = run(read(source), line, folder)
        near = (every[at - 1].stem if at else "", every[at + 1].stem if at + 1 < len(every) else "")
        (out / f"{source.stem}.html").write_text(lesson_page(tidy(result.notebook), result.failure, near), encoding="utf-8")
        rows.append((source.stem, result.notebook, result.seconds, result.failure))
        failed += bool(result.failure)
        line.end(f"FAILED: {result.failure}" if result.failure else f"{result.seconds:.0f} s, {result.peak:.1f} GB at most")
    (out / "index.html").write_text(index_page(rows), encoding="utf-8")
    print(f"{len(every) - failed} of {len(every)} lessons ran. Open {out / 'index.html'}")
    return failed


def badges(repo: str, folder: Path = HERE) -> int:
    """Write the setting, and point every source, executed lesson and the skeleton to it. Outputs stay as they are."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        sys.exit(f"'{repo}' is no repository: give OWNER/NAME, e.g. badges --repo ada/dvlatent")
    old, changed = repository(folder), 0
    for file in [*sorted((folder / "src").glob("*.py")), *sorted(folder.glob("*.ipynb")), *(folder / "src").glob("README.md")]:
        text = file.read_text(encoding="utf-8")
        new = re.sub(rf"(github\.com/|/github/){re.escape(old)}(?![\w.-])", rf"\g<1>{repo}", text)
        if file.suffix == ".ipynb" and new != text:
            notebook = nbformat.reads(new, 4)
            for cell, made in zip(notebook.cells, read(folder / "src" / f"{file.stem}.py").cells, strict=True):
                cell["id"] = made["id"]
            new = nbformat.writes(notebook) + "\n"
        if new != text:
            file.write_text(new, encoding="utf-8")
            changed += 1
    (folder / "repository.txt").write_text(repo + "\n", encoding="utf-8")
    print(f"{changed} files now point to {repo}")
    return 0


def rules(names: list[str], folder: Path = HERE) -> int:
    """Say what is broken in the executed lessons as they are; the number of lessons with something broken."""
    failed = 0
    for source in sources(names, folder):
        target = folder / f"{source.stem}.ipynb"
        size = target.stat().st_size if target.exists() else 0
        broken = problems(nbformat.read(target, 4), source.stem, repository(folder), size, read(source)) if size else ["it was never run"]
        failed += bool(broken)
        Line(source.stem).end("; ".join(broken) or "keeps every rule")
    return failed


def sources(names: list[str], folder: Path = HERE) -> list[Path]:
    """The sources of the named lessons (`03`, `03_stylegan_sampling`, or any path that ends so), or all."""
    every = sorted((folder / "src").glob("[0-9][0-9]_*.py"))
    chosen = [file for file in every if not names or any(file.stem.startswith(Path(name).stem) for name in names)]
    if not chosen:
        there = ", ".join(file.stem for file in every) or "none yet"
        sys.exit(f"no lesson is called {' or '.join(names) or 'NN_name.py'}; there are: {there}.")
    return chosen


def _remarks(result: Run) -> list[str]:
    """What is no broken rule, but should be seen to."""
    said = re.search(r"\*\*Time:\*\* (\d+) s", result.notebook.cells[0].source)
    remarks = []
    if said is None or not result.seconds / 2 <= float(said[1]) <= max(2 * result.seconds, 10):
        remarks.append(f"the title says '{said[0] if said else 'no time'}', measured {result.seconds:.0f} s: write '**Time:** N s ...'")
    if result.seconds > SECONDS or result.peak > GIGABYTES:
        remarks.append(f"a lesson may take {SECONDS} s and {GIGABYTES:g} GB")
    return remarks


def _short(reason: Exception) -> str:
    """The end of a failed cell's report, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(reason)).strip() or type(reason).__name__
    return "\n".join(f"    {row}" for row in text.splitlines()[-12:])


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["execute", "html", "badges", "rules"])
    parser.add_argument("names", nargs="*", help="lessons, e.g. 03 or 03_stylegan_sampling; all without it")
    parser.add_argument("--repo", help="OWNER/NAME on GitHub, for badges")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "course", help="where html writes (build/course)")
    asked = parser.parse_args()
    if asked.do == "badges":
        return badges(asked.repo or parser.error("badges needs --repo OWNER/NAME"))
    failed = html(asked.names, asked.out) if asked.do == "html" else {"execute": execute, "rules": rules}[asked.do](asked.names)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
