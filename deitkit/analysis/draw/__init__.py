"""Figures of reports as the bytes of a PNG or SVG, by matplotlib. Measures nothing, writes no file."""

from __future__ import annotations

import io

import matplotlib as mpl

from deitkit.analysis.draw.grids import draw_matrix, draw_panels
from deitkit.analysis.draw.plots import draw_bars, draw_curves, draw_points
from deitkit.analysis.draw.sheet import DOTS_PER_INCH, STYLE
from deitkit.analysis.report import AnyFigure, Bars, Curves, Matrix, Points


def draw(figure: AnyFigure, suffix: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file; equal figures are equal bytes."""
    with mpl.rc_context(STYLE):
        if isinstance(figure, Matrix):
            drawn = draw_matrix(figure)
        elif isinstance(figure, Curves):
            drawn = draw_curves(figure)
        elif isinstance(figure, Points):
            drawn = draw_points(figure)
        elif isinstance(figure, Bars):
            drawn = draw_bars(figure)
        else:
            drawn = draw_panels(figure)
        file = io.BytesIO()
        drawn.savefig(file, format=suffix, dpi=DOTS_PER_INCH, metadata={"Date": None} if suffix == "svg" else {})
    return file.getvalue()
