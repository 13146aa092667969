"""What the label columns of a table say: names, numbers, one column a class. Several labels an image are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from deitkit.data.formats.columns import (
    LABEL_NAMES,
    TableLayout,
    find_column,
    is_usual,
    plain_name,
    read_texts,
    refuse_empty,
)
from deitkit.data.late import pa, pc
from deitkit.errors import DeitkitError

_ONE, _ZERO = ("1", "1.0", "true"), ("0", "0.0", "false", "")
_WHOLE = re.compile(r"-?\d+(\.0+)?")
_SEVERAL = ("labels", "tags", "classes", "categories", "attributes")
_SINGLE = "deitkit trains on one label an image; take the other labels out, or name another column: --set "
_SINGLE += "data.label_column=NAME"


def label_column(layout: TableLayout, given: str | None, taken: Sequence[str]) -> tuple[str, ...]:
    """The column of labels, or the columns of a table that has one a class.

    Raises:
        DeitkitError: there is neither.
    """
    if given is None and not any(is_usual(name, LABEL_NAMES) for name in layout.names):
        columns = _one_a_class(layout, [name for name in layout.names if name not in taken])
        if columns:
            return columns
    return (find_column(layout.names, given, LABEL_NAMES, key="label_column", where=layout.path),)


def labels_of(layout: TableLayout, columns: Sequence[str], texts: Sequence[Any], notes: list[str]) -> Any:
    """One label a row, as an arrow array of text.

    Raises:
        DeitkitError: rows have none, or several.
    """
    if len(columns) > 1:
        notes.append(f"{layout.path.name} has one column a class: {', '.join(columns[:10])}")
        return _chosen(layout, columns, texts)
    (column,) = texts
    column = _whole_numbers(column)
    refuse_empty(layout, columns[0], column)
    _refuse_several(layout, columns[0], column, notes)
    return column


def _one_a_class(layout: TableLayout, names: Sequence[str]) -> tuple[str, ...]:
    """Columns of nothing but 0 and 1, where there are two or more."""
    if len(set(names)) < max(2, len(names)):
        return ()
    found = []
    for name, column in zip(names, read_texts(layout, names), strict=True):
        values = pc.unique(pc.utf8_lower(column))
        if pc.all(pc.is_in(values, value_set=pa.array([*_ONE, *_ZERO], type=values.type))).as_py():
            found.append(name)
    return tuple(found) if len(found) > 1 else ()


def _chosen(layout: TableLayout, columns: Sequence[str], texts: Sequence[Any]) -> Any:
    """The one column of each row that is 1."""
    import numpy as np

    masks = [pc.is_in(pc.utf8_lower(text), value_set=pa.array(_ONE, type=text.type)).to_numpy() for text in texts]
    table = np.stack(masks, axis=1)
    counts = table.sum(axis=1)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        kind = "several labels" if (counts > 1).any() else "no label"
        raise DeitkitError(
            f"{layout.path} has one column a class ({', '.join(columns[:10])}), and {len(wrong):,} rows have {kind}",
            value=", ".join(columns[:10]),
            problems=[f"row {row + 1}: {int(counts[row])} of the columns are 1" for row in wrong[:5].tolist()],
            remedy=_SINGLE,
        )
    names = np.array(columns, dtype=object)
    return pa.array(names[table.argmax(axis=1)].tolist(), type=pa.large_string())


def _whole_numbers(column: Any) -> Any:
    """Numbers written by a library that makes them real where one is missing: 0.0 is class 0, nan is no label."""
    values = [value for value in pc.unique(column).to_pylist() if value]
    numbers = [value for value in values if value.lower() != "nan"]
    if not numbers or not all(_WHOLE.fullmatch(value) for value in numbers):
        return column
    if len(numbers) < len(values):
        column = pc.if_else(pc.equal(pc.utf8_lower(column), "nan"), pa.scalar("", column.type), column)
    if any("." in value for value in numbers):
        column = pc.replace_substring_regex(column, pattern=r"\.0+$", replacement="")
    return column


def _refuse_several(layout: TableLayout, name: str, column: Any, notes: list[str]) -> None:
    """Whether labels are made of other labels: `scab rust` where scab and rust are labels, too."""
    values = set(pc.unique(column).to_pylist())
    for mark in ("|", ";", ",", " "):
        made = sorted(
            value
            for value in values
            if mark in value and all(part.strip() in values for part in value.split(mark) if part.strip())
        )
        if made and (mark != " " or plain_name(name) in _SEVERAL):
            raise DeitkitError(
                f"{layout.path} has several labels an image in column {name!r}: {', '.join(map(repr, made[:5]))}",
                value=made[0],
                remedy=_SINGLE,
            )
        if made:
            notes.append(f"{layout.path.name}: {made[0]!r} is a class of its own, though its words are labels, too")
