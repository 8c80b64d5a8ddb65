"""Inversion in numbers: how like the photo, how near to the true w, how well it edits, and how long it takes.

    python benchmarks/inversion.py [astronaut] [own] [encoder] [classical] [bad] [person] [--faces 100] [--threads 2]

All pictures are full renders reduced to 256 px. Seconds are those of the wall clock, so nothing else should use the computer; seconds of
the processor, all cores together, stand behind them. Identity is dlib's network: unless a line says "blind", the search uses it too, and
a small distance there says less; "person" asks a second network, which no search has used (fetched by npm's client into build/readers).
Edits are scored by the judge, which neither the search nor the directions have used.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from skimage.data import astronaut
from torch import Tensor
from tqdm import tqdm

import dvlatent
from dvlatent import images
from dvlatent.errors import NoFace
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.inversion.optimizers import AdamConfig
from dvlatent.inversion.tune import TuneConfig, tune
from dvlatent.metrics.inversion import away_from_truth, describe, edited, editing_consistency, likeness
from dvlatent.stats import bootstrap

FIRST_SEED = 600_000  # faces that nothing of ours was trained on
OLDER = 2.0  # steps of the age direction


class Clock:
    """Seconds since it was made, of the wall clock and of the processor."""

    def __init__(self) -> None:
        self.wall, self.processor = time.monotonic(), time.process_time()

    def say(self, steps: int) -> str:
        """How long so many steps took."""
        return f"{steps:4} steps {time.monotonic() - self.wall:5.0f} s ({time.process_time() - self.processor:.0f} s)"


@dataclass
class House:
    """All networks."""

    faces: torch.nn.Module
    distance: torch.nn.Module
    identity: torch.nn.Module
    judge: torch.nn.Module
    age: dvlatent.Direction
    encoder: torch.nn.Module | None

    def find(self, photo: Tensor, config: InvertConfig, start: Tensor | None = None) -> tuple[Tensor, str]:
        """The ws of one photo, and how long it took."""
        clock = Clock()
        search = invert(self.faces, photo, config, distance=self.distance, identity=self.identity, start=start)
        step = deque(search, maxlen=1)[0]
        return step.ws, clock.say(step.index)

    def draw(self, ws: Tensor, generator: torch.nn.Module | None = None) -> Tensor:
        """The full render, reduced to 256 px."""
        return images.resize((generator or self.faces).synthesis(ws).clamp(-1, 1), 256)

    def show(self, name: str, ws: Tensor, photo: Tensor, took: str, generator: torch.nn.Module | None = None) -> None:
        """One line: likeness, and what the age edit does."""

        draw = partial(self.draw, generator=generator)
        now = likeness(draw(ws), photo, self.distance, self.identity)
        older = edited(draw, ws, photo, OLDER * self.age, self.judge, self.identity)
        years = f"{float(older.change('age').mean()):+.0f} years, identity {float(older.identity.mean()):.2f}"
        print(f"  {name:22} {took:27} {describe(now)}   age {OLDER:+g}: {years}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"astronaut": table, "own": own, "encoder": encoded, "classical": classical, "bad": bad, "person": person}
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)} (default: all but person)")
    parser.add_argument("--faces", type=int, default=100, help="how many generated faces in 'own' and 'encoder' (default 100)")
    parser.add_argument("--seconds", type=float, default=60, help="what the astronaut may take (default 60)")
    parser.add_argument("--steps", type=int, help="instead of seconds, and of 80 in 'own' and 'bad': for a busy computer")
    parser.add_argument("--bad", type=int, default=10, help="how many faces in 'bad' (default 10)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"there is no part {', '.join(unknown)}: choose among {', '.join(parts)}")
    torch.set_num_threads(arguments.threads)
    names = ("faces", "perceptual", "identity", "judge", "age-direction")
    encoder = dvlatent.load("encoder") if "encoder" in dvlatent.available() else None
    house = House(*[dvlatent.load(name) for name in names], encoder)
    for name in arguments.parts or [part for part in parts if part != "person"]:  # that part alone needs a network
        with torch.no_grad():
            parts[name](house, arguments)


def portrait() -> Tensor:
    """The public-domain portrait of an astronaut that scikit-image carries, aligned: [1, 3, 256, 256]."""
    return dvlatent.load("aligner")(images.from_uint8(astronaut()), size_px=256)[1]


def table(house: House, arguments: argparse.Namespace) -> None:
    """W, W+, encoder, encoder + W+, tuned: the astronaut."""
    photo = portrait()
    duration = {"steps": arguments.steps} if arguments.steps else {"seconds": arguments.seconds}
    print(f"The astronaut (perceived age {float(house.judge(photo)[0, 0]):.0f}; bar: 25 dB and identity below 0.5 in 60 s)")
    ways = {"W": {"space": "w"}, "W+": {}, "W+, Adam": {"optimizer": AdamConfig()}, "W+, blind": {"identity_weight": 0.0}}
    found = {}
    for name, changes in ways.items():
        found[name], took = house.find(photo, InvertConfig(**duration, **changes))
        house.show(name, found[name], photo, took)
    if house.encoder:
        began = time.monotonic()
        guess = dvlatent.broadcast(house.encoder(photo), house.faces.num_layers)
        house.show("encoder", guess, photo, f"{1000 * (time.monotonic() - began):.0f} ms")
        ws, took = house.find(photo, InvertConfig(**duration), start=guess)
        house.show("encoder + W+", ws, photo, took)
        ws, took = house.find(photo, InvertConfig(**duration, bf16=True), start=guess)
        house.show("encoder + W+, bf16", ws, photo, took)
    clock = Clock()
    *_, step = tune(house.faces, photo, found["W+"], TuneConfig(), distance=house.distance, identity=house.identity)
    house.show("W+, tuned", found["W+"], photo, clock.say(step.index), step.tuned)
    quick = InvertConfig(steps=100)
    change = editing_consistency(house.draw, found["W+"], OLDER * house.age, lambda picture: house.find(picture, quick)[0], house.distance)
    print(f"  edit, invert again, undo: perceptual distance {float(change):.3f}")


def unseen(house: House, faces: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Unseen faces: ws and preview of each."""
    for seed in tqdm(range(FIRST_SEED, FIRST_SEED + faces), unit="face"):
        w = house.faces.mapping(dvlatent.normal(seed, house.faces.z_dim))
        ws = dvlatent.broadcast(dvlatent.truncate(w, toward=house.faces.w_mean, psi=0.7), house.faces.num_layers)
        yield ws, house.faces.preview(ws).clamp(-1, 1)


