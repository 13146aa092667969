"""ImageNet-1k (Russakovsky et al. 2015), its ReaL labels (Beyer et al. 2020) and ImageNet-V2 (Recht et al. 2019).

Classes are WordNet ids ("wnids") whatever the form; a class index is a place among the thousand sorted wnids. Unpacks
nothing, and knows no ImageNet-21k.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from deitkit import schema
from deitkit.data.sources.base import SUFFIXES, Files, Form, LabelSets, PackedNames, Source, counted
from deitkit.data.sources.split import hold_out
from deitkit.errors import DeitkitError

VAL_SIZE = 50_000
CLASSES = 1000
WNID = re.compile(r"n\d{8}", re.ASCII)
# Some mirrors append the class: ILSVRC2012_val_00000293_n01440764.JPEG.
VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.\w+", re.ASCII | re.IGNORECASE)
BASES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
VAL_NAMES = ("val", "validation", "valid")
REAL_PLACES = ("real.json", "reassessed-imagenet/real.json", "reassessed-imagenet-master/real.json")
V2_PLACES = ("", "imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency")
TRUTH_PLACES = ("", "ILSVRC2012_devkit_t12/data", "devkit/data", "data", "annotations", "labels", "val")
# Files of ground truth for a flat val, and what a line of each is.
DEVKIT, INDICES = "ILSVRC2012_validation_ground_truth.txt", "ilsvrc2012_val_labels.txt"
TRUTHS = {
    DEVKIT: r"(?P<label>[1-9]\d{0,2}|1000)",
    "imagenet_2012_validation_synset_labels.txt": r"(?P<label>n\d{8})",
    "LOC_val_solution.csv": r"ILSVRC2012_val_(?P<image>\d{8}),(?P<label>n\d{8})\b.*",
    INDICES: r"(?P<label>0|[1-9]\d{0,2})",
}
ANEW = "fetch it anew"


@dataclass(frozen=True)
class Tree:
    """Where the splits lie: `train` holds folders by wnid; `val` does, too, or is flat."""

    base: Path
    train: Path | None = None
    val: Path | None = None
    flat: bool = False


@cache
def wnids() -> tuple[str, ...]:
    """The thousand wnids in the order of their class indices, which is the sorted one."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())  # type: ignore[no-untyped-call]


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
    if data.val_fraction is not None:
        raise DeitkitError(
            f"data.val_fraction is {data.val_fraction:g}, but {root} has a split of its own: {tree.val.name}",
            value=data.val_fraction,
            remedy=f"--set data.val_fraction=false uses {tree.val.name}",
        )
    if split == "train":
        return _train(root, tree, data)
    known = tuple(_wnid_folders(tree.train)) if tree.train else ()
    images = (_flat if tree.flat else _val_folders)(root, tree.val, data, known)
    real = _first(root, REAL_PLACES)
    return images if real is None else with_real(images, real)


def open_real(root: Path, data: schema.Data, split: str) -> Source:
    """ImageNet's validation images with the labels of real.json, which has to be there."""
    _evaluation_only(data, split)
    if _first(root, REAL_PLACES) is None:
        raise _missing("ReaL labels", root, [root / place for place in REAL_PLACES], data="imagenet_real")
    images = open_imagenet(root, data.model_copy(update={"val_fraction": None}), split)
    if images.accepted is None:
        raise DeitkitError(
            f"no image of {root} has ReaL labels: they go by names such as ILSVRC2012_val_00000001.JPEG",
            value=images.ids[0],
            remedy="keep the images' original names",
        )
    return images


