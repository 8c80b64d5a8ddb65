"""The only door to pixels: picture files, bytes and sizes. Everywhere else an image is [batch, channel, height, width] in [-1, 1].

A file that cannot be read or written raises ImageError, a tensor of the wrong shape raises ShapeError.
"""

from __future__ import annotations

import io
import math
import os
import struct
import subprocess
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
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
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # what is written
HEIC = (".heic", ".heif", ".hif")  # read where pillow-heif is installed
LOSSLESS = (".bmp", ".tif", ".tiff", ".ppm", ".pgm")  # read too, and written as PNG; what follows is written as JPEG
PHOTOS = (*KINDS, *LOSSLESS, ".jfif", ".jpe", ".avif", ".jp2", *HEIC)  # the endings of a folder's photos
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")  # no EPS: Pillow starts a program for it
OPTIONS: dict[str, dict[str, int]] = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
DATES = (0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292)  # Exif: taken, digitized, time zones, fractions of a second
KEPT = (0x0132, 0x013B, 0x8298)  # Exif: changed, artist, copyright. The camera, its number and the place are dropped
Change = tuple[slice, slice, Tensor]  # rows and columns of a picture, and what is added there: [1, 3, rows, columns], from -2 to 2


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture file as it is: its own pixels, upright, and what else it carries. `images.open` reads one, `images.write` writes it back.

    `shown` is what screens show, in sRGB and over white; `changed` changes the pixels in their own colors and depth, and no others.
    """

    pixels: np.ndarray  # [height, width, channel], uint8 or uint16: gray, gray and alpha, RGB, or RGB and alpha
    profile: bytes = b""  # the ICC profile of the pixels; without one they are sRGB
    tags: dict[int, Any] = field(default_factory=dict)  # Exif: dates, artist and copyright

    @cached_property
    def shown(self) -> Tensor:
        """[1, 3, height, width]: bytes of 0 to 255, or floats in [-1, 1] for a picture of 16 bits. Do not change it."""
        colors, alpha = self._split()
        if self._converter:
            colors = self._converter[0](_to_8_bits(colors))
        if alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
            colors = _on_white(colors, alpha)
        if colors.dtype == np.uint16:
            colors = colors.astype(np.float32) / 32767.5 - 1
        colors = colors if colors.flags.writeable else colors.copy()  # what Pillow lends may not be changed, and torch wants to
        planes = torch.from_numpy(colors).permute(2, 0, 1)[None]
        return planes.expand(-1, 3, -1, -1)

    def changed(self, changes: Iterable[Change]) -> Picture:
        """The picture with changes in sRGB, as `filter.changes` gives them. Gray stays gray; where a change is 0, every bit stays."""
        pixels, white = self.pixels.copy(), float(np.iinfo(self.pixels.dtype).max)
        channels = len(_bands(pixels.shape[2]).replace("A", ""))
        for rows, columns, change in changes:
            window = pixels[rows, columns, :channels]
            added = change[0].permute(1, 2, 0).numpy() / 2  # of white
            if self._converter:
                onward, back = self._converter
                before = onward(_to_8_bits(window))
                after = np.clip(np.rint(before + 255 * added), 0, 255).astype(np.uint8)
                added = (back(after).astype(np.float32) - back(before)) / 255  # a difference: colors beyond sRGB stay what they are
            if added.shape[2] > channels:
                added = added.mean(2, keepdims=True)
            window[:] = np.clip(np.rint(window + white * added), 0, white)
        return replace(self, pixels=pixels)

    def marked(self, words: str) -> Picture:
        """The picture with words in the lower right corner, white on black, a thirtieth of the height."""
        pixels = self.pixels.copy()
        label = _label(words, pixels.shape[0])[-pixels.shape[0] :, -pixels.shape[1] :, None]
        corner = pixels[-label.shape[0] :, -label.shape[1] :]
        corner[:] = label.astype(pixels.dtype) * pixels.dtype.type(np.iinfo(pixels.dtype).max // 255)
        if "A" in _bands(pixels.shape[2]):
            corner[..., -1] = np.iinfo(pixels.dtype).max
        return replace(self, pixels=pixels)

    def _split(self) -> tuple[np.ndarray, np.ndarray | None]:
        has_alpha = "A" in _bands(self.pixels.shape[2])
        return (self.pixels[..., :-1], self.pixels[..., -1]) if has_alpha else (self.pixels, None)

    @cached_property
    def _converter(self) -> Any:
        """Two functions of bytes, to sRGB and back; None for pixels in sRGB."""
        return _converter(self.profile, "L" if self.pixels.shape[2] < 3 else "RGB")


def open(path: str | os.PathLike[str] | io.IOBase, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file (a path or an open binary file) with what it carries: depth, alpha, colors, dates. First frame only.

    The size is checked before anything is decoded. Raises ImageError for a file that is not a picture, is damaged or is too large.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    name = getattr(path, "name", "the given bytes") if hasattr(path, "read") else existing(Path(path))  # type: ignore[arg-type]
    formats = [*FORMATS, *(["HEIF"] if Path(str(name)).suffix.lower() in HEIC and heic_is_read() else [])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and broken tags: both are handled here
            with Pillow.open(path, formats=formats) as photo:
                width, height = photo.size
                if width * height > max_pixels:
                    raise _too_large(name, f"{width}x{height} pixels", max_pixels)
                deep = _deep(photo, path)
                photo.load()
                return _picture(photo, deep)
    except Pillow.DecompressionBombError as reason:
        raise _too_large(name, "far more pixels", max_pixels) from reason
    except UnidentifiedImageError as reason:
        heic = "" if heic_is_read() else "; for a phone's HEIC photo, `pip install pillow-heif` or save it as JPEG"
        raise ImageError(
            f"{name} is not a picture that can be read, or its first bytes are damaged. Give a PNG, JPEG, WebP, GIF, BMP or TIFF "
            f"file{heic}."
        ) from reason
    except ImageError:
        raise
    except Exception as reason:  # decoders of broken files raise nearly anything
        raise ImageError(f"{name} is damaged or cut short ({reason}). Copy or download it again, or save it anew as PNG.") from reason


def read(path: str | os.PathLike[str] | io.IOBase, max_pixels: int = MAX_PIXELS) -> Float[Tensor, "1 3 height width"]:
    """Read a picture file (a path or an open binary file) as [1, 3, height, width], float32 in [-1, 1], upright, first frame only.

    Gray becomes three equal channels, transparent becomes white, 16 bits keep their precision, other color profiles become sRGB.
    The size is checked before anything is decoded. Raises ImageError for a file that is not a picture, is damaged or is too large.
    """
    return as_floats(open(path, max_pixels).shown).contiguous()


def write(image: Image | Picture, path: str | os.PathLike[str], note: str = "") -> None:
    """Write one picture, [1, 3, height, width] or a Picture, to a .png, .jpg or .webp file; `note` goes into its metadata (Exif).

    A Picture keeps its color profile, dates, artist and copyright, and what the format has of alpha and 16 bits. The file appears whole or
    not at all. Missing folders are made; an older file is replaced. Raises ImageError for another suffix, for numbers that are not finite
    and for a path that cannot be written, ShapeError for a wrong shape.
    """
    path = Path(path)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path} ends in '{path.suffix}'; pictures end in {', '.join(KINDS)}. Rename it, or use video.film for a film.")
    if not isinstance(image, Picture):
        pixels = to_uint8(image)
        if len(pixels) != 1:
            raise ShapeError(f"write takes one picture, [1, 3, height, width]; this is {list(image.shape)}. Use grid(image) or image[:1].")
        image = Picture(pixels[0])
    with draft(path) as part:
        try:
            _save(image, part, kind, note)
        except (OSError, ValueError) as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or the picture too large for {kind}?") from reason


def writable(path: Path) -> Path:
    """The path itself, or for a kind of photo that is only read the same name as PNG or JPEG."""
    ending = path.suffix.lower()
    return path if ending in KINDS else path.with_suffix(".png" if ending in LOSSLESS else ".jpg")


def heic_is_read() -> bool:
    """Whether photos of the kind HEIC can be read: pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def marked(image: Image, words: str) -> Image:
    """The pictures with words in the lower right corner, white on black, a thirtieth of the height: [batch, 3, height, width]."""
    label = torch.tensor(_label(words, image.shape[2])[-image.shape[2] :, -image.shape[3] :])[None, None]
    result = image.clone()
    result[:, :, -label.shape[2] :, -label.shape[3] :] = label if image.dtype == torch.uint8 else as_floats(label).to(image)
    return result


