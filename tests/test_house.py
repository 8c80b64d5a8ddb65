"""The house keeps its promises: floors, dependencies, documents and file sizes agree with what is there."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings tomli there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
COLAB = ROOT.parent / "shared" / "colab"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WEIGHTS = "dvlatent/checkpoints/weights/"
TEXT = {".py", ".md", ".js", ".ipynb", ".toml", ".txt", ".yml", ".cff", ".cfg", ""}


def our_files() -> list[str]:
    """Every file that is or would be committed, relative to the root; without git, everything but what make writes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = listed.stdout.split("\n") if listed.returncode == 0 else [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*")]
    skipped = {".git", ".venv", "build", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    return sorted(n for n in names if n and (ROOT / n).is_file() and not skipped & set(Path(n).parts) and ".egg-info" not in n)


FILES = our_files()
PAGES = [name for name in FILES if name.endswith(".md")]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(*extras: str) -> dict[str, Requirement]:
    """The core packages and those of the extras, by canonical name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed if r.name != PROJECT["name"]}


def pins(path: Path) -> dict[str, str]:
    """name==version lines, by canonical name; suffixes such as +cpu and markers dropped."""
    found = re.findall(r"^([\w.-]+)==([\w.!]+)", path.read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def committed(path: str) -> bool:
    """A file that is or would be committed, or a folder with one in it: an empty folder does not survive a clone."""
    path = path.rstrip("/")
    return any(name == path or name.startswith(path + "/") for name in FILES)


ALL_EXTRAS = tuple(PROJECT["optional-dependencies"])


def test_environment_yml_has_the_packages_and_floors_of_pyproject():
    environment = yaml.safe_load(read("environment.yml"))
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == PROJECT["name"] and pip == "pip"
    assert python == "python" + PROJECT["requires-python"]
    assert packages["pip"][-1] == "-e ."
    given = {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in packages["pip"][:-1]}
    assert given == {name: str(r.specifier) for name, r in requirements("course").items()}
    uncommented = [line for line in read("environment.yml").splitlines() if re.match(r" +- (?!pip:|conda)", line) and "#" not in line]
    assert not uncommented, "every line of environment.yml says what it is for"


@pytest.mark.parametrize("freeze", ["pip-freeze.txt", "pip-freeze.gpu.txt"])
def test_colab_satisfies_our_floors(freeze):
    if not COLAB.is_dir():
        pytest.skip("no ../shared/colab beside the checkout, so Colab's versions are unknown here")
    colab = pins(COLAB / freeze)
    wanted = requirements("course")
    assert len(colab) > 300 and {"torch", "numpy", "ipywidgets"} <= set(colab) & set(wanted)
    wrong = [f"{r} but Colab has {colab[n]}" for n, r in wanted.items() if n in colab and not r.specifier.contains(colab[n])]
    assert not wrong, "lower the floor (upgrading inside a running Colab breaks it): " + "; ".join(wrong)


def test_constraints_pin_every_package_within_its_floors():
    pinned = pins(ROOT / "constraints.txt")
    wrong = [f"{r}: pinned {pinned.get(n)}" for n, r in requirements(*ALL_EXTRAS).items() if not r.specifier.contains(pinned.get(n, "0"))]
    assert not wrong, "raise the pin or lower the floor, then `make pins`: " + "; ".join(wrong)
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    marker = r'( ; python(_version >= "3\.\d+|_full_version >= "3\.\d+\.\d+)")?'
    strange = [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.]+" + marker, line)]
    assert not strange, f"constraints hold exact public versions only: {strange}"


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([linter, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_imports_go_down_only_and_a_wrong_one_is_caught(tmp_path):
    right = lint_imports(ROOT)
    assert right.returncode == 0, right.stdout + right.stderr
    shutil.copytree(ROOT / "dvlatent", tmp_path / "dvlatent", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "dvlatent" / "rng.py").open("a") as upward:
        upward.write("\nfrom dvlatent import directions\n")
    wrong = lint_imports(tmp_path)
    assert wrong.returncode != 0 and "dvlatent.rng" in wrong.stdout and "dvlatent.directions" in wrong.stdout


def test_no_module_imports_the_front_door():
    """`import dvlatent` inside the package would reach every floor at once, unseen by the linter."""
    names = {p.stem for p in (ROOT / "dvlatent").iterdir() if p.suffix == ".py" or p.is_dir()}
    wrong = []
    for name in FILES:
        if not name.startswith("dvlatent/") or not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(read(name))):
            if isinstance(node, ast.Import) and any(alias.name == "dvlatent" for alias in node.names):
                wrong.append(f"{name}:{node.lineno}")
            elif isinstance(node, ast.ImportFrom) and node.module == "dvlatent" and not {a.name for a in node.names} <= names:
                wrong.append(f"{name}:{node.lineno}")
    wrong = [place for place in wrong if not place.startswith(("dvlatent/cli.py", "dvlatent/__main__.py"))]
    assert not wrong, f"import from the module that has it, e.g. `from dvlatent.latents import lerp`: {wrong}"


def test_import_stays_light():
    use_all = "import dvlatent; [getattr(dvlatent, name) for name in dvlatent.__all__]"
    code = f"import sys, torch, numpy; before = set(sys.modules); {use_all}; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    heavy = set("matplotlib onnxruntime sklearn skimage openvino imageio PIL scipy IPython ipywidgets dlib".split())
    assert "dvlatent" in added
    assert not heavy & set(added), f"import these inside the function that needs them: {heavy & set(added)}"


def test_no_code_file_over_350_lines():
    """The lessons' own sources are prose, and have rules of their own."""
    ours = [n for n in FILES if Path(n).suffix in {".py", ".js"} and not n.startswith("notebooks/src/")]
    long = {name: count for name in ours if (count := len(read(name).splitlines())) > 350}
    assert not long, f"a file over 350 lines has two jobs: split it: {long}"


def test_committed_files_are_small():
    size = {name: (ROOT / name).stat().st_size for name in FILES}
    big = {name: f"{s / 1e6:.1f} MB" for name, s in size.items() if s > 3e6 and not name.startswith(WEIGHTS)}
    assert not big, f"over 3 MB: {big}"
    assert sum(s for name, s in size.items() if name.startswith(WEIGHTS)) <= 40e6, "our weights together stay within 40 MB"


def test_no_private_paths_or_words():
    """What is committed runs anywhere: no absolute paths, no registry hosts, nothing of the place it was written in."""
    # /home/ada is the example person of tests and pages
    here = r"(?<![\w.:/~-])/(?:work|root|home(?!/ada)|tmp|opt|Users|mnt|srv|usr/lib|usr/local)/\w"
    hosts = "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", r"registry\.npm" + "js", "clau" + "de", "anthro" + "pic"))
    found = []
    for name in FILES:
        if Path(name).suffix not in TEXT or name == "tests/test_house.py":
            continue
        for number, line in enumerate(read(name).splitlines(), 1):
            if '"image/' in line:  # a picture in base64, where any letters may meet
                continue
            if re.search(here, line) or re.search(hosts, line, re.IGNORECASE):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found, found


