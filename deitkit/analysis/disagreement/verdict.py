"""What a report of disagreement says, in sentences: who differs, who is right more often, where. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deitkit.analysis.disagreement.pairs import ComparedClassifier
from deitkit.analysis.report import Report
from deitkit.measures.agreement import Interval, PairCounts, pair_kinds, wilson_interval
from deitkit.measures.arrays import Labels
from deitkit.measures.words import class_gain_words, pair_words, points, span

MOST_PAIRS = 3  # of which something is said


def disagreement_verdict(
    report: Report, reference: ComparedClassifier, others: Sequence[ComparedClassifier], labels: Labels, *,
    class_names: Sequence[str],
) -> Iterator[str]:  # fmt: skip
    """Each of the `others` beside the reference, by the tables of the report, and who moved toward a teacher."""
    for other in others[-MOST_PAIRS:]:
        pair, p = _counted(report, other.name, reference.name)
        yield pair_words(other.name, reference.name, pair, p=p)
        kinds = pair_kinds(other.top1, reference.top1, labels)
        yield from filter(None, [class_gain_words(other.name, reference.name, kinds, labels, class_names)])
        share = span(wilson_interval(pair.different, pair.images))
        yield f"They decide differently on {pair.different:,} of {pair.images:,} images ({share})."
    yield from filter(None, [_moved_words(report.numbers.get("moved"))])


def _counted(report: Report, a: str, b: str) -> tuple[PairCounts, float]:
    """What the tables `kinds` and `mcnemar` hold of two classifiers, and the corrected p-value."""
    kinds, tests = (next(table for table in report.tables if table.name == name) for name in ("kinds", "mcnemar"))
    row, test = (next(row for row in table.rows if {*row[:2]} == {a, b}) for table in (kinds, tests))
    both, only_first, only_second, same, differently = row[2:]
    only_a, only_b = (only_first, only_second) if row[0] == a else (only_second, only_first)
    return PairCounts(both, only_a, only_b, same, differently), test[tests.columns.index("p (Holm)")]


def _moved_words(moved: Mapping[str, Any] | None) -> str:
    if moved is None:
        return ""
    student, baseline, teacher = moved["student"], moved["baseline"], moved["teacher"]
    interval = Interval(moved["low"], moved["high"])
    if interval.low <= 0 <= interval.high:
        return (
            f"Too few images to tell whether {student} decides more like {teacher} than {baseline} does:"
            f" {points(interval)} of the images."
        )
    more = "more" if moved["gain"] > 0 else "less"
    return f"{student} decides {more} like {teacher} than {baseline} does: {points(interval)} of the images."
