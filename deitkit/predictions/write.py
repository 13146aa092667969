"""Answers of `deitkit predict` as files: CSV, JSON lines, JSON or Parquet, written as they come."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from deitkit.errors import DeitkitError, one_of
from deitkit.files import saving
from deitkit.predictions.classify import ClassifiedImage

Take = Callable[[ClassifiedImage], None]
COLUMNS = ("image", "decision", "confidence", "heads_disagree", "problem")
FORMATS = ("csv", "jsonl", "json", "parquet")
ROWS = 4096  # of a Parquet file's row group


def format_of(path: Path) -> str:
    """The format that a file's ending names.

    Raises:
        DeitkitError: it names none.
    """
    if not path.suffix:
        return "json"
    return one_of(path.suffix.lower().removeprefix("."), FORMATS, what="ending of an output")


def row_of(image: ClassifiedImage) -> tuple[Any, ...]:
    """An answer in the order of `COLUMNS`."""
    best = image.decision
    return (
        str(image.path), best.name if best else None, best.confidence if best else None, image.heads_disagree,
        image.problem or None,
    )  # fmt: skip


@contextmanager
def writing(path: Path) -> Iterator[Take]:
    """Write each answer that is handed over, in the format of the path's ending; the file stands there when all are."""
    kind = format_of(path)
    temporary = path.with_name(f".{path.name}.tmp") if path.is_file() or not path.exists() else path
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _parquet(temporary) if kind == "parquet" else _text(temporary, kind) as take:
                yield take
            if temporary != path:
                temporary.replace(path)
        finally:
            if temporary != path:
                temporary.unlink(missing_ok=True)


@contextmanager
def _text(path: Path, kind: str) -> Iterator[Take]:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file, WRITERS[kind](file) as take:
        yield take


@contextmanager
def to_csv(file: TextIO) -> Iterator[Take]:
    """One row an image: its path, the decision, its confidence, whether the heads disagree, what was wrong."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    yield lambda image: writer.writerow(["" if value is None else value for value in row_of(image)])


@contextmanager
def to_json_lines(file: TextIO) -> Iterator[Take]:
    """One object an image and line, with every head's guesses."""
    yield lambda image: _write_line(file, image)


def _write_line(file: TextIO, image: ClassifiedImage) -> None:
    file.write(json.dumps(image.as_dict()) + "\n")


@contextmanager
def to_json(file: TextIO) -> Iterator[Take]:
    """One list of objects, with every head's guesses."""
    begun = False

    def take(image: ClassifiedImage) -> None:
        nonlocal begun
        file.write((",\n" if begun else "[\n") + json.dumps(image.as_dict(), indent=2))
        begun = True

    yield take
    file.write("\n]\n" if begun else "[]\n")


WRITERS = {"csv": to_csv, "jsonl": to_json_lines, "json": to_json}


@contextmanager
def _parquet(path: Path) -> Iterator[Take]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.string(), pa.float32(), pa.bool_(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    rows: list[tuple[Any, ...]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
            writer.write_table(pa.table([list(column) for column in columns], schema=schema))
            rows.clear()

        def take(image: ClassifiedImage) -> None:
            rows.append(row_of(image))
            if len(rows) >= ROWS:
                flush()

        yield take
        flush()


def sort_into(folder: Path, image: ClassifiedImage) -> Path | None:
    """Copy an image into the folder of its decision; equal names get a number. None for one that could not be read.

    Raises:
        DeitkitError: the disk refuses.
    """
    best = image.decision
    if best is None:
        return None
    place = folder / best.name.replace("/", "_").replace("\0", "_").lstrip(".")
    with saving(place):
        place.mkdir(parents=True, exist_ok=True)
        target, number = place / image.path.name, 1
        while target.exists():
            target, number = place / f"{image.path.stem}_{number}{image.path.suffix}", number + 1
        shutil.copyfile(image.path, target)
    return target


def refuse_filled(folder: Path) -> None:
    """Raise unless images may be sorted into this folder: it is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeitkitError(
            f"{folder} is not empty", value=str(folder), remedy="name a new folder: images are only ever added to it"
        )
