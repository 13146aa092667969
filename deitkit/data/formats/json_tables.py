"""A JSON file of large tables, column by column: `{"images": [{"id": 7, "file_name": ...}, ...], ...}`.

Read piece by piece, so that neither the text nor a Python object a row is ever held: 675,000 images in 100 MB instead
of 1,300. Knows no data set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

CHUNK = 2**20  # characters that are read at once
FEW = 2**12  # characters that are read value by value
BLANKS = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


def read_tables(file: Path, columns: Mapping[str, Sequence[str]]) -> Any:
    """The file's value; of the tables named in `columns` the values of these keys, a list each, in the rows' order.
    A row that has no such key, or is no object, has None there.

    Raises:
        ValueError: it is no JSON, or no UTF-8.
        OSError: it cannot be read.
    """
    with open(file, encoding="utf-8-sig") as opened:
        text = _Text(opened)
        if text.mark() != "{":
            found = text.value()
        else:
            text.take("{")
            found = {}
            end = text.take("}") if text.mark() == "}" else ""
            while end != "}":
                key = text.value()
                text.take(":")
                is_table = key in columns and text.mark() == "["
                found[key] = _columns(text, columns[key]) if is_table else text.value()
                end = text.take(",}")
        if text.mark():
            raise ValueError("more stands behind its end")
    return found


def _columns(text: _Text, keys: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {key: [] for key in keys}
    text.take("[")
    end = text.take("]") if text.mark() == "]" else ""
    while end != "]":
        rows = text.rows()
        for key, values in found.items():
            values += [row.get(key) if isinstance(row, dict) else None for row in rows]
        end = text.take(",]")
    return found


class _Text:
    """A file's text from a place on, as much of it as is needed."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.place, self.has_ended = file, "", 0, False

    def mark(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            self.place = BLANKS.match(self.text, self.place).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.place < len(self.text):
                return self.text[self.place]
            if self.has_ended:
                return ""
            self._read_on()

    def take(self, marks: str) -> str:
        """The next character, which must be one of these."""
        found = self.mark()
        if not found or found not in marks:
            raise ValueError(f"{found or 'its end'} stands where {' or '.join(marks)} should")
        self.place += 1
        return found

    def value(self) -> Any:
        """The next value."""
        while True:
            self.mark()
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except ValueError:
                if self.has_ended:
                    raise
            else:
                if end < len(self.text) or self.has_ended:  # else it may go on
                    self.place = end
                    return value
            self._read_on()

    def rows(self) -> list[Any]:
        """The next values of a list: many that are whole, or one."""
        self.mark()
        size = len(self.text) - self.place
        while size > FEW:
            cut = self.text.rfind("},", self.place, self.place + size) + 1
            try:
                values: list[Any] = json.loads(f"[{self.text[self.place : cut]}]") if cut else []
            except ValueError:  # it was cut inside a row, or behind the list
                values = []
            if values:
                self.place = cut
                return values
            size //= 2
        return [self.value()]

    def _read_on(self) -> None:
        more = self.file.read(max(CHUNK, len(self.text) - self.place))
        self.text, self.place, self.has_ended = self.text[self.place :] + more, 0, not more
