"""notebooks/build.py: lessons are run whole or not written, pages work offline, one setting moves every badge."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))

import build  # noqa: E402
import rules  # noqa: E402

LESSON = """\
# %% [markdown]
# # 42 · What is an answer?
#
# [![Open in Colab](https://example.org/badge.svg)](https://colab.research.google.com/github/ada/face/blob/main/notebooks/42_answers.ipynb)
#
# **Question:** is *this*
# an answer?
#
# **Time:** 2 s

# %% tags=["setup"]
SETUP

# %%
from IPython.display import display

display({"image/png": b"abc", "text/plain": "a red square"}, metadata={"image/png": {"alt": 'a "red" square', "width": 300}}, raw=True)
display({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}, raw=True)
drawing = '<svg role="img"><title>a map</title></svg>'
display({"image/svg+xml": drawing, "text/plain": "a map of three"}, metadata={"image/svg+xml": {"alt": "a map of three"}}, raw=True)

# %% [markdown]
# [Next](43_more.ipynb#top)
#
# <details><summary>Solution</summary>
#
# ```python
# answer = 42
# ```
# </details>

# %%
1 + 1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "repository.txt").write_text("ada/face\n")
    (tmp_path / "src" / "42_answers.py").write_text(LESSON.replace("SETUP", rules.SETUP.format(repo="ada/face")))
    return tmp_path


def copy(folder, name):
    (folder / "src" / f"{name}.py").write_text((folder / "src" / "42_answers.py").read_text())


def spoil(folder, name="42_answers"):
    source = folder / "src" / f"{name}.py"
    source.write_text((folder / "src" / "42_answers.py").read_text() + "\n# %%\nfirst = 1\nraise KeyError('lost')\n")


def test_a_lesson_is_run_and_written_without_what_changes_from_run_to_run(folder, capsys):
    build.execute([], folder)
    first = (folder / "42_answers.ipynb").read_bytes()
    notebook = nbformat.read(folder / "42_answers.ipynb", 4)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "2"
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert re.search(r"42_answers +\d+ s, 0\.\d GB at most, 0\.0 MB", capsys.readouterr().out)
    build.execute(["42"], folder)
    assert (folder / "42_answers.ipynb").read_bytes() == first


def test_a_lesson_that_fails_is_not_written_and_says_where(folder, capsys):
    (folder / "42_answers.ipynb").write_text("as before")
    spoil(folder)
    assert build.execute([], folder) == 1
    said = capsys.readouterr().out
    assert (folder / "42_answers.ipynb").read_text() == "as before"
    assert "FAILED and not written: cell 6 failed, it begins with 'first = 1'" in said and "KeyError: 'lost'" in said


def test_a_dead_kernel_is_a_failure_in_words():
    result = build.run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os; os._exit(1)")]))
    assert "cell 1 failed" in result.failure and "died" in result.failure.lower()


def test_pages_work_offline_and_keep_alt_text(folder, capsys):
    spoil(folder, "43_more")
    assert build.html([], folder / "out", folder) == 1
    page, index = ((folder / "out" / name).read_text() for name in ("42_answers.html", "index.html"))
    assert not re.search(r"""<script [^>]*src|<link|@import|(src|srcset)=["'](?!data:)|url\((?!data:)""", page + index)
    (picture,) = re.findall(r"<img [^>]*>", page)
    assert """alt='a "red" square'""" in picture and 'width="300"' in picture
    assert "something to move here" in page and '<svg role="img"><title>a map</title></svg>' in page
    assert 'href="43_more.html#top"' in page and "Next →" in page
    details = page[page.index("<details>") : page.rindex("</details>")]
    assert "<summary>Solution</summary>" in details and "42" in details
    assert "<td>is this an answer?</td>" in index and "stopped" in index
    assert "This lesson stopped: cell 6 failed" in (folder / "out" / "43_more.html").read_text()
    assert "1 of 2 lessons ran. Open" in capsys.readouterr().out


def test_running_some_lessons_keeps_the_others_in_the_index(folder):
    for name in ("43_more", "44_never"):
        copy(folder, name)
    build.html(["42", "43"], folder / "out", folder)
    assert "next" not in (folder / "out" / "43_more.html").read_text().split("<main>")[0].split("All lessons")[1], "that page is not there"
    build.html(["42"], folder / "out", folder)
    index = (folder / "out" / "index.html").read_text()
    rows = [re.sub(r"<[^>]*>", " ", row).split()[-2:] for row in re.findall(r"<tr>(.*?)</tr>", index)[1:]]
    assert [row[-1] for row in rows] == ["s", "s", "yet"] and index[index.index("<table") : index.index("</table>")].count("href=") == 2
    assert 'href="43_more.html">Next' in (folder / "out" / "42_answers.html").read_text()


MEETING = """
from pathlib import Path
from time import sleep

Path("NAME.here").touch()
for _ in range(300):
    if len(list(Path().glob("*.here"))) == 2:
        break
    sleep(0.1)
assert len(list(Path().glob("*.here"))) == 2, "the other lesson does not run"
"""


