"""Teach pictures and sentences one space: `python recipes/words.py --out words.safetensors` (an hour, most of it to draw the faces once).

Nobody wrote captions for generated faces, so instruments and one pair of eyes do. Age, gender, smile, mouth, eyes and pose come from the
survey that we ship. Hair, beard, hat, earrings, make-up and the like were looked at by eye on the faces in `appearance.json`; regressions
on what the image tower reads spread them over all faces. What is not sure is not said. Captions are drawn from these facts, in many words.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import LICENSE, array_on_disk, command, natural, parser, run
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dvlatent.editing import survey
from dvlatent.editing.survey import Population
from dvlatent.editing.text import SentenceEncoder
from dvlatent.editing.words import FEATURES, Towers, WordsTrainConfig, fit_axes, image_features, save_words, train_words
from dvlatent.errors import ShapeError
from dvlatent.training import progress
from dvlatent.zoo import SENTENCES, asset_path, load

HERE = Path(__file__).parent
HELD_OUT_FACES = 2000  # the last faces: neither readers nor towers learn from them
HELD_OUT_WORDS = (  # in no caption: does the model understand them by their neighbors?
    "grandmother", "grandfather", "toddler", "teenager", "elderly", "bearded",
    "hairless", "grinning", "redhead", "spectacles", "gentleman", "cap",
)  # fmt: skip
RIDGE_W, RIDGE_FACTS = 0.1, 0.3  # of the regressions of embeddings on w, and of facts on features; best on unseen faces
DROPOUT, LR, FACT_STEPS = 0.03, 3e-3, 1000  # of the image tower's training; steps in which it learns the facts before it sees sentences
LEAST = 0.45  # cosine with the nearest phrase that was taught; below, a phrase means nothing (measured on nonsense)
SURE = 0.6  # probability from which a fact is said
CAPTIONS, POOL, MOST_FACTS = 64, 12_000, 4  # a face; sentences of all faces; facts in a sentence
LETTERS = {  # of the codes in appearance.json: the first five letters, then those of what is there
    "hair": {"s": "short", "m": "shoulder", "l": "long", "b": "bald"},
    "curl": {"s": "straight", "w": "wavy", "c": "curly"},
    "color": {"k": "black", "n": "brown", "d": "blond", "r": "red", "g": "gray"},
    "face": {"a": "average", "f": "full"},
    "background": {"d": "dark", "l": "light", "o": "outdoors", "i": "mixed"},
}
FLAGS = {
    "bangs": {"f": "yes"},
    "beard": {"b": "beard", "t": "stubble"},
    "moustache": {"m": "yes"},
    "hat": {"h": "yes"},
    "earrings": {"e": "yes"},
    "makeup": {"u": "yes"},
    "glasses": {"g": "glasses", "s": "sunglasses"},
}
Facts = dict[str, str]  # attribute -> value, of one face; an attribute that is not sure is missing

# How each fact is said; / parts the wordings. "-" stands before the noun, "=" is a noun by itself, all others follow the noun.
WAYS = {
    "age": {
        "baby": "=baby/=little child/=very small child/=newborn child",
        "child": "=child/=kid/-little/=schoolchild/=young child",
        "teen": "-adolescent/=youth/=adolescent/in the teens/about sixteen years old",
        "young": "-young/-youthful/in the twenties/of about 25 years/=young adult/-young",
        "middle": "-middle-aged/in the forties/-mature/of about 45 years/in middle age",
        "old": "-old/-aged/=senior/in the sixties/=pensioner/of about 65 years/=old person/-older/-old/with wrinkles",
        "very old": "-very old/=very old person/in the seventies/over seventy/of about 75 years/with many wrinkles",
    },
    "gender": {"male": "-male", "female": "-female"},  # usually a noun: NOUNS
    "smile": {"broad": "-smiling/with a big smile/smiling broadly/laughing/-happy/with a broad smile/-cheerful/beaming",
              "smile": "-smiling/with a smile/smiling/looking happy/-friendly/with a friendly smile",
              "none": "-serious/with a serious look/not smiling/without a smile/-unsmiling/looking serious"},
    "mouth": {"open": "with an open mouth/showing the teeth/with the mouth open/with parted lips",
              "closed": "with a closed mouth/with closed lips/with the mouth shut"},
    "eyes": {"closed": "with closed eyes/with narrow eyes/with nearly shut eyes/squinting",
             "open": "with wide open eyes/with big eyes/with open eyes/wide-eyed"},
    "turn": {
        "left": "looking to the left/turned to the left/facing left/with the head turned left",
        "right": "looking to the right/turned to the right/facing right/with the head turned right",
        "front": "looking straight ahead/facing the camera/seen from the front/looking into the camera",
    },
    "tilt": {"up": "looking up/with the head raised/with the chin up", "down": "looking down/with the head lowered/with the chin down"},
    "hair": {
        "short": "with short hair/-short-haired/with a short haircut/with cropped hair",
        "shoulder": "with hair down to the shoulders/with shoulder-length hair/with medium-length hair",
        "long": "with long hair/-long-haired/with very long hair/with hair below the shoulders",
        "bald": "-bald/with a bald head/without hair/-bald-headed/with no hair on the head/with a shaved head",
    },
    "curl": {
        "straight": "with straight hair/-straight-haired/with smooth hair",
        "wavy": "with wavy hair/with waves in the hair/-wavy-haired",
        "curly": "with curly hair/with curls/-curly-haired/with frizzy hair",
    },
    "color": {
        "black": "with black hair/-black-haired/with dark hair/-dark-haired",
        "brown": "with brown hair/-brown-haired/with chestnut hair/-brunette",
        "blond": "with blond hair/-blond/-fair-haired/-blonde/with golden hair/with light hair",
        "red": "with red hair/-red-haired/with ginger hair/with auburn hair",
        "gray": "with gray hair/-gray-haired/with white hair/-white-haired/with silver hair/with grey hair",
    },
    "face": {"full": "with a full face/-chubby/with a round face/with plump cheeks/-overweight/-fat"},
    "background": {
        "dark": "in front of a dark background/against a dark wall/on a dark background/in the dark",
        "light": "in front of a light background/against a white wall/on a bright plain background",
        "outdoors": "outdoors/outside/in nature/in front of green trees/in a garden",
    },
    "bangs": {"yes": "with bangs/with a fringe/with hair over the forehead", "no": "with a bare forehead/without bangs"},
    "beard": {
        "beard": "with a beard/with a full beard/having a beard/with facial hair/with whiskers",
        "stubble": "with stubble/-unshaven/with a short stubble beard",
        "no": "-clean-shaven/without a beard/-beardless/with a smooth chin",
    },
    "moustache": {"yes": "with a moustache/with a mustache/having a moustache"},
    "hat": {"yes": "wearing a hat/with a hat/in a hat/with a hat on the head/wearing headgear/with a covered head",
            "no": "without a hat/-bareheaded"},
    "earrings": {"yes": "wearing earrings/with earrings/with an earring/with jewels in the ears"},
    "makeup": {"yes": "wearing makeup/with lipstick/with red lips/with make-up/with painted lips"},
    "glasses": {
        "glasses": "wearing glasses/with glasses/with eyeglasses/in glasses/having glasses on",
        "sunglasses": "wearing sunglasses/with sunglasses/with dark glasses/in shades",
        "no": "without glasses/wearing no glasses/with no glasses",
    },
}  # fmt: skip
NOUNS = {  # by gender, for children and for others; no gender is said with the last row
    "male": (("boy", "little boy", "young boy"), ("man", "man", "guy", "male", "male person", "fellow")),
    "female": (("girl", "little girl", "young girl"), ("woman", "woman", "lady", "female", "female person")),
    "": (("child", "kid"), ("person", "face", "someone", "human", "person", "face")),
}
PRONOUNS = {"male": ("he", "is", "has"), "female": ("she", "is", "has"), "": ("they", "are", "have")}
OPENINGS = (
    "{}", "{}", "{}", "a photo of {}", "a picture of {}", "a portrait of {}", "this is {}", "a close-up of {}", "an image of {}",
    "the photo shows {}",
)  # fmt: skip
SAID_LESS = {"no": 0.25, "front": 0.5, "straight": 0.5, "short": 0.7, "outdoors": 0.6, "none": 0.7}  # how often such values are said
SAID_MORE = {"gender": 3.0, "age": 2.5, "smile": 1.5, "glasses": 1.5, "color": 1.2, "beard": 1.3}


# ---- facts


@dataclass(frozen=True)
class Appearance:
    """What one pair of eyes saw: a row of values for each face that it looked at."""

    seeds: np.ndarray  # [face]
    values: dict[str, np.ndarray]  # attribute -> [face] of words; "" where it cannot be seen


def read_appearance(path: Path = HERE / "appearance.json", which: str = "") -> Appearance:
    """The labels by eye; `which="again_"` gives those of the second look. Raises ShapeError for codes that are none."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    seeds, codes = np.array(kept[f"{which}seeds"]), kept[f"{which}codes"].split()
    flags = "".join("".join(letters) for letters in FLAGS.values())
    wrong = [code for code in codes if not re.fullmatch(rf".{{{len(LETTERS)}}}[{flags}]*", code)]
    if wrong or len(codes) != len(seeds):
        raise ShapeError(f"{path.name}: {len(seeds)} seeds need as many codes; there are {len(codes)}, wrong ones are {wrong[:5]}.")
    values = {name: [letters.get(code[position], "") for code in codes] for position, (name, letters) in enumerate(LETTERS.items())}
    for name, letters in FLAGS.items():
        values[name] = [next((word for letter, word in letters.items() if letter in code[len(LETTERS) :]), "no") for code in codes]
    return Appearance(seeds, {name: np.array(column) for name, column in values.items()})


