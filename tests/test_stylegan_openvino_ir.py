"""Files from others are data: whatever is wrong with them is said in words."""

import re
import shutil

import pytest

from dvlatent.assets import asset_path
from dvlatent.errors import CheckpointError
from dvlatent.stylegan.openvino_ir import read_constants, read_mobile_stylegan


@pytest.fixture
def folder(tmp_path):
    """A copy of the network's four files that a test may harm."""
    for name in ("MappingNetwork", "SynthesisNetwork"):
        source = asset_path(f"random_face/data/{name}.xml")
        shutil.copy(source, tmp_path)
        (tmp_path / f"{name}.bin").symlink_to(source.with_suffix(".bin"))
    return tmp_path


def rewrite(folder, pattern, replacement, count=1):
    path = folder / "SynthesisNetwork.xml"
    changed, times = re.subn(pattern, replacement, path.read_text(), count=count)
    assert times
    path.write_text(changed)


def test_the_untouched_copy_is_read(folder):
    assert read_mobile_stylegan(folder).constant.shape == (1, 512, 4, 4)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r'name="m.layers.3.conv1.conv.weight_dw"', 'name="something.else"', '(?s)Missing.*"blocks.3.conv1.depthwise"'),
        (r'name="Mul_739_copy"', 'name="Mul_739"', '(?s)Missing.*"blocks.6.conv2.weight"'),
        (r'(name="m.conv1.bias".*?shape=")1, 512, 1, 1', r"\g<1>1, 511, 1, 1", "needs 2044"),
        (r'(name="m.conv1.bias".*?offset=")\d+', r"\g<1>999999999", "cut short"),
        (r'(name="m.conv1.bias".*?offset=")\d+', r"\g<1>-4", "ends at byte"),
        (r'(name="m.conv1.bias".*?offset=")\d+', r"\g<1>many", "does not say where"),
        (r'(name="m.conv1.bias".*?element_type=")f32', r"\g<1>f99", "does not say where"),
        (r'version="10"', 'version="11"', "version 10 was needed"),
        (r"</net>", "", "cannot be read"),
        (r"^<\?xml[^>]*>", '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "b">]>', "entities"),
    ],
)
def test_a_malformed_description_is_refused(folder, pattern, replacement, message):
    rewrite(folder, "(?s)" + pattern, replacement)
    with pytest.raises(CheckpointError, match=message):
        read_mobile_stylegan(folder)


def test_a_truncated_blob_is_refused(folder):
    blob = folder / "SynthesisNetwork.bin"
    data = blob.read_bytes()[:1_000_000]
    blob.unlink()
    blob.write_bytes(data)
    with pytest.raises(CheckpointError, match="cut short"):
        read_mobile_stylegan(folder)


@pytest.mark.parametrize("name", ["SynthesisNetwork.xml", "SynthesisNetwork.bin", "MappingNetwork.bin"])
def test_a_missing_or_empty_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="Run `dvlatent assets`"):
        read_mobile_stylegan(folder)
    (folder / name).touch()
    with pytest.raises(CheckpointError):
        read_mobile_stylegan(folder)


def test_numbers_that_are_not_finite_are_refused(folder):
    constant = read_constants(folder / "SynthesisNetwork.xml")["m.conv1.bias"]
    text = (folder / "SynthesisNetwork.xml").read_text()
    offset = int(re.search(r'(?s)name="m.conv1.bias".*?offset="(\d+)"', text).group(1))
    blob = folder / "SynthesisNetwork.bin"
    data = bytearray(blob.read_bytes())
    data[offset : offset + 4] = b"\x00\x00\xc0\x7f"  # not a number
    blob.unlink()
    blob.write_bytes(data)
    assert constant.size == 512
    with pytest.raises(CheckpointError, match="not finite"):
        read_mobile_stylegan(folder)
