"""The house keeps its promises: floors, dependencies, documents and file sizes agree with what is there."""

import argparse
import ast
import contextlib
import fnmatch
import json
import os
import re
import runpy
import shlex
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
WEIGHTS = "dvlatent/weights/"
PINS = ".ci/constraints.txt"
TEXT = {".py", ".md", ".js", ".ipynb", ".toml", ".txt", ".yml", ".cff", ".cfg", ""}


def our_files() -> list[str]:
    """Every file that is or would be committed, relative to the root; without git, everything but what make writes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = listed.stdout.split("\n") if listed.returncode == 0 else [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*")]
    skipped = {".git", ".venv", "build", "node_modules", "__pycache__", *(f".{tool}_cache" for tool in ("pytest", "ruff", "import_linter"))}
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
    pinned = pins(ROOT / PINS)
    wrong = [f"{r}: pinned {pinned.get(n)}" for n, r in requirements(*ALL_EXTRAS).items() if not r.specifier.contains(pinned.get(n, "0"))]
    assert not wrong, "raise the pin or lower the floor, then `make pins`: " + "; ".join(wrong)
    lines = [line for line in read(PINS).splitlines() if line and not line.startswith("#")]
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
    with (tmp_path / "dvlatent" / "gan" / "data.py").open("a") as upward:
        upward.write("\nfrom dvlatent.stylegan import strips\n")  # chapter 01 uses chapter 03
    wrong = lint_imports(tmp_path)
    assert wrong.returncode != 0 and "dvlatent.gan" in wrong.stdout and "dvlatent.stylegan" in wrong.stdout


def test_no_module_imports_the_front_door():
    """`import dvlatent` inside the package would reach every floor at once, unseen by the linter."""
    names = {p.stem for p in (ROOT / "dvlatent").iterdir() if p.suffix == ".py" or p.is_dir()} | {"__version__"}
    wrong = []
    for name in FILES:
        if not name.startswith("dvlatent/") or not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(read(name))):
            if isinstance(node, ast.Import) and any(alias.name == "dvlatent" for alias in node.names):
                wrong.append(f"{name}:{node.lineno}")
            elif isinstance(node, ast.ImportFrom) and node.module == "dvlatent" and not {a.name for a in node.names} <= names:
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong, f"import from the module that has it, e.g. `from dvlatent.latents import lerp`: {wrong}"


def test_import_stays_light():
    use_all = "import dvlatent; [getattr(dvlatent, name) for name in dvlatent.__all__]"
    code = f"import sys, torch, numpy; before = set(sys.modules); {use_all}; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    heavy = set("matplotlib onnxruntime sklearn skimage openvino imageio PIL scipy IPython ipywidgets dlib".split())
    assert "dvlatent" in added
    assert not heavy & set(added), f"import these inside the function that needs them: {heavy & set(added)}"


def code_lines(folder: str, *endings: str) -> dict[str, int]:
    """How many lines each file has."""
    return {name: len(read(name).splitlines()) for name in FILES if name.startswith(folder) and name.endswith(endings)}


def test_a_code_file_ends_where_its_subject_ends():
    """The lessons' own sources are prose, and have rules of their own."""
    long = {n: count for n, count in code_lines("", ".py", ".js").items() if count > 500 and not n.startswith("notebooks/src/")}
    assert not long, f"a file over 500 lines has two subjects: split it: {long}"


def test_the_library_is_small_and_no_room_outgrows_it():
    lines = code_lines("dvlatent/", ".py", ".js")
    total, rooms = sum(lines.values()), {}
    for name, count in lines.items():
        room = name.split("/")[1]
        rooms[room] = rooms.get(room, 0) + count
    large = {room: count for room, count in rooms.items() if count > 0.16 * total}
    assert total <= 16_000 and not large, f"{total} lines; rooms over 16 %: {large}"
    assert sum(code_lines("tests/", ".py").values()) <= 16_700


def test_the_top_level_fits_on_one_screen():
    entries = {name.split("/")[0] for name in FILES if not name.startswith(".")}
    assert len(entries) <= 14, sorted(entries)


