"""Files that we write: safetensors with a JSON description inside. Reading one never runs code (no pickle)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvlatent import files
from dvlatent.directions import Direction, Edit
from dvlatent.errors import CheckpointError

WEIGHTS = Path(__file__).parent / "weights"  # what we trained ourselves
LIMIT_BYTES = files.LIMIT_BYTES
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8)  # what we write


def check_path(path: Path | str) -> Path:
    """The path itself, if a file of ours can be written there. Raises CheckpointError for another suffix, or if its folder is missing."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} should end in .safetensors, the format of what is written.")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.")
    return path


def save(path: Path | str, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors and a description of plain numbers and strings; the file appears whole or not at all. What no score could be given
    for (NaN or infinite) becomes null: JSON has no such numbers.

    Raises CheckpointError as `check_path` does, and for a full disk or a folder that cannot be written.
    """
    path = check_path(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with files.draft(path) as part:
        try:
            save_file(plain, part, {"description": json.dumps(_finite(description))})
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be written ({error}). Make room, or choose another folder.") from error


def _finite(value: Any) -> Any:
    """The value, with None for every number in it that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@torch.inference_mode(False)  # what is read may be kept and serve gradients later
def load(path: Path | str, kind: str | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save` wrote: its tensors as float32 and its description. With `kind` None, also a file of others.

    Raises CheckpointError if the file is missing, broken, too large, or holds something other than `kind`, or numbers of a strange kind.
    """
    path = files.check(path, LIMIT_BYTES)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            description = _description(file)
    except (OSError, SafetensorError, ValueError, AttributeError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as a .safetensors file of ours: {error}. Was it cut short?") from error
    if kind is not None and description.get("kind") != kind:
        raise CheckpointError(f"{path.name} holds {str(description.get('kind', 'nothing that we know'))[:40]}; a {kind} was needed.")
    if strange := [f"{name} of {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]:
        raise CheckpointError(f"{path.name} holds {strange[0][:80]}; floats, or whole numbers of 64 bits, were needed.")
    if endless := [name for name, tensor in tensors.items() if max(tensor.shape, default=0) > max(tensor.numel(), 2**20)]:
        raise CheckpointError(f"{path.name} holds {endless[0][:80]}, a tensor of {2**20:,} empty rows or more. Is it another file?")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, description


def floats(tensors: dict[str, Tensor], name: str, *shape: int | None) -> Tensor:
    """A tensor of a file, if it is finite floats of this shape; None leaves a size free. Raises ValueError for anything else."""
    given = tensors.get(name)
    if given is None or not given.is_floating_point() or not torch.isfinite(given).all():
        raise ValueError(f"'{name}' is missing, or no tensor of finite floats")
    if given.ndim != len(shape) or any(want not in (None, have) for have, want in zip(given.shape, shape, strict=True)):
        raise ValueError(f"'{name}' has shape {list(given.shape)}, not {['any' if size is None else size for size in shape]}")
    return given


def kind(path: Path | str) -> str:
    """What a file holds ("direction", "filter" ...), from its header alone; empty if the header does not say."""
    try:
        with safe_open(files.check(path, LIMIT_BYTES), framework="pt") as file:
            return str(_description(file).get("kind", ""))
    except (CheckpointError, OSError, SafetensorError, ValueError):
        return ""  # `load` says what is wrong with it


def _description(file: Any) -> dict[str, Any]:
    """The description in an open file, empty if there is none that we can use. Raises ValueError for JSON that is broken."""
    description = files.parse((file.metadata() or {}).get("description", "{}"))
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
        return _direction(floats(tensors, "vector", None), description)
    except (KeyError, TypeError, ValueError) as error:
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
        rows = zip(floats(tensors, "vectors", None, None), description["terms"], strict=True)
        return Edit(tuple((float(files.number(row.pop("amount"))), _direction(vector, row)) for vector, row in rows))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a complete edit: {error}. Save it again with save_edit.") from error


def _direction(vector: Tensor, fields: dict[str, Any]) -> Direction:
    """A direction of fields that a file states. Raises ValueError, TypeError or KeyError unless each is of its own kind."""
    layers, kinds = fields.pop("layers"), {"name": str, "generator": (str, type(None)), "found_by": dict}
    if wrong := [key for key, kind in kinds.items() if key in fields and not isinstance(fields[key], kind)]:
        raise ValueError(f"{wrong[0]} is {str(fields[wrong[0]])[:40]!r}")
    for key in ("step", "boundary", "psi"):
        if key in fields and (fields[key], key) != (None, "psi"):
            files.number(fields[key])
    chosen = None if layers is None else tuple(files.number(layer, 0, 1000, whole=True) for layer in layers)
    return Direction(vector=vector, layers=chosen, **fields)


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Put tensors into a module. Raises CheckpointError unless every name, kind and shape fits and every number is finite."""
    try:
        wanted = module.state_dict()
        if mixed := [key for key in wanted.keys() & tensors if tensors[key].is_floating_point() != wanted[key].is_floating_point()]:
            raise ValueError(f"{mixed[0]} is {tensors[mixed[0]].dtype}, not {wanted[mixed[0]].dtype}")
        module.load_state_dict(tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{name} does not fit the network: {error}. Give the file that was written for it.") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(f"{name} holds numbers that are not finite.")
