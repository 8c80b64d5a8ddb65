"""Pairs of toy faces, quickly: a reader of plain colours, and rules that keep some and refuse some."""

import sys
import time

import torch

from dvlatent.distillation.pairing import PairsConfig, Rules
from dvlatent.toy.faces import ToyFaces

RULES = Rules("blue", 0.02, 0.0, stay={"red": 0.15}, within={"green": (-0.45, 0.6)}, apart=0.05)
CONFIG = PairsConfig(-2.0, 2.0, 0.9)


class Looks:
    """A predictor of simple things: mean brightness of the picture's channels."""

    names = ("red", "green", "blue")

    def __call__(self, image):
        return image.mean(dim=(2, 3))


def who(image):
    """Who it is, as far as the shape of the face says: its brightness in four places."""
    return torch.nn.functional.adaptive_avg_pool2d(image.mean(1), 2).flatten(1)


def parts():
    """generator, direction, predictors and identity for `candidates` and `write`."""
    toy = ToyFaces(resolution=32)
    return toy, toy.truth["background"], Looks(), who


if __name__ == "__main__":  # a process of its own: python pairs_toy.py FOLDER COUNT [seconds to wait after each block]
    from dvlatent.cli.filters import share
    from dvlatent.distillation.pairs import write

    torch.set_num_threads(1)
    toy, direction, look, identity = parts()
    process, processes = share()
    for _ in write(sys.argv[1], toy, direction, int(sys.argv[2]), look, identity, RULES, CONFIG, process=process, processes=processes):
        print(f"block of {process}/{processes}", flush=True)
        time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0)
