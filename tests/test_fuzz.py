"""Files from others: 300 seeded mutants of every kind either load, and then work, or are refused by an error of ours."""

import copy
import gzip
import json
import os
import random
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pairs_toy
import pytest
import torch
from PIL import Image as Pillow

from dvlatent import assets, checkpoint, files, images
from dvlatent.autoencoder.model import Autoencoder, AutoencoderConfig
from dvlatent.directions import Direction
from dvlatent.distillation.cyclegan import CycleGAN
from dvlatent.distillation.pairs import Pairs, write_pairs
from dvlatent.distillation.pix2pixhd import Student
from dvlatent.distillation.train import save_filter
from dvlatent.editing import survey
from dvlatent.errors import AssetBroken, CheckpointError, DvlatentError
from dvlatent.faces import attributes, identity, perceptual
from dvlatent.faces.align import Alignment, paste_back
from dvlatent.faces.onnx_graph import OnnxGraph
from dvlatent.gan import data
from dvlatent.inversion.invert import Inversion
from dvlatent.stylegan import openvino_ir
from dvlatent.training import TrainingState
from dvlatent.zoo import load, read_cyclegan, read_filter, read_map

MUTANTS, SECONDS, MEGABYTES = 300, 60, 400  # of each kind; for one mutant; more memory than before
NASTY = [
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**20, 1e308, -1e308, float("inf"), float("nan"), 1e-300, 0.5, 8000, 64, "", "²", "٣",
    "F32", "U8", "BOOL", "F8_E4M3", "C64", "I64", "a/../../b", "\x00", "<script>", [], {}, [1], [[]], {"a": 1}, [0, 2**40], [1, -1],
]  # fmt: skip


# What is attacked: a good file of each kind, and its readers


@dataclass(frozen=True)
class Config:
    """Of the smallest training."""

    steps: int = 5
    seed: int = 0


def training():
    net = torch.nn.Linear(3, 2)
    return TrainingState(Config(), {"net": net}, {"adam": torch.optim.Adam(net.parameters())})


def step(state):
    state.update("adam", state.networks["net"](torch.ones(1, 3)).sum())
    return state


def make_safetensors(kind, path):
    age = Direction("age", torch.eye(4)[0], 0.5, -1.0, (1, 2), 0.7, "abc", {"faces": 10})
    if kind == "direction":
        checkpoint.save_direction(age, path)
    elif kind == "edit":
        checkpoint.save_edit(2 * age - 1 * Direction("smile", torch.eye(4)[1]), path, licence="ours")
    elif kind == "filter":
        save_filter(path, Student(1, 2, 1, 2.0, 2), {"direction": "age", "size_px": 16})
    elif kind == "cyclegan":
        net = CycleGAN(1, 1, 1, 1)
        state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("discriminator")}
        checkpoint.save(path, state, {"kind": "cyclegan", "width": 1, "blocks": 1, "discriminator_width": 1, "downs": 1})
    elif kind == "autoencoder":
        config = AutoencoderConfig(2, 4, 1, 4, (3,), (3,))
        checkpoint.save(path, Autoencoder(config).state_dict(), {"kind": "autoencoder", "config": vars(config)})
    elif kind == "inversion":
        alignment = Alignment(((1, 1), (1, 9), (9, 9), (9, 1)), (12, 12))
        Inversion(torch.ones(1, 3, 4), torch.ones(5), "abc", alignment, {"steps": 5}).save(path)
    elif kind == "population":
        survey.save(survey.Population((1, 2, 3), torch.rand(3, 2), ("age", "male"), 1.0, "abc"), path)
    else:
        step(training()).save(path)


def use_inversion(path):
    found = Inversion.load(path)
    if found.alignment and max(found.alignment.photo_size) < 5000:
        paste_back(torch.zeros(1, 3, *found.alignment.photo_size), torch.ones(1, 3, 8, 8), found.alignment)


def use_training(path):
    state = training()
    state.load(path)
    step(state)


def use_directions(path):
    one = load(path)
    ws = torch.zeros(1, 3, 4)
    one.move(ws, 1.0) if isinstance(one, Direction) else one(ws)


