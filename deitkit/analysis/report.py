"""Report: what an analysis measured, as data. Draws nothing, writes nothing, knows no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Rows under named columns. `name` is its file's stem; `formats` says how a screen shows a column's numbers."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    formats: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> list[list[str]]:
        """The rows as a screen shows them: `formats` applied, nothing for None."""
        specs = [self.formats.get(column, "") for column in self.columns]
        return [
            ["" if value is None else format(value, spec) for value, spec in zip(row, specs, strict=True)]
            for row in self.rows
        ]


@dataclass(frozen=True)
class Matrix:
    """A figure: `values` in `unit` between the things that `labels` names, or between those (rows) and `columns`.

    `references` are published values for the same cells, None where there is none. `cell` says how a number is
    written; above 25 rows or columns none is. Colours diverge around 0 where `diverging`.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str
    references: tuple[tuple[float | None, ...], ...] = ()
    references_title: str = ""
    columns: tuple[str, ...] = ()
    x_label: str = ""
    y_label: str = ""
    cell: str = ".1f"
    diverging: bool = False


@dataclass(frozen=True)
class Series:
    """A line of a figure; `spread` is drawn as a band on both sides, None where a point has none.

    A value that was not measured is None, and its place is left empty. A published line is grey.
    """

    label: str
    values: tuple[float | None, ...]
    spread: tuple[float | None, ...] = ()
    published: bool = False


@dataclass(frozen=True)
class Reference:
    """A published value, drawn from the tick `first` to the tick `last` of a figure."""

    label: str
    value: float
    first: int
    last: int


@dataclass(frozen=True)
class Curves:
    """A figure: series over the same named places of an axis."""

    name: str
    title: str
    x_label: str
    y_label: str
    ticks: tuple[str, ...]
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()
    bounds: tuple[float, float] | None = None  # no value can lie outside, so no band is drawn there


@dataclass(frozen=True)
class Cloud:
    """Points of one kind: x [n], y [n], and what stands beside each (or nothing).

    `intervals` are both ends of each y's, drawn as whiskers. Published points are grey; a `line` has no points.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    names: tuple[str, ...] = ()
    intervals: tuple[tuple[float, float], ...] = ()
    published: bool = False
    line: bool = False


@dataclass(frozen=True)
class Points:
    """A figure: clouds of points, each joined by a line where `joined`; `diagonal` draws y = x."""

    name: str
    title: str
    x_label: str
    y_label: str
    clouds: tuple[Cloud, ...]
    joined: bool = False
    diagonal: bool = False
    log_x: bool = False


@dataclass(frozen=True)
class Bars:
    """A figure: named bars, one set of them for each series, side by side."""

    name: str
    title: str
    x_label: str
    y_label: str
    ticks: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a grid: `values` [H, W] shaded by value, or [H, W, 3] 8-bit colours."""

    title: str
    values: NDArray[Any]


@dataclass(frozen=True)
class Panels:
    """A figure: rows of pictures; shaded ones share one scale in `unit` where `shared`, and diverge around 0 where
    `diverging`."""

    name: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]
    unit: str = ""
    shared: bool = True
    diverging: bool = False


AnyFigure = Matrix | Curves | Points | Bars | Panels


@dataclass(frozen=True)
class Report:
    """What an analysis measured: numbers, tables and figures, with the definitions that make them comparable."""

    name: str
    title: str
    definitions: Mapping[str, str]
    sources: tuple[str, ...]
    numbers: Mapping[str, Any]
    tables: tuple[Table, ...]
    figures: tuple[AnyFigure, ...]

    def as_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts only: what JSON can hold; pictures are left to the image files."""
        pictures = tuple(figure for figure in self.figures if isinstance(figure, Panels))
        numbers = tuple(figure for figure in self.figures if not isinstance(figure, Panels))
        values = dataclasses.asdict(dataclasses.replace(self, figures=numbers))
        return values | {"pictures": [picture.name for picture in pictures]} if pictures else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """What `as_dict` gave, without the pictures.

        Raises:
            TypeError, KeyError: the values are of something else.
        """
        tables = tuple(Table(**{key: _frozen(value) for key, value in table.items()}) for table in values["tables"])
        return cls(
            **{key: values[key] for key in ("name", "title", "definitions", "numbers")},
            sources=tuple(values["sources"]),
            tables=tables,
            figures=tuple(_figure(figure) for figure in values["figures"]),
        )


def _figure(values: Mapping[str, Any]) -> AnyFigure:
    """A figure from its fields; each kind has one that no other has."""
    fields = {key: _frozen(value) for key, value in values.items()}
    if "clouds" in fields:
        return Points(**fields | {"clouds": tuple(Cloud(**cloud) for cloud in fields["clouds"])})
    if "series" not in fields:
        return Matrix(**fields)
    fields["series"] = tuple(Series(**series) for series in fields["series"])
    if "references" not in fields:
        return Bars(**fields)
    return Curves(**fields | {"references": tuple(Reference(**reference) for reference in fields["references"])})


def _frozen(value: Any) -> Any:
    """Lists become tuples, at every depth."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
