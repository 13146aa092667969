"""Tables of one classifier's predictions: its heads, its classes, what it takes for what. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deitkit.analysis.report import Table
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.clusters import count_errors
from deitkit.predictions.table import Predictions, decisive

SHARE = ".1%"
PAIRS = 20  # confusions that are listed


def heads_table(tables: Sequence[Predictions], teacher: Predictions | None) -> Table:
    """Every head on every data set; how often it decides as the teacher, which is aligned with the first table."""
    rows = []
    for table in tables:
        for head, said in table.heads.items():
            count = len(table.ids)
            interval = wilson_interval(int(table.hits(head).sum()), count)
            alike = (
                float((table.top1(head) == teacher.top1(decisive(teacher))).mean())
                if teacher is not None and table is tables[0]
                else None
            )
            real = table.real_accuracy(head) if table.accepted is not None else None
            rows.append(
                (f"{table.dataset}/{table.split}", head, count, table.accuracy(head), interval.low, interval.high,
                 table.top5(head), real[0] / real[1] if real and real[1] else None,
                 float(said.confidence[:, 0].mean()), alike)
            )  # fmt: skip
    shares = ("top-1", "low", "high", "top-5", "ReaL", "mean confidence", "as the teacher")
    columns = {"data": "", "head": "", "images": ",", **dict.fromkeys(shares, SHARE)}
    title = "Each head: accuracy with its 95% interval (Wilson's score)"
    return Table.of("heads", title, columns, rows, filled=True)


def classes_table(table: Predictions, teacher: Predictions | None) -> Table:
    """Every class that has images, the worst first: accuracies, and what it is most often taken for."""
    head, names = decisive(table), table.class_names
    images = np.bincount(table.labels, minlength=len(names))
    present = np.flatnonzero(images)
    right = {name: _share(table, table.top1(name) == table.labels, images) for name in table.heads}
    columns = {f"{name} head": share for name, share in right.items()}
    if teacher is not None:
        said = teacher.top1(decisive(teacher))
        columns["teacher"] = _share(table, said == table.labels, images)
        columns["as the teacher"] = _share(table, table.top1(head) == said, images)
    order = present[np.argsort(right[head][present], kind="stable")]
    taken = _taken_for(table, head)
    rows = [
        (names[index], int(images[index]), *(float(share[index]) for share in columns.values()), taken.get(index, ""))
        for index in order.tolist()
    ]
    formats = {"class": "", "images": ",", **dict.fromkeys(columns, SHARE), "most often taken for": ""}
    return Table.of("classes", f"Accuracy by class, the lowest first ({head} head)", formats, rows)


def _share(table: Predictions, chosen: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Share of each class's images that are chosen [N]: [K]."""
    return np.asarray(np.bincount(table.labels[chosen], minlength=len(images)) / np.maximum(images, 1))


def _taken_for(table: Predictions, head: str) -> dict[int, str]:
    """Class -> the commonest wrong answer on its images, and how often."""
    found: dict[int, str] = {}
    for label, answer, count in _confusions(table, head):
        found.setdefault(label, f"{table.class_names[answer]} ({count:,})")
    return found


def _confusions(table: Predictions, head: str) -> list[tuple[int, int, int]]:
    """(label, wrong answer, images), the commonest first."""
    errors = count_errors(table.top1(head), table.labels, classes=len(table.class_names))
    order = np.argsort(-errors.images, kind="stable")
    return [*zip(*(each[order].tolist() for each in (errors.label, errors.said, errors.images)), strict=True)]


def confusions_table(table: Predictions) -> Table:
    """The commonest confusions of the decisive head."""
    head, names = decisive(table), table.class_names
    images = np.bincount(table.labels, minlength=len(names))
    found = _confusions(table, head)
    rows = [(names[label], names[answer], count, count / int(images[label])) for label, answer, count in found[:PAIRS]]
    columns = {"label": "", "taken for": "", "images": ",", "share of the label's images": SHARE}
    title = f"The {len(rows)} commonest confusions of {len(found):,} ({head} head)"
    return Table.of("confusions", title, columns, rows)
