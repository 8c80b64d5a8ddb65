"""Picture to picture: pix2pixHD as published (Wang et al. 2018), and the student, a filter for a phone. Taught in notebook 07."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image

Features = list[list[Tensor]]  # of a discriminator: for each scale the outputs of its layers; the last says how real each patch is
Network = TypeVar("Network", bound=nn.Module)
PATCH = 4  # the student's outermost layers take squares of this many pixels as one
RELU_GAIN = 1.7139  # sqrt(2 / (1 - 1/pi)): keeps the standard deviation of a ReLU's output at one (Brock et al. 2021, section 3)


class GlobalGenerator(nn.Sequential):
    """[batch, in, height, width] -> [batch, out, height, width] in [-1, 1] (Wang et al. 2018, section 3.2, G1).

    It halves the sides `downs` times, has `blocks` residual blocks, and doubles the sides again; instance norm follows each layer. The
    default sizes have 182,443,267 weights. Sides must be multiples of 2**downs.
    """

    def __init__(self, channels_in: int = 3, channels_out: int = 3, width: int = 64, downs: int = 4, blocks: int = 9) -> None:
        widths = [width * 2**level for level in range(downs + 1)]
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, width, 7), *_norm_relu(width)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), *_norm_relu(after)]
        layers += [Block(widths[-1]) for _ in range(blocks)]
        for before, after in pairwise(widths[::-1]):
            layers += [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1), *_norm_relu(after)]
        super().__init__(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels_out, 7), nn.Tanh())


class Block(nn.Module):
    """Two convolutions whose result is added to the input (He et al. 2016), with instance norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), *_norm_relu(width)]
        self.layers = nn.Sequential(*first, nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, rows, columns] -> the same."""
        return x + self.layers(x)


class PatchDiscriminator(nn.ModuleList):
    """Says for each patch, 70 pixels wide, whether it is real (Isola et al. 2017, section 3.2.2)."""

    def __init__(self, channels: int = 6, width: int = 64, layers: int = 3, padding: int = 2) -> None:
        widths = [min(width * 2**level, 8 * width) for level in range(layers + 1)]
        steps = [nn.Sequential(nn.Conv2d(channels, width, 4, stride=2, padding=padding), nn.LeakyReLU(0.2))]
        for level, (before, after) in enumerate(pairwise(widths)):
            conv = nn.Conv2d(before, after, 4, stride=2 if level < layers - 1 else 1, padding=padding)
            steps.append(nn.Sequential(conv, nn.InstanceNorm2d(after), nn.LeakyReLU(0.2)))
        super().__init__([*steps, nn.Sequential(nn.Conv2d(widths[-1], 1, 4, padding=padding))])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """[batch, channels, height, width] -> the output of each layer; the last one is [batch, 1, rows, columns]."""
        outputs = [pictures]
        for layer in self:
            outputs.append(layer(outputs[-1]))
        return outputs[1:]


class MultiscaleDiscriminator(nn.ModuleList):
    """Equal discriminators at several scales; each halves the picture (Wang et al. 2018, section 3.2). Default: 5,535,618 weights.

    They see question and answer together: `discriminator(torch.cat([before, after], dim=1))`. The first one sees the full size.
    """

    def __init__(self, channels: int = 6, width: int = 64, layers: int = 3, scales: int = 2) -> None:
        super().__init__([PatchDiscriminator(channels, width, layers) for _ in range(scales)])

    def forward(self, pictures: Tensor) -> Features:
        """[batch, channels, height, width] -> the outputs of each scale, layer by layer."""
        features = []
        for scale, discriminator in enumerate(self):
            pictures = F.avg_pool2d(pictures, 3, stride=2, padding=1, count_include_pad=False) if scale else pictures
            features.append(discriminator(pictures))
        return features


class Student(nn.Module):
    """The filter: photo and strength in, edited photo out. pix2pixHD's shape at a quarter of its width, with five changes.

    1. Strength is an input: one network is a whole dial. It scales and shifts the channels in every block (Perez et al. 2018, equation 1).
    2. The output is the photo plus strength / `reach` times a learned change: strength 0 gives the photo back, bit for bit.
    3. No layer measures its own activations. Weights are standardized instead (Brock et al. 2021, equation 1), which is free at run time;
       with instance norm, as in the paper, networks carry strength in bright blobs (Karras et al. 2020, section 2).
    4. Features of the way down are added on the way up, so that fine detail need not pass the narrow blocks between.
    5. The outermost layers take 4x4 pixels as one with 48 channels (Shi et al. 2016, section 3.2): nothing is lost, most time is saved.

    About 2.4 million weights. Sides may have any length: they are padded to multiples of 2**downs inside. The output is clamped to
    [-1, 1] in eval mode, but not in training, since a clamped pixel has no gradient. Taught in notebook 07.
    """

    def __init__(self, width: int = 16, downs: int = 4, blocks: int = 6, reach: float = 2.0, dial: int = 32) -> None:
        super().__init__()
        self.sizes = {"width": width, "downs": downs, "blocks": blocks, "reach": reach, "dial": dial}  # to make another one
        self.downs, self.reach = downs, reach
        widths = [min(4 * width * 2**level, 8 * width) for level in range(downs - 1)]
        self.stem = StandardizedConv(3 * PATCH**2, widths[0], 3)
        self.down = nn.ModuleList([StandardizedConv(before, after, 3, stride=2) for before, after in pairwise(widths)])
        self.dial = nn.Sequential(nn.Linear(1, dial), nn.ReLU(), nn.Linear(dial, dial), nn.ReLU())
        self.blocks = nn.ModuleList([DialBlock(widths[-1], dial) for _ in range(blocks)])
        up = [StandardizedConv(before, after, 4, stride=2, transposed=True) for before, after in pairwise(widths[::-1])]
        self.up, self.out = nn.ModuleList(up), StandardizedConv(widths[0], 3 * PATCH**2, 3, gain=0.1)

    def forward(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """[batch, 3, height, width] in [-1, 1] and one strength for each, in steps (-reach to reach) -> the edited pictures."""
        strength = strength.to(image).reshape(-1, 1, 1, 1)
        edited = image + strength / self.reach * self.change(image, strength)
        return edited if self.training else edited.clamp(-1, 1)

    def change(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """What is added at full strength, of the picture's size: for a large photo, make it small, enlarge the change and add it."""
        _check(image, strength)
        height, width = image.shape[2:]
        extra = [-side % 2**self.downs for side in (height, width)]
        x = F.pad(image, (0, extra[1], 0, extra[0]), mode="replicate") if any(extra) else image
        x = F.relu(self.stem(F.pixel_unshuffle(x, PATCH)))  # [batch, 64, height / 4, width / 4]
        skips = []
        for down in self.down:
            skips.append(x)
            x = F.relu(down(x))
        dial = self.dial(strength.to(x).reshape(-1, 1) / self.reach)  # [batch, dial]
        for block in self.blocks:
            x = block(x, dial)
        for up in self.up:
            x = F.relu(up(x) + skips.pop())
        x = F.pixel_shuffle(self.out(x), PATCH)  # [batch, 3, height, width]
        return x[..., :height, :width] if any(extra) else x

    @torch.no_grad()
    def amplify(self, factor: float) -> None:
        """Multiply, in place, whatever is added to a photo."""
        self.out.gain.mul_(factor)
        self.out.bias.mul_(factor)

    def folded(self) -> Student:
        """A frozen copy for running and export: the same outputs from ordinary convolutions, with weights standardized once."""
        return fold(self)


