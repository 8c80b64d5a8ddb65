"""Who a face is, as 128 numbers: two pictures of one person lie close together. Taught in notebook 05.

This is dlib's face recognition network (King 2017; a ResNet with 29 convolutions, He et al. 2016), read from its own file into PyTorch.
On a CPU it is several times faster than dlib's own code, and a gradient flows from the 128 numbers back to the picture.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import files, images
from dvlatent.errors import AssetBroken
from dvlatent.faces.landmarks import SIZE_PX, Landmarks, checked
from dvlatent.types import Image

SAME_PERSON_BELOW = 0.6  # the distance its author recommends: 99.38 % right on pairs of photos of Labeled Faces in the Wild
CHIP_PX, PADDING = 150, 0.25  # the square that the network sees, and the margin around the face
MEANS = (122.782, 117.001, 104.298)  # of red, green and blue, in bytes
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # channels of every residual block
STRIDES = (1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1, 2)
FINER = 16  # dlib's points are whole numbers: it gets ours in sixteenths of a pixel


class Identity(nn.Module):
    """Describes the person on each aligned face: `identity(image)` is [batch, 128].

    The face is found by its 68 landmarks, turned upright and cut out as dlib does, always at 256 px.
    Gradients flow to the picture; the landmarks count as constants. Two pictures whose distance is below `SAME_PERSON_BELOW` show the
    same person, as far as this network can tell. It errs more often on children and on people whom its training photos rarely show.
    Raises AssetBroken for files that are not the right networks.
    """

    names = tuple(f"identity_{index}" for index in range(128))

    def __init__(self, network_dat: str | os.PathLike[str], shape_dat: str | os.PathLike[str]) -> None:
        super().__init__()
        self.network = Network()
        self.network.load(read_dat(Path(network_dat)))
        self.landmarks = Landmarks(shape_dat)
        self.eval().requires_grad_(False)

    def forward(self, image: Image) -> Float[Tensor, "batch 128"]:
        """The 128 numbers of every face: [batch, 3, size, size] in [-1, 1] -> [batch, 128]."""
        if not len(checked(image)):
            return image.new_empty(0, 128)
        small = images.resize(image.float().clamp(-1, 1), SIZE_PX)
        points = self.landmarks.points(small)
        chips = (chip(faces, at) for faces, at in zip(small.split(8), points.split(8), strict=True))
        return torch.cat([self.network(faces) for faces in chips])  # eight faces fit the processor's cache

    @staticmethod
    def distance(a: Float[Tensor, "batch 128"], b: Float[Tensor, "batch 128"]) -> Float[Tensor, " batch"]:
        """The Euclidean distance of every pair."""
        return (a - b).norm(dim=-1)


def chip(image: Image, points: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch 3 150 150"]:
    """What the network sees: each face turned upright and cut out around its landmarks (in pixels of the picture)."""
    scale = SIZE_PX / image.shape[-1]
    small = images.resize(image.float().clamp(-1, 1), SIZE_PX)
    grids = torch.stack([_grid(((face + 0.5) * scale - 0.5).tolist()) for face in points.cpu()]).to(small)  # pixels of the small picture
    return F.grid_sample(small, (grids + 0.5) * (2 / SIZE_PX) - 1, padding_mode="zeros", align_corners=False)


def _grid(points: list[list[float]]) -> Float[Tensor, "150 150 2"]:
    """Where each pixel of the chip lies in the picture: dlib scales, turns and shifts its mean face to fit the points."""
    import dlib

    parts = [dlib.point(round(FINER * x), round(FINER * y)) for x, y in points]
    details = dlib.get_face_chip_details(dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), parts), CHIP_PX, PADDING)
    box, angle = details.rect, details.angle
    across = torch.linspace(-0.5, 0.5, CHIP_PX)
    x, y = across * (box.right() - box.left()), across[:, None] * (box.bottom() - box.top())
    turned = torch.stack([math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y], dim=-1)
    return (turned + torch.tensor([(box.left() + box.right()) / 2, (box.top() + box.bottom()) / 2])) / FINER


class Network(nn.Module):
    """Chip to 128 numbers. The affine layer after each convolution is folded into the weights of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 7, stride=2)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(width_in, width, 3, stride, padding=int(stride == 1)), nn.Conv2d(width, width, 3, padding=1)])
            for width_in, width, stride in zip((32, *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True)
        )
        self.last = nn.Linear(256, 128, bias=False)
        self.register_buffer("means", torch.tensor(MEANS)[:, None, None], persistent=False)

    def forward(self, faces: Float[Tensor, "batch 3 150 150"]) -> Float[Tensor, "batch 128"]:
        """The residual network of dlib's example dnn_face_recognition_ex, layer by layer."""
        x = (127.5 * (faces + 1) - self.means) / 256
        x = F.max_pool2d(F.relu(self.first(x)), 3, stride=2)  # [batch, 32, 35, 35]
        for (one, two), stride in zip(self.blocks, STRIDES, strict=True):
            y = two(F.relu(one(x)))
            x = F.relu(_sum(y, F.avg_pool2d(x, 2) if stride == 2 else x))
        return self.last(x.mean(dim=(2, 3)))

    def load(self, tensors: list[np.ndarray]) -> None:
        """Weights in the order of the file: every convolution, then its affine layer; the last linear layer at the end."""
        layers = [self.first, *(layer for block in self.blocks for layer in block)]
        sizes = [size for layer in layers for size in (layer.weight.numel() + layer.out_channels, 2 * layer.out_channels)]
        if [tensor.size for tensor in tensors] != [*sizes, self.last.weight.numel()]:
            raise AssetBroken(f"{len(tensors)} tensors do not make the identity network. Give dlib_face_recognition_resnet_model_v1.dat.")
        for layer, tensor, affine in zip(layers, tensors[:-1:2], tensors[1:-1:2], strict=True):
            count = layer.weight.numel()
            gain, shift = torch.from_numpy(affine).view(2, -1)
            layer.weight.data = torch.from_numpy(tensor[:count]).view_as(layer.weight) * gain[:, None, None, None]
            layer.bias.data = torch.from_numpy(tensor[count:]) * gain + shift
        self.last.weight.data = torch.from_numpy(tensors[-1]).view(256, 128).T.contiguous()


