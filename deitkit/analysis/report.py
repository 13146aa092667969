"""Report: what an analysis measured, as data. Draws nothing, writes nothing, knows no terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import Discriminator, Tag

from deitkit.errors import DeitkitError
from deitkit.records import checked_json

ANEW = "make it anew: deitkit analyze"
MOST_DIGITS = 40  # of a number in a figure's cell


@dataclass(frozen=True)
class Table:
    """Rows under named columns. `name` is its file's stem; `formats` says how a screen shows a column's numbers."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    formats: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, title: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]], *, filled: bool = False
    ) -> Table:
        """Columns with the format of each ("" where values are shown as they are); `filled`: only those in which
        something stands."""
        rows = [tuple(row) for row in rows]
        places = [place for place in range(len(columns)) if not filled or any(row[place] is not None for row in rows)]
        names = [*columns]
        return cls(
            name,
            title,
            tuple(names[place] for place in places),
            tuple(tuple(row[place] for place in places) for row in rows),
            {column: spec for column, spec in columns.items() if spec},
        )

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
class PublishedValue:
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
    references: tuple[PublishedValue, ...] = ()
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
    """What an analysis measured: numbers, tables and figures, with the definitions that make them comparable.

    `verdict` says in sentences what the tables hold, and claims nothing that chance may have made
    (`deitkit.measures.words`).
    """

    name: str
    title: str
    definitions: Mapping[str, str]
    sources: tuple[str, ...]
    numbers: Mapping[str, Any]
    tables: tuple[Table, ...]
    figures: tuple[AnyFigure, ...]
    verdict: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts only: what JSON can hold; pictures are left to the image files."""
        pictures = tuple(figure for figure in self.figures if isinstance(figure, Panels))
        numbers = tuple(figure for figure in self.figures if not isinstance(figure, Panels))
        values = dataclasses.asdict(dataclasses.replace(self, figures=numbers)) | {"verdict": list(self.verdict)}
        return values | {"pictures": [picture.name for picture in pictures]} if pictures else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """What `as_dict` gave, without the pictures.

        Raises:
            DeitkitError: the values are of something else.
        """
        return read_saved(json.dumps(values).encode(), name=f"report {values.get('name', '')}")[0]


def _kind(values: Any) -> str:
    """Which figure: each kind has a field that no other has."""
    if "clouds" in values:
        return "points"
    if "series" not in values:
        return "matrix"
    return "curves" if "references" in values else "bars"


StoredFigure = Annotated[
    Annotated[Points, Tag("points")] | Annotated[Matrix, Tag("matrix")]
    | Annotated[Curves, Tag("curves")] | Annotated[Bars, Tag("bars")],
    Discriminator(lambda values: _kind(values) if isinstance(values, dict) else None),
]  # fmt: skip


@dataclass(frozen=True)
class _Saved:
    """What `Report.as_dict` gives."""

    name: str
    title: str
    definitions: dict[str, str]
    sources: tuple[str, ...]
    numbers: dict[str, Any]
    tables: tuple[Table, ...]
    figures: tuple[StoredFigure, ...]
    pictures: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()  # reports of earlier versions have none


def read_saved(content: bytes, *, name: str) -> tuple[Report, tuple[str, ...]]:
    """A report from its JSON, and the names of its pictures; `name` says whose.

    Raises:
        DeitkitError: it is not as `as_dict` gives it.
    """
    saved = checked_json(content, _Saved, name=name, remedy=ANEW)
    problems = [f"{each.name}: {problem}" for each in (*saved.tables, *saved.figures) if (problem := _unsound(each))]
    if problems:
        raise DeitkitError(f"{name} is damaged: {problems[0]}", value=name, remedy=ANEW, problems=problems[1:])
    rest = (saved.sources, saved.numbers, saved.tables, saved.figures, saved.verdict)
    return Report(saved.name, saved.title, saved.definitions, *rest), saved.pictures


def _unsound(part: Table | Matrix | Curves | Points | Bars) -> str:
    """What does not fit together in a table or a figure, or nothing."""
    if isinstance(part, Table):
        try:
            part.texts()
        except (ValueError, TypeError, OverflowError) as error:
            return str(error)
        return ""
    if isinstance(part, Matrix):
        shape = (len(part.labels), len(part.columns or part.labels))
        tables = [part.values, part.references] if part.references else [part.values]
        fits = all(len(table) == shape[0] and all(len(row) == shape[1] for row in table) for table in tables)
        return "" if fits and _writes(part.cell) else f"no {shape[0]} x {shape[1]} numbers, or not in {part.cell!r}"
    if isinstance(part, Points):
        pairs = [(len(cloud.x), len(each)) for cloud in part.clouds for each in (cloud.y, cloud.names, cloud.intervals)]
        fits = all(len(cloud.x) == len(cloud.y) for cloud in part.clouds)
        return "" if fits and all(length in (0, points) for points, length in pairs) else "unequal numbers of points"
    lengths = {len(part.ticks), *(len(series.values) for series in part.series)}
    lengths |= {len(series.spread) for series in part.series if series.spread}
    places = [place for line in getattr(part, "references", ()) for place in (line.first, line.last)]
    fits = len(lengths) == 1 and all(0 <= place < len(part.ticks) for place in places)
    return "" if fits else "unequal numbers of places and values"


def _writes(form: str) -> bool:
    try:
        return len(format(0.0, form)) < MOST_DIGITS
    except ValueError:
        return False
