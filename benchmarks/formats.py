"""The shipped filters in several formats: size, time, and what rounding costs. `python benchmarks/formats.py` on a quiet computer.

Times are medians of faces of 256 px in ONNX Runtime on this computer's cores, formats by turns. Gray levels compare with the network in
32 bits, on faces that nothing was trained on, at both ends of the dial.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper

import dvlatent
from dvlatent import images
from dvlatent.distillation.filter import export_onnx, quantize
from dvlatent.latents import broadcast, w_of

Rounding = Callable[[np.ndarray], tuple[np.ndarray, bytes]]  # weights -> as they come back, and as they are kept


def whole(weights: np.ndarray) -> tuple[np.ndarray, bytes]:
    return weights, weights.tobytes()


def half(weights: np.ndarray) -> tuple[np.ndarray, bytes]:
    narrow = weights.astype("<f2")
    return narrow.astype(np.float32), narrow.tobytes()


def web(weights: np.ndarray) -> tuple[np.ndarray, bytes]:
    narrow, scales = quantize(weights)
    back = narrow.astype(np.float32) * (scales.astype(np.float32) if scales.size else 1)
    return back, narrow.tobytes() + scales.tobytes()


def layer(weights: np.ndarray) -> tuple[np.ndarray, bytes]:
    """The usual way: every convolution in 8 bits, one scale for an output channel."""
    if weights.ndim != 4:
        return half(weights)
    scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True).clip(1e-6) / 127
    narrow = np.round(weights / scale).astype(np.int8)
    return narrow * scale, narrow.tobytes() + scale.astype("<f2").tobytes()


FORMATS: dict[str, Rounding] = {
    "32 bits (`export`)": whole,
    "16 bits": half,
    "8 bits, a scale for each channel": layer,
    "8 bits, a scale for each kernel (`export --web`)": web,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each format")
    arguments = parser.parse_args()
    faces, judge = dvlatent.load("faces"), dvlatent.load("judge")
    with torch.no_grad():
        ws = [broadcast(w_of(faces, [seed], 0.8), faces.num_layers) for seed in range(9_000_000, 9_000_000 + arguments.faces)]
        small = torch.cat([images.resize(faces.synthesis(one), 256) for one in ws])
    print("| filter | format | MB | MB over the wire | ms a face | mean, most gray levels from 32 bits | most years from 32 bits |")
    print("|---|---|---|---|---|---|---|")
    for name in (name for name in dvlatent.available() if name.endswith("-filter")):
        rows = measured(dvlatent.load(name), small, judge, arguments.runs)
        for kind, (size, wire, time_ms, mean, most, years) in rows.items():
            print(f"| {name} | {kind} | {size / 1e6:.1f} | {wire / 1e6:.1f} | {time_ms:.0f} | {mean:.2f}, {most:.1f} | {years:.2f} |")


def measured(one: dvlatent.Filter, small: torch.Tensor, judge: dvlatent.Predictor, runs: int) -> dict[str, tuple[float, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(export_onnx(one, Path(folder, "filter.onnx")))
    sessions, sizes = {}, {}
    for kind, rounding in FORMATS.items():
        sessions[kind], sizes[kind] = kept(model, rounding)
    pictures, times = {name: [] for name in sessions}, {name: [] for name in sessions}
    for face in small:
        for strength in (one.low, one.high):
            feed = {"image": face[None].numpy(), "strength": np.float32([strength])}
            for name, session in sessions.items():
                pictures[name].append(torch.from_numpy(session.run(None, feed)[0]).clamp(-1, 1))
    for _ in range(runs):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(None, feed)
            times[name].append(1e3 * (time.perf_counter() - began))
    reference, rows = torch.cat(next(iter(pictures.values()))), {}
    age = judge(reference)[:, judge.names.index("age")]
    for name in sessions:
        made = torch.cat(pictures[name])
        away = (made - reference).abs() * 127.5
        years = float((judge(made)[:, judge.names.index("age")] - age).abs().max())
        rows[name] = (*sizes[name], statistics.median(times[name]), float(away.mean()), float(away.max()), years)
    return rows


def kept(model: onnx.ModelProto, rounding: Rounding) -> tuple[ort.InferenceSession, tuple[int, int]]:
    """A session with rounded weights; and what graph and weights take, as they are and compressed."""
    copy, files = onnx.ModelProto(), []
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32:
            back, file = rounding(weights)
            tensor.CopyFrom(numpy_helper.from_array(back.astype(np.float32), tensor.name))
            files.append(file)
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    copy.graph.ClearField("initializer")
    files.append(copy.SerializeToString())
    return session, (sum(map(len, files)), len(gzip.compress(b"".join(files), 9)))


if __name__ == "__main__":
    main()
