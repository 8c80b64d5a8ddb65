"""Files that we write: what was saved comes back, whole or not at all; anything else is refused in words."""

import os

import pytest
import torch
from safetensors.torch import save_file

from dvlatent import checkpoint
from dvlatent.checkpoint import kind, load, load_direction, load_edit, load_weights, save, save_direction, save_edit
from dvlatent.directions import Direction
from dvlatent.errors import CheckpointError

FOUND = {"psi": 0.7, "generator": "abc", "found_by": {"faces": 10, "method": "mean"}}
AGE = Direction("age", torch.eye(4)[1], step=0.5, boundary=-1.0, layers=(1, 2), **FOUND)


def test_what_was_saved_comes_back_as_float32(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"half": torch.tensor([0.5, 1.5]).half(), "whole": torch.arange(3), "turned": torch.arange(6.0).view(2, 3).T}
    save(path, tensors, {"kind": "thing", "numbers": [1, 2.5], "words": "as said"})
    back, description = load(path, "thing")
    assert back["half"].dtype == torch.float32 and back["whole"].dtype == torch.int64
    assert all(torch.equal(back[name], tensor.to(back[name].dtype)) for name, tensor in tensors.items())
    assert description == {"kind": "thing", "numbers": [1, 2.5], "words": "as said"} and kind(path) == "thing"
    assert path.stat().st_mode & 0o777 == 0o644 and os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize(("name", "words"), [("a.png", r"should end in \.safetensors"), ("nowhere/a.safetensors", "no folder")])
def test_refuses_another_suffix_or_folder(tmp_path, name, words):
    with pytest.raises(CheckpointError, match=words):
        save(tmp_path / name, {"x": torch.zeros(1)}, {"kind": "thing"})


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, {"x": torch.zeros(1)}, {"kind": "thing"})

    def dies(tensors, part, metadata):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"x": torch.ones(1)}, {"kind": "thing"})
    assert load(path, "thing")[0]["x"] == 0


def test_refuses_what_is_not_the_file_it_should_be(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save(path, {"x": torch.zeros(100)}, {"kind": "thing"})
    with pytest.raises(CheckpointError, match=r"a\.safetensors holds thing; a filter was needed"):
        load(path, "filter")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-50])
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "list.safetensors", {"description": "[1]"})
    save_file({"x": torch.zeros(1)}, tmp_path / "broken.safetensors", {"description": "{"})
    save_file({"x": torch.zeros(1)}, tmp_path / "deep.safetensors", {"description": "[" * 100_000})
    unread, unknown = "cannot be read .*cut short", "holds nothing that we know"
    said = {"cut": unread, "text": unread, "broken": unread, "deep": unread, "none": unread, "foreign": unknown, "list": unknown}
    for name, words in said.items():
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / f"{name}.safetensors", "thing")
        assert kind(tmp_path / f"{name}.safetensors") == ""
    monkeypatch.setattr(checkpoint, "LIMIT_BYTES", 100)
    with pytest.raises(CheckpointError, match="at most 100"):
        load(path, "thing")


def test_directions_and_edits_come_back(tmp_path):
    save_direction(AGE, tmp_path / "age.safetensors")
    found = load_direction(tmp_path / "age.safetensors")
    assert torch.equal(found.vector, AGE.vector) and {**vars(found), "vector": 0} == {**vars(AGE), "vector": 0}
    edit = 2 * AGE - 0.5 * Direction("smile", torch.eye(4)[0])
    save_edit(edit, tmp_path / "both.safetensors", licence="ours")
    back, ws = load_edit(tmp_path / "both.safetensors"), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(back(ws), edit(ws)) and [one.name for _, one in back.terms] == ["age", "smile"]
    assert load(tmp_path / "both.safetensors", "edit")[1]["licence"] == "ours" and kind(tmp_path / "both.safetensors") == "edit"


@pytest.mark.parametrize("rows", [None, 3, [], [{"amount": 1}], [{"amount": 1, "layers": None, "name": "a", "unknown": 1}]])
def test_refuses_an_incomplete_direction_or_edit(rows, tmp_path):
    save(tmp_path / "edit.safetensors", {"vectors": torch.eye(3)[:1]}, {"kind": "edit"} | ({} if rows is None else {"terms": rows}))
    with pytest.raises(CheckpointError, match="not a complete edit"):
        load_edit(tmp_path / "edit.safetensors")
    save(tmp_path / "one.safetensors", {"vector": torch.ones(3)}, {"kind": "direction", "name": "long", "layers": None})
    with pytest.raises(CheckpointError, match=r"not a complete direction.*length"):
        load_direction(tmp_path / "one.safetensors")


@pytest.mark.parametrize("kind", [torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8, torch.int64, torch.int32])
def test_refuses_numbers_of_another_kind_where_floats_were_meant(kind, tmp_path):
    about = {"kind": "direction", "name": "age", "layers": None}
    save(tmp_path / "a.safetensors", {"vector": torch.eye(4)[0].to(kind)}, about)
    with pytest.raises(CheckpointError, match=r"floats"):
        load_direction(tmp_path / "a.safetensors")
    save(tmp_path / "b.safetensors", {"vector": torch.tensor(1.0)}, about)
    with pytest.raises(CheckpointError, match=r"has shape \[\], not \['any'\]"):
        load_direction(tmp_path / "b.safetensors")
    if not kind.is_floating_point:
        with pytest.raises(CheckpointError, match="weight is"):
            load_weights(torch.nn.Linear(2, 1), {"weight": torch.ones(1, 2).to(kind), "bias": torch.zeros(1)}, "it")


def test_weights_must_fit_and_be_finite():
    net = torch.nn.Linear(2, 1)
    load_weights(net, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, "it")
    assert net(torch.ones(1, 2)).item() == 2
    for tensors in ({"weight": torch.ones(1, 2)}, {"weight": torch.ones(1, 3), "bias": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="it does not fit the network"):
            load_weights(net, tensors, "it")
    with pytest.raises(CheckpointError, match="not finite"):
        load_weights(net, {"weight": torch.ones(1, 2), "bias": torch.full((1,), float("nan"))}, "it")


def test_a_score_that_could_not_be_given_is_null_and_the_file_loads(tmp_path):
    about = {"kind": "trial", "scores": {"right": 0.5, "sure": float("nan")}, "rows": [float("inf"), 1, (2.0, -float("inf"))]}
    checkpoint.save(tmp_path / "trial.safetensors", {"one": torch.ones(1)}, about)
    assert checkpoint.load(tmp_path / "trial.safetensors", "trial")[1] == {
        "kind": "trial", "scores": {"right": 0.5, "sure": None}, "rows": [None, 1, [2.0, None]],
    }  # fmt: skip
