"""LPIPS where a user has it: the learned perceptual distance of Zhang et al. 2018, as a `Distance` for `invert` and `tune`.

    distance = Lpips()  # after `pip install lpips`, which also needs torchvision and downloads its weights on first use

The package is no dependency of ours: our own distance (`dvlatent.load("perceptual")`) serves the same purpose.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from dvlatent import images
from dvlatent.errors import AssetMissing
from dvlatent.types import Image


class Lpips(nn.Module):
    """`distance(a, b)` of two image batches is [batch]; pictures larger than `size_px` are shrunk to it first.

    Raises AssetMissing where the package is not installed.
    """

    def __init__(self, net: str = "vgg", size_px: int = 256) -> None:
        super().__init__()
        try:
            import lpips
        except ImportError as reason:
            raise AssetMissing(
                f"the package lpips is not installed here ({reason}). Run `pip install lpips`, or use dvlatent.load('perceptual')."
            ) from reason
        self.size_px = size_px
        self.network = lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False)

    def features(self, image: Image) -> tuple[Image]:
        """What `forward` compares: the picture itself, shrunk. LPIPS gives no features away."""
        return (images.resize(image, self.size_px) if max(image.shape[2:]) > self.size_px else image,)

    def forward(self, a: Image | tuple[Image], b: Image | tuple[Image]) -> Float[Tensor, " batch"]:
        """The distance of each pair, differentiable."""
        sides = [side if isinstance(side, tuple) else self.features(side) for side in (a, b)]
        return self.network(sides[0][0], sides[1][0]).flatten()
