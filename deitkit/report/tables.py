"""Tables of one classifier's predictions: its heads, its classes, what it takes for what. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deitkit.analysis.report import Table
from deitkit.measures.agreement import wilson_interval
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
    columns = ("data", "head", "images", "top-1", "low", "high", "top-5", "ReaL", "mean confidence", "as the teacher")
    formats = {"images": ","} | dict.fromkeys(columns[3:], SHARE)
    filled = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    return Table(
        name="heads",
        title="Each head: accuracy with its 95% interval (Wilson's score)",
        columns=tuple(columns[place] for place in filled),
        rows=tuple(tuple(row[place] for place in filled) for row in rows),
        formats=formats,
    )


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
    return Table(
        name="classes",
        title=f"Accuracy by class, the lowest first ({head} head)",
        columns=("class", "images", *columns, "most often taken for"),
        rows=tuple(rows),
        formats={"images": ","} | dict.fromkeys(columns, SHARE),
    )


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
    size, said = len(table.class_names), table.top1(head)
    wrong = said != table.labels
    codes, counts = np.unique(table.labels[wrong] * size + said[wrong], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        (code // size, code % size, count)
        for code, count in zip(codes[order].tolist(), counts[order].tolist(), strict=True)
    ]


def confusions_table(table: Predictions) -> Table:
    """The commonest confusions of the decisive head."""
    head, names = decisive(table), table.class_names
    images = np.bincount(table.labels, minlength=len(names))
    found = _confusions(table, head)
    rows = [(names[label], names[answer], count, count / int(images[label])) for label, answer, count in found[:PAIRS]]
    return Table(
        name="confusions",
        title=f"The {len(rows)} commonest confusions of {len(found):,} ({head} head)",
        columns=("label", "taken for", "images", "share of the label's images"),
        rows=tuple(rows),
        formats={"images": ",", "share of the label's images": SHARE},
    )
