"""Numbers of any precision go in: every network computes with its own, and pictures and latents come back in the caller's."""

import pytest
import torch

from dvlatent import load
from dvlatent.latents import broadcast, normal

LOSS = {torch.float64: 1e-5, torch.float16: 0.02, torch.bfloat16: 0.15}  # what rounding to this precision costs, for numbers of size one


@pytest.fixture(params=LOSS, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["default float32", "default float64"])
def default(request):
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


def same(made, wanted, dtype):
    assert made.dtype == dtype and float((made.double() - wanted.double()).abs().mean()) < LOSS[dtype]


def test_generators_and_edits(faces, dtype, default):
    z = normal([3], 512)
    w = faces.mapping(z)
    same(faces.mapping(z.to(dtype)), w, dtype)
    same(faces.preview(broadcast(w.to(dtype), 16)), faces.preview(broadcast(w, 16)), dtype)
    same(load("age-edit")(broadcast(w.to(dtype), 16)), load("age-edit")(broadcast(w, 16)), dtype)
    same(load("digits").synthesis(z[:, None, :64].to(dtype)), load("digits").synthesis(z[:, None, :64]), dtype)


READERS = "attributes landmarks identity judge encoder face-parts perceptual aligner age-filter".split()


@pytest.mark.parametrize("name", READERS)
def test_readers_of_faces(name, dtype, default, recorded_faces):
    reader, face = load(name), recorded_faces[:1]
    calls = {"perceptual": lambda x: reader(x, x.flip(-1)), "aligner": lambda x: reader(x)[1], "age-filter": lambda x: reader(x, 2.0)}
    call = calls.get(name, reader)
    made, wanted = call(face.to(dtype)), call(face)
    if name in ("aligner", "age-filter"):
        assert made.dtype == (dtype if name == "age-filter" else torch.float32)
    assert float((made.double() - wanted.double()).abs().mean()) < LOSS[dtype] * (1 + float(wanted.abs().mean()))
