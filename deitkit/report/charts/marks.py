"""What drawings are made of: the page's classes for series, markers, lines, legends. Knows no figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480.0, 260.0  # units; a unit is about a pixel
# Circle, square, triangle, diamond, triangle downwards, plus, cross, star: around 0, about 7 units wide.
MARKERS = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0", "M-3-3h6v6h-6z", "M0-4L3.8 3H-3.8z", "M0-4.2L4 0L0 4.2L-4 0z",
    "M0 4L3.8-3H-3.8z", "M-1.3-4h2.6v2.7H4v2.6H1.3V4h-2.6V1.3H-4v-2.6h2.7z",
    "M-4-2.6L-2.6-4L0-1.4L2.6-4L4-2.6L1.4 0L4 2.6L2.6 4L0 1.4L-2.6 4L-4 2.6L-1.4 0z",
    "M0-4.2L1.2-1.2L4.2 0L1.2 1.2L0 4.2L-1.2 1.2L-4.2 0L-1.2-1.2z",
)  # fmt: skip
COLOURS = len(MARKERS)
PUBLISHED = -1  # the number that stands for a published value instead of a series


@dataclass(frozen=True)
class Entry:
    """A line of a legend; a published one is grey, with its series' marker."""

    number: int
    label: str
    published: bool = False

    @property
    def style(self) -> str:
        return style(PUBLISHED if self.published else self.number)

    @property
    def marker(self) -> str:
        return "" if self.number == PUBLISHED else MARKERS[self.number % COLOURS]


@dataclass(frozen=True)
class Drawing:
    """A figure to be put into a page; `wide` ones take its whole width, `filled` ones have areas and no lines."""

    key: str
    title: str
    svg: Markup
    legend: tuple[Entry, ...] = ()
    wide: bool = False
    note: str = ""
    filled: bool = False


def style(series: int) -> str:
    """The page's classes for a series: colours come back after eight, dashed."""
    return "ref" if series == PUBLISHED else f"s{series % COLOURS}" + (" dashed" if series >= COLOURS else "")


def polyline(places: Sequence[tuple[float, float]]) -> str:
    """A line through the places, in units."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="l" d="M{steps}"/>' if len(places) > 1 else ""


def mark(series: int, x: float, y: float, said: str) -> str:
    """A series' marker, which says its value to who points at it."""
    shape = MARKERS[series % COLOURS]
    return f'<path class="m" transform="translate({x:.1f} {y:.1f})" d="{shape}"><title>{escape(said)}</title></path>'
