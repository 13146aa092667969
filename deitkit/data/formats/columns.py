"""Columns of a CSV, TSV or Parquet file as text, found by their usual names. Knows no images and no splits."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deitkit.data.late import arrow_csv, arrow_json, pa, pc, pq
from deitkit.data.source import SUFFIXES
from deitkit.errors import DeitkitError, did_you_mean

DELIMITERS = (",", ";", "\t", "|")

# Usual names, lower case and with underscores; the first that a table has is taken.
IMAGE_NAMES = (
    "image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "imagepath", "image_file",
    "image_filename", "image_name", "img", "img_path", "fname", "image_id", "id_code", "id",
)  # fmt: skip
LABEL_NAMES = (
    "label", "class", "target", "category", "species", "wnid", "class_name", "label_name", "category_name", "breed",
    "labels", "class_id", "label_id", "category_id", "class_index", "diagnosis", "dx",
)  # fmt: skip
SPLIT_NAMES = ("split", "set", "subset", "fold", "kfold", "partition", "is_valid", "is_val", "is_validation")
LIST_NAMES = ("image", "label")  # the columns of a list without a header: `PATH LABEL` on each line
_LISTED = re.compile(r"(\S.*?)[ \t,]+(\S+)")


@dataclass(frozen=True)
class TableLayout:
    """How a table is written: `delimiter` is "" for Parquet and for lines of JSON; a list has a blank."""

    path: Path
    names: tuple[str, ...]
    delimiter: str
    encoding: str


def is_usual(name: str, usual: Sequence[str]) -> bool:
    """Whether a column has one of the usual names, however it is spelled."""
    return plain_name(name) in usual


def find_column(names: Sequence[str], given: str | None, usual: Sequence[str], *, key: str, where: object) -> str:
    """The column that the recipe's data.`key` names, or else the first with a usual name.

    Raises:
        DeitkitError: there is none; the columns and the names looked for are listed.
    """
    plain = {plain_name(name): name for name in reversed(names)}
    found = given if given is not None else next((plain[name] for name in usual if name in plain), None)
    if found is not None and found in names:
        if names.count(found) > 1:
            raise DeitkitError(f"{where} has several columns {found!r}", value=found, choices=names, remedy="name them")
        return found
    remedy = f"--set data.{key}=NAME names one of its columns"
    if given is not None:
        what = f"data.{key} is {given!r}, but {where} has no such column.{did_you_mean(given, names)}"
        raise DeitkitError(what, value=given, choices=names, remedy=remedy)
    raise DeitkitError(
        f"{where} has no {key.replace('_', ' ')} that is known by its name",
        value=where,
        problems=[f"columns found: {', '.join(names)}", f"names looked for: {', '.join(usual)}"],
        remedy=remedy,
    )


def plain_name(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def layout_of(table: Path) -> TableLayout:
    """Names of the columns and, in a text, the delimiter that cuts its first row into the most.

    Raises:
        DeitkitError: the table cannot be read, is empty, or begins with an image instead of names.
    """
    ending = table.suffix.lower()
    try:
        if ending == ".parquet":
            return TableLayout(table, tuple(pq.read_schema(table).names), "", "")
        if ending == ".jsonl":
            return TableLayout(table, tuple(_read_json(table).column_names), "", "")
        with open(table, "rb") as file:
            head = file.read(1 << 24)
    except (pa.ArrowException, OSError) as error:
        raise DeitkitError(f"{table} cannot be read: {error}", value=table, remedy="mend or replace it") from error
    encoding = _encoding(head)
    text = head[: 1 << 16].decode(encoding, errors="replace").lstrip("\r\n")
    if not text:
        raise DeitkitError(f"{table} is empty", value=table, remedy="its first line names the columns: image,label")
    if ending == ".txt":
        return TableLayout(table, LIST_NAMES, " ", encoding)
    try:
        rows = {delimiter: next(csv.reader(io.StringIO(text), delimiter=delimiter)) for delimiter in DELIMITERS}
    except csv.Error as error:
        raise DeitkitError(f"{table} cannot be read: {error}", value=table, remedy="mend or replace it") from error
    delimiter = max(DELIMITERS, key=lambda delimiter: len(rows[delimiter]))
    if any(name.strip().lower().endswith(tuple(SUFFIXES)) for name in rows[delimiter]):
        raise DeitkitError(
            f"{table} does not name its columns: its first row is {delimiter.join(rows[delimiter])}",
            value=table,
            remedy="put a line with their names above it: image,label",
        )
    return TableLayout(table, tuple(rows[delimiter]), delimiter, encoding)


def _encoding(head: bytes) -> str:
    """UTF-16 by its mark, UTF-8, or else what Windows writes in western Europe."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8-sig")().decode(head)
        return "utf-8-sig"
    except UnicodeDecodeError:
        return "cp1252"


