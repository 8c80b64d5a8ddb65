"""Pairs of toy faces, quickly: a reader of plain colours, and rules that keep some and refuse some."""

import sys
import time

import torch

from dvlatent.distillation.pairs import PairsConfig, Rules, write_pairs
from dvlatent.toy.faces import ToyFaces

RULES = Rules("blue", 0.02, 0.0, max_change={"red": 0.15}, within={"green": (-0.45, 0.6)}, identity_limit=0.05)
CONFIG = PairsConfig(-2.0, 2.0, 0.9)


class Colors:
    """A predictor of simple things: mean brightness of the picture's channels."""

    names = ("red", "green", "blue")

    def __call__(self, image):
        return image.mean(dim=(2, 3))


def identity(image):
    """An identity: the brightness of the picture in four places."""
    return torch.nn.functional.adaptive_avg_pool2d(image.mean(1), 2).flatten(1)


def parts():
    """Generator, direction, predictor and identity for `candidates` and `write_pairs`."""
    toy = ToyFaces(resolution=32)
    return toy, toy.truth["background"], Colors(), identity


if __name__ == "__main__":  # a process of its own: python pairs_toy.py FOLDER COUNT [seconds to wait after each block]
    from dvlatent.cli.distillation import process

    torch.set_num_threads(1)
    made, (rank, world_size) = parts(), process()
    toy, direction, predictor, identity = made
    options = {"rank": rank, "world_size": world_size}
    for _ in write_pairs(sys.argv[1], toy, direction, int(sys.argv[2]), predictor, identity, RULES, CONFIG, **options):
        print(f"block of {rank}/{world_size}", flush=True)
        time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0)
