"""The sentence encoder: equal to what the original says, and to a slow BERT that is obviously right."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from dvlatent.assets import asset_path
from dvlatent.editing.text import SentenceEncoder
from dvlatent.errors import AssetBroken, ShapeError
from dvlatent.zoo import SENTENCES


@pytest.fixture(scope="module")
def files():
    return [asset_path(name, "words") for name in SENTENCES]


@pytest.fixture(scope="module")
def encoder(files):
    return SentenceEncoder(*files)


def test_the_originals_own_numbers(encoder):
    """What the documentation of sentence-transformers prints for this network (sbert.net, and the model's page)."""
    weather = encoder(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    wanted = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    torch.testing.assert_close(weather @ weather.T, wanted, atol=6e-5, rtol=0)
    happy = encoder(["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"])
    wanted = torch.tensor([0.6945773, 0.9429150, 0.2568761])
    torch.testing.assert_close(happy[1:] @ happy[0], wanted, atol=2e-6, rtol=0)


def slow(weights, numbers):
    """BERT for one sentence, written from the paper with loops over heads, in 64 bits."""

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T.astype(float) + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    tables = [weights[f"embeddings.{kind}_embeddings.weight"].astype(float) for kind in ("word", "position", "token_type")]
    x = np.stack([tables[0][number] + tables[1][place] + tables[2][0] for place, number in enumerate(numbers)])
    x = norm(x, "embeddings.LayerNorm")
    for index in range(6):
        layer = f"encoder.layer.{index}"
        query, key, value = (linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for head in range(12):
            part = slice(32 * head, 32 * head + 32)
            score = np.exp(query[:, part] @ key[:, part].T / math.sqrt(32))
            heads.append(score / score.sum(axis=1, keepdims=True) @ value[:, part])
        x = norm(x + linear(np.concatenate(heads, axis=1), f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = linear(x, f"{layer}.intermediate.dense")
        wide = wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_it_equals_a_slow_bert(encoder, files):
    sentences, weights = ["an old woman", "a man with a red beard, who laughs"], load_file(files[0])
    numbers = [encoder.tokenizer.encode(sentence).ids for sentence in sentences]
    assert numbers[0] == [101, 2019, 2214, 2450, 102]  # [CLS] an old woman [SEP]
    wanted = torch.tensor(np.stack([slow(weights, row) for row in numbers]), dtype=torch.float32)
    torch.testing.assert_close(encoder(sentences), wanted, atol=2e-6, rtol=0)


def test_neither_company_nor_capitals_change_a_sentence(encoder):
    alone = encoder(["an old woman"])
    together = encoder(["a man with a very long beard and a hat", "An OLD woman", *["a face"] * 127])  # padded, in two parts
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)
    assert together.shape == (129, 384) and torch.allclose(together.norm(dim=1), torch.ones(129))


@pytest.mark.parametrize(
    ("sentences", "words"),
    [
        ("an old woman", "a list of sentences was needed"),
        ([], "a list of sentences was needed"),
        (["a face", 3], "a list of sentences was needed"),
        (["a face", "  \n"], "sentence 1 is empty"),
        (["old " * 300], "has 302 word pieces, and 256 can be read. Say it in fewer words"),
    ],
)
def test_what_is_no_sentence_is_refused(encoder, sentences, words):
    with pytest.raises(ShapeError, match=words):
        encoder(sentences)


def test_other_files_are_refused(files, tmp_path):
    weights, tokenizer = files
    short = {name: tensor for name, tensor in load_file(weights).items() if "layer.5" not in name}
    save_file(short, tmp_path / "model.safetensors")
    with pytest.raises(AssetBroken, match=r"(?s)does not fit.*`dvlatent assets`"):
        SentenceEncoder(tmp_path / "model.safetensors", tokenizer)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    with pytest.raises(AssetBroken, match="cut short"):
        SentenceEncoder(tmp_path / "cut.safetensors", tokenizer)
    for text in ("", "{", json.dumps({"model": 3})):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(AssetBroken, match="is no tokenizer"):
            SentenceEncoder(weights, tmp_path / "tokenizer.json")
    shutil.copy(tokenizer, tmp_path / "tokenizer.json")
    SentenceEncoder(weights, tmp_path / "tokenizer.json")
