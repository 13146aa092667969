"""Figures of reports by matplotlib: the bytes of a PNG or SVG file here, SVG for a page of HTML in `draw.page`.

Measures nothing, writes no file.
"""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from deitkit.analysis.draw.canvas import NO_INKS, Canvas, Inks
from deitkit.analysis.draw.grids import draw_matrix, draw_panels
from deitkit.analysis.draw.plots import draw_bars, draw_curves, draw_points
from deitkit.analysis.draw.sheet import DOTS_PER_INCH
from deitkit.analysis.report import AnyFigure, Bars, Curves, Matrix, Points


def draw(figure: AnyFigure, suffix: str, inks: Inks = NO_INKS) -> bytes:
    """The figure as the bytes of a `png` or `svg` file; equal figures are equal bytes.

    `inks` are the numbers that names of series have in other figures too, and so their colours.
    """
    canvas = Canvas(inks=inks)
    with mpl.rc_context(dict(canvas.look.style)):
        file, metadata = io.BytesIO(), {"Date": None} if suffix == "svg" else {}
        draw_figure(figure, canvas).savefig(file, format=suffix, dpi=DOTS_PER_INCH, metadata=metadata)
    return file.getvalue()


def draw_figure(figure: AnyFigure, canvas: Canvas) -> Figure:
    """The figure as matplotlib has it, to be saved with the canvas's style still set."""
    if isinstance(figure, Matrix):
        return draw_matrix(figure, canvas)
    if isinstance(figure, Curves):
        return draw_curves(figure, canvas)
    if isinstance(figure, Points):
        return draw_points(figure, canvas)
    if isinstance(figure, Bars):
        return draw_bars(figure, canvas)
    return draw_panels(figure)
