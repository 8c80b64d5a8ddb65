"""Your own photo on the command line: `dvlatent score` reads its faces, `invert` finds one among the generator's."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlatent.cli.arguments import READABLE_PX, add_generator, add_overwrite, check_out, generator_of, real
from dvlatent.errors import DvlatentError, ShapeError

if TYPE_CHECKING:
    from dvlatent.inversion.invert import Inversion, InvertStep
    from dvlatent.types import Generator, Image, W, Ws


def add(commands: argparse._SubParsersAction) -> None:
    """Add both commands."""
    score = commands.add_parser("score", help="how old do I look? what networks read from the faces of your photos")
    score.description = "Read every face of each photo: what a stranger may guess from the picture. It is no measurement of the person."
    score.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP or other pictures with faces")
    score.add_argument("--json", action="store_true", help="for programs: the same as JSON, one list entry a photo")
    score.set_defaults(run=_score, resume="Nothing was written.")

    invert = commands.add_parser("invert", help="find your own photo among the faces")
    invert.description = "Find the numbers whose face looks like the one in a photo. The photo stays on this computer."
    invert.add_argument("photo", type=Path, help="a JPEG, PNG, WebP or other picture with a face")
    invert.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    invert.add_argument("--picture", type=Path, help="also draw the photo and what was found side by side: a .png, .jpg or .webp file")
    invert.add_argument("--face", type=int, default=0, metavar="N", help="which face of the photo: 0 is the largest (default)")
    duration = invert.add_mutually_exclusive_group()
    duration.add_argument("--steps", type=int, help="optimizer steps (default 80)")
    duration.add_argument("--seconds", type=real, help="instead of steps: finish in so many seconds")
    add_generator(invert)
    start = "where to begin: encoder (a network's guess), mean (the average face), or a .safetensors file to go on from (default: encoder)"
    invert.add_argument("--start", metavar="WHERE", help=start)
    invert.add_argument("--space", choices=["w", "w+"], default="w+", help="w edits better, w+ looks more like the photo (default)")
    bf16 = "draw with 16-bit numbers while searching: 1.7 times as fast on a processor made for bfloat16, slower on others"
    invert.add_argument("--bf16", action="store_true", help=bf16)
    add_overwrite(invert)
    invert.set_defaults(run=_invert, resume="Nothing was written.")


def _score(arguments: argparse.Namespace) -> int:
    import torch

    from dvlatent import images
    from dvlatent.faces.align import crop
    from dvlatent.faces.attributes import combine
    from dvlatent.faces.detector import FaceCheck
    from dvlatent.zoo import load

    aligner, predictor, found = load("aligner"), combine([load("attributes"), load("landmarks"), FaceCheck()]), []
    for path in arguments.photos:
        try:
            photo = images.read(path)
            faces = aligner.find(photo) or [aligner(photo, size_px=64)[0]]  # raises NoFace, in words
            scores = predictor(torch.cat([crop(photo, one, 512) for one in faces])).tolist()
            read = (dict(zip(predictor.names, (round(score, 3) for score in row), strict=True)) for row in scores)
            rows = [{"quad": one.quad, "size_px": round(one.size_px), **named} for one, named in zip(faces, read, strict=True)]
            found.append({"file": str(path), "faces": [{name: row[name] for name in row if name != "others"} for row in rows]})
        except DvlatentError as reason:  # one bad photo is no reason to stop
            found.append({"file": str(path), "error": str(reason), "faces": []})
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(map(_score_in_words, found)))
    return 0 if any(photo["faces"] for photo in found) else 1


def _score_in_words(photo: Mapping[str, Any]) -> str:
    """What was read from a photo, a line for each face, the largest first."""
    error, file = photo.get("error", "perceived, not true: what a stranger may guess"), photo["file"]
    lines = [error if file in error else f"{file}: {error}"]
    for number, face in enumerate(photo["faces"]):
        (left, top), size = (round(min(side)) for side in zip(*face["quad"], strict=True)), face["size_px"]
        gender = f"{'male' if face['male'] >= 0.5 else 'female'} ({max(face['male'], 1 - face['male']):.0%})"
        guess = f"{face['age']:.0f} years, {gender}, smile {face['smile']:.1f} (0 is none, 1 broad)"
        lines += [f"  face {number}, {size} px wide from ({left}, {top}): {guess}"]
        pose = f"turned {face['yaw']:+.0f}, nods {face['pitch']:+.0f}, tilted {face['roll']:+.0f} degrees"
        lines += [f"          mouth open {face['mouth_open']:.2f}, eyes open {face['eyes_open']:.2f}, {pose}"]
    return "\n".join(lines)


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
    generator, distance, known = generator_of(arguments), load("perceptual"), load("identity")
    small = arguments.generator != "faces" and generator.resolution < READABLE_PX
    identity = (lambda image: known(images.resize(image, READABLE_PX))) if small else known
    start = _start(arguments.start or (None if arguments.generator == "faces" else "mean"), generator, face)
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
    print(f"{out}: {describe(likeness(step.image, face, distance, identity))}; below 0.6 it is the same person for the network")
    if arguments.generator == "faces":
        print(f"Now edit it: dvlatent edit --from {out} --age +2 --paste-back {arguments.photo} --out older.png")
    if arguments.picture:
        images.write(images.grid(torch.cat([images.resize(face, step.image.shape[-1]), step.image])), arguments.picture)
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
            w = load("encoder")(face)
        if w.shape[-1] != generator.w_dim:
            raise ShapeError("the encoder knows the generator of faces at 1024 px only: say --start mean.")
        return w
    if Path(where).suffix != ".safetensors":
        raise ShapeError(f"--start {where} is unknown: say encoder, mean, or the .safetensors file of an inversion.")
    found = Inversion.load(where)
    found.check(generator)
    return found.ws
