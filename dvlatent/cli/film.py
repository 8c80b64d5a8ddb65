"""Films on the command line: `dvlatent filter` follows their faces and edits them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from dvlatent.distillation.filter import Steps
    from dvlatent.video import Frames


def filter_film(source: Path, out: Path, steps: Steps, arguments: Namespace) -> list[dict[str, Any]]:
    """Edit the people of a film; returns in how many different frames each is seen, and how large. The film appears at the end, whole."""
    from tqdm import tqdm

    from dvlatent import images, video
    from dvlatent.distillation import film
    from dvlatent.zoo import load

    frames = video.frames(source, video.MOST_FPS[out.suffix.lower()])
    fps, passes = float(frames.fps), 2 * len(frames)  # it is read twice: each time counts half a frame
    shown = "{desc} {percentage:3.0f}%|{bar}| {rate_noinv_fmt}, {remaining} left"
    with tqdm(total=passes, unit=" frames", unit_scale=0.5, desc=source.name, bar_format=shown, mininterval=0.5) as bar:
        people = film.chosen(film.track_people(_counted(frames, bar), fps, steps[0][0].aligner, load("identity")), arguments.face)
        edited = film.edit(_counted(frames, bar), people, steps)
        pictures = (images.marked(frame, "edited") for frame in edited) if arguments.mark_corner else edited
        sounds = video.film(pictures, out, fps, progress=False, sound=source, note=arguments.note)
    if not sounds:
        print(f"{out}: its sound could not be kept", file=sys.stderr)
    if frames.cut_short:
        print(f"{source} ends earlier than it says: {frames.read_s:.1f} s were read", file=sys.stderr)
    return [{"frames": len(one.sides), "size_px": round(one.sides.mean())} for one in people]


def _counted(frames: Frames, bar: tqdm) -> Iterator[Any]:
    for frame in frames.pixels():
        yield frame
        bar.update()
