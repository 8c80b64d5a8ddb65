"""How long a photo takes, and how much memory: `python benchmarks/photos.py`. Nothing else should use the computer meanwhile."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from skimage.data import astronaut

import dvlatent
from dvlatent import images

ROUNDS = 5


def main() -> None:
    torch.set_num_threads(2)
    older, her = dvlatent.load("age-filter"), Image.fromarray(astronaut())
    small, aligned = images.from_uint8(astronaut()), torch.zeros(1, 3, 256, 256)
    print(f"fastest of {ROUNDS}, {torch.get_num_threads()} threads")
    print(f"the network alone, 256 px: {fastest(lambda: older(aligned, 1.0)):.3f} s")
    print(f"faces of a 512-px photo found: {fastest(lambda: older.aligner.find(small)):.3f} s")
    print(f"apply_to_photo, 512 px: {fastest(lambda: older.apply_to_photo(small, 1.0)):.3f} s")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((4000, 3000), (6000, 4000), (8000, 8000)):
            photo, side = Path(folder, "photo.jpg"), height * 7 // 10
            sheet = her.resize((width, height)).convert("L").convert("RGB").point(lambda level: level // 4)
            sheet.paste(her.resize((side, side), Image.Resampling.LANCZOS), (width // 5, height // 5))
            sheet.save(photo, quality=92)
            dvlatent_command = Path(sys.executable).with_name("dvlatent")
            command = [dvlatent_command, "filter", photo, "--age", "1", "--out", Path(folder, "out.jpg"), "--overwrite"]
            seconds = fastest(lambda command=command: subprocess.run(command, check=True, capture_output=True))
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
            print(f"dvlatent filter, {width * height / 1e6:g} megapixels: {seconds:.1f} s, at most {peak:.0f} MB", flush=True)


def fastest(act: Callable[[], object]) -> float:
    """Seconds of the fastest run, after one to warm up."""
    act()
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main()