def to_uint8(image: Image) -> UInt8[np.ndarray, "batch height width 3"]:
    """[-1, 1] to bytes 0 to 255, clamped and rounded: [batch, 3 or 1, height, width] -> [batch, height, width, 3]. Bytes stay."""
    if image.dtype == torch.uint8 and image.ndim == 4:
        return image.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
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


def as_floats(image: Tensor) -> Image:
    """Bytes of 0 to 255 as floats in [-1, 1], [batch, channel, height, width]; floats stay."""
    return image if image.dtype != torch.uint8 else image.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


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
    if image.dtype == torch.uint8:  # many times as fast; pixel rows as Pillow has them
        return F.interpolate(image.contiguous(memory_format=torch.channels_last), new, mode="bilinear", antialias=True)
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


def _picture(photo: Any, deep: np.ndarray | None = None) -> Picture:
    """A loaded Pillow picture of any mode, turned as the camera was held; `deep` is its pixels where Pillow has only 8 of their 16 bits."""
    profile, tags, turn = photo.info.get("icc_profile") or b"", {}, 1
    try:
        exif = photo.getexif()
        turn, dates = int(exif.get(0x0112, 1)), exif.get_ifd(0x8769)
        tags = {tag: exif[tag] for tag in KEPT if _is_words(exif.get(tag))}
        tags |= {0x8769: kept} if (kept := {tag: dates[tag] for tag in DATES if _is_words(dates.get(tag))}) else {}
    except Exception:  # the tags are a file format of their own, and can be damaged in many ways: what was read until then is kept
        pass
    if deep is not None:
        pixels = deep
    elif photo.mode[0] in "IF":
        pixels = _levels(np.asarray(photo, dtype=np.float32), (1.0, 255.0, 65535.0) if photo.mode == "F" else (65535.0,))
    else:
        if photo.mode == "CMYK" and (print_colors := _converter(profile, "CMYK")):
            pixels, profile = print_colors[0](np.asarray(photo)), b""
        else:
            if "transparency" in photo.info or photo.mode in ("PA", "La", "RGBa"):
                photo = photo.convert("LA" if photo.mode == "La" else "RGBA")
            if photo.mode not in ("L", "LA", "RGB", "RGBA"):
                profile = profile if photo.mode == "P" else b""
                photo = photo.convert("L" if photo.mode == "1" else "RGB")
            pixels = np.array(photo)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return Picture(np.ascontiguousarray(_turned(pixels, turn)), profile, tags)


