"""The toy face keeps what it says: a stated population, true directions, the same face at every size."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close

from dvlatent.directions import Direction
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.latents import broadcast, lerp, mix, normal, slerp
from dvlatent.toy.faces import FACTORS, ToyFaces
from dvlatent.types import fingerprint

NAMES = list(FACTORS)


@pytest.fixture(scope="module")
def toy() -> ToyFaces:
    return ToyFaces(resolution=64)


@pytest.fixture(scope="module")
def many_z():
    return torch.randn(20_000, 32, generator=torch.Generator().manual_seed(0))


def faces(toy: ToyFaces, seeds) -> torch.Tensor:
    return broadcast(toy.mapping(normal(seeds, toy.z_dim)), toy.num_layers)


def draw(toy: ToyFaces, ws: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return toy.synthesis(ws)


# the population


def test_every_factor_is_standard_normal(toy, many_z):
    factors = toy.factors(broadcast(toy.mapping(many_z), 3))
    assert factors.shape == (20_000, len(NAMES))
    assert_close(factors.mean(0), torch.zeros(len(NAMES)), atol=0.03, rtol=0)
    assert_close(factors.std(0), torch.ones(len(NAMES)), atol=0.02, rtol=0)
    assert_close((factors**4).mean(0), torch.full((len(NAMES),), 3.0), atol=0.3, rtol=0)  # a normal's fourth moment


@pytest.mark.parametrize(("pair", "rho"), [(("age", "glasses"), 0.0), (("age", "glasses"), 0.8), (("smile", "hair length"), -0.5)])
def test_the_dial_sets_the_correlation_of_the_pair_and_of_nothing_else(many_z, pair, rho):
    toy = ToyFaces(resolution=32, correlation=rho, pair=pair)
    expected = torch.eye(len(NAMES))
    first, second = NAMES.index(pair[0]), NAMES.index(pair[1])
    expected[first, second] = expected[second, first] = rho
    factors = toy.factors(broadcast(toy.mapping(many_z), 3))
    assert_close(torch.corrcoef(factors.T), expected, atol=0.03, rtol=0)
    assert_close(factors.std(0), torch.ones(len(NAMES)), atol=0.02, rtol=0)


def test_the_dial_leaves_w_and_truth_alone(toy):
    tied = ToyFaces(resolution=64, correlation=0.9)
    assert fingerprint(tied) == fingerprint(toy)
    for name in NAMES:
        assert torch.equal(tied.truth[name].vector, toy.truth[name].vector)
    ws = faces(toy, [4])
    assert torch.equal(draw(tied, ws), draw(toy, ws))


def test_a_mean_difference_leans_by_the_correlation(many_z):
    """What notebook 05 finds on real faces, here in closed form: rho steps of glasses for every step of age."""
    toy = ToyFaces(resolution=32, correlation=0.6)
    w = toy.mapping(many_z)
    age = toy.truth["age"].coordinate(broadcast(w, 3))
    raw = w[age > 0.5].mean(0) - w[age < -0.5].mean(0)
    steps = {name: float(raw @ d.vector) / d.step for name, d in toy.truth.items()}
    assert steps["glasses"] / steps["age"] == pytest.approx(0.6, abs=0.03)
    assert abs(steps["smile"] / steps["age"]) < 0.03


def test_w_mean_is_the_mean_of_the_population(toy, many_z):
    assert_close(toy.mapping(many_z).mean(0), toy.w_mean, atol=0.04, rtol=0)
    assert_close(toy.factors(toy.w_mean.expand(1, 3, -1)), torch.zeros(1, len(NAMES)), atol=1e-5, rtol=0)


def test_z_is_less_well_ordered_than_w(toy, many_z):
    """A straight line reads every factor off w exactly, and off z only partly."""
    factors = toy.factors(broadcast(toy.mapping(many_z), 3))
    ones = torch.ones(len(many_z), 1)
    for space, low, high in ((many_z, 0.3, 0.8), (toy.mapping(many_z), 0.999, 1.001)):
        known = torch.cat([space, ones], dim=1)
        line = torch.linalg.lstsq(known[:15_000], factors[:15_000]).solution
        left = (factors - known @ line)[15_000:].square().mean(0)
        explained = 1 - left / factors[15_000:].var(0)
        assert low < float(explained.min()) and float(explained.max()) < high


def test_paths_through_w_are_shorter_than_through_z(toy):
    """Perceptual path length in small: mean squared speed of the picture, over the whole way between two faces."""
    z, end = normal(range(12), 32), normal(range(100, 112), 32)
    along = torch.linspace(0, 1, 12)
    lengths = {"z": [], "w": []}
    for a, b in zip(z.split(1), end.split(1), strict=True):
        paths = {"z": toy.mapping(slerp(a, b, along)), "w": lerp(toy.mapping(a), toy.mapping(b), along)}
        for space, path in paths.items():
            lengths[space].append(draw(ToyFaces(32), broadcast(path, 3)).diff(dim=0).square().mean())
    assert torch.stack(lengths["z"]).mean() > 1.15 * torch.stack(lengths["w"]).mean()


# the truth


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_truth_moves_its_factor_by_one_and_no_other(toy, name):
    direction, ws = toy.truth[name], faces(toy, range(4))
    direction.check(toy)
    moved = toy.factors(direction.move(ws, 1.5)) - toy.factors(ws)
    expected = torch.zeros(len(NAMES))
    expected[NAMES.index(name)] = 1.5
    assert_close(moved, expected.expand(4, -1), atol=1e-4, rtol=0)
    assert_close(direction.coordinate(ws), toy.factors(ws)[:, NAMES.index(name)], atol=1e-4, rtol=0)


def test_boundary_is_the_middle(toy):
    ws = faces(toy, range(3))
    assert_close(toy.read(toy.truth["age"].move_to(ws, at=0))["age"], torch.full((3,), 45.0), atol=1e-2, rtol=0)
    assert_close(toy.read(toy.truth["glasses"].move_to(ws, at=0))["glasses"], torch.full((3,), 0.5), atol=1e-3, rtol=0)
    assert_close(toy.read(toy.truth["pose"].move_to(ws, at=0))["pose"], torch.zeros(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_factor_shows(toy, name):
    ws = faces(toy, range(6))
    less, more = (draw(toy, toy.truth[name].move_to(ws, at=at)) for at in (-2.0, 2.0))
    loudest = (less - more).abs().amax(dim=(1, 2, 3)) * 127.5  # grey levels
    assert loudest.median() > 20


def test_factors_act_where_they_should(toy):
    """A smile changes the face below the forehead, the wall changes the corners, and neither the other."""
    ws = toy.w_mean.expand(1, 3, -1)
    change = {n: (draw(toy, toy.truth[n].move_to(ws, at=2)) - draw(toy, toy.truth[n].move_to(ws, at=-2))).abs()[0].amax(0) for n in NAMES}
    corners = torch.zeros(64, 64, dtype=torch.bool)
    corners[:6, :6] = corners[:6, -6:] = True
    for name in NAMES:
        assert bool(change[name][corners].max() > 0.05) == (name == "background"), name
    assert change["smile"][34:].max() > 0.3 > 0.05 > change["smile"][:18].max()
    assert change["glasses"][22:40].max() > 0.3 > 0.05 > change["glasses"][44:].max()


def test_styles_come_in_by_level(toy):
    base, style = faces(toy, [1]), faces(toy, [2])
    for level, layer in (("coarse", 0), ("middle", 1), ("fine", 2)):
        read, expected = toy.factors(mix(base, style, level)), toy.factors(base).clone()
        carried = [row for row, (where, _) in enumerate(FACTORS.values()) if where == layer]
        expected[:, carried] = toy.factors(style)[:, carried]
        assert_close(read, expected)


def test_another_seed_is_another_generator(toy):
    other = ToyFaces(resolution=64, seed=1)
    assert fingerprint(other) != fingerprint(toy)
    with pytest.raises(DirectionMismatch, match="Find the direction again"):
        toy.truth["age"].check(other)
    assert isinstance(other.truth["age"], Direction)


# the drawing


def test_no_broken_face_far_out(toy):
    """Every factor three standard deviations out at once, at random signs; and absurdly far."""
    signs = torch.where(torch.rand(24, 32, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0)
    for reach in (3.0, 30.0):
        ws = toy.w_mean.expand(24, 3, -1).clone()
        for column, name in enumerate(NAMES):
            ws = toy.truth[name].move_to(ws, at=reach * signs[:, column])
        image = draw(toy, ws)
        assert torch.isfinite(image).all() and image.abs().max() <= 1 + 1e-5
        assert image.std(dim=(2, 3)).min() > 0.1  # still a picture


def test_the_same_face_at_any_size():
    ws = faces(ToyFaces(32), [3, 7])
    large = draw(ToyFaces(512), ws)
    for size in (32, 64, 128, 256):
        gap = (interpolate(large, size=(size, size), mode="area") - draw(ToyFaces(size), ws)).abs().mean()
        assert gap < 0.9 / size + 0.001


def test_gradients_agree_with_small_differences():
    """The gradient along each factor against a finite difference of the picture, in double precision."""
    toy = ToyFaces(resolution=32).double()
    ws = faces(toy, [5]).double().clone().requires_grad_()
    weights = normal(1, 3 * 32 * 32).double().view(1, 3, 32, 32)
    (gradient,) = torch.autograd.grad((toy.synthesis(ws) * weights).sum(), ws)
    for name, direction in toy.truth.items():
        ahead, behind = (draw(toy, direction.move(ws.detach(), amount)) for amount in (1e-5, -1e-5))
        measured = ((ahead - behind) * weights).sum() / 2e-5
        layer = direction.layers[0]
        assert_close(gradient[0, layer] @ direction.vector.double() * direction.step, measured, rtol=1e-3, atol=1e-5, msg=name)


def test_gradient_is_finite_everywhere():
    toy = ToyFaces(resolution=32)
    z = torch.cat([torch.zeros(1, 32), normal(range(12), 32), 3 * torch.ones(1, 32)]).requires_grad_()
    toy.synthesis(broadcast(toy.mapping(z), 3)).square().sum().backward()
    assert torch.isfinite(z.grad).all() and (z.grad.norm(dim=1) > 0).all()


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_any_batch(toy, batch):
    ws = faces(toy, range(batch))
    assert draw(toy, ws).shape == (batch, 3, 64, 64)
    assert toy.factors(ws).shape == (batch, len(NAMES))
    assert_close(draw(toy, faces(toy, range(5)))[:batch], draw(toy, ws), atol=1e-4, rtol=0)


def test_it_moves_to_other_dtypes_and_devices():
    toy = ToyFaces(resolution=32).to("cpu").double()
    assert toy.mapping(normal([1], 32)).dtype == torch.float64
    assert draw(toy, faces(toy, [1])).dtype == torch.float64
    assert not list(toy.parameters())  # closed form: nothing to train
    elsewhere = ToyFaces(resolution=32).to("meta")  # a device without numbers: any tensor left behind on the CPU would be refused
    image = elsewhere.synthesis(broadcast(elsewhere.mapping(torch.zeros(2, 32, device="meta")), 3))
    assert image.device.type == "meta" and image.shape == (2, 3, 32, 32)


# what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "resolution 0"),
        ({"resolution": 64.0}, "resolution 64.0"),
        ({"correlation": 1.0}, "not between -1 and 1"),
        ({"correlation": float("nan")}, "not between -1 and 1"),
        ({"pair": ("age", "beard")}, "two different factors; there are pose, tilt"),
        ({"pair": ("age", "age")}, "two different factors"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_it_refuses_in_words(options, message):
    with pytest.raises(ShapeError, match=message):
        ToyFaces(**options)


def test_wrong_shapes_are_refused_in_words(toy):
    with pytest.raises(ShapeError, match=r"z of shape \[batch, 32\]; this has \[1, 512\]"):
        toy.mapping(normal([0], 512))
    with pytest.raises(ShapeError, match=r"make it with broadcast\(w, 3\)"):
        toy.synthesis(toy.mapping(normal([0], 32)))
    with pytest.raises(ShapeError, match=r"this has \[1, 4, 32\]"):
        toy.synthesis(torch.zeros(1, 4, 32))
