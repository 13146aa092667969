"""A table of paths and labels: one CSV, TSV or Parquet file, or one a split. Decodes nothing.

Ids are the paths, relative where they can be, and sorted, so that the order of the rows does not matter. Parquet files
that hold the images themselves are another form.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deitkit.data.formats.columns import (
    IMAGE_NAMES,
    LABEL_NAMES,
    SPLIT_NAMES,
    find_column,
    is_usual,
    layout_of,
    read_texts,
    refuse_empty,
)
from deitkit.data.formats.folder import VAL_NAMES, beside, check_classes, class_order
from deitkit.data.formats.image_parquet import has_images
from deitkit.data.formats.split import hold_out, refuse_fraction
from deitkit.data.source import SUFFIXES, Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

ENDINGS = (".csv", ".tsv", ".parquet")
WHOLE = ("labels", "annotations", "metadata")  # tables of all splits, or of none
SPLIT_VALUES = {"training": "train", **{name: name for name in ("train", *VAL_NAMES)}}

_LOOKED_UP = 20  # rows that are tried on disk to find out what their paths are relative to
_LOOKED_INTO = 50  # folders beside the table in which they are looked for


@dataclass(frozen=True)
class Rows:
    """One split's rows: the text of both columns as arrow arrays, and what to call them in a message."""

    name: str
    paths: Any
    labels: Any


