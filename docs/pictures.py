"""Draw the pictures of these pages: `python docs/pictures.py [faces] [ageing] [filters] [astronaut] [words]`; without a name, all.

No face is chosen by hand but the four corners of faces.jpg. The pages say what each picture shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image as Pillow
from skimage.data import astronaut as photo_of_eileen_collins  # NASA, public domain

import dvlatent
from dvlatent.editing.words import find_words
from dvlatent.images import from_uint8, grid, resize, to_uint8, write
from dvlatent.latents import w_of

HERE = Path(__file__).parent
SENTENCES = (  # of words.jpg
    "an old woman", "a child", "a man with a beard", "a bald man", "a woman with long blond hair",
    "a person with curly hair", "a face with glasses", "a person wearing a hat", "laughing", "a serious man with gray hair",
)  # fmt: skip
CORNERS = [35, 28, 70, 75]  # seeds: upper left, upper right, lower left, lower right


def faces() -> None:
    """faces.jpg: four random vectors in the corners of a table, and every blend between them."""
    generator = dvlatent.load("faces")
    w = w_of(generator, CORNERS, 0.7)  # [4, 512]
    down, across = torch.linspace(0, 1, 4), torch.linspace(0, 1, 7)
    left, right = dvlatent.lerp(w[0:1], w[2:3], down), dvlatent.lerp(w[1:2], w[3:4], down)  # [4, 512] each
    table = torch.cat([dvlatent.lerp(left[row : row + 1], right[row : row + 1], across) for row in range(4)])
    pictures = [resize(generator.synthesis(ws), 168) for ws in dvlatent.broadcast(table, generator.num_layers).split(1)]
    sheet = Pillow.fromarray(to_uint8(grid(torch.cat(pictures), columns=7))[0])
    sheet.save(HERE / "faces.jpg", quality=88, optimize=True)


def ageing() -> None:
    """ageing.jpg: seeds 0 to 9, younger, as they are, older by the formula, and older by gradient."""
    generator = dvlatent.load("faces")
    formula, gradient = 1.65 * dvlatent.load("age-direction"), dvlatent.load("age-edit")  # MEASUREMENTS.md: what they do to 500 adults
    people = dvlatent.broadcast(w_of(generator, range(10), 0.7), generator.num_layers).split(1)
    rows = [resize(generator.synthesis(edit(one)), 200) for edit in (-formula, 0 * formula, formula, gradient) for one in people]
    write(grid(torch.cat(rows), columns=10), HERE / "ageing.jpg")


def filters() -> None:
    """age-filter.jpg and the like: forty unseen faces, ten in a row; of each the lowest strength, the face, the highest."""
    generator = dvlatent.load("faces")
    ws = dvlatent.broadcast(w_of(generator, range(500_000, 500_040), 0.7), generator.num_layers)
    people = torch.cat([generator.preview(one) for one in ws.split(1)]).clamp(-1, 1)
    for name in (name for name in dvlatent.available() if name.endswith("-filter")):
        edit = dvlatent.load(name)
        rows = [row for ten in people.split(10) for row in (edit(ten, edit.low), ten, edit(ten, edit.high))]
        write(grid(resize(torch.cat(rows), 128), columns=10), HERE / f"{name}.jpg")


def astronaut() -> None:
    """astronaut.jpg: a real photo through the age filter: younger, as it is, older."""
    photo, edit = from_uint8(photo_of_eileen_collins()), dvlatent.load("age-filter")
    three = torch.cat([edit.apply_to_photo(photo, -1.5), photo, edit.apply_to_photo(photo, 2)])
    write(grid(three[..., :360, 60:420], columns=3), HERE / "astronaut.jpg")


def words() -> None:
    """words.jpg: seeds 200 to 207 as they are, in the first row, and moved four steps along ten sentences, a row each."""
    model, generator = dvlatent.load("words"), dvlatent.load("faces")
    ws = dvlatent.broadcast(w_of(generator, range(200, 208), 0.7), generator.num_layers)
    rows = [ws, *(find_words(model, generator, sentence).move(ws, 4.0) for sentence in SENTENCES)]
    pictures = torch.cat([generator.preview(one) for row in rows for one in row.split(1)])
    sheet = Pillow.fromarray(to_uint8(grid(resize(pictures.clamp(-1, 1), 150), columns=8))[0])
    sheet.save(HERE / "words.jpg", quality=88, optimize=True)


PICTURES = {"faces": faces, "ageing": ageing, "filters": filters, "astronaut": astronaut, "words": words}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(PICTURES))
    with torch.no_grad():
        for name in parser.parse_args().names or PICTURES:
            PICTURES[name]()
