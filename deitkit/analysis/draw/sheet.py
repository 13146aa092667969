"""What all figures share: colours, a titled sheet, names along an axis, the scale of shaded values. Draws no data.

Series have the colours of Okabe and Ito (2008), which people who see colours differently can tell apart, and markers
of their own.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from deitkit.analysis.draw.canvas import FILE, CanvasLook

DOTS_PER_INCH = 150
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#010101",
    "#8c6d1f",
)  # pure black has no fill in an SVG
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHADES, DIVERGING_SHADES = "Blues", "RdBu_r"
WIDEST = 13.0  # inches
ROUND_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000)
LONGEST_NAME = 26  # characters in a line of a tick's name
SLANT = 35  # degrees
ABOVE, ASIDE, NAME, LINE = 0.1, 0.1, 0.2, 0.145  # inches on a page: beside the axes, for an axis's name, for a line


def colour(number: int) -> str:
    """The colour of the series of that number."""
    return COLOURS[number % len(COLOURS)]


def line(number: int) -> str:
    """The line style of the series of that number: colours come back after eight."""
    return ("solid", "dashed", "dotted")[number // len(COLOURS) % 3]


def marker(number: int) -> str:
    """The marker of the series of that number."""
    return MARKERS[number % len(MARKERS)]


def sheet(title: str, width: float, height: float, look: CanvasLook) -> Figure:
    """An empty figure of that many inches, in a file with its title wrapped to its width."""
    if look.page:  # placed by `settle`: matplotlib's layout takes longer than all the rest
        figure = Figure(figsize=(width, height))
        figure.patch.set_visible(False)
        return figure
    figure = Figure(figsize=(width, height), layout="compressed")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr,call-arg]
    figure.suptitle(wrapped(title, width), x=0.12 / width, ha="left")
    return figure


def settle(axes: Axes, look: CanvasLook, *, inner: tuple[float, float], below: float = 0.0) -> None:
    """On a page: as much room around the axes as their words need; `below` are the inches of a legend.

    `inner` are the inches of the axes; a width of 0 is what the figure's width leaves.
    """
    figure = axes.get_figure()
    if not look.page or not isinstance(figure, Figure):
        return
    axes.patch.set_visible(False)
    width = figure.get_figwidth()
    for _ in range(2):  # taller axes may have other ticks
        left, right, under = _room(axes, look)
        across, under = inner[0] or width - left - right, under + below
        whole = (left + across + right, under + inner[1] + ABOVE)
        figure.set_size_inches(*whole)
        axes.set_position((left / whole[0], under / whole[1], across / whole[0], inner[1] / whole[1]))


def _room(axes: Axes, look: CanvasLook) -> tuple[float, float, float]:
    """Inches on the left, on the right and below, for what stands at the ticks and for the names of the axes."""
    beside, names = (_ticks(axis) for axis in (axes.yaxis, axes.xaxis))
    left = 0.1 + max((_inches(name, look) for _, name in beside), default=0.0)
    right = max(ASIDE, _inches(names[-1][1], look) / 2 if names else 0.0)
    under = LINE * max((name.count("\n") + 1 for _, name in names), default=0) + 0.06
    if any(label.get_rotation() for label in axes.get_xticklabels()[:1]):
        width = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
        slanted = [(place * width, _inches(name, look)) for place, name in names]
        left = max(left, *(math.cos(math.radians(SLANT)) * length - place + 0.15 for place, length in slanted))
        right, under = ASIDE, math.sin(math.radians(SLANT)) * max(length for _, length in slanted) + under
    return left + NAME * bool(axes.get_ylabel()), right, under + NAME * bool(axes.get_xlabel()) + 0.03


def _inches(name: str, look: CanvasLook) -> float:
    """The width of the widest line of a name."""
    font = FontProperties(family=look.style["font.family"], size=look.size)
    widths = [text_to_path.get_text_width_height_descent(text, font, False)[0] for text in name.split("\n")]
    return float(max(widths)) / 72


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """What stands at an axis's ticks, and where between the axis's ends (0 to 1)."""
    low, high = sorted(axis.get_view_interval())
    places = [float(place) for place in axis.get_majorticklocs() if low <= place <= high]
    names = axis.get_major_formatter().format_ticks(places)
    return [((place - low) / (high - low), name) for place, name in zip(places, names, strict=True) if name]


def wrapped(title: str, width: float) -> str:
    """A title's lines, broken where they would be wider than so many inches."""
    lines = [textwrap.fill(line, int(width * FILE.letters)) for line in title.rstrip().split("\n")]
    return "\n".join(lines)


def name_ticks(axes: Axes, names: Sequence[str], axis: str, *, most: int, look: CanvasLook) -> None:
    """Every name, or at most `most` at equal, round distances; long ones are broken, and slanted below an axis."""
    least = -(-len(names) // most)
    step = next((step for step in ROUND_STEPS if step >= least), least)
    shown = range(0, len(names), step)
    texts = [textwrap.fill(names[place], LONGEST_NAME) if step == 1 else _cut(names[place]) for place in shown]
    if axis == "y":
        axes.set_yticks(list(shown), texts)
        return
    room = float(axes.figure.bbox.width) / axes.figure.dpi * look.letters * 0.75
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    if (longest + 2) * len(texts) < room:
        axes.set_xticks(list(shown), texts)
    else:
        axes.set_xticks(list(shown), texts, rotation=SLANT, ha="right", rotation_mode="anchor")


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
