"""How `mobile_stylegan_openvino.npz` was recorded: OpenVINO's own float32 outputs on the published files.

    python tests/data/record_openvino.py

Needs `pip install openvino` and the assets. For two seeds: w, the picture averaged over 32 x 32 squares, and four crops.
"""

from pathlib import Path

import numpy as np
import openvino

from dvlatent.assets import asset_path

FOLDER = asset_path("random_face/data/MappingNetwork.xml").parent
SEEDS = (85, 265)
CROPS = [(0, 0), (500, 400), (1000, 1000), (380, 620)]  # top left corners; each 24 x 24 pixels


def main() -> None:
    core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}  # the default may be bfloat16: off by up to 0.86
    mapping = core.compile_model(FOLDER / "MappingNetwork.xml", "CPU", exact)
    synthesis = core.compile_model(FOLDER / "SynthesisNetwork.xml", "CPU", exact)
    ws, small, crops = [], [], []
    for seed in SEEDS:
        z = np.random.RandomState(seed).randn(1, 512).astype(np.float32)
        w = mapping(z)[0].copy()
        image = synthesis(w)[0][0].copy()
        ws.append(w[0])
        small.append(image.reshape(3, 32, 32, 32, 32).mean((2, 4)))
        crops.append([image[:, y : y + 24, x : x + 24] for y, x in CROPS])
    path = Path(__file__).with_name("mobile_stylegan_openvino.npz")
    np.savez_compressed(path, seeds=SEEDS, w=ws, small=small, crops=crops, corners=CROPS)


if __name__ == "__main__":
    main()
