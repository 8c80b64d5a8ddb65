"""Whom do the networks fail? Measure 2,000 unseen faces: `python recipes/limits.py --out faces-limits.safetensors` (half an hour).

Faces are previews, psi 1, seeds from 440,000 on. A table for each question, a row for each face:

    drawn     age and gender by the finder and the judge, smile, glasses, yaw, the skin's Lab color, and its expected angle
    psi 0.7   the same of the first half of the seeds, truncated
    full      the full render of the first quarter: how near the preview is to it
    inverted  the first half, drawn again from the encoder's guess
    aged      after the age filter at strength 2

A new filter needs only `--tables aged`: the other tables are kept, and the faces lie in the pool. No picture is in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, natural, parser, run
from torch import Tensor
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast
from dvlatent.metrics.edits import lab, skin_patches
from dvlatent.types import Image
from dvlatent.zoo import load

FIRST_SEED, STRENGTH, FOLDS, LEAST_YELLOW = 440_000, 2.0, 10, 5.0
TABLES = ("drawn", "full", "inverted", "aged")
Columns = dict[str, Tensor]  # a number for each face


class Readers:
    """What is read from a picture; the networks are loaded once."""

    def __init__(self) -> None:
        names = ("faces", "attributes", "judge", "landmarks", "identity", "encoder", "age-filter")
        self.faces, self.finder, self.judge, self.landmarks, self.identity, self.encoder, self.filter = map(load, names)

    def scores(self, face: Image) -> Columns:
        """Judge, finder and the skin's color."""
        found = dict(zip(self.judge.names, self.judge(face).T, strict=True))
        found["finder age"], found["finder male"] = self.finder(face).T
        return found | dict(zip(("lightness", "red", "yellow"), skin_median(face).T, strict=True))

    def read(self, face: Image) -> Columns:
        """All that is known of a face."""
        yaw = self.landmarks(face)[:, self.landmarks.names.index("yaw")]
        return self.scores(face) | {"yaw": yaw, "identity": self.identity(face)}

    def against(self, before: Image, after: Image) -> Columns:
        """A second picture of a face: its scores, how far the person is, and how exact it is in dB."""
        error = (before - after).square().mean(dim=(1, 2, 3)) / 4
        far = (self.identity(after) - self.identity(before)).norm(dim=1)
        return self.scores(after) | {"distance": far, "psnr": -10 * error.log10()}

    def inverted(self, face: Image) -> Image:
        """Drawn from the encoder's guess."""
        return as_bytes(self.faces.preview(broadcast(self.encoder(face), self.faces.num_layers)))


@torch.no_grad()
def make(out: Path, faces: int = 2000, tables: str = ",".join(TABLES), pool: Path = Path("build/limits")) -> None:
    """Measure, and write the file anew after each table. Raises ShapeError for too few faces and for a table that does not exist."""
    wanted = tables.split(",")
    if faces < 40 or not set(wanted) <= set(TABLES):
        raise ShapeError(f"--faces {faces} --tables {tables}: give 40 faces or more, and tables among {', '.join(TABLES)}.")
    known, description = checkpoint.load(out, "limits") if out.exists() else ({}, {"columns": {}})
    rows, half, quarter = range(faces), range(faces // 2), range(faces // 4)
    readers, kept = Readers(), array_on_disk(pool / f"faces-{faces}.npy", (faces, 256, 256, 3), np.uint8)

    def face(row: int) -> Image:
        if not kept[row].any():
            kept[row] = images.to_uint8(natural(readers.faces, readers.faces.preview, FIRST_SEED + row, 1.0))[0]
        return images.from_uint8(kept[row][None].copy())

    def full(row: int) -> Image:
        return natural(readers.faces, lambda ws: images.resize(readers.faces.synthesis(ws), 256), FIRST_SEED + row, 1.0)

    def write(name: str, columns: Columns) -> None:
        known[name] = torch.stack(list(columns.values()), dim=1).float()
        description["columns"][name] = list(columns)
        about = {"kind": "limits", "columns": description["columns"], "first_seed": FIRST_SEED, "strength": STRENGTH}
        checkpoint.save(out, known, about | {"command": command("limits", out, faces=faces), "licence": LICENSE})

    if "drawn" in wanted:
        one = measured(rows, "drawn", lambda row: readers.read(face(row)))
        seventy = measured(half, "psi 0.7", lambda row: readers.read(natural(readers.faces, readers.faces.preview, FIRST_SEED + row, 0.7)))
        for name, columns, angle in zip(("drawn", "psi 0.7"), (one, seventy), expected_angles(one, seventy), strict=True):
            columns.pop("identity")
            write(name, columns | {"expected angle": angle})
    if "aged" in wanted:
        write("aged", measured(rows, "aged", lambda row: readers.against(face(row), as_bytes(readers.filter(face(row), STRENGTH)))))
    if "inverted" in wanted:
        write("inverted", measured(half, "inverted", lambda row: readers.against(face(row), readers.inverted(face(row)))))
    if "full" in wanted:
        write("full", measured(quarter, "full", lambda row: readers.against(face(row), full(row))))


def measured(rows: range, name: str, measure: Callable[[int], Columns]) -> Columns:
    """The measurements of every row, joined."""
    found = [measure(row) for row in tqdm(rows, desc=name, unit="face")]
    return {column: torch.cat([one[column] for one in found]) for column in found[0]}


def skin_median(face: Image) -> Tensor:
    """The median pixel of the five patches of skin, in Lab: [batch, 3]. A highlight or a strand of hair does not move it."""
    return torch.cat([patch.flatten(2) for patch in skin_patches(lab(face))], dim=2).median(dim=2).values


def angles(columns: Columns) -> np.ndarray:
    """The individual typology angle (Chardon et al. 1991), in degrees. Skin that light made blue counts as hardly yellow."""
    return np.degrees(np.arctan2(columns["lightness"].numpy() - 50, columns["yellow"].numpy().clip(LEAST_YELLOW)))


def expected_angles(one: Columns, seventy: Columns) -> tuple[Tensor, Tensor]:
    """The angle that other faces lead to expect: ridge regression from identity to angle, fitted without the tenth that it is asked about.

    The identity network cares little for light, so light is averaged out, and what is left is nearer to the skin.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth, warm = angles(one), one["yellow"].numpy() > LEAST_YELLOW
    found = [np.zeros(len(each["yellow"])) for each in (one, seventy)]
    for fold in range(FOLDS):
        learn = warm & (np.arange(len(truth)) % FOLDS != fold)
        fitted = make_pipeline(StandardScaler(), Ridge(100)).fit(one["identity"].numpy()[learn], truth[learn])
        for each, columns in zip(found, (one, seventy), strict=True):
            each[fold::FOLDS] = fitted.predict(columns["identity"].numpy()[fold::FOLDS])
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def as_bytes(image: Image) -> Image:
    """As a file holds it."""
    return images.from_uint8(images.to_uint8(image))


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=2000, tables=",".join(TABLES), pool=Path("build/limits"))))
