"""Words and pictures in one space: how well a sentence fits a face, and edits from words. Taught in notebook 09.

Two towers look at two things: one at the picture of a face, one at a sentence. Each gives a vector of length one, and training makes
the vectors of a face and of its own caption point the same way, those of other captions elsewhere (CLIP, Radford et al. 2021). Both towers
stand on networks that are there already and stay as they are: the perceptual distance's for pictures, MiniLM for sentences. Only what joins
them is trained, in minutes, on features that are computed once.

    for step in train_words(Towers(), features, sentences, captions):
        print(step.index, step.loss, step.accuracy)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dvlatent import images
from dvlatent.errors import ShapeError
from dvlatent.training import TrainingState, warmup_cosine
from dvlatent.types import Image

SIZE_PX = 224  # what the image tower looks at
FEATURES = 2 * (16 + 24 + 40 + 80 + 112)  # mean and standard deviation of every channel of five stages

Features = Float[Tensor, "face feature"]
Embedding = Float[Tensor, "batch dim"]  # rows of length one


def image_features(network: nn.Module, image: Image) -> Features:
    """What the image tower reads: mean and standard deviation of every channel of every stage, [batch, 544]. Differentiable.

    `network` gives the features of a picture, stage by stage: `load("perceptual").network`. `image` are aligned faces in [-1, 1].
    """
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
        raise ShapeError(f"the image tower reads aligned faces, [batch, 3, size, size]; this is {list(image.shape)}. Align the photo first.")
    small = image if image.shape[-1] == SIZE_PX else images.resize(image, SIZE_PX)
    stages = [stage.flatten(2).float() for stage in network(small)]  # each [batch, channel, position]
    pooled = [part for stage in stages for part in (stage.mean(dim=2), (stage.var(dim=2) + 1e-6).sqrt())]
    return torch.cat(pooled, dim=1)


class Towers(nn.Module):
    """What is trained: features of a picture and the embedding of a sentence -> vectors of length one in a space that both share."""

    def __init__(self, features: int = FEATURES, sentence: int = 384, width: int = 512, dim: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = {"features": features, "sentence": sentence, "width": width, "dim": dim}
        hidden = [nn.LayerNorm(features), nn.Dropout(dropout), nn.Linear(features, width), nn.GELU(), nn.Dropout(dropout)]
        self.image_tower = nn.Sequential(*hidden, nn.Linear(width, dim))
        self.text_tower = nn.Linear(sentence, dim)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())  # of 1 / temperature (Radford et al. 2021, section 2.5)

    def image(self, features: Features) -> Embedding:
        """What `image_features` gave -> [batch, dim]."""
        return F.normalize(self.image_tower(features), dim=1)

    def text(self, sentences: Float[Tensor, "sentence number"]) -> Embedding:
        """What the sentence encoder gave -> [sentence, dim]."""
        return F.normalize(self.text_tower(sentences), dim=1)


@dataclass(frozen=True)
class WordsTrainConfig:
    """How the towers are trained."""

    steps: int = 3000  # optimizer steps
    batch: int = 512  # faces and captions that are told apart in a step
    lr: float = 1e-3  # AdamW's learning rate at its highest; it falls to 0 along a cosine
    weight_decay: float = 0.1  # of AdamW
    seed: int = 0  # of all that is drawn


@dataclass(frozen=True)
class WordsStep:
    """The result of one step."""

    index: int
    loss: float  # in nats; log(batch) for towers that know nothing
    accuracy: float  # fraction of the batch's faces whose own caption fits best
    state: TrainingState

    def save(self, path: Path | str) -> None:
        """Write a checkpoint from which `train_words` goes on."""
        self.state.save(path)


def contrastive_loss(similarity: Float[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """Symmetric cross-entropy: which caption belongs to a face, and which face to a caption (Radford et al. 2021, figure 3).

    `similarity` is scaled by 1 / temperature; the pairs stand on its diagonal.
    """
    own = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def train_words(
    towers: Towers,
    features: Features,
    sentences: Float[Tensor, "sentence number"],
    captions: Int[Tensor, "face caption"],
    config: WordsTrainConfig | None = None,
    resume: Path | str | None = None,
) -> Iterator[WordsStep]:
    """Train the towers on pairs of a face and one of its captions: an iterator of steps; stop at any of them.

    `features` of faces and embeddings of `sentences` are computed once; row i of `captions` says which sentences are true of face i, and
    one of them is drawn each time. `resume` is a file that a step saved. Raises ShapeError for numbers of rows that do not fit,
    TrainingDiverged for a loss that is not finite.
    """
    config = config or WordsTrainConfig()
    if len(captions) != len(features) or not 2 <= config.batch <= len(features) or not 0 <= int(captions.min()) <= int(captions.max()) < len(sentences):
        raise ShapeError(
            f"every face needs a row of captions, which are numbers of sentences, and a batch has 2 faces or more; given {len(features)} "
            f"faces, {len(captions)} rows up to {int(captions.max())}, {len(sentences)} sentences, {config}."
        )
    optimizer = torch.optim.AdamW(towers.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    state = TrainingState(config, {"towers": towers.train()}, {"optimizer": optimizer})
    if resume is not None:
        state.load(resume)
    for index in range(state.index, config.steps):
        state.scale_lr(warmup_cosine(index, config.steps))
        faces = torch.randperm(len(features), generator=state.rng)[: config.batch]
        chosen = torch.randint(captions.shape[1], (config.batch,), generator=state.rng)
        similarity = towers.image(features[faces].float()) @ towers.text(sentences[captions[faces, chosen]].float()).T
        loss = contrastive_loss(towers.log_scale.exp().clamp(max=100) * similarity)
        state.update("optimizer", loss)
        state.index = index + 1
        accuracy = (similarity.argmax(dim=1) == torch.arange(config.batch)).float().mean()
        yield WordsStep(index, float(loss.detach()), float(accuracy), state)
