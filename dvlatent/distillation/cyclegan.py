"""CycleGAN as published (Zhu et al. 2017): two generators and two critics, for two kinds of pictures, unpaired. Taught in notebook 07."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent.distillation.pix2pixhd import GlobalGenerator, PatchDiscriminator
from dvlatent.types import Image

SPREAD = 0.02  # of the first weights (section 7.2)


class CycleGAN(nn.Module):
    """There and back between two kinds of pictures, A and B. Unless told, the paper's sizes: 28,286,016 weights.

    The generators are pix2pixHD's global one with two downs (11,378,179 weights each): pix2pixHD took it from here. For pictures of
    128 px the paper has 6 blocks, for 256 px 9. Sides must be multiples of 4.
    """

    def __init__(self, width: int = 64, blocks: int = 9, discriminator_width: int = 64, downs: int = 2) -> None:
        super().__init__()
        self.there, self.back = (GlobalGenerator(3, 3, width, downs, blocks) for _ in range(2))  # A to B, B to A
        self.discriminator_a, self.discriminator_b = (PatchDiscriminator(3, discriminator_width, padding=1) for _ in range(2))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, std=SPREAD)
                nn.init.zeros_(module.bias)

    def forward(self, a: Image, strength: Float[Tensor, " batch"] | None = None) -> Image:
        """A to B. It has no dial: a strength is taken, so that it can be measured as a filter is, and only its sign is heeded."""
        if strength is None:
            return self.there(a)
        made = [(self.there if amount > 0 else self.back)(one) if amount else one for one, amount in zip(a.split(1), strength, strict=True)]
        return torch.cat(made)

    def generators(self) -> list[nn.Parameter]:
        """The weights of both generators: they learn together."""
        return [*self.there.parameters(), *self.back.parameters()]

    def discriminator(self) -> list[nn.Parameter]:
        """The weights of both critics."""
        return [*self.discriminator_a.parameters(), *self.discriminator_b.parameters()]
