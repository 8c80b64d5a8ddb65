"""What went in comes out, but for the edit: color profile, depth, transparency, dates; and what never comes out: place and camera."""

import functools
import io
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
import tifffile
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000, rgb2lab

from dvlatent import images
from dvlatent.errors import ImageError

P3 = {b"rXYZ": (0.51512, 0.24120, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.15710, 0.06657, 0.78407)}  # D50
ROWS, COLUMNS = slice(20, 60), slice(30, 90)


@functools.cache  # a profile holds the time of its making
def profile(primaries="P3"):
    """The profile of sRGB with the primaries of Display P3, or with its own."""
    colorants = P3 if primaries == "P3" else {}
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * struct.unpack(">I", data[128:132])[0], 12):
        tag, place, _ = struct.unpack(">4sII", data[at : at + 12])
        if tag in colorants:
            data[place + 8 : place + 20] = struct.pack(">3i", *(round(65536 * value) for value in colorants[tag]))
    return bytes(data)


def through(pixels, first, then):
    """8-bit RGB pixels from one profile to another, by Pillow."""
    first, then = (ImageCms.ImageCmsProfile(io.BytesIO(one)) if one else ImageCms.createProfile("sRGB") for one in (first, then))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), first, then, ImageCms.Intent.RELATIVE_COLORIMETRIC))


def brighter(amount=0.2):
    return [(ROWS, COLUMNS, torch.full((1, 3, 40, 60), amount))]


@pytest.fixture(scope="module")
def small(photo):
    return np.ascontiguousarray(images.to_uint8(photo)[0][:100, 150:300])  # her hair and forehead, [100, 150, 3]


@pytest.fixture
def outside(small):
    mask = np.ones(small.shape[:2], bool)
    mask[ROWS, COLUMNS] = False
    return mask


