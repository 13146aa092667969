"""A folder of images: root/train/<class>/... with a val split beside it, or root/<class>/... Decodes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deitkit import schema
from deitkit.data.sources.base import SUFFIXES, Files, Form, PackedNames, Source
from deitkit.data.sources.split import hold_out
from deitkit.errors import DeitkitError

VAL_NAMES = ("val", "valid", "validation", "test")
LAYOUT = "lay it out as ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or as ROOT/CLASS/IMAGE"


def open_folder(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images below `root`.

    Raises:
        DeitkitError: a missing or empty folder, no class folders or one, an empty class, an unknown class in val.
    """
    if not root.is_dir():
        raise DeitkitError(
            f"the folder of images {root} {'is a file' if root.exists() else 'does not exist'}",
            value=root,
            remedy=f"--data FOLDER names it (or --set data.path=FOLDER); {LAYOUT}",
        )
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if not _is_split(root / "train", has_val=val is not None):
        return hold_out(_scan(root, root, data.dataset), data, split, root=root)
    train = _scan(root, root / "train", data.dataset)
    if val is None:
        return hold_out(train, data, split, root=root)
    if data.val_fraction is not None:
        raise DeitkitError(
            f"data.val_fraction is {data.val_fraction:g}, but {root} has a split of its own: {val.name}",
            value=data.val_fraction,
            remedy=f"--set data.val_fraction=false uses {val.name}",
        )
    return train if split == "train" else _scan(root, val, data.dataset, split="val", known=train.class_names)


def _is_split(train: Path, *, has_val: bool) -> bool:
    """Whether `train` is a split: a class may have that name, too, and then holds images and no folders."""
    return train.is_dir() and (has_val or bool(_folders(train)))


def _scan(root: Path, folder: Path, dataset: str, *, split: str = "train", known: tuple[str, ...] = ()) -> Files:
    """All images of one split; `known` are the classes that it may have."""
    names = _class_names(folder)
    if not known and len(names) == 1:
        raise DeitkitError(
            f"{folder} has only one class, {names[0]!r}", value=names[0], remedy=f"a classifier needs two; {LAYOUT}"
        )
    unknown = [name for name in names if known and name not in known]
    if unknown:
        raise DeitkitError(
            f"{folder} has classes that the training images do not have: {_listed(unknown)}",
            value=unknown[0],
            remedy=f"add them below {root / 'train'}, or take them out",
        )
    files = [_images(folder / name) for name in names]
    empty = [name for name, found in zip(names, files, strict=True) if not found]
    if empty:
        raise DeitkitError(
            f"class folders without images in {folder}: {_listed(empty)}",
            value=empty[0],
            remedy=f"add images ({', '.join(sorted(SUFFIXES))}) or take the empty folders out",
        )
    classes = known or names
    index = {name: label for label, name in enumerate(classes)}
    return Files(
        dataset=dataset,
        split=split,
        root=root,
        class_names=classes,
        labels=np.repeat([index[name] for name in names], [len(found) for found in files]).astype(np.int64),
        ids=PackedNames([path.relative_to(root).as_posix() for found in files for path in found]),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted; as numbers where all are numbers."""
    names = _folders(folder)
    if not names:
        loose = sum(_is_image(entry.name) for entry in os.scandir(folder))
        what = f"{loose} images directly inside, no class folders" if loose else "it is empty"
        raise DeitkitError(f"no images of classes in {folder}: {what}", value=folder, remedy=LAYOUT)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]


def _images(folder: Path) -> list[Path]:
    """Image files in the folder and its subfolders, sorted by path."""
    found = []
    for parent, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _listed(names: Sequence[str], *, limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


FOLDER = Form(
    "image folder", "ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or ROOT/CLASS/IMAGE", Path.is_dir, open_folder
)
