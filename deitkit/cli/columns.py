"""Rows of text that stay one line each, at any width: what matters less goes first, then words become short ones.

`render.print_table` folds long cells into several lines; this is for lists whose every line is one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
