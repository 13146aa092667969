"""A folder of images: root/train/<class>/... with a val split beside it, or root/<class>/... Decodes nothing.

Links to images and to folders are followed. A file costs no stat of its own unless it is a link, so a million are
listed in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from deitkit.data.formats.split import hold_out, refuse_fraction
from deitkit.data.source import SUFFIXES, Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

VAL_NAMES = ("val", "valid", "validation", "test")
LAYOUT = "lay it out as ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or as ROOT/CLASS/IMAGE"

_ENDINGS = tuple(SUFFIXES)
# Device and number of every folder on the way down: a link back to one of them would never end.
_Places = frozenset[tuple[int, int]]


def open_folder(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images below `root`: classes in order, and the images of a class sorted by path.

    Raises:
        DeitkitError: a missing, empty or unreadable folder, no class folders or one, an empty class, an unknown class
            in val.
    """
    if not root.is_dir():
        raise DeitkitError(
            f"the folder of images {root} {'is a file' if root.exists() else 'does not exist'}",
            value=root,
            remedy=f"--data FOLDER names it (or --set data.path=FOLDER); {LAYOUT}",
        )
    folders = _folders(root)
    val = [name for name in VAL_NAMES if name in folders]
    if "train" not in folders or not (val or _folders(root / "train")):  # a class may be called train, too
        if val and set(folders) <= set(VAL_NAMES) and _folders(root / val[0]):
            return _val_alone(root, val, data, split)
        return hold_out(_scan(root, root, data.dataset), data, split, root=root)
    if not val:
        return hold_out(_scan(root, root / "train", data.dataset), data, split, root=root)
    refuse_fraction(data, root, val[0])
    if split == "train":
        return _scan(root, root / "train", data.dataset)
    known = _class_names(root / "train")
    return _scan(root, root / val[0], data.dataset, split="val", known=known, notes=beside(val))


def _val_alone(root: Path, val: Sequence[str], data: schema.Data, split: str) -> Source:
    """A validation split that came without the training images: enough to evaluate on."""
    if split == "train":
        raise DeitkitError(
            f"{root} has no training images: there is {val[0]}, but no train beside it", value=root, remedy=LAYOUT
        )
    return _scan(root, root / val[0], data.dataset, split="val", notes=beside(val))


def beside(names: Sequence[str]) -> tuple[str, ...]:
    """Says which of several validation splits is used: the first."""
    if len(names) < 2:
        return ()
    return (f"{names[0]} serves as validation images; {' and '.join(names[1:])} beside it is left out",)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted; as numbers where all are numbers."""
    names = set(names)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def check_classes(names: Sequence[str], where: Path | str, *, known: Sequence[str] = (), remedy: str) -> None:
    """Two classes at least, or where `known` ones are given, none but these.

    Raises:
        DeitkitError: otherwise.
    """
    if not known and len(names) == 1:
        raise DeitkitError(
            f"{where} has only one class, {names[0]!r}", value=names[0], remedy=f"a classifier needs two; {remedy}"
        )
    familiar = set(known)
    unknown = [name for name in names if known and name not in familiar]
    if unknown:
        raise DeitkitError(
            f"{where} has classes that the training images do not have: {_listed(unknown)}",
            value=unknown[0],
            remedy=remedy,
        )


def _scan(
    root: Path,
    folder: Path,
    dataset: str,
    *,
    split: str = "train",
    known: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Files:
    """All images of one split; `known` are the classes that it may have."""
    names = _class_names(folder)
    check_classes(
        names, folder, known=known, remedy=f"add them below {root / 'train'}, or take them out" if known else LAYOUT
    )
    prefix = "" if folder == root else f"{folder.name}/"
    dangling: list[str] = []
    above = _place(root) | _place(folder)
    files = [_images(str(folder / name), f"{prefix}{name}/", above, dangling) for name in names]
    full = {name for name, found in zip(names, files, strict=True) if found}
    _refuse_empty(folder, [name for name in names if name not in full], are_classes_known=bool(known and full))
    classes = known or names
    index = {name: label for label, name in enumerate(classes)}
    remarks = {
        f"images directly in {folder}, outside its class folders, are left out": _loose(folder),
        "links in place of images lead nowhere and are left out": dangling,
        f"classes have no images in {folder}": [name for name in known if name not in full],
    }
    return Files(
        dataset=dataset,
        split=split,
        root=root,
        class_names=classes,
        labels=np.repeat([index[name] for name in names], [len(found) for found in files]).astype(np.int64),
        ids=PackedNames([image for found in files for image in found]),
        notes=notes + tuple(counted(what, offenders) for what, offenders in remarks.items() if offenders),
    )


def _refuse_empty(folder: Path, empty: Sequence[str], *, are_classes_known: bool) -> None:
    """Every class has images, unless others say which classes there are."""
    if empty and not are_classes_known:
        raise DeitkitError(
            f"class folders without images in {folder}: {_listed(empty)}",
            value=empty[0],
            remedy=f"add images ({', '.join(sorted(SUFFIXES))}) or take the empty folders out",
        )


def _class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted; as numbers where all are numbers."""
    names = _folders(folder)
    if not names:
        loose = len(_loose(folder))
        what = f"{loose} images directly inside, no class folders" if loose else "it is empty"
        raise DeitkitError(f"no images of classes in {folder}: {what}", value=folder, remedy=LAYOUT)
    return class_order(names)


def _images(folder: str, prefix: str, above: _Places, dangling: list[str]) -> list[str]:
    """Image files in the folder and its subfolders as ids, sorted by the parts of their paths."""
    found = list(_walk(folder, prefix, above, dangling))
    found.sort(key=lambda image: image.replace("/", "\0"))
    return found


def _walk(folder: str, prefix: str, above: _Places, dangling: list[str]) -> Iterator[str]:
    here = _place(folder)
    if here and here <= above and os.path.islink(folder):  # noqa: PTH114 - a link to a folder that holds it
        return
    below = []
    for entry in _entries(folder):
        name = entry.name
        if _is_folder(entry):
            below.append(name)
        elif name.lower().endswith(_ENDINGS):
            if entry.is_symlink() and not os.path.isfile(entry.path):  # noqa: PTH113 - a link that loops is no error
                dangling.append(prefix + name)
            else:
                yield prefix + name
    for name in below:
        yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", above | here, dangling)


def _loose(folder: Path) -> list[str]:
    """Image files directly in the folder, sorted."""
    images = (entry.name for entry in _entries(folder) if entry.name.lower().endswith(_ENDINGS))
    return sorted(set(images).difference(_folders(folder)))


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What is in the folder, without hidden entries."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DeitkitError(
            f"cannot list folder {folder}: {error.strerror or error}",
            value=folder,
            remedy="make it readable (chmod -R u+rX FOLDER), or take it out",
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or where nobody may look
        return False


def _place(folder: Path | str) -> _Places:
    try:
        status = os.stat(folder)  # noqa: PTH116 - a million of them should cost no Path objects
    except OSError:  # listing it says why
        return frozenset()
    return frozenset({(status.st_dev, status.st_ino)})


def _listed(names: Sequence[str], *, limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


FOLDER = Form(
    "image folder", "ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or ROOT/CLASS/IMAGE", Path.is_dir, open_folder
)
