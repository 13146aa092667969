"""Matrices and rows of pictures: what is shaded by value. Measures nothing."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from deitkit.analysis.draw.canvas import COLD, FILE, HEAT, Canvas
from deitkit.analysis.draw.sheet import DIVERGING_SHADES, SHADES, name_ticks, scale, settle, sheet, wrapped
from deitkit.analysis.report import Matrix, Panel, Panels

STRONG = 0.6  # share of the greatest value from which words in a cell of a page change their colour
FAINTEST = 0.001  # share of a cell of 0: what is not filled says nothing to who points at it
CELL, WIDEST_CELL, ROOM, EDGE = 0.4, 0.8, 6.9, 0.02  # inches of a page's cells and of a row of them; what is left free
MOST_WRITTEN = 25  # rows or columns of a matrix with numbers in its cells
MOST_NAMES, MOST_NAMES_BELOW = 40, 25  # along the sides of a matrix
PLAIN_SIDE = 8.0  # inches of a matrix without numbers
GAP, LINE = 0.1, 0.17  # inches between pictures, and of a line above one
PICTURES_WIDTH, LEAST_SIDE, GREATEST_SIDE = 10.0, 0.9, 2.4  # inches
SCALE_ROOM, SCALE_WIDTH = 0.75, 3.0  # inches: what shades mean stands below


def draw_matrix(matrix: Matrix, canvas: Canvas) -> Figure:
    """Cells shaded by value; a reference stands in brackets under the value that it belongs to."""
    values = np.array(matrix.values, dtype=np.float64)
    columns, look = matrix.columns or matrix.labels, canvas.look
    written = max(values.shape) <= MOST_WRITTEN
    width, height = (_side(len(names)) if written else PLAIN_SIDE for names in (columns, matrix.labels))
    across = min(max(ROOM / len(columns), CELL), WIDEST_CELL) * len(columns)  # on a page
    title = f"{matrix.title}\n{matrix.references_title}"
    figure = sheet(title, across if look.page else width + 1.6, max(height, 3.2), look)
    axes = figure.add_subplot()
    shaded = _page_cells(axes, matrix, values, canvas) if look.page else _cells(axes, matrix, values, written=written)
    name_ticks(axes, columns, "x", most=MOST_NAMES_BELOW, look=look)
    name_ticks(axes, matrix.labels, "y", most=MOST_NAMES, look=look)
    axes.set(xlabel=matrix.x_label, ylabel=matrix.y_label)
    axes.tick_params(length=0 if written else 3)
    axes.spines[:].set_visible(False)
    if written:
        for row, column in np.argwhere(np.isfinite(values)):
            _write_cell(axes, matrix, row, column, look.on if shaded[row, column] else look.ink)
    settle(axes, look, inner=(across, CELL * len(matrix.labels)))
    return figure


def _side(cells: int) -> float:
    """Inches for so many cells with numbers, and for the names beside them."""
    return 2.4 + (0.9 if cells <= 8 else 0.65) * cells


def _cells(axes: Axes, matrix: Matrix, values: NDArray[np.float64], *, written: bool) -> NDArray[np.bool_]:
    """Cells in matplotlib's shades, and what they mean; which are so dark that words on them are white."""
    low, high = scale([values], diverging=matrix.diverging)
    shades = DIVERGING_SHADES if matrix.diverging else SHADES
    square = written or values.shape[0] == values.shape[1]
    image = axes.imshow(values, cmap=shades, vmin=low, vmax=high, aspect="equal" if square else "auto")
    axes.get_figure().colorbar(image, ax=axes, shrink=0.8, label=matrix.unit)  # type: ignore[union-attr]
    return np.asarray(image.to_rgba(values)[..., :3] @ (0.299, 0.587, 0.114) < 0.55)


