"""The cache of assets: whatever happens to a run, it ends in one sentence and the next run repairs.

Real pip, real processes, no network: tiny wheels made here, in a folder that pip is pointed at.
"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from dvlatent import cli
from dvlatent.checkpoints import fetch, store
from dvlatent.errors import AssetBroken, AssetError, AssetMissing

ALPHA, BETA = "alpha/data/one.bin", "beta/models/two.onnx"
DRIVER = """
import os, sys
from pathlib import Path
from dvlatent import cli
from dvlatent.checkpoints import store
{more}
store.REQUIREMENTS = Path(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> str:
    """A tiny wheel in `folder`; gives its requirement line."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"raise SystemExit('this package must never be imported')",
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"Do as you like.",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(inner), content)  # always dated 1980: the same hash every time
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Place:
    """One package folder, one requirements file, one cache."""

    def __init__(self, folder: Path):
        self.wheels, self.requirements, self.home = folder / "wheels", folder / "assets.txt", folder / "home"
        self.wheels.mkdir()
        self.alpha = wheel(self.wheels, "alpha", "1.0", {ALPHA: b"1" * 1000, "alpha/tool.so": b"code", "alpha/license.py": b"code"})
        self.beta = wheel(self.wheels, "beta", "1.0", {BETA: b"2" * 2000, "beta/models/notices/two.md": b"whose it is"})
        self.write(self.alpha, self.beta)

    def write(self, *lines: str) -> None:
        self.requirements.write_text("# two packages\n\n" + "\n".join(lines) + "\n")

    def environment(self, **more: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "DVLATENT"))}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return {**clean, **pip, "PIP_RETRIES": "0", "DVLATENT_HOME": str(self.home), "PYTHONPATH": str(Path(__file__).parents[1]), **more}

    def start(self, *arguments: str, more: str = "", before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        command = [*before, sys.executable, "-c", DRIVER.format(more=more), str(self.requirements), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment(**environment), **pipes)

    def run(self, *arguments: str, **more) -> tuple[int, str]:
        """The command in a process of its own: exit code, and what it said on stderr."""
        process = self.start(*arguments or ("assets",), **more)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir() if path.name not in ("assets", "assets.lock"))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    """An empty cache, this process's store pointed at it."""
    place = Place(tmp_path)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    for name in set(os.environ) - set(place.environment()):
        monkeypatch.delenv(name)
    monkeypatch.setattr(store, "REQUIREMENTS", place.requirements)
    return place


@pytest.fixture(scope="session")
def _installed(tmp_path_factory) -> Path:
    place = Place(tmp_path_factory.mktemp("whole"))
    assert place.run()[0] == 0
    return place.home


@pytest.fixture
def whole(place, _installed) -> Place:
    """A complete cache."""
    shutil.copytree(_installed, place.home)
    return place


@pytest.fixture
def unzip(monkeypatch) -> list[str]:
    """Unzipping in pip's place, where pip is not what is tested; gives the list of packages asked for."""
    asked = []

    def fetch_by_unzip(line, staging, progress, *, label, pip_args=()):
        asked.append(line)
        name, version = line.split()[0].split("==")
        with zipfile.ZipFile(Path(os.environ["PIP_FIND_LINKS"]) / f"{name}-{version}-py3-none-any.whl") as archive:
            archive.extractall(staging / "package")
        return staging / "package"

    monkeypatch.setattr(store, "fetch", fetch_by_unzip)
    return asked


def one_sentence(said: str) -> str:
    """The last line, after checking that nothing like a traceback came."""
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def is_whole(place: Place, *besides: str) -> bool:
    return not store.damaged() and store.installed() and place.leftovers() == list(besides)


# The usual way


def test_only_data_and_licences_are_kept(place):
    assert not store.installed()
    code, said = place.run()
    assert code == 0, said
    assert is_whole(place)
    assert "alpha 1.0 (1 of 2)" in said and "beta 1.0 (2 of 2)" in said
    assert sorted(path.relative_to(place.home / "assets").as_posix() for path in place.home.rglob("assets/**/*") if path.is_file()) == [
        "alpha-1.0.dist-info/LICENSE",
        "alpha-1.0.dist-info/METADATA",
        ALPHA,
        "beta-1.0.dist-info/LICENSE",
        "beta-1.0.dist-info/METADATA",
        "beta/models/notices/two.md",
        BETA,
        "manifest.json",
    ]
    assert store.asset_path(ALPHA).read_bytes() == b"1" * 1000
    assert store.home() == place.home


def test_install_takes_other_requirements_and_options_for_pip(place, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    other, heard = place.requirements.with_name("other.txt"), []
    other.write_text(place.beta)
    store.install(lambda text, done: heard.append(text), requirements=other, pip_args=["--no-index", "--find-links", str(place.wheels)])
    assert not store.damaged(other)
    assert list(store.damaged()) == [place.alpha]
    assert heard[-1].startswith("Weights and data are complete: 4 files")


def test_a_second_run_fetches_nothing(whole, unzip, capsys):
    assert cli.main(["assets"]) == 0
    assert unzip == []
    assert "complete" in capsys.readouterr().err


def test_the_default_home_is_the_cache_folder_of_the_platform(monkeypatch):
    monkeypatch.setenv("DVLATENT_HOME", "")
    assert store.home().is_absolute() and "dvlatent" in store.home().parts


def test_every_line_of_our_own_list_is_pinned_by_hash():
    own = store.requirement_lines()
    assert len(own) == 5
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in own)


# Asking for a file


def test_a_missing_file_says_the_command(place):
    with pytest.raises(AssetMissing, match="`dvlatent assets`"):
        store.asset_path(ALPHA)


def test_an_unknown_name_says_so(whole):
    with pytest.raises(AssetMissing, match=r"No package .* holds 'alpha/data/three.bin'"):
        store.asset_path("alpha/data/three.bin")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret", "alpha/../../secret", "alpha\\..\\secret", "C:/secret", "alpha/\0"])
def test_names_that_lead_out_are_refused(whole, name):
    (whole.home / "secret").write_text("not yours")
    with pytest.raises(AssetError, match="is no asset"):
        store.asset_path(name)


def test_a_hostile_manifest_leads_nowhere(whole, unzip):
    (whole.home / "secret").write_text("not yours")
    manifest = store._read_manifest()
    manifest["old==1 --hash=sha256:0"] = {"../secret": {"size": 9, "sha256": ""}}
    store._write_manifest(manifest)
    (whole.home / "assets" / BETA).unlink()
    store.install()  # repairs, and forgets the package that is not on the list
    assert (whole.home / "secret").exists()
    assert is_whole(whole, "secret")


# Damage found later


def test_a_truncated_file_is_found_and_repaired(whole, unzip, capsys):
    os.truncate(whole.home / "assets" / BETA, 77)
    with pytest.raises(AssetBroken, match=r"77 bytes where 2000 .*`dvlatent assets`"):
        store.asset_path(BETA)
    assert not store.installed()
    assert cli.main(["assets"]) == 0
    assert unzip == [whole.beta]  # and nothing else was fetched
    assert is_whole(whole)


def test_a_changed_byte_is_found_by_check_and_repaired(whole, unzip, capsys):
    (whole.home / "assets" / ALPHA).write_bytes(b"1" * 999 + b"X")
    assert cli.main(["assets", "--check"]) == 1
    assert one_sentence(capsys.readouterr().err).startswith(f"Not complete: {ALPHA} is not what was installed")
    assert cli.main(["assets"]) == 0
    assert unzip == [whole.alpha]
    assert cli.main(["assets", "--check"]) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packages": 3}', '{"packages": {"x": {"y": 1}}}', "\0\0\0"])
def test_a_broken_manifest_means_not_installed(whole, unzip, text):
    (whole.home / "assets" / "manifest.json").write_text(text)
    assert not store.installed()
    with pytest.raises(AssetMissing):
        store.asset_path(ALPHA)
    store.install()
    assert is_whole(whole)


def test_a_changed_list_replaces_what_changed(whole, unzip):
    whole.write(whole.alpha, wheel(whole.wheels, "beta", "2.0", {BETA: b"new"}))
    with pytest.raises(AssetMissing):  # code that asks for the new file never gets the old one
        store.asset_path(BETA)
    store.install()
    assert len(unzip) == 1 and unzip[0].startswith("beta==2.0")
    assert store.asset_path(BETA).read_bytes() == b"new"
    assert not (whole.home / "assets" / "beta-1.0.dist-info").exists()
    assert not (whole.home / "assets" / "beta" / "models" / "notices").exists()
    assert is_whole(whole)


# What pip is given


def test_a_package_with_another_hash_is_refused_by_name(place):
    good = (place.wheels / "beta-1.0-py3-none-any.whl").read_bytes()
    wheel(place.wheels, "beta", "1.0", {BETA: b"evil"})
    code, said = place.run()
    assert code == 1
    assert one_sentence(said).startswith("beta 1.0 arrived with another sha256")
    assert list(store.damaged()) == [place.beta]  # alpha stayed
    (place.wheels / "beta-1.0-py3-none-any.whl").write_bytes(good)
    assert place.run()[0] == 0
    assert is_whole(place)


def test_a_package_cut_short_is_refused_by_name(place):
    os.truncate(place.wheels / "alpha-1.0-py3-none-any.whl", 500)
    code, said = place.run()
    assert code == 1
    assert re.match(r"alpha 1\.0 arrived with another sha256 .*cut short", one_sentence(said))


def test_without_network_it_says_so(place):
    code, said = place.run(PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_RETRIES="1", PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert code == 1
    assert re.match(r"alpha 1\.0 could not be downloaded: the network .*`dvlatent assets`", one_sentence(said))
    assert place.run()[0] == 0


def test_an_index_without_the_package_says_so(place):
    (place.wheels / "alpha-1.0-py3-none-any.whl").unlink()
    code, said = place.run()
    assert code == 1
    assert "has no alpha 1.0" in one_sentence(said)


def test_a_source_package_without_setuptools_says_so(place):
    path = place.wheels / "gamma-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        setup = "from setuptools import setup; setup(name='gamma', version='1.0')"
        for name, text in {"setup.py": setup, "PKG-INFO": "Name: gamma"}.items():
            member = tarfile.TarInfo(f"gamma-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    place.write(f"gamma==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    code, said = place.run()
    assert code == 1
    assert "gamma 1.0 has to be unpacked with setuptools" in one_sentence(said)


def test_a_python_without_pip_says_so(place, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="ensurepip"):
        store.install()


def test_a_failure_of_another_kind_gives_the_last_word_of_pip(place):
    with pytest.raises(AssetError, match=r"pip could not install alpha 1\.0: .*no such option: --nonsense.*assets\.log"):
        store.install(pip_args=["--nonsense"])
    assert "nonsense" in (place.home / "assets.log").read_text()


def test_a_pip_in_the_current_folder_is_not_pip(place, tmp_path, monkeypatch):
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH came with Python 3.11")
    (tmp_path / "pip.py").write_text("raise SystemExit('a file of the student')")
    monkeypatch.chdir(tmp_path)
    place.write(place.alpha)
    store.install()


# Stopped in the middle


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_keeps_what_is_complete_and_the_next_goes_on(place, number, code):
    process = place.start("assets")
    said = ""
    while "beta 1.0 (2 of 2)" not in said:  # pip has just been started for the second package
        said += process.stderr.readline()
    process.send_signal(number)
    said += process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert list(store.damaged()) == [place.beta]
    if number != signal.SIGKILL:
        assert one_sentence(said) == "Stopped. What is complete is kept; run `dvlatent assets` again to go on from there."
        assert place.leftovers() == []
        assert not processes_that_mention(place.home)  # pip did not stay behind
    code, said = place.run()
    assert code == 0, said
    assert "alpha 1.0 (1 of 2)" not in said
    assert is_whole(place)


def processes_that_mention(folder: Path) -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended just now
            continue
    return [command for command in commands if str(folder) in command]


def test_a_run_killed_while_it_moves_files_is_repaired(place):
    die = "moved, move = [], os.replace\n"
    die += "os.replace = lambda a, b: move(a, b) if moved.append(b) or len(moved) < 2 else os.kill(os.getpid(), 9)"
    assert place.run(more=die)[0] == -9
    assert list(store.damaged()) == [place.alpha, place.beta]
    assert len(place.leftovers()) == 1  # the staging folder
    assert place.run()[0] == 0
    assert is_whole(place)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error")])
def test_wherever_it_dies_the_next_run_repairs(place, unzip, monkeypatch, fault):
    """Law: at every single step that changes the cache, dying leaves whole packages or ones known to be missing."""
    move, steps = os.replace, iter(range(1000))
    for last in range(1, 100):
        moved = []

        def dying(source, target, last=last, moved=moved):
            moved.append(target)
            if len(moved) == last:
                raise fault
            move(source, target)

        shutil.rmtree(place.home, ignore_errors=True)
        monkeypatch.setattr(os, "replace", dying)
        try:
            store.install()
        except (KeyboardInterrupt, AssetError) as error:
            assert place.leftovers() == []
            assert not isinstance(error, AssetError) or "`dvlatent assets`" in str(error)
            for name in (ALPHA, BETA):  # a file is whole or refused
                try:
                    assert len(store.asset_path(name).read_bytes()) in (1000, 2000)
                except AssetError:
                    assert store.damaged()
            monkeypatch.setattr(os, "replace", move)
            store.install()
            assert is_whole(place)
            next(steps)
        else:
            break
    assert next(steps) >= 9  # seven files and a manifest for each package


@pytest.mark.parametrize("last", range(1, 5))
def test_a_change_that_dies_never_passes_the_old_file_off_as_the_new(whole, unzip, monkeypatch, last):
    whole.write(whole.alpha, wheel(whole.wheels, "beta", "2.0", {BETA: b"3" * 2000}))  # as long as the old one
    move, moved = os.replace, []

    def dying(source, target):
        moved.append(target)
        if len(moved) == last:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        store.install()
    with pytest.raises(AssetMissing):
        store.asset_path(BETA)
    store.install()
    assert store.asset_path(BETA).read_bytes() == b"3" * 2000
    assert is_whole(whole)


# Folders that cannot be written


def test_a_home_that_cannot_be_a_folder_says_so(place, tmp_path):
    (tmp_path / "file").write_text("no folder")
    code, said = place.run(DVLATENT_HOME=str(tmp_path / "file" / "home"))
    assert code == 1
    assert re.search(r"cannot be written .*set DVLATENT_HOME to a folder of your own", one_sentence(said))


def reader_of(place: Place) -> tuple[str, ...]:
    """Close the cache for writing; gives what to put before a command so that root, too, obeys the folders' modes."""
    for path in [place.home, *place.home.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.getuid() != 0:
        return ()
    obey = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
    if not shutil.which("setpriv") or subprocess.run([*obey, "true"], capture_output=True).returncode != 0:
        pytest.skip("root cannot be made to obey here")
    return obey


def test_a_classroom_reads_a_shared_cache(whole):
    reader = reader_of(whole)
    code, said = whole.run(before=reader)
    assert code == 0, said
    assert "complete" in one_sentence(said)
    assert whole.run("assets", "--check", before=reader)[0] == 0
    read = f"assert store.asset_path({ALPHA!r}).read_bytes() == b'1' * 1000; sys.exit(7)"
    assert whole.run(before=reader, more="store.REQUIREMENTS = Path(sys.argv[1])\n" + read)[0] == 7


def test_a_reader_of_a_damaged_shared_cache_hears_who_must_run_what(whole):
    (whole.home / "assets" / BETA).unlink()
    code, said = whole.run(before=reader_of(whole))
    assert code == 1
    owner = whole.home.owner()
    assert re.search(rf"{BETA} is gone.* Ask its owner, {owner}, to run `DVLATENT_HOME={whole.home} dvlatent assets`", one_sentence(said))


def can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
@pytest.mark.parametrize("size_kb", [64, 2000])
def test_a_full_disk_says_so(place, size_kb):
    place.write(place.alpha, wheel(place.wheels, "beta", "1.0", {BETA: os.urandom(2_500_000)}))
    place.home.mkdir()
    again = f'mount -o remount,size=50m "{place.home}" && "$@"'
    script = f'mount -t tmpfs -o size={size_kb}k none "{place.home}" && "$@"; code=$?; ls "{place.home}"; {again} >&2; exit $code$?'
    process = place.start("assets", before=("unshare", "-m", "sh", "-c", script, "sh"))
    listed, said = process.communicate(timeout=60)
    assert process.returncode == 10  # 1, and after making room 0
    refused, complete = (line for line in said.splitlines() if line.startswith(("The disk is full", "Weights and data are complete")))
    assert "free" in one_sentence(refused)
    assert set(listed.split()) <= {"assets", "assets.lock"}  # nothing that fills the disk stays
    assert one_sentence(said) == complete


# Two at once


def test_the_second_of_two_waits_and_finds_it_done(place):
    slowly = "import time; write = store._write_manifest; store._write_manifest = lambda m: (time.sleep(1), write(m))"
    first = place.start("assets", more=slowly)
    assert "alpha 1.0 (1 of 2)" in first.stderr.readline()
    second = place.start("assets")
    said_first, said_second = first.communicate(timeout=60)[1], second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0), said_second
    assert "Waiting for another `dvlatent assets`" in said_second
    assert "beta 1.0" in said_first and "beta 1.0" not in said_second
    assert one_sentence(said_second).startswith("Weights and data are complete")
    assert is_whole(place)


def test_the_lock_of_a_dead_process_does_not_block(place, unzip):
    place.home.mkdir()
    (place.home / "assets.lock").write_text("99999999")
    (place.home / "assets-staging-dead").mkdir()
    started = time.monotonic()
    store.install()
    assert time.monotonic() - started < 2
    assert is_whole(place)


# The command line


def test_help_is_friendly_and_does_not_wait_for_torch():
    loaded = "import sys; from dvlatent import cli; code = cli.main([]); assert 'torch' not in sys.modules; sys.exit(code)"
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "dvlatent assets" in result.stdout and "Start here" in result.stdout


def test_python_m_is_the_command(place):
    command = [sys.executable, "-m", "dvlatent"]
    where = subprocess.run([*command, "assets", "--where"], capture_output=True, text=True)
    assert (where.returncode, where.stdout) == (0, f"{place.home / 'assets'}\n")
    assert subprocess.run([*command, "--version"], capture_output=True, text=True).stdout.startswith("dvlatent ")


def test_a_log_gets_few_lines_and_a_terminal_one_that_rewrites_itself(monkeypatch, capsys):
    def show() -> str:
        ticker = store.Ticker()
        for done_mb in range(50):
            ticker(f"alpha: {done_mb} of 50 MB", False)
        ticker("alpha: 50 MB", True)
        return capsys.readouterr().err

    assert show() == "alpha: 0 of 50 MB\nalpha: 50 MB\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert show() == "\ralpha: 0 of 50 MB\ralpha: 50 MB     \n"


def test_the_manifest_is_plain_to_read(whole):
    entry = json.loads((whole.home / "assets" / "manifest.json").read_text())["packages"][whole.alpha][ALPHA]
    assert entry == {"size": 1000, "sha256": hashlib.sha256(b"1" * 1000).hexdigest()}