class LocalEnhancer(nn.Module):
    """Fine lines for a picture of twice the student's size, added to the student's change (Wang et al. 2018, section 3.2, G2).

    It works at half the sides of the large picture, four pixels as one: it sees the picture, the student's change and the strength. So it
    need not know what age is, only what the change looks like from nearer. About 80 thousand weights. Taught in notebook 07.
    """

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.sizes = {"width": width, "blocks": blocks}  # to make another one
        self.register_buffer("gain", torch.ones(()))  # times what is added
        self.register_buffer("own", torch.ones(2))  # times what it adds itself, toward minus and toward plus
        self.stem = StandardizedConv(3 * 2**2 + 3 + 1, width, 3)
        pair = lambda: nn.ModuleList([StandardizedConv(width, width, 3), StandardizedConv(width, width, 3, gain=0.0)])  # noqa: E731
        self.blocks = nn.ModuleList(pair() for _ in range(blocks))
        self.out = StandardizedConv(width, 3 * 2**2, 3, gain=0.1)

    def forward(self, image: Image, change: Image, dial: Float[Tensor, "batch 1 1 1"]) -> Image:
        """Large pictures, what the student adds to them at half their sides, and strength / reach -> the edited large pictures."""
        x = torch.cat([F.pixel_unshuffle(image, 2), change, dial.expand(-1, 1, *change.shape[2:])], dim=1)
        x = F.relu(self.stem(x))
        for first, second in self.blocks:
            x = x + second(F.relu(first(x)))
        smooth = F.interpolate(change, scale_factor=2, mode="bilinear", align_corners=False)
        own = torch.where(dial < 0, self.own[0], self.own[1])
        edited = image + self.gain * dial * (smooth + own * F.pixel_shuffle(self.out(x), 2))
        return edited if self.training else edited.clamp(-1, 1)


