"""Which number, and so which colour and marker, a series has: by its name, so that it keeps it from figure to figure.

Files and pages draw number 0 to 7 in the colours of Okabe and Ito (2008). Draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from deitkit.analysis.report import AnyFigure, Bars, Curves, Points

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