def open_v2(root: Path, data: schema.Data, split: str) -> Source:
    """ImageNet-V2: folders of class indices 0..999, sorted as numbers, or folders of wnids.

    Raises:
        DeitkitError: a folder that is neither, is out of range, doubles a class or holds no image.
    """
    _evaluation_only(data, split)
    folder = _v2_folder(root) or root
    names = sorted(_entries(folder, folders=True))
    place = {name: label for label, name in enumerate(wnids())}
    if not all(WNID.fullmatch(name) for name in names):
        if strange := [name for name in names if not (name.isascii() and name.isdecimal())]:
            raise _bad(folder, "folders are no class indices", strange, remedy="ImageNet-V2's are called 0 to 999")
        place = {name: int(name) for name in names if int(name) < CLASSES}
    if foreign := [name for name in names if name not in place]:
        raise _bad(folder, "folders are none of the 1,000 classes", foreign, remedy="take them out")
    order = sorted(names, key=lambda name: place[name])
    if twice := [name for before, name in itertools.pairwise(order) if place[before] == place[name]]:
        raise _bad(folder, "folders double a class", twice, remedy="merge each with the other of its number")
    labels = {name: place[name] for name in order}
    return _by_folder(root, folder, data, split="val", classes=wnids(), labels=labels)


def with_real(images: Files, file: Path) -> Files:
    """The images with every label of real.json, found by the number in their names; classes they lack are left out.

    Raises:
        DeitkitError: real.json is not 50,000 lists of class indices, or an image's number is beyond it.
    """
    sets = _read_real(file)
    found = [VAL_IMAGE.fullmatch(name.rpartition("/")[2]) for name in images.ids]
    if beyond := [name[0] for name in found if name and not 1 <= int(name[1]) <= VAL_SIZE]:
        raise _bad(file, "images are beyond the 50,000 that it labels", beyond, remedy="take them out")
    unnumbered = [name for name, match in zip(images.ids, found, strict=True) if match is None]
    note = counted("images have no ReaL labels: their names tell no number", unnumbered)
    notes = (*images.notes, note) if unnumbered else images.notes
    if len(unnumbered) == len(images):
        return replace(images, notes=notes)
    place = {name: label for label, name in enumerate(images.class_names)}
    classes = [place.get(name, -1) for name in wnids()]
    rows = (sets[int(name[1]) - 1] if name else [] for name in found)
    accepted = LabelSets([classes[label] for label in row if classes[label] >= 0] for row in rows)
    return replace(images, accepted=accepted, notes=notes)


def _read_real(file: Path) -> list[list[int]]:
    remedy = "`deitkit data download imagenet_real` fetches it anew"
    try:
        sets = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DeitkitError(f"{file} is no readable JSON: {error}", value=file, remedy=remedy) from error
    if not isinstance(sets, list) or len(sets) != VAL_SIZE:
        raise DeitkitError(f"{file} is no list of 50,000 lists, one for each image", value=file, remedy=remedy)
    indices = range(CLASSES)
    bad = [
        f"image {number}: {row}"
        for number, row in enumerate(sets, 1)
        if not isinstance(row, list) or any(type(label) is not int or label not in indices for label in row)
    ]
    if bad:
        raise _bad(file, "entries are no lists of class indices 0 to 999", bad, remedy=remedy)
    return sets


def _train(root: Path, tree: Tree, data: schema.Data) -> Files:
    if tree.train is None:
        train = tree.base / "train"
        packed = any(name.endswith(".tar") for name in _entries(train))
        hint = "unpack each nXXXXXXXX.tar in train into a folder of its name" if packed else ""
        raise _missing("training images in folders by wnid", root, [train / "nXXXXXXXX"], hint=hint)
    classes = tuple(_wnid_folders(tree.train))
    if len(classes) == 1:
        what = f"{tree.train} has only one class, {classes[0]!r}"
        raise DeitkitError(what, value=classes[0], remedy="a classifier needs two")
    labels = {name: label for label, name in enumerate(classes)}
    return _by_folder(root, tree.train, data, split="train", classes=classes, labels=labels)