def _page_cells(axes: Axes, matrix: Matrix, values: NDArray[np.float64], canvas: Canvas) -> NDArray[np.bool_]:
    """Cells in one colour of the page's, more of it for greater values, so that they are right in the dark, too."""
    shares = np.abs(values) / (np.nanmax(np.abs(values), initial=0.0) or 1.0)
    columns = matrix.columns or matrix.labels
    places = np.argwhere(np.isfinite(values))
    half = 0.5 - EDGE
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    squares = [corners + np.array((column, row)) for row, column in places]
    colours = [
        to_rgba(
            COLD if matrix.diverging and values[row, column] < 0 else HEAT, max(FAINTEST, float(shares[row, column]))
        )
        for row, column in places
    ]
    cells = PolyCollection(squares, facecolors=colours, linewidths=0)
    axes.add_collection(cells)
    canvas.say(
        cells,
        [
            f"{matrix.labels[row]}, {columns[column]}: {format(values[row, column], matrix.cell)}"
            for row, column in places
        ],
    )
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    return shares > STRONG


def _write_cell(axes: Axes, matrix: Matrix, row: int, column: int, colour: str) -> None:
    reference = matrix.references[row][column] if matrix.references else None
    text = format(matrix.values[row][column], matrix.cell)
    text += "" if reference is None else f"\n({format(reference, matrix.cell)})"
    axes.text(column, row, text, ha="center", va="center", color=colour)


def draw_panels(panels: Panels) -> Figure:
    """Placed by hand, because the layout engine takes seconds for a hundred pictures."""
    columns, rows = max((len(row) for row in panels.rows), default=1), max(1, len(panels.rows))
    side = min(max(PICTURES_WIDTH / columns, LEAST_SIDE), GREATEST_SIDE)
    shaded = [panel.values for row in panels.rows for panel in row if panel.values.ndim == 2]
    bounds = scale(shaded, diverging=panels.diverging) if panels.shared and shaded else None
    titles = [[_panel_title(panel, side, bounds) for panel in row] for row in panels.rows]
    above = LINE * max((title.count("\n") + 1 for row in titles for title in row if title), default=0) + GAP
    width = max(columns * (side + GAP) + GAP, 4.0)
    heading = wrapped(panels.title, width)
    top = 2 * GAP + 0.19 * (heading.count("\n") + 1)
    height = top + rows * (side + above) + (SCALE_ROOM if shaded else GAP)
    figure = Figure(figsize=(width, height))
    figure.suptitle(heading, x=GAP / width, y=1 - GAP / height, ha="left", va="top")
    image = None
    for row, line in enumerate(panels.rows):
        bottom = height - top - (row + 1) * (side + above)
        for column, panel in enumerate(line):
            left = GAP + column * (side + GAP)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            axes.set_title(titles[row][column], fontsize=8, loc="left", pad=3)
            drawn = _picture(axes, panel, panels, bounds)
            image = drawn if panel.values.ndim == 2 else image
    if image is not None:
        _say_scale(figure, image, panels, width=width, height=height, shared=bounds is not None)
    return figure


def _panel_title(panel: Panel, side: float, bounds: tuple[float, float] | None) -> str:
    """The title in lines that fit; a picture with a scale of its own says it."""
    lines = textwrap.wrap(panel.title, max(8, int(side * FILE.letters * 1.25)))
    if bounds is None and panel.values.ndim == 2:
        low, high = scale_of(panel.values)
        lines.append(f"{low:.2g} to {high:.2g}")
    return "\n".join(lines)


def scale_of(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _picture(axes: Axes, panel: Panel, panels: Panels, bounds: tuple[float, float] | None) -> AxesImage:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if panel.values.ndim == 3:
        return axes.imshow(panel.values)
    values = np.asarray(panel.values, dtype=np.float64)
    low, high = bounds or (scale([values], diverging=True) if panels.diverging else scale_of(values))
    return axes.imshow(values, cmap=DIVERGING_SHADES if panels.diverging else "viridis", vmin=low, vmax=high)


def _say_scale(figure: Figure, image: AxesImage, panels: Panels, *, width: float, height: float, shared: bool) -> None:
    if shared:
        bar = figure.add_axes((0.2 / width, 0.5 / height, SCALE_WIDTH / width, 0.12 / height))
        figure.colorbar(image, cax=bar, orientation="horizontal", label=panels.unit, ticks=MaxNLocator(5))
        return
    ends = "around 0, to its greatest size" if panels.diverging else "from its least value (dark) to its greatest"
    unit = f", in {panels.unit}" if panels.unit else ""
    figure.text(GAP / width, 0.25 / height, wrapped(f"each shaded {ends}{unit}", width), fontsize=9)
