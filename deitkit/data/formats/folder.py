"""A folder of images: root/train/<class>/... with other splits beside it, or root/<class>/... Decodes nothing."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from deitkit.data.formats.listing import (
    ARCHIVES,
    SeenFiles,
    entries_of,
    folders_in,
    images_below,
    loose_images,
    passed,
    place_of,
    tables_in,
    unpack_command,
)
from deitkit.data.formats.split import open_split
from deitkit.data.formats.split_names import by_split, split_of
from deitkit.data.source import SUFFIXES, Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

LAYOUT = "lay it out as ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or as ROOT/CLASS/IMAGE"


def open_folder(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images below `root`: classes in order, and the images of a class sorted by path.

    Raises:
        DeitkitError: a missing, empty or unreadable folder, no class folders or one, an empty class, an unknown class
            in another split.
    """
    if not root.is_dir():
        raise DeitkitError(
            f"the folder of images {root} {'is a file' if root.exists() else 'does not exist'}",
            value=root,
            remedy=f"--data FOLDER names it (or --set data.path=FOLDER); {LAYOUT}",
        )
    folders = split_folders(root)
    notes = [*_spare(folders)]
    used = {name: found[0] for name, found in folders.items()}
    if "test" in used and len(used) > 1 and not folders_in(root / used["test"]):
        notes.append(f"{used['test']} has no class folders: images without labels are left out")
        del used["test"]
    if "val" in used and "test" in used:
        notes.append(f"{used['test']} is left out of training and choosing: --split test measures on it")
    if not used:
        return open_split(["train"], lambda _: _scan(root, root, data.dataset), data, split, root=root)

    def part(name: str) -> Source:
        known = _class_names(root / used["train"]) if name != "train" and "train" in used else ()
        return _scan(root, root / used[name], data.dataset, split=name, known=known, notes=tuple(notes))

    return open_split(tuple(used), part, data, split, root=root)


def split_folders(root: Path) -> dict[str, list[str]]:
    """Split -> the folders below `root` that are called so, the plainest name first; empty where there are no splits.

    A class may be called train, too: there must be other splits beside it, or classes inside. Without training images
    nothing but splits may be there.
    """
    names = folders_in(root)
    found = by_split(names)
    if "train" in found:
        return found if len(found) > 1 or folders_in(root / found["train"][0]) else {}
    is_all = sum(map(len, found.values())) == len(names)
    return found if found and is_all and any(folders_in(root / same[0]) for same in found.values()) else {}


def _spare(folders: dict[str, list[str]]) -> Iterator[str]:
    """Says which of several folders of one split is used: the first."""
    for found in folders.values():
        if len(found) > 1:
            yield f"{found[0]} is used; {' and '.join(found[1:])} beside it left out"


def wrapped(root: Path) -> Path | None:
    """The only folder in `root`, where that is no class but holds the data: as archives unpack into a folder."""
    folders = folders_in(root)
    if len(folders) != 1 or split_of(folders[0]) or loose_images(root):
        return None
    inner = root / folders[0]
    return inner if folders_in(inner) and not loose_images(inner) else None


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, sorted; as numbers where all are numbers."""
    names = set(names)
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def check_classes(names: Sequence[str], where: Path | str, *, known: Sequence[str] = (), remedy: str) -> None:
    """Two classes at least, or where `known` ones are given, none but these.

    Raises:
        DeitkitError: otherwise, or two names that differ in nothing but their Unicode form.
    """
    twins = [name for name, count in Counter(map(composed, names)).items() if count > 1]
    if twins:
        raise DeitkitError(
            f"{where} has classes whose names differ in their Unicode form (NFC, NFD) alone: {_listed(twins)}",
            value=twins[0],
            remedy="move the images of one into the other's folder",
        )
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


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): macOS writes others. Bytes that are no text stay as they are."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def as_known(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Each name, or the known one that differs from it in its Unicode form alone."""
    by_form = {composed(name): name for name in known}
    return [by_form.get(composed(name), name) for name in names]


def _scan(
    root: Path, folder: Path, dataset: str, *, split: str = "train", known: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Files:  # fmt: skip
    """All images of one split; `known` are the classes that it may have."""
    folders = _class_names(folder)
    if len(folders) == 1 and split_of(folders[0]) and not folders_in(folder / folders[0]):
        raise _no_classes(folder / folders[0])
    names = as_known(folders, known)
    check_classes(
        names, folder, known=known, remedy=f"add them to the training images in {root}, or take them out" if known
        else LAYOUT,
    )  # fmt: skip
    prefix = "" if folder == root else f"{folder.name}/"
    seen = SeenFiles()
    tables = tables_in({root, folder}, seen)
    above = place_of(root) | place_of(folder)
    files = [images_below(str(folder / name), f"{prefix}{name}/", above, seen) for name in folders]
    full = {name for name, found in zip(names, files, strict=True) if found}
    empty = [name for name, own in zip(folders, names, strict=True) if own not in full]
    _refuse_empty(folder, empty, seen, are_classes_known=bool(known and full))
    classes = known or tuple(names)
    index = {name: label for label, name in enumerate(classes)}
    remarks = {
        f"images directly in {folder}, outside its class folders, are left out": loose_images(folder),
        "links in place of images lead nowhere and are left out": seen.dangling,
        f"classes have no images in {folder}": [name for name in known if name not in full],
        "tables beside the class folders are not read (--data TABLE reads one)": tables,
    }
    return Files(
        dataset=dataset,
        split=split,
        root=root,
        class_names=classes,
        labels=np.repeat([index[name] for name in names], [len(found) for found in files]).astype(np.int64),
        ids=PackedNames([image for found in files for image in found]),
        notes=(*notes, *(counted(what, offenders) for what, offenders in remarks.items() if offenders), *passed(seen)),
    )


def _refuse_empty(folder: Path, empty: Sequence[str], seen: SeenFiles, *, are_classes_known: bool) -> None:
    """Every class has images, unless others say which classes there are."""
    if empty and not are_classes_known:
        raise DeitkitError(
            f"class folders without images in {folder}: {_listed(empty)}",
            value=empty[0],
            problems=list(passed(seen)),
            remedy=f"add images ({', '.join(sorted(SUFFIXES))}) or take the empty folders out",
        )


def _class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted; as numbers where all are numbers."""
    names = folders_in(folder)
    if not names:
        raise _no_classes(folder)
    return class_order(names)


def _no_classes(folder: Path) -> DeitkitError:
    """What is there instead of class folders, and how such images get their labels."""
    loose, inside = loose_images(folder), [entry.name for entry in entries_of(folder)]
    packed = [name for name in inside if name.lower().endswith(ARCHIVES)]
    what = f"{len(loose)} images directly inside, no class folders" if loose else "it is empty"
    if inside and not loose:
        what = f"no folders and no images, but {_listed(sorted(inside))}"
    remedy = LAYOUT
    if packed:
        remedy = f"unpack it: {unpack_command(folder / packed[0])}"
    elif loose:
        remedy += (
            "; or name the classes in a table (labels.csv with the columns image,label beside the images); or read "
            "them from the files' names: --set data.label_from=filename (cat.0.jpg, cat_12.jpg)"
        )
    return DeitkitError(f"no images of classes in {folder}: {what}", value=folder, remedy=remedy)


def _listed(names: Sequence[str], *, limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


FOLDER = Form(
    "image folder", "ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE, or ROOT/CLASS/IMAGE", Path.is_dir, open_folder
)
