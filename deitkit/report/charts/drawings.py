"""Figures of reports as SVG that takes the page's colours, so that it is right in light, in dark and on paper.

The same figures as PNG and SVG files are drawn by `deitkit.analysis.draw`. Large ones are not drawn here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import escape

from deitkit.analysis.report import AnyFigure, Bars, Cloud, Curves, Matrix, Points
from deitkit.report.charts.axes import Frame, Scale, named_ticks, number, room, words
from deitkit.report.charts.heat import matrix
from deitkit.report.charts.marks import HEIGHT, PUBLISHED, WIDTH, Drawing, Entry, mark, polyline, style
from deitkit.report.charts.naming import place_names

WIDER = 18  # names along an axis from which a drawing takes the whole width of the page
LINE_STEP = 12.0  # units between the places of a line that names keep off
MOST_CELLS, MOST_BARS, MOST_POINTS, MOST_MARKED = 25, 60, 600, 60


def drawing(figure: AnyFigure, key: str) -> Drawing | None:
    """The figure for a page, or None where it is too large for that or made of pictures."""
    if isinstance(figure, Matrix):
        size = max(len(figure.labels), len(figure.columns or figure.labels))
        return matrix(figure, key) if 0 < size <= MOST_CELLS else None
    if isinstance(figure, Curves):
        return curves(figure, key)
    if isinstance(figure, Points):
        return points(figure, key) if sum(len(cloud.x) for cloud in figure.clouds) <= MOST_POINTS else None
    if isinstance(figure, Bars):
        return bars(figure, key) if len(figure.ticks) * len(figure.series) <= MOST_BARS else None
    return None


# Lines and points


def points(figure: Points, key: str) -> Drawing:
    """Clouds, joined where the figure says so; markers where they are few, names beside them."""
    low, high, y_low, y_high = _extent(figure)
    y_texts = Scale(y_low, y_high, 0, 1).ticks(5)
    frame = Frame.of(WIDTH, HEIGHT, y_ticks=y_texts, x_names=[(0, "00,000")], slanted=False)
    x = Scale(low, high, frame.left + 8, frame.right - 8, figure.log_x)
    y = Scale(y_low, y_high, frame.bottom, frame.top)
    whole = all(float(value).is_integer() for cloud in figure.clouds for value in cloud.x)
    body = frame.axes(
        [(x(at), text) for at, text in x.ticks(6) if not whole or at.is_integer()],
        [(y(at), text) for at, text in y_texts], x_label=figure.x_label, y_label=figure.y_label, slanted=False,
    )  # fmt: skip
    if figure.diagonal:
        body.append(f'<path class="ref l" d="M{x(low):.1f} {y(low):.1f}L{x(high):.1f} {y(high):.1f}"/>')
    marked = sum(len(cloud.x) for cloud in figure.clouds) / max(1, len(figure.clouds)) <= MOST_MARKED
    for series, cloud in enumerate(figure.clouds):
        body += _cloud(cloud, series, x, y, joined=figure.joined, marked=marked or not figure.joined, figure=figure)
    named = [
        (x(across), y(up), name)
        for cloud in figure.clouds
        if not cloud.line
        for across, up, name in zip(cloud.x, cloud.y, cloud.names, strict=False)
        if name and math.isfinite(up) and (across > 0 or not x.log)
    ]
    lines = [place for cloud in figure.clouds if figure.joined or cloud.line for place in _along(cloud, x, y)]
    body += place_names([*named, *lines], frame)[: len(named)] if named else []  # names keep off lines
    legend = [
        Entry(PUBLISHED if cloud.line else series, cloud.label, cloud.published)
        for series, cloud in enumerate(figure.clouds)
        if cloud.label
    ]
    svg = frame.svg(body, key=key, title=figure.title, summary=_summary(figure))
    return Drawing(key, figure.title, svg, tuple(legend))


def _extent(figure: Points) -> tuple[float, float, float, float]:
    """Both ends of both axes: round ones, except where lines fill the width."""
    across = [x for cloud in figure.clouds for x in cloud.x if math.isfinite(x) and (x > 0 or not figure.log_x)]
    low, high = room(across, 6)
    if across and figure.log_x:
        low, high = min(across) / 1.25, max(across) * 1.25
    elif across and figure.joined:
        low, high = min(across), max(across)
    ends = [end for cloud in figure.clouds for interval in cloud.intervals for end in interval]
    y_low, y_high = room([*ends, *(y for cloud in figure.clouds for y in cloud.y)])
    if figure.diagonal:
        low = y_low = min(low, y_low)
        high = y_high = max(high, y_high)
    return low, high if high > low else low + 1, y_low, y_high


def _cloud(
    cloud: Cloud, series: int, x: Scale, y: Scale, *, joined: bool, marked: bool, figure: Points
) -> list[str]:  # fmt: skip
    kept = [
        (place, x(across), y(up))
        for place, (across, up) in enumerate(zip(cloud.x, cloud.y, strict=True))
        if math.isfinite(up) and math.isfinite(across) and (across > 0 or not x.log)
    ]
    parts = [f'<g class="{style(PUBLISHED if cloud.published or cloud.line else series)}">']
    if joined or cloud.line:
        parts.append(polyline([(across, up) for _, across, up in kept]))
    for place, across, up in kept if marked and not cloud.line else ():
        if cloud.intervals:
            low, high = cloud.intervals[place]
            parts.append(f'<path class="l" opacity=".5" d="M{across:.1f} {y(low):.1f}V{y(high):.1f}"/>')
        name = cloud.names[place] if place < len(cloud.names) else cloud.label
        said = f"{name}: {number(cloud.x[place])} {figure.x_label}, {number(round(cloud.y[place], 4))} {figure.y_label}"
        parts.append(mark(series, across, up, said))
    return [*parts, "</g>"]


def _along(cloud: Cloud, x: Scale, y: Scale) -> list[tuple[float, float, str]]:
    """Places on a cloud's line, in units, without names."""
    found = []
    kept = [
        (x(across), y(up))
        for across, up in zip(cloud.x, cloud.y, strict=True)
        if math.isfinite(up) and (across > 0 or not x.log)
    ]
    for (left, top), (right, bottom) in itertools.pairwise(kept):
        steps = max(1, int(max(abs(right - left), abs(bottom - top)) / LINE_STEP))
        found += [
            (left + (right - left) * step / steps, top + (bottom - top) * step / steps, "") for step in range(1, steps)
        ]
    return found


