"""Words and pictures in one space: how well a sentence fits a face, and edits from words. Taught in notebook 09.

Two towers look at two things: one at the picture of a face, one at a sentence. Each gives a vector of length one, and training makes
the vectors of a face and of its own caption point the same way, those of other captions elsewhere (CLIP, Radford et al. 2021). Both towers
stand on networks that are there already and stay as they are: the perceptual distance's for pictures, MiniLM for sentences. Only what joins
them is trained, in minutes, on features that are computed once.

    model = dvlatent.load("words")
    model.similarity(picture, ["an old woman", "a young man"])  # [1, 2]
    beard = find_words(model, generator, "a man with a beard", "a man")  # a Direction

Words become edits in three ways (StyleCLIP, Patashnik et al. 2021): `find_words` reads a direction off a regression, at once;
`gradient_words` asks the pictures of many faces; `optimize_words` searches for one face.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dvlatent import checkpoint, images
from dvlatent.directions import Direction
from dvlatent.editing.text import SentenceEncoder
from dvlatent.errors import ShapeError, TrainingDiverged, UnknownWords
from dvlatent.latents import Layers, broadcast, layer_range, w_of
from dvlatent.training import TrainingState, finite, warmup_cosine
from dvlatent.types import Generator, Identity, Image, Render, W, Ws, fingerprint, renderer
from dvlatent.whitening import Whitening

SIZE_PX, GRID = 256, 4  # what the image tower looks at, and the positions along a side that it tells apart
FEATURES = GRID**2 * (24 + 40 + 80 + 112) + (16 + 24 + 40 + 80 + 112)
RIDGE = 0.1  # of regressions on w, in units of the mean variance of a number of w, as in `find`
AGAINST = "a face"  # what a phrase is compared with unless told

Features = Float[Tensor, "face feature"]
Embedding = Float[Tensor, "batch dim"]  # rows of length one


def image_features(network: nn.Module, image: Image) -> Features:
    """What the image tower reads, [batch, 4368]: where in the picture the features are, on 4 x 4 positions, and how much each varies.

    `network` gives the features of a picture, stage by stage: `load("perceptual").network`. `image` are aligned faces in [-1, 1].
    Differentiable. Raises ShapeError for other shapes.
    """
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
        raise ShapeError(f"words are compared with aligned faces, [batch, 3, size, size]; this is {list(image.shape)}. Align the photo.")
    stages = network(image if image.shape[-1] == SIZE_PX else images.resize(image, SIZE_PX))
    where = [F.adaptive_avg_pool2d(stage, GRID).flatten(1) for stage in stages[1:]]
    return torch.cat([*where, *((stage.var(dim=(2, 3)) + 1e-12).sqrt() for stage in stages)], dim=1).float()


class Towers(nn.Module):
    """What is trained: features of a picture and the embedding of a sentence -> vectors of length one in a space that both share."""

    def __init__(
        self, features: int = FEATURES, sentence: int = 384, width: int = 256, dim: int = 128, facts: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.sizes = {"features": features, "sentence": sentence, "width": width, "dim": dim, "facts": facts}
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        first = [nn.Dropout(dropout), nn.Linear(features, width), nn.GELU()]
        there = [nn.Linear(width, facts), nn.Sigmoid()]  # a thing is there or not: numbers from 0 to 1
        self.image_tower = nn.Sequential(*first, nn.Dropout(dropout), *there, nn.Linear(facts, dim))
        self.text_tower = nn.Sequential(nn.Linear(sentence, width), nn.GELU(), nn.Linear(width, dim))
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())  # of 1 / temperature (Radford et al. 2021, section 2.5)

    def standardize(self, features: Features) -> None:
        """Keep the mean and the standard deviation of these features; `image` scales by them from now on."""
        std, mean = torch.std_mean(features.double(), dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """1 / temperature: what cosines are multiplied by before a softmax; at most 100."""
        return self.log_scale.exp().clamp(max=100)

    def image(self, features: Features) -> Embedding:
        """What `image_features` gave -> [batch, dim]."""
        return F.normalize(self.image_tower((features - self.mean) / self.std), dim=1)

    def text(self, sentences: Float[Tensor, "sentence number"]) -> Embedding:
        """What the sentence encoder gave -> [sentence, dim]."""
        return F.normalize(self.text_tower(sentences), dim=1)


class WordModel(nn.Module):
    """Pictures and sentences in one space. Subclasses give `images`, `sentences` and `scale`; here is what all such models can do.

    `axes`, [w, dim], says how the embedding of a face follows from its w (`fit_axes`); `find_words` needs it.
    """

    axes: Tensor | None = None
    scale: float = 100.0  # 1 / temperature: what cosines are multiplied by before a softmax

    def images(self, image: Image) -> Embedding:
        """Aligned faces in [-1, 1] -> [batch, dim]; differentiable."""
        raise NotImplementedError

    def sentences(self, sentences: Sequence[str]) -> Embedding:
        """Sentences -> [sentence, dim]."""
        raise NotImplementedError

    def similarity(self, image: Image, sentences: Sequence[str]) -> Float[Tensor, "batch sentence"]:
        """How well each sentence fits each picture: cosines, comparable along a row."""
        return self.images(image) @ self.sentences(sentences).T

    def check(self, phrase: str) -> None:
        """Raise UnknownWords for a phrase that means nothing to this model, if it can tell."""

    def difference(self, phrase: str, against: str) -> Float[Tensor, " dim"]:
        """From one sentence to another in the shared space. Raises UnknownWords if either means nothing, or both the same."""
        for one in (phrase, against):
            self.check(one)
        first, second = self.sentences([phrase, against])
        if (first - second).norm() < 1e-3:
            raise UnknownWords(f"'{phrase}' and '{against}' are the same to this model: no direction leads from one to the other.")
        return first - second


class Words(WordModel):
    """The model that we ship: `load("words")`.

    `network` is that of the perceptual distance; `known` are embeddings of what it was taught, and a phrase whose cosine with the nearest
    of them is below `least` means nothing to it.
    """

    def __init__(
        self, network: nn.Module, encoder: SentenceEncoder, towers: Towers, axes: Tensor | None, known: Tensor | None, least: float = 0.0
    ) -> None:
        super().__init__()
        self.network, self.encoder, self.towers, self.axes, self.known, self.least = network, encoder, towers, axes, known, least
        self.scale = towers.scale.item()

    def images(self, image: Image) -> Embedding:
        """Aligned faces in [-1, 1] -> [batch, 128]; differentiable."""
        return self.towers.image(image_features(self.network, image))

    def sentences(self, sentences: Sequence[str]) -> Embedding:
        """Sentences -> [sentence, 128]."""
        return self.towers.text(self.encoder(sentences))

    def check(self, phrase: str) -> None:
        """Raise UnknownWords for a phrase that is like nothing that the model was taught."""
        if self.known is not None and (nearest := float((self.encoder([phrase]) @ self.known.T).max())) < self.least:
            raise UnknownWords(
                f"'{phrase}' means nothing to this model: its likeness to what it was taught is {nearest:.2f}, and {self.least:.2f} is "
                "needed. Say how a face looks: its age, hair, smile, glasses, ..."
            )


def save_words(path: Path | str, towers: Towers, axes: Tensor, known: Tensor, least: float, **metadata: Any) -> None:
    """Write a model for `load("words")`, in half precision. Raises CheckpointError as `checkpoint.save` does."""
    tensors = {**towers.state_dict(), "axes": axes, "known": known}
    description = {"kind": "words", "sizes": towers.sizes, "least": least, **metadata}
    checkpoint.save(path, {name: tensor.half() for name, tensor in tensors.items()}, description)


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
    one of them is drawn each time. `resume` is a file that a step saved. After a step the towers are in training mode; call `eval`.
    Raises ShapeError for numbers of rows that do not fit, TrainingDiverged for a loss that is not finite.
    """
    config = config or WordsTrainConfig()
    last = int(captions.max()) if captions.numel() else -1
    if len(captions) != len(features) or not 2 <= config.batch <= len(features) or not 0 <= last < len(sentences) or captions.min() < 0:
        raise ShapeError(
            f"every face needs a row of captions, which are numbers of sentences, and a batch 2 faces or more that are there; given "
            f"{len(features)} faces, {list(captions.shape)} captions up to number {last}, {len(sentences)} sentences, {config}."
        )
    optimizer = torch.optim.AdamW(towers.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    state = TrainingState(config, {"towers": towers.train()}, {"optimizer": optimizer})
    if resume is not None:
        state.load(resume)
    else:
        towers.standardize(features)
    for index in range(state.index, config.steps):
        state.scale_lr(warmup_cosine(index, config.steps))
        faces = torch.randperm(len(features), generator=state.rng)[: config.batch]
        chosen = torch.randint(captions.shape[1], (config.batch,), generator=state.rng)
        with torch.enable_grad():  # the caller may have switched gradients off
            similarity = towers.image(features[faces].float()) @ towers.text(sentences[captions[faces, chosen]].float()).T
            loss = contrastive_loss(towers.scale * similarity)
            state.update("optimizer", loss)
        state.index = index + 1
        accuracy = (similarity.argmax(dim=1) == torch.arange(config.batch)).float().mean()
        yield WordsStep(index, **finite(index, {"loss": loss, "accuracy": accuracy}), state=state)


def fit_axes(w: W, embeddings: Embedding, ridge: float = RIDGE) -> Float[Tensor, "w dim"]:
    """Regression of the embeddings of many faces on their w: the `axes` of a model (ridge, Hoerl and Kennard 1970)."""
    x, y = (rows.double() - rows.double().mean(dim=0) for rows in (w, embeddings))
    penalty = ridge * x.square().sum() / x.shape[1] * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(x.T @ x + penalty, x.T @ y).float()


def find_words(model: WordModel, generator: Generator, phrase: str, against: str = AGAINST, *, layers: Layers | None = None) -> Direction:
    """The direction along which faces fit `phrase` better than `against`, read off the model's regression on w at once.

    The difference of two sentences says what should grow, the regression along which line of W it grows, all else equal. One step is one
    standard deviation of the population, coordinate 0 is the mean face. Raises UnknownWords for a phrase that means nothing to the model,
    ShapeError for a model without axes, or with those of another W.
    """
    if model.axes is None or len(model.axes) != generator.w_dim:
        shape = None if model.axes is None else list(model.axes.shape)
        raise ShapeError(f"axes of shape [{generator.w_dim}, dim] were needed, the model's are {shape}. Set model.axes to fit_axes(...).")
    vector = model.axes @ model.difference(phrase, against)  # [w]
    return _direction(generator, Whitening.of(generator), vector, phrase, layers, {"method": "words", "against": against})


def gradient_words(
    model: WordModel,
    generator: Generator,
    phrase: str,
    against: str = AGAINST,
    seeds: Iterable[int] = range(16),
    *,
    threshold: float = 0.0,
    psi: float = 0.7,
    render: Render | None = None,
    layers: Layers | None = None,
) -> Direction:
    """The same direction from the pictures of `seeds`: the mean gradient of the difference of similarities. Needs no axes.

    The gradient of each face is taken in standard deviations of the population. Coordinates in which the faces do not agree, their mean
    below `threshold` standard errors, are left out (as StyleCLIP leaves out channels, Patashnik et al. 2021, section 6). Along lines on
    which W hardly varies, gradients say little, so they are shrunk as `fit_axes` shrinks them. Raises UnknownWords as
    `find_words` does, ShapeError if fewer than two seeds are given or nothing is above the threshold.
    """
    seeds, whitening, draw = list(seeds), Whitening.of(generator), renderer(generator, render)[0]
    if len(seeds) < 2:
        raise ShapeError(f"faces must agree, so two seeds or more are needed; {len(seeds)} were given. Give seeds=range(16).")
    difference, gradients = model.difference(phrase, against).detach(), []
    for seed in seeds:
        step = torch.zeros(generator.w_dim, device=whitening.axes.device, requires_grad=True)
        with torch.enable_grad():
            ws = broadcast(w_of(generator, [seed], psi) + step @ whitening.axes, generator.num_layers)
            score = model.images(draw(ws))[0] @ difference
        gradients.append(torch.autograd.grad(score, step)[0])
    each = torch.stack(gradients)  # [face, w]
    mean, error = each.mean(dim=0), each.std(dim=0) / len(seeds) ** 0.5
    kept = torch.where(mean.abs() >= threshold * error, mean, 0)
    if not kept.any():
        raise ShapeError(f"the faces agree in no coordinate by {threshold:g} standard errors. Lower the threshold, or give more seeds.")
    found_by = {"method": "words by gradient", "against": against, "faces": len(seeds), "threshold": threshold, "psi": psi}
    covariance = whitening.axes.T @ whitening.axes  # [w, w]; times the gradient in W it is axes.T @ kept
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
    return _direction(generator, whitening, torch.linalg.solve(covariance + ridge, whitening.axes.T @ kept), phrase, layers, found_by)


@dataclass(frozen=True)
class OptimizeWordsConfig:
    """What the search for one face counts (Patashnik et al. 2021, equation 1)."""

    steps: int = 40  # updates
    lr: float = 0.1  # Adam's learning rate, in standard deviations of the population
    l2_weight: float = 0.005  # of the squared length of the change, in standard deviations
    identity_weight: float = 1.0  # of the identity distance beyond the limit
    identity_limit: float = 0.4  # identity distance that costs nothing; 0.6 is another person

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or min(self.l2_weight, self.identity_weight) < 0:
            raise ShapeError(f"one step or more, a learning rate above 0 and weights of 0 or more were needed: {self}.")


@dataclass(frozen=True)
class OptimizeWordsStep:
    """One update of the face."""

    index: int  # from 0
    similarity: float  # of the picture before this update and the phrase, a cosine
    identity_distance: float  # to the first face; 0 without an identity network
    ws: Ws  # after this update


def optimize_words(
    model: WordModel,
    generator: Generator,
    ws: Ws,
    phrase: str,
    config: OptimizeWordsConfig | None = None,
    *,
    identity: Identity | None = None,
    render: Render | None = None,
) -> Iterator[OptimizeWordsStep]:
    """Move one face toward a phrase by gradient, all layers by the same step in W: an iterator of steps; stop at any of them.

    Raises UnknownWords as `find_words` does, ShapeError for more than one face, TrainingDiverged for a loss that is not finite.
    """
    config = config or OptimizeWordsConfig()
    if len(ws) != 1:
        raise ShapeError(f"one face is searched for at a time, {len(ws)} were given. Take ws[:1].")
    model.check(phrase)
    whitening, draw, goal = Whitening.of(generator), renderer(generator, render)[0], model.sentences([phrase])[0].detach()
    change = torch.zeros(generator.w_dim, device=ws.device, requires_grad=True)
    adam, ws, person = torch.optim.Adam([change], lr=config.lr), ws.detach(), None
    for index in range(config.steps):
        with torch.enable_grad():
            picture = draw(ws + change @ whitening.axes)
            similarity, distance = model.images(picture)[0] @ goal, torch.zeros(())
            if identity is not None:
                who = identity(picture)
                person = who.detach() if person is None else person
                distance = (who - person).square().sum().add(1e-12).sqrt()
            beyond = F.softplus(distance - config.identity_limit, beta=25)
            loss = -similarity + config.l2_weight * change.square().sum() + config.identity_weight * beyond
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the loss is {loss.item()} at step {index}. Lower the learning rate ({config.lr}).")
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield OptimizeWordsStep(index, similarity.item(), distance.item(), (ws + change @ whitening.axes).detach())


def _direction(
    generator: Generator, whitening: Whitening, vector: Tensor, phrase: str, layers: Layers | None, found_by: dict[str, Any]
) -> Direction:
    """The direction of a vector of any length, measured on the population of the generator."""
    length = vector.norm()
    if not length > 0:
        raise ShapeError(f"'{phrase}' changes nothing along W: no direction is left. Is the model trained?")
    unit = vector.to(whitening.axes) / length
    return Direction(
        phrase,
        unit.detach().cpu(),
        step=float((whitening.axes @ unit).norm()),
        boundary=float(whitening.mean @ unit),
        layers=None if layers is None else layer_range(layers, generator.num_layers),
        generator=fingerprint(generator),
        found_by=found_by,
    )
