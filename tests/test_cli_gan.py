"""`dvlatent train-gan` and what it reads: folders and zip files of pictures; a run that goes on; the recipe of the faces."""

import io
import zipfile

import numpy as np
import pytest
import stylegan2 as recipe
import torch
from PIL import Image as Pillow

from dvlatent import checkpoint, images, load
from dvlatent.cli.main import main, parser
from dvlatent.errors import ImageError, ShapeError
from dvlatent.gan.pictures import read_pictures
from dvlatent.latents import broadcast, w_of


def png(pixels) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def noise(count, side, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of 8 px, one in a folder below; and what is no picture."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    for i, pixels in enumerate(noise(12, 8)):
        (tmp_path / "in" / ("below" if i == 11 else "") / f"{i:02d}.png").write_bytes(png(pixels))
    for name, data in {"notes.txt": b"hello", ".hidden.png": b"", "broken.jpg": b"\xff\xd8 no", "small.png": png(noise(1, 4)[0])}.items():
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def test_a_folder_and_its_zip_file_give_the_same_pictures(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"../../{path.relative_to(folder)}")  # a name that would leave the folder, if it were unpacked
    before = sorted(tmp_path.parent.rglob("*"))
    for source in (folder, tmp_path / "a.zip"):
        pixels, left_out = read_pictures(source, 8, fewest=12)
        assert {one.tobytes() for one in pixels} == {one.tobytes() for one in noise(12, 8)}
        assert len(left_out) == 2 and "broken.jpg: " in left_out[0] and "small.png: 4 x 4 px are fewer than 8" in left_out[1]
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_the_square_in_the_middle_is_taken(tmp_path):
    wide = np.zeros((8, 12, 3))
    wide[:, 2:10] = 200
    (tmp_path / "wide.png").write_bytes(png(wide))
    assert (read_pictures(tmp_path, 8, fewest=1)[0] == 200).all()


def test_too_few_pictures_are_refused_with_the_reasons(folder):
    with pytest.raises(ShapeError, match=r"has 12 pictures of 8 px or more; a network needs 100 at least\. Left out: broken\.jpg: "):
        read_pictures(folder, 8)


def test_hostile_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.png", bytes(40 * 2**20))
    with pytest.raises(ImageError, match="would grow more than 20 times: pictures do not"):
        read_pictures(tmp_path / "bomb.zip", 8)
    data = (tmp_path / "bomb.zip").read_bytes()
    for broken in (data[:100], data[: len(data) // 2], b""):
        (tmp_path / "cut.zip").write_bytes(broken)
        with pytest.raises(ImageError, match="no folder and no zip file of pictures"):
            read_pictures(tmp_path / "cut.zip", 8)
    with zipfile.ZipFile(tmp_path / "lie.zip", "w") as archive:
        archive.writestr("a.png", png(noise(1, 8)[0]))
        archive.infolist()[0].CRC ^= 1  # the file says another sum
    assert "Bad CRC" in read_pictures(tmp_path / "lie.zip", 8, fewest=0)[1][0]


def test_a_run_that_was_ended_early_goes_on_bit_for_bit(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i, pixels in enumerate(noise(100, 32)):
        (tmp_path / "in" / f"{i}.png").write_bytes(png(pixels))

    def trained(out, kimg):
        words = ["train-gan", str(tmp_path / "in"), "--out", str(tmp_path / out), "--resolution", "32", "--channels", "128", "8"]
        return main([*words, "--kimg", str(kimg), "--batch", "8", "--every", "2", "--samples", "20"])

    assert trained("whole", 0.032) == trained("parts", 0.016) == trained("parts", 0.032) == 0
    files = [checkpoint.load(tmp_path / out / "network.safetensors", "stylegan2") for out in ("whole", "parts")]
    assert all(torch.equal(value, files[1][0][name]) for name, value in files[0][0].items())
    assert files[0][1]["scores"] == files[1][1]["scores"] and files[0][1]["scores"]["images_seen"] == 32
    assert "100 pictures; 0 left out" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == [
        "network.safetensors", "samples-000002.jpg", "samples-000004.jpg", "training.safetensors",
    ]  # fmt: skip
    assert load(tmp_path / "whole" / "network.safetensors").resolution == 32
    assert trained("whole", 0.032) == 1  # done
    assert "has done 4 of 4 steps" in capsys.readouterr().err


def test_the_recipe_trains_both_networks_and_writes_what_the_zoo_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SAMPLES", 8)
    np.save(tmp_path / "faces64.npy", noise(20, 64) | 1)
    recipe.make(tmp_path / "s.safetensors", tmp_path, steps=2, faces=20)
    _, about = checkpoint.load(tmp_path / "s.safetensors", "stylegan2")
    assert about["command"] == "python recipes/stylegan2.py --out s.safetensors --steps 2 --faces 20"
    assert set(about["scores"]) == {"images_seen", "frechet", "real_against_real", "samples", "frechet_dcgan"}
    assert load(tmp_path / "s.safetensors").resolution == 64
    tensors, about = checkpoint.load(tmp_path / "dcgan.safetensors", "dcgan")
    assert about["scores"]["images_seen"] == 32 and {name.split(".")[0] for name in tensors} == {"w_mean", "layers"}


def test_commands_draw_with_the_generator_that_is_named(tmp_path, capsys):
    out = tmp_path / "toy.png"
    assert main(["generate", "--generator", "toy", "--seeds", "3", "--psi", "1", "--out", str(out)]) == 0
    toy = load("toy")
    with torch.no_grad():
        drawing = toy.synthesis(broadcast(w_of(toy, 3, 1.0), toy.num_layers))
    assert np.array_equal(np.asarray(Pillow.open(out)), images.to_uint8(drawing)[0])
    for command in ("generate", "survey", "find --attribute age", "invert a.jpg", "walk", "mix", "edit"):
        assert parser().parse_args([*command.split(), "--generator", "toy", "--out", "x.png"]).generator == "toy"
    assert main(["generate", "--generator", "judge", "--out", str(tmp_path / "no.png")]) == 1
    assert "--generator judge draws nothing: give faces, toy" in capsys.readouterr().err
