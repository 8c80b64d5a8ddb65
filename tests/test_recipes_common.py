"""What recipes share: pools that resume, half precision, and a command line that refuses in words and says what Ctrl-C keeps."""

import subprocess
import sys
from pathlib import Path

import common
import numpy as np
import pytest
import torch

from dvlatent.errors import CheckpointError
from dvlatent.toy.faces import ToyFaces

RECIPES = sorted(path for path in Path(common.__file__).parent.glob("*.py") if "__main__" in path.read_text())


def test_a_pool_is_made_once_and_another_is_refused(tmp_path):
    path = tmp_path / "new" / "pool.npy"
    pool = common.array_on_disk(path, (3, 2), np.uint8)
    assert not pool.any()
    pool[1] = 7
    assert common.array_on_disk(path, (3, 2), np.uint8)[1].tolist() == [7, 7]
    for shape, dtype in (((4, 2), np.uint8), ((3, 2), np.float32)):
        with pytest.raises(CheckpointError, match=r"uint8 \(3, 2\).* was needed.*as many faces"):
            common.array_on_disk(path, shape, dtype)


def test_a_natural_face_is_what_a_file_holds():
    toy = ToyFaces(32)
    face = common.natural(toy, toy.synthesis, 3, 0.7)
    levels = (face + 1) * 127.5
    assert face.shape == (1, 3, 32, 32) and (levels - levels.round()).abs().max() < 1e-4


def test_half_precision_leaves_whole_numbers_alone():
    tensors = common.half(torch.nn.BatchNorm1d(2))
    assert tensors["weight"].dtype == torch.float16 and tensors["num_batches_tracked"].dtype == torch.int64


def run(make, *words, **options):
    arguments = common.parser("A recipe.", **{"steps": 5, "pool": Path("pool"), **options})
    return common.run(make, arguments, list(words), kept="The pool is kept.")


def test_the_command_line_gives_options_of_their_types(tmp_path):
    given = []
    words = ("--out", str(tmp_path / "a.safetensors"), "--steps", "7", "--no-bf16", "--pool", "here")
    assert run(lambda **options: given.append(options), *words, bf16=True, lr=0.1) == 0
    assert given == [{"out": tmp_path / "a.safetensors", "steps": 7, "pool": Path("here"), "bf16": False, "lr": 0.1}]
    assert common.command("maker", tmp_path / "a.safetensors", first_seed=7) == "python recipes/maker.py --out a.safetensors --first-seed 7"


def test_refusals_are_one_sentence_and_a_stop_says_what_is_kept(tmp_path, capsys):
    def stopped(**options):
        raise KeyboardInterrupt

    def broken(**options):
        raise CheckpointError("This file is broken.")

    out = str(tmp_path / "a.safetensors")
    assert run(stopped, "--out", out) == 130 and "The pool is kept." in capsys.readouterr().err
    for make, words, sentence in (
        (broken, ("--out", out), "This file is broken."),
        (stopped, ("--out", "a.txt"), "should end in .safetensors"),
        (stopped, ("--out", str(tmp_path / "none" / "a.safetensors")), "there is no folder"),
        (stopped, ("--out", out, "--steps", "0"), "--steps 0"),
    ):
        assert run(make, *words) == 1
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1


def test_every_recipe_opens_with_its_command():
    assert len(RECIPES) >= 8
    for path in RECIPES:
        assert f"python recipes/{path.name} " in path.read_text().split('"""')[1], path


def test_a_recipe_runs_as_a_script(tmp_path):
    script = Path(common.__file__).with_name("digit_classifier.py")
    words = [sys.executable, str(script), "--out", str(tmp_path / "a.safetensors"), "--steps", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr == "--steps 0 gives nothing to learn from: give 1 or more.\n"
