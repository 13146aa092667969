"""Data of the `datasets` library: saved by its `save_to_disk`, or found on the hub by name. Executes no code of theirs.

The library says which columns and files there are. Images are then read from its memory-mapped arrow files as they were
stored, so that a worker needs neither the library nor the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.data.formats.arrow import ArrowImages, mapped
from deitkit.data.formats.columns import IMAGE_NAMES, LABEL_NAMES, as_text, find_column, is_usual
from deitkit.data.formats.folder import check_classes, class_order
from deitkit.data.formats.split import open_split
from deitkit.data.formats.split_names import SPLITS, by_split
from deitkit.data.late import pa, pc
from deitkit.data.source import Form, Indices, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

PREFIX = "hf:"
INSTALL = "pip install 'deitkit[hf]'"


def open_saved(root: Path, data: schema.Data, split: str) -> Source:
    """One split of what `save_to_disk` wrote to `root`.

    Raises:
        DeitkitError: it is damaged, has no images and labels, or no such split; or `datasets` is not installed.
    """
    datasets = _library(root)
    loaded = _called(
        lambda: datasets.load_from_disk(str(root), keep_in_memory=False),
        what=f"{root} cannot be read as data saved by `datasets`",
        remedy="save it anew with save_to_disk",
    )
    return _open(loaded, data, split, where=str(root))


def open_hub(data: schema.Data, split: str) -> Source:
    """One split of `hf:NAME` or `hf:NAME:CONFIG`, from the library's cache or the hub.

    Raises:
        DeitkitError: it is neither cached nor reachable, has no such configuration, no images and labels, or needs code
            of its own; or `datasets` is not installed.
    """
    name, _, config = data.dataset.removeprefix(PREFIX).partition(":")
    if Path(name).exists():  # the library would take the folder instead
        raise DeitkitError(
            f"{data.dataset} is meant to be on the hub, but there is a folder {name} here",
            value=name,
            remedy=f"--dataset folder --data {name} reads the folder; from elsewhere, the same command reads the hub",
        )
    datasets = _library(data.dataset)
    called = ", ".join(map(repr, filter(None, (name, config))))
    loaded = _called(
        lambda: datasets.load_dataset(name, config or None, keep_in_memory=False),
        what=f"{data.dataset} cannot be loaded",
        remedy=f'where there is a network: `python -c "import datasets; datasets.load_dataset({called}).save_to_disk('
        f"'FOLDER')\"`, or `hf download --repo-type dataset {name} --local-dir FOLDER` where it is made of images or "
        "Parquet files; then the same command here with `--data FOLDER`",
    )
    return _open(loaded, data, split, where=data.dataset)


def _library(where: object) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DeitkitError(f"{where} is read by `datasets`: it is not installed", remedy=INSTALL) from error
    if int(datasets.__version__.partition(".")[0]) < 4:  # those execute code that comes with data
        raise DeitkitError(f"datasets {datasets.__version__} is too old", value=where, remedy=f"{INSTALL} --upgrade")
    return datasets


def _called(load: Callable[[], Any], *, what: str, remedy: str) -> Any:
    """What the library answers; its complaints become ours."""
    from datasets.exceptions import DatasetsError

    try:
        return load()
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError, pa.ArrowException) as error:
        raise DeitkitError(f"{what}: {error}", remedy=remedy) from error


@dataclass(frozen=True)
class _Part:
    """One split as it is stored: `numbers` [N] index `names`, -1 where there is no label."""

    name: str
    files: tuple[str, ...]
    column: str
    names: tuple[str, ...]
    numbers: Indices


def _open(loaded: Any, data: schema.Data, split: str, *, where: str) -> Source:
    parts, notes = _parts(loaded, data, where)
    if not parts:
        raise DeitkitError(
            f"{where} has no labelled images", value=where, problems=notes, remedy="save it with a column of labels"
        )
    known = parts.get("train", next(iter(parts.values()))).names

    def part(name: str) -> Source:
        labels, said = _numbered(parts[name], known, where)
        return ArrowImages(
            dataset=data.dataset,
            split=name,
            class_names=known,
            labels=labels,
            ids=PackedNames([f"{parts[name].name}/{row:06d}" for row in range(len(labels))]),
            files=parts[name].files,
            column=parts[name].column,
            notes=(*notes, *said),
        )

    return open_split(tuple(parts), part, data, split, root=where)


def _parts(loaded: Any, data: schema.Data, where: str) -> tuple[dict[str, _Part], list[str]]:
    """Split -> what is stored of it, and which splits have no labels."""
    stored = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
    named = {split: same[0] for split, same in by_split(stored).items()}
    if not named and len(stored) == 1:
        named = {"train": next(iter(stored))}  # the only one, whatever it is called
    if not named:
        what = f"{where} has no splits of known names, but {', '.join(stored) or 'none'}"
        raise DeitkitError(what, value=where, choices=SPLITS, remedy="rename them and save it anew")
    first = stored[next(iter(named.values()))]
    image = _column(first, data.image_column, ("Image", "Array2D", "Array3D"), key="image_column", where=where)
    label = _column(first, data.label_column, ("ClassLabel",), key="label_column", where=where)
    parts = {split: _part(name, stored[name], (image, label), where) for split, name in named.items()}
    without = [name for name, part in parts.items() if name != "train" and not (part.numbers >= 0).any()]
    notes = [f"{parts[name].name} has no labels and is left out" for name in without]
    return {name: part for name, part in parts.items() if name not in without}, notes


def _numbered(part: _Part, known: tuple[str, ...], where: str) -> tuple[Indices, list[str]]:
    """Labels as indices of `known` classes [N], and which of those have no images."""
    place = f"{part.name} of {where}"
    without = [f"{part.name}/{row:06d}" for row in np.flatnonzero(part.numbers < 0).tolist()]
    if without:
        what = counted(f"images in {place} have no label", without)
        raise DeitkitError(what, value=without[0], remedy="take them out of the data before it is saved")
    used = [part.names[number] for number in np.unique(part.numbers).tolist()]
    check_classes(used, place, known=() if part.name == "train" else known, remedy="mend its labels")
    index = {name: number for number, name in enumerate(known)}
    lookup = np.array([index.get(name, -1) for name in part.names], dtype=np.int64)
    absent = [name for name in known if name not in set(used)]
    return lookup[part.numbers], [counted(f"classes have no images in {place}", absent)] if absent else []


def _part(name: str, dataset: Any, columns: tuple[str, str], where: str) -> _Part:
    image, label = columns
    names, numbers = _labels(dataset, label, where)
    files = tuple(entry["filename"] for entry in dataset.cache_files)
    rows = sum(map(len, mapped(files, image, os.getpid())[0]))
    if not rows or rows != len(dataset):
        what = f"{name} of {where} has {len(dataset):,} rows, its files {rows:,}"
        raise DeitkitError(what, value=where, remedy="save it anew with save_to_disk")
    return _Part(name, files, image, names, numbers)


def _column(dataset: Any, given: str | None, kinds: Sequence[str], *, key: str, where: str) -> str:
    """The column given, or the one whose feature is of these kinds (the first kind that occurs), or a usual name."""
    usual = IMAGE_NAMES if key == "image_column" else LABEL_NAMES
    features: dict[str, str] = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    for kind in kinds if given is None else ():
        fitting = [name for name in features if features[name] == kind]
        if len(fitting) > 1:
            fitting = [name for name in fitting if is_usual(name, (*usual, "fine_label"))] or fitting
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            remedy = f"--set data.{key}=NAME names one of them"
            raise DeitkitError(f"{where} has several columns of {kind}", value=where, choices=fitting, remedy=remedy)
    return find_column(list(features), given, usual, key=key, where=where)


def _labels(dataset: Any, label: str, where: str) -> tuple[tuple[str, ...], Indices]:
    """Names of the classes, and the index of each row's [N]: -1 where it has none."""
    if label not in dataset.features:  # hidden, as those of some competitions
        return (), np.full(len(dataset), -1)
    feature, column = dataset.features[label], dataset.data.column(label)
    if type(feature).__name__ == "ClassLabel":
        return tuple(feature.names), column.fill_null(-1).to_numpy().astype(np.int64)
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise DeitkitError(
            f"column {label!r} of {where} holds {column.type}, neither names nor whole numbers",
            value=label,
            choices=list(dataset.features),
            remedy="--set data.label_column=NAME names another",
        )
    text = as_text(column)
    names = class_order(name for name in pc.unique(text).to_pylist() if name)
    numbers = pc.index_in(text, value_set=pa.array(names, type=text.type)).fill_null(-1)
    return names, numbers.to_numpy().astype(np.int64)


def _is_saved(root: Path) -> bool:
    is_one = (root / "state.json").is_file() and (root / "dataset_info.json").is_file()
    return is_one or (root / "dataset_dict.json").is_file()


SAVED = Form(
    "data saved by Hugging Face `datasets`",
    "ROOT/dataset_dict.json with ROOT/train/*.arrow and others, or ROOT/state.json with ROOT/*.arrow",
    _is_saved,
    open_saved,
)
