"""Populations, directions and edits on the command line: `dvlatent survey`, `dvlatent find` and `dvlatent edit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvlatent.cli.arguments import (
    READABLE_PX,
    add_generator,
    add_overwrite,
    add_psi,
    check_out,
    command_of,
    file_and_number,
    generator_of,
    layers,
    numbers,
    phrase_and_number,
    real,
    seeds_in_words,
    sheet_px,
    shipped,
)
from dvlatent.errors import ShapeError

if TYPE_CHECKING:
    from dvlatent.directions import Direction, Edit
    from dvlatent.editing.survey import Population
    from dvlatent.types import Generator

STRIP_PX = 512  # side of a face in a strip
STEPS = 3.0  # along words, unless told
AGAINST = "what the words are compared with, e.g. 'a man' (default 'a face')"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the three commands."""
    _add_survey(commands)
    _add_find(commands)
    _add_edit(commands, shipped("-direction", "-edit"))


def _add_survey(commands: argparse._SubParsersAction) -> None:
    survey = commands.add_parser("survey", help="draw many faces and score each")
    survey.description = "Draw faces from seeds and score each; only seeds and scores are written. Stop it whenever you like."
    survey.add_argument("--faces", type=int, default=1000, help="how many (default 1000)")
    survey.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="the others follow it (default 0)")
    add_psi(survey, 1.0)
    add_generator(survey)
    survey.add_argument("--full", action="store_true", help="score full renders; otherwise previews, which take half the time")
    what = "which predictors score them (default attributes,landmarks)"
    survey.add_argument("--predictors", default="attributes,landmarks", metavar="NAME[,...]", help=what)
    survey.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    add_overwrite(survey)
    survey.set_defaults(run=_survey, resume="Faces scored so far are kept beside --out; the same command goes on from them.")


def _survey(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.checkpoint import check_path
    from dvlatent.editing.survey import collect, resumable
    from dvlatent.zoo import load

    check_out(check_path(arguments.out), arguments.overwrite)
    if arguments.faces < 1:
        raise ShapeError(f"a survey needs faces, {arguments.faces} were asked for: give --faces 1000.")
    names, generator = arguments.predictors.split(","), generator_of(arguments)
    predictors = [load(name) for name in names]
    for name, predictor in zip(names, predictors, strict=True):
        if not hasattr(predictor, "names"):
            raise ShapeError(f"'{name}' gives no scores: give --predictors that do, such as attributes,landmarks.")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.faces)
    render = generator.synthesis if arguments.full else None
    if arguments.generator != "faces" and generator.resolution < READABLE_PX:
        render = lambda ws: images.resize(generator.synthesis(ws), READABLE_PX)  # noqa: E731
    about = {"command": command_of(arguments), "scored_by": arguments.predictors, "licence": "research and teaching only, as the generator"}
    steps = []
    with tqdm(total=len(seeds), unit="face") as bar:
        for step in resumable(arguments.out, generator, predictors, seeds, arguments.psi, render=render, **about):
            steps.append(step)
            if len(steps) == 1 and len(step.population.seeds) > 100:  # scored before: not part of the pace
                bar.initial = len(step.population.seeds)
            bar.update(len(step.population.seeds))
    print(_summary(collect(steps), arguments.out))
    return 0


def _summary(population: Population, out: Path) -> str:
    lines = [f"{out}: {len(population):,} faces at psi {population.psi:g}, scored on {population.render} pictures"]
    lines += [f"{'':14}{'5 %':>8}{'median':>8}{'95 %':>8}"]
    for name in population.names:
        quantiles = population.column(name).double().quantile(population.scores.new_tensor([0.05, 0.5, 0.95]).double()).tolist()
        lines.append(f"  {name:12}" + "".join(f"{value:8.2f}" for value in quantiles))
    return "\n".join(lines)


