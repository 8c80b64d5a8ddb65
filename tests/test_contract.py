"""The contract tells good generators from bad ones, and names the one thing that is wrong with each."""

from __future__ import annotations

import pytest
import torch
from contract import LAWS, broken

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


class NoMean(Student):
    w_mean = None


class FlatMean(Student):
    w_mean = torch.zeros(4)


class NoMapping(Student):
    mapping = None


class OneSize(Student):
    resolution = 64


class Squeezed(Student):
    def synthesis(self, ws):
        return super().synthesis(ws).squeeze(0)


class Doubled(Student):
    def synthesis(self, ws):
        return super().synthesis(ws).double()


class Undefined(Student):
    def mapping(self, z):
        return z / z.norm(dim=1, keepdim=True)  # 0 / 0 at the center


class Bytes(Student):
    def synthesis(self, ws):
        return (super().synthesis(ws) + 1) * 127.5


class ZeroToOne(Student):
    def synthesis(self, ws):
        return (super().synthesis(ws) + 1) / 2


class Grainy(Student):
    def synthesis(self, ws):
        image = super().synthesis(ws)
        return image + 0.01 * torch.randn_like(image)


class Greedy(Student):
    def synthesis(self, ws):
        ws += 0.1
        return super().synthesis(ws)


class Strided(Student):
    def synthesis(self, ws):
        return super().synthesis(ws.as_strided(ws.shape, (ws.shape[1] * 5, 5, 1)) if ws.is_contiguous() else ws.view(-1, 10).view(ws.shape))


class Sociable(Student):
    def synthesis(self, ws):
        return super().synthesis(ws - 0.5 * ws.mean(dim=0, keepdim=True))


class SociableMapping(Student):
    def mapping(self, z):
        return torch.tanh((z - z.mean(0)) / (z.std(0) + 1) if len(z) > 1 else z)


class Stuck(Student):
    def synthesis(self, ws):
        return super().synthesis(ws * 0)


class Jumpy(Student):
    def synthesis(self, ws):
        return super().synthesis(torch.sin(ws * 1e5))


class Detached(Student):
    def synthesis(self, ws):
        return super().synthesis(ws.detach())


class HalfDeaf(Student):
    def synthesis(self, ws):
        return super().synthesis(torch.stack([ws[:, 0], ws[:, 0]], dim=1))


class Kinked(Student):
    def synthesis(self, ws):
        return super().synthesis(ws + (ws - ws).square().sum(dim=1, keepdim=True).sqrt())


class Elsewhere(Student):
    w_mean = torch.ones(5)


class Rude(Student):
    def synthesis(self, ws):
        raise KeyError("no such color")


BROKEN = {
    NoMean: "members",
    FlatMean: "members",
    NoMapping: "members",
    OneSize: "shapes",
    Squeezed: "shapes",
    Doubled: "shapes",
    Rude: "shapes",
    Undefined: "finite",
    Bytes: "range",
    ZeroToOne: "range",
    Grainy: "deterministic",
    Greedy: "inputs untouched",
    Strided: "broadcast ws",
    Sociable: "batch independence",
    SociableMapping: "batch independence",
    Stuck: "variety",
    Jumpy: "small steps",
    Detached: "gradient",
    HalfDeaf: "gradient",
    Kinked: "gradient",
    Elsewhere: "mean w",
}


def test_the_toy_and_a_ten_line_class_keep_every_law():
    assert broken(ToyFaces(resolution=64)) == {}
    assert broken(Student()) == {}


@pytest.mark.parametrize(("kind", "law"), BROKEN.items(), ids=lambda item: getattr(item, "__name__", item))
def test_each_fault_breaks_its_own_law_only(kind, law):
    assert list(broken(kind())) == [law]


def test_every_law_can_fail():
    assert set(BROKEN.values()) == set(LAWS)


def test_trying_leaves_the_global_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    broken(Student())
    assert torch.equal(torch.rand(2), expected)