def test_two_lessons_run_at_a_time_and_are_reported_in_order(folder, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # so that it is put back as it was
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(build, "cores", lambda: 2)
    copy(folder, "43_more")
    names = ("42_answers", "43_more")
    for name in names:
        source = folder / "src" / f"{name}.py"
        source.write_text(f"{source.read_text()}\n# %%{MEETING.replace('NAME', name)}\n# %%\nimport os\nos.environ['OMP_NUM_THREADS']")
    build.execute([], folder, jobs=2)
    said = capsys.readouterr().out
    assert "FAILED" not in said and said.index("42_answers ") < said.index("43_more ")
    threads = [nbformat.read(folder / f"{name}.ipynb", 4).cells[-1].outputs[0].data["text/plain"] for name in names]
    assert threads == ["'1'", "'1'"]


@pytest.mark.parametrize(
    ("lessons", "cores", "free", "jobs"),
    [(8, 2, 16, 2), (8, 1, 16, 1), (1, 2, 16, 1), (8, 2, 7.9, 1), (8, 2, 1, 1), (8, 16, 64, 8), (8, 3, 64, 2)],
)
def test_as_many_lessons_at_a_time_as_cores_and_memory_allow(lessons, cores, free, jobs, monkeypatch):
    monkeypatch.setattr(build, "cores", lambda: cores)
    monkeypatch.setattr(build.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 2**30))
    assert build.jobs_for(lessons) == jobs


def test_badges_move_every_badge_and_setup_cell_and_keep_outputs(folder, capsys):
    build.execute([], folder)
    before = nbformat.read(folder / "42_answers.ipynb", 4)
    build.badges("grace/course", folder)
    after = nbformat.read(folder / "42_answers.ipynb", 4)
    assert rules.repository(folder) == "grace/course"
    assert "ada/face" not in (folder / "42_answers.ipynb").read_text() + (folder / "src" / "42_answers.py").read_text()
    assert after.cells[1].source == rules.SETUP.format(repo="grace/course")
    assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before.cells]
    assert [cell.id for cell in after.cells] == [cell.id for cell in build.read(folder / "src" / "42_answers.py").cells]
    build.badges("ada/face", folder)
    assert nbformat.read(folder / "42_answers.ipynb", 4) == before


def test_badges_move_the_pages_of_the_project_too(folder):
    lessons, teaching = folder / "notebooks", folder / "docs" / "teaching"
    teaching.mkdir(parents=True)
    for file in (folder / "README.md", teaching / "README.md", teaching / "quiz.ipynb"):
        file.write_text("git clone https://github.com/ada/face && colab.research.google.com/github/ada/face/blob github.com/ada/facets")
    shutil.move(folder / "src", lessons / "src")
    shutil.move(folder / "repository.txt", lessons)
    build.badges("grace/course", lessons)
    for file in (folder / "README.md", teaching / "README.md", teaching / "quiz.ipynb"):
        assert file.read_text().count("grace/course") == 2 and "ada/facets" in file.read_text()


UNSET = "OWNER" "/dvlatent"


@pytest.mark.parametrize(
    ("repo", "remote", "home"),
    [
        (UNSET, "", ""), (UNSET, "../dvlatent.git", ""), ("ada/face", "", "ada/face"), (UNSET, "git@github.com:ada/face.git", "ada/face"),
        (UNSET, "https://github.com/ada/face", "ada/face"), ("grace/course", "https://github.com/ada/face", "grace/course"),
    ],
)  # fmt: skip
def test_a_known_repository_leaves_no_placeholder_and_the_message_says_what_to_do(repo, remote, home):
    found = rules.placeholders({"README.md": f"github.com/{UNSET}", "other.md": "OWNER/NAME"}, repo, remote)
    assert found == ([f"README.md still says {UNSET}: run `make badges REPO={home}`"] if home else [])


def test_nothing_says_owner_once_the_repository_is_known():
    def git(*words):
        return subprocess.run(["git", *words], cwd=NOTEBOOKS.parent, capture_output=True, text=True, check=False).stdout.strip()

    kinds = {".md", ".py", ".ipynb", ".txt", ".cff"}
    files = [NOTEBOOKS.parent / name for name in git("ls-files").splitlines() if Path(name).suffix in kinds]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    found = rules.placeholders(texts, rules.repository(NOTEBOOKS), git("remote", "get-url", "origin"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("repo", ["dvlatent", "https://github.com/ada/face", "ada/fa ce"])
def test_badges_refuse_what_is_no_repository(folder, repo):
    with pytest.raises(SystemExit, match="give OWNER/NAME"):
        build.badges(repo, folder)


def test_an_unknown_lesson_is_refused_with_the_known_ones(folder):
    with pytest.raises(SystemExit, match=r"no lesson is called 77; there are: 42_answers\."):
        build.execute(["77"], folder)
