"""Train ProgressiveGAN, BigGAN or StackGAN: `python recipes/gan_family.py --out progressive.safetensors` (20 minutes each).

`--member` says which: progressive (faces of 32 px; it also trains the same network without growing for as long, and writes samples of
both to progressive-growth.safetensors), biggan (digits), or stackgan (faces of 64 px and captions). The faces are kept in `--pool`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import DIGITS_LICENSE, LICENSE, command, face_pixels, half, parser, run
from torch import Tensor, nn

from dvlatent import checkpoint, images
from dvlatent.editing import survey
from dvlatent.errors import ShapeError
from dvlatent.gan.biggan import BigDiscriminator, BigGAN, orthogonal_penalty
from dvlatent.gan.progressive import ProgressiveDiscriminator, ProgressiveGAN, level_at
from dvlatent.gan.stackgan import StackDiscriminator, StageOne, StageTwo, caption, tokens
from dvlatent.gan.train import TrainConfig, TrainStep, train
from dvlatent.latents import normal
from dvlatent.metrics.features import frechet, picture_features
from dvlatent.training import progress
from dvlatent.types import Image
from dvlatent.zoo import load

SIDE_PX, COMPARED, SHOWN = 64, 500, 36  # of the faces in the pool; faces in a distance; faces that the record keeps
CHECK, KIMG = 150, 4.0  # steps from one saved state to the next; thousand pictures in which a new size fades in, and as many to settle


def make(out: Path, pool: Path, member: str = "progressive", faces: int = 20_000, steps: int = 6000) -> None:
    """Train one member of the family and write the moving average of its generator."""
    members: dict[str, Callable[..., None]] = {"progressive": progressive, "biggan": biggan, "stackgan": stackgan}
    if member not in members:
        raise ShapeError(f"there is no member '{member}': say --member {', '.join(members)}.")
    about = {"command": command("gan_family", out, member=member, faces=faces, steps=steps), "kind": member}
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # its cache would keep old biases from step to step
        members[member](out, pool, faces, steps, about)


def progressive(out: Path, pool: Path, faces: int, steps: int, about: dict[str, Any]) -> None:
    """With growing for so many steps; without, for as many seconds of the processor."""
    real, record = face_pictures(pool, faces, 32), out.with_name(f"{out.stem}-growth.safetensors")
    config = TrainConfig(steps=steps, batch=32, lazy=16, ema_images=10_000)
    sheets, growth = checkpoint.load(record, "growth") if record.exists() else ({}, {"curves": {}})
    curves, limit = growth["curves"], float("inf")
    for name in ("growing", "at_once"):
        torch.manual_seed(0)
        networks = ProgressiveGAN(), ProgressiveDiscriminator()
        last = len(networks[0].blocks) - 1
        curve = curves.setdefault(name, [])
        for network in networks:
            network.level.fill_(0 if name == "growing" else last)
        seconds, began = None, time.process_time()
        for step in kept_training(out, name, networks, real, config):
            if seconds is None:  # a run that goes on does its last steps again
                curve[:] = [row for row in curve if row[1] < step.images]
                sheets, seconds = {**sheets, name: sheets.get(name, torch.empty(0))[: len(curve)]}, curve[-1][0] if curve else 0.0
            for network in networks:
                network.level.fill_(level_at(step.images, last, KIMG) if name == "growing" else last)
            seconds += time.process_time() - began
            done = step.index + 1 == config.steps or seconds >= limit
            if done or (step.index + 1) % CHECK == 0:
                samples = draw(step.ema, SHOWN)
                curve.append([round(seconds), step.images])
                sheet = torch.from_numpy(images.to_uint8(in_squares(samples, 32 // samples.shape[-1])))[None]
                sheets[name] = torch.cat([sheets[name], sheet]) if len(sheets[name]) else sheet
                checkpoint.save(record, sheets, {**about, "kind": "growth", "licence": LICENSE, "curves": curves})
                grid(out, samples, f"{name}-{step.index + 1}")
            if done:
                break
            began = time.process_time()
        limit = seconds
        if name == "growing":
            scores = {"frechet": distance_to(real, draw(step.ema, COMPARED)), "frechet_real": distance_to(real, real[:COMPARED])}
            write(out, step, about, LICENSE, config, {**scores, "faces": COMPARED})


def biggan(out: Path, pool: Path, faces: int, steps: int, about: dict[str, Any]) -> None:
    """On digits, which need no pool."""
    seen, _ = load("mnist").split()
    classifier, labels = load("digit-classifier"), torch.arange(2000) % 10
    rates = {"lr": 2e-4, "discriminator_lr": 4e-4, "beta2": 0.999}
    config = TrainConfig(steps=steps, batch=32, loss="hinge", **rates, penalty=0.0, ema_images=10_000)
    torch.manual_seed(0)
    more = {"labels": seen.labels, "regularizer": orthogonal_penalty}
    for step in kept_training(out, "digits", (BigGAN(), BigDiscriminator()), seen.images, config, **more):
        if (step.index + 1) % CHECK == 0:
            grid(out, draw(step.ema, 60, labels).expand(-1, 3, -1, -1), str(step.index + 1))
    with torch.no_grad():
        samples = draw(step.ema, 2000, labels)
        right = classifier(samples).gather(1, labels[:, None])[:, 0]
        features = [classifier.features(part[:2000]).float() for part in (seen.images, samples)]
    sure = round(float((right >= 0.9).float().mean()), 4)
    write(out, step, about, DIGITS_LICENSE, config, {"digits": 2000, "right_at_0.9": sure, "frechet": round(float(frechet(*features)), 3)})


def stackgan(out: Path, pool: Path, faces: int, steps: int, about: dict[str, Any]) -> None:
    """Stage I, then stage II on top of it for twice as many steps, of half as many pictures. Captions come from the scores."""
    population = survey.load(survey.SHIPPED)
    columns = [population.column(name)[:faces].tolist() for name in ("age", "male", "smile", "yaw")]
    captions = tokens([caption(*scores) for scores in zip(*columns, strict=True)])
    stage_one, scores, attributes = None, {}, load("attributes")
    for side in (16, 64):
        real = face_pictures(pool, faces, side)
        torch.manual_seed(0)
        networks = (
            (StageTwo(stage_one), StackDiscriminator((32, 64, 96, 128), patch=2)) if stage_one else (StageOne(), StackDiscriminator())
        )
        size = {"steps": steps, "batch": 32} if side == 16 else {"steps": 2 * steps, "batch": 16}
        config = TrainConfig(**size, lazy=8, ema_images=10_000, mismatched=True)
        more = {"labels": captions, "regularizer": lambda net: net.caption.kl}
        for step in kept_training(out, f"{side}px", networks, real, config, **more):
            if (step.index + 1) % CHECK == 0:
                grid(out, draw(step.ema, 48, captions), f"{side}-{step.index + 1}")
        stage_one = step.ema
        samples, asked = draw(step.ema, COMPARED, captions), captions[:COMPARED]
        age, male = attributes(images.resize(samples, SIDE_PX)).T
        scores[f"{side}_px"] = {
            "frechet": distance_to(face_pictures(pool, faces, SIDE_PX), samples),
            "gender_as_asked": round(float(((male > 0.5) == (asked[:, 1] == 5)).float().mean()), 3),
            "age": {word: round(float(age[asked[:, 0] == at].mean()), 1) for at, word in ((1, "young"), (2, "grown"), (3, "old"))},
        }
    write(out, step, about, LICENSE, config, {**scores, "faces": COMPARED})


def kept_training(
    out: Path, name: str, networks: tuple[nn.Module, nn.Module], real: Tensor, config: TrainConfig, **more: Any
) -> Iterator[TrainStep]:
    """`train`, kept beside `out` every `CHECK` steps: the same command goes on from there, also to more or fewer `steps`."""
    kept = out.with_name(f"{out.stem}-{name}.run.safetensors")
    training = train(*networks, real, config, resume=kept if kept.exists() else None, **more)
    words = lambda step: f"real {step.real_score:.1f}, samples {step.fake_score:.1f}"  # noqa: E731
    yield from progress(training, config.steps, words, save=kept, every=CHECK)


def face_pictures(pool: Path, faces: int, side: int) -> Tensor:
    """The survey's first faces, previews reduced to `side` pixels: [face, 3, side, side], 16-bit floats. The pool resumes."""
    pixels = face_pixels(pool, faces, SIDE_PX)
    small = torch.empty(faces, 3, side, side, dtype=torch.float16)
    for first in range(0, faces, 1000):
        small[first : first + 1000] = images.resize(images.from_uint8(pixels[first : first + 1000]), side).half()
    return small


