"""The training of the preview head; `dvlatent/stylegan/preview.py` is the head itself (knowledge distillation, Hinton et al. 2015).

`python recipes/preview.py --out faces-preview.safetensors` renders faces once into --pool, 8.8 MB each, then fits the head: two hours.
Both stages resume.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, parser, run
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dvlatent import checkpoint
from dvlatent.latents import broadcast, mix, normal, truncate, w_of
from dvlatent.stylegan.mobile_stylegan import Features, MobileStyleGAN, haar
from dvlatent.stylegan.preview import PreviewHead
from dvlatent.training import TrainingState, progress, update_ema, warm_decay, warmup_cosine
from dvlatent.types import Image, Predictor, Ws
from dvlatent.zoo import load

SAVE_EVERY = 500  # steps


@dataclass(frozen=True)
class PreviewConfig:
    """How a preview head is trained."""

    faces: int = 1600  # rendered once
    steps: int = 6500  # optimizer steps
    batch: int = 8  # faces in a step
    crop: int = 64  # side of the square of features that a step sees of each face, of 128
    examples: int = 160  # faces for the linear start
    lr: float = 2e-3  # Adam's learning rate at its highest
    width: int = 96  # channels of the head
    rank: int = 128  # numbers in which the head reads the finer w's
    seed: int = 1_000_000  # training faces use seeds from here on; tests stay below it


@dataclass(frozen=True)
class PreviewStep:
    """The result of one step of training."""

    index: int
    psnr_db: float  # of this batch, against the full render resized by area
    head: PreviewHead  # the moving average of the weights: the one to keep
    save: Callable[[Path], None]  # writes all that `train_preview(..., resume=path)` needs to go on bit for bit


@dataclass(frozen=True)
class Pool:
    """Faces rendered for training: what the head is given, and the picture that it should draw."""

    features: np.ndarray  # [faces, 128, 128, 256] float16, on disk
    pictures: np.ndarray  # [faces, 256, 256, 3] float16, on disk
    done: int  # how many are rendered


def training_ws(generator: MobileStyleGAN, face: int, config: PreviewConfig) -> Ws:
    """The latent of one training face: [1, layers, w]. One w for all, styles mixed, or every layer for itself: the head hears each w."""
    rng = np.random.RandomState(config.seed + face)
    first, second = generator.mapping(normal([config.seed + 2 * face, config.seed + 2 * face + 1], generator.z_dim)).split(1)
    first, second = (
        truncate(broadcast(w, generator.num_layers), toward=generator.w_mean, psi=rng.uniform(0.4, 1.0)) for w in (first, second)
    )
    kind = rng.rand()
    if kind < 0.5:
        return first
    if kind < 0.8:
        return mix(first, second, range(rng.randint(4, generator.num_layers), generator.num_layers))
    fraction = torch.from_numpy(rng.rand(1, generator.num_layers, 1)).float()
    return first + fraction * (second - first)


def small(image: Image) -> Image:
    """What the preview should show: the full render, clamped and resized by area to 256 pixels."""
    return F.interpolate(image.clamp(-1, 1), size=(256, 256), mode="area")


@torch.no_grad()
def render_pool(generator: MobileStyleGAN, folder: Path, config: PreviewConfig) -> Iterator[Pool]:
    """Render the training faces into two .npy files; yields the pool as it grows, and resumes."""
    features = array_on_disk(folder / "features.npy", (config.faces, 128, 128, 256), np.float16)
    pictures = array_on_disk(folder / "pictures.npy", (config.faces, 256, 256, 3), np.float16)
    for face in range(config.faces):
        if not pictures[face, 128].any():  # not rendered yet
            ws = training_ws(generator, face, config)
            features[face] = generator.features(ws, PreviewHead.blocks)[0].permute(1, 2, 0).numpy()
            pictures[face] = small(generator.synthesis(ws))[0].permute(1, 2, 0).numpy()
        yield Pool(features, pictures, face + 1)


def train_preview(generator: MobileStyleGAN, pool: Pool, config: PreviewConfig, resume: Path | None = None) -> Iterator[PreviewStep]:
    """Fit a head to the pool of `render_pool`; stop at any step, its head is ready to use. `resume` goes on from a file of `step.save`.

    A step sees a random quarter of each face, and so more faces.
    """
    torch.manual_seed(config.seed)
    head = PreviewHead(config.width, config.rank).to(memory_format=torch.channels_last)
    ema = PreviewHead(config.width, config.rank)
    count = max(pool.done, 4 * config.rank)  # components need more faces than there are components, and a latent costs nothing
    with torch.no_grad():
        ws_of = torch.cat([training_ws(generator, face, config) for face in range(count)])
    head.styles.requires_grad_(False)
    if resume is None:
        read_like(head, generator, ws_of)
        examples = range(min(pool.done, config.examples))
        fit_linear(head, ((_whole(pool.features, face), _whole(pool.pictures, face)) for face in examples))
        ema.load_state_dict(head.state_dict())
    slow, fast = list(head.linear.parameters()), [p for name, p in head.named_parameters() if not name.startswith(("linear", "styles"))]
    groups = [{"params": fast, "lr": config.lr}, {"params": slow, "lr": 0.05 * config.lr}]
    state = TrainingState(config, {"head": head, "ema": ema}, {"optimizer": torch.optim.Adam(groups, betas=(0.9, 0.99))})
    if resume is not None:
        state.load(resume)
    rng = np.random.RandomState(config.seed)
    for index in range(config.steps):
        faces = rng.randint(0, pool.done, config.batch)
        corners = rng.randint(0, PreviewHead.size_px - config.crop + 1, (config.batch, 2))
        if index < state.index:  # done before a stop: only the draws are repeated
            continue
        state.scale_lr(warmup_cosine(index, config.steps, warmup=200))
        features = _crops(pool.features, faces, corners, config.crop)
        target = _crops(pool.pictures, faces, 2 * corners, 2 * config.crop)
        error = (head(features, ws_of[faces], torch.from_numpy(corners)) - target).square()
        error = torch.stack([_uncut(square, corner, config.crop).mean() for square, corner in zip(error, corners, strict=True)])  # [batch]
        state.update("optimizer", error.log().mean(), clip=1.0)  # the logarithm is decibels: an easy face counts as much as a hard one
        update_ema(ema, head, warm_decay(index, 0.999))
        state.index = index + 1
        yield PreviewStep(index, psnr_db(error.detach()), ema, state.save)


@torch.no_grad()
def read_like(head: PreviewHead, generator: MobileStyleGAN, ws: Ws) -> None:
    """Start reading ws as the generator does: by the principal components of the styles of the layers that the head replaces.

    `ws` are a few thousand latents of the kind to expect. Learning this from pictures alone would take many more of them.
    """
    replaced = [
        (layer.modulation, 2 * i + offset)  # and which of the w's it reads
        for i, block in enumerate(generator.blocks[head.blocks :])
        for layer, offset in ((block.up, 0), (block.conv1, 0), (block.conv2, 1))
    ]
    layers = head.styles.in_features // generator.w_dim
    replaced.append((generator.to_image.modulation, layers - 1))
    weight = torch.zeros(sum(modulation.out_features for modulation, _ in replaced), layers, generator.w_dim)
    row = 0
    for modulation, layer in replaced:
        weight[row : row + modulation.out_features, layer] = modulation.weight
        row += modulation.out_features
    weight = weight.flatten(1)  # [styles, layers * 512]
    styles = ws[:, head.reads].flatten(1) @ weight.T
    _, std, axes = torch.linalg.svd(styles - styles.mean(0), full_matrices=False)
    whiten = axes[: head.rank] / (std[: head.rank, None] / len(ws) ** 0.5)  # [rank, styles]
    head.styles.weight.copy_(whiten @ weight)
    head.styles.bias.copy_(-whiten @ styles.mean(0))


@torch.no_grad()
def fit_linear(head: PreviewHead, examples: Iterable[tuple[Features, Image]], pixels: int = 1500) -> None:
    """Start from the best linear reading of the features: least squares on some pixels of every example, in closed form."""
    size = head.channels * 9 + 1
    gram, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, 12, dtype=torch.float64)
    for features, picture in examples:
        chosen = torch.linspace(0, head.size_px**2 - 1, pixels).long()
        columns = F.unfold(features, 3, padding=1)[0, :, chosen].T  # [pixels, channels * 9]
        columns = torch.cat([columns, torch.ones(len(columns), 1)], dim=1)
        target = haar(picture)[0].flatten(1).T[chosen] / 4  # [pixels, 12]
        gram += (columns.T @ columns).double()
        right += (columns.T @ target).double()
    solution = torch.linalg.solve(gram + torch.eye(size), right).float()
    head.linear.weight.copy_(solution[:-1].T.view(12, head.channels, 3, 3))
    head.linear.bias.copy_(solution[-1])


def _uncut(square: Tensor, corner: np.ndarray, crop: int) -> Tensor:
    """The square without the few pixels along the edges where the features were cut; an edge of the whole picture stays."""
    (top, left), margin, last = corner, 4, PreviewHead.size_px - crop
    rows = slice(margin if top else None, None if top == last else -margin)
    columns = slice(margin if left else None, None if left == last else -margin)
    return square[:, rows, columns]


def _whole(pool: np.ndarray, face: int) -> Tensor:
    return torch.from_numpy(pool[face].astype(np.float32)).permute(2, 0, 1)[None]


def _crops(pool: np.ndarray, faces: np.ndarray, corners: np.ndarray, size: int) -> Tensor:
    """[batch, channel, size, size], channels last, one square from each face."""
    squares = [pool[face, y : y + size, x : x + size] for face, (y, x) in zip(faces, corners, strict=True)]
    return torch.from_numpy(np.stack(squares).astype(np.float32)).permute(0, 3, 1, 2)


@torch.no_grad()
def preview_scores(generator: MobileStyleGAN, predictor: Predictor, faces: int, psi: float, seed: int = 500_000) -> dict[str, float]:
    """How close the preview comes on unseen faces (seeds from `seed` on; training starts at a million).

    Mean and worst-tenth PSNR against the full render resized by area, and the median change of the predictor's first score.
    """
    decibels, changes = [], []
    for face in range(seed, seed + faces):
        ws = broadcast(w_of(generator, face, psi), generator.num_layers)
        full, quick = small(generator.synthesis(ws)), generator.preview(ws).clamp(-1, 1)
        decibels.append(psnr_db((full - quick).square().mean(dim=(1, 2, 3))))
        changes.append(float((predictor(full) - predictor(quick))[0, 0].abs()))
    names = ("psi", "faces", "psnr_db", "worst_tenth_psnr_db", f"median_change_{predictor.names[0]}")
    values = (psi, faces, np.mean(decibels), np.percentile(decibels, 10), np.median(changes))
    return {name: round(float(value), 2) for name, value in zip(names, values, strict=True)}


def psnr_db(error: Tensor) -> float:
    """Mean peak signal to noise over images in [-1, 1], from each one's mean squared error."""
    return float((10 * torch.log10(4 / error)).mean())