def _val_folders(root: Path, val: Path, data: schema.Data, known: tuple[str, ...]) -> Files:
    names = _wnid_folders(val)
    place = {name: label for label, name in enumerate(known or names)}
    _refuse_foreign(val, names, place)
    return _by_folder(root, val, data, split="val", classes=tuple(place), labels={name: place[name] for name in names})


def _by_folder(
    root: Path, parent: Path, data: schema.Data, *, split: str, classes: tuple[str, ...], labels: Mapping[str, int]
) -> Files:
    """Images of the class folders that `labels` names, in its order, then by name."""
    found = [_images(parent / name) for name in labels]
    if empty := [name for name, files in zip(labels, found, strict=True) if not files]:
        raise _bad(parent, "class folders hold no image", empty, remedy="unpack them again, or take them out")
    others = sorted(set(_entries(parent, folders=True)) - labels.keys()) + _images(parent)
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
    file, truth = _truth(root, val, names)
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


def _truth(root: Path, val: Path, names: Mapping[int, str]) -> tuple[Path, dict[int, str]]:
    """Where the wnids of flat val images stand, and each by its image's number."""
    for folder in dict.fromkeys(base / place for base in (root, val.parent) for place in TRUTH_PLACES):
        if file := _first(folder, TRUTHS):
            return file, _read_truth(file)
    named = {number: found[2] for number, name in names.items() if (found := VAL_IMAGE.fullmatch(name)) and found[2]}
    if len(named) == len(names):
        return val, named
    raise DeitkitError(
        f"the validation images in {val} have no ground truth",
        value=root,
        problems=[f"looked for {' or '.join(TRUTHS)}", f"in ROOT, {', '.join(filter(None, TRUTH_PLACES))}"],
        remedy=f"unpack ILSVRC2012_devkit_t12.tar.gz in {root}; `deitkit data download imagenet` says where it is",
    )


def _read_truth(file: Path) -> dict[int, str]:
    """The wnid of each image by its number; lines go by number unless they name their image."""
    pattern = re.compile(TRUTHS[file.name], re.ASCII)
    header = int(file.suffix == ".csv")
    try:
        lines = file.read_text().strip().splitlines()[header:]
    except (OSError, UnicodeDecodeError) as error:
        raise DeitkitError(f"{file} cannot be read: {error}", value=file, remedy=ANEW) from error
    rows = [match for line in lines if (match := pattern.fullmatch(line.strip()))]
    if len(rows) != len(lines):
        numbered = enumerate(lines, 1 + header)
        bad = [f"line {number}: {line}" for number, line in numbered if not pattern.fullmatch(line.strip())]
        raise _bad(file, "lines hold no class where one should be", bad, remedy=ANEW)
    numbers = [int(row["image"]) for row in rows] if "image" in pattern.groupindex else range(1, len(rows) + 1)
    if twice := [str(number) for number, count in Counter(numbers).items() if count > 1]:
        raise _bad(file, "images stand in it more than once", twice, remedy=ANEW)
    if len(rows) != VAL_SIZE:
        raise DeitkitError(f"{file} labels {len(rows):,} images, not 50,000", value=file, remedy=ANEW)
    labels = [row["label"] for row in rows]
    if file.name == DEVKIT:
        names = _devkit_wnids(file.with_name("meta.mat"))
        labels = [names[int(label)] for label in labels]
    elif file.name == INDICES:
        labels = [wnids()[int(label)] for label in labels]
    return dict(zip(numbers, labels, strict=True))