def test_committed_files_are_small():
    size = {name: (ROOT / name).stat().st_size for name in FILES}
    big = {name: f"{s / 1e6:.1f} MB" for name, s in size.items() if s > 3e6 and not name.startswith(WEIGHTS)}
    assert not big, f"over 3 MB: {big}"
    assert sum(s for name, s in size.items() if name.startswith(WEIGHTS)) <= 60e6, "our weights together stay within 60 MB"


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


def test_models_names_every_weight_and_every_asset_package():
    page = read("docs/MODELS.md")
    missing = [name for name in FILES if name.startswith(WEIGHTS) and f"| `{Path(name).name}` |" not in page]
    assert not missing, f"MODELS.md does not say what these are: {missing}"
    packages = re.findall(r"^([\w-]+)==([\w.]+)", read("dvlatent/assets.txt"), re.MULTILINE)
    assert packages and all(f"{name} {version}" in page for name, version in packages), packages


def test_glossary_is_in_order_and_points_to_lessons():
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", read("docs/GLOSSARY.md"), re.MULTILINE)
    terms = [term for term, _ in entries]
    assert terms == sorted(terms, key=str.casefold), "the glossary is alphabetical"
    assert len(terms) == len(set(terms)) and len(terms) >= 40
    for term, meaning in entries:
        assert len(meaning.split()) >= 5 and re.search(r"\((?:\d\d, )*\d\d\)$", meaning), f"{term}: a sentence, then its lesson, like (03)"


def test_architecture_opens_real_files():
    section = read("docs/ARCHITECTURE.md").split("## I want to change")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!I want|---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    paths = [path for _, place in rows for path in re.findall(r"`([\w./-]+)`", place)]  # a command has a space
    assert len(rows) >= 10 and len(paths) >= 10
    missing = [path for path in paths if not committed(path)]
    assert not missing, f"ARCHITECTURE opens what is not there: {missing}"


def commands_on(page: str) -> tuple[list[str], list[str]]:
    """The lines of a page's bash blocks without comments, and everything else that stands between backticks."""
    blocks = re.findall(r"```bash\n(.*?)```", read(page), re.DOTALL)
    lines = [re.sub(r" +#.*", "", line) for block in blocks for line in block.splitlines()]
    return lines, re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE))


def test_pages_name_real_targets_of_make():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    for page in PAGES:
        lines = [re.sub(r" \w+=\S+", "", line).split() for lines in commands_on(page) for line in lines]
        named = {words[1] for words in lines if words[:1] == ["make"] and len(words) > 1}
        assert named <= targets, f"{page} names targets that make does not have: {named - targets}"