def _decoded(photo: Any) -> Tensor:
    """A loaded Pillow picture of any mode as [1, 3, height, width]."""
    return as_floats(_picture(photo).shown).contiguous()


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1000


def _turned(pixels: np.ndarray, tag: int) -> np.ndarray:
    """Pixels turned as the camera was held (EXIF tag 0x0112)."""
    pixels = np.rot90(pixels, {3: 2, 4: 2, 6: -1, 7: -1, 8: 1, 5: 1}.get(tag, 0))
    return pixels[:, ::-1] if tag in (2, 4) else pixels[::-1] if tag in (5, 7) else pixels


def _levels(values: np.ndarray, whites: tuple[float, ...]) -> np.ndarray:
    """Gray of 16 or 32 bits as uint16: white is the smallest usual level that fits, else the brightest pixel."""
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    white = next((white for white in whites if high <= white and low >= 0), None)
    levels = (values - low) / max(high - low, 1e-12) if white is None else values / white
    return np.rint(levels * 65535).clip(0, 65535).astype(np.uint16)


def _deep(photo: Any, path: Any) -> np.ndarray | None:
    """The pixels of a color PNG or TIFF of 16 bits, which Pillow reads as 8: ffmpeg's, [height, width, channel]. None for other files."""
    kinds, formats = {"RGB": ("rgb48le", 3), "RGBA": ("rgba64le", 4), "LA": ("ya16le", 2)}, {"PNG": "png_pipe", "TIFF": "tiff_pipe"}
    if photo.mode not in kinds or photo.format not in formats or ";16" not in str(photo.tile):
        return None
    from imageio_ffmpeg import get_ffmpeg_exe

    (layout, channels), (width, height) = kinds[photo.mode], photo.size
    data = path.getvalue() if isinstance(path, io.BytesIO) else Path(photo.filename).read_bytes()
    source = ["-f", formats[photo.format], "-frame_size", str(len(data)), "-noautorotate", "-i", "pipe:0", "-frames:v", "1"]
    command = [get_ffmpeg_exe(), "-v", "quiet", "-protocol_whitelist", "pipe", *source, "-f", "rawvideo", "-pix_fmt", layout, "pipe:1"]
    made = subprocess.run(command, input=data, capture_output=True, check=False).stdout
    whole = len(made) == 2 * channels * width * height
    return np.frombuffer(made, "<u2").astype(np.uint16).reshape(height, width, channels) if whole else None


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels / 257 + 0.5).astype(np.uint8)