def distance_to(real: Tensor, fake: Image) -> float:
    """Fréchet distance of samples from as many real faces, in the features of the perceptual network at 64 px."""
    distance, sides = load("perceptual"), (real[-len(fake) :], fake)
    with torch.autocast("cpu", enabled=False):
        clouds = [picture_features((part.float() for part in many.split(20)), distance, SIDE_PX) for many in sides]
    return round(float(frechet(*clouds)), 4)


@torch.no_grad()
def draw(generator: nn.Module, count: int, labels: Tensor | None = None) -> Image:
    """Pictures of the seeds from 0, with the first labels if there are any."""
    rows = torch.arange(count).split(50)
    condition: Callable[[Tensor], Iterator[Tensor]] = lambda part: iter([labels[part]] if labels is not None else [])  # noqa: E731
    return torch.cat([generator(normal(part.tolist(), generator.z_dim), *condition(part)).float() for part in rows])


def grid(out: Path, samples: Image, name: str) -> None:
    """Write a sheet of samples beside `out`, to be looked at."""
    images.write(images.grid(in_squares(samples, 2), 12), out.with_name(f"{out.stem}-{name}.png"))


def in_squares(image: Image, times: int) -> Image:
    """Enlarged, every pixel a square: [batch, 3, side, side] -> [batch, 3, times * side, times * side]."""
    return image.repeat_interleave(times, 2).repeat_interleave(times, 3)


def write(out: Path, step: TrainStep, about: dict[str, Any], licence: str, config: TrainConfig, scores: dict[str, Any]) -> None:
    """The moving average of a generator with its command and scores."""
    description = {**about, "config": vars(config), "steps_done": step.index + 1, "licence": licence, "scores": scores}
    checkpoint.save(out, half(step.ema), description)
    print(f"{out}: {scores}", file=sys.stderr)


if __name__ == "__main__":
    kept = "The run is kept beside --out every 150 steps and the faces in --pool; the same command goes on from there."
    sys.exit(run(make, parser(__doc__, pool=Path("build/family"), member="progressive", faces=20_000, steps=6000), kept=kept))
