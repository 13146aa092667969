"""Which of a run's weights are its model, told from its files alone."""

from __future__ import annotations

from typing import Any

import pytest

from deitkit.models.kept import Evaluated, standing
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Recipe

LINES = [
    {"step": 10, "epoch": 1.0, "top1": {"class": 0.9, "fused": 0.6}},
    {"step": 15, "epoch": 1.5, "top1": {"class": 0.9, "fused": 0.99}, "asked": True},
    {"step": 20, "epoch": 2.0, "top1": {"class": 0.1, "fused": 0.8}},
    {"step": 25, "epoch": 2.5, "loss": 1.0},
    {"step": 30, "epoch": 3.0, "top1": {"class": 0.1, "fused": 0.8}},
    {"step": 40, "epoch": 4.0, "top1": {"class": 0.95, "fused": 0.7}},
    {"step": 50, "epoch": 5.0, "top1": {"class": 0.95, "fused": 0.7}},
]


def recipe(**changes: Any) -> Recipe:
    return load_recipe("quickstart/student", {"train.epochs": 5, **changes})


def test_the_best_is_the_deciding_heads_the_later_one_of_equals_and_none_that_a_key_asked_for() -> None:
    stands = standing(recipe(), None, LINES)
    assert stands is not None
    assert stands.best == Evaluated(30, 3.0, "fused", 0.8)
    assert stands.last == Evaluated(50, 5.0, "fused", 0.7)
    assert (stands.kept, stands.model, stands.spelled()) == (None, None, "")
    assert stands.sentences("R") == ["the best so far is epoch 3 (fused 80.00%): R@best"]


@pytest.mark.parametrize(
    ("result", "patience", "kept", "early"),
    [
        ({"kept": "best", "best_step": 30, "stopped_early": False}, None, "best", False),
        ({"kept": "last", "best_step": 30, "stopped_early": True}, 2, "last", True),
        ({"best_step": 20}, None, "last", False),  # of earlier versions, where the earlier one of equals was the best
        ({"best_step": 20}, 3, "best", True),
        ({"best_step": 20}, 4, "last", False),
        ({}, None, "last", False),
    ],
)
def test_a_finished_runs_model_is_what_its_result_says_or_what_earlier_versions_kept(
    result: dict[str, Any], patience: int | None, kept: str, early: bool
) -> None:
    changes = {} if patience is None else {"train.patience": patience}
    stands = standing(recipe(**changes), {"top1": {"fused": 0.8}, **result}, LINES)
    assert stands is not None
    assert (stands.kept, stands.stopped_early) == (kept, early)
    assert stands.model == (stands.best if kept == "best" else stands.last)
    assert stands.best.step == result.get("best_step", 30)


def test_what_is_said_names_the_epochs_and_the_other_weights() -> None:
    done = {"top1": {"fused": 0.8}, "best_step": 30}
    said = {kept: standing(recipe(), {**done, "kept": kept}, LINES) for kept in ("best", "last")}
    assert said["best"] is not None and said["last"] is not None
    assert said["best"].sentences("R") == [
        "the model is of epoch 3 (fused 80.00%), the best; the last, epoch 5 (fused 70.00%), is R@last"
    ]
    assert said["last"].sentences("R") == [
        "the model is of epoch 5 (fused 70.00%), the last; the best, epoch 3 (fused 80.00%), is R@best"
    ]
    assert (said["best"].spelled(), said["last"].spelled()) == ("best, epoch 3 of 5", "last, epoch 5 of 5")
    marks = [said["best"].mark(line) for line in LINES if "top1" in line]
    assert marks == ["", "asked for: counts for nothing", "", "best, the model", "", ""]
    only = standing(recipe(), {"top1": {"fused": 0.6}, "best_step": 10, "kept": "best"}, LINES[:1])
    assert only is not None
    assert only.sentences("R") == ["the model is of epoch 1 (fused 60.00%), the last and the best"]


def test_before_the_first_evaluation_nothing_stands() -> None:
    assert standing(recipe(), None, LINES[3:4]) is None
