"""From sources to lessons: `python notebooks/build.py {execute,html,slides,quiz,badges,rules}`. src/README.md tells how to write one.

    execute [names]           src/NN_name.py -> NN_name.ipynb, run, with times and peak memory; a lesson that fails is not written
    html [names]              run each and write pages that work offline to build/course/, with an index
    slides [names]            a deck of figures for each executed lesson, to build/slides/; needs no network
    quiz                      docs/teaching/quiz.md -> quiz.ipynb, which checks answers without showing them
    badges --repo OWNER/NAME  point every Colab badge and setup cell to that repository
    rules [names]             say which rules the lessons as they are break

Lessons run two at a time, one thread each, where cores and memory suffice; `--jobs 1` runs one after the other and measures times.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jupytext
import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from pages import ROOT, document_page, documents, index_page, lesson_page, ran_in, search_page
from rules import problems, repository
from rules import solved as answered
from teaching import deck, quiz_notebook

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


def run(notebook: NotebookNode, line: Line | None = None, folder: Path = HERE, timeout: int = 600, phone: bool = False) -> Run:
    """Run every cell in a fresh kernel of this Python, from `folder`, and stop at the first that fails; with figures for a phone, too."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    quiet = {"record_timing": False, "store_widget_state": False, "coalesce_streams": True, "extra_arguments": ["--log-level=ERROR"]}
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, **quiet)
    client.reset_execution_trackers()
    failure, code = "", [at for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    with client.setup_kernel():
        if phone and any("dvlatent.lessons" in cell.source for cell in notebook.cells):
            _aside(client, f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport phone\nphone.watch()")
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
            peak = float(_aside(client, PEAK).outputs[0].text) / 2**30
    return Run(notebook, seconds, peak, failure)


def _aside(client: NotebookClient, source: str) -> NotebookNode:
    """Run a cell that the notebook does not have."""
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    try:
        return client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1, store_history=False)
    finally:
        client.nb.cells.pop()


def run_all(chosen: list[Path], folder: Path = HERE, jobs: int = 0, phone: bool = False) -> Iterator[Run]:
    """Run lessons, in order; `jobs` of them at a time (0: as many as this computer bears), each with its part of the cores.

    Two kernels that both use both cores wait for each other most of the time, so the threads of torch and numpy are divided.
    """
    jobs = jobs or jobs_for(len(chosen))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // jobs, 1)))
    if jobs == 1:
        yield from (run_source(source, folder, phone) for source in chosen)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(run_source, folder=folder, phone=phone), chosen)


def run_source(source: Path, folder: Path, phone: bool = False) -> Run:
    """Run one lesson and show how far it is."""
    return run(read(source), Line(source.stem), folder, phone=phone)


