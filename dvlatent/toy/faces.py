"""ToyFaces: a generator whose truth is known. Tests and the first steps of lessons measure with it.

It draws a portrait with 21 factors, each an exact straight line in W. Where a method claims to have found "smile",
`toy.truth["smile"]` says how right it is; no real generator can. Nothing in it is trained.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dvlatent.directions import Direction
from dvlatent.errors import ShapeError
from dvlatent.latents import normal
from dvlatent.toy.portrait import portrait
from dvlatent.types import Image, W, Ws, Z, fingerprint

COARSE, MIDDLE, FINE = 0, 1, 2  # as on StyleGAN: shape, features, colors
FACTORS = {  # name: (the layer that carries it, its standard deviation in W)
    "pose": (COARSE, 1.4),
    "tilt": (COARSE, 0.8),
    "width": (COARSE, 0.9),
    "chin": (COARSE, 0.7),
    "hair length": (COARSE, 1.3),
    "hair volume": (COARSE, 0.8),
    "curl": (COARSE, 0.6),
    "parting": (COARSE, 0.8),
    "age": (MIDDLE, 1.5),
    "smile": (MIDDLE, 1.2),
    "glasses": (MIDDLE, 1.0),
    "eye size": (MIDDLE, 0.9),
    "nose": (MIDDLE, 0.7),
    "lips": (MIDDLE, 0.7),
    "brows": (MIDDLE, 0.8),
    "skin tone": (FINE, 1.2),
    "hair color": (FINE, 1.1),
    "eye color": (FINE, 0.6),
    "blush": (FINE, 0.6),
    "background": (FINE, 1.0),
    "clothes": (FINE, 0.9),
}
SPARE = 0.5  # standard deviation in W of the 11 axes that draw nothing
TWIST = 0.2  # how strongly the mapping curves Z; 0 would make it a plain rotation


class ToyFaces(nn.Module):
    """Drawn faces with known factors; satisfies `Generator`.

    The population, exactly: every factor is standard normal in its own steps, and every two are independent, except the
    two of `pair`, whose correlation is `correlation`. The dial turns the population only: W, the pictures and the true
    directions stay the same, so a direction found at one setting can be judged at another. The second of the pair follows
    the first: a mean difference along "age" leans toward "glasses" by `correlation` steps for every step of age.
    """

    z_dim = 32
    w_dim = 32
    num_layers = 3
    factor_names = tuple(FACTORS)

    def __init__(
        self,
        resolution: int = 128,  # pixels; the same face at any size
        correlation: float = 0.0,  # of the two factors of `pair` in the population, between -1 and 1
        pair: tuple[str, str] = ("age", "glasses"),
        seed: int = 0,  # of the rotations between z, factors and w: another seed is another generator
    ) -> None:
        super().__init__()
        if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 8:
            raise ShapeError(f"resolution {resolution!r} cannot be drawn: give a whole number of pixels, 8 or more, such as 128.")
        if not -1 < correlation < 1:
            raise ShapeError(f"correlation {correlation} is not between -1 and 1 (both excluded): 0.8 ties two factors closely.")
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(FACTORS):
            raise ShapeError(f"pair {pair!r} must name two different factors; there are {', '.join(FACTORS)}.")
        self.resolution, self.correlation, self.pair = resolution, float(correlation), tuple(pair)
        square = (self.w_dim, self.w_dim)
        rng = normal(seed, 3 * self.w_dim**2 + self.w_dim)[0].double()
        turns = [torch.linalg.qr(block.view(square)).Q.float() for block in rng[: 3 * self.w_dim**2].split(self.w_dim**2)]
        scale = [size for _, size in FACTORS.values()] + [SPARE] * (self.w_dim - len(FACTORS))
        self.register_buffer("_turns", torch.stack(turns[:2]))  # [2, 32, 32], the rotations of the mapping
        self.register_buffer("_axes", turns[2])  # [32, 32], one orthonormal row per factor, then the spare ones
        self.register_buffer("_scale", torch.tensor(scale))  # [32]
        self.register_buffer("w_mean", 0.5 * rng[-self.w_dim :].float())  # [32], exact: no sampling needed

    def mapping(self, z: Z) -> W:
        """Random vector to coordinates, along curves: [batch, 32] -> [batch, 32]. Invertible; it keeps the stated population exactly."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ShapeError(f"mapping takes z of shape [batch, {self.z_dim}]; this has {list(z.shape)}. Try normal([0, 1], {self.z_dim}).")
        steps = z.to(self.w_mean)
        for turn in self._turns:
            steps = _swirl(steps @ turn)  # [batch, 32], still standard normal
        first, second = (self.factor_names.index(name) for name in self.pair)
        tied = self.correlation * steps[:, first] + (1 - self.correlation**2) ** 0.5 * steps[:, second]
        steps = torch.cat([steps[:, :second], tied[:, None], steps[:, second + 1 :]], dim=1)
        return self.w_mean + (steps * self._scale) @ self._axes

    def synthesis(self, ws: Ws) -> Image:
        """Draw: [batch, 3, 32] -> [batch, 3, resolution, resolution] in [-1, 1], differentiable in every factor."""
        return portrait(self.read(ws), self.resolution)

    def factors(self, ws: Ws) -> Float[Tensor, "batch factor"]:
        """The true factors in the order of `factor_names`, in standard deviations from their mean: [batch, factor]."""
        if ws.ndim != 3 or tuple(ws.shape[1:]) != (self.num_layers, self.w_dim):
            raise ShapeError(
                f"ws must be [batch, {self.num_layers}, {self.w_dim}], one w per layer; this has {list(ws.shape)}. "
                f"From w of [batch, {self.w_dim}] make it with broadcast(w, {self.num_layers})."
            )
        steps = (ws.to(self.w_mean) - self.w_mean) @ self._axes.T / self._scale  # [batch, layer, 32]
        layers = [layer for layer, _ in FACTORS.values()]
        return steps[:, layers, range(len(layers))]  # each from the layer that carries it

    def read(self, ws: Ws) -> dict[str, Float[Tensor, " batch"]]:
        """What is drawn: "age" in years (5 to 85), "pose" and "tilt" in degrees, everything else as a fraction from 0 to 1."""
        traits = {}
        for name, steps in zip(self.factor_names, self.factors(ws).unbind(1), strict=True):
            if name in ("age", "pose", "tilt"):
                center, reach = {"age": (45, 40), "pose": (0, 34), "tilt": (0, 9)}[name]
                traits[name] = center + reach * torch.tanh(steps / 2)
            else:
                traits[name] = torch.sigmoid((4 if name == "glasses" else 1.3) * steps)  # glasses are mostly on or off
        return traits

    @property
    def truth(self) -> dict[str, Direction]:
        """The true direction of every factor: coordinate 0 is its mean, one step its standard deviation in the population."""
        axes, name_of = self._axes.detach().cpu(), fingerprint(self)
        boundaries = (axes @ self.w_mean.detach().cpu()).tolist()
        return {
            name: Direction(name, axes[row], size, boundaries[row], (layer,), None, name_of, {"method": "closed form"})
            for row, (name, (layer, size)) in enumerate(FACTORS.items())
        }


def _swirl(steps: Tensor) -> Tensor:
    """Turn numbers in pairs, the further out the more: a curve that leaves the standard normal exactly as it was.

    A turn that depends on the radius only maps every circle to itself, and the normal density is the same all along a circle.
    """
    a, b = steps.chunk(2, dim=1)
    angle = TWIST * (1 + a * a + b * b)
    return torch.cat([angle.cos() * a - angle.sin() * b, angle.sin() * a + angle.cos() * b], dim=1)
