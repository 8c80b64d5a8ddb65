"""recipes/words.py: labels by eye, captions that state facts and nothing else, and a reader that knows what can be known."""

import json

import numpy as np
import pytest
import torch
import words

from dvlatent.editing.words import Towers
from dvlatent.errors import ShapeError

FACES = [
    {"age": "old", "gender": "female", "hair": "long", "glasses": "glasses", "smile": "none"},
    {"age": "child", "gender": "male", "hair": "short", "color": "red", "turn": "left"},
    {"age": "young", "gender": "male", "beard": "beard", "hat": "yes", "background": "outdoors", "eyes": "closed"},
    {"color": "gray", "mouth": "open"},
]


def test_labels_are_many_and_agree_with_a_second_look():
    eye, again = words.read_appearance(), words.read_appearance(which="again_")
    assert len(set(eye.seeds.tolist())) == len(eye.seeds) >= 1500 and len(again.seeds) >= 100
    kappa = words.agreement(eye, again)
    assert min(value for name, value in kappa.items() if name not in ("face", "background", "makeup")) >= 0.75, kappa
    assert words.agreement(eye, words.Appearance(eye.seeds, eye.values)) == dict.fromkeys(eye.values, 1.0)


@pytest.mark.parametrize("codes", ["sskal", "sskal sska", "sskal sskalz"])
def test_codes_that_are_none_are_refused(tmp_path, codes):
    (tmp_path / "a.json").write_text(json.dumps({"seeds": [3, 5], "codes": codes}))
    with pytest.raises(ShapeError, match="2 seeds need as many codes"):
        words.read_appearance(tmp_path / "a.json")


def test_a_code_says_what_was_seen(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"seeds": [3, 5], "codes": "lcgfobg ?s?ad"}))
    values = words.read_appearance(tmp_path / "a.json").values
    assert {name: tuple(column) for name, column in values.items() if name in ("hair", "curl", "color", "beard", "glasses", "hat")} == {
        "hair": ("long", ""), "curl": ("curly", "straight"), "color": ("gray", ""), "beard": ("beard", "no"),
        "glasses": ("glasses", "no"), "hat": ("no", "no"),
    }  # fmt: skip


def test_captions_state_facts_of_the_face_in_known_wordings():
    rng = np.random.RandomState(0)
    for _ in range(300):
        facts = FACES[rng.randint(len(FACES))]
        sentence, stated = words.caption(facts, rng)
        assert stated.items() <= facts.items() and 1 <= len(stated) <= words.MOST_FACTS
        young = stated.get("age") in ("baby", "child")
        for name, value in stated.items():
            if name == "gender" or (name == "age" and young):
                continue
            ways = [way.lstrip("-=") for way in words.WAYS[name][value].split("/")]
            cores = [way.split(" ", 1)[-1].removeprefix("a ").removeprefix("an ").removeprefix("the ") for way in ways]
            assert any(core in sentence for core in [*ways, *cores]), (sentence, name, value)
        male, female = ((set(sentence.lower().replace(",", " ").replace(".", " ").split()) & group) for group in (
            {"he", "man", "guy", "male", "boy", "fellow"}, {"she", "woman", "lady", "female", "girl"}))  # fmt: skip
        assert bool(male) == (stated.get("gender") == "male") and bool(female) == (stated.get("gender") == "female"), sentence


def test_no_caption_has_a_word_that_is_held_out():
    said = " ".join([*words.phrases(), *words.OPENINGS]).lower().split()
    assert not set(said) & set(words.HELD_OUT_WORDS) and len(words.HELD_OUT_WORDS) == 12
    assert not set(said) & {"beautiful", "pretty", "ugly", "doctor"}


def test_a_sentence_belongs_to_the_faces_of_which_all_of_it_is_true():
    stated = [{}, {"age": "old"}, {"age": "old", "glasses": "no"}, {"gender": "male"}, {"mouth": "open", "color": "gray"}]
    found = words.true_captions(FACES, stated, np.random.RandomState(0), most=4)
    assert [set(row) for row in found.tolist()] == [{0, 1}, {0, 3}, {0, 3}, {0, 4}]


