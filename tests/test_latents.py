"""The laws of latent arithmetic, in float64 where a law is exact, against slow and obvious versions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dvlatent.errors import DvlatentError, ShapeError
from dvlatent.latents import broadcast, layer_range, lerp, mean, mix, normal, slerp, truncate, walk

pytestmark = pytest.mark.shapes
seeds = st.integers(0, 999)
any_seed = st.integers(0, 2**32 - 1)
fractions = st.floats(0, 1)


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(seed, *shape):
    return draw(2 * seed, *shape), draw(2 * seed + 1, *shape)


def angles(path):
    """Degrees between neighbours, in float64 numpy."""
    unit = path.numpy() / np.linalg.norm(path.numpy(), axis=-1, keepdims=True)
    return np.degrees(np.arccos(np.clip((unit[1:] * unit[:-1]).sum(-1), -1, 1)))


# ---- normal: a seed is an address, the same number gives the same row everywhere


@given(st.lists(any_seed, max_size=4), st.integers(1, 9))
def test_every_row_is_numpys_own(seeds, dim):
    rows = normal(seeds, dim)
    assert rows.shape == (len(seeds), dim)
    for seed, row in zip(seeds, rows, strict=True):
        assert np.array_equal(row.numpy(), np.random.RandomState(seed).randn(1, dim)[0].astype(np.float32))


@given(st.lists(any_seed, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_row_depends_on_its_seed_alone(seeds, random):
    shuffled = random.sample(seeds, len(seeds))
    company = normal(shuffled, 5)
    assert all(torch.equal(company[shuffled.index(seed)], normal(seed, 5)[0]) for seed in seeds)


def test_anything_that_lists_whole_numbers_will_do():
    for same in ([3, 4], (3, 4), range(3, 5), np.array([3, 4]), (seed for seed in [3, 4])):
        assert torch.equal(normal(same, 6), normal([3, 4], 6))
    assert torch.equal(normal(np.uint32(3), 6), normal([3], 6))


def test_float32_on_the_cpu_and_no_other_random_state_changes():
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    z = normal([85, 265], 512)
    assert (z.dtype, z.device.type, z.shape) == (torch.float32, "cpu", (2, 512))
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, [2.0], "85", True, [False], None, [None], torch.tensor([1.0])])
def test_refuses_what_is_not_a_seed(seed):
    with pytest.raises(ShapeError, match="whole numbers from 0 to 4294967295") as caught:
        normal(seed, 4)
    assert isinstance(caught.value, DvlatentError)


# ---- broadcast


@given(seeds, st.integers(1, 4), st.integers(1, 18))
def test_broadcast_gives_every_layer_the_same_w(seed, batch, num_layers):
    w = draw(seed, batch, 5)
    ws = broadcast(w, num_layers)
    assert ws.shape == (batch, num_layers, 5)
    assert all(torch.equal(ws[:, layer], w) for layer in range(num_layers))
    assert ws.data_ptr() == w.data_ptr()  # no copy


def test_broadcast_refuses_what_is_ws_already():
    with pytest.raises(ShapeError, match=r"\[2, 3, 4\].*Is it ws already"):
        broadcast(torch.zeros(2, 3, 4), 3)


# ---- lerp


@given(seeds, st.floats(-2, 3))
def test_lerp_is_the_straight_line(seed, t):
    a, b = pair(seed, 3, 4, 6)
    assert_close(lerp(a, b, t), (1 - t) * a + t * b)
    assert_close(lerp(a, b, t), lerp(b, a, 1 - t))
    assert torch.equal(lerp(a, b, 0), a)
    assert_close(lerp(a, b, 1), b)


def test_a_row_of_t_gives_a_strip_of_one_or_a_pair_each():
    a, b = pair(1, 3, 4, 6)
    row = torch.tensor([0.0, 0.25, 1.0])
    for line in (lerp, slerp):
        assert_close(line(a[:1], b[:1], row), torch.cat([line(a[:1], b[:1], float(t)) for t in row]))
        assert_close(line(a, b, row), torch.cat([line(a[i : i + 1], b[i : i + 1], float(row[i])) for i in range(3)]))
        assert_close(line(a[:1], b, 0.5), line(a[:1].expand_as(b), b, 0.5))
        assert_close(line(a, b, torch.tensor(0.5)), line(a, b, 0.5))


@pytest.mark.parametrize("line", [lerp, slerp])
@pytest.mark.parametrize(
    ("a", "b", "t"),
    [
        ((2, 4), (2, 5), 0.5),
        ((2, 4), (2, 3, 4), 0.5),
        ((2, 3, 4), (2, 1, 4), 0.5),
        ((2, 4), (3, 4), 0.5),
        ((2, 4), (2, 4), [0.0, 0.5, 1.0]),
    ],
)
def test_a_line_between_two_kinds_is_refused(line, a, b, t):
    with pytest.raises(ShapeError, match="two latents of one kind"):
        line(torch.zeros(a), torch.zeros(b), torch.tensor(t))


# ---- slerp


def slow_slerp(a, b, t):
    """Shoemake's formula, one row at a time, with the acos of the textbook."""
    rows = []
    for x, y in zip(a.numpy(), b.numpy(), strict=True):
        p, q = np.linalg.norm(x), np.linalg.norm(y)
        angle = np.arccos(np.clip(x @ y / (p * q), -1, 1))
        unit = np.sin((1 - t) * angle) / np.sin(angle) * x / p + np.sin(t * angle) / np.sin(angle) * y / q
        rows.append(unit * ((1 - t) * p + t * q))
    return torch.from_numpy(np.stack(rows))


