"""Files that we write: safetensors with a JSON description inside. Reading one never runs code (no pickle)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvlatent.directions import Direction, Edit
from dvlatent.errors import CheckpointError

WEIGHTS = Path(__file__).parent / "weights"  # what we trained ourselves
LIMIT_BYTES = 2 * 2**30  # far more than any file that we write


def check_path(path: Path | str) -> Path:
    """The path itself, if a file of ours can be written there. Raises CheckpointError for another suffix, or if its folder is missing."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} should end in .safetensors, the format of what is written.")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.")
    return path


def save(path: Path | str, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors and a description of plain numbers and strings; the file appears whole or not at all.

    Raises CheckpointError as `check_path` does.
    """
    path = check_path(path)
    part = path.with_name(path.name + ".part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, {"description": json.dumps(description)})
    part.chmod(0o644)  # safetensors makes it private
    part.replace(path)


def load(path: Path | str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save` wrote: its tensors as float32 and its description.

    Raises CheckpointError if the file is missing, broken, too large, or holds something other than `kind`.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise CheckpointError(f"{path.name} has {path.stat().st_size:,} bytes; at most {LIMIT_BYTES:,} are read. Is it another file?")
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            description = _description(file)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as a .safetensors file of ours: {error}. Was it cut short?") from error
    if description.get("kind") != kind:
        raise CheckpointError(f"{path.name} holds {description.get('kind', 'nothing that we know')}; a {kind} was needed.")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, description


def kind(path: Path | str) -> str:
    """What a file holds ("direction", "filter" ...), from its header alone; empty if the header does not say."""
    try:
        with safe_open(path, framework="pt") as file:
            return str(_description(file).get("kind", ""))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return ""  # `load` says what is wrong with it


def _description(file: Any) -> dict[str, Any]:
    """The description in an open file, empty if there is none that we can use. Raises ValueError for broken JSON."""
    description = json.loads((file.metadata() or {}).get("description", "{}"))
    return description if isinstance(description, dict) else {}


def save_direction(direction: Direction, path: Path | str) -> None:
    """Write a direction: a few kilobytes, with everything needed to find it again."""
    description = {name: value for name, value in asdict(direction).items() if name != "vector"}
    save(path, {"vector": direction.vector}, {"kind": "direction", **description})


def load_direction(path: Path | str) -> Direction:
    """Read a direction that `save_direction` wrote. Raises CheckpointError for anything else."""
    tensors, description = load(path, "direction")
    try:
        description.pop("kind")
        return _direction(tensors["vector"], description)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a complete direction: {error}. Save it again with save_direction.") from error


def save_edit(edit: Edit, path: Path | str, **about: Any) -> None:
    """Write an edit, all vectors and steps in one .safetensors file, and `about` with it. Raises CheckpointError if it has no terms."""
    if not edit.terms:
        raise CheckpointError(f"{path}: an edit without a term changes nothing. Add directions to it first.")
    rows = [{"amount": amount, **{name: value for name, value in vars(one).items() if name != "vector"}} for amount, one in edit.terms]
    save(path, {"vectors": torch.stack([one.vector for _, one in edit.terms])}, {"kind": "edit", "terms": rows, **about})


def load_edit(path: Path | str) -> Edit:
    """Read an edit that `save_edit` wrote. Raises CheckpointError for anything else."""
    tensors, description = load(path, "edit")
    try:
        rows = zip(tensors["vectors"], description["terms"], strict=True)
        return Edit(tuple((float(row.pop("amount")), _direction(vector, row)) for vector, row in rows))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a complete edit: {error}. Save it again with save_edit.") from error


def _direction(vector: Tensor, fields: dict[str, Any]) -> Direction:
    layers = fields.pop("layers")
    return Direction(vector=vector, layers=None if layers is None else tuple(int(layer) for layer in layers), **fields)


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Put tensors into a module. Raises CheckpointError unless every name and shape fits and every number is finite."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{name} does not fit the network: {error}") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(f"{name} holds numbers that are not finite.")