def _add_find(commands: argparse._SubParsersAction) -> None:
    find = commands.add_parser("find", help="find the direction of an attribute in a population")
    find.description = "Find the direction along which a score grows, in a population that `dvlatent survey` made, or that of words."
    what = find.add_mutually_exclusive_group(required=True)
    what.add_argument("--attribute", help="the score that should grow, e.g. age")
    what.add_argument("--words", metavar="PHRASE", help="what faces should look like, e.g. 'a man with a beard'; needs no population")
    find.add_argument("--against", metavar="PHRASE", help=AGAINST)
    find.add_argument("--low", type=real, nargs=2, metavar=("FROM", "TO"), help="scores of the low end, e.g. 18 28")
    find.add_argument("--high", type=real, nargs=2, metavar=("FROM", "TO"), help="scores of the high end, e.g. 55 80")
    find.add_argument("--by", help="mean (default), lda, logistic, svm or ridge")
    find.add_argument("--balance", nargs="+", default=[], metavar="SCORE", help="make both ends alike in these scores")
    find.add_argument("--without", nargs="+", default=[], metavar="SCORE", help="project out what these scores are read from (by logistic)")
    find.add_argument("--ridge", type=real, help="regularization of logistic, svm and ridge (default: chosen on held-out faces)")
    find.add_argument("--faces", type=int, help="compare only the first so many faces of the population")
    find.add_argument("--layers", type=layers, help="layers to move: coarse, middle, fine, all (default) or numbers such as 0-8")
    find.add_argument("--name", help="what to call it (default: the attribute, or the words)")
    find.add_argument("--population", type=Path, help="a file that `dvlatent survey` made (default: the 20,000 faces that we ship)")
    add_generator(find)
    find.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    add_overwrite(find)
    find.set_defaults(run=_find, resume="Nothing was written.")


def _find(arguments: argparse.Namespace) -> int:
    from dvlatent import checkpoint
    from dvlatent.editing import survey
    from dvlatent.editing.find import find, measured_on

    check_out(checkpoint.check_path(arguments.out), arguments.overwrite)
    how = {end: tuple(given) for end in ("low", "high") if (given := getattr(arguments, end))}
    how |= {name: given for name in ("by", "ridge", "balance") if (given := getattr(arguments, name)) not in (None, [])}
    if arguments.words and how:
        raise ShapeError(f"words need no scores: leave --{next(iter(how))} out, or give an --attribute instead of --words.")
    file = arguments.population or survey.SHIPPED
    population = survey.load(file)
    population = population if arguments.faces is None else population.take(arguments.faces)
    generator = generator_of(arguments)
    if arguments.words:
        direction = _of_words(arguments, generator, arguments.words, arguments.layers)
    else:
        print(f"Comparing {len(population):,} faces ...", file=sys.stderr)
        direction = find(generator, population, arguments.attribute, layers=arguments.layers, **how)
    if arguments.without:
        others = [find(generator, population, name, "logistic") for name in arguments.without]  # what each is read from
        direction = measured_on(direction.without(*others), generator, population)
    found_by = direction.found_by | {"command": command_of(arguments)}
    if not arguments.words:
        found_by["scored_by"] = str(checkpoint.load(file, "population")[1].get("scored_by", "attributes,landmarks"))
    direction = replace(direction, name=arguments.name or direction.name, found_by=found_by)
    checkpoint.save_direction(direction, arguments.out)
    print(f"{arguments.out}: {direction.name}, one step is {direction.step:.3g} in W")
    print("\n".join(f"  {what}: {value}" for what, value in direction.found_by.items()))
    return 0


def _of_words(arguments: argparse.Namespace, generator: Generator, phrase: str, layers: list[int] | str | None = None) -> Direction:
    """The direction of a phrase. Raises UnknownWords for one that means nothing."""
    from dvlatent.editing.words import AGAINST, find_words
    from dvlatent.zoo import load

    return find_words(load("words"), generator, phrase, arguments.against or AGAINST, layers=layers)


def _add_edit(commands: argparse._SubParsersAction, names: Sequence[str]) -> None:
    edit = commands.add_parser("edit", help="edit a face along directions: before and after")
    edit.description = "Move a face along directions and draw it before and after. One step is one standard deviation of the population."
    edit.add_argument("--seeds", type=numbers, default=[85], metavar="N[-M][,...]", help="one seed or several, a row each (default 85)")
    edit.add_argument("--from", type=Path, dest="inversion", metavar="FILE", help="instead of seeds: a photo that `dvlatent invert` found")
    paste = "with --from: put the edited face back into its photo, and write that; a .png keeps every other pixel as it was"
    edit.add_argument("--paste-back", type=Path, metavar="PHOTO", help=paste)
    for name in names:
        what = "1 is the whole edit" if name.endswith("-edit") else "e.g. +2 or -1"
        option = name.removesuffix("-direction")
        edit.add_argument(f"--{option}", dest=name, type=real, metavar="STEPS", help=f"steps along {option}: {what}")
    file = "steps along a direction or edit of your own; may be given several times"
    edit.add_argument("--direction", type=file_and_number, action="append", default=[], metavar="FILE:STEPS", help=file)
    words = f"move toward words, e.g. 'an old person'; STEPS is {STEPS:g} unless given; may be given several times"
    edit.add_argument("--words", metavar="PHRASE[:STEPS]", type=phrase_and_number, action="append", default=[], help=words)
    edit.add_argument("--against", metavar="PHRASE", help=AGAINST)
    add_psi(edit)
    add_generator(edit)
    row = "a row from the opposite edit to this one, the face itself in the middle (5 faces unless told)"
    edit.add_argument("--strip", type=int, nargs="?", const=5, metavar="FACES", help=row)
    edit.add_argument("--out", type=Path, default=Path("edited.jpg"), help="a .png, .jpg or .webp file (default edited.jpg)")
    add_overwrite(edit)
    edit.set_defaults(run=_edit, resume="Nothing was written.", shipped=list(names))