def _on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    white, part = float(np.iinfo(colors.dtype).max), alpha[..., None] / np.float32(np.iinfo(alpha.dtype).max)
    return (white + (colors - np.float32(white)) * part + 0.5).astype(colors.dtype)


def _converter(profile: bytes, mode: str) -> Any:
    """Two functions of bytes [height, width, channel], from the colors of a profile to sRGB and back. None if they are nearly the same."""
    if not profile:
        return None
    from PIL import Image as Pillow
    from PIL import ImageCms

    try:
        theirs, ours = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        onward = ImageCms.buildTransform(theirs, ours, mode, "RGB", intent)
        back = ImageCms.buildTransform(ours, theirs, "RGB", mode, intent) if mode != "CMYK" else onward
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile, or one for other pixels
        return None

    def through(transform: Any, pixels: np.ndarray, mode: str) -> np.ndarray:
        picture = Pillow.fromarray(np.ascontiguousarray(pixels[..., 0] if mode == "L" else pixels), mode if mode == "CMYK" else None)
        made = np.asarray(ImageCms.applyTransform(picture, transform))
        return made if made.ndim == 3 else made[..., None]

    if mode != "CMYK":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colors = np.stack(np.meshgrid(*[levels] * 3), -1).reshape(1, -1, 3) if mode == "RGB" else levels[None, :, None]
        if np.abs(through(onward, colors, mode).astype(int) - colors).max() <= 2:
            return None
    return partial(through, onward, mode=mode), partial(through, back, mode="RGB")


def _bands(channels: int) -> str:
    return ("", "L", "LA", "RGB", "RGBA")[channels]


def _label(words: str, height: int) -> UInt8[np.ndarray, "label_height label_width"]:
    """Words in white on black, a thirtieth of a picture's height."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(height // 30, 10))
    left, top, right, bottom = map(round, font.getbbox(words))
    edge = max((bottom - top) // 3, 2)
    label = Pillow.new("L", (right - left + 2 * edge, bottom - top + 2 * edge))
    ImageDraw.Draw(label).text((edge - left, edge - top), words, fill="white", font=font)
    return np.asarray(label)


def _save(picture: Picture, part: Path, kind: str, note: str) -> None:
    """Write a picture in a format, with as much of what it carries as the format has."""
    from PIL import Image as Pillow

    exif = Pillow.Exif()
    for tag, value in picture.tags.items():
        exif[tag] = value
    if note:
        exif[0x010E], exif[0x0131] = note, "dvlatent"  # ImageDescription, Software
    if kind == "PNG" and picture.pixels.dtype == np.uint16:
        part.write_bytes(_deep_png(picture.pixels, picture.profile, exif.tobytes() if len(exif) else b""))
        return
    pixels = _to_8_bits(picture.pixels)
    if kind == "JPEG" and "A" in _bands(pixels.shape[2]):
        pixels = _on_white(pixels[..., :-1], pixels[..., -1])
    options = {**OPTIONS[kind], **({"icc_profile": picture.profile} if picture.profile else {}), **({"exif": exif} if len(exif) else {})}
    Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(part, format=kind, **options)


def _deep_png(pixels: np.ndarray, profile: bytes, exif: bytes) -> bytes:
    """A PNG file of 16 bits, which Pillow writes for gray alone; each row holds differences from pixel to pixel (PNG's filter Sub)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.ones((height, rows.shape[1] + 1), np.uint8)  # each row begins with the number of its filter
    filtered[:, 1:] = rows
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]
    kind = {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}[_bands(channels)]
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    parts += [chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))] if profile else []
    parts += [chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)), chunk(b"IEND", b"")])
