"""Curves, bars and points on two axes. Measures nothing."""

from __future__ import annotations

import itertools
import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from deitkit.analysis.draw.canvas import Canvas, CanvasLook
from deitkit.analysis.draw.sheet import LINE, WIDEST, colour, line, marker, name_ticks, numbers, settle, sheet, wrapped
from deitkit.analysis.report import Bars, Cloud, Curves, Points

MOST_BELOW = 4  # entries of a legend that stands below the axes
MOST_NAMED, PLAIN_WIDTH = 20, 9.0  # places of a curve that make it wider, and inches of one that has more
PAGE_WIDTH, INNER = 5.2, 2.45  # inches on a page: of a figure, twice as much of a wide one; the height of its axes
WIDER, WIDER_BARS = 18, 25  # places and bars from which a figure takes a page's whole width
ROW = 0.175  # inches of a row of a legend on a page
MOST_MARKED, MOST_JOINED = 40, 60  # points of a curve, and of a line on average, that have markers
MOST_WRITTEN, MOST_WRITTEN_ON_PAGE = 16, 10  # bars with their number on them
NAMES_PER_INCH = 3
LINE_STEP = 6  # dots between the places of a line that names keep off
# Where a point's name may stand: points of 1/72 inch to the right and up, and which end of it.
BESIDE = ((6, 0, "left"), (-6, 0, "right"), (0, 9, "center"), (0, -9, "center"), (6, 9, "left"), (-6, 9, "right"),
          (6, -9, "left"), (-6, -9, "right"), (0, 18, "center"), (0, -18, "center"))  # fmt: skip


def draw_curves(curves: Curves, canvas: Canvas) -> Figure:
    """Lines over named places; spreads as bands."""
    look, count = canvas.look, len(curves.ticks)
    width = max(6.4, 2.4 + 0.5 * count) if count <= MOST_NAMED else PLAIN_WIDTH
    width = PAGE_WIDTH * (1 + is_wide(curves)) if look.page else width
    figure, axes = _axes(curves, width, entries=len(curves.series) + len(curves.references), look=look)
    places = np.arange(count)
    for number, series in zip(canvas.numbers(curves), curves.series, strict=True):
        values, shape = numbers(series.values), marker(number) if count <= MOST_MARKED else None
        (drawn,) = axes.plot(
            places, values, marker=shape, markersize=4, color=look.published if series.published else colour(number),
            linestyle="dashed" if series.published else line(number), label=series.label,
        )  # fmt: skip
        if shape:
            finite = np.flatnonzero(np.isfinite(values))
            canvas.say(drawn, [f"{series.label}, {curves.ticks[place]}: {values[place]:.4g}" for place in finite])
        if series.spread:
            spread = numbers(series.spread)
            low, high = (np.clip(values + sign * spread, *(curves.bounds or (None, None))) for sign in (-1, 1))
            axes.fill_between(places, low, high, color=colour(number), alpha=0.2, linewidth=0)
    for number, reference in enumerate(curves.references):
        (drawn,) = axes.plot(
            [reference.first - 0.35, reference.last + 0.35], [reference.value] * 2, color=look.quiet,
            linestyle=("dashed", "dotted", "dashdot")[number % 3], label=reference.label,
        )  # fmt: skip
        canvas.say(drawn, [f"{reference.label}: {reference.value:.4g}"])
    axes.margins(x=0.03)
    name_ticks(axes, curves.ticks, "x", most=int(width * NAMES_PER_INCH), look=look)
    _legend(figure, axes, look)
    return figure


def draw_bars(bars: Bars, canvas: Canvas) -> Figure:
    """Sets of bars side by side; numbers on them where they are few, spreads as whiskers."""
    count, sets, look = len(bars.ticks), max(1, len(bars.series)), canvas.look
    width = min(max(6.4, 2.0 + 0.28 * count * sets), WIDEST)
    width = PAGE_WIDTH * (1 + is_wide(bars)) if look.page else width
    figure, axes = _axes(bars, width, entries=len(bars.series), look=look)
    places, thickness = np.arange(count), 0.8 / sets
    for place, (number, series) in enumerate(zip(canvas.numbers(bars), bars.series, strict=True)):
        drawn = axes.bar(
            places + (place - (sets - 1) / 2) * thickness, numbers(series.values), thickness * 0.94,
            yerr=numbers(series.spread) if series.spread else None,
            error_kw={"ecolor": look.quiet, "elinewidth": 1, "capsize": 2}, color=colour(number), label=series.label,
        )  # fmt: skip
        for bar, name, value in zip(drawn, bars.ticks, series.values, strict=True):
            canvas.say(bar, [] if value is None else [f"{series.label}, {name}: {value:.4g}"])
        if count * sets <= (MOST_WRITTEN_ON_PAGE if look.page else MOST_WRITTEN) and not series.spread:
            axes.bar_label(drawn, [_short(value) for value in series.values], padding=2, fontsize=8)
    axes.axhline(0, color=look.quiet, linewidth=0.8)
    axes.margins(x=0.02, y=0.1)
    name_ticks(axes, bars.ticks, "x", most=int(width * NAMES_PER_INCH), look=look)
    _legend(figure, axes, look, shown=sets > 1)
    return figure


