"""Disagreement class by class: accuracies, confusion of two classifiers, who moved toward a teacher. Opens no file.

A class is that of the label, but in the confusion, where it is what a classifier says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.disagreement.pairs import SHARE, ComparedClassifier
from deitkit.analysis.report import Bars, Matrix, Series, Table
from deitkit.measures.agreement import CONFIDENCE, paired_interval
from deitkit.measures.arrays import Decisions

DRAWN = 10  # classes in a figure
PAIRED = "Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions, 2012"


@dataclass(frozen=True, eq=False)
class Confusion:
    """For each pair of classes (X, Y) that occurs: images of which a says X and b says Y; whose word the label is.

    All are [M], the pairs that differ first, then by images. Where X is Y, a and b are right on the same images.
    """

    a_says: NDArray[np.int64]
    b_says: NDArray[np.int64]
    images: NDArray[np.int64]
    a_right: NDArray[np.int64]
    b_right: NDArray[np.int64]


@dataclass(frozen=True)
class GroupGain:
    """Images on which a student, and those on which a baseline, decides as the teacher does; and their difference."""

    images: int
    student: int
    baseline: int
    gained: int  # the student alone
    lost: int  # the baseline alone

    def row(self) -> tuple[float, ...]:
        """Baseline's share, student's share, gain, both ends of its interval."""
        interval = paired_interval(self.gained, self.lost, self.images)
        gain = (self.gained - self.lost) / self.images
        return self.baseline / self.images, self.student / self.images, gain, interval.low, interval.high


def class_table(
    classifiers: Sequence[ComparedClassifier],
    reference: ComparedClassifier,
    labels: Decisions,
    *,
    class_names: Sequence[str],
) -> Table:
    """Every class that has images: each classifier's accuracy, and how often it decides otherwise than the reference.

    The classes of the largest mean disagreement come first.
    """
    size = len(class_names)
    images = np.bincount(labels, minlength=size)
    present = np.flatnonzero(images)
    others = [each for each in classifiers if each is not reference]

    def share(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(labels[chosen], minlength=size)[present] / images[present])

    right = np.stack([share(each.top1 == labels) for each in classifiers])
    unlike = np.stack([share(each.top1 != reference.top1) for each in others])
    columns = [f"{each.name} right" for each in classifiers] + [
        f"{each.name} not as {reference.name}" for each in others
    ]
    shares = np.concatenate([right, unlike])
    rows = [
        (class_names[present[place]], int(images[present[place]]), *shares[:, place].tolist())
        for place in np.argsort(-unlike.mean(axis=0), kind="stable")
    ]
    title = f"By class, the most unlike {reference.name} first"
    return Table.of("classes", title, {"class": "", "images": ",", **dict.fromkeys(columns, SHARE)}, rows)


def confusion(a: Decisions, b: Decisions, labels: Decisions) -> Confusion:
    """Decisions a [N], b [N] and labels [N] -> what b says where a says X; only pairs of classes that occur."""
    size = 1 + int(max(a.max(), b.max()))
    codes, place, images = np.unique(a * size + b, return_inverse=True, return_counts=True)
    a_says, b_says = codes // size, codes % size
    right = [np.bincount(place[each == labels], minlength=len(codes)) for each in (a, b)]
    first = np.lexsort((codes, -images, a_says == b_says))
    return Confusion(*(column[first] for column in (a_says, b_says, images, *right)))


def between_table(a: ComparedClassifier, b: ComparedClassifier, found: Confusion, class_names: Sequence[str]) -> Table:
    """The whole confusion of two classifiers, the commonest differences first."""
    columns = ("images", f"{a.name} right", f"{b.name} right")
    numbers = np.stack([found.a_says, found.b_says, found.images, found.a_right, found.b_right], axis=1)
    return Table(
        name="between",
        title=f"What {a.name} and {b.name} say, differences first",
        columns=(f"{a.name} says", f"{b.name} says", *columns),
        rows=tuple((class_names[x], class_names[y], *counts) for x, y, *counts in numbers.tolist()),
        formats=dict.fromkeys(columns, ","),
    )


def between_figure(
    a: ComparedClassifier, b: ComparedClassifier, found: Confusion, class_names: Sequence[str]
) -> Matrix:
    """The commonest differences: between the first classes that occur in them."""
    differ = found.a_says != found.b_says
    # Behind them come the first classes, so that there is a figure where nothing differs, too.
    said = np.stack([found.a_says[differ], found.b_says[differ]], axis=1).reshape(-1)
    chosen = sorted(list(dict.fromkeys([*said.tolist(), *range(DRAWN)]))[: min(DRAWN, len(class_names))])
    values = np.zeros((len(class_names), len(class_names)))
    values[found.a_says[differ], found.b_says[differ]] = found.images[differ]
    which = "" if len(chosen) == len(class_names) else f": {len(chosen)} classes of the commonest differences"
    return Matrix(
        name="between",
        title=f"Where {a.name} and {b.name} differ{which}",
        labels=tuple(class_names[index] for index in chosen),
        values=tuple(tuple(row) for row in values[np.ix_(chosen, chosen)].tolist()),
        unit="images",
        x_label=f"{b.name} says",
        y_label=f"{a.name} says",
        cell=".0f",
    )


def gains(
    student: Decisions, baseline: Decisions, teacher: Decisions, labels: Decisions, *, classes: int
) -> tuple[GroupGain, list[GroupGain]]:
    """Over all images, and of each class: agreement of decisions [N] with the teacher's."""
    like_student, like_baseline = student == teacher, baseline == teacher
    masks = (
        np.ones(len(labels), dtype=np.bool_), like_student, like_baseline,
        like_student & ~like_baseline, like_baseline & ~like_student,
    )  # fmt: skip
    counts = np.stack([np.bincount(labels[mask], minlength=classes) for mask in masks])
    return GroupGain(*counts.sum(axis=1).tolist()), [GroupGain(*column) for column in counts.T.tolist()]


