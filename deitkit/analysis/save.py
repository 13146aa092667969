"""Reports to files: JSON, a CSV for each table, a PNG and an SVG for each figure. Measures nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from deitkit.analysis.draw import draw
from deitkit.analysis.draw.canvas import inks_of
from deitkit.analysis.report import Report, Table
from deitkit.files import write_atomic


def save_report(report: Report, folder: Path) -> list[Path]:
    """Write the report's files into the folder, each whole or not at all, and name them."""
    contents: dict[str, bytes | str] = {
        f"{report.name}.json": json.dumps(report.as_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    }
    for table in report.tables:
        contents[f"{report.name}_{table.name}.csv"] = _csv(table)
    inks = inks_of(report.figures)
    for figure in report.figures:
        for suffix in ("png", "svg"):
            contents[f"{report.name}_{figure.name}.{suffix}"] = draw(figure, suffix, inks)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()
