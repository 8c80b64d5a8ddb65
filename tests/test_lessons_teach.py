"""Checks: right answers pass in every form, wrong ones are told apart in words, and nothing raises unless told."""

import numpy as np
import pytest
import torch

from dvlatent.lessons import teach
from dvlatent.lessons.teach import WrongAnswer, budget, check, strict


def stub(a, b): ...


def stub_with_words(a):
    """Say what to do."""
    pass


def half_done(a):
    return a


def said(capsys, *arguments, **options):
    check(*arguments, **options)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, 3), (3, 3.00001), (True, True), ("sky", "sky"), ([1, 2], (1.0, 2.0)), (np.ones(3), torch.ones(3)), ({1, 2}, {2, 1}),
        (torch.ones(2, requires_grad=True), [1, 1]), ([torch.tensor(1.0), torch.tensor(2.0)], [1, 2]), ([], []), (("a", 2), ("a", 2)),
        (torch.tensor([1e6]), torch.tensor([1e6 + 50])), (torch.ones(2, dtype=torch.bfloat16), [1, 1]), ([np.inf], [np.inf]),
        (5, lambda n: n > 3), (half_done, lambda f: f(2) == 2), (np.nan, np.nan),
    ],
)  # fmt: skip
def test_right_answers_pass(capsys, given, expected):
    assert said(capsys, "name", given, expected) == "✓ name\n"


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        (3, 4, "yours is 3, expected 4; they may differ by 0.0004"),
        (torch.zeros(3, 2), torch.zeros(2, 3), "yours has shape [3, 2], expected [2, 3]"),
        (3, [3, 3], "yours has shape [], expected [2]"),
        ([1, 2, 5], [1, 3, 9], "2 of 3 numbers differ, most at [2]: yours is 5, expected 9"),
        ([[1, 2], [3, np.nan]], [[1, 2], [3, 4]], "1 of your 4 numbers are not finite"),
        ("sky", "Sky", "yours is 'sky', expected 'Sky'"),
        ("three", 3, "yours is 'three', expected 3"),
        (torch.zeros(3), "three", "expected 'three'"),
        ([1, [2, 3]], [1, 2], "yours is [1, [2, 3]], expected [1, 2]"),
        (5, lambda n: n > 7, "this is not it yet"),
        (5, lambda n: n > 7 or "larger than 7", "larger than 7"),
        (5, lambda n: n.mean(), "trying your answer stopped with AttributeError"),
    ],
)
def test_wrong_answers_get_different_words(capsys, given, expected, words):
    line = said(capsys, "name", given, expected)
    assert line.startswith("✗ name: ") and words in line and line.count("\n") == 1


def test_the_hint_is_only_shown_to_those_who_need_it(capsys):
    assert said(capsys, "name", 3, 4, hint="count again").endswith(". Hint: count again\n")
    assert said(capsys, "name", 4, 4, hint="count again") == "✓ name\n"


def test_the_tolerance_grows_with_the_numbers_and_can_be_set(capsys):
    assert said(capsys, "name", 100.5, 100).startswith("✗")
    assert said(capsys, "name", 100.5, 100, tol=0.01).startswith("✓")
    assert said(capsys, "name", 0.02, 0, tol=0.01).startswith("✗")


@pytest.mark.parametrize("given", [..., None, stub, stub_with_words, lambda a: ..., lambda a: None])
def test_what_is_not_answered_yet_is_no_failure(capsys, given):
    line = said(capsys, "exercise 1", given, lambda f: 1 / 0)
    assert line == "… exercise 1: not answered yet\n"


@pytest.mark.parametrize("given", [..., 3])
def test_failures_raise_only_when_told(capsys, given):
    check("name", given, 4)
    with pytest.raises(WrongAnswer, match="name: "):
        check("name", given, 4, must=True)
    with strict(), pytest.raises(WrongAnswer):
        check("name", given, 4)
    with strict():
        check("name", 4, 4)
    check("name", given, 4)


def test_strictness_ends_after_an_error(capsys):
    with pytest.raises(ZeroDivisionError), strict():
        raise ZeroDivisionError
    check("name", 3, 4)


def test_a_budget_is_silent_until_it_is_spent(capsys, monkeypatch):
    with budget(60):
        pass
    assert capsys.readouterr().out == ""
    clock = iter([0.0, 75.0])
    monkeypatch.setattr(teach.time, "perf_counter", lambda: next(clock))
    with budget(30, "the survey"):
        pass
    assert "the survey took 75 s and was meant to take 30 s" in capsys.readouterr().out


def test_the_environment_is_told_with_or_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    teach.environment()
    words = capsys.readouterr().out
    assert f"torch {torch.__version__}" in words and "GPU: none, and none is needed" in words and "cores" in words
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = type("Card", (), {"name": "H200", "total_memory": 2**37})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    teach.environment()
    assert "GPU: H200, 128.0 GB" in capsys.readouterr().out
