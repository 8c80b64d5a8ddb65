"""Making the filters that we ship, from a folder that `dvlatent pairs` filled: `dvlatent distill DIR --out age-filter.safetensors`.

It also runs in several processes: `accelerate launch --multi_gpu --num_processes 2 -m dvlatent distill DIR --out age-filter.safetensors`,
which takes GPUs where there are some, and CPU cores otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvlatent import checkpoint, images
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.pairing import READS
from dvlatent.distillation.pairs import Pairs
from dvlatent.distillation.pix2pixhd import MultiscaleDiscriminator, Student
from dvlatent.distillation.train import DistillConfig, Subset, distill, timidity, trial_scores
from dvlatent.errors import ShapeError
from dvlatent.training import accelerated, with_progress
from dvlatent.types import Image
from dvlatent.zoo import load

LICENCE = "research and teaching only, as the generator that taught it"
DISCRIMINATOR_WIDTH = 16
HELD = 100  # pairs that the filter never sees: the first ones


def ship_filter(
    folder: Path, out: Path, *, held: int = HELD, start: Path | None = None, amplify: float | None = None, **chosen: Any
) -> None:
    """Train a filter on a folder of pairs, every pair forth and back, and write its average, in half precision.

    The run is kept beside `out` (`.run.safetensors`) every 50 steps: the same command goes on from there. A look at unseen pairs is
    written beside it, too (`.jpg`). It begins with the weights of the filter `start`, if there is one. In the end what it adds is
    multiplied by `amplify`, or by what makes it as bold as its teacher (`timidity`). `chosen` are fields of DistillConfig. Raises
    ShapeError for fewer pairs than `held` + 1.
    """
    config = DistillConfig(**{"bfloat16": True, **chosen})
    pairs, unseen = held_out(Pairs(folder, reverse=True), held)
    torch.manual_seed(config.seed)
    accelerator = accelerated()
    place = accelerator.device if accelerator else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = Student()
    if start is not None:
        weights, told = checkpoint.load(start, "filter")
        checkpoint.load_weights(student, weights, start.name)
        student.amplify(1 / float(told.get("amplified", 1)))  # as it was when it was trained
    student, discriminator = (net.to(place, memory_format=torch.channels_last) for net in (student, MultiscaleDiscriminator(7, DISCRIMINATOR_WIDTH)))
    perceptual, first = load("perceptual").to(place), accelerator is None or accelerator.is_main_process
    identity = load("identity").to(place) if config.identity else None
    kept = out.with_suffix(".run.safetensors")
    about = {"pairs": len(pairs) // 2, "held": held, "size_px": unseen.batch([0])[0].shape[-1], "made_as": pairs.pairs.about}
    more = {"amplify": amplify} if amplify else {}
    about |= {"config": vars(config), "command": spelled(folder, out, {**chosen, **more}, held, start)}
    if start is not None:
        about["started_from"] = {name: told.get(name) for name in ("command", "config", "steps_done")}
    about["pairs_command"] = pairs_spelled(about["made_as"], len(unseen) + len(pairs) // 2, folder)
    steps = distill(
        student, discriminator, pairs, perceptual, config, augment=PhotoWarp(), identity=identity, unseen=unseen if first else None,
        resume=kept if kept.exists() else None, accelerator=accelerator,
    )  # fmt: skip
    for step in with_progress(steps, config.steps, keep=kept if first else None):
        if step.look is not None:
            images.write(step.look, out.with_suffix(".jpg"))
            save_filter(out, step.ema, {**about, "steps_done": step.index + 1})
    if first:
        factor = amplify or timidity(step.ema, unseen, reader(about["made_as"]["rules"]))
        step.ema.amplify(factor)
        scores = trial_scores(step.ema, unseen, perceptual)
        save_filter(out, step.ema, {**about, "steps_done": step.index + 1, "amplified": round(factor, 3), "scores": scores})
        kept.unlink(missing_ok=True)
        print("\n".join([f"{out}: on {min(64, len(unseen))} unseen pairs", *(f"  {name:18} {told}" for name, told in scores.items())]))


def held_out(pairs: Pairs, held: int) -> tuple[Subset, Subset]:
    """Pairs to learn from, forth and back, and the first `held` ones, forth only. Raises ShapeError if that leaves none."""
    rows = len(pairs) // 2
    if not 1 <= held < rows:
        raise ShapeError(f"{held} of {rows} pairs cannot be held back: hold back 1 or more, and make more pairs with `dvlatent pairs`.")
    return Subset(pairs, [*range(held, rows), *range(rows + held, 2 * rows)]), Subset(pairs, range(held))


def save_filter(out: Path, student: Student, about: Mapping[str, Any]) -> None:
    """Write a filter in half precision with what is known about it."""
    direction = about.get("made_as", {}).get("direction", {}).get("name")
    reach = student.reach
    told = {"kind": "filter", **student.sizes, "direction": direction, "strengths": [-reach, reach], **about}
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in student.state_dict().items()}
    checkpoint.save(out, tensors, {**told, "licence": LICENCE})


def spelled(folder: Path, out: Path, chosen: Mapping[str, Any], held: int, start: Path | None = None) -> str:
    """The command that makes the same file again."""
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in chosen.items())
    options += (f" --held {held}" if held != HELD else "") + (f" --start {start.name}" if start else "")
    return f"dvlatent distill {folder.name} --out {out.name}{options}"


def pairs_spelled(made_as: Mapping[str, Any], count: int, folder: Path) -> str:
    """The command that makes the same pairs again."""
    config, full = made_as["config"], "" if made_as["render"] == "preview" else " --full"
    edit = f"{made_as['direction']['name']}:{config['low']:+g}..{config['high']:+g}"
    how = f"--psi {config['psi']:g} --first {made_as['first']} --count {count}{full}"
    return f'dvlatent pairs --edit "{edit}" {how} --out {folder.name}'


def reader(rules: Mapping[str, Any]) -> Callable[[Image], Tensor]:
    """How the score that an edit moves is read: by the predictor that chose the pairs."""
    name = rules["score"]
    predictor = load(READS.get(name, "landmarks"))
    column = predictor.names.index(name)
    return lambda image: predictor(image)[:, column].float()
