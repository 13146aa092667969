"""Sources: one split of one data set, whatever its layout on disk. A new layout is one file and one row here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from deitkit import schema
from deitkit.catalog import DATASETS
from deitkit.data.sources.base import Source, Subset, fingerprint, image_name, subset
from deitkit.data.sources.digits import open_digits
from deitkit.data.sources.folder import open_folder
from deitkit.data.sources.split import stratified_split
from deitkit.errors import DeitkitError

__all__ = [
    "SOURCES", "SPLITS", "Source", "Subset", "find_data", "fingerprint", "image_name", "is_available", "open_source",
    "stratified_split", "subset",
]  # fmt: skip

SPLITS = ("train", "val")


def find_data(data: schema.Data) -> Path | None:
    """Where the images are looked for: data.path, $DEITKIT_DATA/<dataset>, ./data/<dataset>; None where bundled."""
    return None if _layout(data.dataset) == "digits" else _folder_of(data)


def _folder_of(data: schema.Data) -> Path:
    if data.path is not None:
        return Path(data.path).expanduser()
    if data.dataset == "folder":
        raise DeitkitError(
            "data.dataset is 'folder', but data.path is not set: which folder?",
            value=data.dataset,
            remedy="--data FOLDER names the folder of images",
        )
    shelves = [Path(shelf).expanduser() for shelf in (os.environ.get("DEITKIT_DATA"), "data") if shelf]
    places = [shelf / data.dataset for shelf in shelves]
    return next((place for place in places if place.is_dir()), places[0])


def is_available(data: schema.Data) -> bool:
    """Whether the images are at hand."""
    if data.dataset == "folder" and data.path is None:
        return False
    root = find_data(data)
    return root is None or root.is_dir()


def open_source(data: schema.Data, split: str) -> Source:
    """One split ("train" or "val") of the recipe's data.

    Raises:
        DeitkitError: no such split, or images that are missing or laid out in another way.
    """
    if split not in SPLITS:
        raise DeitkitError(f"unknown split {split!r}", value=split, choices=SPLITS)
    return SOURCES[_layout(data.dataset)](data, split)


def _open_folder(data: schema.Data, split: str) -> Source:
    return open_folder(_folder_of(data), data, split)


SOURCES: dict[str, Callable[[schema.Data, str], Source]] = {"folder": _open_folder, "digits": open_digits}


def _layout(dataset: str) -> str:
    return DATASETS[dataset].layout if dataset in DATASETS else "folder"
