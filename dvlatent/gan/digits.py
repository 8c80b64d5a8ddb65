"""Handwritten digits: a small generator, its discriminator, and a classifier that measures both. Taught in notebooks 01 and 02.

All three see pictures of 28x28 in [-1, 1]. The generator satisfies `Generator`: what works on faces works on digits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dvlatent.errors import ShapeError
from dvlatent.types import Image, W, Ws, Z

Labels = Int[Tensor, " batch"]  # 0 to 9
Gray = Float[Tensor, "batch 1 28 28"]
CLASSES = 10


class DigitGenerator(nn.Module):
    """64 random numbers to a digit: 7x7, 14x14, then 28x28 pixels; most arithmetic happens where pictures are small.

    Without `classes`, W is Z: `mapping` returns z. With 10, the first ten numbers of w say which digit, the others in which hand:
    the largest of the first ten numbers of z decides (a label as part of the input: Mirza and Osindero 2014).
    """

    num_layers, resolution = 1, 28

    def __init__(self, width: int = 48, z_dim: int = 64, classes: int = CLASSES) -> None:
        super().__init__()
        self.z_dim = self.w_dim = z_dim
        self.width, self.classes = width, classes
        mean = torch.zeros(z_dim)
        mean[:classes] = classes**-0.5 if classes else 0.0
        self.register_buffer("w_mean", mean)
        self.first = nn.Linear(z_dim, width * 49)
        self.middle = nn.Conv2d(width, 2 * width, 3, padding=1)  # 7x7; its channels become pixels of 14x14
        self.fine = nn.Conv2d(width // 2, width, 3, padding=1)  # 14x14
        self.last = nn.Conv2d(width, 4, 3, padding=1)  # 14x14; its four channels become the pixels of 28x28
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def forward(self, z: Z, labels: Labels | None = None) -> Gray:
        """A random vector to a gray digit: [batch, z] -> [batch, 1, 28, 28]; with `labels` [batch], these digits."""
        return self.draw(self.mapping(z, labels))

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Random vector to coordinates: [batch, z] -> [batch, z]. The first ten become a one-hot code of the digit, at the scale of z.

        Raises ShapeError for labels if the generator has no classes.
        """
        if not self.classes:
            if labels is not None:
                raise ShapeError("this generator was made with classes=0 and takes no labels: leave them out.")
            return z
        votes = z[:, : self.classes]
        which = F.one_hot(votes.argmax(1) if labels is None else labels, self.classes).to(z)
        return torch.cat([which * self.classes**0.5, z[:, self.classes :]], dim=1)

    def draw(self, w: W) -> Gray:
        """Coordinates to a gray digit: [batch, z] -> [batch, 1, 28, 28] in [-1, 1]."""
        x = _normalized(self.first(w.to(self.first.weight.dtype)).view(-1, self.width, 7, 7))
        x = F.leaky_relu(F.pixel_shuffle(self.middle(x), 2), 0.2)  # [batch, width / 2, 14, 14]
        x = F.leaky_relu(self.fine(x), 0.2)  # [batch, width, 14, 14]
        return torch.tanh(F.pixel_shuffle(self.last(x), 2)).to(w.dtype)

    def synthesis(self, ws: Ws) -> Image:
        """Coordinates to a picture: [batch, 1, z] -> [batch, 3, 28, 28], three equal channels, as every `Generator` draws."""
        if ws.ndim != 3 or tuple(ws.shape[1:]) != (1, self.w_dim):
            raise ShapeError(
                f"ws must be [batch, 1, {self.w_dim}]; this has {list(ws.shape)}. "
                f"From w of [batch, {self.w_dim}] make it with broadcast(w, 1)."
            )
        return self.draw(ws[:, 0]).expand(-1, 3, -1, -1)


