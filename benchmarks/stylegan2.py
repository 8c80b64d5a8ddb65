"""StyleGAN2: `python benchmarks/stylegan2.py` prints how fast it convolves and loads, and how well ordered the shipped one is.

The peer of a modulated convolution is the same arithmetic as the paper writes it: filters of its own for each picture, in groups.
Seconds are those of the processor, forward and backward, best of several. What the pictures are worth is in the shipped file, where the
recipe wrote it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from run import row

from dvlatent import checkpoint, load
from dvlatent.metrics.latent import PathConfig, path_lengths, trimmed_mean
from dvlatent.stylegan.stylegan2 import StyleGAN2, modulated_conv

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SHAPES = {64: (512, 4), 256: (128, 4), 1024: (32, 2)}  # side: channels of config f, pictures
ROUNDS, PAIRS = 3, 500
LOADS = """
import resource, sys, time
from dvlatent import zoo
from dvlatent.stylegan.nvidia_pickle import read_pickle
from dvlatent.stylegan.stylegan2 import StyleGAN2
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
network = zoo.stylegan2(*read_pickle(sys.argv[1]), sys.argv[1])
print(time.perf_counter() - start, peak() - before)
"""


def best(*calls: Callable[[], object]) -> list[float]:
    """Least processor seconds of each, taking turns; the first turn warms up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS + 1):
        for call, times in zip(calls, seconds, strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    return [min(times[1:]) for times in seconds]


def convolution(side: int, channels: int, batch: int, up: bool, bf16: bool, grouped: bool) -> Callable[[], None]:
    """One form, forward and backward, to pictures of this side."""
    x = torch.randn(batch, channels, side >> up, side >> up).to(memory_format=torch.channels_last)
    x = (x.bfloat16() if bf16 else x).requires_grad_()
    weight, style = torch.randn(channels, channels, 3, 3, requires_grad=True), torch.randn(batch, channels, requires_grad=True)

    def both() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = modulated_conv(x, weight, style, up=up, grouped=grouped)
        y.sum().backward()

    return both


def loading() -> None:
    """A pickle of config f with random weights, in NVIDIA's layout."""
    import test_stylegan_nvidia_pickle as theirs

    for module, value in (("torch_utils.persistence", theirs._reconstruct_persistent_obj), ("dnnlib.util", theirs.EasyDict)):
        value.__module__, made = module, types.ModuleType(module)
        setattr(made, value.__name__, value)
        sys.modules |= {module: made, module.split(".")[0]: types.ModuleType(module.split(".")[0])}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.pkl")
        path.write_bytes(pickle.dumps({"G_ema": theirs.nvidia(StyleGAN2().requires_grad_(False))}))
        words = subprocess.run([sys.executable, "-c", LOADS, str(path)], capture_output=True, text=True, check=True).stdout.split()
        size = path.stat().st_size / 2**20
    row(f"load a pickle of 1024 px, {size:.0f} MB", float(words[0]), None, "<= 4")
    row("its peak of memory, less the weights", float(words[1]) - size, None, "<= 600", "MB")


def order() -> None:
    """The end of the path length of the shipped network: W against Z, with the interval of the ratio over pairs."""
    generator, distance, rng = load("faces-64"), load("perceptual"), np.random.RandomState(0)
    lengths = [path_lengths(generator, distance, space, PathConfig(pairs=PAIRS, sampling="end")) for space in "wz"]
    ratios = [trimmed_mean(w) / trimmed_mean(z) for w, z in ((one[i] for one in lengths) for i in rng.randint(0, PAIRS, (1000, PAIRS)))]
    words = f"W against Z, path length end ({np.percentile(ratios, 2.5):.2f} to {np.percentile(ratios, 97.5):.2f})"
    row(words, trimmed_mean(lengths[0]), trimmed_mean(lengths[1]), "<= 0.7", "")


if __name__ == "__main__":
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    torch.manual_seed(0)
    for bf16 in (True, False):
        for side, (channels, batch) in SHAPES.items():
            for up in (False, True):
                ours, peer = best(*(convolution(side, channels, batch, up, bf16, grouped) for grouped in (False, True)))
                words = f"modulated convolution, {side} px{', up' * up}, {'16' if bf16 else '32'} bits: peer / ours"
                row(words, peer, ours, ">= 1.5")
    loading()
    order()
    scores = checkpoint.load(checkpoint.WEIGHTS / "stylegan2-64.safetensors", "stylegan2")[1]["scores"]
    row(f"Fréchet distance after {scores['images_seen']:,} pictures, DCGAN", scores["frechet"], scores["frechet_dcgan"], "<= 0.33", "")
    row("its real against real", scores["real_against_real"], None, "", "")
