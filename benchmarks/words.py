"""What the model of words and pictures understands.

    python benchmarks/words.py [--pool FOLDER] [--only retrieval,zero-shot,held-out,age]

Faces that neither towers nor readers learned from (seeds from 18,000 on, psi 1, previews). 95 % bootstrap intervals over faces.
Retrieval: 1,000 faces, one sentence about each; is the face (or the sentence) among the nearest 10? A perfect reader knows all facts, and
guesses only where a sentence is true of several faces. Zero-shot: two sentences a question, unlike the captions, the nearer one is the
answer; agreement with the survey's scores, and for glasses with the labels by eye. Held-out words: the direction from "a person" to each
word, which no caption had, moves 16 faces by two steps; the survey's predictors and the readers of labels say what changed. Age: "an old
person" against the shipped age direction, at the same mean identity distance; the judge counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))

import words

import dvlatent
from dvlatent.editing.effects import effects_of
from dvlatent.editing.words import find_words, image_features
from dvlatent.latents import w_of
from dvlatent.stats import bootstrap

FACES, FIRST, ASKED = 20_000, 18_000, 1000
QUESTIONS = {  # name -> (sentences for yes, sentences for no)
    "old against young": ("a retired senior citizen with wrinkles", "somebody at the beginning of life, full of youth"),
    "male against female": ("a father, somebody's husband", "a mother, somebody's wife"),
    "smiling": ("this one is in a good mood and smiles at us", "this one is not amused"),
    "glasses": ("somebody who needs glasses to read", "somebody who needs no glasses to read"),
}
WORDS = {  # sentence -> what should rise (+) or fall (-)
    "a grandmother": {"age": 1, "male": -1},
    "a grandfather": {"age": 1, "male": 1},
    "a toddler": {"age": -1},
    "a teenager": {"age": -1},
    "an elderly person": {"age": 1},
    "a bearded person": {"beard": 1},
    "a hairless person": {"bald": 1},
    "a grinning person": {"smile": 1},
    "a redhead": {"red hair": 1},
    "a person with spectacles": {"glasses": 1},
    "a gentleman": {"male": 1},
    "a person with a cap": {"hat": 1},
}
READ = {
    "beard": ("beard", "beard"),
    "bald": ("hair", "bald"),
    "red hair": ("color", "red"),
    "hat": ("hat", "yes"),
    "glasses": ("glasses", "no"),
}
STEPS, EDITED = 2.0, range(300_000, 300_016)
AGE_STEPS, AGES = 1.65, range(400_000, 400_016)  # of the shipped direction; faces


def show(name: str, values: np.ndarray, note: str = "") -> None:
    print(f"  {name:32} {bootstrap(np.asarray(values, float))}  {note}")


def retrieval(model, features, facts) -> None:
    """Sentences that are drawn anew, once each."""
    rng = np.random.RandomState(1)
    asked, stated = zip(*(words.caption(one, rng) for one in facts[:ASKED]), strict=True)
    similarity = model.towers.image(features[:ASKED]) @ model.sentences(list(asked)).T
    found = words.retrieval(similarity, facts[:ASKED], stated)
    for name in ("face", "sentence"):
        got, possible = found[f"{name}_found"], found[f"{name}_possible"]
        show(f"{name} among the nearest 10", got, f"perfect reader {possible.mean():.3f}: {got.mean() / possible.mean():.0%} of it")


def zero_shot(model, features, population, eye) -> None:
    """The nearer of two sentences is the answer."""
    embedded, age, smile = model.towers.image(features), population.column("age")[FIRST:], population.column("smile")[FIRST:]
    male, truth = population.column("male")[FIRST:], {}
    truth["old against young"] = (age > 50, (age > 50) | (age < 30))
    truth["male against female"] = (male > 0.5, torch.ones(len(male), dtype=torch.bool))
    truth["smiling"] = (smile > 0.5, (smile > 0.75) | (smile < 0.05))
    seen = torch.zeros(len(male), dtype=torch.bool)
    wears, mine = seen.clone(), eye.seeds >= FIRST
    seen[eye.seeds[mine] - FIRST] = True
    wears[eye.seeds[mine] - FIRST] = torch.from_numpy(eye.values["glasses"][mine] != "no")
    truth["glasses"] = (wears, seen)
    for name, (yes, no) in QUESTIONS.items():
        difference = model.difference(yes, no)
        (label, clear), said = truth[name], embedded @ difference > 0
        right = (said == label)[clear].numpy()
        halves = [float((said == label)[clear & (label == half)].float().mean()) for half in (True, False)]
        show(name, right, f"of yes {halves[0]:.3f}, of no {halves[1]:.3f}, faces {len(right)} ('{yes}' / '{no}')")


@torch.no_grad()
def held_out(model, readers) -> None:
    """Do faces change as a word says that no caption had?"""
    generator, network = dvlatent.load("faces"), dvlatent.load("perceptual").network
    attributes, landmarks = dvlatent.load("attributes"), dvlatent.load("landmarks")

    def read(ws):
        picture = generator.preview(ws).clamp(-1, 1)
        features = image_features(network, picture).numpy()
        said = attributes(picture)
        found = {"age": said[:, 0].numpy(), "male": said[:, 1].numpy(), "smile": landmarks(picture)[:, 0].numpy()}
        for name, (attribute, value) in READ.items():
            reader = readers[attribute]
            probability = reader(features)[:, reader.values.index(value)]
            found[name] = 1 - probability if value == "no" else probability
        return found

    ws = dvlatent.broadcast(w_of(generator, EDITED, 0.7), generator.num_layers)
    before, right = read(ws), 0
    for sentence, expected in WORDS.items():
        after = read(find_words(model, generator, sentence, "a person").move(ws, STEPS))
        changes = {name: bootstrap(after[name] - before[name]) for name in expected}
        fits = all(change.value * expected[name] > 0 for name, change in changes.items())
        right += fits
        print(
            f"  {sentence:26} {'as it says' if fits else 'NOT as it says'}: "
            + ", ".join(f"{name} {change}" for name, change in changes.items())
        )
    print(f"  {right} of {len(WORDS)} words")


@torch.no_grad()
def age(model) -> None:
    """Years gained and faces that gained 20, where both directions change the person equally much."""
    generator, judge, identity = dvlatent.load("faces"), dvlatent.load("judge"), dvlatent.load("identity")
    old, formula = find_words(model, generator, "an old person"), dvlatent.load("age-direction")
    print(f"  cosine of the two directions {float(old.vector @ formula.vector):.2f}")
    amounts = (2.0, 4.0)
    base = effects_of(generator, {"": formula}, (AGE_STEPS,), AGES, judge, identity)[""]
    mine = effects_of(generator, {"": old}, amounts, AGES, judge, identity)[""]
    goal, far = float(base.identity.mean()), [0.0, *mine.identity.mean(dim=1).tolist()]
    share = np.interp(goal, far, range(len(far)))  # between two amounts, as far along as the identity distance is
    years = np.vstack([np.zeros(len(AGES)), mine.change("age").numpy()])
    low = min(int(share), len(amounts) - 1)
    equal = years[low] + (share - low) * (years[low + 1] - years[low])
    print(f"  at identity distance {goal:.3f}; the words reach {far[1:]} at {amounts} steps")
    for name, gained in (("shipped formula", base.change("age")[0].numpy()), ("'an old person'", equal)):
        show(f"{name}: years", gained, f"moved by 20 years {bootstrap((gained >= 20).astype(float))}")
    print(f"  change of 'male': formula {float(base.change('male').mean()):+.2f}, words {mine.change('male').mean(dim=1).tolist()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path("build/words"), help="folder of the recipe's features (default build/words)")
    parser.add_argument("--only", default="retrieval,zero-shot,held-out,age", help="what to measure, parted by commas")
    chosen = parser.parse_args()
    parts, model = chosen.only.split(","), dvlatent.load("words")
    if set(parts) & {"retrieval", "zero-shot", "held-out"}:
        population, features, readers, eye = words.known_faces(chosen.pool, FACES, FACES - FIRST)
        unseen = torch.from_numpy(features[FIRST:]).float()
    for name in parts:
        print(name)
        if name == "retrieval":
            last = population.take(slice(FIRST, FACES))
            retrieval(model, unseen, words.facts_of(last, features[FIRST:], readers, eye))
        elif name == "zero-shot":
            zero_shot(model, unseen, population, eye)
        elif name == "held-out":
            held_out(model, readers)
        else:
            age(model)


if __name__ == "__main__":
    with torch.no_grad():
        main()
