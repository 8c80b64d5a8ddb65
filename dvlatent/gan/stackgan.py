"""StackGAN (Zhang et al. 2017, arXiv:1612.03242), small: a caption becomes 16 pixels, then 64. Taught in notebook 10.

Conditioning augmentation makes a cloud of every caption. Stage I draws its small picture from z and the caption, stage II reads
both again and redraws it large. The discriminators see right pairs, generated pairs, and real pictures with a wrong caption
(`TrainConfig(mismatched=True)`).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.gan.digits import minibatch_std
from dvlatent.gan.progressive import Down, EqualizedConv, Up
from dvlatent.types import Image, Z

WORDS = ("", "young", "grown", "old", "woman", "man", "smiling", "serious", "looks", "left", "right", "ahead")  # "" fills up
LENGTH = 5  # words in the longest caption
Tokens = Int[Tensor, "batch word"]


def tokens(captions: list[str]) -> Tokens:
    """Captions as numbers of words: ["old man smiling looks left"] -> [batch, 5]. Raises ShapeError for words that nobody taught."""
    rows = [[word for word in caption.split() if word not in ("a", "an")] for caption in captions]
    for caption, row in zip(captions, rows, strict=True):
        if unknown := [word for word in row if word not in WORDS] or row[LENGTH:]:
            raise ShapeError(f"'{caption}' has '{unknown[0]}': say at most {LENGTH} of the words {', '.join(WORDS[1:])}.")
    return torch.tensor([[WORDS.index(word) for word in row + [""] * (LENGTH - len(row))] for row in rows])


def caption(age: float, male: float, smile: float, yaw: float) -> str:
    """A caption from scores, as `survey` has them: age in years, male from 0 to 1, smile, yaw in degrees (positive: to the right)."""
    words = ["young" if age < 25 else "grown" if age < 40 else "old", "man" if male > 0.5 else "woman"]
    words += ["smiling" if smile > SMILING else "serious", "looks", "left" if yaw < -TURNED else "right" if yaw > TURNED else "ahead"]
    return " ".join(words)


SMILING, TURNED = 0.46, 10.0  # thresholds of `caption`


class Caption(nn.Module):
    """Words to numbers: the mean of learned word embeddings, then, with `augment`, a cloud around it (section 3.2)."""

    def __init__(self, size: int = 32, *, augment: bool) -> None:
        super().__init__()
        self.size, self.augment = size, augment
        self.words = nn.EmbeddingBag(len(WORDS), size, padding_idx=0)
        self.cloud = nn.Linear(size, 2 * size) if augment else None
        self.kl = torch.zeros(())  # of the last captions: how far their clouds are from the standard normal one

    def forward(self, caption: Tokens) -> Float[Tensor, "batch size"]:
        """[batch, word] -> [batch, size]; while training, a draw from each caption's cloud, afterwards its center."""
        if self.cloud is None:
            return self.words(caption)
        mean, log_variance = self.cloud(self.words(caption)).float().chunk(2, dim=1)
        self.kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()  # equation 2
        return mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean


