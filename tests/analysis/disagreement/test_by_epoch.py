"""A student's way to its teacher: from lines of metrics.jsonl and from checkpoints' predictions."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from deitkit.analysis.disagreement.by_epoch import (
    Moment,
    by_epoch_report,
    epoch_of,
    measured,
    recorded,
    recorded_teacher,
)
from deitkit.errors import DeitkitError
from deitkit.predictions.table import Predictions

MakePredictions = Callable[..., Predictions]
LINES = [
    {"step": 10, "epoch": 0.5, "loss": 2.0, "lr": 0.1},
    {"step": 20, "epoch": 1.0, "top1": {"class": 0.3, "distillation": 0.2, "fused": 0.4}, "teacher_top1": 0.9,
     "agreement": {"teacher": {"class": 0.31, "distillation": 0.35, "fused": 0.33}, "heads": 0.7}},
    {"step": 40, "epoch": 2.0, "top1": {"class": 0.5, "distillation": 0.5, "fused": 0.6}, "teacher_top1": 0.9,
     "agreement": {"teacher": {"class": 0.51, "distillation": 0.55, "fused": 0.53}, "heads": 0.8},
     "token_cosine": {"final_norm": 0.9}},
]  # fmt: skip


def test_evaluations_are_read_and_other_lines_are_not() -> None:
    first, second = recorded(LINES)
    assert (first.epoch, first.step, first.alike) == (1.0, 20, 0.7)
    assert second.teacher == {"class": 0.51, "distillation": 0.55, "fused": 0.53}
    assert second.labels["fused"] == 0.6
    assert recorded_teacher(LINES) == 0.9


def test_evaluations_that_say_nothing_of_a_teacher_are_read_too() -> None:
    (moment,) = recorded([{"step": 20, "epoch": 1.0, "top1": {"class": 0.3}}])
    assert (moment.teacher, moment.alike) == ({}, None)
    assert recorded_teacher([{"step": 20}]) is None


def test_an_evaluation_that_a_resumed_run_repeated_counts_once() -> None:
    assert [moment.step for moment in recorded([LINES[1], LINES[2], LINES[2]])] == [20, 40]


def test_a_checkpoint_is_measured_as_its_predictions_say(decided: MakePredictions) -> None:
    labels, teacher = [0, 1, 2, 0], np.array([0, 1, 1, 1])
    table = decided("s", {"class": [0, 1, 2, 1], "distillation": [0, 1, 1, 1], "fused": [0, 1, 1, 0]}, labels)
    moment = measured(table, teacher, epoch=3.0, step=60, origin="checkpoints/best")
    assert moment.teacher == {"class": 0.75, "distillation": 1.0, "fused": 0.75}
    assert moment.labels == {"class": 0.75, "distillation": 0.5, "fused": 0.75}
    assert moment.alike == 0.75
    plain = measured(decided("s", {"class": [0, 1, 2, 1]}, labels), teacher, epoch=3.0, step=60, origin="x")
    assert plain.alike is None


def test_the_epoch_of_a_step_lies_on_the_runs_own_line() -> None:
    assert epoch_of(30, LINES) == 1.5
    with pytest.raises(DeitkitError, match=r"metrics\.jsonl has no line"):
        epoch_of(30, [])


def test_the_report_draws_every_head_and_says_what_it_is_made_from() -> None:
    moments = [*recorded(LINES), Moment(3.0, 60, {"class": 0.6}, {"class": 0.7}, None, "checkpoints/best")]
    report = by_epoch_report(moments, student="student", teacher="teacher", images="pets/val", teacher_accuracy=0.9)
    assert report.title.endswith("on pets/val (from 2 evaluations in metrics.jsonl and 1 checkpoint)")
    teacher, labels = report.figures
    assert [cloud.label for cloud in teacher.clouds] == [
        "class head and teacher", "distillation head and teacher", "fused head and teacher",
        "class and distillation head",
    ]  # fmt: skip
    assert teacher.clouds[0].x == (1.0, 2.0, 3.0) and teacher.clouds[0].y == pytest.approx((31, 51, 70))
    assert teacher.clouds[1].x == (1.0, 2.0)
    assert labels.clouds[-1].label == "teacher" and labels.clouds[-1].y == (90.0, 90.0)
    assert report.tables[0].rows[0][-1] == "metrics.jsonl" and report.tables[0].rows[-1][3] is None
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_plain_student_has_one_line_and_no_heads_to_compare() -> None:
    moments = [Moment(1.0, 5, {"class": 0.5}, {"class": 0.6}), Moment(2.0, 10, {"class": 0.7}, {"class": 0.8})]
    report = by_epoch_report(moments, student="twin", teacher="teacher")
    assert [len(figure.clouds) for figure in report.figures] == [1, 1]
    assert report.tables[0].columns == ("epoch", "step", "class: as teacher", "class: right", "origin")


def test_nothing_known_of_the_teacher_is_refused_with_a_remedy() -> None:
    with pytest.raises(DeitkitError, match="nothing says how student agreed with teacher") as caught:
        by_epoch_report([Moment(1.0, 5, {"class": 0.5})], student="student", teacher="teacher")
    assert "checkpoint.keep" in caught.value.remedy
