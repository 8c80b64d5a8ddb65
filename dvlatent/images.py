"""The only door to pixels: picture files, bytes and sizes. Everywhere else an image is [batch, channel, height, width] in [-1, 1].

A file that cannot be read or written raises ImageError, a tensor of the wrong shape raises ShapeError.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from dvlatent import files
from dvlatent.errors import ImageError, ShapeError
from dvlatent.types import Image

MAX_PIXELS = 64_000_000  # the largest phone photos in common use have 50 million; at this size a tensor takes 768 MB
draft = partial(files.draft, error=ImageError)  # a file to write to, which replaces another one at the end
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS: dict[str, dict[str, int]] = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}


def read(path: str | os.PathLike[str] | io.IOBase, max_pixels: int = MAX_PIXELS) -> Float[Tensor, "1 3 height width"]:
    """Read a picture file (a path or an open binary file) as [1, 3, height, width], float32 in [-1, 1], upright, first frame only.

    Gray becomes three equal channels, transparent becomes white, 16 bits keep their precision.
    The size is checked before anything is decoded. Raises ImageError for a file that is not a picture, is damaged or is too large.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    name = getattr(path, "name", "the given bytes") if hasattr(path, "read") else existing(Path(path))  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and broken tags: both are handled here
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
            f"{name} is not a picture that can be read, or its first bytes are damaged. Give a PNG, JPEG, WebP, GIF, BMP or TIFF file; "
            "save a phone's HEIC photo as JPEG first."
        ) from reason
    except ImageError:
        raise
    except Exception as reason:  # decoders of broken files raise nearly anything
        raise ImageError(f"{name} is damaged or cut short ({reason}). Copy or download it again, or save it anew as PNG.") from reason


def write(image: Image, path: str | os.PathLike[str], note: str = "") -> None:
    """Write one picture, [1, 3, height, width], to a .png, .jpg or .webp file; `note` goes into its metadata (Exif, the description).

    The file appears whole or not at all. Missing folders are made; an older file is replaced. Raises ImageError for another suffix,
    for numbers that are not finite and for a path that cannot be written, ShapeError for a wrong shape.
    """
    from PIL import Image as Pillow

    path = Path(path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path} ends in '{path.suffix}'; pictures end in {', '.join(KINDS)}. Rename it, or use video.film for a film.")
    pixels = to_uint8(image)
    if len(pixels) != 1:
        raise ShapeError(f"write takes one picture, [1, 3, height, width]; this is {list(image.shape)}. Use grid(image) or image[:1].")
    with draft(path) as part:
        try:
            exif = Pillow.Exif()
            if note:
                exif[0x010E], exif[0x0131] = note, "dvlatent"  # ImageDescription, Software
            Pillow.fromarray(pixels[0]).save(part, format=kind, **OPTIONS[kind], **({"exif": exif} if note else {}))
        except (OSError, ValueError) as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or the picture too large for {kind}?") from reason


def marked(image: Image, words: str) -> Image:
    """The pictures with words in the lower right corner, white on black, a thirtieth of the height: [batch, 3, height, width]."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(image.shape[2] // 30, 10))
    left, top, right, bottom = map(round, font.getbbox(words))
    edge = max((bottom - top) // 3, 2)
    label = Pillow.new("RGB", (right - left + 2 * edge, bottom - top + 2 * edge))
    ImageDraw.Draw(label).text((edge - left, edge - top), words, fill="white", font=font)
    small = from_uint8(np.asarray(label))[:, :, -image.shape[2] :, -image.shape[3] :].to(image)
    result = image.clone()
    result[:, :, -small.shape[2] :, -small.shape[3] :] = small
    return result


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
    """Several pictures as one, row by row with white gaps: [batch, ...] -> [1, ...]. Without `columns`, the grid is nearly square."""
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
    """Change the size: [batch, channel, height, width] -> the new size. Differentiable; values stay in the range of the picture.

    `size_px` is (height, width), or the longer side alone, which keeps the proportions. Shrinking by whole factors averages
    areas exactly; other shrinking is bilinear with antialiasing, enlarging is bicubic.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise ShapeError(f"resize takes pictures, [batch, channel, height, width]; this has shape {list(image.shape)}.")
    height, width = old = tuple(image.shape[2:])
    if np.shape(size_px) not in ((), (2,)) or np.min(size_px) < 1:
        raise ShapeError(f"a size is one number of pixels, or (height, width), at least 1; this is {size_px}. Say resize(image, 256).")
    new = tuple(size_px) if np.ndim(size_px) else tuple(max(1, round(side * size_px / max(old))) for side in old)
    if new == old:
        return image
    if image.dtype in (torch.float16, torch.bfloat16):  # which torch cannot resize on every device
        return resize(image.float(), new).to(image.dtype)
    if height % new[0] == 0 and width % new[1] == 0:
        return F.avg_pool2d(image, (height // new[0], width // new[1]))
    if new[0] <= height and new[1] <= width:
        return F.interpolate(image, new, mode="bilinear", antialias=True, align_corners=False)
    low, high = (bound.detach() for bound in (image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)))
    return F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False).clamp(low, high)  # bicubic overshoots at edges


def existing(path: Path) -> Path:
    """The path itself. Raises ImageError unless it is a file that is not empty."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; one picture file was needed. Name a file inside it.")
        if not path.exists():
            raise ImageError(f"there is no file {path}. Check the spelling; relative paths start at {Path.cwd()}.")
        if not path.is_file():
            raise ImageError(f"{path} is not an ordinary file; a picture file was needed. Copy the picture to one first.")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes); a picture was needed. Copy or download it again.")
    except (OSError, ValueError) as reason:
        raise ImageError(f"{path} cannot be opened ({reason}). Check its name and whether you may read it.") from reason
    return path


def _too_large(name: object, size: str, max_pixels: int) -> ImageError:
    return ImageError(f"{name} has {size}; up to {max_pixels / 1e6:g} million are read. Shrink it first, or give read a larger max_pixels.")


def _upright(photo: Any) -> Any:
    """Turn a photo as the camera was held (EXIF tag 0x0112). A damaged tag turns nothing."""
    from PIL.Image import Transpose

    turns = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()  # for tags 2 to 8
    try:
        tag = int(photo.getexif().get(0x0112, 1))
    except Exception:  # the tags are a file format of their own, and can be damaged in many ways
        tag = 1
    return photo.transpose(Transpose[turns[tag - 2]]) if 2 <= tag <= 8 else photo


def _decoded(photo: Any) -> Tensor:
    """A loaded Pillow picture of any mode as [1, 3, height, width]."""
    from PIL import Image as Pillow

    if photo.mode[0] in "IF":  # 16 or 32 bits: white is the smallest usual level that fits, else the brightest pixel
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