class DigitDiscriminator(nn.Module):
    """A digit to one number: how real it looks. With `classes`, how real it looks as that digit (Miyato and Koyama 2018).

    The last layers also see how much the pictures of a small group differ, so that they notice a generator which always draws
    the same (Karras et al. 2018, section 3).
    """

    def __init__(self, width: int = 32, classes: int = CLASSES, group: int = 4) -> None:
        super().__init__()
        self.group = group  # pictures compared with each other; 1 compares none
        self.first = nn.Conv2d(4, width, 3, padding=1)  # 14x14, from four neighbouring pixels
        self.middle = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)  # 7x7
        self.coarse = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)  # 4x4
        self.features = nn.Linear(4 * width * 16 + 1, 4 * width)
        self.last = nn.Linear(4 * width, 1)
        self.embedding = nn.Embedding(classes, 4 * width) if classes else None
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Gray, labels: Labels | None = None) -> Float[Tensor, " batch"]:
        """The score: [batch, 1, 28, 28] -> [batch], large for real. Raises ShapeError for labels without classes, or the reverse."""
        if (labels is None) != (self.embedding is None):
            what = "a discriminator made with classes=10 needs labels, one made with classes=0 takes none"
            raise ShapeError(f"{what}. Give both networks the same.")
        x = F.leaky_relu(self.first(F.pixel_unshuffle(image, 2)), 0.2)
        x = F.leaky_relu(self.middle(x), 0.2)  # [batch, 2 width, 7, 7]
        x = F.leaky_relu(self.coarse(x), 0.2).flatten(1)  # [batch, 4 width * 4 * 4]
        x = F.leaky_relu(self.features(torch.cat([x, minibatch_std(x, self.group)], dim=1)), 0.2)  # [batch, 4 width]
        score = self.last(x)[:, 0]
        return score if self.embedding is None else score + (x * self.embedding(labels)).sum(1) / x.shape[1] ** 0.5


class DigitClassifier(nn.Module):
    """Names the digit in a picture. Lessons 01 and 02 measure with it; satisfies `Predictor`."""

    names = tuple(str(digit) for digit in range(CLASSES))
    feature_dim = 128

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("temperature", torch.ones(()))  # what makes its confidence honest (Guo et al. 2017)
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]  # 14x14, from four neighbouring pixels
        for before, after, stride in [(4, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)]:  # 14, 7, 7
            layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.describe = nn.Linear(2 * width * 49, self.feature_dim)
        self.last = nn.Linear(self.feature_dim, CLASSES)

    def features(self, image: Image) -> Float[Tensor, "batch 128"]:
        """Its last features: [batch, 1 or 3, 28, 28] -> [batch, 128]; the Fréchet distance between sets of digits compares them.

        Raises ShapeError for other shapes.
        """
        if image.ndim != 4 or image.shape[1] not in (1, 3) or tuple(image.shape[2:]) != (28, 28):
            raise ShapeError(f"digits are [batch, 1 or 3, 28, 28] in [-1, 1]; this has {list(image.shape)}. images.resize(x, 28) helps.")
        gray = image.mean(1, keepdim=True).to(self.describe.weight.dtype)
        return F.relu(self.describe(self.body(gray).flatten(1)))

    def forward(self, image: Image) -> Float[Tensor, "batch 10"]:
        """Logits, already divided by the temperature."""
        return self.last(F.dropout(self.features(image), 0.3, self.training)) / self.temperature

    def __call__(self, image: Image) -> Float[Tensor, "batch 10"]:
        """Probabilities of 0 to 9, rows that sum to one; while it is trained, logits."""
        scores = super().__call__(image)
        return scores if self.training else scores.softmax(1)


def _normalized(x: Tensor) -> Tensor:
    """Leaky ReLU, then every pixel's channels to length one on average, so that numbers cannot race (Karras et al. 2018, section 4.2)."""
    x = F.leaky_relu(x, 0.2)
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_std(x: Float[Tensor, "batch feature"], group: int) -> Float[Tensor, "batch 1"]:
    """How much neighbours in the batch differ, as one more feature: [batch, feature] -> [batch, 1]."""
    if group < 2 or len(x) % group:
        return x.new_zeros(len(x), 1)
    groups = x.view(-1, group, x.shape[1])  # [batch / group, group, feature]
    std = ((groups - groups.mean(1, keepdim=True)).square().mean(1) + 1e-8).sqrt().mean(1)  # [batch / group]
    return std.repeat_interleave(group)[:, None]