def agreement(first: Appearance, again: Appearance) -> dict[str, float]:
    """Cohen's kappa of each attribute on the faces of the second look: 1 for the same labels, 0 for what chance gives."""
    from sklearn.metrics import cohen_kappa_score

    rows = [first.seeds.tolist().index(seed) for seed in again.seeds.tolist()]
    return {name: round(float(cohen_kappa_score(first.values[name][rows], column)), 2) for name, column in again.values.items()}


@dataclass(frozen=True)
class Reader:
    """A regression from features of a picture to the values of one attribute."""

    values: tuple[str, ...]
    weights: Float[np.ndarray, "feature value"]
    bias: Float[np.ndarray, " value"]

    def __call__(self, features: Float[np.ndarray, "face feature"]) -> Float[np.ndarray, "face value"]:
        """Probabilities, [face, value]."""
        scores = features.astype(np.float32) @ self.weights + self.bias
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)


def fit_readers(features: np.ndarray, values: dict[str, np.ndarray], strength: float = 3e-2, axes: int = 256) -> dict[str, Reader]:
    """Logistic regressions on the principal axes of features that are scaled to variance one. Faces whose value is "" are left out."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(axis=0), features.std(axis=0).clip(1e-3)
    pca = PCA(min(axes, len(features) - 1, features.shape[1]), svd_solver="randomized", random_state=0)
    parts, readers = pca.fit_transform((features - mean) / std), {}
    std_parts = parts.std()
    for name, column in values.items():
        known = column != ""
        fit = LogisticRegression(C=strength, max_iter=500).fit(parts[known] / std_parts, column[known])
        weights, bias = pca.components_.T @ fit.coef_.T / std_parts / std[:, None], fit.intercept_
        if weights.shape[1] == 1:  # two values: scikit-learn keeps the odds of the second alone
            weights, bias = np.hstack([0 * weights, weights]), np.array([0, *bias])
        readers[name] = Reader(tuple(map(str, fit.classes_)), weights.astype(np.float32), (bias - mean @ weights).astype(np.float32))
    return readers


def reader_scores(reader: Reader, features: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """How well a reader does on faces that it has not seen: balanced accuracy, and the mean area under the curve of its values."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    known = np.isin(values, reader.values)
    said, true = reader(features[known]), values[known]
    there = [(column, true == value) for column, value in enumerate(reader.values) if 0 < (true == value).sum() < len(true)]
    areas = [roc_auc_score(is_it, said[:, column]) for column, is_it in there]
    best = np.array(reader.values)[said.argmax(axis=1)]
    sure = said.max(axis=1) >= SURE
    scores = {"accuracy": (best == true).mean(), "balanced": balanced_accuracy_score(true, best), "auc": np.mean(areas)}
    scores |= {"sure": sure.mean(), "accuracy_sure": (best == true)[sure].mean() if sure.any() else np.nan}
    return {name: round(float(value), 3) for name, value in scores.items()}


