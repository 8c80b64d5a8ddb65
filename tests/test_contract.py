"""The contract tells good generators from bad ones, and names the one thing that is wrong with each."""

from __future__ import annotations

import pytest
import torch
from contract import LAWS, first_broken

from dvlatent.toy.faces import ToyFaces


class Student:
    """What a student writes in ten lines: a soft disc whose place and color are the w."""

    z_dim, w_dim, num_layers, resolution = 5, 5, 2, 32
    w_mean = torch.zeros(5)

    def mapping(self, z):
        return torch.tanh(z)

    def synthesis(self, ws):
        y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij")
        center, color = ws[:, 0, :2, None, None], torch.tanh(ws[:, 1, 2:5])
        disc = torch.sigmoid(8 * (0.6 - ((x - center[:, 0]) ** 2 + (y - center[:, 1]) ** 2)))
        return disc[:, None] * color[:, :, None, None] - 0.4 * (1 - disc[:, None])


draw = Student().synthesis


def grainy(self, ws):
    image = draw(ws)
    return image + 0.01 * torch.randn_like(image)


def strided(self, ws):
    return draw(ws.as_strided(ws.shape, (ws.shape[1] * 5, 5, 1)) if ws.is_contiguous() else ws.view(-1, 10).view(ws.shape))


def rude(self, ws):
    raise KeyError("no such color")


FAULTS = {  # what is wrong: the law that it breaks, and the members of a class that does it
    "no mean": ("members", {"w_mean": None}),
    "a flat mean": ("members", {"w_mean": torch.zeros(4)}),
    "no mapping": ("members", {"mapping": None}),
    "another size": ("shapes", {"resolution": 64}),
    "squeezed": ("shapes", {"synthesis": lambda self, ws: draw(ws).squeeze(0)}),
    "doubled": ("shapes", {"synthesis": lambda self, ws: draw(ws).double()}),
    "rude": ("shapes", {"synthesis": rude}),
    "undefined": ("finite", {"mapping": lambda self, z: z / z.norm(dim=1, keepdim=True)}),  # 0 / 0 at the center
    "bytes": ("value_range", {"synthesis": lambda self, ws: (draw(ws) + 1) * 127.5}),
    "zero to one": ("value_range", {"synthesis": lambda self, ws: (draw(ws) + 1) / 2}),
    "grainy": ("deterministic", {"synthesis": grainy}),
    "greedy": ("inputs_untouched", {"synthesis": lambda self, ws: draw(ws.add_(0.1))}),
    "strided": ("broadcast_ws", {"synthesis": strided}),
    "sociable": ("batch_independence", {"synthesis": lambda self, ws: draw(ws - 0.5 * ws.mean(dim=0, keepdim=True))}),
    "sociable mapping": ("batch_independence", {"mapping": lambda self, z: torch.tanh(z - z.mean(0) if len(z) > 1 else z)}),
    "stuck": ("variety", {"synthesis": lambda self, ws: draw(ws * 0)}),
    "jumpy": ("small_steps", {"synthesis": lambda self, ws: draw(torch.sin(ws * 1e5))}),
    "detached": ("gradient", {"synthesis": lambda self, ws: draw(ws.detach())}),
    "half deaf": ("gradient", {"synthesis": lambda self, ws: draw(torch.stack([ws[:, 0], ws[:, 0]], dim=1))}),
    "kinked": ("gradient", {"synthesis": lambda self, ws: draw(ws + (ws - ws).square().sum(dim=1, keepdim=True).sqrt())}),
    "elsewhere": ("mean_w", {"w_mean": torch.ones(5)}),
}


def test_the_toy_and_a_ten_line_class_keep_every_law_and_leave_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    assert first_broken(ToyFaces(resolution=64)) == "" and first_broken(Student()) == ""
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("law", "members"), FAULTS.values(), ids=FAULTS)
def test_each_fault_breaks_its_law(law, members):
    assert first_broken(type("Faulty", (Student,), members)()).startswith(f"{law}: ")


def test_every_law_can_fail():
    assert {law for law, _ in FAULTS.values()} == {law.__name__ for law in LAWS}