def test_an_installed_package_has_all_its_files():
    patterns = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]["dvlatent"]
    ours = [name.removeprefix("dvlatent/") for name in FILES if name.startswith("dvlatent/") and not name.endswith(".py")]
    left = [name for name in ours if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert ours and not left, f"add to package-data in pyproject.toml: {left}"
    assert all((ROOT / name).with_name("__init__.py").exists() for name in FILES if name.startswith("dvlatent/") and name.endswith(".py"))


def test_licences_are_there_and_go_with_the_package():
    assert read("LICENSE").startswith("MIT License") and "CC BY 4.0" in read("docs/LICENSE-content")
    assert PROJECT["license"] == "MIT" and sorted(PROJECT["license-files"]) == ["LICENSE", "docs/LICENSE-content"]
    assert "(LICENSE)" in read("README.md") and "(docs/LICENSE-content)" in read("README.md")
    assert all(committed(name) for name in PROJECT["license-files"])


# ---- names


def pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


NOT_OURS = pairs(  # words of identifiers, and what the field says instead
    """critic:discriminator critics:discriminator dice:rng look:step,view,render looks:steps apart:identity_distance together:delta_weight
    slope:gradient seek:optimize_edit walker:optimizer springs:l2 place:device,position places:positions told:metadata share:fraction,shard
    shares:fractions spread:std some:subset gradual:differentiable centre:center colour:color grey:gray optimiser:optimizer
    normalise:normalize"""
)
NOT_ALONE = pairs(  # whole identifiers
    "rate:lr average:ema,mean middle:median,center bfloat16:bf16 rounded:bf16 follow:update_ema drawn:drawing running:state "
    "Lessons:PairDataset"
)
THEIRS = {"bfloat16", "average", "seek", "middle"}  # attributes of torch, numpy, files; the last is a layer in files of weights
OLD_FLAGS = {"--again", "--first", "--held", "--seed", "--critics-from", "--rate", "--critic-rate", "--rounded"}


def identifiers(tree: ast.AST):
    """Every name that a file binds or uses, with its line; attributes of other libraries left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if node.attr not in THEIRS:
                yield node.attr, node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, (ast.arg, ast.keyword)):
            yield node.arg or "", node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("dvlatent/", "recipes/")) and name.endswith(".py")])
def test_identifiers_are_the_field_s(name):
    wrong = []
    for identifier, line in identifiers(ast.parse(read(name))):
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)
        for word in {word.lower() for word in words} & set(NOT_OURS):
            wrong.append(f"{line}: {identifier} -> {NOT_OURS[word]}")
        if identifier in NOT_ALONE:
            wrong.append(f"{line}: {identifier} -> {NOT_ALONE[identifier]}")
    assert not wrong, f"{name}: {sorted(set(wrong))}"


# ---- commands


@pytest.fixture(scope="module")
def parsers():
    """The parser of every recipe by its path, and `dvlatent`'s as a function of the words."""
    import common

    from dvlatent.cli.main import parser

    found, run = {"dvlatent": lambda words: parser()}, common.run
    try:
        for name in (name for name in FILES if re.fullmatch(r"recipes/\w+\.py", name) and '"__main__"' in read(name)):
            common.run = lambda make, arguments, *rest, name=name, **more: found.update({name: lambda words: arguments}) or 0
            with contextlib.suppress(SystemExit):
                runpy.run_path(str(ROOT / name), run_name="__main__")
    finally:
        common.run = run
    return found


def parse(parsers, command: str) -> argparse.Namespace:
    """Read a command as its program would. Raises SystemExit for a wrong flag, KeyError for a program that does not exist."""
    words = shlex.split(command, comments=True)
    words = words[1:] if words[0] == "python" else words
    return parsers[words[0]](words[1:]).parse_args(words[1:])


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The flags of a parser and of its commands."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {flag for command in action.choices.values() for flag in options(command)}
    return found


def test_no_old_flag_is_left(parsers):
    for name, make in parsers.items():
        assert not OLD_FLAGS & options(make(["edit"])), name


def commands_of(metadata) -> list[str]:
    """Every command in a file's description, those of the files that it began from included."""
    if isinstance(metadata, list):
        return [found for part in metadata for found in commands_of(part)]
    if not isinstance(metadata, dict):
        return []
    own = [value for key, value in metadata.items() if key.endswith("command")] + metadata.get("training_commands", [])
    return own + [found for value in metadata.values() for found in commands_of(value)]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(WEIGHTS) and name.endswith(".safetensors")])
def test_every_weight_says_a_command_that_makes_it_again(parsers, name):
    from safetensors import safe_open

    with safe_open(ROOT / name, "pt") as weights:
        description = json.loads(weights.metadata()["description"])
    commands = commands_of(description)
    for command in commands:
        parse(parsers, command)
    lines = (ROOT / "docs/MODELS.md").read_text().splitlines()  # a second file of the same command is named behind it
    main = [command for command in commands if any(line.startswith(command) and Path(name).name in line for line in lines)]
    assert main, f"{name} and MODELS.md do not say the same command: {commands}"


def test_commands_on_pages_can_be_typed(parsers):
    for page in PAGES:
        blocks, words = commands_on(page)
        for line in blocks:
            if line.startswith(("dvlatent ", "python recipes/", ".venv/bin/dvlatent ")):
                parse(parsers, line.removeprefix(".venv/bin/"))
        for line in words:  # in the prose: the program and its flags
            program, *rest = line.removeprefix("python ").split() or [""]
            if program in parsers:
                flags = options(parsers[program](rest))
                wrong = [word for word in rest if word.startswith("--") and word.split("=")[0] not in flags]
                assert not wrong, f"{page}: {line}: {wrong}"
        scripts = re.findall(r"python ((?:benchmarks|docs|notebooks|recipes)/(?!NAME)[\w/]+\.py)", read(page))
        assert all(map(committed, scripts)), f"{page} runs a script that is not there: {scripts}"