def test_the_perfect_reader_guesses_among_equal_faces():
    """Of 4 faces that one sentence fits, 1 of the nearest 2 is right half of the time; a sentence that fits one face is found."""
    facts = [{"age": "old"}] * 4 + [{"age": "young"}]
    found = words.retrieval(torch.eye(5), facts, facts, among=2)
    np.testing.assert_allclose(found["face_possible"], [0.5, 0.5, 0.5, 0.5, 1])
    assert found["face_found"].all() and found["sentence_found"].all()
    specific = words.retrieval(
        torch.eye(2), [{"age": "old", "gender": "male"}, {"age": "old"}], [{"gender": "male"}, {"age": "old"}], among=1
    )
    np.testing.assert_allclose(specific["sentence_possible"], [1, 1])  # the first face's own sentence fits no other face
    turned = words.retrieval(-torch.eye(5), facts, facts, among=2)
    assert not turned["face_found"].any()


def test_readers_learn_what_features_show():
    rng = np.random.RandomState(0)
    features = rng.randn(400, 30).astype(np.float32) * np.linspace(1, 5, 30, dtype=np.float32)
    kinds = np.array(["left", "right", "far"])[np.digitize(features[:, 3] / features[:, 3].std(), [-0.5, 0.5])]
    two = np.where(features[:, 5] > 0, "yes", "no")
    two[:50] = ""
    readers = words.fit_readers(features[:300], {"kind": kinds[:300], "two": two[:300]}, strength=1.0)
    for name, truth in (("kind", kinds), ("two", two)):
        np.testing.assert_allclose(readers[name](features).sum(axis=1), 1, rtol=1e-5)
        scores = words.reader_scores(readers[name], features[300:], truth[300:])
        assert scores["accuracy"] > 0.85 and scores["auc"] > 0.95, (name, scores)


def test_what_little_says_is_left_out():
    bald = {"hair": "bald", "color": "gray", "curl": "straight", "beard": "no", "gender": "female", "face": "average", "background": ""}
    assert words.plausible(bald) == {"hair": "bald", "gender": "female"}


def test_projections_do_not_learn_by_heart():
    """A face's projection comes from a matrix that has not seen it: noise is not found again, what features tell is."""
    rng = torch.Generator().manual_seed(0)
    features, noise = torch.randn(300, 120, generator=rng), torch.randn(300, 1, generator=rng)
    wanted = torch.cat([features[:, :2].sum(dim=1, keepdim=True), noise], dim=1)
    projected, matrix = words.project(features, wanted)
    apart, together = ([float(np.corrcoef(found[:, k], wanted[:, k])[0, 1]) for k in (0, 1)] for found in (projected, features @ matrix))
    assert apart[0] > 0.8 and abs(apart[1]) < 0.25 and together[1] > 0.5


def test_towers_of_projections_become_towers_of_features():
    rng = torch.Generator().manual_seed(0)
    features, matrix = 3 + 2 * torch.randn(50, 20, generator=rng), torch.randn(20, 5, generator=rng)
    std, mean = torch.std_mean(features, dim=0)
    small = Towers(features=5, sentence=6, width=8, dim=4, facts=3).eval()
    projected = (features - mean) / std @ matrix
    small.standardize(projected)
    torch.testing.assert_close(words.unfold(small, mean, std, matrix).image(features), small.image(projected), atol=1e-5, rtol=1e-4)


def test_sigmoids_learn_one_fact_each():
    torch.manual_seed(0)
    features = torch.randn(500, 6)
    found = (features[:, :2] > 0).float()
    towers = Towers(features=6, sentence=6, width=16, dim=4, facts=2)
    words.learn_facts(towers, features, found, steps=600)
    said = towers.image_tower.eval()[:-1]((features - towers.mean) / towers.std)
    assert ((said > 0.5) == (found > 0.5)).float().mean() > 0.95
