"""What the verbs of `deitkit analyze` share: a report shown and saved in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.cli import render
from deitkit.cli.options import ReportOptions
from deitkit.cli.upscale import parse_size
from deitkit.errors import DeitkitError
from deitkit.files import output_folder
from deitkit.models.reference import Reference

if TYPE_CHECKING:
    from deitkit.analysis.report import Matrix, Report, Table

LONG = 20  # rows: of a longer table a screen shows the first few, and the CSV has all
FEW = 10


def reports_folder(reference: str, saved: ReportOptions, *, name: str) -> Path:
    """Where the report `name` goes: reports/ of the run, whatever of it is referred to, or the folder asked for.

    Raises:
        DeitkitError: one is there already, but for the run's own; or it cannot be written.
    """
    folder = saved.output or Reference.parse(reference).folder / "reports"
    return output_folder(folder, stem=name, overwrite=saved.overwrite or not saved.output)


def words_of(text: str) -> list[str]:
    """`a, b` -> its words."""
    return [word.strip() for word in text.split(",")] if text else []


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """`160,224x320` -> (height, width) in pixels."""
    try:
        return [parse_size(word) for word in words_of(text)]
    except DeitkitError as error:
        raise DeitkitError(
            f"--sizes {text}: {error.value!r} is no size in pixels",
            value=error.value,
            remedy="for example --sizes 160,224,384 or --sizes 224x160 (height x width)",
        ) from error


def show(
    report: Report, folder: Path, *, as_json: bool, without: tuple[str, ...] = (), screen: Report | None = None
) -> None:
    """Save a report and print it (or `screen` for it), but for the tables named; JSON has no pixels."""
    from deitkit.analysis.save import save_report

    saved = save_report(report, folder)
    if as_json:
        render.print_json(report.as_dict())
        return
    print_report(screen or report, without=without)
    render.say(f"wrote {saved[0].name} and {len(saved) - 1} tables and figures to {folder}")


def print_report(report: Report, *, without: tuple[str, ...] = ()) -> None:
    """A report's verdict, then its tables; published values of a matrix stand in brackets beside the measured ones."""
    from deitkit.analysis.report import Matrix

    render.print_verdict(report.verdict)
    matrices = {figure.name: figure for figure in report.figures if isinstance(figure, Matrix)}
    for table in report.tables:
        if table.name not in without:
            footers, texts = [], _texts(table, matrices.get(table.name))
            if len(texts) > LONG:
                footers.append(f"{FEW} of {len(texts):,} rows; all are in {report.name}_{table.name}.csv")
                texts = texts[:FEW]
            if table.name in matrices:
                footers.append(matrices[table.name].references_title)
            render.print_table(
                f"{report.title}: {_inside(table.title)}", table.columns, texts, footer="\n".join(filter(None, footers))
            )


def _inside(title: str) -> str:
    """A title as the middle of a sentence: its first word small, but for a name with capitals of its own."""
    first = title.partition(" ")[0]
    return title[:1].lower() + title[1:] if first[1:] == first[1:].lower() else title


def _texts(table: Table, matrix: Matrix | None) -> list[list[str]]:
    texts = table.texts()
    if matrix is not None and matrix.references_title:
        for row, references in zip(texts, matrix.references, strict=True):
            row[1:] = [
                text if reference is None else f"{text} ({reference:.1f})"
                for text, reference in zip(row[1:], references, strict=True)
            ]
    return texts
