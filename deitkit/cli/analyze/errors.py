"""`deitkit analyze errors`: classifiers' predictions -> their worst images, their calibration, labels to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import print_report, reports_folder
from deitkit.cli.options import AnalysisOptions, Classifiers, ReportOptions
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import predictions_of

if TYPE_CHECKING:
    from deitkit.analysis.errors.pictures import PictureReader
    from deitkit.analysis.report import Report
    from deitkit.predictions.table import Predictions

OFF_SCREEN = ("bins", "labels")  # tables that are left to the CSV files


def errors(
    runs: Classifiers,
    top: Annotated[int, typer.Option("--top", min=1, help="Images of each list.")] = 24,
    bins: Annotated[int, typer.Option("--bins", min=1, help="Of confidence, for calibration.")] = 15,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Draw sheets of the listed images.")] = True,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
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
    """
    from deitkit.analysis.save import save_report

    folder = reports_folder(runs[0], saved, name="errors")
    report = errors_of(runs, top=top, bins=bins, images=images, **vars(where))
    files = save_report(report, folder)
    for note in report.numbers["notes"]:
        render.say(f"note: {note}")
    if saved.as_json:
        render.print_json(report.as_dict())
        return
    print_report(_without_paths(report), without=OFF_SCREEN)
    render.say(f"wrote {files[0].name} and {len(files) - 1} tables and figures to {folder}")


def _without_paths(report: Report) -> Report:
    """On a screen an image's id is enough; its path would fill the line."""
    tables = []
    for table in report.tables:
        kept = [place for place, column in enumerate(table.columns) if column != "path"]
        rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
        tables.append(replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows))
    return replace(report, tables=tuple(tables))


def errors_of(
    references: list[str], *, top: int = 24, bins: int = 15, images: bool = True, dataset: str = "", data: str = "",
    split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """The report on these classifiers, the first one's images listed."""
    from deitkit.analysis.errors.report import Options, find_errors
    from deitkit.predictions.align import align

    parsed = [Reference.parse(text) for text in references]
    names = short_names(parsed)
    words = [model.word for model in names]
    tables = align(predictions_of(words, dataset=dataset, data=data, split=split, device=device, keep_logits=True))
    heads = {
        name: list(dict.fromkeys(each.head for each in parsed if replace(each, head="") == model))
        for model, name in names.items()
    }
    pictures = reader(list(names), tables[0], dataset=dataset, data=data) if images else None
    report = find_errors(
        tables,
        heads={name: own for name, own in heads.items() if all(own)},
        trained_on=[name for model, name in names.items() if learned_from(model, tables[0])],
        picture=pictures,
        options=Options(top=top, bins=bins),
    )
    return report if pictures is None else _with_lost(report, pictures)


def learned_from(model: Reference, table: Predictions) -> bool:
    """Whether a run was trained on the very images of this table."""
    from deitkit.runs.folder import Run

    is_run = Run.is_run(model.folder)
    return is_run and Run(model.folder).environment().get("data_fingerprint") == table.fingerprint


def reader(models: Sequence[Reference], table: Predictions, *, dataset: str, data: str) -> PictureReader:
    """How the images of the first table are found: by the paths that it notes, or in the data of the first run."""
    from deitkit.analysis.errors.pictures import PictureReader
    from deitkit.predictions.find import data_settings
    from deitkit.recipe.schema import Data
    from deitkit.runs.folder import Run

    run = next((str(model.folder) for model in models if Run.is_run(model.folder)), "")
    own = data_settings(run, dataset=dataset, data=data) if run else Data(dataset=table.dataset, path=data or None)
    return PictureReader(table, own)


def _with_lost(report: Report, pictures: PictureReader) -> Report:
    """The report, and a note of images that could not be shown."""
    if not pictures.lost:
        return report
    note = f"{len(pictures.lost)} pictures could not be shown, the first because: {pictures.lost[0]}"
    numbers = {**report.numbers, "notes": [*report.numbers["notes"], note]}
    return replace(report, numbers=numbers, definitions={**report.definitions, "pictures": note})