def curves(figure: Curves, key: str) -> Drawing:
    """Series over named places; spreads as bands, published values as dashed lines."""
    wide = len(figure.ticks) >= WIDER
    ends = list(_ends(figure)) + [reference.value for reference in figure.references]
    low, high = room(ends)
    if figure.bounds:
        low, high = max(low, figure.bounds[0]), min(high, figure.bounds[1])
    frame, x, y, body = _named_frame(figure, low, high, wide=wide)
    for series, line in enumerate(figure.series):
        body.append(f'<g class="{style(PUBLISHED if line.published else series)}">')
        if line.spread:
            body.append(_band(line.values, line.spread, x, y, figure.bounds))
        for run in _runs(line.values):
            body.append(polyline([(x(place), y(value)) for place, value in run]))
        if len(figure.ticks) <= MOST_MARKED:
            body += [
                mark(series, x(place), y(value), f"{line.label}, {figure.ticks[place]}: {value:.4g}")
                for run in _runs(line.values)
                for place, value in run
            ]
        body.append("</g>")
    for reference in figure.references:
        body.append(
            f'<path class="ref l" d="M{x(reference.first - 0.35):.1f} {y(reference.value):.1f}'
            f'H{x(reference.last + 0.35):.1f}"><title>{escape(reference.label)}</title></path>'
        )
    legend = [Entry(series, line.label, line.published) for series, line in enumerate(figure.series)]
    legend += [Entry(PUBLISHED, reference.label) for reference in figure.references]
    svg = frame.svg(body, key=key, title=figure.title, summary=_summary(figure))
    return Drawing(key, figure.title, svg, tuple(legend), wide)


def _ends(figure: Curves | Bars) -> Sequence[float]:
    """Every value, and both ends of its spread."""
    found = []
    for line in figure.series:
        for place, value in enumerate(line.values):
            spread = (line.spread[place] or 0.0) if line.spread else 0.0
            found += [value - spread, value + spread] if value is not None else []
    return found


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Values without a gap, with their places."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]


