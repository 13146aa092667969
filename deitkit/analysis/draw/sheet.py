"""What all figures share: colours, a titled sheet, names along an axis, the scale of shaded values. Draws no data.

Series have the colours of Okabe and Ito (2008), which people who see colours differently can tell apart, and markers
of their own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DOTS_PER_INCH = 150
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "0.5"  # of what others published
SHADES, DIVERGING_SHADES = "Blues", "RdBu_r"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 10,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a class may be called `$a$`
    "svg.hashsalt": "deitkit",  # equal reports give equal files
}
WIDEST = 13.0  # inches
CHARACTERS_PER_INCH = 10.5  # of a line of text: a cautious mean
ROUND_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000)
LONGEST_NAME = 26  # characters in a line of a tick's name


def colour(number: int) -> str:
    """The colour of the series of that number."""
    return COLOURS[number % len(COLOURS)]


def line(number: int) -> str:
    """The line style of the series of that number: colours come back after eight."""
    return ("solid", "dashed", "dotted")[number // len(COLOURS) % 3]


def marker(number: int) -> str:
    """The marker of the series of that number."""
    return MARKERS[number % len(MARKERS)]


def sheet(title: str, width: float, height: float) -> Figure:
    """An empty figure of that many inches, its title wrapped to its width."""
    figure = Figure(figsize=(width, height), layout="compressed")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr,call-arg]
    figure.suptitle(wrapped(title, width), x=0.12 / width, ha="left")
    return figure


def wrapped(title: str, width: float) -> str:
    """A title's lines, broken where they would be wider than so many inches."""
    lines = [textwrap.fill(line, int(width * CHARACTERS_PER_INCH)) for line in title.rstrip().split("\n")]
    return "\n".join(lines)


def name_ticks(axes: Axes, names: Sequence[str], axis: str, *, most: int) -> None:
    """Every name, or at most `most` at equal, round distances; long ones are broken, and slanted below an axis."""
    least = -(-len(names) // most)
    step = next((step for step in ROUND_STEPS if step >= least), least)
    shown = range(0, len(names), step)
    texts = [textwrap.fill(names[place], LONGEST_NAME) if step == 1 else _cut(names[place]) for place in shown]
    if axis == "y":
        axes.set_yticks(list(shown), texts)
        return
    room = float(axes.figure.bbox.width) / axes.figure.dpi * CHARACTERS_PER_INCH * 0.75
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    if (longest + 2) * len(texts) < room:
        axes.set_xticks(list(shown), texts)
    else:
        axes.set_xticks(list(shown), texts, rotation=35, ha="right", rotation_mode="anchor")


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"


def numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    """None becomes NaN, which is not drawn."""
    return np.array(values, dtype=np.float64)


def scale(values: Sequence[NDArray[Any]], *, diverging: bool) -> tuple[float, float]:
    """The range of shades for all the values: around 0 where diverging, from 0 where none is negative."""
    finite = np.concatenate([each[np.isfinite(each)].ravel() for each in values])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if diverging:
        most = max(abs(low), abs(high)) or 1.0
        return -most, most
    low = min(0.0, low)
    return low, high if high > low else low + 1.0