def measured(population: Population) -> list[Facts]:
    """What the survey's scores say of each face; nothing where bands leave a gap."""
    bands = {  # attribute -> column, and the values from and to
        "age": ("age", {"baby": (-1, 3), "child": (3, 13), "teen": (13, 20), "young": (20, 35), "middle": (35, 53), "old": (53, 70),
                        "very old": (70, 99)}),
        "gender": ("male", {"female": (-1, 0.3), "male": (0.7, 2)}),
        "smile": ("smile", {"none": (-9, 0.3), "smile": (0.5, 1.2), "broad": (1.2, 9)}),
        "mouth": ("mouth_open", {"closed": (-1, 0.06), "open": (0.15, 9)}),
        "eyes": ("eyes_open", {"closed": (-1, 0.2), "open": (0.35, 9)}),
        "turn": ("yaw", {"left": (-99, -14), "front": (-9, 9), "right": (14, 99)}),
        "tilt": ("pitch", {"down": (-99, -11), "up": (11, 99)}),
    }  # fmt: skip
    facts: list[Facts] = [{} for _ in range(len(population))]
    for attribute, (column, values) in bands.items():
        for face, score in enumerate(population.column(column).tolist()):
            for value, (low, high) in values.items():
                if low <= score < high:
                    facts[face][attribute] = value
    return facts