@pytest.mark.parametrize(("suffix", "limit"), [(".png", 0.0), (".jpg", 1.0), (".webp", 1.0)])
def test_a_color_profile_comes_back(small, outside, suffix, limit, tmp_path):
    theirs = through(small, None, profile())
    Image.fromarray(theirs).save(tmp_path / f"a{suffix}", icc_profile=profile(), quality=90)
    picture = images.open(tmp_path / f"a{suffix}")
    theirs = picture.pixels
    images.write(picture.changed(brighter()), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert written.info["icc_profile"] == profile()
        pixels = np.asarray(written)
    before, after = (rgb2lab(through(one, profile(), None)) for one in (theirs, pixels))
    assert deltaE_ciede2000(before, after)[outside].mean() <= limit  # without its profile: 2.6
    change = images.read(tmp_path / f"b{suffix}") - images.read(tmp_path / f"a{suffix}")
    assert float(change[..., ROWS, COLUMNS].mean()) == pytest.approx(0.2, abs=0.02)  # as it was meant, in sRGB


def test_read_gives_srgb(small, tmp_path):
    Image.fromarray(through(small, None, profile())).save(tmp_path / "a.png", icc_profile=profile())
    assert np.abs(images.to_uint8(images.read(tmp_path / "a.png"))[0].astype(int) - small).mean() < 0.7
    Image.fromarray(small).save(tmp_path / "b.png", icc_profile=profile("sRGB"))  # sRGB itself changes no bit
    assert (images.to_uint8(images.read(tmp_path / "b.png"))[0] == small).all()
    Image.fromarray(small).save(tmp_path / "c.png", icc_profile=b"damaged")
    assert (images.to_uint8(images.read(tmp_path / "c.png"))[0] == small).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_gray_stays_gray(small, outside, suffix, tmp_path):
    gray = Image.fromarray(small).convert("L")
    gray.save(tmp_path / "a.png")
    colors = [(ROWS, COLUMNS, torch.tensor([0.5, -0.1, 0.2])[None, :, None, None].expand(1, 3, 40, 60))]
    images.write(images.open(tmp_path / "a.png").changed(colors), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert written.mode == "L"
        change = np.asarray(written).astype(float) - np.asarray(gray)
    assert np.abs(change[outside]).mean() < (0.01 if suffix == ".png" else 1.5)
    assert change[ROWS, COLUMNS].mean() == pytest.approx(0.2 * 127.5, abs=2)


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", ".png"), ("RGBA", ".webp"), ("LA", ".png")])
def test_transparency_stays(small, outside, mode, suffix, tmp_path):
    picture = Image.fromarray(small).convert(mode)
    alpha = (np.indices(small.shape[:2]).sum(0)).astype(np.uint8)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    images.write(images.open(tmp_path / "a.png").changed(brighter()), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as written:
        pixels = np.asarray(written)
    assert written.mode == mode and (pixels[..., -1] == alpha).all()
    if suffix == ".png":
        same = (pixels == np.asarray(picture)).all(2)
        assert same[outside].all() and not same[ROWS, COLUMNS].all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("colors", [b"", profile()])
def test_sixteen_bits_stay_sixteen(channels, colors, outside, tmp_path):
    deep = np.random.RandomState(0).randint(0, 65536, (100, 150, channels)).astype(np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tag = [(34675, 7, len(colors), colors, True)] if colors and channels > 1 else []
    tifffile.imwrite(tmp_path / "a.tif", deep.squeeze(), photometric="minisblack" if channels == 1 else "rgb", extratags=tag, **extra)
    assert images.writable(tmp_path / "a.tif") == tmp_path / "a.png"
    images.write(images.open(tmp_path / "a.tif").changed(brighter()), tmp_path / "a.png")
    layout = {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}[channels]
    command = [get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "a.png", "-f", "rawvideo", "-pix_fmt", layout, "-"]
    written = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint16).reshape(deep.shape)
    assert (written[outside] == deep[outside]).all()
    middle = (deep[ROWS, COLUMNS, :1] > 20_000) & (deep[ROWS, COLUMNS, :1] < 40_000)
    change = written[ROWS, COLUMNS, :1].astype(float)[middle] - deep[ROWS, COLUMNS, :1][middle]
    assert change.mean() == pytest.approx(0.1 * 65535, rel=0.2 if tag else 1e-4)
    assert (images.open(tmp_path / "a.png").pixels == written).all()  # what we write we read
    with Image.open(tmp_path / "a.png") as again:
        assert again.size == (150, 100) and again.info.get("icc_profile", b"") == (colors if tag else b"")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_dates_and_copyright_stay_and_places_go(small, suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif[0x8298], exif[0x010F] = orientation, "2024:05:06 07:08:09", "(c) Ada", "a maker of cameras"
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA431: "number of the camera"}
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    Image.fromarray(small).save(tmp_path / f"a{suffix}", exif=exif)
    images.write(images.open(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}", note="edited: age +2")
    with Image.open(tmp_path / f"b{suffix}") as written:
        kept = written.getexif()
        assert dict(kept.get_ifd(0x8769)) == {0x9003: "2024:05:06 07:08:09"} and not kept.get_ifd(0x8825)
        assert {tag: kept[tag] for tag in kept if tag != 0x8769} == {
            0x0132: "2024:05:06 07:08:09", 0x8298: "(c) Ada", 0x010E: "edited: age +2", 0x0131: "dvlatent",
        }  # fmt: skip
        assert written.size == ((150, 100) if orientation == 1 else (100, 150))


MEMORY = """
import resource, sys, torch
from PIL import Image
from dvlatent import images
Image.new("RGB", (64, 64)).save("small.png")
images.write(images.open("small.png"), "out.jpg")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = images.open("large.jpg")
assert picture.shown.shape == (1, 3, 4000, 4000)
images.write(picture.changed([(slice(0, 500), slice(0, 500), torch.zeros(1, 3, 500, 500))]), "out.jpg")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 4000**2)
"""


def test_a_large_photo_takes_little_memory(tmp_path):
    Image.new("RGB", (4000, 4000), (90, 120, 90)).save(tmp_path / "large.jpg")
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 15  # bytes a pixel: the file's, the edited and the encoder's; as floats, each copy has 12


def test_a_mark_is_seen_on_every_kind():
    for channels, depth in ((1, np.uint8), (2, np.uint16), (3, np.uint16), (4, np.uint8)):
        marked = images.Picture(np.full((90, 120, channels), np.iinfo(depth).max // 2, depth)).marked("edited").shown
        corner = images.as_floats(marked)[..., -15:, -40:]
        assert corner.min() == -1 and corner.max() > 0.8


def test_eps_files_start_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", None)
    for name in ("a.eps", "a.png"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
        with pytest.raises(ImageError, match="not a picture that can be read"):
            images.read(tmp_path / name)


def test_heic_is_read_where_its_reader_is_installed(tmp_path, monkeypatch, small):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.fromarray(small).save(tmp_path / "phone.heic", "PNG")
    (tmp_path / "real.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        images.read(tmp_path / "real.heic")
    told = []
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=lambda: told.append(1)))
    monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"] if Image.init() or True else None)
    assert images.read(tmp_path / "phone.heic").shape == (1, 3, 100, 150) and told
