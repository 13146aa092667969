"""A predictions file as it lies on the disk: Parquet columns and metadata, held against what deitkit writes.

`deitkit/predictions/table.py` writes it, and says what the columns are. Legend: N images, K classes, k classes kept.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deitkit.errors import DeitkitError
from deitkit.predictions.rows import Rows, empty_rows
from deitkit.records import checked_json

FORMAT = 1
METADATA_KEY = b"deitkit.predictions"  # part of the files, whatever this module is called
LOGITS = ".logits"  # how their columns end
MOST_ROWS = 2**14  # of logits that are held as they are stored
ANEW = "deitkit evaluate RUN writes it anew"
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


@dataclass(frozen=True)
class Metadata:
    """What holds for the whole table. `escaped` says that names have bytes that are no UTF-8."""

    dataset: str
    split: str
    fingerprint: str
    classifier: str
    class_names: tuple[str, ...]
    heads: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    escaped: bool = False


@dataclass(frozen=True)
class _Format:
    format: int = 0


@dataclass(frozen=True, eq=False)
class HeadPredictions:
    """What one head says of N images; k is the smaller of 5 and K.

    top [N, k] class indices, best first; confidence [N, k] their probabilities; logits [N, K].
    """

    name: str
    top: NDArray[np.int64]
    confidence: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """The whole file; `accepted` has the labels that are right for each image, where several may be."""

    about: Metadata
    ids: list[str]
    labels: NDArray[np.int64]
    heads: dict[str, HeadPredictions]
    paths: list[str] | None
    accepted: list[list[int]] | None
    doubted: NDArray[np.bool_] | None


def read_stored(path: Path, *, logits: bool) -> Stored:
    """A predictions file; without `logits` they are left on the disk.

    Raises:
        DeitkitError: missing, damaged, or not as deitkit writes it.
    """
    if not path.is_file():
        raise DeitkitError(f"there are no predictions at {path}", value=path, remedy="deitkit evaluate RUN")
    try:
        place = path.absolute()  # pyarrow takes a relative name with a colon for an address
        names = pq.read_schema(place).names
        table = pq.read_table(place, columns=[name for name in names if not name.endswith(LOGITS)])
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DeitkitError(f"{path} cannot be read as Parquet: {error}", value=path, remedy=ANEW) from error
    about = _metadata(table, path)
    try:
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"columns twice: {', '.join(sorted(repeated))}")
        kept = {name: _logits(place, name, table.num_rows) for name in names if logits and name.endswith(LOGITS)}
        return _stored(table, about, kept)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DeitkitError(
            f"{path} is damaged: it does not hold what its metadata says: {error}", value=path, remedy=ANEW
        ) from error


def _metadata(table: pa.Table, path: Path) -> Metadata:
    content = (table.schema.metadata or {}).get(METADATA_KEY, b"{}")
    found = checked_json(content, _Format, name=str(path), remedy=ANEW).format
    if found != FORMAT:
        what = f"{path} does not hold predictions of this version of deitkit"
        raise DeitkitError(what, value=found, remedy=ANEW)
    return checked_json(content, Metadata, name=f"{path}: its metadata", remedy=ANEW)


def _logits(path: Path, name: str, rows: int) -> Rows:
    """A column of N lists of numbers as [N, K], row group by row group."""
    found, start = None, 0
    with pq.ParquetFile(path, pre_buffer=False) as file:  # which would hold all groups until the last is read
        groups = range(file.num_row_groups)
        batches = (file.iter_batches(MOST_ROWS, row_groups=[group], columns=[name]) for group in groups)
        for batch in itertools.chain.from_iterable(batches):
            table = pa.Table.from_batches([batch])
            table.validate(full=True)
            part = _matrix(table[name], name)
            found = empty_rows(rows, part.shape[1]) if found is None else found
            found[start : start + len(part)] = part
            start += len(part)
        width = file.schema_arrow.field(name).type
    if start != rows:
        raise ValueError(f"{name}: {start} rows of {rows}")
    if found is None:
        return empty_rows(0, width.list_size if pa.types.is_fixed_size_list(width) else 0)
    return found


def _stored(table: pa.Table, about: Metadata, logits: Mapping[str, Rows]) -> Stored:
    """The columns, each of N rows and of its type; class indices are below K, probabilities from 0 to 1."""
    names, classes = table.column_names, len(about.class_names)
    if not classes or not about.heads or len(set(about.heads)) != len(about.heads):
        raise ValueError("no classes, or no heads, or one of them twice")
    labels = _numbers(table["label"], "label").astype(np.int64)
    _need_indices(labels, classes, "label")
    accepted = table["accepted"].to_pylist() if "accepted" in names else None
    if accepted is not None:
        _need_indices(np.array([label for row in accepted for label in row], np.int64), classes, "accepted")
    return Stored(
        about, read_names(table["image_id"], about), labels,
        {name: _head(table, name, classes, logits.get(f"{name}{LOGITS}")) for name in about.heads},
        read_names(table["path"], about) if "path" in names else None, accepted,
        _marks(table["doubted"], "doubted") if "doubted" in names else None,
    )  # fmt: skip


def _head(table: pa.Table, name: str, classes: int, logits: Rows | None) -> HeadPredictions:
    top = _matrix(table[f"{name}.top"], f"{name}.top").astype(np.int64)
    confidence = _matrix(table[f"{name}.confidence"], f"{name}.confidence").astype(np.float32)
    _need_indices(top, classes, f"{name}.top")
    if top.shape != confidence.shape or not 1 <= top.shape[1] <= classes:
        raise ValueError(f"{name}: {top.shape[1]} classes of {classes}, {confidence.shape[1]} probabilities")
    if not ((confidence >= 0) & (confidence <= 1 + 1e-3)).all():
        raise ValueError(f"{name}.confidence: from 0 to 1")
    if logits is not None and logits.shape[1] != classes:
        raise ValueError(f"{name}.logits: {logits.shape[1]} for {classes} classes")
    return HeadPredictions(name, top, confidence, logits)


def _need_indices(values: NDArray[np.int64], classes: int, name: str) -> None:
    if values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(f"{name}: {values.min()} to {values.max()} for {classes} classes")


def _numbers(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of numbers, none of them missing."""
    if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise TypeError(f"{name}: {column.type} with {column.null_count} empty places")
    values: NDArray[Any] = column.to_numpy()
    return values


