"""`deitkit analyze errors`: classifiers' predictions -> their worst images, their calibration, labels to doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Classifiers, ReportOptions

if TYPE_CHECKING:
    from deitkit.analysis.report import Report


OFF_SCREEN = ("bins", "labels")  # tables that are left to the CSV files


def errors(
    runs: Classifiers,
    top: Annotated[int, typer.Option("--top", min=1, help="Images of each list.")] = 24,
    bins: Annotated[int, typer.Option("--bins", min=1, help="Of confidence, for calibration.")] = 15,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Draw sheets of the listed images.")] = True,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:
    """Which images a model gets wrong, how surely, and which labels to doubt.

    Every head of every classifier has a row: accuracy, mean cross-entropy (loss, in nats), Brier score; calibration:
    mean confidence minus accuracy, ECE with what a perfectly calibrated model would show by chance, and what one
    temperature would mend, judged on images that it was not fitted to. Images are listed for the first classifier,
    for its fused head or for the one named (RUN:class): top losses, most confident mistakes, labels to doubt.

    Labels are doubted by confident learning: an image counts for the most probable class among those whose threshold,
    the mean probability over the images labelled so, it reaches; as many of each label are doubted as are estimated to
    be wrong. On images that the model learned from, wrong labels hide: use a held-out split. ReaL labels are shown.

    Clusters are classes that are confused with each other: average linkage of confusion rates, cut where the errors
    inside are the most surprising. Missing predictions and logits are made and kept. Sources: Guo et al. 2017;
    Northcutt et al. 2021; Traag et al. 2015; the others are named in the report.

    Example: deitkit analyze errors runs/quickstart/student_32 runs/quickstart/twin
    Example: deitkit analyze errors runs/mine --top 50
    Example: deitkit analyze errors runs/mine --data photos --split test
    """
    from deitkit.analysis.errors import analyze

    folder = reports_folder(runs[0], saved, name="errors")
    report = analyze(*runs, top=top, bins=bins, images=images, **vars(where))
    for note in report.numbers["notes"]:
        render.say(f"note: {note}")
    show(report, folder, as_json=saved.as_json, without=OFF_SCREEN, screen=_without_paths(report))


def _without_paths(report: Report) -> Report:
    """On a screen an image's id is enough; its path would fill the line."""
    tables = []
    for table in report.tables:
        kept = [place for place, column in enumerate(table.columns) if column != "path"]
        rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
        tables.append(replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows))
    return replace(report, tables=tuple(tables))
