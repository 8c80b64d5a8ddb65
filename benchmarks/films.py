"""Films through the age filter: how fast, how steady, and a sheet for the eye. `python benchmarks/films.py --sheet sheet.jpg`, ten minutes.

The speed is that of a film of 1280x720 pixels with a face of 200 px, on a quiet computer; its processor time does not need a quiet
one. The memory is the most that the process held. How steady: the astronaut, 24 times with the noise of a camera (3 levels), edited as a
film and photo by photo; the standard deviation over the frames of the edit, in levels of 255, and of the corners of the face's square,
in pixels. The sheet shows a film with all at once: held upright by its tag, uneven times, sound, and two people: one grows, the other
shrinks and is covered for a third of a second. Above are frames of the film, below the same with face 0, the first one, made older.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from imageio_ffmpeg import get_ffmpeg_exe
from torch import Tensor

import dvlatent
from dvlatent import images, video
from dvlatent.distillation import film
from dvlatent.distillation.filter import apply_to_photo
from dvlatent.faces.align import soft_mask
from dvlatent.latents import broadcast, normal, truncate


def ground(height: int, width: int) -> Tensor:
    clouds = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0)) - 0.6
    return F.interpolate(clouds, (height, width), mode="bicubic").clamp(-1, 1)


def put(frame: Tensor, face: Tensor, x: float, y: float, side: int) -> None:
    left, top, mask = round(x - side / 2), round(y - side / 2), images.resize(soft_mask(), side)
    window = frame[:, :, top : top + side, left : left + side]
    window += mask * (images.resize(face, side) - window)


def processor_s() -> tuple[float, float]:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


def speed(folder: Path, count: int) -> None:
    face, behind = images.from_uint8(skimage.data.astronaut()), ground(720, 1280)

    def shot(index: int) -> Tensor:
        frame = behind.clone()
        put(frame, face, 500 + 0.7 * index, 360, 512)
        return frame

    video.film(map(shot, range(count)), folder / "ten.mp4", 30, progress=False)
    begun = time.perf_counter()
    older, identity = dvlatent.load("age-filter"), dvlatent.load("identity")
    loaded = time.perf_counter()
    frames = video.frames(folder / "ten.mp4")
    used = processor_s()
    people = film.track_people(frames.pixels(), 30, older.aligner, identity)
    followed = time.perf_counter()
    video.film(film.edit(frames.pixels(), people, [(older, 2.0)]), folder / "out.mp4", 30, progress=False, sound=frames.path)
    edited = time.perf_counter()
    ours, ffmpeg = (1000 * (after - before) / count for after, before in zip(processor_s(), used, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"loading {loaded - begun:.1f} s, following {followed - loaded:.1f} s, editing {edited - followed:.1f} s for {count} frames:")
    print(f"{count / (edited - loaded):.1f} frames a second, {memory:,.0f} MB at most, {torch.get_num_threads()} threads")
    print(f"processor time for a frame: {ours:.0f} ms, and {ffmpeg:.0f} ms of ffmpeg")


def steadiness() -> None:
    older, identity = dvlatent.load("age-filter"), dvlatent.load("identity")
    still, generator = images.from_uint8(skimage.data.astronaut()), torch.Generator().manual_seed(0)
    noisy = [images.to_uint8(still + torch.randn(still.shape, generator=generator) * 3 / 127.5) for _ in range(24)]
    frames = [torch.from_numpy(one).permute(0, 3, 1, 2) for one in noisy]
    (person,) = film.track_people(iter(frames), 24, older.aligner, identity)
    quads = [alignment.quad for track in person.tracks for _, alignment, _ in track.positions()]
    new = list(film.edit(iter(frames), [person], [(older, 2.0)]))
    alone = [images.to_uint8(apply_to_photo(images.as_floats(frame), [(older, 2.0)])) for frame in frames]
    for name, squares, made in (
        ("as a film", quads, [images.to_uint8(one) for one in new]),
        ("photo by photo", [older.aligner.find(frame)[0].quad for frame in frames], alone),
    ):
        edit = np.concatenate(made).astype(float) - np.concatenate(noisy)
        where = np.abs(edit.mean(0)) > 2
        print(f"{name}: corners {np.std(squares, axis=0).mean():.2f} px, edit {edit.std(0)[where].mean():.2f} levels")


def everything(folder: Path, sheet: Path) -> None:
    generator = dvlatent.load("faces")
    ws = truncate(broadcast(generator.mapping(normal([4, 85], generator.z_dim)), generator.num_layers), toward=generator.w_mean, psi=0.7)
    with torch.no_grad():
        one, other = (generator.preview(w) for w in ws.split(1))
    behind = ground(1280, 720)

    def shot(index: int) -> Tensor:
        frame = behind.clone()
        put(frame, one, 300 + index, 340, 320 + 2 * index)
        put(frame, other, 400 - index / 2, 940, 520 - 2 * index)
        if 50 <= index < 60:
            frame[:, :, 780:1100, 180:600] = 0.2  # something passes in front of the second face
        return frame.rot90(-1, (2, 3))

    video.film(map(shot, range(120)), folder / "flat.mp4", 30, progress=False)
    ffmpeg = [get_ffmpeg_exe(), "-v", "error", "-y"]
    uneven = ["-vf", "select='mod(n,12)*mod(n,7)'", "-fps_mode", "vfr", "-c:a", "aac", "-crf", "16", str(folder / "uneven.mp4")]
    subprocess.run([*ffmpeg, "-i", str(folder / "flat.mp4"), "-f", "lavfi", "-i", "sine=d=4", *uneven], check=True)
    turned = [*ffmpeg, "-display_rotation", "90", "-i", str(folder / "uneven.mp4"), "-c", "copy", str(folder / "all.mov")]
    subprocess.run(turned, check=True)
    command = [sys.executable, "-m", "dvlatent", "filter", "all.mov", "--age", "+2", "--face", "0", "--out", "older.mp4"]
    subprocess.run(command, cwd=folder, check=True)
    before, after = (video.frames(folder / name) for name in ("all.mov", "older.mp4"))
    print(f"before {len(before)} frames at {float(before.fps):g}, {before.read_s:.2f} s; after {len(after)}, {after.read_s:.2f} s")
    chosen = np.linspace(0, len(before) - 1, 12).round().astype(int)
    rows = [images.resize(frame, 420) for shown in (before, after) for index, frame in enumerate(shown) if index in chosen]
    images.write(images.grid(torch.cat(rows), len(chosen)), sheet)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sheet", type=Path, required=True, help="where the contact sheet goes")
    options.add_argument("--frames", type=int, default=300, help="of the film whose speed is measured (default 300: 10 s)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speed(Path(folder), given.frames)
        steadiness()
        everything(Path(folder), given.sheet)


if __name__ == "__main__":
    main()
