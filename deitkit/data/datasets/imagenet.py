"""ImageNet-1k (Russakovsky et al. 2015), also with its ReaL labels (Beyer et al. 2020).

Classes are WordNet ids ("wnids") whatever the form; a class index is a place among the thousand sorted wnids. Unpacks
nothing, and knows no ImageNet-21k.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deitkit.data.datasets.imagenet_labels import (
    REAL_PLACES,
    TRUTHS,
    VAL_IMAGE,
    first_of,
    refusal,
    truth_of,
    with_real,
    wnids,
)
from deitkit.data.formats.listing import loose_images
from deitkit.data.formats.split import hold_out, refuse_fraction
from deitkit.data.source import Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

WNID = re.compile(r"n\d{8}", re.ASCII)
BASES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
VAL_NAMES = ("val", "validation", "valid")


@dataclass(frozen=True)
class Tree:
    """Where the splits lie: `train` holds folders by wnid; `val` does, too, or is flat."""

    base: Path
    train: Path | None = None
    val: Path | None = None
    flat: bool = False


def open_imagenet(root: Path, data: schema.Data, split: str) -> Source:
    """One split; val has ReaL's label sets, too, where real.json is there.

    Raises:
        DeitkitError: a split or its ground truth is missing, or disagrees with the images or the classes.
    """
    tree = _tree(root)
    if tree.val is None:
        if split == "val" and data.val_fraction is None:
            raise _missing("validation images", root, [tree.base / name for name in VAL_NAMES])
        return hold_out(_train(root, tree, data), data, split, root=root)
    refuse_fraction(data, root, tree.val.name)
    if split == "train":
        return _train(root, tree, data)
    known = tuple(_wnid_folders(tree.train)) if tree.train else ()
    images = (_flat if tree.flat else _val_folders)(root, tree.val, data, known)
    real = first_of(root, REAL_PLACES)
    return images if real is None else with_real(images, real)


def open_real(root: Path, data: schema.Data, split: str) -> Source:
    """ImageNet's validation images with the labels of real.json, which has to be there."""
    evaluation_only(data, split)
    if first_of(root, REAL_PLACES) is None:
        raise _missing("ReaL labels", root, [root / place for place in REAL_PLACES], data="imagenet_real")
    images = open_imagenet(root, data.model_copy(update={"val_fraction": None}), split)
    if images.accepted is None:
        raise DeitkitError(
            f"no image of {root} has ReaL labels: they go by names such as ILSVRC2012_val_00000001.JPEG",
            value=images.ids[0],
            remedy="keep the images' original names",
        )
    return images


def _train(root: Path, tree: Tree, data: schema.Data) -> Files:
    if tree.train is None:
        train = tree.base / "train"
        packed = any(name.endswith(".tar") for name in entries(train))
        hint = "unpack each nXXXXXXXX.tar in train into a folder of its name" if packed else ""
        raise _missing("training images in folders by wnid", root, [train / "nXXXXXXXX"], hint=hint)
    classes = tuple(_wnid_folders(tree.train))
    if len(classes) == 1:
        what = f"{tree.train} has only one class, {classes[0]!r}"
        raise DeitkitError(what, value=classes[0], remedy="a classifier needs two")
    labels = {name: label for label, name in enumerate(classes)}
    return by_folder(root, tree.train, data, split="train", classes=classes, labels=labels)


def _val_folders(root: Path, val: Path, data: schema.Data, known: tuple[str, ...]) -> Files:
    names = _wnid_folders(val)
    place = {name: label for label, name in enumerate(known or names)}
    _refuse_foreign(val, names, place)
    return by_folder(root, val, data, split="val", classes=tuple(place), labels={name: place[name] for name in names})


def by_folder(
    root: Path, parent: Path, data: schema.Data, *, split: str, classes: tuple[str, ...], labels: Mapping[str, int]
) -> Files:
    """Images of the class folders that `labels` names, in its order, then by name."""
    found = [_images(parent / name) for name in labels]
    if empty := [name for name, files in zip(labels, found, strict=True) if not files]:
        raise refusal(parent, "class folders hold no image", empty, remedy="unpack them again, or take them out")
    others = sorted(set(entries(parent, folders=True)) - labels.keys()) + _images(parent)
    prefix = "" if parent == root else parent.relative_to(root).as_posix() + "/"
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=classes,
        labels=np.repeat(list(labels.values()), [len(files) for files in found]).astype(np.int64),
        ids=PackedNames(
            [f"{prefix}{name}/{file}" for name, files in zip(labels, found, strict=True) for file in files]
        ),
        notes=(counted(f"folders or images in {parent} belong to no class and are ignored", others),) if others else (),
    )


