"""Directions without scores, on the toy face, whose widest axes and whose styles are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dvlatent.directions import Direction
from dvlatent.editing.find import angle_degrees
from dvlatent.editing.survey import Population
from dvlatent.editing.unsupervised import correlations, name_by, principal_directions, sefa, style_matrices
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, normal
from dvlatent.stylegan.mobile_stylegan import MobileStyleGAN
from dvlatent.toy.faces import FACTORS, ToyFaces
from dvlatent.types import fingerprint

Z = normal(range(3000), ToyFaces.z_dim)


@pytest.fixture(scope="module", autouse=True)
def z_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvlatent.editing.survey.normal", lambda seeds, dim: Z[list(seeds)])
        yield


@pytest.fixture(scope="module")
def toy():
    return ToyFaces()


@pytest.fixture(scope="module")
def population(toy):
    read = toy.read(broadcast(toy.mapping(Z), toy.num_layers))
    return Population(tuple(range(3000)), torch.stack(list(read.values()), dim=1), tuple(read), 1.0, fingerprint(toy))


def test_principal_directions_are_the_widest_axes(toy):
    axes = principal_directions(toy, 32, seeds=range(3000))
    w = toy.mapping(Z).double()
    covariance = torch.cov(w.T, correction=0)
    for axis in axes:  # eigenvectors, by what an eigenvector is
        vector = axis.vector.double()
        assert torch.allclose(covariance @ vector, axis.step**2 * vector, atol=1e-5)
        assert axis.boundary == pytest.approx(float(w.mean(dim=0) @ vector), abs=1e-5)
    steps = [axis.step for axis in axes]
    assert steps == sorted(steps, reverse=True)
    assert sum(step**2 for step in steps) == pytest.approx(float(covariance.trace()), rel=1e-5)
    vectors = torch.stack([axis.vector for axis in axes])
    assert torch.allclose(vectors @ vectors.T, torch.eye(32), atol=1e-5)
    assert [axis.name for axis in axes[:2]] == ["PC1", "PC2"] and axes[0].found_by["seeds"] == "0-2999"
    widest = torch.stack([toy.truth[name].vector for name, (_, size) in FACTORS.items() if size >= 1.3])
    assert float((widest @ vectors[:3].T).square().sum()) > 2.7  # pose, age and hair length: the same 3 dimensions, nearly


def test_truncation_shortens_the_steps_and_keeps_the_axes(toy):
    whole, half = (principal_directions(toy, 3, seeds=range(500), psi=psi) for psi in (1.0, 0.5))
    for a, b in zip(whole, half, strict=True):
        assert angle_degrees(a, b) < 0.1 and b.step == pytest.approx(a.step / 2, rel=1e-4) and b.psi == 0.5


def test_sefa_finds_the_factors_of_each_layer(toy):
    """The rows of the toy's A are at right angles, one for every factor of the layer; as lengths do not count, all eigenvalues are one."""
    found = sefa(toy, "middle", 7, seeds=range(500))
    span = torch.stack([axis.vector for axis in found])
    for name, (layer, _) in FACTORS.items():
        inside = float((span @ toy.truth[name].vector).norm())
        assert inside == pytest.approx(float(layer == 1), abs=1e-3), name
    assert found[0].layers == (1,) and found[0].found_by["style_layers"] == "1"


def test_sefa_is_the_closed_form():
    """The first axis changes the style more than any other step of length one: here one that three of four rows share."""
    generator = SimpleNamespace(z_dim=3, w_dim=3, num_layers=2, resolution=8, w_mean=torch.zeros(3), mapping=lambda z: z)
    shared = torch.tensor([0.6, 0.8, 0.0])
    matrices = [torch.stack([shared, 10 * shared]), torch.stack([-shared, torch.tensor([0.0, 0.0, 5.0])])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvlatent.editing.survey.normal", normal)
        first, second = sefa(generator, count=2, matrices=matrices, seeds=range(2000))
    assert angle_degrees(first, shared.numpy()) < 0.01 and first.layers is None
    assert angle_degrees(second, np.array([0, 0, 1.0])) < 0.01
    assert first.step == pytest.approx(1, abs=0.06)  # z is standard normal


def test_the_face_generator_hands_out_a_matrix_for_each_of_its_layers():
    generator = MobileStyleGAN()
    matrices = style_matrices(generator)
    assert len(matrices) == generator.num_layers and all(matrix.shape[1] == 512 for matrix in matrices)
    modulations = [name for name, _ in generator.named_parameters() if name.endswith("modulation.weight")]
    rows = sum(generator.get_parameter(name).shape[0] for name in modulations)
    assert sum(len(matrix) for matrix in matrices) == rows  # each once
    # a step in the w of one layer reaches the styles of that matrix and of no other
    block = generator.blocks[2]
    assert torch.equal(matrices[5], torch.cat([block.up.modulation.weight, block.conv1.modulation.weight]))
    assert torch.equal(matrices[6], block.conv2.modulation.weight)


def test_correlations_against_numpy_and_names(toy, population):
    axes = principal_directions(toy, 4, seeds=range(3000))
    table = correlations(axes, toy, population)
    w = toy.mapping(Z).double()
    expected = [[np.corrcoef(w @ axis.vector.double(), score)[0, 1] for score in population.scores.double().T] for axis in axes]
    assert np.allclose(table, expected, atol=1e-6)
    truths = [toy.truth[name] for name in ("smile", "age")]
    named = name_by(truths, population.names, correlations(truths, toy, population))
    assert [direction.name for direction in named] == ["smile (smile +1.0)", "age (age +1.0)"]
    assert torch.equal(named[0].vector, toy.truth["smile"].vector)


def test_names_show_signs_gaps_and_missing_scores():
    axes = [Direction(f"PC{row + 1}", torch.eye(3)[row]) for row in range(3)]
    named = name_by(axes, ("yaw", "age"), [[0.3, -0.84], [0.1, -0.19], [np.nan, 0.5]])
    assert [direction.name for direction in named] == ["PC1 (age -0.8)", "PC2 (no score follows)", "PC3 (age +0.5)"]


def test_refuses(toy, population):
    with pytest.raises(ShapeError, match="33 axes of a 32-number W"):
        principal_directions(toy, 33, seeds=range(100))
    with pytest.raises(ShapeError, match="cannot be found with 5 faces"):
        principal_directions(toy, 10, seeds=range(5))
    with pytest.raises(ShapeError, match=r"style matrices of SimpleNamespace are unknown.*matrices="):
        sefa(SimpleNamespace(num_layers=3, w_dim=32, mapping=None))
    with pytest.raises(ShapeError, match=r"one \[channel, 32\] matrix for each of 3 layers"):
        sefa(toy, matrices=[torch.ones(2, 31)] * 3)
    with pytest.raises(ShapeError, match="ask for 1 to 32"):
        sefa(toy, count=0)
    with pytest.raises(ShapeError, match="layers"):
        sefa(toy, layers=7)
    with pytest.raises(ShapeError, match=r"table of \[1 directions, 2 scores\]"):
        name_by([toy.truth["age"]], ("age", "male"), [[0.5]])
    with pytest.raises(DirectionMismatch, match="Find the direction again"):
        correlations([Direction("x", torch.eye(4)[0])], toy, population)
