"""How files are written: whole or not at all, each draft under a name of its own, full disks and closed folders in one sentence."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading

import pairs_toy
import pytest
import torch

from dvlatent import checkpoint, files, images
from dvlatent.directions import Direction
from dvlatent.distillation.filter import Filter, export_onnx
from dvlatent.distillation.pairs import write_pairs
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.editing import survey
from dvlatent.errors import CheckpointError, DvlatentError
from dvlatent.inversion.invert import Inversion
from dvlatent.training import TrainingState

AGE = Direction("age", torch.eye(512)[0])
FEW = survey.Population(tuple(range(99)), torch.rand(99, 2), ("age", "male"), 1.0, "abc")


class Config:
    """What a training is told."""

    seed = 0


def trained(path):
    net = torch.nn.Linear(30, 30)
    state = TrainingState(Config(), {"net": net}, {})
    state.metadata = lambda: {"config": {"steps": 1}, "index": 0}
    state.save(path)


def paired(path):
    toy, direction, predictor, person = pairs_toy.parts()
    for _ in write_pairs(path.parent / "pairs", toy, direction, 1, predictor, person, pairs_toy.RULES, pairs_toy.CONFIG):
        pass


WRITERS = {
    "direction": lambda path: checkpoint.save_direction(AGE, path),
    "edit": lambda path: checkpoint.save_edit(2 * AGE, path),
    "survey": lambda path: survey.save(FEW, path),
    "inversion": lambda path: Inversion(torch.ones(1, 16, 512), torch.ones(5), "abc").save(path),
    "training": trained,
    "tuning": lambda path: checkpoint.save(path, torch.nn.Linear(30, 30).state_dict(), {"kind": "tuned"}),
    "picture": lambda path: images.write(torch.rand(1, 3, 64, 64), path.with_suffix(".png")),
    "export": lambda path: export_onnx(Filter(Student(1, 2, 1), "age", size_px=16), path.with_suffix(".onnx")),
    "pairs": paired,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_said_in_a_sentence_and_leaves_nothing(what, tmp_path):
    """The limit of a file's size stands for the end of the disk."""
    old, (soft, hard) = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(DvlatentError, match=r"(cannot|could) .*written"):
            WRITERS[what](tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert not [name for name in os.listdir(tmp_path) if name != "pairs"]


@pytest.mark.parametrize("what", WRITERS)
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(what, tmp_path, monkeypatch):
    def closed(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", closed)
    with pytest.raises(DvlatentError, match=r"nothing can be written into .*Read-only file system.*Choose a folder"):
        WRITERS[what](tmp_path / "a.safetensors")


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_new_files_have_the_permissions_that_the_user_wants(mask, tmp_path):
    old = os.umask(mask)
    try:
        for what in ("direction", "picture", "export"):
            WRITERS[what](tmp_path / "a.safetensors")
    finally:
        os.umask(old)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("a.safetensors", "a.png", "a.onnx"), 0o666 & ~mask
    )


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    path, errors = tmp_path / "a.safetensors", []

    def write(number):
        try:
            for _ in range(10):
                checkpoint.save(path, {"x": torch.full((1000,), float(number))}, {"kind": "thing"})
                checkpoint.load(path, "thing")
        except DvlatentError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == [path.name] and len(checkpoint.load(path, "thing")[0]["x"].unique()) == 1


def test_drafts_of_killed_runs_are_removed_by_the_next_and_no_others(tmp_path):
    code = "import os, sys; from pathlib import Path; from dvlatent import files\nwith files.draft(Path(sys.argv[1], 'a')) as part:\n"
    code += "    part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    others = [tmp_path / f"{files.HERE}{os.getpid()}-alive", tmp_path / ".writing-of-another"]
    for other in others:
        other.mkdir()
    assert len(os.listdir(tmp_path)) == 3
    files._cleared.discard(tmp_path)
    with files.draft(tmp_path / "a") as part:
        part.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", *others]) and (tmp_path / "a").read_text() == "whole"


def test_two_surveys_into_one_file_both_live(tmp_path):
    toy, _, predictor, _ = pairs_toy.parts()
    both = [survey.resumable(tmp_path / "a.safetensors", toy, predictor, range(16)) for _ in range(2)]
    for one in (0, 1, 1, 0):
        next(both[one])
    for one in both:
        for _ in one:
            pass
    assert len(survey.load(tmp_path / "a.safetensors")) == 16 and os.listdir(tmp_path) == ["a.safetensors"]


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save_direction(AGE, tmp_path / "a.safetensors")