@given(seeds, fractions)
def test_slerp_is_shoemakes_arc(seed, t):
    a, b = pair(seed, 4, 16)
    assert_close(slerp(a, b, t), slow_slerp(a, b, t))
    assert_close(slerp(a, b, t), slerp(b, a, 1 - t))
    assert_close(slerp(a, b, 0), a)
    assert_close(slerp(a, b, 1), b)
    assert_close(slerp(a, b, t).norm(dim=-1), lerp(a.norm(dim=-1)[:, None], b.norm(dim=-1)[:, None], t)[:, 0])


@given(seeds, st.sampled_from([2, 16, 512]))
def test_slerp_keeps_the_length_and_the_speed(seed, dim):
    a, b = (x / x.norm() * 3 for x in pair(seed, 1, dim))
    path = slerp(a, b, torch.linspace(0, 1, 9))
    assert_close(path.norm(dim=-1), torch.full((9,), 3.0, dtype=torch.float64))
    steps = angles(path)
    assert np.allclose(steps, steps.mean(), atol=1e-4)
    assert lerp(a, b, 0.5).norm() < 3  # the straight line cuts through the inside


SPECIAL = {
    "parallel": lambda a: 2 * a,
    "the same": lambda a: a.clone(),
    "opposite": lambda a: -a,
    "opposite and longer": lambda a: -1.7 * a,
    "to zero": torch.zeros_like,
    "nearly parallel": lambda a: a + 1e-5 * draw(9, *a.shape, dtype=a.dtype),
    "nearly opposite": lambda a: -a + 1e-5 * draw(9, *a.shape, dtype=a.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", SPECIAL)
def test_slerp_takes_the_straight_line_where_there_is_no_arc(kind, dtype):
    a = draw(0, 40, 16, dtype=dtype)
    b = SPECIAL[kind](a)
    for start, end in ((a, b), (b, a)):
        for t in (0.0, 0.3, 1.0):
            assert_close(slerp(start, end, t), lerp(start, end, t), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [*SPECIAL, "zero to zero"])
def test_slerp_has_a_finite_gradient_everywhere(kind, dtype):
    a = draw(0, 40, 16, dtype=dtype)
    b = SPECIAL[kind](a) if kind in SPECIAL else torch.zeros_like(a)
    a = torch.zeros_like(a) if kind == "zero to zero" else a
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    slerp(a, b, 0.3).sum().backward()
    assert_close(a.grad, torch.full_like(a, 0.7), atol=0.5, rtol=0)
    assert_close(b.grad, torch.full_like(b, 0.3), atol=0.5, rtol=0)


def test_slerp_gradient_agrees_with_finite_differences():
    a, b = (x.requires_grad_() for x in pair(0, 2, 5))
    assert torch.autograd.gradcheck(lambda a, b: slerp(a, b, 0.3), (a, b))


@pytest.mark.parametrize("degrees", [0.02, 0.1, 1, 90, 179, 179.9])
def test_slerp_in_float32_agrees_with_float64(degrees):
    a = draw(0, 1, 512)
    b = draw(1, 1, 512)
    side = b - (a * b).sum() / a.square().sum() * a
    b = a * math.cos(math.radians(degrees)) + side / side.norm() * a.norm() * math.sin(math.radians(degrees))
    t = torch.linspace(0, 1, 7)
    atol = 4e-6 / math.sin(math.radians(max(degrees, 90)))  # near 180 degrees the arc itself is badly determined
    assert_close(slerp(a.float(), b.float(), t).double(), slerp(a, b, t), atol=atol, rtol=0)
    assert np.allclose(angles(slerp(a, b, t)), degrees / 6, rtol=1e-3)


# ---- mean and truncate


@given(seeds, st.integers(1, 6))
def test_mean_is_the_sum_over_the_number(seed, batch):
    ws = draw(seed, batch, 3, 4)
    total = torch.zeros(3, 4, dtype=ws.dtype)
    for w in ws:
        total = total + w
    assert_close(mean(ws), total[None] / batch)
    assert_close(mean(ws), mean(ws.flip(0)))
    assert_close(mean(ws), mean(ws, torch.full((batch,), 7.0)))


@given(seeds, fractions)
def test_the_mean_of_two_lies_on_their_line(seed, t):
    a, b = pair(seed, 1, 8)
    assert_close(mean(torch.cat([a, b]), torch.tensor([1 - t, t], dtype=torch.float64)), lerp(a, b, t))


@pytest.mark.parametrize(
    ("count", "weights"), [(0, None), (2, torch.ones(3)), (2, torch.tensor([1.0, -1.0])), (3, torch.ones(1))]
)
def test_mean_refuses_none_and_wrong_weights(count, weights):
    with pytest.raises(ShapeError, match="mean needs"):
        mean(torch.ones(count, 4), weights)


@given(seeds, st.floats(-1, 2), st.floats(-1, 2))
def test_truncate_multiplies_the_distance_to_the_average(seed, psi, other):
    ws, toward = draw(seed, 3, 4, 6), draw(seed + 1, 6)
    assert_close(truncate(ws, toward=toward, psi=psi) - toward, psi * (ws - toward))
    assert_close(truncate(truncate(ws, toward=toward, psi=psi), toward=toward, psi=other), truncate(ws, toward=toward, psi=psi * other))
    assert_close(truncate(ws, toward=toward, psi=1), ws)
    assert_close(truncate(ws[:, 0], toward=toward, psi=0), toward.expand(3, -1))


@pytest.mark.parametrize("toward", [(5,), (1, 6), ()])
def test_truncate_refuses_another_w(toward):
    with pytest.raises(ShapeError, match=r"generator\.w_mean"):
        truncate(torch.zeros(2, 6), toward=torch.zeros(toward), psi=0.7)


# ---- layers


@given(st.integers(1, 40))
def test_coarse_middle_and_fine_are_all_layers_once(num_layers):
    named = [layer for name in ("coarse", "middle", "fine") for layer in layer_range(name, num_layers)]
    assert tuple(named) == layer_range("all", num_layers) == tuple(range(num_layers))


def test_the_sixteen_layers_of_the_face_generator():
    assert layer_range("coarse", 16) == (0, 1, 2, 3, 4)
    assert layer_range("middle", 16) == (5, 6, 7, 8)
    assert layer_range("fine", 16) == tuple(range(9, 16))
    assert layer_range(3, 16) == layer_range(np.int64(3), 16) == layer_range([3], 16) == (3,)
    assert layer_range(range(2, 5), 16) == (2, 3, 4)


@pytest.mark.parametrize("layers", ["rough", 16, -1, [0, 16], [1.5], ["coarse"]])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ShapeError, match="layers"):
        layer_range(layers, 16)


@given(seeds, st.sets(st.integers(0, 6)))
def test_mix_takes_exactly_the_named_layers(seed, layers):
    base, style = pair(seed, 2, 7, 3)
    mixed = mix(base, style, layers)
    for layer in range(7):
        assert torch.equal(mixed[:, layer], (style if layer in layers else base)[:, layer])
    assert torch.equal(mixed, mix(style, base, set(range(7)) - layers))


def test_mix_takes_one_face_for_all_the_others():
    base, style = pair(0, 3, 7, 4)
    assert_close(mix(base[:1], style, "coarse"), mix(base[:1].expand(3, -1, -1), style, "coarse"))
    assert_close(mix(base, style[:1], "fine"), mix(base, style[:1].expand(3, -1, -1), "fine"))
    base, style = base.requires_grad_(), style.requires_grad_()
    mix(base, style, [2]).sum().backward()
    assert base.grad[:, 2].eq(0).all() and style.grad[:, 2].eq(1).all() and base.grad.sum() == 3 * 6 * 4


@pytest.mark.parametrize("shapes", [((2, 4), (2, 4)), ((2, 5, 4), (2, 6, 4)), ((2, 5, 4), (2, 5, 3)), ((2, 5, 4), (3, 5, 4))])
def test_mix_refuses_what_does_not_fit(shapes):
    with pytest.raises(ShapeError, match="mix takes two ws"):
        mix(*map(torch.zeros, shapes), "all")


# ---- walk


@given(seeds, st.integers(2, 6), st.integers(1, 7), st.booleans())
def test_walk_passes_through_every_stop(seed, count, between, loop):
    stops = draw(seed, count, 3, 2)
    frames = count * between if loop else (count - 1) * between + 1
    if frames >= 2:
        path = walk(stops, frames, loop=loop)
        assert path.shape == (frames, 3, 2)
        assert_close(path[::between], stops)


@given(seeds, st.integers(2, 30))
def test_walk_between_two_stops_or_along_a_line_is_straight(seed, frames):
    a, b = pair(seed, 1, 5)
    assert_close(walk(torch.cat([a, b]), frames), lerp(a, b, torch.linspace(0, 1, frames, dtype=torch.float64)))
    assert_close(walk(torch.cat([a, lerp(a, b, 0.5), b]), frames), lerp(a, b, torch.linspace(0, 1, frames, dtype=torch.float64)))


def roughness(path, loop):
    """The largest change from one step to the next."""
    path = torch.cat([path, path[:2]]) if loop else path
    return path.diff(n=2, dim=0).norm(dim=-1).max()


@pytest.mark.parametrize("loop", [True, False])
def test_walk_turns_smoothly_also_where_the_film_begins_again(loop):
    stops = draw(0, 5, 8)
    coarse, fine = (roughness(walk(stops, frames, loop=loop), loop) for frames in (400, 800))
    assert coarse / fine > 3.8  # steps half as long turn a quarter as much; at a corner they would turn half as much
    legs = list(zip(stops.split(1), stops.roll(-1, 0).split(1), strict=True))
    coarse, fine = (roughness(torch.cat([lerp(a, b, torch.arange(n) / n) for a, b in legs]), True) for n in (80, 160))
    assert coarse / fine < 2.2  # the instrument sees corners


def test_a_loop_has_no_beginning():
    stops = draw(0, 4, 3)
    assert_close(walk(stops.roll(-1, 0), 20, loop=True), walk(stops, 20, loop=True).roll(-5, 0))
    assert_close(walk(stops.flip(0), 21), walk(stops, 21).flip(0))


@pytest.mark.parametrize(("count", "frames"), [(1, 5), (0, 5), (2, 1), (3, 0)])
def test_walk_refuses_too_little(count, frames):
    with pytest.raises(ShapeError, match="at least two stops and two frames"):
        walk(torch.zeros(count, 4), frames)
