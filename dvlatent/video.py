"""Films, read and written by the ffmpeg that imageio brings. A frame is an image, [1, 3, height, width] in [-1, 1].

A film is read at a constant rate, so that its picture stays in step with its sound whatever its own times are: a frame that is shown for
long comes several times. Paths go to ffmpeg as `file:` and absolute, and it may open nothing else, whatever a film asks for.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dvlatent.errors import ImageError, ShapeError
from dvlatent.images import MAX_PIXELS, as_floats, draft, existing, to_uint8
from dvlatent.types import Image

COLORS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"  # or players guess
MP4 = ["-vf", COLORS, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-movflags", "+faststart"]  # what browsers play
PALETTES = "split[a][b];[a]palettegen=stats_mode=single[colors];[b][colors]paletteuse=new=1"  # 255 colors chosen for every frame
# gifflags 0: otherwise a palette that comes back shows wrong colors
GIF = ["-lavfi", PALETTES, "-c:v", "gif", "-pix_fmt", "pal8", "-gifflags", "0", "-loop", "0"]
KINDS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv", ".ogv")
MOST_FPS = {".gif": 50, ".mp4": 240}  # what each format shows
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,h264,hevc,dv"  # no playlists
INPUT = ["-protocol_whitelist", "file", "-format_whitelist", FORMATS]
SOUNDS = {"aac", "mp3", "opus", "flac", "alac", "ac3", "eac3"}  # that players find in an MP4; others are encoded as AAC
NO_TAGS = ["-map_metadata", "-1", "-map_chapters", "-1"]  # places, dates, names of devices and chapters
USUAL_FPS = (10, 12, 15, 20, 24, 25, 30, 50, 60)
WIDE = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,{}zscale=t=bt709:m=bt709:r=tv,format=yuv444p,scale=in_color_matrix=bt709"
ROLL_OFF = "tonemap=mobius:param=0.7:desat=0,"  # diffuse white has 203 cd/m2 (ITU-R BT.2408); what is brighter is compressed


def film(
    frames: Image | Iterable[Image],
    path: str | os.PathLike[str],
    fps: float = 24,
    *,
    progress: bool = True,
    sound: str | os.PathLike[str] | None = None,
    note: str = "",
) -> bool:
    """Write moving pictures to a .gif that repeats without end, or to an .mp4 that browsers play (H.264, even sides).

    `frames` is [frame, 3, height, width], or an iterable of such pieces. They are taken one at a time, so a long film fits in memory.
    `sound` is a film whose sound an .mp4 gets, copied where an MP4 can hold it; it may be `path` itself. `note` becomes its comment. The
    film appears whole or not at all. Returns False if there is a sound that could not be kept. A bar shows the progress of a film that
    takes over two seconds. Raises ImageError and ShapeError as `images.write` does.
    """
    from tqdm import tqdm

    path = Path(path)
    most = MOST_FPS.get(path.suffix.lower())
    if most is None:
        raise ImageError(f"{path} ends in '{path.suffix}'; films are written as .gif or .mp4. Rename it, or use write for one picture.")
    if not 0 < fps <= most:
        raise ImageError(f"{fps} frames a second cannot be written to {path.name}: a GIF shows up to 50, an MP4 up to 240. 24 is usual.")
    pieces = frames.split(1) if isinstance(frames, Tensor) and len(frames) else frames
    bar = tqdm(pieces, desc=path.name, unit=" frames", delay=2, leave=False, disable=not progress)
    with draft(path) as part:
        try:
            _encode(_of_one_size(iter(bar)), part, fps, [*(GIF if most == 50 else MP4), "-metadata", f"comment={note}"])
        except _EncoderError as reason:
            raise ImageError(f"{path} could not be written ({reason}). Is the disk full, or are the frames too large?") from reason
        return sound is None or most == 50 or _add_sound(part, Path(sound))


class Frames:
    """The frames of a film at a constant rate, upright, with square pixels, in the colors of ordinary screens (BT.709).

    `fps` is that rate: the film's own, or a usual one if its frames come at uneven times. `len(frames)` says about how many there are.
    `read_s` is how many seconds the file holds; `cut_short` says whether it promises more than that.
    `for frame in frames` gives each as [1, 3, height, width] in [-1, 1], as often as it is said; `frames.pixels()` gives their bytes.
    Made by `video.frames`.
    """

    def __init__(self, path: Path, most_fps: float) -> None:
        self.path = path
        self._shown, self.cut_short = _animation(path)  # for an animated picture: seconds of each frame
        if self._shown:
            self.read_s = sum(self._shown)
            fps = min(Fraction(1000, math.gcd(*(round(1000 * seconds) for seconds in self._shown))), Fraction(most_fps))
            self.fps, self._count = fps, max(round(self.read_s * fps), 1)
            return
        about = _said(["-i", _file(path), "-map", "0:V:0", "-map", "0:a?", "-c", "copy", "-f", "framecrc", "-"])
        times, end_s, self.read_s = _times(about.stdout)
        video = re.search(r"Stream #0:\d.*?: Video: (.*)", about.stderr)
        if not times or not video:
            words = [line for line in about.stderr.splitlines() if line and not line.startswith(("Output", "Error opening output"))]
            reason = re.sub(r"\[.*?\] |file:\S*/", "", words[-1]) if words else "nothing is in it"
            raise ImageError(f"{path} is not a film that can be read ({reason[-200:]}). Give an MP4, MOV or GIF file.")
        if end_s > 86_400:
            raise ImageError(f"{path} states that it lasts {end_s / 3600:,.0f} hours; up to 24 are read. Cut it, or make it again.")
        self.fps = min(_rate(times), Fraction(most_fps))
        self._count = max(round(times[-1] * self.fps) + 1, round(end_s * self.fps), 1)
        stated = re.search(r"Duration: (\d+):(\d+):([\d.]+)", about.stderr)
        stated_s = int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3]) if stated else 0.0
        self.cut_short |= self.read_s < stated_s - max(0.5, 0.02 * stated_s, 2 / self.fps) or _half_riff(path)
        self._filters = _to_screen(video[1], path)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Float[Tensor, "1 3 height width"]]:
        return map(as_floats, self.pixels())

    def pixels(self) -> Iterator[UInt8[Tensor, "1 3 height width"]]:
        """The frames as bytes: a quarter of the memory, and several times as fast where few pixels are changed."""
        return self._pictures() if self._shown else self._decoded()

    def _decoded(self) -> Iterator[UInt8[Tensor, "1 3 height width"]]:
        options = ["-map", "0:V:0", "-vf", self._filters, "-fps_mode", "cfr", "-r", str(self.fps)]
        command = [*_ffmpeg(), "-v", "quiet", *INPUT, "-i", _file(self.path), *options, "-f", "image2pipe", "-c:v", "ppm", "-"]
        command += ["-map", "0:a?", "-c", "copy", "-f", "null", "-"]  # ffmpeg lets a film begin where its first used stream does
        count, frame = 0, None
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=2**20) as process:
            try:
                while (frame := _ppm(process.stdout, self.path, frame)) is not None:
                    count += 1
                    yield (last := torch.from_numpy(frame).permute(2, 0, 1)[None])
            finally:
                process.kill()
        if not count:
            raise ImageError(f"{self.path} is not a film that can be read (no frame can be decoded). Give an MP4, MOV or GIF file.")
        for _ in range(count, self._count):  # the last frame is shown to the end
            yield last

    def _pictures(self) -> Iterator[UInt8[Tensor, "1 3 height width"]]:
        from PIL import Image as Pillow

        from dvlatent.images import _decoded  # a frame of any mode

        end, count = 0.0, 0
        with Pillow.open(self.path) as photo:
            for index, seconds in enumerate(self._shown):
                photo.seek(index)
                picture, end = torch.from_numpy(to_uint8(_decoded(photo))).permute(0, 3, 1, 2), end + seconds
                for _ in range(count, max(round(end * self.fps), 1 if index == 0 else 0)):
                    count += 1
                    yield picture


def frames(path: str | os.PathLike[str], most_fps: float = 240) -> Frames:
    """Open a film: what it is, and its frames one by one. At more than `most_fps` a second, some are left out.

    Reads all that ffmpeg can read, and animated GIF, WebP and PNG. High dynamic range (HLG and PQ) is mapped to ordinary screens.
    Raises ImageError for a file that is not a film.
    """
    return Frames(existing(Path(path)), most_fps)


def animated(path: Path) -> bool:
    """Whether a GIF, WebP or PNG file has several frames."""
    return len(_animation(path)[0]) > 1


def _animation(path: Path) -> tuple[list[float], bool]:
    """How many seconds each frame of a GIF, WebP or PNG is shown (none for other files), and whether the file ends too early."""
    from PIL import Image as Pillow

    shown: list[float] = []
    opened = False
    try:
        with Pillow.open(path, formats=("GIF", "WEBP", "PNG")) as photo:
            opened = True
            while 0 < photo.size[0] * photo.size[1] <= MAX_PIXELS:
                photo.load()
                ms = round(float(photo.info.get("duration", 0)))
                shown.append((ms if ms > 10 else 100) / 1000)  # browsers show hasty frames for a tenth of a second
                photo.seek(len(shown))
    except EOFError:  # after the last frame
        return shown, False
    except Exception:  # decoders of broken files raise nearly anything
        return shown, opened
    return [], False


def _half_riff(path: Path) -> bool:
    """Whether an AVI file has fewer bytes than it says."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 > path.stat().st_size


