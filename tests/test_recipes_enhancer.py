"""The recipe of the 512-px filters: the squares that a step is shown belong together."""

import enhancer as recipe
import torch

from dvlatent.distillation.pix2pixhd import LocalEnhancer, Student


def test_a_square_of_the_pictures_and_of_the_change_is_the_same_square():
    torch.manual_seed(0)
    student = Student(width=4, downs=3, blocks=1)
    faces = torch.rand(2, 3, recipe.SIZE, recipe.SIZE) - 0.5
    strength, squares = torch.tensor([2.0, -1.0]), recipe.Squares(student)
    (seen, change, dial), before, after = squares(faces, faces + 1, strength, torch.Generator().manual_seed(1))
    assert seen.shape == before.shape == (2, 3, recipe.CROP, recipe.CROP) and change.shape[2] == recipe.CROP // 2
    assert torch.equal(after, before + 1) and dial.flatten().tolist() == [1.0, -0.5]
    whole = squares.student.change(torch.nn.functional.avg_pool2d(faces, 2), strength.view(-1, 1, 1, 1))
    for index in range(2):
        corners = [(row, column) for row in range(0, 258, 2) for column in range(0, 258, 2)]
        row, column = next(at for at in corners if torch.equal(faces[index, :, at[0] : at[0] + 256, at[1] : at[1] + 256], before[index]))
        assert torch.equal(whole[index, :, row // 2 : row // 2 + 128, column // 2 : column // 2 + 128], change[index])
    assert LocalEnhancer(width=4, blocks=1)(seen, change, dial).shape == before.shape
