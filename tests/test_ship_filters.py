"""`dvlatent distill`: from a folder of pairs to a filter that loads, through a stop, with everything that makes it again."""

import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from distill_tiny import Blurred
from pairs_toy import CONFIG, RULES, parts
from safetensors import safe_open

import dvlatent
from dvlatent.cli import main as cli
from dvlatent.distillation import ship_filters
from dvlatent.distillation import train as distill
from dvlatent.distillation.pairs import Pairs, write
from dvlatent.errors import ShapeError
from dvlatent.training import progress

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pairs")
    generator, direction, look, identity = parts()
    list(write(made, generator, direction, 6, look, identity, RULES, CONFIG))
    return made


class Perceptual(Blurred):
    def to(self, place):
        return self


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    _, _, look, _ = parts()
    monkeypatch.setattr(ship_filters, "load", lambda name: {"perceptual": Perceptual(), "landmarks": look}[name])
    monkeypatch.setattr(ship_filters, "SAVE_EVERY", 1)


def test_the_first_pairs_are_held_back_forth_and_back(folder):
    pairs = Pairs(folder, reverse=True)
    learn, unseen = ship_filters.held_out(pairs, 2)
    assert (len(learn), len(unseen)) == (8, 2)
    rows = {number % 6 for number in learn.numbers}
    assert rows == {2, 3, 4, 5} and set(unseen.numbers) == {0, 1}
    with pytest.raises(ShapeError, match="6 of 6 pairs"):
        ship_filters.held_out(pairs, 6)


def test_a_filter_is_made_stopped_and_made_on(folder, tmp_path, monkeypatch, capsys):
    options = ["--steps", "4", "--batch", "2", "--held", "2", "--coarse-steps", "0"]
    assert cli.main(["distill", str(folder), "--out", str(tmp_path / "whole.safetensors"), *options]) == 0
    assert "on 2 unseen pairs" in capsys.readouterr().out

    def cut(*given, **named):
        for step in distill.distill(*given, **named):
            yield step
            if step.index == 1:
                raise KeyboardInterrupt

    out = tmp_path / "mine.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(ship_filters, "distill", cut)
        assert cli.main(["distill", str(folder), "--out", str(out), *options]) == 130
    assert (tmp_path / "mine.run.safetensors").exists()
    assert cli.main(["distill", str(folder), "--out", str(out), *options]) == 0
    assert not (tmp_path / "mine.run.safetensors").exists()
    tensors, told = [], []
    for path in (tmp_path / "whole.safetensors", out):
        with safe_open(path, "pt") as file:
            tensors.append({name: file.get_tensor(name) for name in file.keys()})
            told.append(json.loads(file.metadata()["description"]))
        assert path.stat().st_size <= 8_000_000
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert told[1]["command"] == f"dvlatent distill {folder.name} --out mine.safetensors --steps 4 --batch 2 --coarse-steps 0 --held 2"
    name, first = told[1]["direction"], Pairs(folder).about["first"]
    assert told[1]["pairs_command"].startswith(f'dvlatent pairs --edit "{name}:-2..+2" --psi 0.9 --first {first} --count 6 ')
    assert 1 <= told[1]["amplified"] <= 2
    assert told[1]["pairs"] == 4 and told[1]["steps_done"] == 4 and told[1]["scores"]["as drawn"]["left"] > 0
    assert told[1]["made_as"]["direction"]["name"] == told[1]["direction"]


def test_what_was_written_loads_as_a_filter(folder, tmp_path):
    out = tmp_path / "f.safetensors"
    ship_filters.ship_filter(folder, out, held=2, steps=1, batch=2, coarse_steps=0)
    older, face = dvlatent.load(out), torch.rand(1, 3, 64, 64) * 2 - 1
    assert older(face, strength=1.0).shape == face.shape
    assert torch.equal(older(face, strength=0.0), face)


def test_a_filter_may_begin_where_another_ended(folder, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    ship_filters.ship_filter(folder, first, held=2, steps=2, batch=2, seed=3)
    amplify = dvlatent.load(first).about["amplified"]
    ship_filters.ship_filter(folder, second, held=2, steps=1, batch=2, lr=1e-9, start=first, amplify=amplify)
    mine, its = (dvlatent.load(path) for path in (first, second))
    face = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.allclose(mine(face, 2.0), its(face, 2.0), atol=2e-3)
    assert f" --amplify {amplify} " in its.about["command"] and its.about["command"].endswith("--start first.safetensors")
    assert its.about["started_from"]["steps_done"] == 2


def test_an_amplification_that_cannot_be_is_refused(folder, tmp_path, capsys):
    assert cli.main(["distill", str(folder), "--out", str(tmp_path / "f.safetensors"), "--amplify", "0"]) == 1
    assert "--amplify 0 should lie above 0" in capsys.readouterr().err


def test_no_folder_of_the_output_is_said_at_once(folder, tmp_path, capsys):
    assert cli.main(["distill", str(folder), "--out", str(tmp_path / "nowhere" / "f.safetensors")]) == 1
    assert "in a folder that is there" in capsys.readouterr().err


def test_help_is_instant():
    command = [sys.executable, "-X", "importtime", "-m", "dvlatent", "distill", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "critics-from" in done.stdout and " torch\n" not in done.stderr


def test_a_process_that_is_not_the_first_shows_and_writes_nothing(tmp_path, capsys):
    steps = [SimpleNamespace(index=index, parts={}) for index in range(2)]
    assert list(ship_filters.with_progress(steps, 2, keep=None)) == steps
    assert capsys.readouterr().err == ""


def test_the_bar_of_a_run_that_goes_on_keeps_its_pace(capsys):
    """It begins where the run was left, and what was done before does not count as fast."""

    def steps():
        for index in range(980, 1000):
            time.sleep(0.02)
            yield SimpleNamespace(index=index)

    assert [step.index for step in progress(steps(), 1000, lambda step: f"at {step.index}")] == list(range(980, 1000))
    told = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert "1000/1000" in told and "at 999" in told
    assert float(re.search(r"([0-9.]+)step/s", told)[1]) < 60
