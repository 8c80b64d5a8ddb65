"""Every speed and size claim of this project, as ratios measured in one run: `make bench`, or `python benchmarks/run.py`.

Peers run beside us on the same weights, interleaved, best of several; nothing else should use the computer meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from survey_speed import faces_per_second

import dvlatent
from dvlatent.assets import asset_path
from dvlatent.stylegan import mobile_stylegan

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
from preview import preview_scores

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=200, help="unseen faces for the quality of the preview")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}\n")
    print(f"{'what':58} {'ours':>10} {'peer':>10} {'ratio':>7}   bar", flush=True)
    rows = [*speed(), *start(), *memory(), *preview_quality(arguments.faces), *training()]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def row(what: str, ours: float, peer: float | None, bar: str, unit: str = "s") -> dict[str, object]:
    """Print one line of the table and keep it."""
    shown = f"{peer:8.3f} {unit}" if peer else " " * 10
    ratio = f"{ours / peer:7.2f}" if peer else " " * 7
    print(f"{what:58} {ours:8.3f} {unit:1} {shown} {ratio}   {bar}", flush=True)
    return {"what": what, "ours": ours, "peer": peer, "bar": bar, "unit": unit}


def best(*calls: Callable[[], object]) -> list[float]:
    """Least seconds of each call, the calls taking turns so that a busy moment hits all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS + 1):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if turn:  # the first is a warm-up
                times.append(time.perf_counter() - start)
    return [min(times) for times in seconds]


def speed():
    import openvino

    faces = dvlatent.load("faces")
    w = faces.mapping(dvlatent.normal([85], 512))
    ws = dvlatent.broadcast(w, 16)
    core = openvino.Core()
    peer = core.compile_model(asset_path("random_face/data/SynthesisNetwork.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def one_piece(call: Callable[[], object]) -> object:
        """Our network without strips: the plain way."""
        floats, mobile_stylegan.FLOATS = mobile_stylegan.FLOATS, 2**40
        try:
            return call()
        finally:
            mobile_stylegan.FLOATS = floats

    def gradient(draw: Callable[[torch.Tensor], torch.Tensor] = faces.synthesis) -> torch.Tensor:
        leaf = ws.clone().requires_grad_()
        draw(leaf).square().mean().backward()
        return leaf.grad

    error = np.abs(peer(w.numpy())[0] - faces.synthesis(ws).numpy())
    print(f"{'largest and mean difference to OpenVINO, float32':58} {error.max():.1e}    {error.mean():.1e}")

    def rounded(call: Callable[[], object]) -> object:
        """In bfloat16, which some processors multiply twice as fast, and others slowly."""
        with torch.autocast("cpu", torch.bfloat16):
            return call()

    with torch.no_grad():
        ours, theirs, plain, preview, preview_rounded = best(
            lambda: faces.synthesis(ws),
            lambda: peer(w.numpy()),
            lambda: one_piece(lambda: faces.synthesis(ws)),
            lambda: faces.preview(ws),
            lambda: rounded(lambda: faces.preview(ws)),
        )
    yield row("1024 render, no gradient, against OpenVINO f32", ours, theirs, "<= 1.1")
    yield row("1024 render, no gradient, against itself in one piece", ours, plain, "")
    yield row("preview 256 against the full render", preview, ours, "<= 0.2")
    yield row("preview 256 in bfloat16 against the full render in float32", preview_rounded, ours, "<= 0.2")
    yield row("preview 256 against OpenVINO's full render", preview, theirs, "")
    ours, plain = best(gradient, lambda: one_piece(gradient))
    yield row("1024 forward + backward to ws, against one piece", ours, plain, "<= 1.3 s")
    for name, draw in (("1024", faces.synthesis), ("preview", faces.preview)):
        ours, plain = best(lambda draw=draw: rounded(lambda: gradient(draw)), lambda draw=draw: gradient(draw))
        yield row(f"{name} forward + backward in bfloat16, against float32", ours, plain, "")
    faces_a_second = faces_per_second()
    plain = 1 / faces_a_second["plain loop"]
    yield row("a face of a survey, against render, resize, package's predictor", 1 / faces_a_second["survey"], plain, "")
    yield row("a face of a survey with landmarks too", 1 / faces_a_second["survey with landmarks"], plain, "<= 0.12 s")


def start():
    torch_only, ours = best(lambda: python("import torch"), lambda: python("import torch, dvlatent; dvlatent.normal, dvlatent.load"))
    yield row("import dvlatent beyond torch's own import", max(ours - torch_only, 0.0), None, "<= 0.3 s")
    with tempfile.TemporaryDirectory() as folder:
        (seconds,) = best(lambda: python(f"from dvlatent.cli import main; main(['generate', '--out', r'{folder}/face.png'])"))
    yield row("cold process to first 1024 face on disk", seconds, None, "<= 6 s")


def python(code: str) -> str:
    """Run code in a new process; what it printed."""
    return subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


MEASURE = """
import re, torch, dvlatent
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # kB; Linux only
torch.set_num_threads(2)
faces = dvlatent.load("faces")
ws = dvlatent.broadcast(faces.mapping(dvlatent.normal([85], 512)), 16).clone()
if {one_piece}:
    from dvlatent.stylegan import mobile_stylegan
    mobile_stylegan.FLOATS = 2**40
before = peak()
if {gradient}:
    faces.synthesis(ws.requires_grad_()).square().mean().backward()
else:
    faces.synthesis(ws)
print((peak() - before) / 1024)
"""


def memory():
    for what, gradient in (("memory of one 1024 render", False), ("memory of one 1024 gradient step", True)):
        ours, plain = (
            float(python(MEASURE.format(gradient=gradient, one_piece=one))) for one in (False, True)
        )
        yield row(f"{what}, against one piece", ours, plain, "", "M")


def preview_quality(count: int):
    faces, attributes = dvlatent.load("faces"), dvlatent.load("attributes")
    for psi in (0.7, 1.0):
        scores = preview_scores(faces, attributes, count, psi)
        yield row(f"preview, {count} unseen faces, psi {psi}: mean PSNR (dB)", scores["psnr_db"], None, ">= 30", "")
        yield row(f"preview, psi {psi}: worst tenth of faces, PSNR (dB)", scores["worst_tenth_psnr_db"], None, "", "")
        yield row(f"preview, psi {psi}: median change of perceived age (years)", scores["median_change_age"], None, "<= 2", "")


def training():
    from train_speed import rows

    for what, ours, peer, bar, unit in rows():
        yield row(what, ours, peer, bar, unit)


if __name__ == "__main__":
    main()