def code_block(page: str, language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", read(page), re.DOTALL)[1]


def test_readme_file_tree_is_true():
    tree, parents = set(), []
    for line in code_block("README.md", "text").splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        parents = [*parents[: len(indent) // 2], name]
        tree.add("".join(parents).rstrip("/"))
    missing = [path for path in tree if not committed(path)]
    assert not missing, f"README draws what is not there: {missing}"
    expected = {name.split("/")[0] for name in FILES} - {".gitignore", ".gitattributes"}
    expected |= {"/".join(name.split("/")[:2]) for name in FILES if name.startswith("dvlatent/") and "/__" not in name}
    assert expected <= tree, f"README's tree lacks {sorted(expected - tree)}"


def test_readme_lists_the_notebooks():
    rows = re.findall(r"^\| (\d\d) \| \[.+?\]\(notebooks/((\d\d)_\w+\.ipynb)\) \| .+ \|$", read("README.md"), re.MULTILINE)
    assert all(number == prefix for number, _, prefix in rows)
    assert [file for _, file, _ in rows] == sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))


def test_readme_code_runs_as_it_stands(tmp_path):
    code = code_block("README.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert any(tmp_path.glob("*.jpg")) or any(tmp_path.glob("*.png")), "README's lines leave a picture"


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_resolve(page):
    broken = []
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, fragment = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        if not committed(os.path.relpath(there, ROOT).replace(os.sep, "/")):
            broken.append(target)
        elif fragment and fragment not in {anchor(h) for h in re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)}:
            broken.append(target)
    assert not broken, f"{page} points nowhere: {broken}"


def test_one_version_everywhere():
    version = PROJECT["version"]
    assert re.search(rf"^## \[?{re.escape(version)}\]?", read("CHANGELOG.md"), re.MULTILINE), f"CHANGELOG has no section {version}"
    assert str(yaml.safe_load(read("CITATION.cff"))["version"]) == version
    assert f'__version__ = "{version}"' in read("dvlatent/__init__.py")


def test_models_md_names_every_weight_and_every_asset_package():
    page = read("MODELS.md")
    missing = [name for name in FILES if name.startswith(WEIGHTS) and f"`{Path(name).name}`" not in page]
    assert not missing, f"MODELS.md does not say where these come from: {missing}"
    packages = re.findall(r"^([\w-]+)==([\w.]+)", read("dvlatent/checkpoints/assets.txt"), re.MULTILINE)
    assert packages and all(f"{name} {version}" in page for name, version in packages), packages


def test_glossary_is_in_order_and_points_to_lessons():
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", read("GLOSSARY.md"), re.MULTILINE)
    terms = [term for term, _ in entries]
    assert terms == sorted(terms, key=str.casefold), "the glossary is alphabetical"
    assert len(terms) == len(set(terms)) and len(terms) >= 40
    for term, meaning in entries:
        assert len(meaning.split()) >= 5 and re.search(r"\((?:\d\d, )*\d\d\)$", meaning), f"{term}: a sentence, then its lesson, like (03)"


def test_architecture_opens_real_files():
    section = read("ARCHITECTURE.md").split("## I want to change")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!I want|---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    paths = [path for _, place in rows for path in re.findall(r"`([\w./-]+)`", place)]  # a command has a space
    assert len(rows) >= 10 and len(paths) >= 10
    missing = [path for path in paths if not committed(path)]
    assert not missing, f"ARCHITECTURE opens what is not there: {missing}"
