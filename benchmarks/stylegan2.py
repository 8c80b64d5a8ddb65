"""StyleGAN2: `python benchmarks/stylegan2.py` prints how fast it convolves, learns and loads.

The peer of a modulated convolution is the same arithmetic as the paper writes it: filters of its own for each picture, in groups.
Seconds are those of the processor, forward and backward, best of several. With the file of a network, such as the recipe writes, it also
prints how well ordered its W is, and the scores in the file.
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
from dvlatent.stylegan.stylegan2_train import Discriminator, StyleGAN2TrainConfig, sizes_for, train_stylegan2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SHAPES = {64: (512, 4), 256: (128, 4), 1024: (32, 2)}  # side: channels of config f, pictures
ROUNDS, PAIRS = 3, 500
LOADS = """
import pathlib, re, sys, time
from dvlatent import zoo
from dvlatent.stylegan.nvidia_pickle import read_pickle
from dvlatent.stylegan.stylegan2 import StyleGAN2
memory = lambda word: int(re.search(word + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
before, start = memory("VmRSS"), time.process_time()
network = zoo.stylegan2(*read_pickle(sys.argv[1]), sys.argv[1])
print(time.process_time() - start, memory("VmHWM") - before)
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


def learning(bf16: bool) -> float:
    """Seconds on the clock of a step of 16 pictures of 64 px: the median of steps without a path length penalty."""
    sizes, pixels = sizes_for(64), np.random.RandomState(0).randint(0, 256, (64, 64, 64, 3)).astype(np.uint8)
    config, seconds, start = StyleGAN2TrainConfig(steps=9, ada_target=1.0, bf16=bf16), [], time.perf_counter()
    for _ in train_stylegan2(StyleGAN2(sizes), Discriminator(sizes), pixels, config):
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return float(np.median(seconds[1:]))


def order(path: str) -> None:
    """The end of the path length of a network: W against Z, with the interval of the ratio over pairs."""
    generator, distance, rng = load(path), load("perceptual"), np.random.RandomState(0)
    lengths = [path_lengths(generator, distance, space, PathConfig(pairs=PAIRS)) for space in "wz"]
    ratios = [trimmed_mean(lengths[0][i]) / trimmed_mean(lengths[1][i]) for i in rng.randint(0, PAIRS, (1000, PAIRS))]
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
    for bf16 in (True, False):
        row(f"a training step of 16 pictures, {'16' if bf16 else '32'} bits, {torch.get_num_threads()} threads", learning(bf16), None, "")
    loading()
    for path in sys.argv[1:]:
        order(path)
        scores = checkpoint.load(path, "stylegan2")[1]["scores"]
        row(
            f"Fréchet distance after {scores['images_seen']:,} pictures, DCGAN",
            scores["frechet"],
            scores.get("frechet_dcgan"),
            "<= 0.33",
            "",
        )