def _devkit_wnids(meta: Path) -> dict[int, str]:
    """The wnid of each ILSVRC id: the devkit has an order of its own, and inner nodes beyond its 1,000 classes."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    remedy = "unpack ILSVRC2012_devkit_t12.tar.gz again"
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        names = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    except (OSError, KeyError, IndexError, ValueError, NotImplementedError, MatReadError) as error:
        what = f"{meta}, which names the devkit's classes, cannot be read: {error}"
        raise DeitkitError(what, value=meta, remedy=remedy) from error
    if absent := [str(number) for number in range(1, CLASSES + 1) if number not in names]:
        raise _bad(meta, "of the classes 1 to 1000 are not in it", absent, remedy=remedy)
    return names


def _tree(root: Path) -> Tree:
    """The first base folder that has training or validation images."""
    for base in (root / place for place in BASES):
        train = base / "train" if _wnid_folders(base / "train") else None
        for val in (base / name for name in VAL_NAMES):
            by_wnid = bool(_wnid_folders(val))
            if by_wnid or any(VAL_IMAGE.fullmatch(name) for name in _entries(val)):
                return Tree(base, train, val, flat=not by_wnid)
        if train:
            return Tree(base, train)
    return Tree(root)


def _v2_folder(root: Path) -> Path | None:
    for folder in (root / place for place in V2_PLACES):
        if any(WNID.fullmatch(name) or name.isdecimal() for name in _entries(folder, folders=True)):
            return folder
    return None


def _wnid_folders(folder: Path) -> list[str]:
    return sorted(name for name in _entries(folder, folders=True) if WNID.fullmatch(name))


def _entries(folder: Path, *, folders: bool = False) -> list[str]:
    """Names of visible entries, or of the folders among them; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and (not folders or entry.is_dir())]


def _images(folder: Path) -> list[str]:
    return sorted(name for name in _entries(folder) if name.lower().endswith(tuple(SUFFIXES)))


def _numbered(folder: Path) -> dict[int, str]:
    """Images of a flat val folder by number."""
    found = [(int(match[1]), name) for name in _images(folder) if (match := VAL_IMAGE.fullmatch(name))]
    names = dict(found)
    if twice := [name for number, name in found if names[number] != name]:
        raise _bad(folder, "images have another one's number", twice, remedy="keep one of each number")
    return names


def _first(root: Path, places: Iterable[str]) -> Path | None:
    return next((root / place for place in places if (root / place).is_file()), None)


def _refuse_foreign(where: Path, names: Iterable[str], known: Container[str]) -> None:
    if foreign := [name for name in names if name not in known]:
        remedy = "add them to the training images, or take them out"
        raise _bad(where, "classes are not among the training images'", foreign, remedy=remedy)


def _evaluation_only(data: schema.Data, split: str) -> None:
    if split == "train":
        raise DeitkitError(
            f"{data.dataset} is for evaluation only: it has no training images",
            value=split,
            remedy="train on another data set, such as imagenet, and evaluate on this one",
        )


def _bad(where: Path, what: str, names: Sequence[str], *, remedy: str) -> DeitkitError:
    return DeitkitError(f"{where}: {counted(what, names)}", value=names[0], remedy=remedy)


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


def _is_flat(root: Path) -> bool:
    return _tree(root).flat


def _has_v2_folders(root: Path) -> bool:
    return _v2_folder(root) is not None


BY_WNID = "ROOT/train/n01440764/*.JPEG and ROOT/val/n01440764/*.JPEG, or both below ROOT/ILSVRC/Data/CLS-LOC"
FLAT_VAL = f"ROOT/val/ILSVRC2012_val_00000001.JPEG and its labels in one of {', '.join(TRUTHS)}"
IMAGENET_FORMS = (
    Form("folders by wnid", BY_WNID, _has_folders, open_imagenet),
    Form("flat val folder", FLAT_VAL, _is_flat, open_imagenet),
)
# One row, for any folder: a form that knows no ReaL labels must not take ImageNet's own labels for them.
IMAGENET_REAL_FORMS = (
    Form("ReaL labels", f"ROOT/real.json beside the images of imagenet: {BY_WNID}", Path.is_dir, open_real),
)
IMAGENET_V2_FORMS = (
    Form("folders by class index", "ROOT/0/*.jpeg to ROOT/999/*.jpeg, or wnids for numbers", _has_v2_folders, open_v2),
)
