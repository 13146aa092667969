"""Reports to files: JSON, a CSV for each table, a PNG and an SVG for each figure. Measures nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deitkit.analysis.report import AnyFigure, Curves, Matrix, Report, Table
from deitkit.errors import DeitkitError
from deitkit.run import write_atomic

DOTS_PER_INCH = 150
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "deitkit",  # equal reports give equal files
}


def save_report(report: Report, folder: Path) -> list[Path]:
    """Write the report's files into the folder, each whole or not at all, and name them."""
    contents: dict[str, bytes | str] = {
        f"{report.name}.json": json.dumps(report.as_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    }
    for table in report.tables:
        contents[f"{report.name}_{table.name}.csv"] = _csv(table)
    for figure in report.figures:
        for suffix in ("png", "svg"):
            contents[f"{report.name}_{figure.name}.{suffix}"] = draw(figure, suffix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise DeitkitError(
            f"the report could not be written to {folder}: {error}",
            value=folder,
            remedy="free some space or choose another folder with --output",
        ) from error
    return [folder / name for name in contents]


def draw(figure: AnyFigure, suffix: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file."""
    with mpl.rc_context(STYLE):
        if isinstance(figure, Matrix):
            drawn = _matrix(figure)
        elif isinstance(figure, Curves):
            drawn = _curves(figure)
        else:
            raise NotImplementedError(type(figure).__name__)
        file = io.BytesIO()
        # Without a date, so that equal figures are equal bytes.
        drawn.savefig(file, format=suffix, dpi=DOTS_PER_INCH, metadata={"Date": None} if suffix == "svg" else {})
    return file.getvalue()


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _matrix(matrix: Matrix) -> Figure:
    """Cells shaded by value; a reference stands in brackets under the value that it belongs to."""
    count, values = len(matrix.labels), np.array(matrix.values)
    side = 2.4 + 0.9 * count
    figure = Figure(figsize=(side + 1.4, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=values.max() or 1.0)
    axes.set_xticks(range(count), matrix.labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), matrix.labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{matrix.title}\n{matrix.references_title}".rstrip())
    for row in range(count):
        for column in range(count):
            _write_cell(axes, matrix, row, column)
    figure.colorbar(image, ax=axes, shrink=0.8, label=matrix.unit)
    return figure


def _write_cell(axes: Axes, matrix: Matrix, row: int, column: int) -> None:
    value = matrix.values[row][column]
    reference = matrix.references[row][column] if matrix.references else None
    text = f"{value:.1f}" if reference is None else f"{value:.1f}\n({reference:.1f})"
    darkest = max(max(line) for line in matrix.values)
    axes.text(column, row, text, ha="center", va="center", color="white" if value > 0.6 * darkest else "black")


def _curves(curves: Curves) -> Figure:
    figure = Figure(figsize=(max(6.4, 2.4 + 0.5 * len(curves.ticks)), 4.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(curves.ticks))
    for number, series in enumerate(curves.series):
        values = np.array(series.values)
        axes.plot(places, values, marker="o", markersize=4, color=f"C{number}", label=series.label)
        if series.spread:
            spread = np.array(series.spread, dtype=np.float64)  # None becomes NaN, which is not drawn
            low, high = (np.clip(values + sign * spread, *(curves.bounds or (None, None))) for sign in (-1, 1))
            axes.fill_between(places, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    for number, reference in enumerate(curves.references):
        axes.hlines(
            reference.value,
            reference.first - 0.35,
            reference.last + 0.35,
            colors="0.25",
            linestyles=("dashed", "dotted")[number % 2],
            label=reference.label,
        )
    axes.set_xticks(places, curves.ticks, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlabel(curves.x_label)
    axes.set_ylabel(curves.y_label)
    axes.set_title(curves.title)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure
