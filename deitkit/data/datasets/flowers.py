"""Flowers-102 (Nilsback and Zisserman 2008): setid.mat, imagelabels.mat and jpg/, or an image folder.

Trains on the published train and validation images together (2,040), as Table 6 does; val is the test set (6,149).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deitkit.data.formats.annotated import AGAIN, checked, image_files, read_numbers
from deitkit.data.formats.canonical import KnownClasses, canonical_folder
from deitkit.data.formats.image_parquet import canonical_parquet
from deitkit.data.formats.split import TEST_SERVES, noted, refuse_fraction
from deitkit.data.source import Form, Indices, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

SET_FILE, LABEL_FILE = "setid.mat", "imagelabels.mat"
SETS = ("trnid", "valid", "tstid")
PLACES = (".", "flowers-102")
TREE = f"ROOT/{SET_FILE}, ROOT/{LABEL_FILE} and ROOT/jpg/image_00001.jpg ... (or all in ROOT/flowers-102)"


def class_names() -> tuple[str, ...]:
    """The 102 names in label order."""
    from torchvision.datasets import Flowers102

    return tuple(Flowers102.classes)


def open_flowers(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the published files, sorted by image number.

    Raises:
        DeitkitError: a file is missing or wrong, or no image is there.
    """
    base = _base(root) or root
    missing = [name for name in (SET_FILE, LABEL_FILE) if not (base / name).is_file()]
    if missing:
        raise DeitkitError(
            f"Flowers-102 in {base} lacks {' and '.join(missing)}",
            value=base,
            problems=[f"looked for {base / name}" for name in missing] + [f"expected: {TREE}"],
            remedy="`deitkit data download flowers102` fetches it or says where it is",
        )
    refuse_fraction(data, base, SETS[-1])
    names = class_names()
    (numbers,) = read_numbers(base / LABEL_FILE, "labels")
    sets = dict(zip(SETS, read_numbers(base / SET_FILE, *SETS), strict=True))
    _check_sets(base / SET_FILE, sets, images=len(numbers))
    files = [f"jpg/image_{number:05d}.jpg" for number in range(1, len(numbers) + 1)]
    every = checked(base / LABEL_FILE, files, numbers.tolist(), classes=len(names))
    is_test = np.isin(np.arange(1, len(numbers) + 1), sets["tstid"])
    chosen = every.where((is_test if split == "val" else ~is_test).tolist())
    source = image_files(chosen, root=base, data=data, split=split, class_names=names, known=files)
    return noted(source, TEST_SERVES) if split == "val" else source


def _check_sets(path: Path, sets: dict[str, Indices], *, images: int) -> None:
    """Every image belongs to exactly one set."""
    ids = np.concatenate(list(sets.values()))
    inside = ids[(ids >= 1) & (ids <= images)]
    times = np.bincount(inside, minlength=images + 1)
    checks = [
        ("ids are in two sets, or twice in one", np.flatnonzero(times > 1)),
        ("images are in no set", np.flatnonzero(times[1:] == 0) + 1),
        (f"ids are not 1..{images}", np.setdiff1d(ids, inside)),
    ]
    problems = [counted(what, [str(number) for number in found.tolist()]) for what, found in checks if len(found)]
    if problems:
        what = f"{path} does not give each image of {LABEL_FILE} to one set"
        raise DeitkitError(what, value=path, problems=problems, remedy=AGAIN)


def _base(root: Path) -> Path | None:
    """Where any of the published files is: a missing one is named when they are opened."""
    return next((root / place for place in PLACES if _has_any(root / place)), None)


def _has_any(base: Path) -> bool:
    named = any((base / name).is_file() for name in (SET_FILE, LABEL_FILE))
    return named or next((base / "jpg").glob("image_*.jpg"), None) is not None


CLASSES = KnownClasses(class_names)
FLOWERS_FORMS = (
    Form("published files", TREE, lambda root: _base(root) is not None, open_flowers),
    canonical_folder(
        CLASSES,
        tree="ROOT/train/1/IMAGE ... 102 and ROOT/valid/1/IMAGE, or the flowers' names as folders",
        below=(".", "flowers", "flower_data"),
    ),
    canonical_parquet(CLASSES),
)
