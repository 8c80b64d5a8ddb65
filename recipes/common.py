"""What the recipes share: a pool of faces on disk, half precision, licenses, and the command line `python recipes/NAME.py --out FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dvlatent import images
from dvlatent.checkpoint import check_path
from dvlatent.errors import CheckpointError, DvlatentError, ShapeError
from dvlatent.latents import broadcast, w_of
from dvlatent.training import accelerated, finish
from dvlatent.types import Generator, Image, Ws
from dvlatent.zoo import load

LICENSE = "research and teaching only, as the generator of the faces"  # of everything that learned from the faces
DIGITS_LICENSE = "CC BY-SA 3.0, as the MNIST digits that it learned from"
HELP = {
    "faces": "faces to render and learn from",
    "steps": "optimizer steps",
    "seed": "of the first weights and of everything that is drawn",
    "pool": "folder that keeps the rendered faces",
}


def array_on_disk(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A .npy file to fill row by row: made, with zeros, if it does not exist. Raises CheckpointError for one of another shape or type."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array = np.lib.format.open_memmap(path, mode="r+")
    if array.shape != shape or array.dtype != dtype:
        wanted = f"{np.dtype(dtype)} {shape} was needed"
        raise CheckpointError(f"{path} holds {array.dtype} {array.shape}; {wanted}. Delete it, or ask for as many faces.")
    return array


@torch.no_grad()
def face_pixels(pool: Path, faces: int, side_px: int = 64) -> np.ndarray:
    """The survey's first faces, previews without truncation, reduced: uint8 [face, side, side, 3], on disk. The pool resumes."""
    pixels = array_on_disk(pool / f"faces{side_px}.npy", (faces, side_px, side_px, 3), np.uint8)
    missing = [row for row in range(faces) if not pixels[row].any()]
    generator = load("faces") if missing else None
    for row in tqdm(missing, unit="face", desc="drawing", disable=not missing):
        face = generator.preview(broadcast(w_of(generator, row, 1.0), generator.num_layers))
        pixels[row] = images.to_uint8(images.resize(face.float(), side_px))[0]
    return pixels


@torch.no_grad()
def natural(generator: Generator, draw: Callable[[Ws], Image], seed: int, psi: float) -> Image:
    """The face of a seed as a file holds it, rounded to bytes: [1, 3, size, size]."""
    return images.from_uint8(images.to_uint8(draw(broadcast(w_of(generator, seed, psi), generator.num_layers))))


def half(module: nn.Module) -> dict[str, Tensor]:
    """A network's tensors as our files hold them: 16-bit floats, whole numbers as they are."""
    return {name: value.half() if value.is_floating_point() else value for name, value in module.state_dict().items()}


def command(recipe: str, out: Path, **options: Any) -> str:
    """The command that makes a file again, for its description: `python recipes/NAME.py --out FILE --steps N`."""
    words = "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items())
    return f"python recipes/{recipe}.py --out {out.name}{words}"


def parser(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """`--out FILE`, and one option for each default, of the default's type; the description is a module's text."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    for name, default in defaults.items():
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if isinstance(default, bool) else {"type": type(default)}
        if isinstance(default, Path):
            how = {"type": Path, "metavar": "FOLDER"}
        text = f"{HELP.get(name, name.replace('_', ' '))} (default {default})"
        made.add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **how)
    return made


def run(
    make: Callable[..., None], arguments: argparse.ArgumentParser, argv: Sequence[str] | None = None, kept: str = "Nothing was written."
) -> int:
    """Call `make` with the options of the command line; gives the exit code.

    0: done. 1: refused, with one sentence on stderr. 130: stopped by Ctrl-C; `kept` says what remains.
    """
    chosen = vars(arguments.parse_args(argv))
    try:
        check_path(chosen["out"])
        for name in ("faces", "steps"):
            if chosen.get(name, 1) < 1:
                raise ShapeError(f"--{name} {chosen[name]} gives nothing to learn from: give 1 or more.")
        make(**chosen)
        finish(accelerated())
    except DvlatentError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped. {kept}", file=sys.stderr)
        return 130
    return 0
