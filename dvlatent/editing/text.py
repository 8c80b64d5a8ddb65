"""Sentences to vectors: a small BERT that was trained to give sentences of one meaning one vector. Taught in notebook 09.

The network is all-MiniLM-L6-v2: six layers of a transformer encoder (Vaswani et al. 2017; Devlin et al. 2019), distilled from a larger
one (Wang et al. 2020) and trained on a billion pairs of sentences (Reimers and Gurevych 2019). Here are its layers in plain PyTorch; the
weights and the list of word pieces are other people's files (`dvlatent assets --with words`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dvlatent import checkpoint, files
from dvlatent.errors import AssetBroken, AssetMissing, CheckpointError, ShapeError

PIECES, WIDTH, LAYERS, HEADS, POSITIONS = 30522, 384, 6, 12, 512  # the network's sizes
MOST_PIECES = 256  # of a sentence; the network was trained on shorter ones
CHUNK = 128  # sentences that are read together
NAMES = (  # in their file -> in the code
    (r"embeddings\.word_embeddings", "pieces"),
    (r"embeddings\.position_embeddings", "positions"),
    (r"embeddings\.token_type_embeddings", "kinds"),
    (r"embeddings\.LayerNorm", "norm"),
    (r"encoder\.layer\.", "layers."),
    (r"attention\.self\.", ""),
    (r"attention\.output\.dense", "mix"),
    (r"attention\.output\.LayerNorm", "norm_mixed"),
    (r"intermediate\.dense", "widen"),
    (r"output\.dense", "narrow"),
    (r"output\.LayerNorm", "norm_out"),
)


class SentenceEncoder(nn.Module):
    """`encoder(["an old woman", ...])` is [sentence, 384], rows of length one: near for one meaning, at right angles for unrelated ones.

    `weights` and `tokenizer` are the paths of model.safetensors and tokenizer.json. Upper and lower case are alike. Raises ShapeError for
    what is no list of sentences, for an empty one and for one of more than 256 word pieces; AssetBroken for other files.
    """

    def __init__(self, weights: str | os.PathLike[str], tokenizer: str | os.PathLike[str]) -> None:
        super().__init__()
        self.network, self.tokenizer = MiniLM(), read_tokenizer(tokenizer)
        try:
            checkpoint.load_weights(self.network, _read(weights), Path(weights).name)
        except CheckpointError as error:
            raise AssetBroken(f"{error} Run `dvlatent assets` to repair it.") from error
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, sentences: Sequence[str]) -> Float[Tensor, "sentence 384"]:
        """Sentences to vectors."""
        rows = tokens(self.tokenizer, sentences, MOST_PIECES)
        return torch.cat([self._embed(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)])

    def _embed(self, rows: list[list[int]]) -> Tensor:
        """The mean over the pieces of each sentence, scaled to length one (Reimers and Gurevych 2019, section 3)."""
        lengths, like = torch.tensor([len(row) for row in rows]), self.network.pieces.weight
        numbers = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)  # [sentence, piece], 0 pads
        there = torch.arange(numbers.shape[1]) < lengths[:, None]
        numbers, there = numbers.to(like.device), there.to(like.device)
        return F.normalize((self.network(numbers, there) * there[..., None]).sum(dim=1), dim=1)


class MiniLM(nn.Module):
    """A transformer encoder: numbers of word pieces -> a vector for each piece, [sentence, piece, 384]."""

    def __init__(self) -> None:
        super().__init__()
        tables = (torch.empty(count, WIDTH) for count in (PIECES, POSITIONS, 2))  # filled from the file: nothing is drawn
        self.pieces, self.positions, self.kinds = map(nn.Embedding.from_pretrained, tables)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, numbers: Int[Tensor, "sentence piece"], there: Bool[Tensor, "sentence piece"]) -> Tensor:
        """`there` is False where a sentence is shorter than the longest one."""
        x = self.pieces(numbers) + self.positions.weight[: numbers.shape[1]] + self.kinds.weight[0]  # all pieces are of the first kind
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, there[:, None, None, :])
        return x


class Layer(nn.Module):
    """Every piece looks at all pieces, then goes through two layers by itself (Vaswani et al. 2017, sections 3.2 and 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm_mixed, self.norm_out = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """[sentence, piece, 384] -> the same shape."""
        query, key, value = (part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=there)  # [sentence, head, piece, 32]
        x = self.norm_mixed(x + self.mix(seen.transpose(1, 2).flatten(2)))
        return self.norm_out(x + self.narrow(F.gelu(self.widen(x))))


def tokens(tokenizer: Any, sentences: Sequence[str], most: int) -> list[list[int]]:
    """The numbers of the word pieces of each sentence. Raises ShapeError for what is no sentence, and for one that is too long."""
    if isinstance(sentences, str) or not len(sentences) or not all(isinstance(one, str) for one in sentences):
        raise ShapeError(f'a list of sentences was needed, such as ["an old woman"]; this is {str(sentences)[:60]!r}.')
    if empty := [number for number, one in enumerate(sentences) if not one.strip()]:
        raise ShapeError(f"sentence {empty[0]} is empty: say in words how a face looks, such as 'an old woman'.")
    rows = [encoded.ids for encoded in tokenizer.encode_batch(list(sentences))]
    longest = max(range(len(rows)), key=lambda number: len(rows[number]))
    if len(rows[longest]) > most:
        raise ShapeError(
            f"'{sentences[longest][:40]} ...' has {len(rows[longest])} word pieces, and {most} can be read. Say it in fewer words."
        )
    return rows


def read_tokenizer(path: str | os.PathLike[str]) -> Any:
    """The tokenizer of a tokenizer.json, without its own padding and cutting. Raises AssetBroken for another file."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise AssetMissing("the package tokenizers, which cuts sentences into pieces, is missing: pip install tokenizers.") from error
    text = files.check(path, 16 * 2**20, AssetBroken).read_text(encoding="utf-8", errors="replace")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the package raises plain Exception
        raise AssetBroken(f"{path} is no tokenizer ({str(error)[:100]}). Run `dvlatent assets` to repair it.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file of BERT's, in the names of the code; without the last layer, which sentences do not need."""
    named = {}
    for name, tensor in checkpoint.load(path, None)[0].items():
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)
        if not name.startswith("pooler") and name != "embeddings.position_ids":
            named[name] = tensor
    return named