def plausible(facts: Facts) -> Facts:
    """Facts without those that say little of this face: a woman's or a child's missing beard, the color of hair that is not there."""
    left = {attribute: value for attribute, value in facts.items() if value in WAYS[attribute]}
    if facts.get("beard") == "no" and (facts.get("gender") != "male" or facts.get("age") in ("baby", "child", "teen")):
        left.pop("beard")
    if facts.get("hair") == "bald":
        left = {attribute: value for attribute, value in left.items() if attribute not in ("curl", "color", "bangs")}
    return left


def facts_of(population: Population, features: np.ndarray, readers: dict[str, Reader], eye: Appearance | None) -> list[Facts]:
    """All that is known of each face: measured, read where the reader is sure, and seen by eye where somebody looked."""
    facts = measured(population)
    for attribute, reader in readers.items():
        said = reader(features)
        for face, (value, sure) in enumerate(zip(said.argmax(axis=1), said.max(axis=1), strict=True)):
            if sure >= SURE:
                facts[face][attribute] = reader.values[value]
    rows = {seed: row for row, seed in enumerate(population.seeds)}
    for face, seed in enumerate(eye.seeds.tolist() if eye else []):
        if seed in rows:
            facts[rows[seed]] |= {name: str(column[face]) for name, column in eye.values.items()}
    return [plausible(one) for one in facts]


# ---- captions


def caption(facts: Facts, rng: np.random.RandomState, most: int = MOST_FACTS) -> tuple[str, Facts]:
    """A sentence about a face, and the facts that it states: one to `most` of them, in random order and wording."""
    names = sorted(facts)
    weights = np.array([SAID_MORE.get(name, 1.0) * SAID_LESS.get(facts[name], 1.0) for name in names])
    count = min(len(names), rng.randint(1, most + 1))
    chosen = rng.choice(names, count, replace=False, p=weights / weights.sum()).tolist() if count else []
    return say({name: facts[name] for name in chosen}, rng), {name: facts[name] for name in chosen}


