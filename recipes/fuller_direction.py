"""Find the direction toward a fuller face: `python recipes/fuller_direction.py --out fuller-direction.safetensors` (ten minutes).

No predictor of weight is needed: the 68 landmarks say how wide jaw and cheeks are, over the distance of the eyes. What goes with width
among generated faces, such as age, and the light skin on which the landmarks find wider jaws, is read too, and stays where it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from common import LICENSE, command, parser, run
from torch import Tensor
from tqdm import tqdm

from dvlatent import checkpoint, latents
from dvlatent.directions import Direction
from dvlatent.faces.landmarks import fullness, geometry
from dvlatent.metrics.edits import skin_color
from dvlatent.types import fingerprint
from dvlatent.zoo import load

FIRST_SEED, BATCH, PSI = 3_000_000, 10, 0.9
LAYERS = tuple(range(1, 8))  # shape; the first one also turns the head, the last ones carry colors
RIDGE = 300.0  # in variances of a coordinate: where a regression on unseen faces was best
LARGEST_YAW = 12.0  # degrees
STEP = 1.4  # standard deviations of fullness in a step: two steps widen a jaw by about a tenth


def constrained(w: Tensor, scores: Tensor) -> Tensor:
    """The shortest step, in standard deviations of `w`, that raises the first score by one and leaves the others: [w].

    The scores' regressions on `w` are the rows of B; with the covariance C of `w`, the step is C Bᵀ (B C Bᵀ)⁻¹ e₁ (Lagrange).
    """
    w, scores = (rows.double() - rows.double().mean(dim=0) for rows in (w, scores))
    ridge = RIDGE * float(w.std()) ** 2 * torch.eye(w.shape[1], dtype=w.dtype)
    covariance = w.T @ w / len(w)
    slopes = torch.linalg.solve(w.T @ w + ridge, w.T @ (scores / scores.std(dim=0)))  # [w, score]
    return (covariance @ slopes @ torch.linalg.inv(slopes.T @ covariance @ slopes)[:, 0]).float()


@torch.no_grad()
def make(out: Path, faces: int = 3000) -> None:
    """Survey the faces of `faces` seeds, fit, and write the direction."""
    generator, landmarks, attributes = load("faces"), load("landmarks"), load("attributes")
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    batches = [range(first, min(first + BATCH, FIRST_SEED + faces)) for first in range(FIRST_SEED, FIRST_SEED + faces, BATCH)]
    for seeds in tqdm(batches, desc="faces", unit="batch"):
        w = latents.w_of(generator, seeds, PSI)
        pictures = generator.preview(latents.broadcast(w, generator.num_layers)).clamp(-1, 1)
        points = landmarks.points(pictures)
        shape, said = geometry(points), attributes(pictures)
        stay = [said[:, :1], said[:, 1:].clamp(0.01, 0.99).logit(), shape[:, :1], shape[:, 4:5], skin_color(pictures)]
        found.append((w, torch.cat([fullness(points)[:, None], *stay], dim=1), shape[:, 3].abs()))
    w, scores, yaw = (torch.cat(column) for column in zip(*found, strict=True))
    ahead = yaw < LARGEST_YAW
    vector = STEP * constrained(w[ahead], scores[ahead])
    length = float(vector.norm())
    made_by = {"method": "constrained regression", "faces": int(ahead.sum()), "stay": "age, male, smile, pitch, skin color"}
    made_by |= {"command": command("fuller_direction", out, faces=faces), "licence": LICENSE}
    boundary = float(w[ahead].mean(dim=0) @ vector / length)
    checkpoint.save_direction(Direction("fuller", vector / length, length, boundary, LAYERS, PSI, fingerprint(generator), made_by), out)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=3000)))
