"""Picture to picture: pix2pixHD as published (Wang et al. 2018), and the student, our filter for a phone. Taught in notebook 07."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image

Seen = list[list[Tensor]]  # what each critic saw: its layers' answers, the last one its verdict on every patch
PATCH = 4  # pixels along a side that the student's outermost layers see as one
RELU_GAIN = 1.7139  # sqrt(2 / (1 - 1/pi)): keeps the spread of a ReLU's output at one (Brock et al. 2021, section 3)


class GlobalGenerator(nn.Sequential):
    """[batch, in, height, width] -> [batch, out, height, width] in [-1, 1] (Wang et al. 2018, section 3.2, G1).

    Down `downs` times, `blocks` residual blocks, up again; instance norm after each layer. 182,443,267 weights unless told.
    Sides must be multiples of 2**downs.
    """

    def __init__(self, channels_in: int = 3, channels_out: int = 3, width: int = 64, downs: int = 4, blocks: int = 9) -> None:
        widths = [width * 2**level for level in range(downs + 1)]
        layers = [*_seven(channels_in, width), *_normed(width)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), *_normed(after)]
        layers += [Block(widths[-1]) for _ in range(blocks)]
        for before, after in pairwise(widths[::-1]):
            layers += [nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1), *_normed(after)]
        super().__init__(*layers, *_seven(width, channels_out), nn.Tanh())


class LocalEnhancer(nn.Module):
    """Twice the sides of a GlobalGenerator: it works at half size, a shallow one around it adds detail (section 3.2, G2).

    `width` is this one's, the inner generator has twice as much. Sides must be multiples of 2**(downs + 1).
    """

    def __init__(
        self, channels_in: int = 3, channels_out: int = 3, width: int = 32, downs: int = 4, blocks: int = 9, local_blocks: int = 3
    ) -> None:
        super().__init__()
        inner = GlobalGenerator(channels_in, channels_out, 2 * width, downs, blocks)
        self.inner = nn.Sequential(*list(inner)[:-3])  # without its last layer: features are added, not pictures
        self.down = nn.Sequential(
            *_seven(channels_in, width), *_normed(width), nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *_normed(2 * width)
        )
        up = [nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1), *_normed(width)]
        self.up = nn.Sequential(*[Block(2 * width) for _ in range(local_blocks)], *up, *_seven(width, channels_out), nn.Tanh())

    def forward(self, image: Tensor) -> Tensor:
        """[batch, in, height, width] -> [batch, out, height, width]."""
        return self.up(self.down(image) + self.inner(_half(image)))


class Block(nn.Module):
    """Two convolutions whose result is added to the input (He et al. 2016), with instance norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), *_normed(width)]
        self.layers = nn.Sequential(*first, nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, height, width_px] -> the same."""
        return x + self.layers(x)


class PatchDiscriminator(nn.ModuleList):
    """Says of every patch, 70 pixels wide, whether it is real (Isola et al. 2017, section 3.2.2): a list of its layers' answers."""

    def __init__(self, channels: int = 6, width: int = 64, layers: int = 3, padding: int = 2) -> None:
        widths = [min(width * 2**level, 8 * width) for level in range(layers + 1)]
        steps = [nn.Sequential(nn.Conv2d(channels, width, 4, stride=2, padding=padding), nn.LeakyReLU(0.2))]
        for level, (before, after) in enumerate(pairwise(widths)):
            conv = nn.Conv2d(before, after, 4, stride=2 if level < layers - 1 else 1, padding=padding)
            steps.append(nn.Sequential(conv, nn.InstanceNorm2d(after), nn.LeakyReLU(0.2)))
        super().__init__([*steps, nn.Sequential(nn.Conv2d(widths[-1], 1, 4, padding=padding))])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """[batch, channels, height, width] -> each layer's answer; the last is [batch, 1, rows, columns]."""
        seen = [pictures]
        for layer in self:
            seen.append(layer(seen[-1]))
        return seen[1:]


