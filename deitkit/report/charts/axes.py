"""Scales, round ticks and the frame of a plot in SVG. Its colours are those of the page it stands in. Draws no data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

LETTER = 6.2  # units of a letter of 11 units: a cautious mean
LONGEST = 28  # letters of a name below an axis
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on the units from `start` to `end`; `log` where equal ratios are equally long."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About so many round values, and how they are written."""
        values = _log_ticks(self.low, self.high) if self.log else round_values(self.low, self.high, count)
        return [(value, number(value)) for value in values if self.low <= value <= self.high]


def round_values(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, the first not above `low` and the last not below `high`."""
    raw = (high - low or abs(high) or 1.0) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    if high < 8 * low:
        return [value for value in round_values(low, high, 4) if value > 0]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in ((1, 2, 5) if len(powers) < 4 else (1,))]


def number(value: float) -> str:
    """A number as an axis says it."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.6g}"


def room(values: Sequence[float], count: int = 4) -> tuple[float, float]:
    """The least and the greatest value, widened to round ones."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if low == high != 0:
        low, high = low - abs(low) / 10, high + abs(high) / 10
    ends = round_values(low, high, count)
    return ends[0], ends[-1]


@dataclass(frozen=True)
class Frame:
    """Where a plot's data go, in units; the rest is for its words."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def of(cls, width: float, height: float, *, y_ticks: Ticks, x_names: Ticks, slanted: bool) -> Frame:
        """As much room beside and below the axes as their words need."""
        left = 26 + LETTER * max((len(text) for _, text in y_ticks), default=0)
        longest = LETTER * max((len(text) for _, text in x_names), default=0)
        below = 0.6 * longest + 14 if slanted else 16
        left = max(left, 0.8 * longest - 10) if slanted else left
        right = width - (14 if slanted else max(14.0, LETTER * (len(x_names[-1][1]) if x_names else 0) / 2))
        return cls(width, height + below, left, right, 10, height - 22)

    def svg(self, body: Sequence[str], *, key: str, title: str, summary: str) -> Markup:
        """The whole drawing, with what a screen reader says."""
        frame = Markup(
            '<svg viewBox="0 0 {w:.0f} {h:.0f}" style="max-width:{most:.0f}px" role="img"'
            ' aria-labelledby="{key}-t {key}-d">'
            '<title id="{key}-t">{title}</title><desc id="{key}-d">{summary}</desc>{body}</svg>'
        )
        size = {"w": self.width, "h": self.height, "most": 1.15 * self.width}
        return frame.format(key=key, title=title, summary=summary, body=Markup("".join(body)), **size)

    def axes(self, x_ticks: Ticks, y_ticks: Ticks, *, x_label: str, y_label: str, slanted: bool) -> list[str]:
        """Grid, ticks with their words, and the axes' names; the ticks stand at units."""
        parts = []
        for at, text in y_ticks:
            parts.append(f'<path class="grid" d="M{self.left:.1f} {at:.1f}H{self.right:.1f}"/>')
            parts.append(words(self.left - 6, at + 4, text, anchor="end"))
        for at, text in x_ticks:
            parts.append(f'<path class="tick" d="M{at:.1f} {self.bottom:.1f}v4"/>')
            parts.append(
                words(at + 3, self.bottom + 14, text, anchor="end", turned=-35)
                if slanted
                else words(at, self.bottom + 17, text)
            )
        parts.append(f'<path class="axis" d="M{self.left:.1f} {self.bottom:.1f}H{self.right:.1f}"/>')
        parts.append(words((self.left + self.right) / 2, self.height - 4, x_label, kind="name"))
        parts.append(words(12, (self.top + self.bottom) / 2, y_label, kind="name", turned=-90))
        return parts


def words(
    x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "", turned: float = 0, more: str = ""
) -> str:
    """Text at a place; `more` is another attribute's markup."""
    turn = f' transform="rotate({turned:g} {x:.1f} {y:.1f})"' if turned else ""
    name = f' class="{kind}"' if kind else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{end}{name}{turn}{more}>{escape(text)}</text>'


def named_ticks(names: Sequence[str], places: Sequence[float], width: float) -> tuple[list[tuple[float, str]], bool]:
    """Names at their places, some left out where there are many; and whether they are slanted to have room."""
    texts = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    longest = max((len(text) for text in texts), default=0)
    if (longest + 2) * LETTER * len(texts) <= width:
        return list(zip(places, texts, strict=True)), False
    if all(text.replace(".", "").isdecimal() for text in texts):  # numbers stay level, and fewer of them are shown
        step = round_step(len(texts), int(width / ((longest + 2) * LETTER)))
        return list(zip(places[::step], texts[::step], strict=True)), False
    step = round_step(len(texts), int(width / 17))
    return list(zip(places[::step], texts[::step], strict=True)), True


def round_step(count: int, most: int) -> int:
    """Every how many of `count` names are shown if there is room for `most`."""
    least = -(-count // max(1, most))
    return next((step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500) if step >= least), least)
