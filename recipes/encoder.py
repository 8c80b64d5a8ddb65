"""Training the encoder: pictures whose w is known, because we drew them. Taught in notebook 06.

Faces are drawn (`draw_pool`) and looked at (`look_pool`) once, as they are and as another camera might show them; then `train_encoder`
learns to tell w from what was seen, and `encoder_scores` measures it on other faces. `dvlatent train encoder` does it all, resumably.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import LICENSE, array_on_disk, natural
from disturb import disturb
from torch import Tensor, nn
from tqdm import tqdm

from dvlatent import checkpoint, images
from dvlatent.errors import CheckpointError
from dvlatent.inversion.encoder import SIZE_PX, THUMBNAIL_PX, Encoder, reduced
from dvlatent.latents import broadcast, w_of
from dvlatent.training import progress, restored, state_of
from dvlatent.types import Generator, W
from dvlatent.zoo import close_up, load

UNSEEN = 20_000  # the first seed that neither the encoder nor the directions have seen
SAVE_EVERY = 200  # steps
CHUNK = 50  # pictures looked at together
THUMBNAIL = 3 * THUMBNAIL_PX**2  # numbers in a thumbnail


@dataclass(frozen=True)
class EncoderConfig:
    """How an encoder is trained."""

    faces: int = 20_000  # drawn once
    first_seed: int = 0
    psi: float = 1.0  # truncation of the faces it learns from: all the variety there is
    looks: int = 2  # at each face: the first as it is, the others disturbed
    disturbed: float = 0.5  # how strongly light, colour and crop are changed then; the judge's training has 1
    steps: int = 1500  # optimiser steps
    batch: int = 256  # looks in a step
    lr: float = 1e-3  # AdamW's learning rate at its highest
    decay: float = 0.2  # AdamW's weight decay
    hidden: int = 1024  # numbers in the inner layers
    bf16: bool = True  # 16-bit numbers: twice as fast where the processor has them
    seed: int = 0  # of the first weights, the order and the disturbance


@dataclass(frozen=True)
class EncoderStep:
    """One step of training: how far it is, and how well it goes."""

    index: int
    error: float  # squared distance to the true w of this batch, as a share of the variance: 1 is the average face, 0 is perfect
    encoder: Encoder  # the average of recent weights, in eval mode: the one to keep
    state: Callable[[], dict[str, Tensor]]  # everything that `train_encoder` needs to go on from here


@torch.no_grad()
def draw_pool(generator: Generator, folder: Path, config: EncoderConfig) -> Iterator[tuple[np.ndarray, int]]:
    """Draw the training faces into a .npy file, [faces, 128, 128, 3] bytes; yields it with how many are done, and resumes.

    Drawn by `generator.preview` where there is one. Raises CheckpointError if the folder holds a pool of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
def look_pool(encoder: Encoder, pictures: np.ndarray, folder: Path, config: EncoderConfig) -> Iterator[tuple[np.ndarray, int]]:
    """What the encoder sees of every picture, into a .npy file, [looks, faces, look] in half precision; yields it with how many are done.

    Its eyes do not learn, so they need to look only once. Resumes.
    """
    seen = array_on_disk(folder / "looks.npy", (config.looks, len(pictures), encoder.looks), np.float16)
    for look in range(config.looks):
        for at in range(0, len(pictures), CHUNK):
            here = slice(at, at + CHUNK)
            if not seen[look, here].any(axis=1).all():
                photos = images.from_uint8(pictures[here])
                if look:
                    rng = torch.Generator().manual_seed(2**32 * (1000 * config.seed + look) + at)
                    photos = disturb(photos, rng, config.disturbed, mirrored=False)
                with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                    seen[look, here] = encoder.look(photos).float().numpy()
            yield seen, look * len(pictures) + min(at + CHUNK, len(pictures))


def train_encoder(
    looks: np.ndarray, w: W, centre: Tensor, eyes: nn.Module, config: EncoderConfig, state: Mapping[str, Tensor] | None = None
) -> Iterator[EncoderStep]:
    """Fit an encoder to what it saw of faces, [looks, faces, look], and their w [faces, w]; stop whenever you like, it is ready to use.

    `centre` is the mean w; `eyes` the network of close-ups, which stays as it is. The loss is the squared distance in W. `state`, from
    an earlier step of the same config, goes on after it: every number comes out as without the stop. Raises CheckpointError for a
    state of another config.
    """
    torch.manual_seed(config.seed)
    encoder, ema = (Encoder(eyes, config.hidden, w.shape[1], looks.shape[2] - THUMBNAIL) for _ in range(2))
    ema.eval().requires_grad_(False)
    axes, std = principal(w - centre)
    encoder.centre.copy_(centre)
    encoder.frame.copy_(std[:, None] * axes)
    looks = torch.from_numpy(np.array(looks))  # [looks, faces, look]
    encoder.middle.copy_(looks[0].float().mean(dim=0))
    encoder.std.copy_(looks[0].float().std(dim=0) + 1e-3)
    ema.load_own(encoder.own())
    learning = [parameter for name, parameter in encoder.named_parameters() if not name.startswith("close_up.")]
    adam = torch.optim.AdamW(learning, lr=config.lr, weight_decay=config.decay)
    nets = {"encoder": encoder, "average": ema}
    first = restored(state, {part: net.load_own for part, net in nets.items()}, adam) if state else 0

    def state_after(done: int) -> dict[str, Tensor]:
        return state_of(done, {part: net.own() for part, net in nets.items()}, adam)

    variance = std.square().sum()
    for index in range(first, config.steps):
        rng = np.random.RandomState([config.seed, index])  # each step has its own: nothing else to remember
        faces, which = rng.randint(0, len(w), config.batch), rng.randint(0, len(looks), config.batch)
        warm, left = min(1.0, (index + 1) / 100), 1 - index / config.steps
        for group in adam.param_groups:
            group["lr"] = config.lr * warm * (0.5 - 0.5 * math.cos(math.pi * left))
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            torch.manual_seed(2**32 * config.seed + index)  # of the dropout
            guess = encoder.train().guess(looks[which, faces].float())
        error = (guess.float() - w[faces]).square().sum(dim=1).mean() / variance
        adam.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        adam.step()
        with torch.no_grad():
            keep = min(0.995, (index + 1) / (index + 10))
            for mine, latest in zip(ema.own().values(), encoder.own().values(), strict=True):
                mine.lerp_(latest, 1 - keep)
        yield EncoderStep(index, error.item(), ema, partial(state_after, index + 1))


