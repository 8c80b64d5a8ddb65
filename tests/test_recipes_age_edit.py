"""The recipe of the age edit, in one step."""

import age_edit

from dvlatent import checkpoint, load


def test_the_recipe_writes_an_edit_that_loads(tmp_path):
    out = tmp_path / "age-edit.safetensors"
    age_edit.make(out, steps=1)
    edit = load(out)
    layers = [direction.layers for _, direction in edit.terms]
    assert layers == [*((layer,) for layer in load("age-direction").layers), None]  # a vector for each, then gender in all
    assert {amount for amount, _ in edit.terms} == {age_edit.BOLDER, -age_edit.BALANCE}
    assert checkpoint.load(out, "edit")[1]["command"] == "python recipes/age_edit.py --out age-edit.safetensors --steps 1"