class StageOne(nn.Module):
    """64 random numbers and a caption to 16 pixels: the rough shape and the colors (section 3.3)."""

    resolution = 16

    def __init__(self, width: int = 96, z_dim: int = 64) -> None:
        super().__init__()
        self.width, self.z_dim = width, z_dim
        self.caption = Caption(augment=True)
        self.first = EqualizedConv(z_dim + self.caption.size, width * 16, 1)
        self.blocks = nn.ModuleList([Up(width, width), Up(width, width), Up(width, width // 2)])  # 4, 8, 16 pixels
        self.to_image = EqualizedConv(width // 2, 3, 1, gain=1.0)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Z, caption: Tokens) -> Image:
        """[batch, z_dim] and captions [batch, word] -> [batch, 3, 16, 16] in [-1, 1]."""
        x = self.first(torch.cat([z, self.caption(caption)], dim=1)[:, :, None, None])
        x = F.leaky_relu(x, 0.2).view(len(z), -1, 4, 4)
        for at, block in enumerate(self.blocks):
            x = block(x if at == 0 else F.interpolate(x, scale_factor=2))
        return torch.tanh(self.to_image(x).float())


class StageTwo(nn.Module):
    """The picture of stage I and the caption again, to 64 pixels: mistakes mended, details added (section 3.4). It draws no z of its own.

    Stage I stays as it is. This one says what to add to its picture, enlarged; the paper's draws it anew.
    """

    resolution = 64

    def __init__(self, stage_one: StageOne | None = None, width: int = 48) -> None:
        super().__init__()
        stage_one = stage_one or StageOne()
        self.width, self.z_dim, self.stage_one = width, stage_one.z_dim, stage_one.requires_grad_(False)
        stage_one.caption.kl = torch.zeros(())  # it is not trained any more, and can be copied
        self.caption = Caption(augment=True)
        self.read = EqualizedConv(3, width, 3)
        self.join = EqualizedConv(width + self.caption.size, width, 3)
        self.blocks = nn.ModuleList([Up(width, width), Up(width, width), Up(width, width // 2), Up(width // 2, width // 4)])
        self.to_image = EqualizedConv(width // 4, 3, 1, gain=1.0)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Z, caption: Tokens) -> Image:
        """[batch, z_dim] and captions [batch, word] -> [batch, 3, 64, 64] in [-1, 1]."""
        return self.redraw(self.stage_one.eval()(z, caption), caption)

    def redraw(self, small: Image, caption: Tokens) -> Image:
        """Small pictures and captions -> large ones: [batch, 3, 16, 16] -> [batch, 3, 64, 64]."""
        x = F.leaky_relu(self.read(small), 0.2)
        said = self.caption(caption)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        x = F.leaky_relu(self.join(torch.cat([x, said], dim=1)), 0.2)
        x = x + self.blocks[1](self.blocks[0](x))  # a residual block, at 16 pixels
        for block in self.blocks[2:]:  # 32 and 64 pixels
            x = block(F.interpolate(x, scale_factor=2))
        large = F.interpolate(small, scale_factor=4, mode="bilinear")
        return torch.tanh(torch.atanh(0.99 * large.float()) + self.to_image(x).float())


class StackDiscriminator(nn.Module):
    """A picture and a caption to one number: large if the picture is real and the caption is its own (section 3.3)."""

    def __init__(self, channels: tuple[int, ...] = (48, 96, 128), patch: int = 1) -> None:
        super().__init__()
        self.patch = patch  # side of the squares of pixels that are read as one
        self.caption = Caption(augment=False)
        self.from_image = EqualizedConv(3 * patch**2, channels[0], 1)
        self.blocks = nn.Sequential(*(Down(a, b) for a, b in pairwise(channels)))  # down to 4 pixels
        self.join = EqualizedConv(channels[-1] + self.caption.size + 1, channels[-1], 1)
        self.conv = EqualizedConv(channels[-1], channels[-1], 4, padding=0)
        self.last = EqualizedConv(channels[-1], 1, 1, gain=1.0)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Image, caption: Tokens) -> Float[Tensor, " batch"]:
        """The score: [batch, 3, side, side] and captions [batch, word] -> [batch]. The side is 4 * patch << blocks."""
        x = self.blocks(F.leaky_relu(self.from_image(F.pixel_unshuffle(image, self.patch)), 0.2))  # [batch, channel, 4, 4]
        beside = [self.caption(caption), minibatch_std(x.flatten(1), 4)]
        x = torch.cat([x, *(one.to(x)[:, :, None, None].expand(-1, -1, 4, 4) for one in beside)], dim=1)
        x = F.leaky_relu(self.join(x), 0.2)
        return self.last(F.leaky_relu(self.conv(x), 0.2)).flatten().float()
