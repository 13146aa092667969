"""Tables of paths and labels: CSV, TSV, lines of JSON, Parquet or a plain list; one, or one a split. Decodes nothing.

Ids are the paths, relative where they can be, and sorted, so that the order of the rows does not matter. Parquet files
that hold the images themselves are another form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deitkit.data.formats.columns import (
    IMAGE_NAMES,
    LABEL_NAMES,
    SPLIT_NAMES,
    TableLayout,
    encoding_notes,
    find_column,
    is_usual,
    layout_of,
    read_texts,
    refuse_empty,
)
from deitkit.data.formats.folder import as_known, check_classes, class_order
from deitkit.data.formats.split import hold_out, open_split
from deitkit.data.formats.split_names import SPLIT_WORDS, split_of
from deitkit.data.formats.table_files import WHOLE, has_tables, tables_of
from deitkit.data.formats.table_labels import label_column, labels_of
from deitkit.data.formats.table_paths import located
from deitkit.data.late import pa, pc
from deitkit.data.source import Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

_SAID_BY_FLAG = {"1": "val", "true": "val", "yes": "val", "0": "train", "false": "train", "no": "train"}


@dataclass(frozen=True)
class Rows:
    """One split's rows: paths, labels and perhaps groups as arrow arrays of text; `name` is for messages."""

    name: str
    paths: Any
    labels: Any
    groups: Any = None

    def where(self, mask: Any, name: str) -> Rows:
        """Some of the rows, under another name."""
        groups = None if self.groups is None else self.groups.filter(mask)
        return Rows(name, self.paths.filter(mask), self.labels.filter(mask), groups)


