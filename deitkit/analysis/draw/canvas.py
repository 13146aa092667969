"""What a figure is drawn for, a file or a page of HTML: colours, sizes, what its marks say, and the numbers of series.

A number, and so a colour and a marker, goes by the name of a series, which keeps it from figure to figure; files and
pages draw numbers 0 to 7 in the colours of Okabe and Ito (2008). Draws nothing. On a page the colours are stand-ins,
which `deitkit.analysis.draw.page` replaces by the page's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cycler import cycler
from matplotlib.artist import Artist

from deitkit.analysis.report import AnyFigure, Bars, Curves, Points


@dataclass(frozen=True)
class CanvasLook:
    """Colours of what is no series, and sizes; a page has a caption of its own, and room for so many inches."""

    page: bool
    ink: str  # words
    quiet: str  # whiskers, the axis at 0, the diagonal, references
    published: str
    ground: str  # what a figure stands on
    on: str  # words on a strong shade
    letters: float  # in an inch: a cautious mean
    size: float  # of words, in points
    small: float
    style: Mapping[Any, Any]


COMMON: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a class may be called `$a$`
    "svg.hashsalt": "deitkit",  # equal reports give equal files
}
FILE = CanvasLook(
    page=False, ink="black", quiet="0.3", published="0.5", ground="white", on="white", letters=10.5, size=10, small=8,
    style=COMMON | {
        "font.size": 10, "figure.titlesize": 11, "grid.color": "0.9", "figure.facecolor": "white",
        "savefig.facecolor": "white",
    },
)  # fmt: skip
INK, QUIET, GRID, GROUND, ON, HEAT, COLD = (f"#fe01{number:02x}" for number in range(7))
PAGE = CanvasLook(
    page=True, ink=INK, quiet=QUIET, published=QUIET, ground=GROUND, on=ON, letters=13.5, size=8.5, small=8,
    style=COMMON | {
        "font.size": 8.5, "text.color": INK, "axes.labelcolor": QUIET, "axes.edgecolor": QUIET, "xtick.color": QUIET,
        "ytick.color": QUIET, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID,
        "axes.spines.left": False,
        "axes.prop_cycle": cycler(color=[QUIET]), "ytick.left": False, "xtick.bottom": False, "svg.fonttype": "none",
    },
)  # fmt: skip


@dataclass(frozen=True)
class Canvas:
    """`inks` are the numbers that names of series have in other figures too; `said` is filled as marks are drawn."""

    look: CanvasLook = FILE
    inks: Inks = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)  # group of the SVG -> what each of its marks says

    def numbers(self, figure: AnyFigure) -> list[int]:
        """The number of each series of a figure, and so its colour and its marker."""
        return assign(labels_of(figure), self.inks)

    def say(self, artist: Artist, texts: Sequence[str]) -> None:
        """What the artist's marks say, on a page; as many texts as marks are drawn."""
        if self.look.page and texts:
            group = f"said-{len(self.said)}"
            artist.set_gid(group)
            self.said[group] = list(texts)


Inks = Mapping[str, int]  # names of series -> their numbers
NO_INKS: Inks = MappingProxyType({})


def assign(labels: Sequence[str], inks: Inks = NO_INKS) -> list[int]:
    """A number for each series of a figure: its name's, else the least that no other series of the figure has."""
    numbers: dict[int, int] = {}
    for place, label in enumerate(labels):
        number = inks.get(label)
        if number is not None and number not in numbers.values():
            numbers[place] = number
    for place in range(len(labels)):
        if place not in numbers:
            numbers[place] = next(n for n in range(len(labels)) if n not in numbers.values())
    return [numbers[place] for place in range(len(labels))]


def inks_of(figures: Iterable[AnyFigure], inks: Inks = NO_INKS) -> dict[str, int]:
    """The numbers of all series of these figures, a name's the one that it has first; `inks` are given before."""
    found = dict(inks)
    for figure in figures:
        labels = labels_of(figure)
        for label, number in zip(labels, assign(labels, found), strict=True):
            if label:
                found.setdefault(label, number)
    return found


def labels_of(figure: AnyFigure) -> list[str]:
    """The names of a figure's series; none where it has no series."""
    if isinstance(figure, Points):
        return [cloud.label for cloud in figure.clouds]
    return [line.label for line in figure.series] if isinstance(figure, (Curves, Bars)) else []
