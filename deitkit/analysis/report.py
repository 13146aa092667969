"""Report: what an analysis measured, as data. Draws nothing, writes nothing, knows no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    """A figure: a square of `values` in `unit` between the things that `labels` names.

    `references` are published values for the same cells, None where there is none.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str
    references: tuple[tuple[float | None, ...], ...] = ()
    references_title: str = ""


@dataclass(frozen=True)
class Series:
    """A line of a figure; `spread` is drawn as a band on both sides, None where a point has none."""

    label: str
    values: tuple[float, ...]
    spread: tuple[float | None, ...] = ()


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
class Report:
    """What an analysis measured: numbers, tables and figures, with the definitions that make them comparable."""

    name: str
    title: str
    definitions: Mapping[str, str]
    sources: tuple[str, ...]
    numbers: Mapping[str, Any]
    tables: tuple[Table, ...]
    figures: tuple[Matrix | Curves, ...]

    def as_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts only: what JSON can hold."""
        return dataclasses.asdict(self)