def encoding_notes(layout: TableLayout) -> list[str]:
    """Says where a text is read in an encoding that it does not declare."""
    if layout.encoding != "cp1252":
        return []
    return [f"{layout.path.name} is no UTF-8 and is read as Windows-1252: save it as UTF-8 where names look wrong"]


def read_texts(layout: TableLayout, names: Sequence[str]) -> list[Any]:
    """These columns as arrow arrays of text, without blanks around it; what is missing is "".

    Raises:
        DeitkitError: the table cannot be read, a row has more or fewer columns than the first, or there are no rows.
    """
    try:
        table = _read(layout, names)
        columns = [as_text(table.column(name)) for name in names]
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DeitkitError(
            f"{layout.path} cannot be read: {error}",
            value=layout.path,
            remedy="mend it: UTF-8 text, one value a column, quotes around a value that holds the delimiter",
        ) from error
    if not len(columns[0]):
        raise DeitkitError(f"{layout.path} has no rows", value=layout.path, remedy="every image needs one")
    return columns


def refuse_empty(layout: TableLayout, name: str, column: Any) -> None:
    """Every row says something.

    Raises:
        DeitkitError: rows of the column are empty; the first ten are named by their lines.
    """
    rows = pc.indices_nonzero(pc.equal(column, "")).to_pylist()
    if rows:
        places = ", ".join(map(str, _lines(layout, rows[:10])))
        more = f" and {len(rows) - 10:,} more" if len(rows) > 10 else ""
        raise DeitkitError(
            f"{layout.path} has nothing in column {name!r} on {'line' if layout.delimiter else 'row'} {places}{more}",
            value=name,
            remedy="fill it in, or take these rows out",
        )


def _read(layout: TableLayout, names: Sequence[str]) -> Any:
    """An arrow table; everything in a text stays text, so that 007 does not become 7."""
    if layout.path.suffix.lower() == ".jsonl":
        return _read_json(layout.path)
    if not layout.delimiter:
        return pq.read_table(layout.path, columns=list(names))
    if layout.delimiter == " ":
        return _read_list(layout)
    return arrow_csv.read_csv(
        layout.path,
        # Arrow skips the mark at the beginning of UTF-8 by itself, and other encodings take longer.
        read_options=arrow_csv.ReadOptions(encoding=layout.encoding.replace("utf-8-sig", "utf8")),
        parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(names), column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _read_json(table: Path) -> Any:
    """Lines of JSON as an arrow table."""
    return arrow_json.read_json(table)


def _read_list(layout: TableLayout) -> Any:
    """Lines of a path and a label, as those of mmpretrain and of ImageNet's lists.

    Raises:
        DeitkitError: a line is none.
    """
    lines = [line.strip() for line in layout.path.read_text(layout.encoding).splitlines()]
    rows = [_LISTED.fullmatch(line) for line in lines if line]
    if None in rows:
        number = next(number for number, line in enumerate(lines, 1) if line and not _LISTED.fullmatch(line))
        raise DeitkitError(
            f"line {number} of {layout.path} is no path and label",
            value=lines[number - 1],
            remedy="each line is PATH LABEL; a table with more columns is a .csv that names them in its first line",
        )
    columns = zip(*(row.groups() for row in rows if row), strict=True) if rows else ((), ())
    return pa.table([pa.array(column, pa.string()) for column in columns], names=list(LIST_NAMES))


def as_text(column: Any) -> Any:
    """Numbers lose a fraction of .0, which pandas gives whole ones where a value is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_boolean(column.type):
        column = pc.if_else(column, "1", "0")
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_struct(column.type):
        raise pa.ArrowInvalid(f"a column holds {column.type}: several labels an image are not supported")
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.round(column))).as_py():
        column = column.cast(pa.int64())
    return pc.utf8_trim_whitespace(column.cast(pa.large_string()).fill_null(""))


def _lines(layout: TableLayout, rows: Sequence[int]) -> Iterator[int]:
    """The lines of a text on which rows end, quoted line breaks counted; in Parquet, rows counted from 1."""
    if not layout.delimiter:
        yield from (row + 1 for row in rows)
        return
    wanted = set(rows)
    with open(layout.path, encoding=layout.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=layout.delimiter)
        for row, _ in enumerate((cells for cells in reader if cells), start=-1):
            if row in wanted:
                yield reader.line_num