class Enhanced(nn.Module):
    """A student and its local enhancer as one network, at twice the sides that the student sees: photo and strength in, edited one out."""

    def __init__(self, student: Student, enhancer: LocalEnhancer) -> None:
        super().__init__()
        self.student, self.enhancer = student, enhancer

    def forward(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """As a student's; sides must be even."""
        strength = strength.to(image).reshape(-1, 1, 1, 1)
        return self.enhancer(image, self.student.change(F.avg_pool2d(image, 2), strength), strength / self.student.reach)

    def folded(self) -> Enhanced:
        """A frozen copy, as `Student.folded`."""
        return fold(self)


class DialBlock(nn.Module):
    """A residual block without a norm; the dial scales and shifts its inner channels. It starts as the identity."""

    def __init__(self, width: int, dial: int) -> None:
        super().__init__()
        self.first, self.second = StandardizedConv(width, width, 3), StandardizedConv(width, width, 3, gain=0.0)
        self.turn = nn.Linear(dial, 2 * width)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)

    def forward(self, x: Tensor, dial: Tensor) -> Tensor:
        """[batch, width, rows, columns] and [batch, dial] -> [batch, width, rows, columns]."""
        scale, shift = self.turn(dial)[:, :, None, None].chunk(2, dim=1)
        return x + self.second(F.relu(self.first(x) * (1 + scale) + shift))


class StandardizedConv(nn.Module):
    """A convolution whose weights always have mean 0 and standard deviation gain / sqrt(inputs) (Brock et al. 2021, equation 1).

    `transposed` doubles the sides; its 4x4 kernel covers each pixel equally often, so it draws no checkerboard.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, transposed: bool = False, gain: float = RELU_GAIN) -> None:
        super().__init__()
        self.stride, self.transposed = stride, transposed
        self.padding = 1 if transposed else kernel // 2
        self.inputs = before * kernel**2 // (stride**2 if transposed else 1)  # numbers that one output is a sum of
        shape = (before, after, kernel, kernel) if transposed else (after, before, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(shape) * self.inputs**-0.5)  # the size only decides how fast an update turns it
        self.gain = nn.Parameter(torch.full((after,), gain))
        self.bias = nn.Parameter(torch.zeros(after))

    def standardized(self) -> Tensor:
        """The weights in use: those of each output have mean 0 and variance gain**2 / inputs."""
        others = (0, 2, 3) if self.transposed else (1, 2, 3)
        mean = self.weight.mean(dim=others, keepdim=True)
        variance = (self.weight - mean).square().mean(dim=others, keepdim=True)
        gain = self.gain.view((1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1))
        return (self.weight - mean) * (gain * torch.rsqrt(variance * self.inputs + 1e-6))

    def folded(self) -> nn.Module:
        """An ordinary layer with these weights."""
        make = nn.ConvTranspose2d if self.transposed else nn.Conv2d
        (before, after), kernel = self.weight.shape[:2] if self.transposed else self.weight.shape[1::-1], self.weight.shape[-1]
        conv = make(before, after, kernel, self.stride, self.padding).requires_grad_(False)
        conv.weight.copy_(self.standardized())
        conv.bias.copy_(self.bias)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        """[batch, before, height, width] -> [batch, after, ...]: the sides divided by the stride, or multiplied by it if transposed."""
        conv = F.conv_transpose2d if self.transposed else F.conv2d
        return conv(x, self.standardized(), self.bias, stride=self.stride, padding=self.padding)


def fold(network: Network) -> Network:
    """A frozen copy in which each standardized convolution is an ordinary one."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    for owner in list(copied.modules()):
        for name, layer in owner.named_children():
            if isinstance(layer, StandardizedConv):
                owner.add_module(name, layer.folded())
    return copied


def _norm_relu(width: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(width), nn.ReLU()]


def _check(image: Tensor, strength: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ShapeError(
            f"a filter takes pictures, [batch, 3, height, width], floats in [-1, 1]; this is {image.dtype} of shape {list(image.shape)}. "
            "Use images.read for a file, images.from_uint8 for bytes, image[None] for one picture without its batch."
        )
    if strength.numel() not in (1, len(image)):
        raise ShapeError(f"one strength for each of {len(image)} pictures was needed, these are {strength.numel()}: give [{len(image)}].")
