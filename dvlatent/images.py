"""The only door to pixels: files, bytes, sizes and films. Inside the house an image is [batch, channel, height, width] in [-1, 1].

Everything that cannot be read or written is refused as ImageError, every tensor of the wrong shape as ShapeError.
"""

from __future__ import annotations

import io
import math
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dvlatent.errors import ImageError, ShapeError
from dvlatent.types import Image

MAX_PIXELS = 64_000_000  # the largest phone photos in common use have 50 million; at this size a tensor takes 768 MB
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS: dict[str, dict[str, int]] = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
COLOURS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"  # or players guess
H264 = ("-vf", COLOURS, "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart")  # what browsers play


def read(path: str | os.PathLike[str] | io.IOBase, max_pixels: int = MAX_PIXELS) -> Float[Tensor, "1 3 height width"]:
    """A picture file (or an open binary one) as [1, 3, height, width], float32 in [-1, 1], upright, first frame only.

    Grey becomes three equal channels, transparent becomes white, 16 bits keep their precision.
    The size is checked before anything is decoded. Raises ImageError for whatever is no picture, broken or too large.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    name = getattr(path, "name", "the given bytes") if hasattr(path, "read") else _existing(Path(path))  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and broken tags: we judge both ourselves
            with Pillow.open(path) as photo:
                width, height = photo.size
                if width * height > max_pixels:
                    raise _too_large(name, f"{width}x{height} pixels", max_pixels)
                photo.load()
                return _decoded(_upright(photo))
    except Pillow.DecompressionBombError as reason:
        raise _too_large(name, "far more pixels", max_pixels) from reason
    except UnidentifiedImageError as reason:
        raise ImageError(
            f"{name} is no picture that can be read, or its first bytes are damaged. Give a PNG, JPEG, WebP, GIF, BMP or TIFF file; "
            "save a phone's HEIC photo as JPEG first."
        ) from reason
    except ImageError:
        raise
    except Exception as reason:  # decoders of broken files raise nearly anything
        raise ImageError(f"{name} is damaged or cut short ({reason}). Copy or download it again, or save it anew as PNG.") from reason


def write(image: Image, path: str | os.PathLike[str]) -> None:
    """One picture to a .png, .jpg or .webp file: whole or not at all. Missing folders are made; a file already there is replaced.

    Raises ImageError for another suffix, numbers that are not finite or a place that cannot be written, ShapeError for a wrong shape.
    """
    from PIL import Image as Pillow

    path = Path(path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path} ends in '{path.suffix}'; pictures end in {', '.join(KINDS)}. Rename it, or use film for GIF and MP4.")
    pixels = to_uint8(image)
    if len(pixels) != 1:
        raise ShapeError(f"write takes one picture, [1, 3, height, width]; this is {list(image.shape)}. Use grid(image) or image[:1].")
    with _draft(path) as draft:
        try:
            Pillow.fromarray(pixels[0]).save(draft, format=kind, **OPTIONS[kind])
        except (OSError, ValueError) as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or the picture too large for {kind}?") from reason


def to_uint8(image: Image) -> UInt8[np.ndarray, "batch height width 3"]:
    """[-1, 1] to bytes 0 to 255, clamped and rounded: [batch, 3 or 1, height, width] -> [batch, height, width, 3]."""
    if image.ndim != 4 or image.shape[1] not in (1, 3) or 0 in image.shape or not image.is_floating_point():
        raise ShapeError(
            f"a picture is [batch, 3 (or 1), height, width], floats in [-1, 1]; this is {image.dtype} of shape {list(image.shape)}. "
            "Use image[None] for one picture without its batch, or from_uint8 for bytes."
        )
    image = image.detach().float()
    broken = int((~torch.isfinite(image)).sum())
    if broken:
        raise ImageError(f"{broken} of {image.numel()} numbers are NaN or infinite; a picture needs finite ones. Find where they began.")
    levels = image.clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)  # in place: a large photo has gigabytes
    return levels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def from_uint8(array: UInt8[np.ndarray, "*batch height width 3"]) -> Float[Tensor, "_ 3 height width"]:
    """Bytes to [-1, 1]: [batch, height, width, 3] or [height, width, 3] -> [batch, 3, height, width]. `to_uint8` returns the same bytes."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ShapeError(
            f"pixels are bytes (uint8) of shape [batch, height, width, 3]; this is {array.dtype} of shape {list(array.shape)}. "
            "A picture that is floats already needs no from_uint8."
        )
    pixels = torch.from_numpy(np.array(array)).view(-1, *array.shape[-3:]).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def grid(image: Image, columns: int | None = None, gap_px: int = 4) -> Float[Tensor, "1 channel grid_height grid_width"]:
    """Several pictures as one, row by row with white gaps: [batch, ...] -> [1, ...]. `columns` is near square unless told."""
    if image.ndim != 4 or len(image) == 0 or gap_px < 0 or (columns is not None and columns < 1):
        raise ShapeError(
            f"grid takes at least one picture, [batch, channel, height, width], one column and no negative gap; this has shape "
            f"{list(image.shape)}, columns={columns}, gap_px={gap_px}."
        )
    batch, channels, height, width = image.shape
    columns = min(columns or math.ceil(math.sqrt(batch)), batch)
    rows = math.ceil(batch / columns)
    sheet = image.new_ones(1, channels, rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px)
    for index, picture in enumerate(image):
        top, left = index // columns * (height + gap_px), index % columns * (width + gap_px)
        sheet[0, :, top : top + height, left : left + width] = picture
    return sheet