def is_wide(figure: Curves | Bars) -> bool:
    """Whether the figure takes the whole width of a page."""
    bars = len(figure.series) if isinstance(figure, Bars) else 1
    return len(figure.ticks) * bars >= (WIDER_BARS if isinstance(figure, Bars) else WIDER)


def draw_points(points: Points, canvas: Canvas) -> Figure:
    """Clouds with a colour and a marker each; names stand where they cover least."""
    look = canvas.look
    width = PAGE_WIDTH if look.page else 6.4 if points.diagonal else 7.6
    figure, axes = _axes(points, width, entries=len(points.clouds), look=look)
    axes.grid(axis="x")
    if points.log_x:
        _log_axis(axes, [value for cloud in points.clouds for value in cloud.x])
    elif all(float(value).is_integer() for cloud in points.clouds for value in cloud.x):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    marked = not points.joined or sum(len(cloud.x) for cloud in points.clouds) <= MOST_JOINED * len(points.clouds)
    for number, cloud in zip(canvas.numbers(points), points.clouds, strict=True):
        drawn = _plot_cloud(axes, cloud, number, look=look, joined=points.joined, marked=marked and not cloud.line)
        if marked and not cloud.line:
            canvas.say(drawn, _spelled(cloud, points))
    axes.margins(0.02 if points.joined and look.page and not points.diagonal else 0.08, 0.08)
    if points.diagonal:
        _diagonal(axes, look)
    _legend(figure, axes, look, shown=any(cloud.label for cloud in points.clouds))
    _name_points(figure, axes, points, look)
    return figure


def _plot_cloud(axes: Axes, cloud: Cloud, number: int, *, look: CanvasLook, joined: bool, marked: bool) -> Line2D:
    """Marks, filled where they are ours, with whiskers; or a line alone."""
    few, ink = len(cloud.x) <= 200, look.published if cloud.published or cloud.line else colour(number)
    (drawn,) = axes.plot(
        cloud.x, cloud.y, marker=marker(number) if marked else "", linewidth=1.4, color=ink, label=cloud.label,
        linestyle="dashed" if cloud.line else line(number) if joined else "",
        markersize=(5 if look.page else 6) if few else 3,
        alpha=1.0 if few else 0.6, markeredgewidth=1.2 if cloud.published else 0,
        markerfacecolor=look.ground if cloud.published else ink, zorder=1.5 if cloud.line else 2,
    )  # fmt: skip
    if cloud.intervals:
        low, high = zip(*cloud.intervals, strict=True)
        axes.vlines(cloud.x, low, high, colors=ink, linewidth=1, alpha=0.6)
    return drawn


def _spelled(cloud: Cloud, points: Points) -> list[str]:
    """What each mark that can be drawn says: its name, and both values with their units."""
    said = []
    for place, (x, y) in enumerate(zip(cloud.x, cloud.y, strict=True)):
        name = cloud.names[place] if place < len(cloud.names) else cloud.label
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not points.log_x):
            said.append(f"{name}: {_number(x)} {points.x_label}, {_number(round(y, 4))} {points.y_label}")
    return said


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.6g}"


def _axes(figure: Curves | Bars | Points, width: float, *, entries: int, look: CanvasLook) -> tuple[Figure, Axes]:
    """Axes with their names; in a file many entries of a legend need room beside them."""
    beside = entries > MOST_BELOW and not look.page
    height = INNER if look.page else max(4.9, (1.0 + 0.26 * entries) * beside)
    page = sheet(wrapped(figure.title, width), width + 2.4 * beside, height, look)
    axes = page.add_subplot()
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    axes.grid(axis="y")
    return page, axes