def read_dat(path: Path) -> list[np.ndarray]:
    """The tensors of a network that dlib saved, in the order of its layers; nothing in the file is executed.

    A layer is its name, then (here) one tensor: version 2, four sizes, 32-bit floats. dlib writes an integer as the number of its
    bytes and then the bytes, the lowest first. Raises AssetBroken for anything else.
    """
    data = files.read(path, 256 * 2**20, AssetBroken)
    tensors, at = [], 0
    layer = re.compile(rb"\x01(?:\x05con_4|\x07affine_|\x04fc_2\x01\x80\x02\x00\x01)\x01\x02")
    while found := layer.search(data, at):
        at, count = found.end(), 1
        for _ in range(4):
            size, at = _integer(data, at)
            count *= size
        if at + 4 * count > len(data):
            raise AssetBroken(f"{path} is cut short, within a layer of {count} numbers. Run `dvlatent assets` to repair it.")
        tensors.append(np.frombuffer(data, "<f4", count, at).astype(np.float32))
        at += 4 * count
    if not tensors or not all(np.isfinite(tensor).all() for tensor in tensors):
        raise AssetBroken(f"{path} holds no network that dlib saved, or damaged numbers. Run `dvlatent assets` to repair it.")
    return tensors


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at a byte, and where the next one begins."""
    length = data[at] & 15 if at < len(data) else 0
    return int.from_bytes(data[at + 1 : at + 1 + length], "little"), at + 1 + length


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two feature maps; the smaller one is padded with zeros (dlib's add_prev)."""
    shape = [max(sizes) for sizes in zip(a.shape, b.shape, strict=True)]
    a, b = (F.pad(x, [n for have, want in zip(x.shape[:0:-1], shape[:0:-1], strict=True) for n in (0, want - have)]) for x in (a, b))
    return a + b
