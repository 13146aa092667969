"""What a figure is drawn for, a file or a page of HTML: colours, sizes, numbers of series, and what its marks say.

Draws nothing. On a page the colours are stand-ins, which `deitkit.analysis.draw.page` replaces by the page's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cycler import cycler
from matplotlib.artist import Artist

from deitkit.analysis.draw.inks import Inks, assign, labels_of
from deitkit.analysis.report import AnyFigure


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
