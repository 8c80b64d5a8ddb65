"""Generated faces on the command line: `dvlatent generate`, `walk`, `mix` and `convert`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dvlatent.cli.arguments import (
    add_generator,
    add_overwrite,
    add_psi,
    check_folder,
    check_out,
    command_of,
    generator_of,
    layers,
    numbers,
    seeds_in_words,
    sheet_px,
)
from dvlatent.errors import DvlatentError

SEEDS = {"type": numbers, "metavar": "N[-M][,...]"}
TILE_PX = 512  # side of a face in a table


def add(commands: argparse._SubParsersAction) -> None:
    """Add the four commands."""
    generate = commands.add_parser("generate", help="render faces from seeds")
    generate.description = "Render the face of each seed, one file a seed, or all on one sheet."
    generate.add_argument("--seeds", **SEEDS, default=[85], help="one seed or several: 85 or 3,5,90-95 (default 85)")
    add_psi(generate)
    add_generator(generate)
    where = generate.add_mutually_exclusive_group()
    where.add_argument("--outdir", type=Path, default=Path("faces"), help="a folder: one file a seed, such as seed0085.png (default faces)")
    where.add_argument("--out", type=Path, metavar="FILE", help="one .png, .jpg or .webp file instead; several faces share one sheet")
    add_overwrite(generate)
    generate.set_defaults(run=_generate, resume="Faces that are drawn stay.")

    walk = commands.add_parser("walk", help="a film that leads from face to face")
    walk.description = "A smooth journey through the faces of several seeds and back to the first, as a film that can repeat."
    walk.add_argument("--seeds", **SEEDS, default=[1, 4, 85], help="the faces on the way (default 1,4,85)")
    add_psi(walk)
    add_generator(walk)
    walk.add_argument("--frames", type=int, default=48, metavar="N", help="pictures from one face to the next (default 48)")
    walk.add_argument("--fps", type=float, default=24, help="pictures a second (default 24)")
    walk.add_argument("--one-way", action="store_true", help="end at the last face instead of the first")
    walk.add_argument("--full", action="store_true", help="1024 px renders; otherwise previews of 256 px, which take half the time")
    walk.add_argument("--out", type=Path, default=Path("walk.mp4"), help="a .mp4 or .gif file (default walk.mp4)")
    add_overwrite(walk)
    walk.set_defaults(run=_walk, resume="Nothing was written.")

    mix = commands.add_parser("mix", help="style mixing: the shape of one face with the colors of another")
    mix.description = "A table of faces: each is the face of its row, with some layers of the face of its column (style mixing)."
    mix.add_argument("--rows", **SEEDS, default=[1, 4, 85], help="seeds down the side (default 1,4,85)")
    mix.add_argument("--cols", **SEEDS, default=[265, 297, 849], help="seeds along the top (default 265,297,849)")
    taken = "layers taken from the column: coarse (pose, shape, hair), middle, fine (colors; default), or numbers such as 0-6"
    mix.add_argument("--layers", "--styles", type=layers, default="fine", metavar="WHICH", help=taken)
    add_psi(mix)
    add_generator(mix)
    mix.add_argument("--out", type=Path, default=Path("mix.jpg"), help="a .png, .jpg or .webp file (default mix.jpg)")
    add_overwrite(mix)
    mix.set_defaults(run=_mix, resume="Nothing was written.")

    convert = commands.add_parser("convert", help="a StyleGAN2 of others, NVIDIA's or rosinality's, to .safetensors")
    convert.description = (
        "Read a network pickle of stylegan2-ada-pytorch, or a checkpoint of rosinality's stylegan2-pytorch, as data: nothing in it is run. "
        "`dvlatent.load` reads the result."
    )
    convert.add_argument("pickle", type=Path, help="a .pkl file with G_ema in it, or a .pt file with g_ema, 32 to 1024 px")
    convert.add_argument("out", type=Path, help="a .safetensors file")
    add_overwrite(convert)
    convert.set_defaults(run=_convert, resume="Nothing was written.")


def _generate(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.latents import broadcast, w_of

    seeds, out = arguments.seeds, arguments.out
    files = [out] if out else [arguments.outdir / f"seed{seed:04d}.png" for seed in seeds]
    if out:
        check_out(out, arguments.overwrite, images.KINDS)
    else:
        check_folder(arguments.outdir)
        if not arguments.overwrite and (there := [file for file in files if file.exists()]):
            raise DvlatentError(f"{there[0]} is there already. Give another --outdir, or --overwrite to replace it.")
    faces, pictures = generator_of(arguments), []
    w = w_of(faces, seeds, arguments.psi)  # [faces, 512]
    columns = math.ceil(math.sqrt(len(seeds)))
    side = sheet_px(math.ceil(len(seeds) / columns), columns, faces.resolution) if out else faces.resolution
    with torch.no_grad():
        for at, one in enumerate(tqdm(w.split(1), unit="face", disable=len(w) < 8)):
            picture = faces.synthesis(broadcast(one, faces.num_layers))
            if out:
                pictures.append(images.resize(picture, side))
            else:
                images.write(picture, files[at])
    if out:
        images.write(images.grid(torch.cat(pictures)) if len(pictures) > 1 else pictures[0], out)
    print(f"{out or arguments.outdir}: {seeds_in_words(seeds)} at psi {arguments.psi:g}")
    return 0


def _walk(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dvlatent import video
    from dvlatent.latents import broadcast, w_of, walk
    from dvlatent.types import renderer

    seeds, loop = arguments.seeds, not arguments.one_way
    check_out(arguments.out, arguments.overwrite, (".mp4", ".gif"))
    faces = generator_of(arguments)
    draw, _ = renderer(faces, faces.synthesis if arguments.full else None)
    frames = arguments.frames * (len(seeds) if loop else len(seeds) - 1)
    path = walk(w_of(faces, seeds, arguments.psi), frames, loop=loop)  # [frames, 512]
    with torch.no_grad():
        pictures = (draw(broadcast(w, faces.num_layers)).clamp(-1, 1) for w in tqdm(path.split(1), unit="frame"))
        video.film(pictures, arguments.out, arguments.fps, progress=False)
    print(f"{arguments.out}: {seeds_in_words(seeds)} at psi {arguments.psi:g}, {frames} frames, {frames / arguments.fps:.1f} s")
    return 0


def _mix(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dvlatent import images
    from dvlatent.latents import broadcast, mix, w_of

    check_out(arguments.out, arguments.overwrite, images.KINDS)
    faces, (rows, cols) = generator_of(arguments), (arguments.rows, arguments.cols)
    side = sheet_px(len(rows) + 1, len(cols) + 1, min(TILE_PX, faces.resolution))
    base, style = (broadcast(w_of(faces, seeds, arguments.psi), faces.num_layers) for seeds in (rows, cols))
    table = [*style.split(1)]  # the top row, after an empty corner
    for one in base.split(1):
        table += [one, *mix(one, style, arguments.layers).split(1)]
    with torch.no_grad():
        pictures = [images.resize(faces.synthesis(ws), side) for ws in tqdm(table, unit="face", disable=len(table) < 8)]
    sheet = images.grid(torch.cat([torch.ones_like(pictures[0]), *pictures]), columns=len(cols) + 1)
    images.write(sheet, arguments.out)
    which = arguments.layers if isinstance(arguments.layers, str) else f"{min(arguments.layers)} to {max(arguments.layers)}"
    print(f"{arguments.out}: rows {seeds_in_words(rows)}; columns {seeds_in_words(cols)} give the {which} layers; psi {arguments.psi:g}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from dvlatent import checkpoint, zoo
    from dvlatent.stylegan.nvidia_pickle import read_pickle

    check_out(arguments.out, arguments.overwrite, [".safetensors"], "out")
    tensors, config = read_pickle(arguments.pickle)
    generator = zoo.stylegan2(tensors, config, arguments.pickle)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(arguments.out, tensors, {"kind": "stylegan2", "config": config, "command": command_of(arguments)})
    labels = f", {generator.classes} labels" if generator.classes else ""
    print(f"{arguments.out}: a StyleGAN2 of {generator.resolution} px, {generator.num_layers} layers{labels}. dvlatent.load reads it.")
    return 0
