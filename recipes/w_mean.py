"""Average 100,000 mapped vectors: `python recipes/w_mean.py --out faces-w-mean.safetensors` (seconds)."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from common import LICENSE, command, parser, run
from tqdm import tqdm

from dvlatent import checkpoint
from dvlatent.assets import asset_path
from dvlatent.latents import normal
from dvlatent.stylegan.openvino_ir import read_mobile_stylegan


@torch.no_grad()
def make(out: Path, faces: int = 100_000) -> None:
    """Average `mapping(normal(seed, 512))` over seeds 0, 1, ... and write it, tied to the mapping network's hash."""
    mapping = asset_path("random_face/data/MappingNetwork.bin")
    generator = read_mobile_stylegan(mapping.parent)
    total = torch.zeros(generator.w_dim, dtype=torch.float64)
    for first in tqdm(range(0, faces, 1000), unit_scale=1000, unit="w"):
        total += generator.mapping(normal(range(first, min(first + 1000, faces)), generator.z_dim)).double().sum(0)
    description = {
        "kind": "mean w",
        "of": f"mapping(normal(seed, 512)) over seeds 0 to {faces - 1}",
        "mapping_sha256": hashlib.sha256(mapping.read_bytes()).hexdigest(),
        "command": command("w_mean", out, faces=faces),
        "licence": LICENSE,
    }
    checkpoint.save(out, {"w_mean": (total / faces).float()}, description)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=100_000)))
