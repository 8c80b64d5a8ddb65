"""Words: the contrastive loss, its training, and directions from sentences, on a toy face whose truth is known; then what we ship."""

import json
import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import dvlatent
from dvlatent import checkpoint, zoo
from dvlatent.directions import Direction
from dvlatent.editing import words
from dvlatent.editing.words import (
    OptimizeWordsConfig,
    Towers,
    WordModel,
    Words,
    WordsTrainConfig,
    contrastive_loss,
    find_words,
    fit_axes,
    gradient_words,
    image_features,
    optimize_words,
    save_words,
    train_words,
)
from dvlatent.errors import CheckpointError, ShapeError, UnknownWords
from dvlatent.latents import broadcast, normal, w_of
from dvlatent.toy.faces import ToyFaces

toy = ToyFaces(resolution=32)
MEANS = {"a face": (0.0, 0.0), "light skin": (1.0, 0.0), "dark skin": (-1.0, 0.0), "red wall": (0.0, 1.0), "both": (1.0, 1.0)}
READ = {  # what of the picture shows which factor: how light the skin is, how red the corner
    "skin tone": lambda image: image[:, :, 18:20, 14:18].mean(dim=(1, 2, 3)),
    "background": lambda image: 0.5 * (image[:, 0] - image[:, 1])[:, :3, :3].mean(dim=(1, 2)),
}


class ToyWords(WordModel):
    """Reads skin and background off fixed places, and understands five sentences."""

    def images(self, image):
        seen = [read(image) for read in READ.values()]
        return F.normalize(torch.stack([torch.ones_like(seen[0]), *seen], dim=1), dim=1)

    def sentences(self, sentences):
        return F.normalize(torch.tensor([(1.0, *MEANS[one]) for one in sentences]), dim=1)

    def check(self, phrase):
        if phrase not in MEANS:
            raise UnknownWords(f"'{phrase}' means nothing here.")


@pytest.fixture(scope="module")
def model():
    """The toy's model with its regression on 300 faces."""
    made, w = ToyWords(), toy.mapping(normal(range(300), toy.z_dim))
    with torch.no_grad():
        made.axes = fit_axes(w, made.images(toy.synthesis(broadcast(w, toy.num_layers))), ridge=1e-3)
    return made


def sign(factor):
    """+1 where what is read grows with the factor."""
    ws = broadcast(toy.w_mean[None], toy.num_layers)
    low, high = (READ[factor](toy.synthesis(toy.truth[factor].move(ws, at))) for at in (-1, 1))
    return 1 if high > low else -1


# ---- features and loss


def test_features_are_means_at_places_and_spreads():
    network = dvlatent.load("perceptual").network
    image = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image.requires_grad_()
    found = image_features(network, image)
    stages = network(image)
    assert found.shape == (2, words.FEATURES) == (2, 4368)
    quarter = stages[1].shape[-1] // 4  # stage 1 has 24 channels; the first 16 numbers are channel 0's places
    assert_close(found[1, 6], stages[1][1, 0, quarter : 2 * quarter, 2 * quarter : 3 * quarter].mean())
    assert_close(found[0, -1], stages[4][0, -1].std())
    found.sum().backward()
    assert image.grad.abs().sum() > 0 and torch.isfinite(image.grad).all()
    with pytest.raises(ShapeError, match=r"aligned faces, .*this is \[1, 3, 64, 48\]"):
        image_features(network, torch.zeros(1, 3, 64, 48))


def test_the_loss_equals_a_slow_one():
    similarity = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)) * 3
    slow = 0.0
    for i in range(5):
        exp = [[math.exp(float(similarity[a, b])) for b in range(5)] for a in range(5)]
        slow -= math.log(exp[i][i] / sum(exp[i])) + math.log(exp[i][i] / sum(row[i] for row in exp))
    assert_close(contrastive_loss(similarity), torch.tensor(slow / 10))
    assert_close(contrastive_loss(torch.zeros(8, 8)), torch.tensor(math.log(8)))  # towers that know nothing


# ---- training


def pairs():
    """200 faces of 4 kinds with noise, and two sentences for each kind."""
    rng = torch.Generator().manual_seed(0)
    kinds, kind = torch.randn(4, 20, generator=rng), torch.arange(200) % 4
    features = 5 + 3 * (kinds[kind] + 0.3 * torch.randn(200, 20, generator=rng))
    sentences = F.normalize(torch.randn(8, 12, generator=rng), dim=1)
    return features, sentences, torch.stack([2 * kind, 2 * kind + 1], dim=1), kind


