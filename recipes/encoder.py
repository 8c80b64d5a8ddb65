"""Train the encoder (`dvlatent/inversion/encoder.py`) on generated faces, whose w is known.

`python recipes/encoder.py --out encoder.safetensors` draws faces once into --pool and reads their features, as they are and disturbed;
then it trains the head to give w, and measures it on other faces. All stages resume.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, command, half, natural, parser, run
from disturb import disturb
from torch import Tensor, nn
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.inversion.encoder import SIZE_PX, Encoder, Head, reduced
from dvlatent.latents import broadcast, w_of
from dvlatent.training import TrainingState, autocast, progress, update_ema, warm_decay, warmup_cosine
from dvlatent.types import Generator, W
from dvlatent.zoo import close_up, load

FIRST_TEST_SEED = 20_000  # neither the encoder nor the directions learn from seeds from here on
SAVE_EVERY = 200  # steps
CHUNK = 50  # pictures read together


@dataclass(frozen=True)
class EncoderConfig:
    """How an encoder is trained."""

    faces: int = 20_000  # drawn once
    first_seed: int = 0
    psi: float = 1.0  # truncation of the faces: 1 keeps all their variety
    views: int = 2  # of each face: the first as it is, the others disturbed
    strength: float = 0.5  # how strongly they are disturbed; the judge learns with 1
    steps: int = 1500  # optimizer steps
    batch: int = 256  # views in a step
    lr: float = 1e-3  # AdamW's learning rate at its highest
    weight_decay: float = 0.2  # of AdamW
    hidden: int = 1024  # numbers in the inner layers
    bf16: bool = True  # 16-bit numbers: twice as fast where the processor has them
    seed: int = 0  # of the first weights, the order and the disturbance


@dataclass(frozen=True)
class EncoderStep:
    """The result of one step of training."""

    index: int
    error: float  # squared distance to the true w of this batch, as a fraction of the variance: 1 is the average face, 0 is perfect
    head: Head  # the moving average of the weights, in eval mode: the one to keep
    save: Callable[[Path], None]  # writes all that `train_encoder(..., resume=path)` needs to go on bit for bit


@torch.no_grad()
def draw_pool(generator: Generator, folder: Path, config: EncoderConfig) -> Iterator[tuple[np.ndarray, int]]:
    """Draw the faces into a .npy file, [faces, 128, 128, 3] bytes; yields it and how many are done, and resumes.

    Previews where the generator has them. Raises CheckpointError if the folder holds a pool of another size.
    """
    pictures = array_on_disk(folder / "pictures.npy", (config.faces, SIZE_PX, SIZE_PX, 3), np.uint8)
    draw = getattr(generator, "preview", generator.synthesis)
    for face in range(config.faces):
        if not pictures[face].any():
            pictures[face] = images.to_uint8(reduced(natural(generator, draw, config.first_seed + face, config.psi)))[0]
        yield pictures, face + 1


@torch.no_grad()
def pool_ws(generator: Generator, config: EncoderConfig) -> W:
    """The w of every face of a pool: [faces, w]."""
    seeds = range(config.first_seed, config.first_seed + config.faces)
    return torch.cat([w_of(generator, seeds[at : at + 1000], config.psi) for at in range(0, len(seeds), 1000)])


@torch.no_grad()
def feature_pool(encoder: Encoder, pictures: np.ndarray, folder: Path, config: EncoderConfig) -> Iterator[tuple[np.ndarray, int]]:
    """Read the features of every view into a .npy file, [views, faces, feature] float16; yields it and how many are done, and resumes.

    The network of close-ups does not learn, so every view is read only once.
    """
    features = array_on_disk(folder / "features.npy", (config.views, len(pictures), len(encoder.head.mean)), np.float16)
    for view in range(config.views):
        for at in range(0, len(pictures), CHUNK):
            chunk = slice(at, at + CHUNK)
            if not features[view, chunk].any(axis=1).all():
                photos = images.from_uint8(pictures[chunk])
                if view:
                    rng = torch.Generator().manual_seed(2**32 * (1000 * config.seed + view) + at)
                    photos = disturb(photos, rng, config.strength, mirrored=False)
                with autocast(photos.device, config.bf16):
                    features[view, chunk] = encoder.features(photos).float().numpy()
            yield features, view * len(pictures) + min(at + CHUNK, len(pictures))


def train_encoder(features: np.ndarray, w: W, center: Tensor, config: EncoderConfig, resume: Path | None = None) -> Iterator[EncoderStep]:
    """Fit a head to features, [views, faces, feature], and the w of the faces; stop at any step, its head is ready to use.

    `center` is the mean w. The loss is the squared distance in W. `resume` goes on from a file of `step.save`, bit for bit; it raises
    CheckpointError for a run of another config.
    """
    torch.manual_seed(config.seed)
    head, ema = (Head(features.shape[2], config.hidden, w.shape[1]) for _ in range(2))
    axes, std = principal(w - center)
    head.center.copy_(center)
    head.axes.copy_(std[:, None] * axes)
    features = torch.from_numpy(np.array(features))  # [views, faces, feature]
    head.mean.copy_(features[0].float().mean(dim=0))
    head.std.copy_(features[0].float().std(dim=0) + 1e-3)
    ema.load_state_dict(head.state_dict())
    ema.eval().requires_grad_(False)
    adam = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    state = TrainingState(config, {"head": head, "ema": ema}, {"optimizer": adam})
    if resume is not None:
        state.load(resume)
    variance = std.square().sum()
    for index in range(state.index, config.steps):
        rng = np.random.RandomState([config.seed, index])
        faces, views = rng.randint(0, len(w), config.batch), rng.randint(0, len(features), config.batch)
        state.scale_lr(warmup_cosine(index, config.steps))
        with torch.random.fork_rng(devices=[]), autocast(w.device, config.bf16):
            torch.manual_seed(2**32 * config.seed + index)  # of the dropout
            guess = head(features[views, faces].float())
        error = (guess.float() - w[faces]).square().sum(dim=1).mean() / variance
        state.update("optimizer", error, clip=1.0)
        update_ema(ema, head, warm_decay(index, 0.995))
        state.index = index + 1
        yield EncoderStep(index, error.item(), ema, state.save)


def principal(differences: W) -> tuple[Tensor, Tensor]:
    """The axes along which rows vary most, [w, w], one in a row, and the standard deviations along them, [w] (Pearson 1901)."""
    power, axes = torch.linalg.eigh(differences.double().T @ differences.double() / len(differences))
    axes, power = axes.flip(1).T, power.flip(0)
    sign = torch.where(axes.gather(1, axes.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)  # otherwise the sign is left to chance
    return (sign * axes).float(), power.clamp_min(1e-8 * float(power[0])).sqrt().float()


@torch.no_grad()
def encoder_scores(
    encoder: nn.Module, generator: Generator, identity: nn.Module, distance: nn.Module, seeds: range, psi: float
) -> dict[str, float]:
    """How near a preview of `encoder(picture)` comes to pictures whose w is known, beside what the average face reaches.

    Identity distance (median, and how many are below 0.6), PSNR, the perceptual distance, and the distance to the true w as a fraction of
    the true w's distance from the mean. `ms` is the median time of one photo, on the threads that torch was given.
    """
    rows = []
    draw = getattr(generator, "preview", generator.synthesis)
    mean = draw(broadcast(generator.w_mean[None], generator.num_layers)).clamp(-1, 1)
    for seed in tqdm(seeds, unit="face", desc=f"measuring at psi {psi:g}", leave=False):
        true = w_of(generator, seed, psi)
        photo = natural(generator, draw, seed, psi)
        began = time.perf_counter()
        guess = encoder(photo)
        row = {"ms": 1000 * (time.perf_counter() - began)}
        picture = draw(broadcast(guess, generator.num_layers)).clamp(-1, 1)
        people = identity(torch.cat([photo, picture, mean]))
        same_person, mean_face = identity.distance(people[:1].expand(2, -1), people[1:])
        row |= {"identity": float(same_person), "mean_face": float(mean_face)}
        row |= {"psnr_db": float(10 * torch.log10(4 / (photo - picture).square().mean())), "perceptual": float(distance(photo, picture))}
        rows.append(row | {"w_distance": float((guess - true).norm() / (true - generator.w_mean).norm())})
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    scores = {"faces": len(rows)} | {f"{name}_below_0.6": (columns[name] < 0.6).mean() for name in ("identity", "mean_face")}
    scores |= {f"{name}_median": np.median(columns[name]) for name in ("identity", "mean_face", "ms")}
    scores |= {name: columns[name].mean() for name in ("psnr_db", "perceptual", "w_distance")}
    return {name: round(float(value), 3) for name, value in scores.items()}


def make(out: Path, pool: Path, faces: int = EncoderConfig.faces, steps: int = EncoderConfig.steps, test_faces: int = 200) -> None:
    """Draw faces, read their features, train a head on them, measure it on unseen faces, write it."""
    config, kept = EncoderConfig(faces=faces, steps=steps), pool / "training.safetensors"
    generator = load("faces")
    encoder = Encoder(close_up(), config.hidden, generator.w_dim).eval()
    *_, (pictures, _) = tqdm(draw_pool(generator, pool, config), total=faces, unit="face", desc="drawing")
    with tqdm(total=config.views * faces, unit="view", desc="reading") as bar:
        for features, done in feature_pool(encoder, pictures, pool, config):  # noqa: B007 (the last one is whole)
            bar.update(done - bar.n)
    ws = pool_ws(generator, config)
    training = train_encoder(features, ws, generator.w_mean, config, resume=kept if kept.exists() else None)
    *_, step = progress(training, steps, lambda step: f"error {step.error:.3f}", save=kept, every=SAVE_EVERY)
    tensors = half(step.head)
    encoder.head.load_state_dict(tensors)  # what is measured is what is written
    seeds, references = range(FIRST_TEST_SEED, FIRST_TEST_SEED + test_faces), (load("identity"), load("perceptual"))
    description = {
        "kind": "encoder",
        "hidden": config.hidden,
        "trained": f"{faces} previews from seed {config.first_seed} at psi {config.psi:g}, {config.views} views of each, "
        f"{steps} steps of {config.batch}",
        "close_up": "dlib's identity network without its last layer (CC0), unchanged and not in this file: read from the assets",
        "config": asdict(config),
        "command": command("encoder", out, faces=faces, steps=steps),
        "licence": LICENSE,
        "scores": {f"previews at psi {psi:g}": encoder_scores(encoder, generator, *references, seeds, psi) for psi in (0.7, 1.0)},
    }
    checkpoint.save(out, tensors, description)
    kept.unlink(missing_ok=True)
    print(f"{out}: {description['scores']}", file=sys.stderr)


if __name__ == "__main__":
    options = {"pool": Path("build/encoder"), "faces": EncoderConfig.faces, "steps": EncoderConfig.steps, "test_faces": 200}
    sys.exit(run(make, parser(__doc__, **options), kept="Faces and training are kept in --pool: the same command goes on."))