def moved(
    student: ComparedClassifier,
    baseline: ComparedClassifier,
    teacher: ComparedClassifier,
    labels: Decisions,
    *,
    class_names: Sequence[str],
) -> tuple[Table, Bars, dict[str, float]]:
    """Which classes moved toward the teacher from the baseline to the student: table, figure, and the overall gain."""
    overall, each = gains(student.top1, baseline.top1, teacher.top1, labels, classes=len(class_names))
    shares = (f"{baseline.name} as {teacher.name}", f"{student.name} as {teacher.name}")
    rows: list[tuple[Any, ...]] = [
        (name, own.images, *own.row()) for name, own in zip(class_names, each, strict=True) if own.images
    ]
    rows.sort(key=lambda row: -row[4])
    before, after, gain, low, high = overall.row()
    table = Table.of(
        "moved",
        f"Which classes moved toward {teacher.name}; all together {before:.1%} to {after:.1%}, gain {gain:+.1%}"
        f" ({CONFIDENCE:.0%} interval {low:+.1%} to {high:+.1%})",
        {"class": "", "images": ",", **dict.fromkeys(shares, SHARE), "gain": "+.1%", "low": "+.1%", "high": "+.1%"},
        rows,
    )
    return table, _moved_figure(table, teacher), {"gain": gain, "low": low, "high": high}


def _moved_figure(table: Table, teacher: ComparedClassifier) -> Bars:
    most = sorted(sorted(table.rows, key=lambda row: -abs(row[4]))[:DRAWN], key=lambda row: -row[4])
    return Bars(
        name="moved",
        title=f"Agreement with {teacher.name}: the {len(most)} classes that changed most",
        x_label="class of the label",
        y_label=f"images decided as {teacher.name} does (%)",
        ticks=tuple(str(row[0]) for row in most),
        series=tuple(
            Series(table.columns[column].removesuffix(f" as {teacher.name}"), tuple(100 * row[column] for row in most))
            for column in (2, 3)
        ),
    )
