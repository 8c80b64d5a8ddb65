"""A generator of your own pictures on the command line: `dvlatent train-gan`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dvlatent.cli.arguments import check_folder, check_out, command_of, real
from dvlatent.errors import ShapeError

RESOLUTIONS = [32 << i for i in range(6)]  # 32 to 1024
SHEET = 40  # pictures on a sample grid, in rows of 10
SEEDS = 1_000_000  # pictures that are measured have seeds from here on


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    train = commands.add_parser("train-gan", help="train a StyleGAN2 of your own on a folder or a zip file of pictures")
    train.description = (
        "Train a StyleGAN2 on pictures that look alike, such as faces that are cut out alike; thousands are needed for variety. Several "
        "processes: accelerate launch --num_processes 2 -m dvlatent train-gan ..."
    )
    train.add_argument("pictures", type=Path, metavar="DIR", help="a folder, with those below it, or a zip file")
    train.add_argument("--resolution", type=int, choices=RESOLUTIONS, default=64, metavar="PX", help="side of the pictures (default 64)")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets network.safetensors, sample grids, and the run itself")
    train.add_argument("--kimg", type=real, default=1000, metavar="N", help="thousands of pictures to see (default 1000)")
    train.add_argument("--batch", type=int, default=16, metavar="N", help="pictures in a step (default 16)")
    train.add_argument("--lr", type=real, default=2.5e-3, metavar="N", help="learning rate of both networks (default 0.0025)")
    train.add_argument("--gamma", type=real, default=0.0, metavar="N", help="weight of R1 (default 0.0002 * resolution**2 / batch)")
    words = "augment more when the mean sign of real scores is above this; 1 never does (default 0.6)"
    train.add_argument("--ada-target", type=real, default=0.6, metavar="N", help=words)
    train.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True, help="show half of the pictures mirrored")
    train.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="convolutions in 16-bit numbers (default: yes)")
    words = "channels times pixels of a layer, and most channels of it (default 2048 and 128: small enough for a CPU)"
    train.add_argument("--channels", type=int, nargs=2, default=[2048, 128], metavar=("BASE", "MAX"), help=words)
    train.add_argument("--every", type=int, default=500, metavar="N", help="steps from one checkpoint to the next (default 500)")
    train.add_argument("--samples", type=int, default=2000, metavar="N", help="pictures in the Fréchet distance (default 2000)")
    train.add_argument("--random-seed", type=int, default=0, metavar="N", help="of everything that is drawn (default 0)")
    kept = "The run is kept in --out every --every steps; the same command goes on from there."
    train.set_defaults(run=_train, resume=kept)


def _train(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dvlatent.gan.pictures import read_pictures
    from dvlatent.stylegan.stylegan2_train import StyleGAN2TrainConfig, sizes_for
    from dvlatent.training import accelerated, finish

    given, accelerator = vars(arguments), accelerated()
    quiet = accelerator is not None and not accelerator.is_main_process
    if min(arguments.batch, arguments.every, arguments.samples, arguments.kimg, arguments.lr, *arguments.channels) <= 0:
        raise ShapeError("--kimg, --batch, --lr, --channels, --every and --samples must all lie above 0.")
    check_folder(arguments.out)
    check_out(arguments.out / "network.safetensors", (arguments.out / "training.safetensors").exists())
    sizes = sizes_for(arguments.resolution, *arguments.channels)
    same = {name: given[name] for name in ("batch", "lr", "gamma", "ada_target", "mirror", "bf16")}
    steps = max(round(1000 * arguments.kimg / arguments.batch), 1)
    config = StyleGAN2TrainConfig(steps=steps, seed=arguments.random_seed, **same)
    pictures, left_out = read_pictures(
        arguments.pictures, arguments.resolution, lambda found: tqdm(found, unit="picture", desc="reading", disable=quiet)
    )
    if not quiet:
        print("\n".join([f"{len(pictures):,} pictures; {len(left_out)} left out", *left_out[:10]]), file=sys.stderr)
    about = {"command": command_of(arguments)}
    train_network(
        pictures, arguments.out, sizes, config, every=arguments.every, samples=arguments.samples, about=about, accelerator=accelerator
    )
    finish(accelerator)
    return 0


def train_network(
    pictures: Any, out: Path, sizes: Any, config: Any, *, every: int, samples: int, about: dict[str, Any], accelerator: Any = None
) -> dict[str, Any]:
    """Train a StyleGAN2 into a folder, go on from the run in it if there is one, and measure it; gives the scores of the last state.

    `pictures` are uint8 [picture, side, side, 3]. Every so many steps the folder gets the run (training.safetensors), the moving average
    (network.safetensors) and a sample grid, and a line is printed.
    """
    import torch

    from dvlatent import checkpoint, images
    from dvlatent.stylegan.stylegan2 import StyleGAN2
    from dvlatent.stylegan.stylegan2_train import Discriminator, train_stylegan2
    from dvlatent.training import device_of, progress

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device, first = device_of(accelerator), accelerator is None or accelerator.is_main_process
    generator, discriminator = StyleGAN2(sizes).to(device), Discriminator(sizes).to(device)
    run, measure, scores = out / "training.safetensors", None, {}
    steps = train_stylegan2(generator, discriminator, pictures, config, resume=run if run.exists() else None, accelerator=accelerator)
    for step in progress(steps, config.steps, lambda step: f"D {step.discriminator_loss:.2f} G {step.generator_loss:.2f}", quiet=not first):
        if first and ((step.index + 1) % every == 0 or step.index + 1 == config.steps):
            measure = measure or measure_of(pictures, samples)
            scores = {"images_seen": step.images, **measure(step.ema)}
            step.save(run)
            half = {name: value.half() for name, value in step.ema.state_dict().items()}
            described = {"kind": "stylegan2", "config": asdict(sizes), "training": asdict(config), "scores": scores, **about}
            checkpoint.save(out / "network.safetensors", half, described)
            images.write(images.grid(torch.cat([*rendered(step.ema, range(SHEET))]), columns=10), out / f"samples-{step.index + 1:06d}.jpg")
            print(f"\r{step.images:,} pictures seen: {scores}", file=sys.stderr)
    return scores


def rendered(generator: Any, seeds: Sequence[int], psi: float = 1.0, batch: int = 20) -> Iterator[Any]:
    """The pictures of seeds, in batches on the CPU."""
    import torch

    from dvlatent.latents import broadcast, w_of

    with torch.no_grad():
        for at in range(0, len(seeds), batch):
            yield generator.synthesis(broadcast(w_of(generator, seeds[at : at + batch], psi), generator.num_layers)).cpu()


def measure_of(pictures: Any, samples: int) -> Callable[[Any], dict[str, float]]:
    """A function that compares as many generated pictures with real ones: the Fréchet distance in features of EfficientNet-Lite0.

    `real_against_real` compares two halves of the real ones: nobody comes below. All have the same number of samples.
    """
    import numpy as np

    from dvlatent import images
    from dvlatent.metrics.features import frechet, picture_features
    from dvlatent.zoo import load

    samples, distance = min(samples, len(pictures) // 2), load("perceptual")
    order = np.random.RandomState(0).permutation(len(pictures))[: 2 * samples]
    real = picture_features((images.from_uint8(np.asarray(pictures[order[at : at + 20]])) for at in range(0, 2 * samples, 20)), distance)
    beside = frechet(real[:samples], real[samples:]).value

    def measure(generator: Any) -> dict[str, float]:
        fake = picture_features(rendered(generator, range(SEEDS, SEEDS + samples)), distance)
        value = frechet(real[:samples], fake).value
        return {"frechet": round(value, 4), "real_against_real": round(beside, 4), "samples": samples}

    return measure
