"""Projected discriminators: small heads on the frozen layers of a network that knows pictures. Taught in notebook 07.

A discriminator that starts from pixels must first learn to see, and a few hundred pairs are too few for that. Sauer et al. 2021
(Projected GANs, section 3) use a network trained on ImageNet for it, and train only small heads on several of its stages: fine stages judge
lines and pores, coarse ones shapes. The heads are shown the picture before, its difference to the picture after, and the strength.
Their weights are normalized spectrally (Miyato et al. 2018), so that their gradients stay bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SCALE = 0.2  # the network's features have a standard deviation of about 7
Features = Sequence[Tensor]  # one [batch, channel, height, width] a stage, fine to coarse


class ProjectedDiscriminator(nn.Module):
    """One head for each stage: verdicts on every patch, [batch, 1, rows, columns] a stage.

    `channels` are the stages' channels, fine to coarse; `downs` how often each head halves what it sees, so that all judge patches
    of about the same size. The features come from outside: whoever has a perceptual loss has them already.
    """

    def __init__(self, channels: Sequence[int] = (16, 24, 40, 80), downs: Sequence[int] = (2, 2, 1, 1), width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(2 * count + 1, width, halvings) for count, halvings in zip(channels, downs, strict=True))

    def forward(self, before: Features, picture: Features, strength: Float[Tensor, " batch"]) -> list[Tensor]:
        """Verdicts on pictures that claim to be `before` after an edit of this strength."""
        verdicts = []
        for head, question, answer in zip(self.heads, before, picture, strict=False):
            dial = strength.view(-1, 1, 1, 1).to(answer).expand(-1, 1, *answer.shape[2:])
            # the difference: what two answers to one question have in common would drown what differs
            verdicts.append(head(torch.cat([SCALE * question, SCALE * (answer - question), dial], dim=1)))
        return verdicts


def _head(channels: int, width: int, downs: int) -> nn.Sequential:
    layers: list[nn.Module] = [spectral_norm(nn.Conv2d(channels, width, 1)), nn.LeakyReLU(0.2)]
    for _ in range(downs):
        layers += [spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(width, width, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, 3, padding=1)))


def hinge_discriminator(real: Sequence[Tensor], made: Sequence[Tensor]) -> Float[Tensor, ""]:
    """What the discriminator minimizes: real verdicts above 1, made ones below -1 (Lim and Ye 2017), averaged over the stages."""
    each = [F.relu(1 - a.float()).mean() + F.relu(1 + b.float()).mean() for a, b in zip(real, made, strict=True)]
    return torch.stack(each).mean()


def hinge_generator(made: Sequence[Tensor]) -> Float[Tensor, ""]:
    """What the generator minimizes: minus the mean verdict, averaged over the stages."""
    return -torch.stack([one.float().mean() for one in made]).mean()
