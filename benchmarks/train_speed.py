"""How fast a GAN is trained, in pictures a second: our loop, a plain loop on the same networks, and the common DCGAN recipe.

`python benchmarks/train_speed.py`; `run.py` prints the same rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from dvlatent import load
from dvlatent.gan.digits import DigitDiscriminator, DigitGenerator
from dvlatent.gan.train import TrainConfig, train

BATCH, STEPS, ROUNDS = 64, 12, 5  # a multiple of the 4 steps between two penalties


def ours(images: torch.Tensor, **change: float) -> Iterator[object]:
    """Our loop as it is: penalty every fourth step, average, all numbers checked and told."""
    torch.manual_seed(0)
    return train(DigitGenerator(32, classes=0), DigitDiscriminator(16, classes=0), images, TrainConfig(steps=10**9, batch=BATCH, **change))


def plain(images: torch.Tensor) -> Iterator[object]:
    """The same networks, the shortest loop that one would write: no penalty, no average, nothing looked at."""
    torch.manual_seed(0)
    generator, discriminator = DigitGenerator(32, classes=0), DigitDiscriminator(16, classes=0)
    adam_g, adam_c = (torch.optim.Adam(net.parameters(), 2e-3, betas=(0.0, 0.99)) for net in (generator, discriminator))
    while True:
        real, fake = images[torch.randint(len(images), (BATCH,))], generator(torch.randn(BATCH, 64))
        loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        adam_c.zero_grad()
        loss.backward()
        adam_c.step()
        adam_g.zero_grad()
        F.softplus(-discriminator(generator(torch.randn(BATCH, 64)))).mean().backward()
        adam_g.step()
        yield


def dcgan(images: torch.Tensor) -> Iterator[object]:
    """The recipe of the usual tutorials for 28x28 (Radford et al. 2016): z of 100, 5x5 convolutions of 256, 128, 64, batch norm."""
    torch.manual_seed(0)
    up = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1, "bias": False}
    generator = nn.Sequential(
        nn.Linear(100, 256 * 49, bias=False), nn.BatchNorm1d(256 * 49), nn.LeakyReLU(0.3), nn.Unflatten(1, (256, 7, 7)),
        nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(128, 64, **up), nn.BatchNorm2d(64), nn.LeakyReLU(0.3), nn.ConvTranspose2d(64, 1, **up), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 5, stride=2, padding=2), nn.LeakyReLU(0.3), nn.Dropout(0.3),
        nn.Conv2d(64, 128, 5, stride=2, padding=2), nn.LeakyReLU(0.3), nn.Dropout(0.3), nn.Flatten(), nn.Linear(128 * 49, 1),
    )  # fmt: skip
    adam_g, adam_c = (torch.optim.Adam(net.parameters(), 1e-4) for net in (generator, discriminator))
    say, one, zero = nn.BCEWithLogitsLoss(), torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    while True:
        real, fake = images[torch.randint(len(images), (BATCH,))], generator(torch.randn(BATCH, 100))
        adam_c.zero_grad()
        (say(discriminator(real), one) + say(discriminator(fake.detach()), zero)).backward()
        adam_c.step()
        adam_g.zero_grad()
        say(discriminator(fake), one).backward()
        adam_g.step()
        yield


def seconds_for(*loops: Callable[[], Iterator[object]]) -> list[float]:
    """Least seconds for STEPS steps of each loop, the loops taking turns."""
    state, times = [loop() for loop in loops], [[] for _ in loops]
    for turn in range(ROUNDS + 1):
        for loop, mine in zip(state, times, strict=True):
            start = time.perf_counter()
            for _ in range(STEPS):
                next(loop)
            if turn:  # the first is a warm-up
                mine.append(time.perf_counter() - start)
    return [min(mine) for mine in times]


def rows() -> Iterator[tuple[str, float, float | None, str, str]]:
    """What, ours, the peer's, bar, unit: a ratio above 1 means that ours is faster."""
    images = load("mnist").split()[0].images
    loops = (lambda: ours(images), lambda: ours(images, penalty=0.0, ema_images=0.0), lambda: plain(images), lambda: dcgan(images))
    full, bare, peer, recipe = (STEPS * BATCH / took for took in seconds_for(*loops))
    yield "digit GAN, pictures a second, against a plain loop without penalty", full, peer, "", "/"
    yield "the same without penalty and average, against the plain loop", bare, peer, ">= 0.9", "/"
    yield "digit GAN, pictures a second, against the usual DCGAN recipe", full, recipe, ">= 2", "/"


def main() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    for what, ours_, peer, bar, _ in rows():
        print(f"{what:70} {ours_:7.0f} {peer:7.0f} {ours_ / peer:6.2f}   {bar}")


if __name__ == "__main__":
    main()