def say(facts: Facts, rng: np.random.RandomState) -> str:
    """Facts as words, in the order given: "a photo of a smiling old woman with glasses", "a man, bald. He has a beard."."""
    gender, young = facts.get("gender", ""), facts.get("age") in ("baby", "child")
    ways = {name: _one(WAYS[name][value].split("/"), rng) for name, value in facts.items() if name != "gender"}
    nouns = [way[1:] for way in ways.values() if way.startswith("=")]
    noun = f"{_one(('male', 'female')[gender == 'female'].split(), rng)} {nouns[0]}" if nouns and gender else (nouns or [""])[0]
    noun = noun or _one(NOUNS[gender][not young], rng)
    if young and not nouns:  # the age is in the word
        ways.pop("age", None) if ways.get("age", "").startswith("-") else None
    before = [way[1:] for way in ways.values() if way.startswith("-")]
    after = [way for way in ways.values() if not way.startswith(("-", "="))]
    if rng.rand() < 0.12:  # words alone
        words = [noun, *before, *(re.sub(r"^(with|wearing|having) (an? |the )?", "", way) for way in after)]
        return ", ".join(words if rng.rand() < 0.5 else words[1:] + words[:1])
    later = [after.pop() for _ in range(len(after)) if len(after) > 1 and rng.rand() < 0.3]
    phrase = " ".join([*before, noun])
    phrase = phrase if phrase.startswith("someone") else f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}".replace(" someone", " person")
    for number, way in enumerate(after):
        phrase += (" " if number == 0 else _one((" and ", ", "), rng)) + way
    sentence = _one(OPENINGS, rng).format(phrase)
    he, is_, has = PRONOUNS[gender]
    for way in later:
        way = re.sub(r"^(with|having) ", f"{has} ", way) if way.startswith(("with ", "having ")) else f"{is_} {way}"
        sentence += f". {he.capitalize()} " + re.sub(r"(are|is) without ", f"{has} no ", way).replace("no a ", "no ")
    return sentence


def _one(ways: Sequence[str], rng: np.random.RandomState) -> str:
    return ways[rng.randint(len(ways))]


def phrases() -> list[str]:
    """Every fact in every wording by itself: what the model was taught, for telling meaningful phrases from others."""
    found = {"a face", "a person", *(f"a {noun}" for rows in NOUNS.values() for row in rows for noun in row if noun != "someone")}
    for way in (way for values in WAYS.values() for ways in values.values() for way in ways.split("/")):
        shape = {"-": "a {} person", "=": "a {}"}.get(way[0], "a person {}")
        found.add(re.sub(r"^a (?=[aeiou])", "an ", shape.format(way.lstrip("-="))))
    return sorted(found)


def pool_of_captions(facts: Sequence[Facts], count: int, rng: np.random.RandomState) -> tuple[list[str], list[Facts]]:
    """Sentences about faces that are drawn at random, rare faces more often, no sentence twice; the first says nothing."""
    numbers = {name: {value: sum(one.get(name) == value for one in facts) for value in values} for name, values in WAYS.items()}
    rarity = np.array([max([numbers[name][value] ** -0.5 for name, value in one.items()], default=0.01) for one in facts])
    faces = rng.choice(len(facts), 3 * count, p=rarity / rarity.sum())
    kept: dict[str, Facts] = {"a face": {}}
    for face in faces:
        sentence, stated = caption(facts[face], rng)
        kept.setdefault(sentence, stated)
        if len(kept) == count:
            break
    return list(kept), list(kept.values())


def table(facts: Sequence[Facts]) -> Float[np.ndarray, "row fact"]:
    """1 where a row has a fact."""
    columns = {fact: at for at, fact in enumerate((name, value) for name, values in WAYS.items() for value in values)}
    found = np.zeros((len(facts), len(columns)), np.float32)
    for row, one in enumerate(facts):
        found[row, [columns[fact] for fact in one.items()]] = 1
    return found


