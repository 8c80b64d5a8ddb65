"""A folder or a zip file of anybody's pictures, as one array to train on."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from dvlatent import files, images
from dvlatent.errors import DvlatentError, ImageError, ShapeError

FEWEST = 100  # pictures that a network can learn from
MOST_BYTES = 8 * 2**30  # of the array
ZIP_BYTES = 64 * 2**30  # of a zip file
ONE_BYTES = 64 * 2**20  # of a picture file in it
GROWTH = 20  # how many times larger the pictures of a zip file may be than itself: pictures are compressed already

Read = Callable[[], bytes]


def read_pictures(
    source: Path | str, side_px: int, watch: Callable[[list], Iterable] = iter, fewest: int = FEWEST
) -> tuple[np.ndarray, list[str]]:
    """All pictures of a folder and those below it, or of a zip file: uint8 [picture, side, side, 3], and what was left out, with reasons.

    The square in the middle of each is resized. Smaller pictures and unreadable ones are left out; a zip file is never unpacked to disk.
    `watch` wraps the list, as tqdm does. Raises ShapeError for fewer pictures than `fewest`, or more than fit; ImageError for no source.
    """
    source = Path(source)
    found = _folder(source) if source.is_dir() else _zip(source)
    if len(found) * side_px**2 * 3 > MOST_BYTES:
        raise ShapeError(f"{len(found):,} pictures of {side_px} px take more than {MOST_BYTES >> 30} GB: take fewer, or smaller ones.")
    array, count, left_out = np.empty((len(found), side_px, side_px, 3), np.uint8), 0, []
    for name, read in watch(found):
        try:
            picture = images.read(io.BytesIO(read()))
            height, width = picture.shape[2:]
            if (side := min(height, width)) < side_px:
                raise ImageError(f"{width} x {height} px are fewer than {side_px}.")
            top, left = (height - side) // 2, (width - side) // 2
            array[count] = images.to_uint8(images.resize(picture[..., top : top + side, left : left + side], side_px))[0]
            count += 1
        except (DvlatentError, OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            left_out.append(f"{name[-80:]}: {str(error)[:120]}")
    if count < fewest:
        why = f" Left out: {'; '.join(left_out[:3])}" if left_out else f" Pictures end in {', '.join(images.PHOTOS[:4])} and so on."
        raise ShapeError(f"{source} has {count} pictures of {side_px} px or more; a network needs {fewest} at least.{why}")
    return array[:count], left_out


def _is_picture(path: PurePosixPath) -> bool:
    return path.suffix.lower() in images.PHOTOS and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _folder(folder: Path) -> list[tuple[str, Read]]:
    paths = sorted(path for path in folder.rglob("*") if _is_picture(PurePosixPath(path.relative_to(folder).as_posix())))
    return [(path.name, lambda path=path: files.read(path, ONE_BYTES, ImageError)) for path in paths]


def _zip(path: Path) -> list[tuple[str, Read]]:
    try:
        archive = zipfile.ZipFile(files.check(path, ZIP_BYTES, ImageError))
        infos = [info for info in archive.infolist() if not info.is_dir() and _is_picture(PurePosixPath(info.filename))]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ImageError(f"{path} is no folder and no zip file of pictures ({error}). Was it cut short?") from error
    if sum(info.file_size for info in infos) > GROWTH * path.stat().st_size + ONE_BYTES:
        raise ImageError(f"{path} would grow more than {GROWTH} times: pictures do not. It is refused.")

    def read(info: zipfile.ZipInfo) -> bytes:
        if info.file_size > ONE_BYTES:
            raise ImageError(f"{info.file_size:,} bytes are more than a picture has.")
        with archive.open(info) as file:
            return file.read(info.file_size)

    return [(info.filename, lambda info=info: read(info)) for info in sorted(infos, key=lambda info: info.filename)]
