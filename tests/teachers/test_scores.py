"""Scores: probabilities become logits without changing a decision; what is not finite is found."""

from __future__ import annotations

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.teachers import open_teacher
from deitkit.teachers.scores import FiniteCheck, are_probabilities, log_probabilities
from tests.teachers.conftest import NAMES, WriteFactory, recipe

HEAD = "nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10)%s)"
MAKE = "def make():\n    torch.manual_seed(1)\n    return " + HEAD + "\n"


def test_the_logarithm_gives_the_probabilities_back() -> None:
    logits = torch.randn(50, 10) * 5
    torch.testing.assert_close(log_probabilities(logits.softmax(dim=1)).softmax(dim=1), logits.softmax(dim=1))


def test_no_hard_label_changes_not_even_between_neighbouring_floats() -> None:
    first = torch.rand(100_000) * 0.4 + 0.05
    nearly = torch.nextafter(first, torch.ones(()))
    rows = torch.stack([first, nearly, torch.zeros_like(first)], dim=1)
    plain, ours = rows.log().argmax(dim=1), log_probabilities(rows).argmax(dim=1)
    assert (ours == 1).all()
    assert (plain != 1).any()  # what a plain logarithm would have done


def test_equal_probabilities_stay_equal_and_zero_stays_finite() -> None:
    logits = log_probabilities(torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    assert logits[0, 0] == logits[0, 1] and torch.isfinite(logits).all()


def test_probabilities_are_told_from_logits() -> None:
    assert are_probabilities(torch.randn(8, 10).softmax(dim=1))
    assert are_probabilities(torch.randn(8, 1000).softmax(dim=1).half().float())
    assert not are_probabilities(torch.randn(8, 10))
    assert not are_probabilities(torch.randn(8, 10).sigmoid())
    assert not are_probabilities(torch.randn(8, 10).log_softmax(dim=1))


def test_a_teacher_of_probabilities_is_recognised_and_answers_as_one_of_logits(write_factory: WriteFactory) -> None:
    images = torch.randn(8, 3, 32, 32)
    plain = open_teacher(recipe(write_factory(MAKE % ""), classes="data"), NAMES)
    logits = plain(images, group=8)
    softened = open_teacher(recipe(write_factory(MAKE % ", nn.Softmax(1)"), classes="data"), NAMES)
    answered = softened(images, group=8)
    assert (plain.facts.scores, softened.facts.scores) == ("logits", "probabilities")
    assert any("probabilities" in note for note in softened.facts.notes)
    assert torch.equal(answered.argmax(dim=1), logits.argmax(dim=1))
    torch.testing.assert_close(answered.softmax(dim=1), logits.softmax(dim=1))


def test_the_recipe_may_say_what_the_scores_are_but_not_against_what_is_seen(write_factory: WriteFactory) -> None:
    reference = write_factory(MAKE % "")
    with pytest.raises(DeitkitError, match="said to be probabilities"):
        open_teacher(recipe(reference, classes="data", scores="probabilities"), NAMES)
    reference = write_factory(MAKE % ", nn.Softmax(1)")
    raw = open_teacher(recipe(reference, classes="data", scores="logits"), NAMES)
    assert raw.facts.scores == "logits" and (raw(torch.randn(2, 3, 32, 32), group=2) >= 0).all()


# Not finite


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_teacher_that_is_not_finite_is_named_at_its_first_batch(value: str, write_factory: WriteFactory) -> None:
    broken = f"torch.where(images.amax((1, 2, 3))[:, None] > 90, float('{value}'), images.mean((2, 3)))"
    reference = write_factory(f"def make():\n    return lambda images: {broken}\n")
    teacher = open_teacher(recipe(reference, classes="data"), ("a", "b", "c"))
    images = torch.zeros(4, 3, 32, 32)
    assert torch.isfinite(teacher(images, group=4)).all()
    images[2, 0, 0, 0] = 1000
    with pytest.raises(DeitkitError, match=r"own_teacher\.py:make answers with NaN or infinite"):
        teacher(images, group=4)


def test_where_a_look_costs_waiting_it_comes_now_and_then_and_loses_nothing() -> None:
    check = FiniteCheck("t", every=4)
    good, bad = torch.zeros(2, 3), torch.tensor([[0.0, float("nan"), 0.0]])
    check(good)
    check(bad)
    check(good)
    with pytest.raises(DeitkitError, match="in the last 4 batches"):
        check(good)
    check(bad)
    with pytest.raises(DeitkitError, match="in this batch"):
        check.look()
    check.look()  # nothing new


def test_a_teacher_of_infinite_trial_scores_is_refused_when_it_is_opened(write_factory: WriteFactory) -> None:
    reference = write_factory("def make():\n    return lambda images: images.mean((2, 3)) / 0\n")
    with pytest.raises(DeitkitError, match="NaN or infinite"):
        open_teacher(recipe(reference, classes="data"), ("a", "b", "c"))
