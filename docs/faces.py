"""Makes faces.jpg, the picture of the README: `python docs/faces.py`. The four corners are dice; every face between them is a blend."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image as Pillow

import dvlatent
from dvlatent.images import grid, resize, to_uint8

CORNERS = [35, 28, 70, 75]  # seeds: upper left, upper right, lower left, lower right
ROWS, COLUMNS, SIZE_PX = 4, 7, 168


def main() -> None:
    """Blend the corners' latents along both sides of the table, draw each blend, and save the table."""
    faces = dvlatent.load("faces")
    w = dvlatent.truncate(faces.mapping(dvlatent.normal(CORNERS, faces.z_dim)), toward=faces.w_mean, psi=0.7)  # [4, 512]
    down, across = torch.linspace(0, 1, ROWS), torch.linspace(0, 1, COLUMNS)
    left, right = dvlatent.lerp(w[0:1], w[2:3], down), dvlatent.lerp(w[1:2], w[3:4], down)  # [rows, 512] each
    table = torch.cat([dvlatent.lerp(left[row : row + 1], right[row : row + 1], across) for row in range(ROWS)])
    pictures = [resize(faces.synthesis(ws), SIZE_PX) for ws in dvlatent.broadcast(table, faces.num_layers).split(1)]
    sheet = Pillow.fromarray(to_uint8(grid(torch.cat(pictures), columns=COLUMNS))[0])
    sheet.save(Path(__file__).with_name("faces.jpg"), quality=88, optimize=True)


if __name__ == "__main__":
    main()
