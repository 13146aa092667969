"""Reports of analyses and example images, ready for the page, each name in one colour. Measures nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deitkit.analysis.disagreement.report import compare
from deitkit.analysis.draw.canvas import Inks, inks_of
from deitkit.analysis.draw.page import PageDrawing, page_drawing
from deitkit.analysis.draw.sheet import COLOURS
from deitkit.analysis.report import AnyFigure, Report
from deitkit.models.forms import HEADS
from deitkit.predictions.table import Predictions
from deitkit.report.examples import Album, ExampleKind
from deitkit.report.folder import SavedReport
from deitkit.report.run_tables import ReportedRun
from deitkit.report.training import TEACHER
from deitkit.report.views import Embedded, Example, KindView, PageBudget, ReportView, Sentence, ShownAnswer, TableView

MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(eq=False)
class Desk:
    """What is made once for a page, however often the page is put together anew to fit its budget: each drawing, and
    the comparison of its runs."""

    drawn: dict[str, PageDrawing | None] = field(default_factory=dict)
    comparison: Report | None = None

    def draw(self, figure: AnyFigure, key: str, inks: Inks) -> PageDrawing | None:
        """The drawing under the page's own key of it, or None where it is no drawing."""
        if key not in self.drawn:
            self.drawn[key] = page_drawing(figure, key, inks=inks)
        return self.drawn[key]

    def compare(self, tables: Sequence[Predictions]) -> Report:
        """Of all runs of the page."""
        self.comparison = self.comparison or compare(tables)
        return self.comparison


def show_report(
    report: Report, key: str, budget: PageBudget, *, inks: Inks, desk: Desk, saved: SavedReport | None = None,
    without: tuple[str, ...] = (),
) -> ReportView:  # fmt: skip
    """Figures as the page's own drawings; large ones and pictures as the files that were saved, where they fit."""
    drawings: list[PageDrawing] = []
    embedded: list[Embedded] = []
    inks = inks_of(report.figures, inks)
    for figure in report.figures:
        drawn = desk.draw(figure, f"{key}-{figure.name}", inks)
        if drawn is not None:
            drawings.append(drawn)
        elif saved is not None:
            embedded.append(_embed(saved, figure.name, figure.title, budget))
    if saved is not None:
        embedded += [
            _embed(saved, name, f"{report.title}: {name.replace('_', ' ')}", budget) for name in saved.pictures
        ]
    return ReportView(
        anchor=report.name,
        title=report.title,
        verdict=tuple(map(Sentence.of, report.verdict)),
        drawings=tuple(drawings),
        embedded=tuple(embedded),
        tables=tuple(
            TableView.of(table, more=f"{report.name}_{table.name}.csv")
            for table in report.tables
            if table.name not in without
        ),
        definitions=report.definitions,
        sources=report.sources,
    )


def show_figures(figures: Sequence[AnyFigure], key: str, *, inks: Inks, desk: Desk) -> tuple[PageDrawing, ...]:
    """Figures as the page's own drawings; no name has two colours in them."""
    inks = inks_of(figures, inks)
    drawn = (desk.draw(figure, f"{key}-{figure.name}", inks) for figure in figures)
    return tuple(drawing for drawing in drawn if drawing is not None)


def _embed(saved: SavedReport, name: str, title: str, budget: PageBudget) -> Embedded:
    """The SVG, or the PNG where that is smaller and the SVG does not fit, or the files' name."""
    stem = f"{saved.report.name}_{name}"
    for suffix, media in MEDIA.items():
        path = saved.folder / f"{stem}{suffix}"
        if path.is_file() and path.stat().st_size <= budget.embedded_bytes:
            return Embedded(title, f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}", path.name)
    return Embedded(title, "", f"{stem}.png")


def show_kinds(
    kinds: list[ExampleKind],
    student: Predictions,
    teachers: Mapping[str, Predictions],
    album: Album,
    budget: PageBudget,
) -> tuple[KindView, ...]:
    """The first images of each kind, with everyone's answer."""
    views = []
    for kind in kinds:
        rows = kind.rows[: budget.examples].tolist()
        views.append(
            KindView(
                key=kind.key,
                title=kind.title,
                definition=kind.definition,
                count=f"{len(kind.rows):,} of {len(student.ids):,} images ({len(kind.rows) / len(student.ids):.1%})",
                examples=tuple(_example(row, student, teachers, album) for row in rows),
            )
        )
    return tuple(views)


def _example(row: int, student: Predictions, teachers: Mapping[str, Predictions], album: Album) -> Example:
    who = [(name, table, head) for name, table in teachers.items() for head in table.heads]
    heads = [(head if len(student.heads) > 1 else "model", student, head) for head in student.heads]
    named = [(f"{name} {head}" if len(table.heads) > 1 else name, table, head) for name, table, head in who]
    label = int(student.labels[row])
    answers = []
    for name, table, head in [*named, *heads]:
        said = table.head(head)
        answer, confidence = int(said.top[row, 0]), float(said.confidence[row, 0])
        answers.append(ShownAnswer(name, student.class_names[answer], f"{confidence:.0%}", answer == label))
    return Example(student.ids[row], student.class_names[label], album.thumbnail(row), tuple(answers))


def name_lost(album: Album, views: Sequence[KindView]) -> str:
    """Which of the shown images are gone, in a sentence."""
    examples = [example for view in views for example in view.examples]
    lost = [album.lost[example.image] for example in examples if example.picture is None]
    if not lost:
        return ""
    return (
        f"{len(lost)} of the {len(examples)} images to be shown are not where they were or cannot be read, the first:"
        f" {lost[0]}. Put them back, or evaluate anew with --data FOLDER."
    )


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
