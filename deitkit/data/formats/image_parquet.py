"""Parquet files that hold the images themselves, as data sets are mirrored: `train-*.parquet` and `test-*.parquet`.

A table of image *paths* is another form. An image costs the reading of its row group, so packed shards are faster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.data.formats.canonical import KnownClasses, name_classes, plain_names
from deitkit.data.formats.split import open_split
from deitkit.data.formats.split_names import SPLIT_WORDS, SPLITS
from deitkit.data.late import pa, pq
from deitkit.data.source import Form, Images, Indices, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

TREE = "ROOT/data/train-*.parquet and ROOT/data/test-*.parquet, with the images' bytes and a label column"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "image_bytes", "bytes")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_label", "target", "y", "cls")
# The root itself, and the folders in which mirrors keep a configuration: a search of every folder would take long.
PLACES = (".", "data", "default", "plain_text", "cifar10", "cifar100")
COLUMNS = "--set data.image_column=NAME and --set data.label_column=NAME name the columns"


@dataclass(frozen=True, kw_only=True)
class ImageParquet(Images):
    """Rows of `files`; row groups follow each other, and `ends` [groups] are the images up to the end of each."""

    root: Path
    files: tuple[str, ...]
    groups: tuple[tuple[int, int], ...]  # of which file, and which of its row groups
    ends: Indices
    column: str

    def read(self, index: int) -> bytes:
        place = range(len(self))[index]
        position = int(np.searchsorted(self.ends, place, side="right"))
        file, group = self.groups[position]
        first = int(self.ends[position - 1]) if position else 0
        cell = _row_group(self.root / self.files[file], group, self.column)[place - first].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if content is None:
            raise DeitkitError(f"{self.ids[index]} in {self.root} has no image", value=self.ids[index], remedy=COLUMNS)
        return bytes(content)


@lru_cache(maxsize=2)  # a process of its own reads a few images of one group, then of another
def _row_group(path: Path, group: int, column: str) -> Any:
    """The images of one row group; without threads, since the reading process may have been forked."""
    try:
        with pq.ParquetFile(path) as file:
            is_nested = pa.types.is_struct(file.schema_arrow.field(column).type)
            leaf = f"{column}.bytes" if is_nested else column
            return file.read_row_group(group, columns=[leaf], use_threads=False).column(0)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DeitkitError:
    return DeitkitError(f"cannot read {path}: {error}", value=path, remedy="get the file again")


def open_parquet(root: Path, data: schema.Data, split: str) -> Source:
    """One split of any data set in this form.

    Raises:
        DeitkitError: a file is unreadable, or has no such columns or labels.
    """
    return _open(root, data, split, files=_parts(root))


def canonical_parquet(classes: KnownClasses) -> Form:
    """The form of a known data set: canonical names and numbers; val is test, and validation images are trained on."""
    from_zero = replace(classes, numbered_from=0)  # labels of this form are numbers of classes, whatever the folders'

    def open_canonical(root: Path, data: schema.Data, split: str) -> Source:
        parts = _parts(root)
        train, val, test = (parts.get(name, []) for name in SPLITS)
        files = {"train": train + val, "test": test} if test else {"train": train, "val": val}
        there = {name: paths for name, paths in files.items() if paths}
        return _open(root, data, split, files=there, classes=from_zero)

    return Form("Parquet files of images", TREE, has_images, open_canonical)


def has_images(root: Path) -> bool:
    """Whether there are images in Parquet files; the first file's columns tell."""
    files = [path for part in _parts(root).values() for path in part]
    try:
        return bool(files) and bool(_image_columns(pq.read_schema(files[0])))
    except (OSError, pa.ArrowException):
        return True  # opening it says what is wrong


def _parts(root: Path) -> dict[str, list[Path]]:
    """Parquet files of each part, sorted: named `train-...`, or in a folder of that name. One file alone is train."""
    if root.is_file():
        return {"train": [root]} if root.suffix == ".parquet" else {}
    found: dict[str, list[Path]] = {}
    for part, words in SPLIT_WORDS.items():
        named = re.compile(rf"({'|'.join(words)})([^a-z].*)?\.parquet", re.IGNORECASE)
        for place in (root / name for name in PLACES):
            inside = [path for path in place.glob("*.parquet") if named.fullmatch(path.name)]
            inside += [path for word in words for path in place.glob(f"{word}/*.parquet")]
            paths = sorted(path for path in inside if not path.name.endswith(".index.parquet"))
            if paths:
                found.setdefault(part, []).extend(paths)
    return found


