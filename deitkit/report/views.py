"""What the page's template shows, as plain texts: tables, tiles, pictures. Knows no run and no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deitkit.analysis.draw.page import PageDrawing
from deitkit.analysis.report import Table
from deitkit.report.examples import Thumbnail
from deitkit.report.folder import Missing

TEXTS_SHOWN = 60  # rows of a table before the rest is left to its CSV file


@dataclass(frozen=True)
class PageBudget:
    """How much of what grows with classes, images and runs fits into a page."""

    examples: int = 6  # pictures of each kind
    class_rows: int = 2_000
    embedded_bytes: int = 700_000  # of each figure that is no drawing

    def divided(self, runs: int) -> PageBudget:
        """Each run's part; a few runs have all of it."""
        return PageBudget(
            max(1, min(self.examples, 24 // runs)), max(20, min(self.class_rows, 6_000 // runs)),
            max(50_000, min(self.embedded_bytes, 2_000_000 // runs)),
        )  # fmt: skip

    def tighter(self) -> PageBudget:
        return PageBudget(max(1, self.examples // 2), max(10, self.class_rows // 4), self.embedded_bytes // 4)


@dataclass(frozen=True)
class TableView:
    """A table's texts; `numeric` columns stand on the right. `note` says what is left out."""

    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[list[str]]
    sortable: bool = False
    note: str = ""

    @classmethod
    def of(cls, table: Table, *, most: int = TEXTS_SHOWN, sortable: bool = False, more: str = "") -> TableView:
        """A report's table; `more` names where the rows beyond `most` are."""
        count = len(table.rows)
        numeric = tuple(
            count > 0 and all(isinstance(row[place], (int, float, type(None))) for row in table.rows)
            for place in range(len(table.columns))
        )
        note = f"The first {most:,} of {count:,} rows; all are in {more}." if count > most else ""
        shown = Table(table.name, table.title, table.columns, table.rows[:most], table.formats)
        return cls(table.title, table.columns, numeric, _texts(shown), sortable, note)


def _texts(table: Table) -> list[list[str]]:
    """As a screen shows them; numbers without a format get six digits."""
    return [
        [
            f"{value:.6g}" if isinstance(value, float) and not table.formats.get(column) else text
            for value, text, column in zip(row, texts, table.columns, strict=True)
        ]
        for row, texts in zip(table.rows, table.texts(), strict=True)
    ]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a verdict, and the command that it ends with, if it does."""

    words: str
    command: str = ""

    @classmethod
    def of(cls, text: str) -> Sentence:
        words, is_command, rest = text.partition(": deitkit ")
        return cls(f"{words}:", f"deitkit {rest}") if is_command else cls(words)


@dataclass(frozen=True)
class HeadlineTile:
    """A headline number."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ShownAnswer:
    """What one classifier says of an image."""

    who: str
    says: str
    confidence: str
    right: bool


@dataclass(frozen=True)
class Example:
    """An image with its label and everyone's answer; no picture where the image is gone."""

    image: str
    label: str
    picture: Thumbnail | None
    answers: tuple[ShownAnswer, ...]

    @property
    def alt(self) -> str:
        """The picture in words, for who cannot see it."""
        said = "; ".join(f"{answer.who}: {answer.says}, {answer.confidence}" for answer in self.answers)
        return f"{self.image}, label {self.label}. {said}"


@dataclass(frozen=True)
class KindView:
    """A kind of disagreement with some of its images."""

    key: str
    title: str
    definition: str
    count: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Embedded:
    """A figure that is no drawing of the page's own: a file's bytes as a data URI, or the file's name alone."""

    title: str
    uri: str
    file: str


@dataclass(frozen=True)
class ReportView:
    """An analysis: drawings, tables, and what its words mean. `anchor` is its place on the run's part of the page."""

    anchor: str
    title: str
    verdict: tuple[Sentence, ...]
    drawings: tuple[PageDrawing, ...]
    embedded: tuple[Embedded, ...]
    tables: tuple[TableView, ...]
    definitions: Mapping[str, str]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """A value of a recipe; `shipped` is the recipe's own where the run has another."""

    key: str
    value: str
    origin: str
    shipped: str = ""
    changed: bool = False


@dataclass(frozen=True)
class Command:
    """What a command does, and its lines."""

    what: str
    lines: str


@dataclass(frozen=True)
class RunView:
    """One run's part of the page; what is not there is empty."""

    key: str
    name: str
    path: str
    recipe_name: str
    state: str  # nothing for a finished run
    resume: str
    verdict: tuple[Sentence, ...]
    tiles: tuple[HeadlineTile, ...]
    missing: tuple[Missing, ...]
    problems: tuple[str, ...]
    curves: tuple[PageDrawing, ...]
    evaluations: TableView | None
    heads: TableView | None
    disagreement: ReportView | None
    kinds: tuple[KindView, ...]
    kinds_images: str
    reports: tuple[ReportView, ...]
    classes: TableView | None
    confusions: TableView | None
    settings: Mapping[str, Sequence[Setting]]
    environment: Sequence[tuple[str, str]]
    commands: tuple[Command, ...]

    @property
    def changed(self) -> list[Setting]:
        """The settings that differ from the shipped recipe, or were given on the command line."""
        return [setting for settings in self.settings.values() for setting in settings if setting.changed]

    @property
    def settings_count(self) -> int:
        return sum(len(settings) for settings in self.settings.values())


@dataclass(frozen=True)
class ComparisonView:
    """Several runs side by side."""

    runs: TableView
    settings: TableView | None
    curves: tuple[PageDrawing, ...]
    disagreement: ReportView | None
    note: str = ""


@dataclass(frozen=True)
class PageView:
    """The whole page."""

    title: str
    version: str
    runs: tuple[RunView, ...]
    comparison: ComparisonView | None = None
    note: str = ""
    study: ReportView | None = None  # of the sweep that these runs are from
