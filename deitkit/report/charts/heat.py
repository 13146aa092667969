"""Matrices as SVG that takes the page's colours: shades of one colour over the page's own ground. Measures nothing."""

from __future__ import annotations

import math

from markupsafe import escape

from deitkit.analysis.report import Matrix
from deitkit.report.charts.axes import LETTER, Frame, words
from deitkit.report.charts.marks import WIDTH, Drawing

STRONG = 0.6  # share of the darkest shade from which words in a cell change their colour
SIDE, WIDEST, LEAST, ROOM = 38.0, 74.0, 38.0, 640.0  # units: a cell's height and widths, and of all cells of a row
LONGEST = 34  # letters of a name
Place = tuple[float, float, float, float]


def matrix(figure: Matrix, key: str) -> Drawing:
    """Cells shaded by value, their numbers in them; published values in brackets below."""
    columns = figure.columns or figure.labels
    side_x, side_y = max(LEAST, min(WIDEST, ROOM / len(columns))), SIDE
    left = 14 + LETTER * min(LONGEST, max(len(label) for label in figure.labels)) + (18 if figure.y_label else 0)
    below = 14 + 0.62 * LETTER * min(LONGEST, max(len(label) for label in columns)) + (20 if figure.x_label else 0)
    width, height = left + side_x * len(columns) + 30, side_y * len(figure.labels) + below + 8
    most = max((abs(value) for row in figure.values for value in row if math.isfinite(value)), default=0.0) or 1.0
    body = []
    for row, label in enumerate(figure.labels):
        body.append(words(left - 7, row * side_y + 24, _cut(label), anchor="end"))
        for column, value in enumerate(figure.values[row]):
            reference = figure.references[row][column] if figure.references else None
            place = (left + column * side_x, row * side_y + 2, side_x - 2, side_y - 2)
            names = f"{label}, {columns[column]}"
            body += _cell(value, reference, place, share=abs(value) / most, figure=figure, names=names)
    for column, label in enumerate(columns):
        at = left + (column + 0.5) * side_x
        body.append(words(at, side_y * len(figure.labels) + 16, _cut(label), anchor="end", turned=-35))
    if figure.x_label:
        body.append(words((left + width) / 2, height - 6, figure.x_label, kind="name"))
    if figure.y_label:
        body.append(words(12, side_y * len(figure.labels) / 2, figure.y_label, kind="name", turned=-90))
    frame = Frame(width, height, 0, 0, 0, 0)
    svg = frame.svg(
        body, key=key, title=figure.title, summary=f"{len(figure.labels)} by {len(columns)} cells, in {figure.unit}."
    )
    note = "; ".join(part for part in (figure.unit, figure.references_title) if part)
    return Drawing(key, figure.title, svg, wide=width > WIDTH * 1.3, note=note)


def _cell(
    value: float, reference: float | None, place: Place, *, share: float, figure: Matrix, names: str
) -> list[str]:  # fmt: skip
    if not math.isfinite(value):
        return []
    x, y, width, height = place
    kind = "minus" if figure.diverging and value < 0 else "plus"
    text = format(value, figure.cell)
    strong = "on" if share > STRONG else ""
    parts = [
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f' fill-opacity="{share:.2f}"><title>{escape(f"{names}: {text}")}</title></rect>',
        words(x + width / 2, y + height / 2 + (4 if reference is None else -2), text, kind=strong),
    ]
    if reference is not None:
        published = f"({format(reference, figure.cell)})"
        parts.append(words(x + width / 2, y + height / 2 + 12, published, kind=f"small {strong}".rstrip()))
    return parts


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