def resize(image: Image, size_px: int | np.integer | tuple[int, int]) -> Float[Tensor, "batch channel new_height new_width"]:
    """Another size, differentiable; no number leaves the range the picture had.

    `size_px` is (height, width), or the longer side alone with the proportions kept. Shrinking by whole factors averages
    areas exactly; other shrinking is bilinear with antialiasing, enlarging bicubic.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise ShapeError(f"resize takes pictures, [batch, channel, height, width]; this has shape {list(image.shape)}.")
    height, width = old = tuple(image.shape[2:])
    if np.shape(size_px) not in ((), (2,)) or np.min(size_px) < 1:
        raise ShapeError(f"a size is one number of pixels, or (height, width), at least 1; this is {size_px}. Say resize(image, 256).")
    new = tuple(size_px) if np.ndim(size_px) else tuple(max(1, round(side * size_px / max(old))) for side in old)
    if new == old:
        return image
    if height % new[0] == 0 and width % new[1] == 0:
        return F.avg_pool2d(image, (height // new[0], width // new[1]))
    if new[0] <= height and new[1] <= width:
        return F.interpolate(image, new, mode="bilinear", antialias=True, align_corners=False)
    low, high = (bound.detach() for bound in (image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)))
    return F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False).clamp(low, high)  # bicubic overshoots at edges


def film(frames: Image | Iterable[Image], path: str | os.PathLike[str], fps: float = 24, *, progress: bool = True) -> None:
    """Moving pictures to a .gif (one palette for all frames, repeats for ever) or an .mp4 that browsers play (H.264).

    `frames` is [frame, 3, height, width], or any iterable of such pieces, taken one at a time: a long film fits in memory.
    A bar shows the progress if it takes over two seconds. Raises ImageError and ShapeError as `write` does.
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
    with _draft(path) as draft:
        try:
            (_save_gif if gif else _save_mp4)(_one_size(iter(bar)), draft, fps)
        except _EncoderError as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or are the frames too large?") from reason


def frames(path: str | os.PathLike[str]) -> tuple[float, int, Iterator[Float[Tensor, "1 3 height width"]]]:
    """A film, opened: frames a second, about how many frames there are, and the frames one after the other, each [1, 3, height, width].

    Whatever ffmpeg can read, turned upright; sound is not read. Raises ImageError for a file that is no film.
    """
    from imageio_ffmpeg import read_frames

    path = _existing(Path(path))
    reader = read_frames(str(path))
    try:
        about = next(reader)
        (width, height), fps = about["size"], float(about["fps"])
        if not (0 < width * height <= MAX_PIXELS and 0 < fps <= 240):
            raise ImageError(f"{path} has frames of {width}x{height} pixels, {fps:g} a second: films of people have 240 a second at most.")
    except (OSError, RuntimeError, KeyError, StopIteration) as reason:
        raise ImageError(f"{path} is no film that can be read ({str(reason)[-200:].strip()}). Give an MP4, MOV or GIF file.") from reason
    pieces = (from_uint8(np.frombuffer(frame, np.uint8).reshape(height, width, 3)) for frame in reader)
    return fps, round(float(about.get("duration", 0)) * fps), pieces