def own(house: House, arguments: argparse.Namespace) -> None:
    """The generator's own faces, whose true w is known."""
    steps = arguments.steps or InvertConfig().steps
    print(f"{arguments.faces} of the generator's own faces, W, {steps} steps (bar: relative distance to the true w at most 0.3)")
    away, like = [], []
    for ws, photo in unseen(house, arguments.faces):
        start = house.encoder(photo) if house.encoder else None
        found, _ = house.find(photo, InvertConfig(steps=steps, space="w", mean_weight=0.0025), start)
        away.append(float(away_from_truth(found, ws, house.faces.w_mean)))
        like.append(float(likeness(house.draw(found), house.draw(ws)).psnr_db))
    print(f"  relative distance: mean {bootstrap(np.array(away))}, median {np.median(away):.3f}, worst {max(away):.3f}")
    print(f"  {np.mean(like):.1f} dB on average")
    print("  stuck on the way (above 0.5): seeds", ", ".join(str(FIRST_SEED + at) for at, far in enumerate(away) if far > 0.5) or "none")


def encoded(house: House, arguments: argparse.Namespace) -> None:
    """60 steps from the encoder against 300 from the mean."""
    if house.encoder is None:
        print("There is no encoder here: nothing to compare.")
        return
    print(f"{arguments.faces} faces: 60 steps from the encoder against 300 from the mean (bar: as good in a quarter of the time)")
    rows: dict[str, list[list[float]]] = {"encoder alone": [], "encoder + 60": [], "mean + 300": []}
    for _, photo in unseen(house, arguments.faces):
        first = dvlatent.broadcast(house.encoder(photo), house.faces.num_layers)
        found = {"encoder alone": first, "encoder + 60": house.find(photo, InvertConfig(steps=60), first)[0]}
        found["mean + 300"] = house.find(photo, InvertConfig(steps=300))[0]
        for name, ws in found.items():
            now = likeness(house.draw(ws), photo, house.distance, house.identity)
            older = edited(house.draw, ws, photo, OLDER * house.age, house.judge, house.identity)
            rows[name].append([float(x) for x in (now.psnr_db, now.perceptual, now.identity, older.change("age"), older.identity)])
    for name, values in rows.items():
        psnr, perceptual, identity, years, kept = np.mean(values, axis=0)
        line = f"{psnr:5.1f} dB, perceptual {perceptual:.3f}, identity {identity:.2f}"
        print(f"  {name:16} {line}; older: {years:+.0f} years, identity {kept:.2f}")
    below = np.mean([row[2] < 0.6 for row in rows["encoder alone"]])
    print(f"  encoder alone: {below:.0%} are the same person (bar: 70 %)")


