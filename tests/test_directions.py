"""The laws of directions and edits: where a move lands, what it leaves alone, and whom it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from dvlatent.directions import Direction, Edit
from dvlatent.errors import DirectionMismatch, ShapeError
from dvlatent.types import fingerprint

pytestmark = pytest.mark.shapes
LAYERS, DIM = 6, 8
seeds = st.integers(0, 999)
steps = st.floats(-3, 3)
chosen = st.none() | st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True).map(tuple)
scales = st.floats(0.1, 5)


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(seed, name="smile", **fields):
    vector = draw(1000 + seed, DIM)
    return Direction(name, vector / vector.norm(), **fields)


def faces(seed, batch=3):
    return draw(seed, batch, LAYERS, DIM)


def coordinate(ws, direction):
    """The coordinate, by hand: one face, one layer, one number at a time."""
    layers = range(LAYERS) if direction.layers is None else direction.layers
    vector = direction.vector.tolist()
    rows = [np.mean([sum(w * v for w, v in zip(face[layer].tolist(), vector, strict=True)) for layer in layers]) for face in ws]
    return (torch.tensor(rows, dtype=torch.float64) - direction.boundary) / direction.step


@given(seeds, steps, chosen, scales, steps)
def test_move_to_lands_at_the_coordinate(seed, at, layers, step, boundary):
    ws, smile = faces(seed), make(seed, layers=layers, step=step, boundary=boundary)
    moved = smile.move_to(ws, at=at)
    assert_close(smile.coordinate(moved), torch.full((3,), at, dtype=torch.float64))
    assert_close(smile.coordinate(moved), coordinate(moved, smile))
    sideways = torch.eye(DIM, dtype=torch.float64) - torch.outer(smile.vector, smile.vector)
    assert_close(moved @ sideways, ws @ sideways)  # the rest of the face is kept
    assert_close(smile.move_to(moved, at=at), moved)


@given(seeds, steps, steps, chosen, scales)
def test_move_is_linear(seed, one, other, layers, step):
    ws, smile = faces(seed), make(seed, layers=layers, step=step)
    assert_close(smile.move(smile.move(ws, one), other), smile.move(ws, one + other))
    assert_close(smile.coordinate(smile.move(ws, one)), smile.coordinate(ws) + one)
    assert_close(smile.move(smile.move(ws, one), -one), ws)
    assert torch.equal(smile.move(ws, 0), ws)


@given(seeds, steps, chosen)
def test_only_the_named_layers_move(seed, amount, layers):
    ws, smile = faces(seed), make(seed, layers=layers)
    moved = smile.move(ws, amount) - ws
    for layer in range(LAYERS):
        expected = amount * smile.vector if layers is None or layer in layers else torch.zeros(DIM, dtype=torch.float64)
        assert_close(moved[:, layer], expected.expand(3, -1))


def test_every_face_may_have_its_own_amount():
    ws, smile, amounts = faces(0), make(0), torch.tensor([-1.0, 0.0, 2.5])
    assert_close(smile.move(ws, amounts), torch.cat([smile.move(ws[i : i + 1], float(amounts[i])) for i in range(3)]))
    assert_close(smile.coordinate(smile.move_to(ws, at=amounts)), amounts.double())
    strip = smile.move_to(ws[:1], at=amounts)  # one face, several coordinates: a filmstrip
    assert_close(smile.coordinate(strip), amounts.double())
    assert_close(strip, torch.cat([smile.move_to(ws[:1], at=float(at)) for at in amounts]))


@given(seeds, st.lists(steps, min_size=1, max_size=4), st.randoms(use_true_random=False), st.floats(-2, 2))
def test_edits_commute_and_add(seed, amounts, random, factor):
    ws = faces(seed)
    terms = [amount * make(seed + index, layers=(index,) if index % 2 else None, step=1 + index) for index, amount in enumerate(amounts)]
    edit, moved = terms[0], terms[0](ws) - ws
    for term in terms[1:]:
        edit, moved = edit + term, moved + term(ws) - ws
    assert_close(edit(ws), ws + moved)
    assert_close(sum(random.sample(terms, len(terms)), Edit(()))(ws), edit(ws))
    assert_close((factor * edit)(ws), ws + factor * moved)
    assert_close((edit - edit)(ws), ws)
    assert_close((-edit)(edit(ws)), ws)


def test_edits_read_like_sums():
    ws, smile, age = faces(0), make(0, "smile"), make(1, "age")
    by_hand = age.move(smile.move(ws, 2), -1)
    for edit in (2 * smile - 1 * age, smile * 2 - age, 2 * smile + -age, -(age - 2 * smile), -age + 2 * smile, smile + smile - age):
        assert isinstance(edit, Edit)
        assert_close(edit(ws), by_hand)
    for two in (np.float64(2), np.float32(2), torch.tensor(2.0), np.int64(2)):
        assert_close((two * smile - age)(ws), by_hand)
        assert_close((two * (smile - 0.5 * age))(ws), by_hand)


@given(seeds, steps, st.integers(1, 4))
def test_without_leaves_the_others_where_they_were(seed, amount, count):
    ws, age = faces(seed), make(seed, "age", boundary=1.0)
    others = [make(seed + 1 + index, f"other {index}", layers=None if index else (0, 2)) for index in range(count)]
    clean = age.without(*others)
    assert_close(float(clean.vector.norm()), 1.0)
    for other in others:
        assert_close(other.coordinate(clean.move(ws, amount)), other.coordinate(ws))
    assert clean.vector @ age.vector > 0
    assert_close(clean.without(*others).vector, clean.vector)
    assert_close(age.without(*others, *others).vector, clean.vector)  # named twice, taken out once
    assert (clean.boundary, clean.step, clean.name) == (0.0, age.step, "age")


def test_without_takes_out_no_more_than_it_is_told():
    x, y = (Direction(name, row) for name, row in zip("xy", torch.eye(3), strict=False))
    both = Direction("both", torch.tensor([0.6, 0.0, 0.8]))
    assert_close(both.without(x, x).vector, torch.tensor([0.0, 0.0, 1.0]))
    nearly = Direction("nearly x", torch.nn.functional.normalize(torch.tensor([1.0, 1e-8, 0.0]), dim=0))
    assert_close(both.without(x, nearly, y).vector, torch.tensor([0.0, 0.0, 1.0]))
    assert both.without() is both


def test_without_in_float32_leaks_nothing_that_can_be_seen():
    ws, age, gender = faces(0).float(), make(0, "age"), make(1, "gender")
    age, gender = (Direction(d.name, d.vector.float()) for d in (age, gender))
    assert_close(gender.coordinate(age.without(gender).move(ws, 3.0)), gender.coordinate(ws), atol=1e-6, rtol=0)


def test_without_writes_down_what_it_did():
    age = make(0, "age", found_by={"method": "means", "seeds": 700}, psi=0.8, generator="abc", layers=(1, 2))
    clean = age.without(make(1, "gender"), make(2, "glasses")).without(make(3, "yaw"))
    assert clean.found_by == {"method": "means", "seeds": 700, "without": "gender, glasses; then yaw"}
    assert (clean.psi, clean.generator, clean.layers) == (0.8, "abc", (1, 2))
    assert "without" not in age.found_by  # the old one is untouched


def test_gradients_reach_the_face_and_the_amount():
    ws, amount, smile = faces(0).requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True), make(0, step=2.0)
    smile.coordinate(smile.move(ws, amount)).sum().backward()
    assert_close(amount.grad, torch.ones(3, dtype=torch.float64))
    assert_close(ws.grad, (smile.vector / LAYERS / 2).expand_as(ws))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ws_keep_their_type(dtype):
    ws = faces(0).to(dtype)
    assert make(0).move(ws, 1.0).dtype == make(0).move_to(ws, at=1).dtype == (2 * make(0))(ws).dtype == dtype


# ---- refusals


@pytest.mark.parametrize(
    "fields",
    [
        {"vector": torch.ones(4)},
        {"vector": torch.zeros(4)},
        {"vector": torch.eye(4)},
        {"vector": torch.tensor([float("nan"), 0, 0, 0])},
        {"step": 0.0},
        {"step": -1.0},
        {"step": float("inf")},
        {"boundary": float("nan")},
        {"layers": ()},
        {"layers": (0, -1)},
    ],
)
def test_refuses_what_is_not_a_direction(fields):
    with pytest.raises(ShapeError, match="direction 'smile'"):
        Direction(**{"name": "smile", "vector": torch.eye(4)[0], **fields})


@pytest.mark.parametrize(
    "act", [lambda d, ws: d.move(ws, 1), lambda d, ws: d.move_to(ws, at=1), lambda d, ws: d.coordinate(ws), lambda d, ws: (2 * d)(ws)]
)
def test_refuses_a_face_it_does_not_fit(act):
    with pytest.raises(ShapeError, match=r"\[3, 8\].*broadcast"):
        act(make(0), draw(0, 3, DIM))
    with pytest.raises(DirectionMismatch, match=r"8-number W, these ws have 9.*Find the direction again"):
        act(make(0), draw(0, 3, LAYERS, 9))
    with pytest.raises(DirectionMismatch, match="layer 6, these ws have only 6"):
        act(make(0, layers=(1, 6)), faces(0))


def test_refuses_an_amount_for_other_faces():
    with pytest.raises(ShapeError, match="not 2 for 3 faces"):
        make(0).move(faces(0), torch.zeros(2))
    with pytest.raises(ShapeError, match="not 2 for 3 faces"):
        make(0).move_to(faces(0), at=torch.zeros(2))


def test_refuses_another_generator():
    mine = SimpleNamespace(z_dim=4, w_dim=DIM, num_layers=LAYERS, resolution=8, w_mean=torch.zeros(DIM))
    other = SimpleNamespace(**{**vars(mine), "w_mean": torch.ones(DIM)})
    make(0, generator=fingerprint(mine)).check(mine)
    make(0).check(mine)  # found nowhere in particular: only the size is known
    with pytest.raises(DirectionMismatch, match=f"{fingerprint(mine)}.*{fingerprint(other)}.*Find the direction again"):
        make(0, generator=fingerprint(mine)).check(other)
    with pytest.raises(DirectionMismatch, match="8-number W"):
        make(0).check(SimpleNamespace(**{**vars(mine), "w_dim": 9, "w_mean": torch.zeros(9)}))


def test_refuses_to_take_out_a_stranger_or_itself():
    with pytest.raises(DirectionMismatch, match="different generators"):
        make(0, generator="one").without(make(1, generator="two"))
    with pytest.raises(DirectionMismatch, match="different generators"):
        make(0).without(Direction("small", torch.eye(4)[0]))
    with pytest.raises(DirectionMismatch, match="nothing of 'smile' is left"):
        make(0).without(make(1), make(0, "grin"))
    make(0, generator="one").without(make(1))
