"""The command line: `dvlatent COMMAND`. Every command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence

from dvlatent import __version__
from dvlatent.cli import app, distillation, editing, faces, filter, gan, inversion
from dvlatent.cli.arguments import Parser
from dvlatent.errors import DvlatentError

WELCOME = """dvlatent turns random vectors into faces, faces into coordinates, and coordinates into edits.

Start here:
  dvlatent assets              fetch the pretrained networks (once, about 200 MB)
  jupyter lab notebooks/       open 00_start_here.ipynb
"""

MODELS = {  # what `dvlatent.load` gives; directions and filters say it by their names
    "faces": "the generator: random vectors to faces of 1024 px, and previews of 256 px",
    "toy": "a drawn face whose every factor is known",
    "digits": "a generator of handwritten digits",
    "mnist": "5,000 handwritten digits, as data",
    "digit-map": "an autoencoder: digits on a plane",
    "face-map": "an autoencoder: small faces on a plane",
    "age-edit": "ageing, found by gradient for each layer: dvlatent edit --age-edit 1",
    "younger-edit": "the same toward younger",
    "faces-small": "1,000 generated faces of 40 px, as data",
    "attributes": "perceived age and gender of a face: dvlatent score",
    "landmarks": "smile, open mouth and eyes, pose of a face: dvlatent score",
    "identity": "who a face is, as 128 numbers: below a distance of 0.6 it is the same person",
    "aligner": "finds the faces of a photo and cuts them out as the generator knows them",
    "judge": "age, gender, smile and glasses: what edits are marked with",
    "judge-224": "age and gender, by a judge who sees lines",
    "progressive": "a ProgressiveGAN: small faces from random vectors",
    "biggan": "a BigGAN: the digit that you ask for",
    "dcgan": "a DCGAN: faces of 64 px from random vectors",
    "stackgan": "a StackGAN: faces of 64 px from a caption of five words",
    "stylegan2-64": "a StyleGAN2 of 64 px that was trained here: for --generator",
    "encoder": "a first guess at the w of a face: dvlatent invert",
    "digit-classifier": "which digit it is",
    "perceptual": "how different two pictures look",
    "face-parts": "where skin, hair and background of a face are",
    "words": "how well a sentence fits a face: dvlatent edit --words",
    "age-cyclegan": "ageing learned without pairs, with two strengths only",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 refused (one sentence on stderr), 130 or 143 stopped."""
    if argv is None:  # a process of its own: at its end nothing is searched for garbage, which takes a third of a second after torch
        atexit.register(gc.freeze)
    argv = sys.argv[1:] if argv is None else list(argv)
    made = parser()
    arguments = made.parse_args(argv, argparse.Namespace(argv=argv))
    if "run" not in arguments:
        made.print_help()
        return 0
    try:
        with _terminate_like_interrupt():
            return arguments.run(arguments) or 0
    except DvlatentError as error:
        _say(str(error))
        return 1
    except BrokenPipeError:  # the reader of our words has gone: `dvlatent models | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that became read-only: in the middle of the work
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _say(f"Stopped: {what}. Make room, or choose another place. {arguments.resume}")
        return 1
    except KeyboardInterrupt as stop:
        _say(f"Stopped. {arguments.resume}")
        return 143 if isinstance(stop, Terminated) else 130


def parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    layout = argparse.RawDescriptionHelpFormatter
    made = Parser(prog="dvlatent", description=WELCOME, formatter_class=layout)
    made.add_argument("--version", action="version", version=f"dvlatent {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    assets = commands.add_parser("assets", help="fetch, check or repair the pretrained networks and data")
    assets.description = "Fetch what is missing or damaged of the pretrained networks and data. Safe to interrupt and to run twice."
    assets.epilog = "They lie in the platform's cache folder, or in $DVLATENT_HOME."
    more = "also an extra: words, sentences to vectors (92 MB, lesson 09 and --words)"
    assets.add_argument("--with", nargs="+", default=[], metavar="NAME", dest="extras", help=more)
    what = assets.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only compare every file with its hash; exit code 1 if one is wrong")
    what.add_argument("--where", action="store_true", help="only print the folder")
    assets.set_defaults(run=_assets, resume="What is complete is kept; run `dvlatent assets` again to go on from there.")

    models = commands.add_parser("models", help="list what dvlatent.load and the commands know by name")
    models.add_argument("--json", action="store_true", help="for programs: names and descriptions as JSON")
    models.set_defaults(run=_models, resume="")

    faces.add(commands)
    editing.add(commands)
    inversion.add(commands)
    distillation.add(commands)
    filter.add(commands)
    app.add(commands)
    gan.add(commands)
    return made


def _assets(arguments: argparse.Namespace) -> int:
    from dvlatent import assets

    if arguments.where:
        print(assets.home() / "assets")
    elif arguments.check:
        if wrong := assets.damaged(arguments.extras):
            command = shlex.join(["dvlatent", "assets", *(["--with", *arguments.extras] if arguments.extras else [])])
            _say(f"Not complete: {'; '.join(wrong.values())}. Run `{command}`: it fetches and repairs.")
            return 1
        print(f"Complete: every file in {assets.home() / 'assets'} is what was installed.")
    else:
        assets.install(arguments.extras)
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from dvlatent.zoo import available

    kinds = {"filter": "photo in, edited photo out: dvlatent filter", "direction": "a direction of W, found in a survey: dvlatent edit"}
    lines = {name: MODELS.get(name) or kinds[name.rpartition("-")[2]] for name in available()}
    print(json.dumps(lines, indent=1) if arguments.json else "\n".join(f"{name:17} {line}" for name, line in lines.items()))
    return 0


class Terminated(KeyboardInterrupt):
    """SIGTERM: a command cleans up as after Ctrl-C."""


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: there is nothing to catch
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(sentence: str) -> None:
    """One line on stderr, below a progress line that may still stand there."""
    print(("\n" if sys.stderr.isatty() else "") + sentence, file=sys.stderr)