def make(out: Path, pool: Path, faces: int = PreviewConfig.faces, steps: int = PreviewConfig.steps, test_faces: int = 200) -> None:
    """Render a pool, train a head on it, measure it on unseen faces, write it."""
    config, kept = PreviewConfig(faces=faces, steps=steps), pool / "training.safetensors"
    generator: MobileStyleGAN = load("faces")
    *_, rendered = tqdm(render_pool(generator, pool, config), total=faces, unit="face", desc="rendering")
    training = train_preview(generator, rendered, config, resume=kept if kept.exists() else None)
    *_, step = progress(training, steps, lambda step: f"{step.psnr_db:.1f} dB", save=kept, every=SAVE_EVERY)
    generator.preview_head = step.head
    scores = preview_scores(generator, load("attributes"), test_faces, psi=0.7)
    description = {
        "kind": "preview head",
        "width": config.width,
        "rank": config.rank,
        "trained": f"{faces} faces from seed {config.seed}, {steps} steps of {config.batch}",
        "command": command("preview", out, faces=faces, steps=steps),
        "licence": LICENSE,
        "scores": scores,
    }
    checkpoint.save(out, half(step.head), description)
    kept.unlink(missing_ok=True)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    options = {"faces": PreviewConfig.faces, "steps": PreviewConfig.steps, "pool": Path("build/preview"), "test_faces": 200}
    sys.exit(run(make, parser(__doc__, **options), kept="Faces and training are kept in --pool: the same command goes on."))