class MultiscaleDiscriminator(nn.ModuleList):
    """The same critic at several scales, each halving the picture (Wang et al. 2018, section 3.2). 5,535,618 weights unless told.

    They look at the question and the answer together: `critics(torch.cat([before, after], dim=1))`. The first sees the full size.
    """

    def __init__(self, channels: int = 6, width: int = 64, layers: int = 3, scales: int = 2) -> None:
        super().__init__([PatchDiscriminator(channels, width, layers) for _ in range(scales)])

    def forward(self, pictures: Tensor) -> Seen:
        """[batch, channels, height, width] -> what each critic saw, layer by layer."""
        seen = []
        for scale, discriminator in enumerate(self):
            pictures = pictures if scale == 0 else _half(pictures)
            seen.append(discriminator(pictures))
        return seen


class Student(nn.Module):
    """The filter: photo and strength in, edited photo out. pix2pixHD's shape at a quarter of its width, with five changes.

    1. Strength is an input: one network is a whole dial. It scales and shifts the channels in every block (Perez et al. 2018, equation 1).
    2. The output is the photo plus strength / `reach` times a learnt change: strength 0 gives the photo back, bit for bit.
    3. No layer measures its own activations. Weights are standardised instead (Brock et al. 2021, equation 1), which costs nothing at
       run time; instance norm, which the paper uses, lets networks smuggle strength through bright blobs (Karras et al. 2020, section 2).
    4. Features of the way down are added on the way up, so that what is fine need not pass the narrow middle.
    5. The outermost layers see 4x4 pixels as one with 48 channels (Shi et al. 2016, section 3.2): nothing is lost, most time is saved.

    About 2.4 million weights. Sides may have any length: they are padded to multiples of 2**downs inside. In eval mode the
    output is clamped to [-1, 1]; in training it is not, since a clamped pixel has no gradient. Taught in notebook 07.
    """

    def __init__(self, width: int = 16, downs: int = 4, blocks: int = 6, reach: float = 2.0, dial: int = 32) -> None:
        super().__init__()
        self.sizes = {"width": width, "downs": downs, "blocks": blocks, "reach": reach, "dial": dial}  # to make another one
        self.downs, self.reach = downs, reach
        widths = [min(4 * width * 2**level, 8 * width) for level in range(downs - 1)]
        self.stem = PlainConv(3 * PATCH**2, widths[0], 3)
        self.down = nn.ModuleList([PlainConv(before, after, 3, stride=2) for before, after in pairwise(widths)])
        self.dial = nn.Sequential(nn.Linear(1, dial), nn.ReLU(), nn.Linear(dial, dial), nn.ReLU())
        self.middle = nn.ModuleList([DialBlock(widths[-1], dial) for _ in range(blocks)])
        self.up = nn.ModuleList([PlainConv(before, after, 4, stride=2, turned=True) for before, after in pairwise(widths[::-1])])
        self.out = PlainConv(widths[0], 3 * PATCH**2, 3, gain=0.1)

    def forward(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """[batch, 3, height, width] in [-1, 1] and one strength for each, in steps (-reach to reach) -> the edited pictures."""
        strength = strength.to(image).reshape(-1, 1, 1, 1)
        edited = image + strength / self.reach * self.change(image, strength)
        return edited if self.training else edited.clamp(-1, 1)

    def change(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """What would be added at full strength, of the picture's size: for large photos, make it small, enlarge and add it."""
        _refuse(image, strength)
        height, width = image.shape[2:]
        extra = [-side % 2**self.downs for side in (height, width)]
        x = F.pad(image, (0, extra[1], 0, extra[0]), mode="replicate") if any(extra) else image
        x = F.relu(self.stem(F.pixel_unshuffle(x, PATCH)))  # [batch, 64, height / 4, width / 4]
        ways = []
        for down in self.down:
            ways.append(x)
            x = F.relu(down(x))
        dial = self.dial(strength.to(x).reshape(-1, 1) / self.reach)  # [batch, dial]
        for block in self.middle:
            x = block(x, dial)
        for up in self.up:
            x = F.relu(up(x) + ways.pop())
        x = F.pixel_shuffle(self.out(x), PATCH)  # [batch, 3, height, width]
        return x[..., :height, :width] if any(extra) else x

    @torch.no_grad()
    def amplify(self, factor: float) -> None:
        """Multiply, in place, whatever is added to a photo."""
        self.out.gain.mul_(factor)
        self.out.bias.mul_(factor)

    def folded(self) -> Student:
        """A frozen copy for running and export: the same answers from ordinary convolutions, with weights standardised once."""
        copied = copy.deepcopy(self).eval().requires_grad_(False)
        for owner in list(copied.modules()):
            for name, layer in owner.named_children():
                if isinstance(layer, PlainConv):
                    owner.add_module(name, layer.folded())
        return copied


class DialBlock(nn.Module):
    """A residual block without a norm, whose inner channels the dial scales and shifts. It starts as the identity."""

    def __init__(self, width: int, dial: int) -> None:
        super().__init__()
        self.first, self.second = PlainConv(width, width, 3), PlainConv(width, width, 3, gain=0.0)
        self.turn = nn.Linear(dial, 2 * width)
        nn.init.zeros_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)

    def forward(self, x: Tensor, dial: Tensor) -> Tensor:
        """[batch, width, rows, columns] and [batch, dial] -> [batch, width, rows, columns]."""
        scale, shift = self.turn(dial)[:, :, None, None].chunk(2, dim=1)
        return x + self.second(F.relu(self.first(x) * (1 + scale) + shift))


class PlainConv(nn.Module):
    """A convolution whose weights have mean 0 and spread gain / sqrt(inputs), whatever training does (Brock et al. 2021, equation 1).

    `turned` is a transposed one, twice the sides out; its 4x4 kernel covers every pixel equally often, so no chequers appear.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, turned: bool = False, gain: float = RELU_GAIN) -> None:
        super().__init__()
        self.stride, self.turned = stride, turned
        self.padding = 1 if turned else kernel // 2
        self.inputs = before * kernel**2 // (stride**2 if turned else 1)  # numbers that one output is a sum of
        shape = (before, after, kernel, kernel) if turned else (after, before, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(shape) * self.inputs**-0.5)  # the size does not matter, but how fast a step turns it
        self.gain = nn.Parameter(torch.full((after,), gain))
        self.bias = nn.Parameter(torch.zeros(after))

    def standardised(self) -> Tensor:
        """The weights that are used: each output's have mean 0 and variance gain**2 / inputs."""
        others = (0, 2, 3) if self.turned else (1, 2, 3)
        middle = self.weight.mean(dim=others, keepdim=True)
        std = (self.weight - middle).square().mean(dim=others, keepdim=True)
        gain = self.gain.view((1, -1, 1, 1) if self.turned else (-1, 1, 1, 1))
        return (self.weight - middle) * (gain * torch.rsqrt(std * self.inputs + 1e-6))

    def folded(self) -> nn.Module:
        """An ordinary layer with these weights."""
        make = nn.ConvTranspose2d if self.turned else nn.Conv2d
        (before, after), kernel = self.weight.shape[:2] if self.turned else self.weight.shape[1::-1], self.weight.shape[-1]
        conv = make(before, after, kernel, self.stride, self.padding).requires_grad_(False)
        conv.weight.copy_(self.standardised())
        conv.bias.copy_(self.bias)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        """[batch, before, height, width] -> [batch, after, ...]: the sides divided by the stride, or twice as long."""
        conv = F.conv_transpose2d if self.turned else F.conv2d
        return conv(x, self.standardised(), self.bias, stride=self.stride, padding=self.padding)


def _seven(before: int, after: int) -> list[nn.Module]:
    """7x7 at full size, the edges mirrored."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(before, after, 7)]


def _normed(width: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(width), nn.ReLU()]


def _half(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 3, stride=2, padding=1, count_include_pad=False)


def _refuse(image: Tensor, strength: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ShapeError(
            f"a filter takes pictures, [batch, 3, height, width], floats in [-1, 1]; this is {image.dtype} of shape {list(image.shape)}. "
            "Use images.read for a file, images.from_uint8 for bytes, image[None] for one picture without its batch."
        )
    if strength.numel() not in (1, len(image)):
        raise ShapeError(f"one strength for each of {len(image)} pictures was needed, these are {strength.numel()}: give [{len(image)}].")
