"""One smile on every floor of the house, from a shape to a command. Each floor asserts what it promises.

    python docs/floors.py

It takes a few seconds and draws on ToyFaces, the drawn generator whose true directions are known.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import torch

# Floor 0: shapes and errors. Anything with the right members is a generator.
from dvlatent.errors import DvlatentError
from dvlatent.types import Generator, fingerprint

# Floor 1: latents, images and directions. Pure arithmetic, no files, no networks.
from dvlatent.directions import Direction  # isort: skip
from dvlatent import images, latents, rng  # isort: skip

# Floor 2: networks. Floor 3: files that become networks.

# Floor 4: methods and the contract. Floor 5: figures and lessons. Floor 6: the command line.
from dvlatent.contract import check_generator  # isort: skip
from dvlatent import cli, plot, teach  # isort: skip


def main() -> None:
    """Climb the house."""
    print("floor 3  a name becomes a generator")
    toy = registry.load("toy")
    assert isinstance(toy, Generator)
    ws = latents.broadcast(toy.mapping(rng.normal(range(4), toy.z_dim)), toy.num_layers)

    print("floor 0  shapes: four faces, one w for every layer")
    assert ws.shape == (4, toy.num_layers, toy.w_dim) and len(fingerprint(toy)) == 12

    print("floor 1  a smile is a direction: placing lands where it says, steps add up")
    smile: Direction = toy.truth["smile"]
    grin = smile.move_to(ws, at=2.0)
    assert torch.allclose(smile.coordinate(grin), torch.full((4,), 2.0), atol=1e-4)
    assert torch.allclose((2 * smile - 1 * smile)(ws), (1 * smile)(ws), atol=1e-5)

    print("floor 2  a network draws it: the mouth moves more than the rest of the picture")
    change = (toy.synthesis(grin) - toy.synthesis(smile.move_to(ws, at=-2.0))).abs().mean(dim=(0, 1))  # [height, width]
    height, width = change.shape
    mouth = change[round(0.5 * height) : round(0.75 * height), round(0.3 * width) : round(0.7 * width)]
    assert mouth.mean() > 3 * change.mean()

    with tempfile.TemporaryDirectory() as folder:
        print("floor 3  a file keeps it, and nothing in a file is ever run")
        format.save_direction(smile, Path(folder) / "smile.safetensors")
        again = registry.load(Path(folder) / "smile.safetensors")
        assert torch.equal(again.vector, smile.vector) and again.layers == smile.layers
        (Path(folder) / "broken.safetensors").write_bytes(b"not a direction")
        with contextlib.suppress(DvlatentError):
            registry.load(Path(folder) / "broken.safetensors")
            raise AssertionError("a broken file was read")

        print("floor 4  every generator keeps the same laws")
        assert check_generator(toy)

        print("floor 5  a figure shows it in words too, and a check says whether you saw it")
        figure = plot.strip(toy.synthesis(torch.cat([smile.move_to(ws[:1], at=at) for at in (-2, 0, 2)])), titles=["-2", "0", "+2"])
        assert figure.axes
        words = io.StringIO()
        with contextlib.redirect_stdout(words):
            teach.check("a smile grows along its direction", float(smile.coordinate(grin)[0]), 2.0, must=True)
        assert words.getvalue().startswith("✓")

        print("floor 1  the door to pixels: written, read, the same to the byte")
        picture = Path(folder) / "smile.png"
        images.write(toy.synthesis(grin[:1]), picture)
        assert (images.to_uint8(images.read(picture)) == images.to_uint8(toy.synthesis(grin[:1]))).all()

        print("floor 6  a command for everything")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert cli.main(["assets", "--where"]) == 0
        assert said.getvalue().strip().endswith("assets")
    print("The house stands.")


if __name__ == "__main__":
    main()