def _band(
    values: Sequence[float | None], spread: Sequence[float | None], x: Scale, y: Scale,
    bounds: tuple[float, float] | None,
) -> str:  # fmt: skip
    """A band wherever neighbours have a spread: where nothing was measured there is none."""
    low, high = bounds or (-math.inf, math.inf)
    known = [
        value if wide is not None else None for value, wide in zip(values, spread, strict=True)
    ]  # fmt: skip
    bands = []
    for run in _runs(known):
        wides = [spread[place] or 0.0 for place, _ in run]
        both = [
            (x(place), y(min(high, value + wide)), y(max(low, value - wide)))
            for (place, value), wide in zip(run, wides, strict=True)
        ]
        outline = [f"{at:.1f} {up:.1f}" for at, up, _ in both] + [f"{at:.1f} {down:.1f}" for at, _, down in both[::-1]]
        bands.append(f'<path class="b" d="M{"L".join(outline)}z"/>' if len(both) > 1 else "")
    return "".join(bands)


def _named_frame(
    figure: Curves | Bars, low: float, high: float, *, wide: bool
) -> tuple[Frame, Scale, Scale, list[str]]:  # fmt: skip
    """A frame for named places: where they are, where values are, and the axes."""
    width = WIDTH * 2 if wide else WIDTH
    y_texts = Scale(low, high, 0, 1).ticks(5)
    count = len(figure.ticks)
    shown, slanted = named_ticks(figure.ticks, range(count), width - 70)
    frame = Frame.of(width, HEIGHT, y_ticks=y_texts, x_names=shown, slanted=slanted)
    x = Scale(-0.5, max(count, 1) - 0.5, frame.left, frame.right)
    y = Scale(low, high, frame.bottom, frame.top)
    body = frame.axes(
        [(x(at), text) for at, text in shown], [(y(at), text) for at, text in y_texts],
        x_label=figure.x_label, y_label=figure.y_label, slanted=slanted,
    )  # fmt: skip
    return frame, x, y, body


def bars(figure: Bars, key: str) -> Drawing:
    """Sets of bars side by side, from 0."""
    wide = len(figure.ticks) * len(figure.series) > 24
    low, high = room([0.0, *_ends(figure)])
    frame, x, y, body = _named_frame(figure, low, high, wide=wide)
    sets = max(1, len(figure.series))
    thickness = 0.8 * (x(1) - x(0)) / sets
    for series, line in enumerate(figure.series):
        body.append(f'<g class="{style(series)}">')
        for place, value in enumerate(line.values):
            if value is None:
                continue
            left = x(place) + (series - sets / 2) * thickness
            top, bottom = sorted((y(value), y(0)))
            said = escape(f"{line.label}, {figure.ticks[place]}: {value:.4g}")
            body.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{thickness * 0.94:.1f}" height="{bottom - top:.1f}">'
                f"<title>{said}</title></rect>"
            )
            spread = line.spread[place] if line.spread else None
            if spread is not None:
                body.append(_whisker(left + 0.47 * thickness, y(value - spread), y(value + spread)))
            elif thickness > 22:
                body.append(words(left + thickness / 2, top - 3, f"{value:.3g}", kind="small"))
        body.append("</g>")
    body.append(f'<path class="axis" d="M{frame.left:.1f} {y(0):.1f}H{frame.right:.1f}"/>')
    legend = [Entry(series, line.label) for series, line in enumerate(figure.series)] if sets > 1 else []
    svg = frame.svg(body, key=key, title=figure.title, summary=_summary(figure))
    return Drawing(key, figure.title, svg, tuple(legend), wide, filled=True)


def _whisker(x: float, low: float, high: float) -> str:
    return f'<path class="axis" d="M{x:.1f} {low:.1f}V{high:.1f}m-3 0h6M{x - 3:.1f} {low:.1f}h6"/>'


def _summary(figure: Curves | Bars | Points) -> str:
    """What a plot shows, in words."""
    lines: list[tuple[str, Sequence[float | None]]] = []
    if isinstance(figure, Points):
        lines += [(cloud.label, cloud.y) for cloud in figure.clouds]
    else:
        lines += [(line.label, line.values) for line in figure.series]
    told = [
        f"{label or 'values'} from {known[0]:.4g} to {known[-1]:.4g}"
        for label, values in lines
        if (known := [value for value in values if value is not None and math.isfinite(value)])
    ]
    return f"{figure.y_label} by {figure.x_label}: {'; '.join(told)}."