def _open(
    root: Path, data: schema.Data, split: str, *, files: dict[str, list[Path]], classes: KnownClasses | None = None
) -> Source:
    first = files.get("train") or next(iter(files.values()))  # a split that came alone is enough to evaluate on
    image, label, names = _columns(first[0], data)
    train = _read_rows(first, label)
    values = list(range(len(names))) if names else sorted({value for value in train.values if value is not None})
    found = names or [str(value) for value in values]
    naming = name_classes(found, classes) if classes else plain_names(found)
    number = dict(zip(values, naming.labels.tolist(), strict=True))
    base = root if root.is_dir() else root.parent

    def part(name: str) -> Source:
        rows = train if files[name] is first else _read_rows(files[name], label)
        names_of_files = tuple(path.relative_to(base).as_posix() for path in rows.files)
        return ImageParquet(
            dataset=data.dataset,
            split=name,
            root=base,
            class_names=naming.class_names,
            labels=_labels(rows, number, root=root, column=label),
            ids=_ids(names_of_files, rows),
            files=names_of_files,
            groups=rows.groups,
            ends=rows.ends,
            column=image,
            notes=naming.notes,
        )

    return open_split(tuple(files), part, data, split, root=root)


def _ids(files: Sequence[str], rows: _ParquetRows) -> PackedNames:
    """FILE/ROW of each image."""
    sizes = np.diff(rows.ends, prepend=0)
    images = np.bincount([file for file, _ in rows.groups], weights=sizes, minlength=len(files)).astype(int)
    return PackedNames([f"{files[file]}/{row:06d}" for file, count in enumerate(images) for row in range(count)])


@dataclass(frozen=True)
class _ParquetRows:
    """What is known of some files without reading their images; `values` are labels as they stand there."""

    files: list[Path]
    values: list[Any]
    groups: tuple[tuple[int, int], ...]
    ends: Indices


def _read_rows(files: list[Path], label: str) -> _ParquetRows:
    values: list[Any] = []
    groups: list[tuple[int, int]] = []
    sizes: list[int] = []
    for number, path in enumerate(files):
        try:
            with pq.ParquetFile(path) as file:
                counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                values += file.read(columns=[label], use_threads=False).column(label).to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error
        groups += [(number, group) for group in range(len(counts))]
        sizes += counts
    return _ParquetRows(files, values, tuple(groups), np.cumsum(sizes, dtype=np.int64))


def _labels(rows: _ParquetRows, number: dict[Any, int], *, root: Path, column: str) -> Indices:
    strange = [f"row {row} ({value!r})" for row, value in enumerate(rows.values) if value not in number]
    if strange or not rows.values:
        raise DeitkitError(
            f"{column} of {rows.files[0].name} in {root} has labels that are no class of the training images"
            if strange
            else f"{rows.files[0]} has no rows",
            value=root,
            problems=[counted("rows", strange)] if strange else [],
            remedy="--set data.label_column=NAME names another column; rows without a label cannot be used",
        )
    return np.array([number[value] for value in rows.values], dtype=np.int64)


def _columns(path: Path, data: schema.Data) -> tuple[str, str, list[str]]:
    """The columns of images and of labels, and the labels' names where the file has them."""
    try:
        columns = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    images = _image_columns(columns)
    image = data.image_column or next(iter(images), None)
    label = data.label_column or next((name for name in LABEL_COLUMNS if name in columns.names), None)
    if image is None or image not in images or label is None or label not in columns.names:
        which = "column of image bytes" if image not in images else "column of labels"
        named = data.image_column if image not in images else data.label_column
        what = f"{path} has no {which}" + (f" {named!r}" if named else "")
        raise DeitkitError(what, value=named, choices=columns.names, remedy=COLUMNS)
    kind = columns.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        what = f"labels in column {label!r} of {path} are neither whole numbers nor text, but {kind}"
        raise DeitkitError(what, value=label, choices=columns.names, remedy=COLUMNS)
    return image, label, _names(columns, label)


def _image_columns(columns: Any) -> list[str]:
    """Columns of image bytes: binary ones of a usual name, and structs with a field of bytes."""

    def holds_images(field: Any) -> bool:
        if pa.types.is_struct(field.type):
            return bool(field.type.get_field_index("bytes") >= 0)
        return field.name in IMAGE_COLUMNS and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))

    return [field.name for field in columns if holds_images(field)]


def _names(columns: Any, label: str) -> list[str]:
    """Names of the classes as Hugging Face keeps them beside the columns; empty where it does not."""
    try:
        info = json.loads((columns.metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in info["info"]["features"][label]["names"]]
    except (ValueError, KeyError, TypeError):
        return []


IMAGE_PARQUET = Form("Parquet files of images", TREE, has_images, open_parquet)
