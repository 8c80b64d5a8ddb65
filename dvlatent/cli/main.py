"""The command line: `dvlatent COMMAND`. Every command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dvlatent.cli.distill import add as add_distill_command
from dvlatent.cli.editing import add as add_commands
from dvlatent.cli.editing import numbers
from dvlatent.cli.filters import add as add_filter_commands
from dvlatent.cli.inversion import add as add_invert_commands
from dvlatent.errors import DvlatentError

WELCOME = """dvlatent turns dice into faces, faces into coordinates, and coordinates into edits.

Start here:
  dvlatent assets              fetch the pretrained networks (once, about 200 MB)
  jupyter lab notebooks/       open 00_start_here.ipynb
"""

TRAINED = (
    "w-mean (seconds), space (10 minutes), preview (two hours), judge (an hour), digits (50 minutes), digit-classifier (3 minutes), "
    "digit-map (a minute), face-map (5, after an hour of drawing), cyclegan (an hour) or encoder (10 minutes, after two hours of drawing)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 refused (one sentence on stderr), 130 or 143 stopped."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(argv)
    arguments = parser.parse_args(argv)
    if "run" not in arguments:
        parser.print_help()
        return 0
    try:
        with _terminate_like_interrupt():
            return arguments.run(arguments) or 0
    except DvlatentError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt as stop:
        _say(f"Stopped. {arguments.resume}")
        return 143 if isinstance(stop, Terminated) else 130


class Terminated(KeyboardInterrupt):
    """SIGTERM: what was begun is cleaned up as after Ctrl-C."""


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="dvlatent", description=WELCOME, formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"dvlatent {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    assets = commands.add_parser("assets", help="fetch, check or repair the pretrained networks and data")
    assets.description = "Fetch what is missing or damaged of the pretrained networks and data. Safe to interrupt and to run twice."
    assets.epilog = "They lie in the platform's cache folder, or in $DVLATENT_HOME."
    what = assets.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only compare every file with its hash; exit code 1 if one is wrong")
    what.add_argument("--where", action="store_true", help="only print the folder")
    assets.set_defaults(run=_assets, resume="What is complete is kept; run `dvlatent assets` again to go on from there.")

    generate = commands.add_parser("generate", help="render faces from seeds")
    several = "one seed or several: 85, 3,5,8 or 10-20 (default 85)"
    generate.add_argument("--seed", type=numbers, default=[85], metavar="N[-M][,...]", help=several)
    generate.add_argument("--psi", type=float, default=0.7, help="truncation: 0 is the average face, 1 the whole variety (default 0.7)")
    generate.add_argument("--out", type=Path, default=Path("face.png"), help="a .png, .jpg or .webp file; several seeds go side by side")
    generate.set_defaults(run=_generate, resume="Nothing was written.")

    add_commands(commands, argv)
    add_invert_commands(commands)
    add_filter_commands(commands, argv)
    add_distill_command(commands)

    train = commands.add_parser("train", help="train again what we ship")
    ours = ["w-mean", "space", "age-edit", "preview", "judge", "encoder", "cyclegan", "digits", "digit-classifier", "digit-map", "face-map"]
    train.add_argument("what", choices=ours, help=TRAINED)
    train.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    train.add_argument("--faces", type=int, help="training faces; for w-mean, vectors")
    train.add_argument("--steps", type=int, help="optimiser steps")
    train.add_argument("--pool", type=Path, help="folder for rendered faces (default build/WHAT; a preview needs 8.8 MB a face)")
    train.set_defaults(run=_train, resume="Rendered faces are kept in the --pool folder; the same command goes on from them.")
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.latents import broadcast, normal, truncate
    from dvlatent.zoo import load

    faces = load("faces")
    ws = truncate(broadcast(faces.mapping(normal(arguments.seed, faces.z_dim)), faces.num_layers), toward=faces.w_mean, psi=arguments.psi)
    pictures = [faces.synthesis(one) for one in tqdm(ws.split(1), unit="face", disable=len(ws) < 8)]
    images.write(images.grid(torch.cat(pictures)) if len(pictures) > 1 else pictures[0], arguments.out)
    print(f"{arguments.out}: seed {', '.join(map(str, arguments.seed))} at psi {arguments.psi:g}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    import ship
    from judge_report import ship_judge

    chosen = {name: value for name in ("faces", "steps") if (value := getattr(arguments, name)) is not None}
    pool = arguments.pool or Path("build") / arguments.what
    if arguments.what.endswith("-map"):
        from maps import ship_digit_map, ship_face_map

        if arguments.what == "face-map":
            ship_face_map(arguments.out, pool, **chosen)
        else:
            ship_digit_map(arguments.out, **chosen)
    elif arguments.what.startswith("digit"):
        from digits import ship_classifier, ship_digits

        if arguments.what == "digits":
            ship_digits(arguments.out, **chosen)
        else:
            ship_classifier(arguments.out, **chosen)
    elif arguments.what == "cyclegan":
        from cyclegan import ship_cyclegan

        ship_cyclegan(arguments.out, pool, **chosen)
    elif arguments.what == "encoder":
        from encoder import ship_encoder

        ship_encoder(arguments.out, pool, **chosen)
    elif arguments.what == "w-mean":
        ship.ship_w_mean(arguments.out, **chosen)
    elif arguments.what == "space":
        ship.ship_space(arguments.out, **chosen)
    elif arguments.what == "age-edit":
        ship.ship_age_edit(arguments.out, **chosen)
    elif arguments.what == "preview":
        ship.ship_preview(arguments.out, pool, **chosen)
    else:
        ship_judge(arguments.out, pool, **chosen)
    return 0


def _assets(arguments: argparse.Namespace) -> int:
    from dvlatent import assets

    if arguments.where:
        print(assets.home() / "assets")
    elif arguments.check:
        if wrong := assets.damaged():
            _say(f"Not complete: {'; '.join(wrong.values())}. Run `dvlatent assets`: it fetches and repairs.")
            return 1
        print(f"Complete: every file in {assets.home() / 'assets'} is what was installed.")
    else:
        assets.install()
    return 0


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: nothing to catch here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _version() -> str:
    try:
        return version("dvlatent")
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def _say(sentence: str) -> None:
    """One line on stderr, below a progress line that may still stand there."""
    print(("\n" if sys.stderr.isatty() else "") + sentence, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