def classical(house: House, arguments: argparse.Namespace) -> None:
    """Against the projector of StyleGAN2 (Karras et al. 2020, appendix D) on the same generator and features."""
    photo = portrait()
    print("The astronaut: ours against the classical projector's settings (bar: better identity in a fifth of the time)")
    for steps in (60, 100):
        ws, took = house.find(photo, InvertConfig(steps=steps))
        house.show(f"ours, {steps} steps", ws, photo, took)
        ws, took = house.find(photo, InvertConfig(steps=steps, identity_weight=0.0))
        house.show(f"ours, {steps} steps, blind", ws, photo, took)
    clock = Clock()
    ws = projected(house.faces, photo, house.distance)
    house.show("classical, 1000 steps", ws, photo, clock.say(1000))


@torch.enable_grad()
def projected(generator: torch.nn.Module, photo: Tensor, distance: torch.nn.Module, steps: int = 1000) -> Tensor:
    """The classical settings: one w, Adam at 0.1 with its ramps, noise on w for three quarters of the steps, perceptual distance only."""
    sample = generator.mapping(dvlatent.normal(range(10_000), generator.z_dim))
    std = float((sample - generator.w_mean).square().sum(dim=1).mean().sqrt())
    w = generator.w_mean[None].clone().requires_grad_()
    adam, rng = torch.optim.Adam([w], betas=(0.9, 0.999)), torch.Generator().manual_seed(0)
    target = tuple(feature.detach() for feature in distance.features(photo))
    for index in tqdm(range(steps)):
        t = index / steps
        ramp = 0.5 - 0.5 * math.cos(math.pi * min(1, (1 - t) / 0.25))
        adam.param_groups[0]["lr"] = 0.1 * ramp * min(1, t / 0.05)
        noise = 0.05 * std * max(0, 1 - t / 0.75) ** 2 * torch.randn(w.shape, generator=rng)
        loss = distance(generator.preview(dvlatent.broadcast(w + noise, generator.num_layers)), target).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return dvlatent.broadcast(w.detach(), generator.num_layers)