def _file(path: Path) -> str:
    """A path as ffmpeg takes it, whatever letters are in it."""
    return f"file:{path.absolute()}"


def _ffmpeg() -> list[str]:
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        return [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y"]
    except RuntimeError as reason:
        raise ImageError("films need the ffmpeg program, and it is not here. Run `pip install imageio-ffmpeg`.") from reason


def _said(options: list[str]) -> subprocess.CompletedProcess[str]:
    """What ffmpeg says of a film."""
    command = [*_ffmpeg(), *INPUT, *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)


def _times(packets: str) -> tuple[list[float], float, float]:
    """When each frame is shown, in seconds, when the picture ends, and when the film does: from ffmpeg's list of packets."""
    units = {int(stream): Fraction(unit) for stream, unit in re.findall(r"^#tb (\d+): (\S+)", packets, re.MULTILINE)}
    times, ends = [], {0: 0.0, 1: 0.0}
    for stream, decoded, shown, lasts in re.findall(r"^(\d+), *(-?\d+), *(-?\d+), *(\d+),", packets, re.MULTILINE):
        at = (int(decoded) if int(shown) < -(2**62) else int(shown)) * units[int(stream)]  # AVI files know only when to decode
        ends[stream != "0"] = max(ends[stream != "0"], float(at + int(lasts) * units[int(stream)]))
        if stream == "0":
            times.append(float(at))
    return sorted(times), ends[0], max(ends.values())


def _rate(times: list[float]) -> Fraction:
    """Frames a second: the film's own rate if its frames come evenly, else a usual rate that is as fine as nearly all of them."""
    at = np.unique(times)
    steps, span = np.diff(at), at[-1] - at[0]
    if not len(steps):
        return Fraction(25)
    mean = len(steps) / span
    if np.abs(at - at[0] - np.arange(len(at)) / mean).max() * mean < 0.3:  # of a frame
        whole, ntsc = Fraction(max(round(mean), 1)), Fraction(1000 * max(round(1.001 * mean), 1), 1001)
        near = min(whole, ntsc, key=lambda usual: abs(usual - mean))
        return near if abs(near - mean) * span < 0.3 else Fraction(mean).limit_denominator(10_000)
    fine = 1 / float(np.quantile(steps, 0.1))
    return Fraction(next((usual for usual in USUAL_FPS if usual > 0.97 * fine), USUAL_FPS[-1]))


def _to_screen(video: str, path: Path) -> str:
    """ffmpeg's filters from the film's own colors and pixels to square ones in sRGB; `video` is how ffmpeg describes the film."""
    size, filters = re.search(r", (\d+)x(\d+)", video), []
    if not size or not 0 < int(size[1]) * int(size[2]) <= MAX_PIXELS:
        raise ImageError(f"{path} has frames of {size[0][2:] if size else 'no'} pixels; up to {MAX_PIXELS / 1e6:g} million are read.")
    bright = "arib-std-b67" in video or "smpte2084" in video
    if bright or re.search("/(bt2020|smpte43[12])/", video):
        if "zscale" not in _said(["-filters"]).stdout:
            raise ImageError(f"{path} has colors beyond ordinary screens (HDR), which this ffmpeg cannot map. Update imageio-ffmpeg.")
        filters.append(WIDE.format(ROLL_OFF if bright else "").replace("t=linear", "t=linear" if bright else "t=linear:tin=bt709", 1))
    elif not re.search("bt709|bt470|smpte|bt2020|fcc|gbr", video) and (int(size[1]) >= 1280 or int(size[2]) > 576):
        filters.append("scale=in_color_matrix=bt709")  # untagged: large films are BT.709, small ones BT.601, as players have it
    if (shape := re.search(r"SAR (\d+):(\d+)", video)) and shape[1] != shape[2]:
        filters.append("scale='round(iw*max(sar,1))':'round(ih*max(1/sar,1))':flags=bicubic,setsar=1")
    return ",".join([*filters, "format=rgb24"])


def _ppm(stream: Any, path: Path, before: np.ndarray | None) -> np.ndarray | None:
    """The next picture of a stream, [height, width, 3]; None at its end. Pictures say their size: a film may turn on its way."""
    header = [stream.readline() for _ in range(3)]
    if not header[-1]:
        return None
    width, height = map(int, header[1].split())
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path} has frames of {width}x{height} pixels; up to {MAX_PIXELS / 1e6:g} million are read.")
    pixels = np.empty((height, width, 3), np.uint8)
    return pixels if stream.readinto(pixels) == pixels.size and (before is None or before.shape == pixels.shape) else None


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


