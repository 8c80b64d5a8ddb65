"""The recipe of the age edit, in one step, and what it pays for."""

import age_edit
import torch

from dvlatent import checkpoint, load


class Reader(torch.nn.Module):
    """Reads brightness instead of age, so that nothing has to be fetched."""

    names = ("age", "male", "finder_male")

    def forward(self, image):
        light = image.mean(dim=(1, 2, 3))
        return torch.stack([30 + 10 * light, 0.5 + 0 * light, 0.5 + 0 * light], dim=1)


def test_the_recipe_writes_an_edit_that_loads(tmp_path):
    out = tmp_path / "age-edit.safetensors"
    age_edit.make(out, stop_after=1, reader=Reader())
    edit = load(out)
    assert [direction.layers for _, direction in edit.terms] == [(layer,) for layer in load("age-direction").layers]
    assert {amount for amount, _ in edit.terms} == {age_edit.PLANS["age-edit"].times}
    assert checkpoint.load(out, "edit")[1]["command"] == "python recipes/age_edit.py age-edit --out age-edit.safetensors"
    age_edit.make(tmp_path / "younger.safetensors", "younger-edit", stop_after=1, reader=Reader())
    along = sum(float(direction.step * direction.vector @ load("age-direction").vector) for _, direction in edit.terms)
    back = sum(float(one.step * one.vector @ load("age-direction").vector) for _, one in load(tmp_path / "younger.safetensors").terms)
    assert along > 0 > back


def test_other_changes_cost_something_and_gray_hair_costs_nothing():
    before = torch.full((1, 3, 256, 256), 0.2)
    before[:, 0] = 0.5
    gray, redder, moved = before.clone(), before.clone(), before.clone()
    gray[:, :, :40, 100:156] = before.mean(dim=1, keepdim=True)[:, :, :40, 100:156]  # above the forehead
    redder[:, 0] += 0.1
    moved[:, :, :40, :40] -= 0.3  # in a corner
    assert age_edit.kept(before, before) < 1e-6 and age_edit.kept(before, gray) < 1e-3
    lips = before.clone()
    lips[:, 0, 172:200, 104:152] += 0.2
    assert age_edit.kept(before, lips) > 1
    assert age_edit.kept(before, redder) > 1 and age_edit.kept(before, moved) > 0.1
    hidden = age_edit.beside_the_head()
    assert hidden[0, 0] == 1 and hidden[16, 16] == 0 and hidden[31].sum() == 0