def _marks(column: pa.ChunkedArray, name: str) -> NDArray[np.bool_]:
    """A column of yes and no, none of them missing."""
    if column.null_count or not pa.types.is_boolean(column.type):
        raise TypeError(f"{name}: {column.type} with {column.null_count} empty places")
    return np.asarray(column.to_numpy(), dtype=np.bool_)


def _matrix(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of N lists of k -> [N, k]."""
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise TypeError(f"{name}: {column.type} with {column.null_count} empty places, no lists of one length")
    lists = column.combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists  # of no rows
    values = _numbers(pa.chunked_array([lists.flatten()]), name)
    return values.reshape(len(column), column.type.list_size)


def read_names(column: pa.ChunkedArray, about: Metadata) -> list[str]:
    """A column of names."""
    if not pa.types.is_string(column.type) or column.null_count:
        raise TypeError(f"names: {column.type} with {column.null_count} empty places")
    names: list[str] = column.to_numpy().tolist()  # twice as quick as to_pylist
    return [unescaped(name) for name in names] if about.escaped else names


def escaped(name: str) -> str:
    """A name as text, its other bytes as `\\xe9` and its backslashes doubled, so that `unescaped` gives it back."""
    return name.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unescaped(text: str) -> str:
    """The name that `escaped` wrote."""
    return _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)) if found[1] else "\\", text)


def as_metadata(values: Mapping[str, Any]) -> dict[bytes, str]:
    """A schema's metadata."""
    return {METADATA_KEY: json.dumps({"format": FORMAT, **values})}
