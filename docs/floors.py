"""One smile on every floor of the house, from a shape to a command: `python docs/floors.py`. Each floor asserts what it promises.

It takes a few seconds and draws on ToyFaces, the drawn generator whose true directions are known.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import torch

from dvlatent import checkpoint, cli, images, latents, zoo
from dvlatent.directions import Direction
from dvlatent.errors import DvlatentError
from dvlatent.lessons import plot, teach
from dvlatent.types import Generator, fingerprint


def main() -> None:
    """Climb the house."""
    print("zoo         a name becomes a generator")
    toy = zoo.load("toy")
    assert isinstance(toy, Generator)

    print("types       shapes: four faces, one w for every layer")
    ws = latents.broadcast(toy.mapping(latents.normal(range(4), toy.z_dim)), toy.num_layers)
    assert ws.shape == (4, toy.num_layers, toy.w_dim) and len(fingerprint(toy)) == 12

    print("directions  a smile is a direction: moving lands where it says, steps add up")
    smile: Direction = toy.truth["smile"]
    grin = smile.move_to(ws, at=2.0)
    assert torch.allclose(smile.coordinate(grin), torch.full((4,), 2.0), atol=1e-4)
    assert torch.allclose((2 * smile - 1 * smile)(ws), (1 * smile)(ws), atol=1e-5)

    print("toy         a generator draws it: the mouth moves more than the rest of the picture")
    change = (toy.synthesis(grin) - toy.synthesis(smile.move_to(ws, at=-2.0))).abs().mean(dim=(0, 1))  # [height, width]
    height, width = change.shape
    mouth = change[round(0.5 * height) : round(0.75 * height), round(0.3 * width) : round(0.7 * width)]
    assert mouth.mean() > 3 * change.mean()

    with tempfile.TemporaryDirectory() as folder:
        print("checkpoint  a file keeps it, and nothing in a file is ever run")
        checkpoint.save_direction(smile, Path(folder) / "smile.safetensors")
        again = zoo.load(Path(folder) / "smile.safetensors")
        assert torch.equal(again.vector, smile.vector) and again.layers == smile.layers
        (Path(folder) / "broken.safetensors").write_bytes(b"not a direction")
        with contextlib.suppress(DvlatentError):
            zoo.load(Path(folder) / "broken.safetensors")
            raise AssertionError("a broken file was read")

        print("images      the door to pixels: written, read, the same to the byte")
        picture = Path(folder) / "smile.png"
        images.write(toy.synthesis(grin[:1]), picture)
        assert (images.to_uint8(images.read(picture)) == images.to_uint8(toy.synthesis(grin[:1]))).all()

    print("lessons     a figure shows it in words too, and a check says whether you saw it")
    figure = plot.strip(toy.synthesis(torch.cat([smile.move_to(ws[:1], at=at) for at in (-2, 0, 2)])), titles=["-2", "0", "+2"])
    assert figure.axes
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        teach.check("a smile grows along its direction", float(smile.coordinate(grin)[0]), 2.0, must=True)
    assert words.getvalue().startswith("✓")

    print("cli         a command for everything")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main(["assets", "--where"]) == 0
    assert said.getvalue().strip().endswith("assets")
    print("The house stands.")


if __name__ == "__main__":
    main()