def true_captions(facts: Sequence[Facts], stated: Sequence[Facts], rng: np.random.RandomState, most: int = CAPTIONS) -> Tensor:
    """For each face, numbers of sentences of which every fact is one of the face's: [face, most]. Long sentences come rather first."""
    said, found = table(stated), []
    size = said.sum(axis=1)
    for part in np.array_split(table(facts), max(1, len(facts) // 500)):
        for row in part @ said.T >= size - 0.5:
            fitting = np.flatnonzero(row)
            order = np.argsort(-(size[fitting] + 4 * rng.rand(len(fitting))))[:most]
            found.append(np.resize(fitting[order], most))
    return torch.from_numpy(np.stack(found))


# ---- training


def feature_pool(folder: Path, faces: int) -> np.ndarray:
    """Features of the previews of seeds 0, 1, ... at psi 1: [faces, 4368] 16-bit floats. Computed once; it resumes."""
    pool = array_on_disk(folder / "features.npy", (faces, FEATURES), np.float16)
    missing = np.flatnonzero(~pool.any(axis=1))
    if len(missing):
        generator, network = load("faces"), load("perceptual").network
        for seed in tqdm(missing.tolist(), unit="face", desc="features"):
            pool[seed] = image_features(network, natural(generator, generator.preview, seed, 1.0)).numpy()[0]
    return pool


def embeddings(sentences: Sequence[str], folder: Path) -> Tensor:
    """What the sentence encoder gives for each sentence: [sentence, 384]; kept in the folder."""
    file, names = folder / "sentences.npy", folder / "sentences.json"
    known = dict(zip(json.loads(names.read_text()), np.load(file), strict=True)) if file.exists() else {}
    new = sorted({one for one in sentences if one not in known}, key=len)
    if new:
        encoder = SentenceEncoder(*(asset_path(name, "words") for name in SENTENCES))
        for start in tqdm(range(0, len(new), 256), unit_scale=256, unit="sentence", desc="sentences", disable=len(new) < 1000):
            part = new[start : start + 256]
            with torch.autocast("cpu", torch.bfloat16, enabled=len(new) > 1000):
                known |= dict(zip(part, encoder(part).float().numpy().astype(np.float16), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(list(known.values())))
        names.write_text(json.dumps(list(known)))
    return torch.from_numpy(np.stack([known[one] for one in sentences])).float()


def retrieval(
    similarity: Float[Tensor, "face sentence"], facts: Sequence[Facts], stated: Sequence[Facts], among: int = 10
) -> dict[str, Float[np.ndarray, " row"]]:
    """Sentence i is about face i: is its face, or its sentence, among the nearest? And how often does a perfect reader find it?

    The perfect reader knows all facts. Where a sentence is true of c faces, it can only guess which of them is meant. Asked for the
    sentence of a face, it takes the true ones that fit the fewest faces. Each value is one number a sentence or face.
    """
    said = table(stated)
    true = table(facts) @ said.T >= said.sum(axis=1) - 0.5  # [face, sentence]
    fits, own = true.sum(axis=0), similarity.diagonal()  # faces that a sentence fits
    above = {"face": (similarity > own).sum(dim=0), "sentence": (similarity > own[:, None]).sum(dim=1)}
    better, equal = ((true & compare(fits, fits[:, None])).sum(axis=1) for compare in (np.less, np.equal))
    possible = {"face": np.minimum(1, among / fits), "sentence": np.clip((among - better) / equal, 0, 1)}
    found = {f"{name}_found": (rank < among).numpy().astype(float) for name, rank in above.items()}
    return found | {f"{name}_possible": row for name, row in possible.items()}


def known_faces(pool: Path, faces: int, held_out: int) -> tuple[Population, np.ndarray, dict[str, Reader], Appearance]:
    """Scores and features of the first `faces` seeds, and readers that learned from labels of all but the last `held_out`."""
    population, eye, features = survey.load().take(faces), read_appearance(), feature_pool(pool, faces)
    mine = eye.seeds < faces - held_out
    if mine.sum() < 50:
        raise ShapeError(f"{faces} faces leave {mine.sum()} with labels to learn from, 50 are needed. Give --faces 20000.")
    readers = fit_readers(features[eye.seeds[mine]].astype(np.float32), {name: column[mine] for name, column in eye.values.items()})
    return population, features, readers, eye


def project(features: Tensor, wanted: Tensor, folds: int = 4) -> tuple[Tensor, Tensor]:
    """Ridge regression of what is wanted of a face on its features: the projections, [face, wanted], and the matrix, [feature, wanted].

    Each face is projected by a matrix that did not learn from it, so that projections err as they will on unseen faces.
    """
    fold, strength = torch.arange(len(features)) % folds, RIDGE_FACTS * torch.eye(features.shape[1])
    parts = [(features[fold == k].T @ features[fold == k], features[fold == k].T @ wanted[fold == k]) for k in range(folds)]
    gram, cross = (sum(part[i] for part in parts) for i in (0, 1))
    projected = torch.empty_like(wanted)
    for k, (own_gram, own_cross) in enumerate(parts):
        others = (fold != k).sum()
        projected[fold == k] = features[fold == k] @ torch.linalg.solve(gram - own_gram + others * strength, cross - own_cross)
    return projected, torch.linalg.solve(gram + len(features) * strength, cross)


def learn_facts(towers: Towers, features: Tensor, found: Tensor, steps: int) -> None:
    """Teach the sigmoids of the image tower the facts, one each, by cross-entropy: 1 where a face has the fact."""
    towers.standardize(features)
    body, batch = towers.image_tower[:-2].train(), min(1024, len(features))
    optimizer = torch.optim.AdamW(body.parameters(), lr=2e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(features), (batch,))
        loss = F.binary_cross_entropy_with_logits(body((features[rows] - towers.mean) / towers.std), found[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


def unfold(small: Towers, mean: Tensor, std: Tensor, matrix: Tensor) -> Towers:
    """Towers that read features themselves, from towers that read their projection: two linear layers become one."""
    whole = Towers(**small.sizes | {"features": len(matrix)})
    state = small.state_dict() | {"mean": mean, "std": std}
    scaled = state["image_tower.1.weight"] / small.std
    state |= {"image_tower.1.weight": scaled @ matrix.T, "image_tower.1.bias": state["image_tower.1.bias"] - scaled @ small.mean}
    whole.load_state_dict(state)
    return whole.eval()


def make(out: Path, pool: Path, faces: int = 20_000, steps: int = 6000) -> None:
    """Draw the faces once, spread the labels, draw captions, train the towers on all but the last faces, measure, write."""
    rng, held_out = np.random.RandomState(0), min(HELD_OUT_FACES, faces // 5)
    torch.manual_seed(0)
    population, features, readers, eye = known_faces(pool, faces, held_out)
    unseen = (eye.seeds >= faces - held_out) & (eye.seeds < faces)
    reading = {}
    if unseen.any():
        seen = features[eye.seeds[unseen]]
        reading = {name: reader_scores(reader, seen, eye.values[name][unseen]) for name, reader in readers.items()}
    facts = facts_of(population, features, readers, eye)
    first, last = facts[:-held_out], facts[-held_out:][:1000]
    by_eye = facts_of(population.take(eye.seeds[eye.seeds < faces - held_out].tolist()), features, {}, eye)
    sentences, stated = pool_of_captions(by_eye, POOL, rng)  # these faces have all their facts
    asked, answers = zip(*(caption(one, rng) for one in last), strict=True)
    vectors, known = embeddings([*sentences, *asked], pool), embeddings(phrases(), pool)
    captions, found = true_captions(first, stated, rng), torch.from_numpy(table(first))

    learned = torch.from_numpy(features[:-held_out]).float()
    std, mean = torch.std_mean(learned, dim=0)
    std = std.clamp_min(1e-3)
    wanted = torch.cat([found, population.scores[:-held_out].float()], dim=1)
    projected, matrix = project((learned - mean) / std, (wanted - wanted.mean(dim=0)) / wanted.std(dim=0).clamp_min(1e-3))
    small, config = Towers(features=wanted.shape[1], facts=found.shape[1], dropout=DROPOUT), WordsTrainConfig(steps=steps, lr=LR)
    learn_facts(small, projected, found, FACT_STEPS)
    training = train_words(small, projected, vectors[: len(sentences)], captions, config)
    for _ in progress(training, steps, lambda step: f"loss {step.loss:.2f}, right {step.accuracy:.2f}"):
        pass
    towers = unfold(small, mean, std, matrix)

    with torch.no_grad():
        seen = torch.cat([towers.image(torch.from_numpy(part).float()) for part in np.array_split(features, max(1, faces // 1000))])
        similarity = seen[-held_out:][: len(last)] @ towers.text(vectors[len(sentences) :]).T
    measured_ = retrieval(similarity, last, answers)
    scores = {name: round(float(row.mean()), 3) for name, row in measured_.items()}
    kappa = agreement(eye, read_appearance(which="again_"))
    print(json.dumps({"agreement with oneself": kappa, "readers": reading, "retrieval": scores}, indent=1))
    axes = fit_axes(population.latents(load("faces"))[1][:-held_out], seen[:-held_out], RIDGE_W)
    about = {"held_out_faces": held_out, "held_out_words": HELD_OUT_WORDS, "training": asdict(config), "licence": LICENSE}
    about |= {"command": command("words", out, faces=faces, steps=steps), "scores": scores | {"readers": reading}}
    save_words(out, towers, axes, known, LEAST, **about)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=20_000, steps=6000, pool=Path("build/words"))))
