"""Which of a folder's files are tables of its images, and whether its class folders count instead. Reads no row."""

from __future__ import annotations

import os
from pathlib import Path

from deitkit.data.formats.columns import (
    IMAGE_NAMES,
    LABEL_NAMES,
    find_column,
    is_usual,
    layout_of,
    read_texts,
)
from deitkit.data.formats.folder import split_folders
from deitkit.data.formats.image_parquet import has_images
from deitkit.data.formats.listing import ENDINGS as IMAGES
from deitkit.data.formats.listing import folders_in, is_litter, loose_images
from deitkit.data.formats.split_names import by_split
from deitkit.data.formats.table_paths import LOOKED_UP, located
from deitkit.errors import DeitkitError

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
WHOLE = ("labels", "annotations", "metadata")  # tables of all splits, or of none
_META = ("", "meta")  # where lists of splits lie


def tables_of(root: Path) -> dict[str, Path]:
    """Split -> table; a table of everything has the split ""."""
    if root.is_file():
        return {"": root} if root.suffix.lower() in ENDINGS else {}
    if not root.is_dir():
        return {}
    for place in (root / name for name in _META):
        found = _named(place) if place.is_dir() else {}
        if found:
            return found
    return _in_splits(root) or _only_one(root)


def has_tables(root: Path) -> bool:
    """Tables of paths are there. Beside train/CLASS/IMAGE none is asked, beside CLASS/IMAGE one that has labels."""
    tables = tables_of(root)
    if not tables or has_images(root):
        return False
    if root.is_file():
        return True
    train = split_folders(root).get("train", ["train"])[0]
    if (root / train).is_dir() and folders_in(root / train):
        return False
    return not _has_classes(root) or all(_is_labelled(table) for split, table in tables.items() if split != "test")


def _named(folder: Path) -> dict[str, Path]:
    """Tables called after splits, or else one called after what it holds."""
    tables = _tables_in(folder)
    splits = {split: same[0] for split, same in by_split(tables, are_tables=True).items()}
    if splits:
        return {split: tables[stem] for split, stem in splits.items()}
    return next(({"": tables[stem]} for stem in WHOLE if stem in tables), {})


def _tables_in(folder: Path) -> dict[str, Path]:
    """Stem -> table; a text only where its lines are paths and labels."""
    found: dict[str, Path] = {}
    named = (name for name in os.listdir(folder) if name.lower().endswith(ENDINGS))  # noqa: PTH208 - may be a million
    names = sorted(name for name in named if not is_litter(name))
    for ending in ENDINGS:
        for name in names:
            stem, path = name[: -len(ending)], folder / name
            is_new = name.lower().endswith(ending) and stem not in found and path.is_file()
            if is_new and (ending != ".txt" or _is_list(path)):
                found[stem] = path
    return found


def _in_splits(root: Path) -> dict[str, Path]:
    """A table beside the images of each split: train/metadata.csv, as Hugging Face's image folders have."""
    found = {}
    for split, names in (split_folders(root) or by_split(folders_in(root))).items():  # or images directly inside
        table = {} if folders_in(root / names[0]) else _named(root / names[0])
        if "" in table:
            found[split] = table[""]
    return found


def _only_one(root: Path) -> dict[str, Path]:
    """The one table of another name with a column of images and one of labels, whose first images are there."""
    tables = [table for table in _tables_in(root).values() if table.suffix.lower() != ".txt"]
    fitting = [table for table in tables if "submission" not in table.name.lower() and _is_labelled(table)]
    if len(fitting) != 1 or not _names_images(root, fitting[0]):
        return {}
    return {"": fitting[0]}


def _is_list(path: Path) -> bool:
    """Whether the first lines are a path of an image and a label."""
    try:
        with open(path, "rb") as file:
            lines = file.read(1 << 12).decode("utf-8", "replace").splitlines()[:5]
    except OSError:
        return False
    words = [line.rsplit(maxsplit=1) for line in lines if line.strip()]
    return bool(words) and all(len(pair) == 2 and pair[0].rstrip(",").lower().endswith(IMAGES) for pair in words[:4])


def _is_labelled(table: Path) -> bool:
    """Whether it has a column of images and one of labels."""
    try:
        names = layout_of(table).names
    except DeitkitError:
        return False
    return all(any(is_usual(name, usual) for name in names) for usual in (IMAGE_NAMES, LABEL_NAMES))


def _names_images(root: Path, table: Path) -> bool:
    """Whether images of the table are there; and its labels are not just the folders that they lie in."""
    try:
        layout = layout_of(table)
        columns = [find_column(layout.names, None, usual, key="", where=table) for usual in (IMAGE_NAMES, LABEL_NAMES)]
        paths, labels = (column.slice(0, LOOKED_UP).to_pylist() for column in read_texts(layout, columns))
        place = located(root, {"train": paths}, {"train": table.name})
    except DeitkitError:
        return False
    ids = place.ids["train"]
    found = [index for index, is_there in enumerate(place.there["train"]) if is_there]
    return bool(found) and not all(ids[index].split("/")[-2:-1] == [labels[index]] for index in found)


def _has_classes(root: Path) -> bool:
    """Whether two folders or more hold images, and are no splits."""
    folders = [name for name in folders_in(root) if not by_split([name])]
    return len(folders) > 1 and sum(bool(loose_images(root / name)) for name in folders[:50]) > 1