def jobs_for(lessons: int) -> int:
    """How many of these lessons run at a time: two cores or the half of two, and memory for each."""
    free = psutil.virtual_memory().available / 2**30
    return max(1, min(lessons, cores(), max(2, cores() // 2), int(free / GIGABYTES)))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def execute(names: list[str], folder: Path = HERE, jobs: int = 0) -> int:
    """Make every lesson anew; the number of lessons that failed or break a rule."""
    failed, chosen = 0, sources(names, folder)
    for source, result in zip(chosen, run_all(chosen, folder, jobs), strict=True):
        line, target = Line(source.stem), folder / f"{source.stem}.ipynb"
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
        for words in _remarks(result) if (jobs or jobs_for(len(chosen))) == 1 else []:  # beside another lesson, times say little
            print(f"    note: {words}")
    return failed


def html(wanted: list[str], out: Path, folder: Path = HERE, jobs: int = 0) -> int:
    """Run every lesson and write its page; go on after a failure; the number of failures. The index keeps pages of earlier runs."""
    out.mkdir(parents=True, exist_ok=True)
    chosen, failed = sources(wanted, folder), 0
    every = [source for source in sources([], folder) if source in chosen or (out / f"{source.stem}.html").exists()]
    names = tuple(source.stem for source in every)
    for source, result in zip(chosen, run_all(chosen, folder, jobs, phone=True), strict=True):
        at = every.index(source)
        near = (every[at - 1].stem if at else "", every[at + 1].stem if at + 1 < len(every) else "")
        ran = "stopped" if result.failure else f"{result.seconds:.0f} s"
        page = lesson_page(tidy(result.notebook), ran, result.failure, near, names)
        (out / f"{source.stem}.html").write_text(page, encoding="utf-8")
        failed += bool(result.failure)
        Line(source.stem).end(f"FAILED: {result.failure}" if result.failure else f"{ran}, {result.peak:.1f} GB at most")
    rows = [(source.stem, read(source), ran_in(out / f"{source.stem}.html")) for source in sources([], folder)]
    if (ROOT / "build" / "app" / "index.html").exists():
        shutil.copytree(ROOT / "build" / "app", out / "app", dirs_exist_ok=True)
    (out / "index.html").write_text(index_page(rows, app=(out / "app").exists()), encoding="utf-8")
    for document in documents():
        page = out / document.relative_to(ROOT).with_suffix(".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(document_page(document), encoding="utf-8")
    written = [out / f"{name}.html" for name in names] + sorted((out / "docs").rglob("*.html"))
    texts = [(page.relative_to(out).as_posix(), page.read_text(encoding="utf-8")) for page in written]
    (out / "search.html").write_text(search_page(texts), encoding="utf-8")
    print(f"{len(chosen) - failed} of {len(chosen)} lessons ran. Open {out / 'index.html'}")
    return failed


def badges(repo: str, folder: Path = HERE) -> int:
    """Write the setting, and point every source, executed lesson and page of the project to it. Outputs stay as they are."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        sys.exit(f"'{repo}' is no repository: give OWNER/NAME, e.g. badges --repo ada/dvlatent")
    old, changed = repository(folder), 0
    for file in [*sorted((folder / "src").glob("*.py")), *sorted(folder.glob("*.ipynb")), *(folder / "src").glob("README.md"), *pages_of(folder.parent)]:
        text = file.read_text(encoding="utf-8")
        new = re.sub(rf"(github\.com/|/github/){re.escape(old)}(?![\w.-])", rf"\g<1>{repo}", text)
        if file.parent == folder and file.suffix == ".ipynb" and new != text:
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


def pages_of(project: Path) -> list[Path]:
    """Where the repository is named beside the lessons."""
    return [*project.glob("README.md"), *sorted((project / "docs" / "teaching").glob("*.[mi][dp]*"))]


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


def solved(names: list[str], out: Path) -> int:
    """Copies of the lessons, with their outputs, in which every exercise is answered: one run of them tests lesson and solutions."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for source in sources(names):
        notebook = HERE / f"{source.stem}.ipynb"
        nbformat.write(answered(nbformat.read(notebook, as_version=4)), out / notebook.name)
    shutil.copy(HERE / "conftest.py", out)
    return 0


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


def slides(names: list[str], out: Path, folder: Path = HERE) -> int:
    """Write a deck for every executed lesson."""
    out.mkdir(parents=True, exist_ok=True)
    for source in sources(names, folder):
        (out / f"{source.stem}.html").write_text(deck(nbformat.read(folder / f"{source.stem}.ipynb", 4)), encoding="utf-8")
    print(f"Open a deck of {out} in a browser: arrow keys move, S shows the notes, F the full screen.")
    return 0


def quiz(folder: Path = HERE.parent / "docs" / "teaching") -> int:
    """Write the quiz for the class."""
    notebook = quiz_notebook((folder / "quiz.md").read_text(encoding="utf-8"), repository(HERE))
    (folder / "quiz.ipynb").write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return 0


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["execute", "html", "slides", "quiz", "solved", "badges", "rules"])
    parser.add_argument("names", nargs="*", help="lessons, e.g. 03 or 03_stylegan_sampling; all without it")
    parser.add_argument("--repo", help="OWNER/NAME on GitHub, for badges")
    parser.add_argument("--out", type=Path, help="where html and slides write (build/course, build/slides)")
    parser.add_argument("--jobs", type=int, default=0, help="how many lessons run at a time (0: as cores and memory allow)")
    asked = parser.parse_args()
    if asked.do == "badges":
        return badges(asked.repo or parser.error("badges needs --repo OWNER/NAME"))
    if asked.do == "rules":
        return min(rules(asked.names), 1)
    if asked.do == "solved":
        return solved(asked.names, HERE.parent / "build" / "solved")
    built = HERE.parent / "build"
    if asked.do in ("slides", "quiz"):
        return slides(asked.names, asked.out or built / "slides") if asked.do == "slides" else quiz()
    failed = html(asked.names, asked.out or built / "course", jobs=asked.jobs) if asked.do == "html" else execute(asked.names, jobs=asked.jobs)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
