"""Tables and kinds of disagreement, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deitkit.predictions.table import HeadPredictions, Predictions
from deitkit.report.examples import find_kinds
from deitkit.report.tables import classes_table, confusions_table, heads_table

LABELS = [0, 0, 0, 1, 1, 2]


def head(name: str, answers: list[int], confidence: list[float]) -> HeadPredictions:
    top = np.stack([answers, (np.array(answers) + 1) % 3], axis=1)
    sure = np.array(confidence, dtype=np.float32)
    return HeadPredictions(name, top, np.stack([sure, 1 - sure], axis=1))


def table(classifier: str, *heads: HeadPredictions) -> Predictions:
    return Predictions(
        dataset="pets", split="val", fingerprint="f", classifier=classifier, class_names=("cat", "dog", "owl"),
        ids=[f"image {row}" for row in range(6)], labels=np.array(LABELS), heads={each.name: each for each in heads},
    )  # fmt: skip


STUDENT = table(
    "student",
    head("class", [0, 1, 1, 1, 2, 2], [0.9, 0.6, 0.8, 0.7, 0.9, 0.5]),
    head("distillation", [0, 1, 2, 1, 2, 2], [0.9, 0.7, 0.8, 0.7, 0.6, 0.5]),
    head("fused", [0, 1, 1, 1, 2, 2], [0.9, 0.65, 0.8, 0.7, 0.75, 0.5]),
)
TEACHER = table("teacher", head("class", [0, 0, 0, 0, 2, 0], [0.9, 0.6, 0.8, 0.7, 0.9, 0.5]))


def test_kinds_are_counted_and_the_most_confident_come_first() -> None:
    kinds = {kind.key: kind.rows.tolist() for kind in find_kinds(STUDENT, TEACHER)}
    assert kinds == {"teacher-right": [2, 1], "student-right": [3, 5], "heads": [2], "label": [4]}


def test_without_a_teacher_the_heads_are_compared_and_one_head_has_its_mistakes() -> None:
    kinds = {kind.key: kind.rows.tolist() for kind in find_kinds(STUDENT, None)}
    assert kinds == {"heads": [2], "label": [1, 4]} or kinds == {"heads": [2], "label": [4, 1]}
    alone = replace(STUDENT, heads={"class": STUDENT.heads["class"]})
    assert {kind.key: kind.rows.tolist() for kind in find_kinds(alone, None)} == {"wrong": [4, 2, 1]}


def test_classes_come_with_the_lowest_first_and_what_they_are_taken_for() -> None:
    classes = classes_table(STUDENT, TEACHER)
    assert classes.columns == (
        "class", "images", "class head", "distillation head", "fused head", "teacher", "as the teacher",
        "most often taken for",
    )  # fmt: skip
    assert classes.rows == (
        ("cat", 3, 1 / 3, 1 / 3, 1 / 3, 1.0, 1 / 3, "dog (2)"),
        ("dog", 2, 0.5, 0.5, 0.5, 0.0, 0.5, "owl (1)"),
        ("owl", 1, 1.0, 1.0, 1.0, 0.0, 0.0, ""),
    )


def test_confusions_are_counted_by_label() -> None:
    assert confusions_table(STUDENT).rows == (("cat", "dog", 2, 2 / 3), ("dog", "owl", 1, 0.5))


def test_heads_say_how_often_they_decide_as_the_teacher() -> None:
    heads = heads_table([STUDENT], TEACHER)
    assert "top-5" not in heads.columns and "ReaL" not in heads.columns, "columns without a value are left out"
    shares = dict(zip([row[1] for row in heads.rows], [row[-1] for row in heads.rows], strict=True))
    assert shares == {"class": 2 / 6, "distillation": 2 / 6, "fused": 2 / 6}
    assert [row[3] for row in heads.rows] == [3 / 6] * 3