def open_table(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images that a table, or a folder's tables, name.

    Raises:
        DeitkitError: unknown columns or splits, empty labels, an image named twice, a class of val that train lacks,
            or no image where the table says.
    """
    rows, notes = _rows(root, data)
    val = [name for name in VAL_NAMES if name in rows]
    rows = {name: rows[name] for name in ("train", *val[:1]) if name in rows}
    class_names, said = _classes(rows)
    folder, ids, found = _located(root if root.is_dir() else root.parent, rows)
    _refuse_twice(root, ids)
    name = "train" if split == "train" or not val else val[0]
    if name not in rows:
        raise DeitkitError(f"{root} has no rows of training images", value=root, remedy="add them")
    notes = [*notes, *found, *((*beside(val), *said) if name != "train" else ())]
    source = _files(folder, ids[name], rows[name], class_names=class_names, split=split, data=data, notes=notes)
    if not val:
        return hold_out(source, data, split, root=root)
    if "train" in rows:
        refuse_fraction(data, root, val[0])
    return source


def _tables(root: Path) -> dict[str, Path]:
    """Split -> table; a table of everything has the split ""."""
    if root.is_file():
        return {"": root} if root.suffix.lower() in ENDINGS else {}
    below = _listing(root)
    found: dict[str, Path] = {}
    for stem in ("train", *VAL_NAMES, *WHOLE):
        ending = next((ending for ending in ENDINGS if stem + ending in below), None)
        if ending:
            found[stem] = root / (stem + ending)
    splits = {stem: path for stem, path in found.items() if stem not in WHOLE}
    return splits or dict(zip([""], found.values(), strict=False))


def _rows(root: Path, data: schema.Data) -> tuple[dict[str, Rows], list[str]]:
    """Split -> its rows ("train" where there are no splits), and what was chosen or left out."""
    found: dict[str, Rows] = {}
    notes = []
    for split, table in _tables(root).items():
        layout = layout_of(table)
        if split == "test" and not any(
            name == data.label_column or is_usual(name, LABEL_NAMES) for name in layout.names
        ):
            notes.append(f"{table.name} has no labels and is left out")  # as those of competitions
            continue
        names = [
            find_column(layout.names, data.image_column, IMAGE_NAMES, key="image_column", where=table),
            find_column(layout.names, data.label_column, LABEL_NAMES, key="label_column", where=table),
        ]
        if not split and (data.split_column or any(is_usual(name, SPLIT_NAMES) for name in layout.names)):
            names.append(find_column(layout.names, data.split_column, SPLIT_NAMES, key="split_column", where=table))
        columns = read_texts(layout, names)
        for name, column in zip(names[:2], columns, strict=False):
            refuse_empty(layout, name, column)
        for name, usual in zip(names, (IMAGE_NAMES, LABEL_NAMES, SPLIT_NAMES), strict=False):
            others = [other for other in layout.names if other not in names and is_usual(other, usual)]
            if others:
                notes.append(f"{table.name}: column {name!r} is used, {', '.join(map(repr, others))} not")
        if len(names) == 3:
            found |= _cut(table, *columns)
        else:
            found[split or "train"] = Rows(str(table), *columns)
    return found, notes


def _cut(table: Path, paths: Any, labels: Any, splits: Any) -> dict[str, Rows]:
    """Rows by the values of the split column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    splits = pc.utf8_lower(splits)
    values = pc.unique(splits).to_pylist()
    unknown = sorted(value for value in values if value not in SPLIT_VALUES)
    if unknown:
        raise DeitkitError(
            f"{table} has rows of unknown splits: {', '.join(map(repr, unknown[:10]))}",
            value=unknown[0],
            choices=SPLIT_VALUES,
            remedy="mend these rows, or name the right column: --set data.split_column=NAME",
        )
    found = {}
    for split in dict.fromkeys(SPLIT_VALUES[value] for value in values):
        names = [value for value in values if SPLIT_VALUES[value] == split]
        mask = pc.is_in(splits, value_set=pa.array(names, type=splits.type))
        found[split] = Rows(f"{table} ({split})", paths.filter(mask), labels.filter(mask))
    return found


def _classes(rows: dict[str, Rows]) -> tuple[tuple[str, ...], list[str]]:
    """The training rows' classes, which are the only ones that others may have, and which of them those lack."""
    import pyarrow.compute as pc

    named = {split: class_order(pc.unique(part.labels).to_pylist()) for split, part in rows.items()}
    train = named.get("train")
    notes = []
    for split, names in named.items():
        known = train if split != "train" and train else ()
        check_classes(names, rows[split].name, known=known, remedy="mend its labels" if known else "name others")
        absent = sorted(set(known).difference(names))
        if absent:
            notes.append(counted(f"classes have no images in {rows[split].name}", absent))
    return train or next(iter(named.values())), notes


def _located(folder: Path, rows: dict[str, Rows]) -> tuple[Path, dict[str, list[str]], list[str]]:
    """The folder that ids are relative to, split -> ids in the order of its rows, and what was found out."""
    ids: dict[str, list[str]] = {}
    notes = []
    for split, part in rows.items():
        paths = part.paths.to_pylist()
        if all("\\" in path and "/" not in path for path in paths[:_LOOKED_UP]):
            paths = [path.replace("\\", "/") for path in paths]
        base, ending = _completion(folder, split, paths[:_LOOKED_UP])
        if base or ending:
            notes.append(f"paths of {part.name} are completed to {folder / base}/PATH{ending}")
        whole = [path if path.startswith("/") else f"{base}{path}{ending}" for path in paths]
        ids[split] = [str(PurePosixPath(path)) if "//" in path or "/./" in f"/{path}" else path for path in whole]
    return _relative(folder, ids, notes)


def _completion(folder: Path, split: str, paths: Sequence[str]) -> tuple[str, str]:
    """What stands before and after the paths on disk; two empty strings where that cannot be found out.

    A folder beside the table that has no usual name counts where no other holds these images.
    """
    complete = any(path.lower().endswith(tuple(SUFFIXES)) for path in paths)
    endings = ("",) if complete else ("", *sorted(SUFFIXES), *sorted(ending.upper() for ending in SUFFIXES))

    def fits(base: str) -> Iterator[tuple[str, str]]:
        for ending in endings:
            if any((folder / f"{base}{path}{ending}").is_file() for path in paths):
                yield base, ending

    usual = next((fit for base in ("", "images/", f"{split}/", f"images/{split}/") for fit in fits(base)), None)
    if usual:
        return usual
    others = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    found = [fit for other in others[:_LOOKED_INTO] for fit in fits(f"{other}/")]
    return found[0] if len(found) == 1 else ("", "")


def _relative(
    folder: Path, ids: dict[str, list[str]], notes: list[str]
) -> tuple[Path, dict[str, list[str]], list[str]]:
    """Absolute ids made relative to the table's folder, or to the one that all of them share.

    So they are the same on another machine. Where absolute and relative ones are mixed, those outside stay as they are.
    """
    absolute = [path for part in ids.values() for path in part if path.startswith("/")]
    if not absolute:
        return folder, ids, notes
    tops = [f"{os.path.abspath(folder)}/", f"{os.path.realpath(folder)}/"]  # noqa: PTH100 - the text counts
    top = next((top for top in tops if absolute[0].startswith(top)), tops[0])
    if len(absolute) == sum(map(len, ids.values())) and not all(path.startswith(top) for path in absolute):
        folder = Path(os.path.commonpath([PurePosixPath(path).parent for path in (min(absolute), max(absolute))]))
        top = f"{folder}/".replace("//", "/")
        notes = [*notes, f"ids are relative to {top}, which all paths have in common"]
    return folder, {split: [path.removeprefix(top) for path in part] for split, part in ids.items()}, notes


def _refuse_twice(root: Path, ids: dict[str, list[str]]) -> None:
    """An image stands in one row: in two it would count twice, or be trained on and measured on."""
    images = sorted(image for part in ids.values() for image in part)
    twice = sorted({image for image, following in pairwise(images) if image == following})
    if twice:
        what = counted(f"images stand in {root} more than once", twice)
        raise DeitkitError(what, value=twice[0], remedy="keep one row of each")


def _files(
    root: Path,
    ids: list[str],
    rows: Rows,
    *,
    class_names: tuple[str, ...],
    split: str,
    data: schema.Data,
    notes: Sequence[str],
) -> Files:
    """The images that are there, sorted by id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    labels = pc.index_in(rows.labels, value_set=pa.array(class_names, type=rows.labels.type)).to_numpy()
    there = np.array(_there(root, ids))
    missing = sorted(image for image, found in zip(ids, there.tolist(), strict=True) if not found)
    if len(missing) == len(ids):
        raise DeitkitError(
            counted(f"images, all that {rows.name} names, are not below {root}", missing),
            value=root,
            remedy="paths are relative to the table's folder or to images/ in it: move the table or mend the paths",
        )
    order = np.array(sorted(np.flatnonzero(there).tolist(), key=ids.__getitem__), dtype=np.int64)
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=class_names,
        labels=labels.astype(np.int64)[order],
        ids=PackedNames([ids[index] for index in order.tolist()]),
        notes=(*notes, *([counted(f"images of {rows.name} are not there", missing)] if missing else [])),
    )


def _there(root: Path, ids: Sequence[str]) -> list[bool]:
    """Whether each image is on disk: one look into each folder instead of one for each image."""
    listed: dict[str, set[str]] = {}
    found = []
    for image in ids:
        parent, _, name = image.rpartition("/")
        if parent not in listed:
            listed[parent] = _listing(root / (parent or ("/" if image.startswith("/") else "")))
        found.append(name in listed[parent])
    return found


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise DeitkitError(f"cannot list folder {folder}: {error.strerror}", remedy="make it readable") from error


def _is_table(root: Path) -> bool:
    """A table of paths, or a folder of such; beside train/CLASS/IMAGE tables are not asked."""
    if not _tables(root) or has_images(root):
        return False
    train = root / "train"
    return not (train.is_dir() and any(entry.is_dir() for entry in train.iterdir()))


TABLE = Form(
    "table of paths and labels",
    "TABLE.csv (.tsv, .parquet) with columns image, label and maybe split; or ROOT/train.csv and ROOT/val.csv; or "
    f"ROOT/{WHOLE[0]}.csv; images relative to ROOT or ROOT/images",
    _is_table,
    open_table,
)