def principal(away: W) -> tuple[Tensor, Tensor]:
    """The axes along which rows vary most, [w, w] a row each, and their spreads [w] (Pearson 1901)."""
    power, axes = torch.linalg.eigh(away.double().T @ away.double() / len(away))
    axes, power = axes.flip(1).T, power.flip(0)
    sign = torch.where(axes.gather(1, axes.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)  # or it would be left to chance
    return (sign * axes).float(), power.clamp_min(1e-8 * float(power[0])).sqrt().float()


@torch.no_grad()
def encoder_scores(
    encoder: Encoder, generator: Generator, identity: nn.Module, distance: nn.Module, seeds: range, psi: float
) -> dict[str, float]:
    """How near `generator.preview(encoder(picture))` comes to pictures whose w is known, beside what the average face reaches.

    Identity distance (its median, and the share below 0.6), PSNR, the perceptual `distance`, and the distance to the true w as a share
    of the way from the mean. `ms` is the median time of one photo, on the threads that torch was given.
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
        again = draw(broadcast(guess, generator.num_layers)).clamp(-1, 1)
        who = identity(torch.cat([photo, again, mean]))
        row |= {"identity": float(identity.distance(who[:1], who[1:2])), "mean_face": float(identity.distance(who[:1], who[2:]))}
        row |= {"psnr_db": float(10 * torch.log10(4 / (photo - again).square().mean())), "perceptual": float(distance(photo, again))}
        rows.append(row | {"w_distance": float((guess - true).norm() / (true - generator.w_mean).norm())})
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    scores = {"faces": len(rows)} | {f"{name}_below_0.6": (columns[name] < 0.6).mean() for name in ("identity", "mean_face")}
    scores |= {f"{name}_median": np.median(columns[name]) for name in ("identity", "mean_face", "ms")}
    scores |= {name: columns[name].mean() for name in ("psnr_db", "perceptual", "w_distance")}
    return {name: round(float(value), 3) for name, value in scores.items()}


def ship_encoder(out: Path, folder: Path, test_faces: int = 200, **chosen: int) -> None:
    """Draw faces, train an encoder on them, measure it on unseen ones, write it. All of it resumes from `folder`.

    `chosen` are fields of EncoderConfig, e.g. faces and steps.
    """
    config = EncoderConfig(**chosen)
    generator, eyes = load("faces"), close_up()
    pool = list(tqdm(draw_pool(generator, folder, config), total=config.faces, unit="face", desc="drawing"))[-1][0]
    with tqdm(total=config.looks * len(pool), unit="look", desc="looking") as bar:
        for looks, done in look_pool(Encoder(eyes).eval(), pool, folder, config):  # noqa: B007 (the last one is whole)
            bar.update(done - bar.n)
    kept, plan = folder / "training.safetensors", asdict(config)
    state, before = checkpoint.load(kept, "encoder in training") if kept.exists() else ({}, {"config": plan})
    if before["config"] != plan:
        raise CheckpointError(f"{kept} is a training with {before['config']}; {plan} was asked for. Delete it, or give another --pool.")
    steps = train_encoder(looks, pool_ws(generator, config), generator.w_mean, eyes, config, state)
    for step in progress(steps, config.steps, lambda step: f"error {step.error:.3f}"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == config.steps - 1:
            checkpoint.save(kept, step.state(), {"kind": "encoder in training", "config": plan})
    ema = {name: tensor for name, tensor in checkpoint.load(kept, "encoder in training")[0].items() if name.startswith("average.")}
    tensors = {name.removeprefix("average."): tensor.half() for name, tensor in ema.items()}
    encoder = Encoder(eyes, config.hidden, generator.w_dim).eval().requires_grad_(False)
    encoder.load_own(tensors)  # as the file will hold it: what is measured is what is shipped
    seeds, judges = range(UNSEEN, UNSEEN + test_faces), (load("identity"), load("perceptual"))
    description = {
        "kind": "encoder",
        "hidden": config.hidden,
        "trained": f"{config.faces} previews from seed {config.first_seed} at psi {config.psi:g}, {config.looks} looks at each, "
        f"{config.steps} steps of {config.batch}",
        "close_up": "dlib's identity network without its last layer (CC0), unchanged and not in this file: read from the assets",
        "config": plan,
        "command": f"dvlatent train encoder --out {out.name} --faces {config.faces} --steps {config.steps}",
        "licence": LICENSE,
        "scores": {f"previews at psi {psi:g}": encoder_scores(encoder, generator, *judges, seeds, psi) for psi in (0.7, 1.0)},
    }
    checkpoint.save(out, tensors, description)
    print(f"{out}: {description['scores']}", file=sys.stderr)
