"""dvlatent turns random vectors into faces, faces into coordinates, and coordinates into edits.

>>> import dvlatent
>>> faces = dvlatent.load("faces")
>>> ws = dvlatent.broadcast(faces.mapping(dvlatent.normal([85, 265], faces.z_dim)), faces.num_layers)
>>> image = faces.synthesis(dvlatent.truncate(ws, toward=faces.w_mean, psi=0.7))  # [2, 3, 1024, 1024] in [-1, 1]
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvlatent.directions import Direction, Edit
    from dvlatent.latents import broadcast, layer_range, lerp, mean, mix, normal, slerp, truncate, walk
    from dvlatent.zoo import available, load

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported, which reports to its maker otherwise

__version__ = "0.1.0"
_FROM = {  # each name is imported at its first use: `import dvlatent` and `dvlatent --help` do not wait for torch
    "dvlatent.zoo": ("available", "load"),
    "dvlatent.directions": ("Direction", "Edit"),
    "dvlatent.latents": ("broadcast", "layer_range", "lerp", "mean", "mix", "normal", "slerp", "truncate", "walk"),
}
__all__ = [
    "Direction",
    "Edit",
    "available",
    "broadcast",
    "layer_range",
    "lerp",
    "load",
    "mean",
    "mix",
    "normal",
    "slerp",
    "truncate",
    "walk",
]


def __getattr__(name: str) -> Any:
    for module, names in _FROM.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'dvlatent' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
