"""The numbers, and so the colours, of runs, their heads and their teachers: the same in every chart of a page."""

from __future__ import annotations

from collections.abc import Sequence

from deitkit.analysis.draw.inks import Inks
from deitkit.analysis.draw.sheet import COLOURS
from deitkit.models.forms import HEADS
from deitkit.report.run_tables import ReportedRun
from deitkit.report.training import TEACHER

ALIKE = ("class, distillation", "class and distillation head")


def page_inks(subjects: Sequence[ReportedRun]) -> dict[str, int]:
    """One table for a page: runs, then heads, then what they are compared with, under each name that charts have."""
    runs = [subject.folder.name for subject in subjects]
    inks = {name: number for number, name in enumerate(runs)}
    for number, head in enumerate(HEADS, start=len(runs)):
        own = [pattern.format(run, head) for run in runs for pattern in ("{} {}", "{}, {}")]
        inks |= dict.fromkeys([head, f"{head} head", f"{head}, {TEACHER}", *own], number)
        inks[f"EMA, {head}"] = number + len(COLOURS)  # the same colour, dashed
    teachers = [table.classifier for subject in subjects for table in subject.teachers.values()]
    other = len(runs) + len(HEADS)
    return dict.fromkeys([TEACHER, *teachers], other) | dict.fromkeys(ALIKE, other + 1) | inks


def run_inks(inks: Inks, name: str) -> dict[str, int]:
    """The table for a run's own charts, whose lines without a name are the run's."""
    return dict(inks) | dict.fromkeys(("", "loss"), inks[name])