def towers():
    torch.manual_seed(3)
    return Towers(features=20, sentence=12, width=16, dim=6, dropout=0.1)


CONFIG = WordsTrainConfig(steps=150, batch=32, lr=5e-3)


@torch.no_grad()  # as in a notebook that switched gradients off
def test_training_finds_which_sentence_fits():
    features, sentences, captions, kind = pairs()
    made = towers()
    steps = list(train_words(made, features, sentences, captions, CONFIG))
    assert len(steps) == 150 and steps[0].loss > 3 and steps[-1].loss < 3  # log(32) is to know nothing, log(8) the least: 8 are alike
    made.eval()
    best = (made.image(features) @ made.text(sentences).T).argmax(dim=1)
    assert (best // 2 == kind).float().mean() > 0.97
    assert_close(made.mean, features.mean(dim=0)) and assert_close(made.std, features.std(dim=0))


def test_a_training_that_stopped_goes_on_bit_for_bit(tmp_path):
    features, sentences, captions, _ = pairs()
    whole = towers()
    with torch.no_grad():  # as lessons have it
        list(train_words(whole, features, sentences, captions, CONFIG))
    for step in train_words(towers(), features, sentences, captions, CONFIG):
        if step.index == 60:
            step.save(tmp_path / "run.safetensors")
            break
    made = towers()
    list(train_words(made, features, sentences, captions, CONFIG, resume=tmp_path / "run.safetensors"))
    assert all(torch.equal(made.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("spoil", ["rows", "batch", "numbers", "negative", "none"])
def test_pairs_that_do_not_fit_are_refused(spoil):
    features, sentences, captions, _ = pairs()
    captions = {"rows": captions[:50], "numbers": captions + 1, "negative": captions - 1, "none": captions[:0]}.get(spoil, captions)
    with pytest.raises(ShapeError, match="every face needs a row of captions"):
        next(train_words(towers(), features, sentences, captions, WordsTrainConfig(batch=300 if spoil == "batch" else 32)))


# ---- directions


@pytest.mark.parametrize(("phrase", "against", "factor"), [("light skin", "a face", "skin tone"), ("red wall", "a face", "background")])
def test_words_find_the_true_direction(model, phrase, against, factor):
    found, truth = find_words(model, toy, phrase, against), toy.truth[factor]
    assert found.name == phrase and found.found_by == {"method": "words", "against": against} and isinstance(found, Direction)
    assert sign(factor) * float(found.vector @ truth.vector) > 0.93
    assert found.step == pytest.approx(truth.step, rel=0.1)  # one standard deviation of the population
    assert found.boundary == pytest.approx(float(toy.w_mean @ found.vector), abs=1e-5)
    opposite = find_words(model, toy, "dark skin", phrase) if factor == "skin tone" else None
    assert opposite is None or float(opposite.vector @ found.vector) < -0.95


def test_against_takes_out_what_both_say(model):
    both, rest = (find_words(model, toy, "both", against).vector for against in ("a face", "light skin"))
    skin, wall = (sign(name) * toy.truth[name].vector for name in READ)
    assert both @ skin > 0.3 and both @ wall > 0.3
    assert rest @ wall > 0.8 and abs(float(rest @ skin)) < abs(float(both @ skin))


def test_the_gradient_agrees_with_the_regression(model):
    truth = sign("skin tone") * toy.truth["skin tone"].vector
    found = gradient_words(model, toy, "light skin", seeds=range(4))
    assert float(found.vector @ truth) > 0.9 and found.found_by["faces"] == 4
    kept = gradient_words(model, toy, "light skin", seeds=range(4), threshold=4.0)
    assert float(kept.vector @ truth) > 0.9
    with pytest.raises(ShapeError, match="agree in no coordinate by 1e"):
        gradient_words(model, toy, "light skin", seeds=range(3), threshold=1e9)
    with pytest.raises(ShapeError, match="two seeds or more"):
        gradient_words(model, toy, "light skin", seeds=[4])


def test_the_search_fits_the_phrase_and_keeps_the_face(model):
    ws = broadcast(w_of(toy, [5], 0.7), toy.num_layers)
    start = float(model.similarity(toy.synthesis(ws), ["light skin"]))
    free = list(optimize_words(model, toy, ws, "light skin", OptimizeWordsConfig(steps=10)))
    assert free[0].similarity == pytest.approx(start, abs=1e-5) and free[-1].similarity > start + 0.02 and len(free) == 10
    assert float(model.similarity(toy.synthesis(free[-1].ws), ["light skin"])) > start + 0.02
    tied = list(optimize_words(model, toy, ws, "light skin", OptimizeWordsConfig(steps=10, l2_weight=0.5)))
    assert (tied[-1].ws - ws).norm() < 0.5 * (free[-1].ws - ws).norm()
    who = lambda image: image.flatten(1)[:, ::97]  # noqa: E731
    careful = OptimizeWordsConfig(steps=10, identity_weight=10, identity_limit=1.0)
    kept = list(optimize_words(model, toy, ws, "light skin", careful, identity=who))
    assert kept[0].identity_distance < 1e-4 and (kept[-1].ws - ws).norm() < (free[-1].ws - ws).norm()
    with pytest.raises(ShapeError, match="one face is searched for at a time, 2"):
        next(optimize_words(model, toy, torch.cat([ws, ws]), "light skin"))


def test_what_leads_nowhere_is_refused(model):
    with pytest.raises(UnknownWords, match="the same to this model"):
        find_words(model, toy, "light skin", "light skin")
    with pytest.raises(UnknownWords, match="'plomb' means nothing"):
        find_words(model, toy, "light skin", "plomb")
    with pytest.raises(ShapeError, match=r"axes of shape \[32, dim\] were needed, the model's are None"):
        find_words(ToyWords(), toy, "light skin")


# ---- the file and the model that we ship


class Sentences(nn.Module):
    """Three phrases as an encoder would give them."""

    def forward(self, sentences):
        known = {"an old woman": (1.0, 0.0, 0.0), "grandmother": (0.8, 0.6, 0.0), "plomb": (0.1, 0.0, 0.995)}
        return torch.tensor([known[one] for one in sentences])


def test_a_phrase_that_means_nothing_says_so():
    model = Words(nn.Identity(), Sentences(), Towers(8, 3, 4, 2), None, torch.tensor([[1.0, 0.0, 0.0]]), 0.4)
    model.check("grandmother")
    with pytest.raises(UnknownWords, match=r"'plomb' means nothing .* is 0\.10, and 0\.40 is needed"):
        model.check("plomb")
    assert model.sentences(["an old woman"]).shape == (1, 2)


def test_a_file_comes_back_as_it_was(tmp_path, monkeypatch):
    made, rng = Towers(width=4, dim=3), torch.Generator().manual_seed(0)
    axes, known = torch.randn(512, 3, generator=rng), torch.randn(5, 384, generator=rng)
    save_words(tmp_path / "words.safetensors", made, axes, known, 0.5, command="python recipes/words.py")
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    monkeypatch.setattr("dvlatent.editing.text.SentenceEncoder", lambda *paths: Sentences())
    model = dvlatent.load("words")
    assert_close(model.axes, axes.half().float()) and assert_close(model.known, known.half().float())
    assert model.least == 0.5 and checkpoint.load(tmp_path / "words.safetensors", "words")[1]["command"] == "python recipes/words.py"
    features = torch.randn(2, 4368, generator=rng)
    assert_close(model.towers.image(features), made.eval().image(features), atol=2e-3, rtol=0)


# ---- the real CLIP


class FakeCLIP(nn.Module):
    """What transformers' CLIPModel and open_clip's CLIP have in common: two towers and a scale."""

    def __init__(self, **sizes):
        super().__init__()
        self.sizes, self.logit_scale = sizes, nn.Parameter(torch.tensor(math.log(20.0)))
        self.look, self.read = nn.Linear(3 * 16, 6, bias=False), nn.Embedding(12, 6)

    def encode_image(self, image):
        return self.look(F.adaptive_avg_pool2d(image, 4).flatten(1))

    def encode_text(self, numbers):
        return self.read(numbers)[torch.arange(len(numbers)), numbers.argmax(dim=1)]  # the last piece has the highest number


def folder_of(tmp_path, **texts):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"?": 0, "an": 1, "old": 2, "man": 3, "<s>": 10, "</s>": 11}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 10), ("</s>", 11)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for name, value in texts.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return tmp_path


def test_open_clip_behind_the_same_interface(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", types.SimpleNamespace(CLIP=FakeCLIP))
    sizes = {"embed_dim": 6, "vision_cfg": {"image_size": 32}, "text_cfg": {"context_length": 7}}
    config = {"model_cfg": sizes, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    folder = folder_of(tmp_path, open_clip_config=config)
    original = FakeCLIP()
    checkpoint.save(folder / "open_clip_model.safetensors", original.state_dict(), {})
    model = dvlatent.load(f"clip:{folder}")
    image = toy.synthesis(broadcast(w_of(toy, [1, 2], 0.7), 3)).requires_grad_()
    seen = (F.interpolate(image, size=32, mode="area") / 2 + 0.5 - 0.4) / 0.2
    wanted = F.normalize(original.encode_image(seen)) @ F.normalize(original.read.weight[[11]]).T
    found = model.similarity(image, ["an old man"])
    assert_close(found, wanted, atol=0.02, rtol=0)
    found.sum().backward()
    assert model.scale == pytest.approx(20.0) and model.size_px == 32 and image.grad.abs().sum() > 0
    with pytest.raises(ShapeError, match="has 9 word pieces, and 7 can be read"):
        model.sentences(["an old man an old man old"])
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        dvlatent.load(f"clip:{folder}")


def test_transformers_is_asked_for_safetensors_only(tmp_path, monkeypatch):
    asked = []

    class CLIPModel(FakeCLIP):
        encode_image = encode_text = None  # transformers has other names

        def get_image_features(self, image):
            return types.SimpleNamespace(pooler_output=FakeCLIP.encode_image(self, image))

        def get_text_features(self, numbers):
            return FakeCLIP.encode_text(self, numbers)

        @classmethod
        def from_pretrained(cls, folder, **options):
            asked.append(options)
            made = cls().half()  # as many are saved
            sizes = {"vision_config": {"image_size": 32}, "text_config": {"max_position_embeddings": 7}}
            made.config = types.SimpleNamespace(**{name: types.SimpleNamespace(**value) for name, value in sizes.items()})
            return made

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(CLIPModel=CLIPModel))
    folder = folder_of(tmp_path, config={"model_type": "clip"})
    model = dvlatent.load(f"clip:{folder}")
    assert asked == [{"use_safetensors": True, "local_files_only": True}]
    assert model.similarity(torch.zeros(2, 3, 64, 64), ["an old man", "old"]).shape == (2, 2)
    assert_close(model.mean.flatten(), torch.tensor([0.48145466, 0.4578275, 0.40821073]))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": ["red", 0.4, 0.4]}))
    with pytest.raises(CheckpointError, match=r"no complete CLIP .*'red' is no number"):
        dvlatent.load(f"clip:{folder}")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"no complete CLIP .*it is a bert"):
        dvlatent.load(f"clip:{folder}")


def test_a_folder_without_clip_or_its_package_says_so(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"holds no CLIP: a folder with open_clip_config\.json or config\.json"):
        dvlatent.load(f"clip:{tmp_path}")
    monkeypatch.setitem(sys.modules, "transformers", None)  # importing it fails
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not installed: pip install transformers"):
        dvlatent.load(f"clip:{tmp_path}")


# ---- what we ship


@pytest.fixture(scope="module")
def shipped():
    return dvlatent.load("words")


@pytest.fixture(scope="module")
def two(faces):
    """The ws of seed 85, a smiling woman with glasses, and of seed 20, a serious man without; and their pictures."""
    ws = broadcast(w_of(faces, [85, 20], 0.7), faces.num_layers)
    with torch.no_grad():
        return ws, faces.preview(ws)


def test_words_fit_the_faces_they_describe(shipped, two):
    pairs = [("a woman", "a man"), ("she smiles", "he looks serious"), ("a laughing girl", "an earnest gentleman")]
    for her, his in pairs:
        (a, b), (c, d) = shipped.similarity(two[1], [her, his]).tolist()
        assert a > c and d > b, (her, his)
    assert (zoo.WEIGHTS / "words.safetensors").stat().st_size <= 4_000_000


def test_an_old_person_is_a_direction_of_age(shipped, faces, two):
    old = find_words(shipped, faces, "an old person", "a young person")
    ws, before = two
    with torch.no_grad():
        after = faces.preview(old.move(ws, 3))
    reader = dvlatent.load("attributes")
    years = reader(after)[:, 0] - reader(before)[:, 0]
    distance = (dvlatent.load("identity")(after) - dvlatent.load("identity")(before)).norm(dim=1)
    assert (years > 12).all() and (distance < 0.6).all(), (years, distance)  # the same person, older


@pytest.mark.parametrize("phrase", ["quantum chromodynamics", "banana bread recipe", "asdf"])
def test_nonsense_moves_nothing(shipped, faces, phrase):
    with pytest.raises(UnknownWords, match=f"'{phrase}' means nothing to this model"):
        find_words(shipped, faces, phrase)


def test_neighbours_of_what_was_taught_are_understood(shipped):
    for phrase in ("grandmother", "spectacles", "a bearded man", "toddler", "an old woman, smiling"):
        shipped.check(phrase)
