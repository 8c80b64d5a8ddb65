"""Making what we ship again, by one command each: `dvlatent train w-mean`, `space`, `age-edit` and `preview`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from preview import PreviewConfig, PreviewStep, preview_scores, render_pool, train_preview
from tqdm import tqdm

from dvlatent import checkpoint
from dvlatent.assets import asset_path
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.errors import ShapeError
from dvlatent.latents import normal
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN
from dvlatent.stylegan.openvino_ir import read_mobile_stylegan
from dvlatent.training import progress
from dvlatent.whitening import Whitening, answers
from dvlatent.zoo import load

LICENCE = "research and teaching only, as the network it was made with"
SAVE_EVERY = 500  # steps
BOLDER = 1.3  # times what the search found: its reader sees more years in these edits than the judge does
BALANCE = 0.27  # steps of the gender direction taken back: wrinkles and moustaches look male to the judge


@torch.no_grad()
def ship_w_mean(out: Path, faces: int = 100_000) -> None:
    """Average `mapping(normal(seed, 512))` over seeds 0, 1, ... and write it, tied to the mapping network's hash."""
    if faces < 1:
        raise ShapeError(f"a mean of {faces} vectors is none: give --faces 100000.")
    mapping = asset_path("random_face/data/MappingNetwork.bin")
    generator = read_mobile_stylegan(mapping.parent)
    total = torch.zeros(generator.w_dim, dtype=torch.float64)
    for first in tqdm(range(0, faces, 1000), unit_scale=1000, unit="w"):
        total += generator.mapping(normal(range(first, min(first + 1000, faces)), generator.z_dim)).double().sum(0)
    description = {
        "kind": "mean w",
        "of": f"mapping(normal(seed, 512)) over seeds 0 to {faces - 1}",
        "mapping_sha256": hashlib.sha256(mapping.read_bytes()).hexdigest(),
        "command": f"dvlatent train w-mean --out {out.name} --faces {faces}",
        "licence": LICENCE,
    }
    checkpoint.save(out, {"w_mean": (total / faces).float()}, description)


def ship_space(out: Path, faces: int = 1000) -> None:
    """Measure how the picture of each of so many faces answers a step along W, and write the space whose axes are ordered by it."""
    generator, seeds = load("faces"), range(700_000, 700_000 + faces)
    if faces < generator.w_dim:
        raise ShapeError(f"{faces} faces cannot tell {generator.w_dim} directions apart: give --faces 1000.")
    steps = tqdm(answers(generator, load("perceptual"), seeds), total=faces, unit="face")
    space = Whitening.plain(generator).turned(torch.stack(list(steps)))
    command = f"dvlatent train space --out {out.name} --faces {faces}"
    space.save(out, generator, of=f"seeds {seeds.start} to {seeds.stop - 1}, psi 0.7, previews", command=command, licence=LICENCE)


def ship_age_edit(out: Path, steps: int = 700) -> None:
    """Search for the edit that ages most and keeps the person, from the age direction on; write it bolder, maleness taken back."""
    generator, start, config = load("faces"), load("age-direction"), OptimizeEditConfig(steps=steps)
    reader, identity, gender = load("attributes").differentiable(), load("identity"), load("gender-direction")
    search = optimize_edit(generator, start, reader, identity, config, without=[gender])
    for step in progress(search, steps, lambda step: f"{step.gained:+.0f} years, identity {step.apart:.2f}"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == steps - 1:
            command = f"dvlatent train age-edit --out {out.name} --steps {steps}"
            checkpoint.save_edit(BOLDER * step.edit - BALANCE * gender, out, updates=step.index + 1, command=command, licence=LICENCE)


def ship_preview(out: Path, folder: Path, test_faces: int = 200, **chosen: int) -> None:
    """Render a pool, train a head on it, measure it on unseen faces, write it. The head so far is kept every 500 steps.

    `chosen` are fields of PreviewConfig, e.g. faces and steps.
    """
    config = PreviewConfig(**chosen)
    generator: MobileStyleGAN = load("faces")
    rendering = render_pool(generator, folder, config)
    pool = list(tqdm(rendering, total=config.faces, unit="face", desc="rendering"))[-1]
    description = {
        "kind": "preview head",
        "width": config.width,
        "rank": config.rank,
        "trained": f"{config.faces} faces from seed {config.seed}, {config.steps} steps of {config.batch}",
        "command": f"dvlatent train preview --out {out.name} --faces {config.faces} --steps {config.steps}",
        "licence": LICENCE,
    }
    steps = train_preview(generator, pool, config)
    for step in progress(steps, config.steps, lambda step: f"{step.psnr_db:.1f} dB"):
        if step.index % SAVE_EVERY == SAVE_EVERY - 1 or step.index == config.steps - 1:
            _save_head(out, step, description)
    generator.preview_head = step.head
    scores = preview_scores(generator, load("attributes"), test_faces, psi=0.7)
    _save_head(out, step, description | {"scores": scores})
    print(f"{out}: {scores}", file=sys.stderr)


def _save_head(out: Path, step: PreviewStep, description: dict[str, object]) -> None:
    tensors = {name: tensor.half() for name, tensor in step.head.state_dict().items()}
    checkpoint.save(out, tensors, {**description, "steps_done": step.index + 1})
