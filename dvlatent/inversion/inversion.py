"""What an inversion found: a photo as numbers of a generator, kept in a small file. Taught in notebook 06."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import CheckpointError, DirectionMismatch
from dvlatent.faces.align import Alignment
from dvlatent.types import Generator, Ws, fingerprint

LIMIT_BYTES = 64 * 2**20  # an inversion has some 40 kB
FIELDS = {"ws": "<f4", "history": "<f4", "description": "|u1"}  # what a file holds, and as which numbers
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, RecursionError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class Inversion:
    """The ws of one photo, and all that is needed to draw it again and to paste it back."""

    ws: Ws  # [1, layer, w]
    history: Float[Tensor, " step"]  # the loss at every step
    generator: str  # fingerprint of the generator
    alignment: Alignment | None = None  # where the face lies in its photo
    config: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  # how it was found

    def check(self, generator: Generator) -> None:
        """Raise DirectionMismatch unless these ws belong to this generator."""
        shape = (1, generator.num_layers, generator.w_dim)
        if tuple(self.ws.shape) != shape or self.generator != fingerprint(generator):
            raise DirectionMismatch(
                f"this inversion has ws {list(self.ws.shape)} of generator {self.generator}; this generator is {fingerprint(generator)} "
                f"with ws {list(shape)}. Load the generator it was found on, or invert the photo again on this one."
            )

    def save(self, path: Path | str) -> None:
        """Write a .npz file, exact to the bit; it appears whole or not at all. Raises CheckpointError for another suffix or place."""
        path = Path(path)
        if path.suffix != ".npz" or not path.parent.is_dir():
            what = "should end in .npz" if path.suffix != ".npz" else f"needs a folder {path.parent}, which is not there: make it first"
            raise CheckpointError(f"{path} {what}.")
        description = {"kind": "inversion", "generator": self.generator, "config": dict(self.config)}
        description["alignment"] = asdict(self.alignment) if self.alignment else None
        arrays = {"ws": self.ws, "history": self.history}
        arrays = {name: values.detach().cpu().numpy().astype(FIELDS[name]) for name, values in arrays.items()}
        arrays["description"] = np.frombuffer(json.dumps(description).encode(), np.uint8)
        part = path.with_name(path.name + ".part")
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Inversion:
        """Read what `save` wrote. Nothing in the file is run, and no more is read than an inversion has.

        Raises CheckpointError if it is missing, broken, too large or something else.
        """
        path = Path(path)
        try:
            arrays = _arrays(path)
            description = json.loads(arrays["description"].tobytes().decode())
            if description["kind"] != "inversion":
                raise ValueError(f"it holds {description['kind']!r}")
            ws, history = (torch.from_numpy(arrays[name].astype("f4")) for name in ("ws", "history"))
            if ws.ndim != 3 or len(ws) != 1 or history.ndim != 1 or not torch.isfinite(ws).all():
                raise ValueError(f"its ws have shape {list(ws.shape)}, its history {list(history.shape)}, or are not finite")
            where = description["alignment"]
            alignment = None if where is None else _alignment(**where)
            return cls(ws, history, str(description["generator"]), alignment, dict(description["config"]))
        except BROKEN as reason:
            raise CheckpointError(f"{path} is no inversion ({reason}). Give a .npz file that `dvlatent invert` wrote.") from reason


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, if they are ours: names, kinds and sizes are checked before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        names = sorted(member.filename for member in archive.infolist())
        if size > LIMIT_BYTES or names != sorted(f"{name}.npy" for name in FIELDS):
            raise ValueError(f"it holds {', '.join(names[:5])}, {size:,} bytes")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in FIELDS}
    if wrong := [name for name, kind in FIELDS.items() if arrays[name].dtype != np.dtype(kind)]:
        raise ValueError(f"{', '.join(wrong)} are no numbers of the right kind")
    return arrays


def _alignment(quad: list[list[float]], photo_size: list[int]) -> Alignment:
    corners = tuple((float(x), float(y)) for x, y in quad)
    height, width = (int(side) for side in photo_size)
    if len(corners) != 4 or not all(math.isfinite(number) for corner in corners for number in corner) or min(height, width) < 1:
        raise ValueError("its alignment is no square in a photo")
    return Alignment(corners, (height, width))