def _encode(frames: Iterator[np.ndarray], path: Path, fps: float, options: list[str]) -> None:
    """Send the frames to an ffmpeg process, which never outlives the call."""
    process, per_second = None, str(Fraction(fps).limit_denominator(100_000))
    with tempfile.TemporaryFile() as said:
        try:
            for frame in frames:
                if path.suffix == ".mp4":  # its colors need even sides: the last row and column are repeated
                    frame = np.pad(frame, [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)], mode="edge")
                if process is None:
                    size = f"{frame.shape[1]}x{frame.shape[0]}"
                    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", per_second, "-i", "pipe:0"]
                    command = [*_ffmpeg(), "-v", "error", *raw, *options, _file(path)]
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
                process.stdin.write(np.ascontiguousarray(frame).data)
            process.stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:
            if process is not None:
                process.kill()
                process.wait()
        if failed:
            said.seek(0)
            raise _EncoderError(said.read()[-200:].decode(errors="replace").strip() or "ffmpeg stopped")


def _add_sound(film: Path, source: Path) -> bool:
    """Give a film the sound of another, if that has any. False if it cannot be kept; then the film stays as it was."""
    kinds = re.findall(r"Stream #0:\d.*?: Audio: (\w+)", _said(["-i", _file(source)]).stderr)
    both = film.with_name(f"sound{film.suffix}")
    inputs = ["-v", "error", "-i", _file(film), *INPUT, "-i", _file(source), "-map", "0:v", "-map", "1:a", "-c", "copy"]
    whole = ["-map", "1:V?", "-c", "copy", "-f", "null", "-"]  # so that time begins where it does for the picture
    for codec in ["copy", "aac"][not set(kinds) <= SOUNDS :] if kinds else []:
        done = subprocess.run(
            [*_ffmpeg(), *inputs, "-c:a", codec, *NO_TAGS, "-map_metadata:g", "0:g", "-movflags", "+faststart", _file(both), *whole],
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            both.replace(film)
            return True
    return not kinds