def _legend(figure: Figure, axes: Axes, look: CanvasLook, *, shown: bool = True) -> None:
    """Outside of the axes, where it hides nothing: in rows below them, or beside them where there are many entries.

    On a page always below them; and the axes get their place.
    """
    handles, labels = axes.get_legend_handles_labels() if shown else ([], [])
    below = 0.0
    if len(handles) > MOST_BELOW and not look.page:
        names = [textwrap.fill(label, 30) for label in labels]
        figure.legend(handles, names, frameon=False, loc="outside right upper", fontsize=9)
    elif handles:
        longest = max(len(label) for label in labels) + 6  # the line before it is as long as six letters
        room = int(float(figure.get_size_inches()[0]) * look.letters * 1.1)
        columns = max(1, min(len(handles), room // longest))
        names = [textwrap.fill(label, room - 8) for label in labels]
        figure.legend(
            handles, names, loc="lower left" if look.page else "outside lower left", frameon=False,
            fontsize=min(9, look.size), ncols=columns,
        )  # fmt: skip
        rows = [names[row::columns] for row in range(-(-len(names) // columns))]
        below = 0.16 + sum(ROW + LINE * max(name.count("\n") for name in row) for row in rows)
    settle(axes, look, inner=(0, INNER), below=below)


def _diagonal(axes: Axes, look: CanvasLook) -> None:
    """y = x across the range of both axes; curved where x is logarithmic."""
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    line = np.linspace(low, high, 200)
    axes.plot(line, line, color=look.quiet, linestyle="dashed", linewidth=1, zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high))


def _log_axis(axes: Axes, values: list[float]) -> None:
    axes.set_xscale("log", nonpositive="mask")
    near = bool(values) and max(values) < 8 * min(values)
    axes.xaxis.set_major_locator(MaxNLocator(6) if near else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _name_points(figure: Figure, axes: Axes, points: Points, look: CanvasLook) -> None:
    """Each name goes where it covers least: no point and no other name, and it stays inside the axes."""
    if not any(cloud.names for cloud in points.clouds):
        return
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    if look.page:
        axes.autoscale_view()
    else:
        figure.draw_without_rendering()  # to lay it out
    marked = [cloud for cloud in points.clouds if not cloud.line]
    taken = [_around(axes, x, y, y) for cloud in marked for x, y in zip(cloud.x, cloud.y, strict=True)]
    taken += [_around(axes, x, *ends) for cloud in marked for x, ends in zip(cloud.x, cloud.intervals, strict=False)]
    taken += [box for cloud in points.clouds if points.joined or cloud.line for box in _along(axes, cloud)]
    within = np.array([axes.get_window_extent(renderer).extents])
    for cloud in points.clouds:
        for x, y, name in zip(cloud.x, cloud.y, cloud.names, strict=False):
            if not name:
                continue
            tried = [_written(axes, name, (x, y), where, look) for where in BESIDE]
            boxes = [text.get_window_extent(renderer) for text in tried]
            edges = np.array([other.extents for other in taken])
            costs = [
                _covered(box, edges) + 2 * (float(box.width * box.height) - _covered(box, within)) for box in boxes
            ]
            best = costs.index(min(costs))
            taken.append(boxes[best])
            for text in tried[:best] + tried[best + 1 :]:
                text.remove()


def _written(
    axes: Axes, name: str, at: tuple[float, float], where: tuple[int, int, str], look: CanvasLook
) -> Annotation:
    right, up, end = where
    return axes.annotate(
        name, at, (right, up), textcoords="offset points", ha=end, va="center", fontsize=look.small, color=look.ink
    )


def _around(axes: Axes, x: float, low: float, high: float) -> Bbox:
    (across, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
    margin = 5 if low == high else 1  # a mark, or a whisker
    return Bbox.from_extents(across - margin, bottom - margin, across + margin, top + margin)


def _along(axes: Axes, cloud: Cloud) -> list[Bbox]:
    """Small boxes on a cloud's line, so that names keep off it."""
    places = axes.transData.transform(np.column_stack([cloud.x, cloud.y]))
    found = []
    for start, end in itertools.pairwise(places):
        steps = max(2, int(np.abs(end - start).max() / LINE_STEP))
        found += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in np.linspace(start, end, steps)]
    return found


def _covered(box: Bbox, edges: NDArray[np.float64]) -> float:
    """What the box shares with others, by their edges (left, bottom, right, top) [n, 4]."""
    left, bottom, right, top = box.extents
    across = np.minimum(edges[:, 2], right) - np.maximum(edges[:, 0], left)
    up = np.minimum(edges[:, 3], top) - np.maximum(edges[:, 1], bottom)
    return float(sum((across.clip(0) * up.clip(0)).tolist()))