def _edit(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.faces.align import paste_back
    from dvlatent.inversion.invert import Inversion
    from dvlatent.latents import broadcast, w_of

    check_out(arguments.out, arguments.overwrite, images.KINDS)
    generator = generator_of(arguments) if arguments.words else None
    edit, steps = _chosen_edit(arguments, generator)
    if arguments.strip is not None and arguments.strip < 2:
        raise ShapeError(f"a strip has two faces or more, {arguments.strip} were asked for: give --strip 5.")
    if arguments.paste_back and (arguments.strip or not arguments.inversion):
        raise ShapeError("--paste-back needs one edited face of a photo: give --from FILE, and no --strip.")
    found = Inversion.load(arguments.inversion) if arguments.inversion else None
    photo = images.read(arguments.paste_back) if arguments.paste_back else None
    if photo is not None and found.alignment is None:
        raise ShapeError(f"{arguments.inversion} does not say where its face lies in a photo. Invert the photo with `dvlatent invert`.")
    generator = generator or generator_of(arguments)
    for _, direction in edit.terms:
        direction.check(generator)
    if found:
        found.check(generator)
        ws, whose = found.ws, str(arguments.inversion)
    else:
        ws = broadcast(w_of(generator, arguments.seeds, arguments.psi), generator.num_layers)
        whose = f"{seeds_in_words(arguments.seeds)} at psi {arguments.psi:g}"
    if photo is not None:
        with torch.no_grad():
            images.write(paste_back(photo, generator.synthesis(edit(ws)).clamp(-1, 1), found.alignment), arguments.out)
        print(f"{arguments.out}: {arguments.paste_back} with {whose}, {steps}")
        return 0
    amounts = torch.linspace(-1, 1, arguments.strip).tolist() if arguments.strip else [0.0, 1.0]
    size_px = sheet_px(len(ws), len(amounts), STRIP_PX if arguments.strip else generator.resolution)
    moved = [(amount * edit)(one) for one in ws.split(1) for amount in amounts]
    with torch.no_grad():
        pictures = [images.resize(generator.synthesis(one), size_px) for one in tqdm(moved, unit="face", disable=len(moved) < 8)]
    images.write(images.grid(torch.cat(pictures), columns=len(amounts)), arguments.out)
    order = f"{len(amounts)} faces from the opposite edit to this one" if arguments.strip else "before and after"
    print(f"{arguments.out}: {whose}, {steps}; {order}")
    return 0


def _chosen_edit(arguments: argparse.Namespace, generator: Generator | None) -> tuple[Edit, str]:
    """The sum of all steps that were asked for, and those steps in words."""
    from dvlatent.directions import Edit
    from dvlatent.zoo import load

    asked = [(name.removesuffix("-direction"), name, getattr(arguments, name)) for name in arguments.shipped]
    asked += [(path.stem, path, steps) for path, steps in arguments.direction]
    parts = [(name, steps, steps * load(what)) for name, what, steps in asked if steps is not None]
    for phrase, given in arguments.words:
        steps = STEPS if given is None else given
        parts.append((f"'{phrase}'", steps, steps * _of_words(arguments, generator, phrase)))
    if not parts:
        options = ", ".join(f"--{name.removesuffix('-direction')}" for name in arguments.shipped)
        raise ShapeError(f"no edit was asked for: give --words, or steps along {options + ' or ' * bool(options)}--direction FILE:STEPS.")
    terms = tuple(term for *_, edit in parts for term in edit.terms)
    return Edit(terms), ", ".join(f"{name} {steps:+g}" for name, steps, _ in parts)