def open_table(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images that a table, or a folder's tables, name.

    Raises:
        DeitkitError: unknown columns or splits, empty or several labels, an image named twice, a class of val that
            train lacks, a group in two splits, or no image where the table says.
    """
    base = root if root.is_dir() else root.parent
    rows, notes = _rows(root, base, data)
    rows, class_names, absent = _classes(rows)
    place = located(
        base, {name: part.paths.to_pylist() for name, part in rows.items()}, {name: rows[name].name for name in rows}
    )
    _refuse_twice(root, place.ids)
    _refuse_shared_groups(rows, data)
    notes += place.notes

    def part(name: str) -> Source:
        images = _files(
            place.folder, place.ids[name], rows[name], is_there=np.array(place.there[name]), class_names=class_names,
            split=name, data=data,
        )  # fmt: skip
        return replace(images, notes=(*notes, *absent.get(name, ()), *images.notes))

    if data.group_column is not None and "val" not in rows and "train" in rows and split != "test":
        group_of = dict(zip(place.ids["train"], rows["train"].groups.to_pylist(), strict=True))
        images = part("train")
        return hold_out(images, data, split, root=root, groups=[group_of[name] for name in images.ids])
    return open_split(tuple(rows), part, data, split, root=root)


def _rows(root: Path, base: Path, data: schema.Data) -> tuple[dict[str, Rows], list[str]]:
    """Split -> its rows ("train" where there are no splits), and what was chosen or left out."""
    found: dict[str, Rows] = {}
    notes: list[str] = []
    for split, table in tables_of(root).items():
        layout = layout_of(table)
        notes += encoding_notes(layout)
        if split == "test" and not _has_labels(layout, data):
            notes.append(f"{table.name} has no labels and is left out")  # as those of competitions
            continue
        part, splits = _read(layout, split, data, notes)
        if table.parent != base:
            part = replace(part, paths=_prefixed(part.paths, table.parent.relative_to(base).as_posix()))
        found |= {split or "train": part} if splits is None else _cut(table, part, splits, data)
    return found, notes


def _has_labels(layout: TableLayout, data: schema.Data) -> bool:
    return any(name == data.label_column or is_usual(name, LABEL_NAMES) for name in layout.names)


def _read(layout: TableLayout, split: str, data: schema.Data, notes: list[str]) -> tuple[Rows, Any]:
    """A table's rows, and its column of splits, or None."""
    where = layout.path
    image = find_column(layout.names, data.image_column, IMAGE_NAMES, key="image_column", where=where)
    wants_split = not split or (split == "train" and (data.split_column or data.val_fold is not None))
    said = data.split_column or data.val_fold is not None or any(is_usual(name, SPLIT_NAMES) for name in layout.names)
    cut, group = [], []
    if wants_split and said:
        cut = [find_column(layout.names, data.split_column, SPLIT_NAMES, key="split_column", where=where)]
    if data.group_column is not None:
        group = [find_column(layout.names, data.group_column, (), key="group_column", where=where)]
    labels = label_column(layout, data.label_column, [image, *cut, *group])
    texts = read_texts(layout, [image, *labels, *cut, *group])
    refuse_empty(layout, image, texts[0])
    label = labels_of(layout, labels, texts[1 : 1 + len(labels)], notes)
    used = [image, *labels, *cut, *group]
    for name, usual in ((image, IMAGE_NAMES), (labels[0], LABEL_NAMES), *((name, SPLIT_NAMES) for name in cut)):
        others = [other for other in layout.names if other not in used and is_usual(other, usual)]
        if others:
            notes.append(f"{where.name}: column {name!r} is used, {', '.join(map(repr, others))} not")
    if cut and data.split_column is None:
        notes.append(f"{where.name}: column {cut[0]!r} says the split")
    rows = Rows(str(where), texts[0], label, texts[-1] if group else None)
    return rows, texts[1 + len(labels)] if cut else None


def _prefixed(paths: Any, folder: str) -> Any:
    """Paths relative to a folder inside, as those of a table beside the images of one split."""
    is_whole = pc.match_substring_regex(paths, pattern=r"^(/|[A-Za-z]:)")
    before, nothing = (pa.scalar(text, paths.type) for text in (f"{folder}/", ""))
    return pc.if_else(is_whole, paths, pc.binary_join_element_wise(before, paths, nothing))


def _cut(table: Path, rows: Rows, splits: Any, data: schema.Data) -> dict[str, Rows]:
    """Rows by the values of the split column, or by the one fold that is held out."""
    splits = pc.utf8_lower(splits)
    values = pc.unique(splits).to_pylist()
    if data.val_fold is not None:
        wanted = str(data.val_fold).lower()
        if wanted not in values:
            raise DeitkitError(
                f"no row of {table} is of fold {data.val_fold!r}", value=data.val_fold, choices=sorted(values)
            )
        said = {value: "val" if value == wanted else split_of(value) or "train" for value in values}
    elif set(values) <= set(_SAID_BY_FLAG):
        said = {value: _SAID_BY_FLAG[value] for value in values}
    else:
        said = {value: split_of(value) for value in values}
    unknown = sorted(value for value in values if not said[value])
    if unknown:
        raise DeitkitError(
            f"{table} has rows of unknown splits: {', '.join(map(repr, unknown[:10]))}",
            value=unknown[0],
            choices=[word for words in SPLIT_WORDS.values() for word in words],
            remedy="mend these rows, or name the right column: --set data.split_column=NAME; of numbered folds hold "
            f"one out: --set data.val_fold={unknown[0]}",
        )
    found = {}
    for split in dict.fromkeys(said.values()):
        mask = pc.is_in(splits, value_set=pa.array([v for v in values if said[v] == split], type=splits.type))
        found[split] = rows.where(mask, f"{table} ({split})")
    return found


def _classes(rows: dict[str, Rows]) -> tuple[dict[str, Rows], tuple[str, ...], dict[str, list[str]]]:
    """The rows with the training rows' classes, the only ones that others may have, and which of them those lack."""
    named = {split: class_order(pc.unique(part.labels).to_pylist()) for split, part in rows.items()}
    train = named.get("train")
    absent: dict[str, list[str]] = {}
    for split, names in named.items():
        known = train if split != "train" and train else ()
        spelled = as_known(names, known)
        check_classes(spelled, rows[split].name, known=known, remedy="mend its labels" if known else "name others")
        if tuple(spelled) != names:
            index = pc.index_in(rows[split].labels, value_set=pa.array(names, type=rows[split].labels.type))
            rows = {**rows, split: replace(rows[split], labels=pa.array(spelled, pa.large_string()).take(index))}
        lacking = sorted(set(known).difference(spelled))
        if lacking:
            absent[split] = [counted(f"classes have no images in {rows[split].name}", lacking)]
    return rows, train or next(iter(named.values())), absent


def _refuse_twice(root: Path, ids: dict[str, list[str]]) -> None:
    """An image stands in one row: in two it would count twice, or be trained on and measured on."""
    images = sorted(image for part in ids.values() for image in part)
    twice = sorted({image for image, following in pairwise(images) if image == following})
    if twice:
        what = counted(f"images stand in {root} more than once", twice)
        raise DeitkitError(what, value=twice[0], remedy="keep one row of each")


def _refuse_shared_groups(rows: dict[str, Rows], data: schema.Data) -> None:
    """A group is in one split: its images are too much alike to be measured on."""
    sets = {split: set(part.groups.to_pylist()) for split, part in rows.items() if part.groups is not None}
    for split in [split for split in sets if split != "train" and "train" in sets]:
        both = sorted(sets["train"] & sets[split])
        if both:
            what = counted(f"groups of {data.group_column!r} are in train and in {split}", both)
            remedy = "move their rows to one side, or leave the table's own split away and hold groups out"
            raise DeitkitError(what, value=both[0], remedy=remedy)


def _files(
    root: Path,
    ids: list[str],
    rows: Rows,
    *,
    is_there: npt.NDArray[np.bool_],
    class_names: tuple[str, ...],
    split: str,
    data: schema.Data,
) -> Files:
    """The images that are there, sorted by id."""
    labels = pc.index_in(rows.labels, value_set=pa.array(class_names, type=rows.labels.type)).to_numpy()
    missing = sorted(image for image, found in zip(ids, is_there.tolist(), strict=True) if not found)
    if len(missing) == len(ids):
        raise DeitkitError(
            counted(f"images, all that {rows.name} names, are not below {root}", missing),
            value=root,
            remedy="paths are relative to the table's folder or to images/ in it: move the table or mend the paths",
        )
    order = sorted(np.flatnonzero(is_there).tolist(), key=ids.__getitem__)
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=class_names,
        labels=labels.astype(np.int64)[np.array(order, dtype=np.int64)],
        ids=PackedNames([ids[index] for index in order]),
        notes=tuple([counted(f"images of {rows.name} are not there", missing)] if missing else []),
    )


TABLE = Form(
    "table of paths and labels",
    "TABLE.csv (.tsv, .jsonl, .parquet) with columns image, label and maybe split; or ROOT/train.csv and ROOT/val.csv; "
    f"or ROOT/{WHOLE[0]}.csv; images relative to ROOT or a folder in it; or LIST.txt of `PATH LABEL`",
    has_tables,
    open_table,
)
