"""The brief check before a distillation: it tells, it stops a clear no, and it leaves the training as it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deitkit.distributed import World
from deitkit.errors import DeitkitError
from deitkit.training.step import Training, build, train_step
from deitkit.training.teacher_check import brief_check
from tests.preflight.conftest import CPU, TEACHERS, recipe_with


def training_with(teacher: str, **changes: object) -> Training:
    return build(recipe_with(teacher, **changes), world=World(), device=CPU, workers=0)


def test_a_good_teacher_is_told_in_a_few_sentences() -> None:
    said = brief_check(training_with("right"))
    assert any("held-out images" in sentence for sentence in said)
    assert any("augmented views" in sentence for sentence in said)
    assert 2 <= len(said) <= 4 and all(sentence.startswith("teacher: ") for sentence in said)


@pytest.mark.parametrize("teacher", ["shifted", "permuted", "random_head", "unnormalised"])
def test_a_clear_no_stops(teacher: str) -> None:
    with pytest.raises(DeitkitError, match="is not fit to teach") as stopped:
        brief_check(training_with(teacher))
    assert "deitkit teacher check" in stopped.value.remedy and stopped.value.value == f"{TEACHERS}:{teacher}"


def test_without_a_live_teacher_there_is_nothing_to_say() -> None:
    assert brief_check(replace(training_with("right"), teacher=None)) == []


def test_no_generator_and_no_mode_is_touched() -> None:
    training = training_with("right")
    training.parallel.train()
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    brief_check(training)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()
    assert training.student.training and all(p.grad is None for p in training.student.parameters())


def test_a_training_with_it_equals_one_without_it() -> None:
    weights = []
    for checked in (False, True):
        training = training_with("right", **{"mix.prob": 1.0, "model.drop_path": 0.2, "stream.repeats": 2})
        stream = training.loader.steps(0, 2)
        train_step(training, next(stream))
        if checked:
            brief_check(training)
        train_step(training, next(stream))
        weights.append(torch.nn.utils.parameters_to_vector(training.student.parameters()))
    assert torch.equal(*weights)


class TwoRanks:
    """A second process, which hears what the first one found."""

    is_main = False
    ranks = 2

    def __init__(self, heard: Any) -> None:
        self.heard = heard

    def gather(self, part: Any) -> list[Any]:
        assert part is None, "only the first process looks"
        return [self.heard, part]


def test_every_process_hears_the_same() -> None:
    training = training_with("right")
    other: Any = TwoRanks(["teacher: fine"])
    assert brief_check(replace(training, world=other)) == ["teacher: fine"]
    stopping: Any = TwoRanks(DeitkitError("teacher T is not fit to teach"))
    with pytest.raises(DeitkitError, match="not fit"):
        brief_check(replace(training, world=stopping))


def test_a_broken_image_is_an_error_and_no_crash(monkeypatch: Any) -> None:
    def unreadable(*arguments: Any, **options: Any) -> Any:
        raise DeitkitError("cannot read image X")

    monkeypatch.setattr("deitkit.training.teacher_check.held_out_answers", unreadable)
    with pytest.raises(DeitkitError, match="cannot read image X"):
        brief_check(training_with("right"))