def _existing(path: Path) -> Path:
    """The path itself, if a picture could be there."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; one picture file was needed. Name a file inside it.")
        if not path.exists():
            raise ImageError(f"there is no file {path}. Check the spelling; relative paths start at {Path.cwd()}.")
        if not path.is_file():
            raise ImageError(f"{path} is no ordinary file; a picture file was needed. Copy the picture to one first.")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes); a picture was needed. Copy or download it again.")
    except (OSError, ValueError) as reason:
        raise ImageError(f"{path} cannot be opened ({reason}). Check its name and whether you may read it.") from reason
    return path


def _too_large(name: object, size: str, max_pixels: int) -> ImageError:
    return ImageError(f"{name} has {size}; up to {max_pixels / 1e6:g} million are read. Shrink it first, or give read a larger max_pixels.")


def _upright(photo: Any) -> Any:
    """Turned as the camera was held (EXIF tag 0x0112). A damaged tag turns nothing."""
    from PIL.Image import Transpose

    turns = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()  # for tags 2 to 8
    try:
        tag = int(photo.getexif().get(0x0112, 1))
    except Exception:  # the tags are a small file format of their own, broken in as many ways
        tag = 1
    return photo.transpose(Transpose[turns[tag - 2]]) if 2 <= tag <= 8 else photo


def _decoded(photo: Any) -> Tensor:
    """A loaded Pillow picture of any mode to [1, 3, height, width]."""
    from PIL import Image as Pillow

    if photo.mode[0] in "IF":  # 16 or 32 bits: the white level is the smallest usual one that fits, else the brightest pixel
        values = np.nan_to_num(np.asarray(photo, dtype=np.float32))
        low, high = float(values.min()), float(values.max())
        whites = (1.0, 255.0, 65535.0) if photo.mode == "F" else (65535.0,)
        white = next((white for white in whites if high <= white and low >= 0), None)
        levels = (values - low) / max(high - low, 1e-12) if white is None else values / white
        return torch.from_numpy(levels).mul(2).sub_(1).clamp_(-1, 1).repeat(1, 3, 1, 1)
    if "A" in photo.getbands() or "transparency" in photo.info:
        photo = photo.convert("RGBA")
        white = Pillow.new("RGB", photo.size, "white")
        white.paste(photo, mask=photo.getchannel("A"))
        photo = white
    return from_uint8(np.asarray(photo.convert("RGB")))


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to: once whole it takes the place of `path`, otherwise it vanishes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent)
    except OSError as reason:
        raise ImageError(f"nothing can be written into {path.parent} ({reason}). Choose a folder that is yours.") from reason
    with folder:
        draft = Path(folder.name, "draft" + path.suffix.lower())
        yield draft
        try:
            os.replace(draft, path)
        except OSError as reason:
            raise ImageError(f"{path} cannot be replaced ({reason}). Choose another name.") from reason


class _EncoderError(Exception):
    """What the encoder or the disk said; kept apart from errors of the caller's own frames."""


def _one_size(pieces: Iterator[Image]) -> Iterator[np.ndarray]:
    """Frame after frame as bytes, [height, width, 3], all of the first one's size."""
    first = None
    for frame in (frame for piece in pieces for frame in to_uint8(piece)):
        first = first or frame.shape
        if frame.shape != first:
            raise ShapeError(f"a film's frames have one size; the first was {first[:2]}, this one is {frame.shape[:2]}. Use resize.")
        yield frame
    if first is None:
        raise ImageError("a film needs at least one frame; it was given none. Give [frame, 3, height, width].")


def _save_gif(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    """Two passes, since the palette needs all frames: until then they wait as bytes in a file."""
    from PIL import Image as Pillow

    count, raw = 0, path.with_name("frames.raw")
    with open(raw, "wb", buffering=0) as file:
        for count, frame in enumerate(frames, start=1):  # noqa: B007
            _send(frame, file)
    film = np.memmap(raw, np.uint8, mode="r", shape=(count, *frame.shape))
    pixels = film.reshape(-1, 3)
    sample = pixels[np.sort(np.random.RandomState(0).randint(len(pixels), size=2**17))]
    # refined by k-means: 7 dB better on a face than median cut alone; 255 colours leave one to say "as before"
    palette = Pillow.fromarray(sample.reshape(256, -1, 3)).quantize(255, Pillow.Quantize.MEDIANCUT, kmeans=1)
    pictures = (Pillow.fromarray(frame).quantize(palette=palette) for frame in film)
    ticks = [round(100 * index / fps) for index in range(count + 1)]  # a GIF counts hundredths of a second
    options = {"duration": [10 * (b - a) for a, b in pairwise(ticks)], "palette": palette.palette, "optimize": True, "loop": 0}
    try:
        next(pictures).save(path, save_all=True, append_images=pictures, **options)
    except (OSError, ValueError) as reason:
        raise _EncoderError(reason) from reason


def _save_mp4(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    """One pass through an ffmpeg process; odd sides are made even by repeating the last row or column (yuv420p needs it)."""
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        program = get_ffmpeg_exe()
    except RuntimeError as reason:
        raise ImageError("an MP4 needs the ffmpeg program, and none is here. Run `pip install imageio-ffmpeg`, or write a GIF.") from reason
    process = None
    try:
        for frame in frames:
            frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
            if process is None:
                size, rate = f"{frame.shape[1]}x{frame.shape[0]}", str(Fraction(fps).limit_denominator(1001))
                command = [program, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
                process = subprocess.Popen([*command, *H264, str(path)], bufsize=0, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                _send(frame, process.stdin)
            except _EncoderError:
                break  # it went away: its own words, below, say why
        words = process.communicate()[1].decode(errors="replace").strip()
        if process.returncode:
            raise _EncoderError(words[-300:])
    finally:
        if process is not None and process.poll() is None:  # interrupted, or the caller's frames failed
            process.kill()
            process.communicate()


def _send(frame: np.ndarray, file: Any) -> None:
    rest = memoryview(np.ascontiguousarray(frame)).cast("B")
    try:
        while rest:
            rest = rest[file.write(rest) :]  # unbuffered: a full disk is noticed here, and closing has nothing left to say
    except OSError as reason:
        raise _EncoderError(reason) from reason
