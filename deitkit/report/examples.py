"""Kinds of disagreement, and which images show them best. Reads no image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deitkit.measures.agreement import PairKind, pair_kinds
from deitkit.predictions.table import Predictions, decisive

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExampleKind:
    """Images [n] of one kind as rows of the predictions, those of the greatest confidence first."""

    key: str
    title: str
    definition: str
    rows: Rows


def find_kinds(student: Predictions, teacher: Predictions | None) -> list[ExampleKind]:
    """Every kind that these predictions, which are aligned, can show; a single head alone has only its mistakes."""
    head, labels = decisive(student), student.labels
    own, sure = student.top1(head), student.head(head).confidence[:, 0]
    name = "the student" if teacher is not None or "distillation" in student.heads else "the model"
    everyone = [(student.top1(each), student.head(each).confidence[:, 0]) for each in student.heads]
    found = []
    if teacher is not None:
        said = teacher.top1(decisive(teacher))
        teacher_sure = teacher.head(decisive(teacher)).confidence[:, 0]
        everyone.append((said, teacher_sure))
        pairs = pair_kinds(own, said, labels)
        found = [
            _kind("teacher-right", "Teacher right, student wrong", f"the {head} decision is wrong, the teacher's right",
                  pairs == PairKind.ONLY_B, sure, "the student's confidence"),
            _kind("student-right", "Student fixes teacher", f"the {head} decision is right, the teacher's wrong",
                  pairs == PairKind.ONLY_A, sure, "the student's confidence"),
        ]  # fmt: skip
    if "distillation" in student.heads:
        both = [student.head(each) for each in ("class", "distillation")]
        found.append(
            _kind("heads", "Heads disagree", "the class head and the distillation head decide differently",
                  both[0].top[:, 0] != both[1].top[:, 0], both[0].confidence[:, 0] + both[1].confidence[:, 0],
                  "the sum of both confidences")
        )  # fmt: skip
    if len(everyone) > 1:
        alike = np.logical_and.reduce([said == everyone[0][0] for said, _ in everyone[1:]])
        least = np.minimum.reduce([confidence for _, confidence in everyone])
        who = "every head and the teacher say" if teacher is not None else "every head says"
        found.append(
            _kind("label", "All agree, label differs", f"{who} the same class, the label another",
                  alike & (everyone[0][0] != labels), least, "the least confidence of all")
        )  # fmt: skip
    else:
        found.append(
            _kind("wrong", "Most confident mistakes", f"{name} is wrong", own != labels, sure, "confidence")
        )  # fmt: skip
    return found


def _kind(
    key: str, title: str, definition: str, chosen: NDArray[np.bool_], by: NDArray[np.float32], order: str
) -> ExampleKind:
    rows = np.flatnonzero(chosen)
    return ExampleKind(key, title, f"{definition}; shown by {order}", rows[np.argsort(-by[rows], kind="stable")])
