"""Whatever happens to a run that fills the cache, it ends in one sentence and the next run repairs.

Real pip, real processes that are killed, a real full disk; no network.
"""

import errno
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from store_place import ALPHA, BETA, Place, is_whole, one_sentence, wheel

from dvlatent import assets, assets_fetch
from dvlatent.errors import AssetError, AssetMissing

# What pip is given


def test_a_package_with_another_hash_is_refused_by_name(place):
    good = (place.wheels / "beta-1.0-py3-none-any.whl").read_bytes()
    wheel(place.wheels, "beta", "1.0", {BETA: b"evil"})
    code, said = place.run()
    assert code == 1
    assert one_sentence(said).startswith("beta 1.0 arrived with another sha256")
    assert list(assets.damaged()) == [place.beta]  # alpha stayed
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
    monkeypatch.setattr(assets_fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="ensurepip"):
        assets.install()


def test_a_failure_of_another_kind_gives_the_last_word_of_pip(place):
    with pytest.raises(AssetError, match=r"pip could not install alpha 1\.0: .*no such option: --nonsense.*assets\.log"):
        assets.install(pip_args=["--nonsense"])
    assert "nonsense" in (place.home / "assets.log").read_text()


def test_a_pip_in_the_current_folder_is_not_pip(place, tmp_path, monkeypatch):
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH came with Python 3.11")
    (tmp_path / "pip.py").write_text("raise SystemExit('a file of the student')")
    monkeypatch.chdir(tmp_path)
    place.write(place.alpha)
    assets.install()


# Stopped in the middle


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_keeps_what_is_complete_and_the_next_goes_on(place, number, code):
    process = place.start("assets")
    said = ""
    while "beta 1.0 (2 of 2)" not in said:  # pip has just been started for the second package
        said += process.stderr.readline()
    process.send_signal(number)
    said += process.communicate(timeout=300)[1]
    assert process.returncode == code
    assert list(assets.damaged()) == [place.beta]
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
    assert list(assets.damaged()) == [place.alpha, place.beta]
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
            assets.install()
        except (KeyboardInterrupt, AssetError) as error:
            assert place.leftovers() == []
            assert not isinstance(error, AssetError) or "`dvlatent assets`" in str(error)
            for name in (ALPHA, BETA):  # a file is whole or refused
                try:
                    assert len(assets.asset_path(name).read_bytes()) in (1000, 2000)
                except AssetError:
                    assert assets.damaged()
            monkeypatch.setattr(os, "replace", move)
            assets.install()
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
        assets.install()
    with pytest.raises(AssetMissing):
        assets.asset_path(BETA)
    assets.install()
    assert assets.asset_path(BETA).read_bytes() == b"3" * 2000
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
    read = f"assert assets.asset_path({ALPHA!r}).read_bytes() == b'1' * 1000; sys.exit(7)"
    assert whole.run(before=reader, more="assets.REQUIREMENTS = Path(sys.argv[1])\n" + read)[0] == 7


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
def test_a_full_disk_says_so(place):
    place.write(place.alpha, wheel(place.wheels, "beta", "1.0", {BETA: os.urandom(2_500_000)}))
    place.home.mkdir()
    again = f'mount -o remount,size=50m "{place.home}" && "$@"'
    script = f'mount -t tmpfs -o size=2000k none "{place.home}" && "$@"; code=$?; ls "{place.home}"; {again} >&2; exit $code$?'
    process = place.start("assets", before=("unshare", "-m", "sh", "-c", script, "sh"))
    listed, said = process.communicate(timeout=300)
    assert process.returncode == 10  # 1, and after making room 0
    refused, complete = (line for line in said.splitlines() if line.startswith(("The disk is full", "Weights and data are complete")))
    assert "free" in one_sentence(refused)
    assert set(listed.split()) <= {"assets", "assets.lock"}  # nothing that fills the disk stays
    assert one_sentence(said) == complete


# Two at once


def test_the_second_of_two_waits_and_finds_it_done(place):
    slowly = "import time; write = assets._write_manifest; assets._write_manifest = lambda m: (time.sleep(1), write(m))"
    first = place.start("assets", more=slowly)
    assert "alpha 1.0 (1 of 2)" in first.stderr.readline()
    second = place.start("assets")
    said_first, said_second = first.communicate(timeout=300)[1], second.communicate(timeout=300)[1]
    assert (first.returncode, second.returncode) == (0, 0), said_second
    assert "Waiting for another `dvlatent assets`" in said_second
    assert "beta 1.0" in said_first and "beta 1.0" not in said_second
    assert one_sentence(said_second).startswith("Weights and data are complete")
    assert is_whole(place)


def test_the_lock_of_a_dead_process_does_not_block(place, unzip):
    place.home.mkdir()
    (place.home / "assets.lock").write_text("99999999")
    (place.home / "assets-staging-dead").mkdir()
    assets.install()
    assert is_whole(place)