def _flat(root: Path, val: Path, data: schema.Data, known: tuple[str, ...]) -> Files:
    """Flat val images in the order of their numbers."""
    names = _numbered(val)
    file, truth = truth_of(root, val, names)
    numbers = sorted(names.keys() & truth.keys())
    if not numbers:
        raise DeitkitError(f"no image of {val} is in {file}", value=file, remedy="are both of ILSVRC2012?")
    classes = known or wnids()
    place = {name: label for label, name in enumerate(classes)}
    _refuse_foreign(file, sorted({truth[number] for number in numbers}), place)
    absent = [f"ILSVRC2012_val_{number:08d}" for number in sorted(truth.keys() - names.keys())]
    extra = [names[number] for number in sorted(names.keys() - truth.keys())]
    notes = [counted("annotated images are not there", absent)] if absent else []
    notes += [counted("images have no annotation and are ignored", extra)] if extra else []
    prefix = val.relative_to(root).as_posix()
    return Files(
        dataset=data.dataset,
        split="val",
        root=root,
        class_names=classes,
        labels=np.array([place[truth[number]] for number in numbers], dtype=np.int64),
        ids=PackedNames([f"{prefix}/{names[number]}" for number in numbers]),
        notes=tuple(notes),
    )


def _tree(root: Path) -> Tree:
    """The first base folder that has training or validation images."""
    for base in (root / place for place in BASES):
        train = base / "train" if _wnid_folders(base / "train") else None
        for val in (base / name for name in VAL_NAMES):
            by_wnid = bool(_wnid_folders(val))
            if by_wnid or any(VAL_IMAGE.fullmatch(name) for name in entries(val)):
                return Tree(base, train, val, flat=not by_wnid)
        if train:
            return Tree(base, train)
    return Tree(root)


def _wnid_folders(folder: Path) -> list[str]:
    return sorted(name for name in entries(folder, folders=True) if WNID.fullmatch(name))


def entries(folder: Path, *, folders: bool = False) -> list[str]:
    """Names of visible entries, or of the folders among them; none where there is no such folder."""
    if not folder.is_dir():
        return []
    # What computers leave behind counts here: it is told with the rest that belongs to no class.
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and (not folders or entry.is_dir())]


def _images(folder: Path) -> list[str]:
    return loose_images(folder) if folder.is_dir() else []


def _numbered(folder: Path) -> dict[int, str]:
    """Images of a flat val folder by number."""
    found = [(int(match[1]), name) for name in _images(folder) if (match := VAL_IMAGE.fullmatch(name))]
    names = dict(found)
    if twice := [name for number, name in found if names[number] != name]:
        raise refusal(folder, "images have another one's number", twice, remedy="keep one of each number")
    return names


def _refuse_foreign(where: Path, names: Iterable[str], known: Container[str]) -> None:
    if foreign := [name for name in names if name not in known]:
        remedy = "add them to the training images, or take them out"
        raise refusal(where, "classes are not among the training images'", foreign, remedy=remedy)


def evaluation_only(data: schema.Data, split: str) -> None:
    if split == "train":
        raise DeitkitError(
            f"{data.dataset} is for evaluation only: it has no training images",
            value=split,
            remedy="train on another data set, such as imagenet, and evaluate on this one",
        )


def _missing(
    what: str, root: Path, looked_for: Sequence[Path], *, data: str = "imagenet", hint: str = ""
) -> DeitkitError:
    return DeitkitError(
        f"{root} has no {what}",
        value=root,
        problems=[f"looked for {path}" for path in looked_for],
        remedy=hint or f"`deitkit data download {data}` fetches them or says where they are",
    )


def _has_folders(root: Path) -> bool:
    tree = _tree(root)
    return not tree.flat and (tree.train or tree.val) is not None


BY_WNID = "ROOT/train/n01440764/*.JPEG and ROOT/val/n01440764/*.JPEG, or both below ROOT/ILSVRC/Data/CLS-LOC"
FLAT_VAL = f"ROOT/val/ILSVRC2012_val_00000001.JPEG and its labels in one of {', '.join(TRUTHS)}"
IMAGENET_FORMS = (
    Form("folders by wnid", BY_WNID, _has_folders, open_imagenet),
    Form("flat val folder", FLAT_VAL, lambda root: _tree(root).flat, open_imagenet),
)
# One row, for any folder: a form that knows no ReaL labels must not take ImageNet's own labels for them.
IMAGENET_REAL_FORMS = (
    Form("ReaL labels", f"ROOT/real.json beside the images of imagenet: {BY_WNID}", Path.is_dir, open_real),
)
