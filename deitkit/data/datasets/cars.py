"""Stanford Cars (Krause et al. 2013): the devkit with its image folders, the single archive, and its mirrors.

The devkit as published has no labels of its test images; val needs the file that has. Bounding boxes are not used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.data.datasets.class_lists import class_list
from deitkit.data.formats.annotated import AGAIN, checked, image_files, read_mat
from deitkit.data.formats.canonical import KnownClasses, canonical_folder
from deitkit.data.formats.image_parquet import canonical_parquet
from deitkit.data.formats.split import TEST_SERVES, hold_out, noted, refuse_fraction
from deitkit.data.source import Files, Form, Source
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

TRAIN_FILE, META_FILE, ARCHIVE_FILE = "cars_train_annos.mat", "cars_meta.mat", "cars_annos.mat"
UNLABELLED_FILE, TEST_FILE = "cars_test_annos.mat", "cars_test_annos_withlabels.mat"
BASES = (".", "stanford_cars")
FOLDERS = (".", "devkit", "car_devkit/devkit")
DEVKIT = f"ROOT/devkit/{TRAIN_FILE}, ROOT/{TEST_FILE}, ROOT/cars_train/00001.jpg ..., ROOT/cars_test/00001.jpg ..."
ARCHIVE = f"ROOT/{ARCHIVE_FILE} and ROOT/car_ims/000001.jpg ..."

CLASSES = KnownClasses(partial(class_list, "cars"))


def open_devkit(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the devkit's images, sorted by name; without test labels, val is held out where that is wanted.

    Raises:
        DeitkitError: a file is missing or wrong, no image is there, or val has neither labels nor a fraction.
    """
    base = _base(root, TRAIN_FILE, "cars_train") or root
    names = _names(base)
    test = _find(base, TEST_FILE)
    has_test = test is not None and _has_labels(test) and _images_of(base, "test") is not None
    if has_test:
        refuse_fraction(data, base, TEST_FILE)
    elif split == "val" and data.val_fraction is None:
        raise _no_test(base, test)
    if split == "val" and has_test and test is not None:
        return noted(_open_part(base, data, "val", path=test, folder="test", names=names), TEST_SERVES)
    path = _find(base, TRAIN_FILE)
    if path is None:
        raise DeitkitError(
            f"Stanford Cars in {base} lacks {TRAIN_FILE}",
            value=base,
            problems=[f"looked for {place}" for place in _places(base, TRAIN_FILE)] + [f"expected: {DEVKIT}"],
            remedy="`deitkit data download cars` says where it is found",
        )
    train = _open_part(base, data, "train", path=path, folder="train", names=names)
    return train if has_test else hold_out(train, data, split, root=base)


def _open_part(base: Path, data: schema.Data, split: str, *, path: Path, folder: str, names: tuple[str, ...]) -> Files:
    (rows,) = read_mat(path, "annotations")
    images = _images_of(base, folder) or f"cars_{folder}"
    files = [f"{images}/{name}" for name in _field(path, rows, "fname")]
    found = checked(path, files, _field(path, rows, "class"), classes=len(names))
    return image_files(found, root=base, data=data, split=split, class_names=names, known=found.names)


def _no_test(base: Path, test: Path | None) -> DeitkitError:
    """Why there are no validation images, and what to do."""
    problems = [f"looked for {place}" for place in _places(base, TEST_FILE)] if test is None else []
    if test is not None and not _has_labels(test):
        problems.append(f"{test} has no field `class`")
    if _images_of(base, "test") is None:
        problems.append(f"looked for images in {base / 'cars_test'}")
    unlabelled = _find(base, UNLABELLED_FILE)
    what = (
        f"the test annotations {unlabelled} have no labels, as published" if unlabelled else "no labelled test images"
    )
    return DeitkitError(
        f"no validation images of Stanford Cars in {base}: {what}",
        value=base,
        problems=problems,
        remedy=f"put {TEST_FILE} there (`deitkit data download cars` says where it is found); or hold out a part of "
        "the training images: --val-fraction 0.1; or measure on them: --set data.validate_on=train",
    )


def open_archive(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the single archive, sorted by path.

    Raises:
        DeitkitError: the annotations are wrong, or no image is there.
    """
    base = _base(root, ARCHIVE_FILE) or root
    refuse_fraction(data, base, "the test images")
    path = _find(base, ARCHIVE_FILE) or base / ARCHIVE_FILE
    (rows,) = read_mat(path, "annotations")
    names = CLASSES.names()
    files, flags = (_field(path, rows, name) for name in ("relative_im_path", "test"))
    every = checked(path, files, _field(path, rows, "class"), classes=len(names))
    is_test = {str(name): bool(flag) for name, flag in zip(files, flags, strict=True)}
    chosen = every.where([is_test[name] == (split == "val") for name in every.names])
    source = image_files(chosen, root=base, data=data, split=split, class_names=names, known=every.names)
    return noted(source, TEST_SERVES) if split == "val" else source


def _field(path: Path, rows: Any, name: str) -> list[Any]:
    """One field of a MATLAB struct array."""
    if rows.dtype.names is None or name not in rows.dtype.names:
        held = ", ".join(rows.dtype.names or ()) or "no fields"
        raise DeitkitError(
            f"the annotations in {path} have no field `{name}`; they have {held}", value=path, remedy=AGAIN
        )
    return [value.item() if isinstance(value, np.generic) else value for value in np.atleast_1d(rows)[name]]


def _has_labels(path: Path) -> bool:
    (rows,) = read_mat(path, "annotations")
    return "class" in (rows.dtype.names or ())


def _names(base: Path) -> tuple[str, ...]:
    """The class names; the devkit's own, where it has them, must be these."""
    names, path = tuple(CLASSES.names()), _find(base, META_FILE)
    if path is None:
        return names
    (found,) = read_mat(path, "class_names")
    own = tuple(str(name) for name in np.atleast_1d(found))
    if own != names:
        raise DeitkitError(f"{path} does not hold the 196 class names in their order", value=path, remedy=AGAIN)
    return own


def _places(base: Path, name: str) -> list[Path]:
    return [base / folder / name for folder in FOLDERS]


def _find(base: Path, name: str) -> Path | None:
    return next((place for place in _places(base, name) if place.is_file()), None)


def _images_of(base: Path, part: str) -> str | None:
    """The folder of images, which some mirrors put into one of the same name."""
    names = (f"cars_{part}/cars_{part}", f"cars_{part}")
    return next((name for name in names if (base / name).is_dir()), None)


def _base(root: Path, name: str, folder: str | None = None) -> Path | None:
    """Where the annotations are, or else their images: missing annotations are named when they are opened."""
    bases = [root / base for base in BASES]
    found = next((base for base in bases if _find(base, name)), None)
    return found or next((base for base in bases if folder and (base / folder).is_dir()), None)


CARS_FORMS = (
    Form("devkit", DEVKIT, lambda root: _base(root, TRAIN_FILE, "cars_train") is not None, open_devkit),
    Form("single archive", ARCHIVE, lambda root: _base(root, ARCHIVE_FILE) is not None, open_archive),
    canonical_folder(
        CLASSES,
        tree="ROOT/train/Acura RL Sedan 2012/IMAGE ... and ROOT/test/...; or both in ROOT/car_data",
        below=(".", "car_data", "car_data/car_data"),
    ),
    canonical_parquet(CLASSES),
)