def use_population(path):
    population = survey.load(path)
    assert population.column(population.names[0]).shape == (len(population),)


def use_filter(path):
    one = read_filter(path)
    one(torch.zeros(1, 3, 16, 16), one.high)


SAFETENSORS = {
    "direction": use_directions, "edit": use_directions, "filter": use_filter, "cyclegan": read_cyclegan,
    "autoencoder": lambda path: read_map(path).decode(torch.zeros(1, 2)), "inversion": use_inversion, "population": use_population,
    "training": use_training,
}  # fmt: skip


def make_onnx(path):
    weights = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w"), onnx.numpy_helper.from_array(np.ones(2, np.float32), "b")
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["r"]), onnx.helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["f"]), onnx.helper.make_node("Gemm", ["f", "w", "b"], ["g"], transB=1),
        onnx.helper.make_node("Softmax", ["g"], ["y"]),
    ]  # fmt: skip
    ends = (onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 2])))
    takes, gives = ends
    graph = onnx.helper.make_graph(nodes, "small", [takes], [gives], list(weights))
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)


def use_onnx(path):
    attributes._session(path, 8, 2)
    OnnxGraph(path)


def make_xml(path):
    path.with_suffix(".bin").write_bytes(np.arange(12, dtype="<f4").tobytes())
    const = '<layer id="{0}" name="c{0}" type="Const"><data element_type="f32" shape="{1}" offset="{2}" size="{3}"/></layer>'
    layers = const.format(0, "2, 3", 0, 24) + const.format(1, "6", 24, 24)
    path.write_text(f'<?xml version="1.0"?><net name="n" version="10"><layers>{layers}</layers></net>')


def make_dat(path):
    sizes = b"".join(b"\x01" + bytes([size]) for size in (2, 1, 1, 3))
    path.write_bytes(b"\x01\x05con_4\x01\x02" + sizes + np.ones(6, "<f4").tobytes())


def make_picture(path):
    Pillow.fromarray(np.random.RandomState(0).randint(0, 255, (24, 20, 3), np.uint8)).save(path)


def make_manifest(path):
    line = assets._requirements()[0]
    path.write_text(json.dumps({"packages": {line: {"a/b.bin": {"size": 3, "sha256": "0" * 64}}}}))


def use_manifest(path):
    assets.damaged()
    assets.asset_path("random_face/data/SynthesisNetwork.xml")


def make_pth(path):
    torch.save({"_conv_stem.weight": torch.ones(2, 2), "other": torch.ones(3)}, path)


def make_gz(path):
    path.write_bytes(gzip.compress(b"1,2,3\n" * 20))


PLAIN = {  # name of the file -> maker, reader
    "net.onnx": (make_onnx, use_onnx),
    "net.xml": (make_xml, openvino_ir.read_constants),
    "net.dat": (make_dat, identity.read_dat),
    "net.pth": (make_pth, perceptual.Distance),
    "digits.csv.gz": (make_gz, data.digits),
    "manifest.json": (make_manifest, use_manifest),
    **{f"picture.{kind}": (make_picture, images.read) for kind in ("png", "jpg", "webp", "tif", "gif", "bmp")},
}


def use_pairs(path):
    pairs = Pairs(path.parent if path.name == "pairs.json" else path.parent.parent)
    assert isinstance(pairs.command, str) and len(pairs.ids) * 2 == 2 * len(pairs)
    pairs.batch([0])


# How they are changed


def places(value, at=()):
    """Every place in a JSON value, as the keys that lead there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, part in inside for place in places(part, (*at, key))]


def changed(value, rng):
    """A JSON value with something wrong at one or two places."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2))):
        if not (there := places(value)):
            break
        *path, last = rng.choice(there)
        owner = value
        for key in path:
            owner = owner[key]
        if rng.random() < 0.15:
            del owner[last]
        elif rng.random() < 0.15 and isinstance(owner, dict):
            owner[rng.choice(("another", "kind", "²"))] = owner.pop(last)
        else:
            owner[last] = copy.deepcopy(rng.choice(NASTY))
    return value


def text_of(value, rng):
    text = json.dumps(value)
    return text[: rng.randrange(len(text))] + "[" * 10_000 if rng.random() < 0.03 else text