def bad(house: House, arguments: argparse.Namespace) -> None:
    """Generated faces, photographed badly: turned, dark and compressed. Is the same person found?"""
    aligner, rng = dvlatent.load("aligner"), np.random.RandomState(0)
    how = "turned up to 20 degrees, half as bright, JPEG at quality 30"
    print(f"{arguments.bad} generated faces photographed badly ({how}), {arguments.steps or InvertConfig().steps} steps")
    for seed in range(FIRST_SEED + 1000, FIRST_SEED + 1000 + arguments.bad):
        w = dvlatent.truncate(house.faces.mapping(dvlatent.normal(seed, 512)), toward=house.faces.w_mean, psi=0.7)
        clean = house.faces.synthesis(dvlatent.broadcast(w, house.faces.num_layers))
        angle = rng.uniform(-20, 20)
        try:
            _, photo = aligner(photographed(clean, angle), size_px=256)
        except NoFace as reason:
            print(f"  seed {seed}: {reason}")
            continue
        start = house.encoder(photo) if house.encoder else None
        ws, took = house.find(photo, InvertConfig(steps=arguments.steps or InvertConfig().steps), start)
        picture = house.draw(ws)
        identity = float((house.identity(picture) - house.identity(clean)).norm())
        line = describe(likeness(picture, photo, house.distance, house.identity))
        print(f"  seed {seed}, {angle:+3.0f} degrees: {took} {line}; from the clean face: identity {identity:.2f}", flush=True)


def person(house: House, arguments: argparse.Namespace) -> None:
    """Is it still she? With and without the identity loss, marked by the search's network and by one that no search has used."""
    sys.path.append(str(Path(__file__).parent.parent / "recipes"))
    from tfjs import FACERES, HUMAN, Features, fetch  # what a recipe reads other networks with

    photo, features = portrait(), Features(*fetch(HUMAN, FACERES, Path("build/readers")))
    mine, start = features(photo), dvlatent.broadcast(house.encoder(photo), house.faces.num_layers)
    w = house.faces.mapping(dvlatent.normal(range(330_000, 330_200), house.faces.z_dim))
    ws = dvlatent.broadcast(dvlatent.truncate(w, toward=house.faces.w_mean, psi=0.7), house.faces.num_layers)
    strangers = torch.cat([features(house.faces.preview(some)) @ mine[0] for some in ws.split(8)])
    print(f"200 strangers: cosine to the photo {strangers.mean():.2f} on average, {strangers.max():.2f} at most")

    def show(name: str, picture: Tensor) -> None:
        marks = float(features(picture) @ mine[0]), float((house.identity(picture) - house.identity(photo)).norm())
        print(f"  {name:28} cosine {marks[0]:.2f}   identity {marks[1]:.2f}   {describe(likeness(picture, photo))}", flush=True)

    show("encoder", house.draw(start))
    found = {}
    for name, weight in {"with the identity loss": InvertConfig().identity_weight, "without": 0.0}.items():
        in_w, _ = house.find(photo, InvertConfig(steps=30, space="w", identity_weight=weight), start)
        show(f"W, {name}", house.draw(in_w))
        show(f"W+, {name}", house.draw(house.find(photo, InvertConfig(steps=24, split_after=0, identity_weight=weight), in_w)[0]))
        found[name] = in_w
    config, point = TuneConfig(steps=15, lr=3e-3, preview=True, locality_weight=0), found["with the identity loss"]
    *_, step = tune(house.faces, photo, point, config, distance=house.distance, identity=house.identity)
    show("W, tuned", house.draw(point, step.tuned))


def photographed(face: Tensor, angle: float) -> Tensor:
    """A face on a wider, gray picture, turned, darkened, saved small and read again."""
    picture = Pillow.fromarray(images.to_uint8(images.resize(face, 512))[0])
    wide = Pillow.new("RGB", (900, 800), (120, 120, 120))
    wide.paste(picture, (194, 144))
    dark = wide.rotate(angle, Pillow.Resampling.BICUBIC, fillcolor=(120, 120, 120)).point(lambda level: level // 2)
    file = io.BytesIO()
    dark.save(file, "JPEG", quality=30)
    return images.read(file)


if __name__ == "__main__":
    main()
