"""Your own photo on the command line: `dvlatent invert` finds it, and `dvlatent edit --from` draws it edited."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dvlatent.cli.arguments import add_overwrite, check_out, real
from dvlatent.errors import DvlatentError, ShapeError

if TYPE_CHECKING:
    from dvlatent.inversion.invert import Inversion, InvertStep
    from dvlatent.types import Generator, Image, W, Ws


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command `invert`."""
    invert = commands.add_parser("invert", help="find your own photo among the faces")
    invert.description = "Find the numbers whose face looks like the one in a photo. The photo stays on this computer."
    invert.add_argument("photo", type=Path, help="a JPEG, PNG, WebP or other picture with a face")
    invert.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    invert.add_argument("--picture", type=Path, help="also draw the photo and what was found side by side: a .png, .jpg or .webp file")
    invert.add_argument("--face", type=int, default=0, metavar="N", help="which face of the photo: 0 is the largest (default)")
    duration = invert.add_mutually_exclusive_group()
    duration.add_argument("--steps", type=int, help="optimizer steps (default 80)")
    duration.add_argument("--seconds", type=real, help="instead of steps: finish in so many seconds")
    start = "where to begin: encoder (a network's guess), mean (the average face), or a .safetensors file to go on from (default: encoder)"
    invert.add_argument("--start", metavar="WHERE", help=start)
    invert.add_argument("--space", choices=["w", "w+"], default="w+", help="w edits better, w+ looks more like the photo (default)")
    bf16 = "draw with 16-bit numbers while searching: 1.7 times as fast on a processor made for bfloat16, slower on others"
    invert.add_argument("--bf16", action="store_true", help=bf16)
    add_overwrite(invert)
    invert.set_defaults(run=_invert, resume="Nothing was written.")


def _invert(arguments: argparse.Namespace) -> int:
    import torch

    from dvlatent import images
    from dvlatent.checkpoint import check_path
    from dvlatent.inversion.invert import InvertConfig, invert
    from dvlatent.metrics.inversion import describe, likeness
    from dvlatent.zoo import load

    check_out(check_path(arguments.out), arguments.overwrite)
    if arguments.picture:
        check_out(arguments.picture, arguments.overwrite, images.KINDS, "--picture")
    chosen = {name: value for name in ("steps", "seconds", "space", "bf16") if (value := getattr(arguments, name)) is not None}
    config = InvertConfig(**chosen)
    photo = images.read(arguments.photo)
    alignment, face = load("aligner")(photo, arguments.face, size_px=256)
    generator, distance, identity = load("faces"), load("perceptual"), load("identity")
    start = _start(arguments.start, generator, face)
    search, step = invert(generator, face, config, distance=distance, identity=identity, start=start), None
    try:
        for step in _with_progress(search):  # noqa: B007
            pass
    except KeyboardInterrupt:
        if step is None:
            raise
        out = _save(step.inversion(alignment), arguments.out)
        arguments.resume = f"What {step.index} steps found is in {out}; --start {out} goes on from there."
        raise
    out = _save(step.inversion(alignment), arguments.out)
    if arguments.picture:
        images.write(images.grid(torch.cat([images.resize(face, step.image.shape[-1]), step.image])), arguments.picture)
    print(f"{out}: {describe(likeness(step.image, face, distance, identity))}; below 0.6 it is the same person for the network")
    print(f"Now edit it: dvlatent edit --from {out} --age +2 --paste-back {arguments.photo} --out older.png")
    return 0


def _save(found: Inversion, out: Path) -> Path:
    """Write what was found, elsewhere if it cannot be written there: minutes of search are not lost to a full disk."""
    try:
        found.save(out)
        return out
    except (DvlatentError, OSError) as reason:
        elsewhere = Path(tempfile.mkdtemp(prefix="dvlatent-"), out.name)
        found.save(elsewhere)
        print(f"{out} could not be written ({reason}). What was found is in {elsewhere}.", file=sys.stderr)
        return elsewhere


def _with_progress(steps: Iterator[InvertStep]) -> Iterator[InvertStep]:
    """The same steps, with a progress line: the fraction done, the time left, and the loss."""
    from tqdm import tqdm

    layout = "{desc}{percentage:3.0f}% |{bar}| {elapsed} done, {remaining} left{postfix}"
    with tqdm(total=1.0, bar_format=layout) as bar:
        for step in steps:
            bar.set_postfix_str(f"step {step.index}, distance {float(step.loss.mean()):.3f}", refresh=False)
            bar.update(step.progress - bar.n)
            yield step


def _start(where: str | None, generator: Generator, face: Image) -> W | Ws | None:
    """The w or ws that `--start` names; None is the average face."""
    import torch

    from dvlatent.inversion.invert import Inversion
    from dvlatent.zoo import available, load

    if where is None:
        where = "encoder" if "encoder" in available() else "mean"
    if where == "mean":
        return None
    if where == "encoder":
        with torch.no_grad():
            return load("encoder")(face)
    if Path(where).suffix != ".safetensors":
        raise ShapeError(f"--start {where} is unknown: say encoder, mean, or the .safetensors file of an inversion.")
    found = Inversion.load(where)
    found.check(generator)
    return found.ws