def bytes_changed(raw, rng):
    """Bytes flipped, cut, doubled, emptied or put in."""
    raw, way = bytearray(raw), rng.randrange(6)
    at = rng.randrange(len(raw))
    if way == 0:
        raw = raw[:at]
    elif way == 1:
        raw[at:at] = raw[: rng.randrange(1, 200)]
    elif way == 2:
        raw[at : at + rng.randrange(1, 50)] = bytes(rng.randrange(1, 50))
    else:
        for _ in range(2 ** rng.randrange(6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


def safetensors_changed(raw, rng):
    """What the header says of tensors, what the description says, or any byte."""
    way, size = rng.random(), struct.unpack("<Q", raw[:8])[0]
    if way < 0.25:
        return bytes_changed(raw, rng)
    header, numbers = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    if way < 0.35:
        numbers = bytes(rng.choice((0, 255)) for _ in range(len(numbers)))  # all zero, or no numbers
    elif way < 0.55:
        one = header[rng.choice([name for name in header if name != "__metadata__"])]
        count = one["data_offsets"][1] - one["data_offsets"][0]
        kind, width = rng.choice((("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F16", 2), ("I64", 8), ("F64", 8), ("C64", 8), ("F32", 4)))
        one["dtype"], one["shape"] = kind, rng.choice(([count // width], [1, count // width], [count // width, 1, 1], []))
    elif way < 0.6:
        header = changed(header, rng)
    elif "description" in header.get("__metadata__", {}):
        header["__metadata__"]["description"] = text_of(changed(json.loads(header["__metadata__"]["description"]), rng), rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def json_changed(raw, rng):
    return text_of(changed(json.loads(raw), rng), rng).encode() if rng.random() < 0.7 else bytes_changed(raw, rng)


def attack(path, use, change, words):
    """Every mutant loads and works, or is refused; quickly, with little memory."""
    raw, refused, before = path.read_bytes(), 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def slow(*_):
        raise TimeoutError(f"a mutant took {SECONDS} s")

    old = signal.signal(signal.SIGALRM, slow)
    try:
        for number in range(MUTANTS):
            mutant = change(raw, random.Random(f"{words} {number}"))
            path.write_bytes(mutant)
            signal.alarm(SECONDS)
            try:
                use(path)
            except DvlatentError as error:
                refused += 1
                assert str(error).strip().endswith((".", "?")), error
            except Exception as error:
                kept = Path(f"{path}.{number}")
                kept.write_bytes(mutant)
                raise AssertionError(f"mutant {number} of {words}, kept in {kept}: {error!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert refused > MUTANTS // 10, f"only {refused} were refused: were they attacked?"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_mutants_of_our_files_load_or_are_refused(kind, tmp_path):
    path = tmp_path / "it.safetensors"
    make_safetensors(kind, path)
    SAFETENSORS[kind](path)
    attack(path, SAFETENSORS[kind], safetensors_changed, kind)


@pytest.mark.parametrize("name", PLAIN)
def test_mutants_of_other_files_load_or_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DVLATENT_HOME", str(tmp_path))
    path = tmp_path / "assets" / name
    path.parent.mkdir()
    PLAIN[name][0](path)
    attack(path, PLAIN[name][1], json_changed if name.endswith(".json") else bytes_changed, name)


@pytest.mark.parametrize("name", ["pairs.json", "shards/000000.json"])
def test_mutants_of_pairs_load_or_are_refused(name, tmp_path):
    toy, direction, predictor, person = pairs_toy.parts()
    for _ in write_pairs(tmp_path, toy, direction, 5, predictor, person, pairs_toy.RULES, pairs_toy.CONFIG):
        pass
    use_pairs(tmp_path / name)
    attack(tmp_path / name, use_pairs, json_changed, name)


# What is no ordinary file, and what never ends


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "nothing"])
def test_what_is_no_ordinary_file_is_refused_at_once(what, tmp_path, monkeypatch):
    readers = {**SAFETENSORS, **{name: reader for name, (_, reader) in PLAIN.items() if name != "manifest.json"}}
    path = {"device": Path("/dev/zero")}.get(what, tmp_path / "it")
    {"pipe": os.mkfifo, "folder": os.mkdir}.get(what, lambda _: None)(path)
    signal.alarm(30)  # the process dies rather than waits
    try:
        for name, reader in [*SAFETENSORS.items(), *readers.items()]:
            with pytest.raises(DvlatentError):
                print(name)
                reader(path)
        assert checkpoint.kind(path) == ""
    finally:
        signal.alarm(0)


def test_an_onnx_loop_is_refused_before_it_runs(tmp_path):
    one = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["c"], ["c2"])], "b", [one("i", 7, []), one("c", 9, [])], [one("c2", 9, [])]
    )
    forever = onnx.helper.make_node("Loop", ["", "yes"], [], body=body)
    graph = onnx.helper.make_graph([forever], "g", [one("yes", 9, [])], [one("y", 1, [1, 2])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "loop.onnx")
    for read in (lambda path: attributes._session(path, 8, 2), OnnxGraph):
        with pytest.raises(AssetBroken, match="layers that are not known here: Loop"):
            read(tmp_path / "loop.onnx")


@pytest.mark.parametrize(("kind", "name"), [("edit", "vectors"), ("population", "seeds"), ("population", "scores")])
def test_a_billion_empty_rows_are_refused_before_they_are_counted(kind, name, tmp_path):
    path = tmp_path / "a.safetensors"
    make_safetensors(kind, path)
    tensors, description = checkpoint.load(path, kind)
    tensors[name] = torch.empty(10**9, 0, dtype=tensors[name].dtype)
    checkpoint.save(path, tensors, description)
    with pytest.raises(CheckpointError, match="empty rows"):
        SAFETENSORS[kind](path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "cp037"])
def test_xml_in_strange_encodings_is_refused(encoding, tmp_path):
    make_xml(tmp_path / "a.xml")
    text = (tmp_path / "a.xml").read_text().replace('version="1.0"', f'version="1.0" encoding="{encoding}"')
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    try:
        assert len(openvino_ir.read_constants(tmp_path / "a.xml")) == 2  # utf-7 is plain letters here
    except CheckpointError:
        assert encoding != "utf-8"


@pytest.mark.parametrize(
    "change", [{"size_px": 2**63}, {"size_px": 8000}, {"size_px": 0}, {"downs": True}, {"strengths": [2, -2]}, {"width": 256}]
)
def test_sizes_of_a_filter_are_refused_before_they_cost_memory(change, tmp_path):
    student = Student(1, 2, 1, 2.0, 2)
    about = {"kind": "filter", **student.sizes, "direction": "age", "strengths": [-2.0, 2.0], "size_px": 16, **change}
    checkpoint.save(tmp_path / "a.safetensors", student.state_dict(), about)
    with pytest.raises(CheckpointError):
        read_filter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("quad", [((0, 0), (0, 2**31), (2**31, 2**31), (2**31, 0)), ((0, 0), (0, 8), (9e4, 9e4), (8, 0)), ((1, 1),) * 4])
def test_corners_that_are_no_square_are_refused(quad):
    with pytest.raises(DvlatentError, match="four corners of a square"):
        Alignment(quad, (100, 100))


# Numbers in JSON


@pytest.mark.parametrize("text", ["NaN", "[1e999]", "-1e300", "9" * 5000, str(2**63), "[" * 10_000, '{"a": 1', ""])
def test_json_that_no_number_fits_is_refused(text):
    with pytest.raises(ValueError):
        files.parse(text)
    assert files.parse("[1, -2.5, true, 9223372036854775807]") == [1, -2.5, True, 2**63 - 1]


def test_a_number_is_no_truth_value_and_within_its_bounds():
    assert files.number(3, 0, 5, whole=True) == 3 and files.number(2.5) == 2.5
    for value, bounds in ((True, ()), ("3", ()), (None, ()), (6, (0, 5)), (float("nan"), ())):
        with pytest.raises(ValueError, match="is no number from"):
            files.number(value, *bounds)
    with pytest.raises(ValueError, match="is no whole number from"):
        files.number(2.5, whole=True)
