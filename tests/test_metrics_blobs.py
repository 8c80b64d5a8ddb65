"""The blob test: it finds planted spots where they are, and none in clean edits."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dvlatent import images, load
from dvlatent.errors import ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.metrics.blobs import blobs
from dvlatent.toy.faces import ToyFaces

RECORDED = np.load(Path(__file__).parent / "data" / "attributes_agreement.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def edits():
    """Clean edits: twelve toy faces grown older, twelve that smile more, before and after, 128 px."""
    toy = ToyFaces(resolution=128)
    ws = broadcast(toy.mapping(normal(range(12), toy.z_dim)), toy.num_layers)
    before = toy.synthesis(ws)
    return torch.cat([before, before]), torch.cat([toy.synthesis((1.5 * toy.truth[name])(ws)) for name in ("age", "smile")])


@pytest.fixture(scope="module")
def retouched():
    """Eight generated faces, 256 px, and the same ones lighter, warmer and smoother: a change of every pixel."""
    files = np.split(RECORDED["jpegs"], np.cumsum(RECORDED["jpeg_sizes"])[:-1])[:8]
    before = images.from_uint8(np.stack([np.asarray(Image.open(io.BytesIO(file.tobytes()))) for file in files]))
    smooth = images.resize(images.resize(before, 64), 256)
    warm = torch.tensor([0.15, 0.0, -0.1])[:, None, None]
    return before, (0.5 * before + 0.5 * smooth + warm).clamp(-1, 1)


def plant(after, seed, height, radius):
    """One spot in each picture, at a random place: the pictures and the centers."""
    rng = np.random.RandomState(seed)
    planted, centers = after.clone(), []
    side = after.shape[-1]
    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    for one in planted:
        at = rng.uniform(0.15, 0.85, 2)
        spot = height * torch.exp(-0.5 * ((x - at[0]) ** 2 + (y - at[1]) ** 2) * (256 / radius) ** 2)
        here = float(one[:, int(side * at[1]), int(side * at[0])].mean())
        one.add_(spot if here < 0 else -spot).clamp_(-1, 1)  # to the side on which there is room
        centers.append(at)
    return planted, centers


def test_clean_edits_have_none(edits, retouched):
    for before, after in (edits, retouched):
        assert not any(blobs(before, after)) and not any(blobs(after, before)) and not any(blobs(before, before))


def test_clean_edits_of_the_generator_have_none(faces, portraits):
    moved = load("age-direction").move(portraits.ws[2:], torch.tensor([2.0, -2.0]))
    with torch.no_grad():
        assert blobs(portraits.preview[2:], faces.preview(moved)) == [[], []]


@pytest.mark.parametrize("radius", [3, 5, 8])
@pytest.mark.parametrize("kind", ["toy", "generated"])
def test_planted_blobs_are_found(edits, retouched, kind, radius):
    before, after = edits if kind == "toy" else retouched
    found, right = 0, 0
    for seed in range(3):
        planted, centers = plant(after, seed, 1.3, radius)
        for here, (x, y) in zip(blobs(before, planted), centers, strict=True):
            found += bool(here)
            right += bool(here) and abs(here[0].x - x) < 0.02 and abs(here[0].y - y) < 0.02
    total = 3 * len(before)
    assert found >= 0.75 * total and right >= 0.8 * found, f"{found} of {total} found, {right} at their place"


def test_a_blob_says_how_it_is():
    before = torch.zeros(2, 3, 256, 256)
    after = before.clone()
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    for row, (height, radius) in enumerate(((0.9, 8), (-0.9, 5))):
        after[row] += height * torch.exp(-0.5 * ((x - 64) ** 2 + (y - 192) ** 2) / radius**2)
    for (one,), radius in zip(blobs(before, after), (8, 5), strict=True):
        assert one.x == pytest.approx(64 / 256, abs=0.01) and one.y == pytest.approx(192 / 256, abs=0.01)
        assert one.radius * 256 == pytest.approx(radius, abs=2)
    bright, dark = (found[0].height for found in blobs(before, after))
    assert 0.6 < bright < 1.1 and -1.1 < dark < -0.6


def test_edges_and_lost_spots_are_no_blobs():
    before = torch.zeros(1, 3, 256, 256)
    edge, line, lost = before.clone(), before.clone(), before.clone()
    edge[..., 100:] = 1.0  # a silhouette that moved
    line[..., 120:126, :] = 1.0  # a strand of hair
    lost[..., 100:112, 100:112] = 1.0
    assert blobs(before, edge) == [[]] and blobs(before, line) == [[]]
    assert len(blobs(before, lost)[0]) == 1 and blobs(lost, before) == [[]]


def test_other_shapes_are_refused():
    for a, b in (((1, 3, 256, 256), (1, 3, 128, 128)), ((1, 3, 64, 64), (1, 3, 64, 64)), ((3, 256, 256), (3, 256, 256))):
        with pytest.raises(ShapeError, match="square pictures before and after"):
            blobs(torch.zeros(a), torch.zeros(b))
