"""The real CLIP, where somebody has it: a folder of weights behind the same interface as our small model. Taught in notebook 09.

    model = dvlatent.load("clip:models/clip-vit-base-patch32")  # as transformers or open_clip saved it, .safetensors only
    model.axes = fit_axes(w, embeddings)                        # for find_words; the other two ways need nothing more

The package `transformers` or `open_clip` builds the network; nothing in the folder is run or unpickled, nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvlatent import checkpoint, files, images
from dvlatent.editing.text import read_tokenizer, tokens
from dvlatent.editing.words import Embedding, WordModel
from dvlatent.errors import CheckpointError
from dvlatent.types import Image

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of the pictures that CLIP learned from
Read = tuple[nn.Module, int, int, tuple[Any, Any]]  # network, side of its pictures, pieces of its sentences, how colors are scaled


class Clip(WordModel):
    """CLIP from a folder that `transformers` or `open_clip` saved.

    Raises CheckpointError for a folder that holds no CLIP in safetensors, and if the package that wrote it is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        folder = Path(folder)
        wanted = [reader for reader in READERS if (folder / reader[0]).is_file()]
        if not wanted:
            raise CheckpointError(f"{folder} holds no CLIP: a folder with {' or '.join(one for one, *_ in READERS)} was needed.")
        installed = [reader for reader in wanted if _importable(reader[1])]
        if not installed:
            packages = " or ".join(f"pip install {pip}" for *_, pip in wanted)
            raise CheckpointError(f"{folder} needs a package that is not installed: {packages}.")
        name, package, read, _ = installed[0]
        try:
            self.network, self.size_px, self.most, scaled = read(import_module(package), folder, files.read_json(folder / name))
            self.network.float()
            for what, numbers in zip(("mean", "std"), scaled, strict=True):
                self.register_buffer(what, torch.tensor([files.number(number, -10, 10) for number in numbers]).view(3, 1, 1))
            self.scale = math.exp(files.number(self.network.logit_scale.item(), -10, 10))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as error:
            raise CheckpointError(f"{folder} is no complete CLIP in .safetensors: {str(error)[:200]}. Save it with {package}.") from error
        self.tokenizer = read_tokenizer(folder / "tokenizer.json")
        self.eval().requires_grad_(False)

    def images(self, image: Image) -> Embedding:
        """Aligned faces in [-1, 1] -> [batch, dim]; differentiable."""
        seen = (images.resize(image, self.size_px) / 2 + 0.5 - self.mean) / self.std
        encode = getattr(self.network, "encode_image", None) or self.network.get_image_features
        return F.normalize(_tensor(encode(seen)), dim=1)

    def sentences(self, sentences: Sequence[str]) -> Embedding:
        """Sentences -> [sentence, dim]."""
        rows = tokens(self.tokenizer, sentences, self.most)
        numbers = torch.tensor([row + [0] * (self.most - len(row)) for row in rows])  # no piece looks at a later one: padding is not seen
        encode = getattr(self.network, "encode_text", None) or self.network.get_text_features
        return F.normalize(_tensor(encode(numbers)), dim=1)


def _transformers(package: Any, folder: Path, config: dict[str, Any]) -> Read:
    if config["model_type"] != "clip":
        raise ValueError(f"it is a {config['model_type']}")
    network = package.CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    made, path = network.config, folder / "preprocessor_config.json"
    colors = files.read_json(path) if path.is_file() else {}
    scaled = colors.get("image_mean", MEAN), colors.get("image_std", STD)
    return network, made.vision_config.image_size, made.text_config.max_position_embeddings, scaled


def _open_clip(package: Any, folder: Path, config: dict[str, Any]) -> Read:
    sizes, colors = config["model_cfg"], config.get("preprocess_cfg", {})
    network = package.CLIP(**sizes)
    checkpoint.load_weights(network, checkpoint.load(folder / "open_clip_model.safetensors", None)[0], folder.name)
    scaled = colors.get("mean", MEAN), colors.get("std", STD)
    return network, sizes["vision_cfg"]["image_size"], sizes["text_cfg"]["context_length"], scaled


def _tensor(given: Any) -> Tensor:
    """The embedding itself: newer versions of transformers wrap it."""
    return given if isinstance(given, Tensor) else given.pooler_output


def _importable(package: str) -> bool:
    try:
        return bool(import_module(package))
    except ImportError:
        return False


READERS = (  # the file that a folder must hold, the package that builds its network, how, and the package's name for pip
    ("open_clip_config.json", "open_clip", _open_clip, "open_clip_torch"),
    ("config.json", "transformers", _transformers, "transformers"),
)
