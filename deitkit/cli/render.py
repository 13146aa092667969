"""Results to stdout, talk to stderr. The only file that imports rich widgets for output, and only when it prints.

A table folds long cells into several lines; rows of `Column` stay one line each, at any width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def escaped(text: str) -> str:
    """Text that a terminal may show: what would move its cursor, turn its writing or cannot be encoded, as \\x1b."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def plain(value: Any) -> Any:
    """What JSON can say: dataclasses, paths, arrays and NaN become objects, strings, lists and null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=not speaks_unicode())
    print(CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))  # noqa: T201


def speaks_unicode() -> bool:
    """Whether stdout can write any character."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def cell(value: Any) -> str:
    """A table's cell: nothing for None, six digits for a float, a line break in a name as \\n."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else escaped(str(value)).replace("\n", "\\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, footer: str = "") -> None:
    """A table on stdout: folded to the terminal's width, or at full width where a program reads it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [[cell(value) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
        table.add_column(Text(escaped(column)), justify="right" if numbers else "left", overflow="fold")
    for row in texts:
        table.add_row(*(Text(text) for text in row))
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    # Not the table's own title, which would fold to the table's width.
    console.print(Text(escaped(title), style="bold"))
    console.print(table)
    if footer:
        console.print(Text(escaped(footer)))


def print_verdict(sentences: Sequence[str]) -> None:
    """What the tables below say, on stdout: a sentence a line, the first bold on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    for place, sentence in enumerate(sentences):
        console.print(Text(escaped(sentence), style="" if place else "bold"))
    if sentences:
        console.print()


def output_width() -> int | None:
    """Columns of the terminal on stdout; None where a program reads it."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else None


def print_lines(title: str, heading: str, lines: Sequence[str]) -> None:
    """Lines of text on stdout, each of them one line, whatever the terminal's width."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=output_width() or 10_000, highlight=False)
    for text, style in ((title, "bold"), (heading, "dim"), *((line, "") for line in lines)):
        console.print(Text(escaped(text), style=style), overflow="ellipsis", no_wrap=True)


def talks_to_a_terminal() -> bool:
    """Whether somebody sees stderr as it is drawn."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def say(text: str) -> None:
    """Talk: to stderr, so that stdout stays data."""
    talk(escaped(text))


def talk(text: str) -> None:
    """A line to stderr as it is; where nobody listens any more (a closed pipe, a full disk), work goes on without."""
    with suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def say_error(message: str) -> None:
    """An error's message, its first word red on a terminal."""
    plain_text = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not talks_to_a_terminal()
    word = "error:" if plain_text else "\x1b[1;31merror:\x1b[0m"
    talk(f"{word} {escaped(message)}")


def show_notes() -> None:
    """What deitkit's library logs at INFO or above becomes talk; a program that uses the library decides for itself."""
    import logging

    class Talk(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger = logging.getLogger("deitkit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [Talk()]


GAP = 2  # cells between two columns, where there is room


@dataclass(frozen=True)
class Column:
    """One column's cells. `short` ones stand in for them where it is narrow, and longer ones than `least` are cut, at
    the `cut_start` or the end. An `optional` one is left out before that."""

    name: str
    cells: Sequence[str]
    short: Sequence[str] = ()
    least: int = 0
    cut_start: bool = False
    optional: bool = False
    numbers: bool = False

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(map(cell_len, (self.name, *self.cells)))


def fit(columns: Sequence[Column], width: int | None) -> list[str]:
    """The heading and every row, as lines of at most `width` cells; as they are where it is None.

    Optional columns go from the last on; then the first column whose cells have short forms takes these, then the next;
    then those that may be cut are cut, the widest first.
    """
    from rich.cells import cell_len

    chosen, gap = [column for column in columns if not _is_empty(column)], GAP
    while width is not None and _total(chosen, gap) > width:
        optional = [column for column in chosen if column.optional]
        long = [place for place, column in enumerate(chosen) if column.short]
        cuttable = [place for place, column in enumerate(chosen) if column.least and column.width > column.least]
        if optional:
            chosen.remove(optional[-1])
        elif long:
            column = chosen[long[0]]
            chosen[long[0]] = replace(column, cells=column.short, short=())
        elif gap > 1:
            gap = 1
        elif cuttable:
            widest = max(cuttable, key=lambda place: chosen[place].width - chosen[place].least)
            too_much = _total(chosen, gap) - width
            chosen[widest] = _cut(chosen[widest], max(chosen[widest].least, chosen[widest].width - too_much))
        else:
            break
    widths = [column.width for column in chosen]
    lines = []
    for row in zip(*((column.name, *column.cells) for column in chosen), strict=True):
        padded = [
            " " * (size - cell_len(text)) + text if column.numbers else text + " " * (size - cell_len(text))
            for column, text, size in zip(chosen, row, widths, strict=True)
        ]
        lines.append((" " * gap).join(padded).rstrip())
    return lines


def _is_empty(column: Column) -> bool:
    return column.optional and not any(column.cells)


def _total(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _cut(column: Column, width: int) -> Column:
    return replace(column, cells=[shortened(cell, width, start=column.cut_start) for cell in column.cells])


def shortened(text: str, width: int, *, start: bool = False) -> str:
    """At most `width` cells of a text, with `~` for what is left out at its start or its end."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if not start:
        return set_cell_size(text, width - 1).rstrip() + "~"
    while cell_len(text) > width - 1:
        text = text[1:]
    return f"~{text}"
