"""Films, read and written by the ffmpeg that imageio brings. A frame is an image, [1, 3, height, width] in [-1, 1]."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dvlatent.errors import ImageError, ShapeError
from dvlatent.images import MAX_PIXELS, draft, existing, from_uint8, to_uint8
from dvlatent.types import Image

COLORS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"  # or players guess
MP4 = {"codec": "libx264", "output_params": ["-vf", COLORS, "-crf", "18", "-movflags", "+faststart"]}  # what browsers play
PALETTES = "split[a][b];[a]palettegen=stats_mode=single[colors];[b][colors]paletteuse=new=1"  # 255 colors chosen for every frame
# gifflags 0: otherwise a palette that comes back shows wrong colors
GIF = {"codec": "gif", "pix_fmt_out": "pal8", "output_params": ["-lavfi", PALETTES, "-gifflags", "0", "-loop", "0"]}


def film(frames: Image | Iterable[Image], path: str | os.PathLike[str], fps: float = 24, *, progress: bool = True) -> None:
    """Write moving pictures to a .gif that repeats without end, or to an .mp4 that browsers play (H.264, even sides).

    `frames` is [frame, 3, height, width], or an iterable of such pieces. They are taken one at a time, so a long film fits in memory.
    A bar shows the progress of a film that takes over two seconds. Raises ImageError and ShapeError as `images.write` does.
    """
    from tqdm import tqdm

    path = Path(path)
    gif = path.suffix.lower() == ".gif"
    if not gif and path.suffix.lower() != ".mp4":
        raise ImageError(f"{path} ends in '{path.suffix}'; films are written as .gif or .mp4. Rename it, or use write for one picture.")
    if not 0 < fps <= (50 if gif else 240):
        raise ImageError(f"{fps} frames a second cannot be written to {path.name}: a GIF shows up to 50, an MP4 up to 240. 24 is usual.")
    pieces = frames.split(1) if isinstance(frames, Tensor) and len(frames) else frames
    bar = tqdm(pieces, desc=path.name, unit=" frames", delay=2, leave=False, disable=not progress)
    with draft(path) as part:
        try:
            _encode(_of_one_size(iter(bar)), part, fps, GIF if gif else MP4)
        except _EncoderError as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or are the frames too large?") from reason


def frames(path: str | os.PathLike[str]) -> tuple[float, int, Iterator[Float[Tensor, "1 3 height width"]]]:
    """Open a film: its frames a second, about how many frames it has, and the frames one by one, each [1, 3, height, width].

    Reads all that ffmpeg can read and turns it upright, without its sound. Raises ImageError for a file that is not a film.
    """
    from imageio_ffmpeg import read_frames

    path = existing(Path(path))
    reader = read_frames(path)
    try:
        about = next(reader)
        (width, height), fps = about["size"], float(about["fps"])
        if not (0 < width * height <= MAX_PIXELS and 0 < fps <= 240):
            raise ImageError(f"{path} has frames of {width}x{height} pixels, {fps:g} a second: films of people have 240 a second at most.")
    except (OSError, RuntimeError, KeyError, StopIteration) as reason:
        raise ImageError(f"{path} is not a film that can be read ({str(reason)[-200:].strip()}). Give an MP4, MOV or GIF file.") from reason
    pieces = (from_uint8(np.frombuffer(frame, np.uint8).reshape(height, width, 3)) for frame in reader)
    return fps, round(float(about.get("duration", 0)) * fps), pieces


def _of_one_size(pieces: Iterable[Image]) -> Iterator[np.ndarray]:
    """Frame after frame as bytes, [height, width, 3], all of the first one's size."""
    first = None
    for frame in (frame for piece in pieces for frame in to_uint8(piece)):
        first = first or frame.shape
        if frame.shape != first:
            raise ShapeError(f"all frames of a film have one size; the first was {first[:2]}, this one is {frame.shape[:2]}. Use resize.")
        yield frame
    if first is None:
        raise ImageError("a film needs at least one frame; it was given none. Give [frame, 3, height, width].")


class _EncoderError(Exception):
    """What the encoder says; kept apart from the errors of the caller's own frames."""


def _encode(frames: Iterator[np.ndarray], path: Path, fps: float, options: dict[str, Any]) -> None:
    """Send the frames to an ffmpeg process, which never outlives the call."""
    from imageio_ffmpeg import count_frames_and_secs, write_frames

    options = {**options, "input_params": ["-r", str(Fraction(fps).limit_denominator(1001))]}
    writer, count = None, 0
    try:
        for frame in frames:
            if options["codec"] == "libx264":  # its colors need even sides: the last row and column are repeated
                frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
            try:
                if writer is None:
                    size = frame.shape[1::-1]
                    writer = write_frames(path, size, quality=None, macro_block_size=1, ffmpeg_log_level="quiet", **options)
                    writer.send(None)
                writer.send(np.ascontiguousarray(frame))
            except RuntimeError as reason:
                raise ImageError("films need the ffmpeg program, and it is not here. Run `pip install imageio-ffmpeg`.") from reason
            except OSError as reason:
                raise _EncoderError("ffmpeg stopped") from reason
            count += 1
    finally:
        if writer is not None:
            writer.close()
    try:
        written = count_frames_and_secs(path)[0]  # the writer does not say when it fails at the end
    except RuntimeError as reason:
        raise _EncoderError("it cannot be read back") from reason
    if written != count:
        raise _EncoderError(f"only {written} of {count} frames are in it")
