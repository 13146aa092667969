"""What sources with an annotation file share: reading it, finding its images, and saying what is missing or wrong."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deitkit.data.formats.listing import loose_images
from deitkit.data.source import Files, Indices, PackedNames, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

AGAIN = "it is not as published: get it again"


def read_mat(path: Path, *names: str) -> list[Any]:
    """These variables of a MATLAB file, without dimensions of size 1.

    Raises:
        DeitkitError: it is unreadable, or lacks one of them.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    broken = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, MemoryError)
    try:
        content = loadmat(path, squeeze_me=True)
    except (*broken, zlib.error, MatReadError) as error:
        raise DeitkitError(f"cannot read {path}: {error}", value=path, remedy=AGAIN) from error
    missing = [name for name in names if name not in content]
    if missing:
        held = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise DeitkitError(f"{path} lacks {', '.join(missing)}; it holds {held}", value=path, remedy=AGAIN)
    return [content[name] for name in names]


def read_numbers(path: Path, *names: str) -> list[Indices]:
    """These variables of a MATLAB file as whole numbers, each [N].

    Raises:
        DeitkitError: it is unreadable, lacks one of them, or one is no list of whole numbers.
    """
    found = [np.atleast_1d(np.asarray(values)) for values in read_mat(path, *names)]
    for name, values in zip(names, found, strict=True):
        if values.ndim != 1 or values.dtype.kind not in "iuf" or (values != np.round(values)).any():
            raise DeitkitError(f"{name} in {path} is no list of whole numbers", value=path, remedy=AGAIN)
    return [values.astype(np.int64) for values in found]


@dataclass(frozen=True)
class Annotations:
    """Image names relative to a root, sorted, with labels [N] from 0; `path` is where they were read."""

    path: Path
    names: tuple[str, ...]
    labels: Indices

    def where(self, chosen: Sequence[bool]) -> Annotations:
        """Some of the images."""
        names = tuple(name for name, wanted in zip(self.names, chosen, strict=True) if wanted)
        return Annotations(self.path, names, self.labels[np.asarray(chosen, dtype=np.bool_)])


def checked(path: Path, names: Iterable[str], numbers: Iterable[Any], *, classes: int) -> Annotations:
    """Annotations sorted by name; `numbers` are classes from 1.

    Raises:
        DeitkitError: a name twice, a name outside the data's folder, or a class that is not 1..`classes`.
    """
    rows = sorted(zip(map(str, names), numbers, strict=True), key=lambda row: row[0])
    twice = sorted({first[0] for first, second in pairwise(rows) if first[0] == second[0]})
    outside = [name for name, _ in rows if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    wrong = [
        f"{name} (class {number})"
        for name, number in rows
        if not (isinstance(number, (int, np.integer)) and 1 <= int(number) <= classes)
    ]
    checks = [
        ("images are annotated twice", twice),
        ("images lie outside the data's folder", outside),
        (f"labels are not 1..{classes}", wrong),
    ]
    problems = [counted(what, found) for what, found in checks if found]
    if problems or not rows:
        what = "is wrong" if problems else "annotates no image"
        raise DeitkitError(f"{path} {what}", value=path, problems=problems, remedy=AGAIN)
    labels = np.array([int(number) - 1 for _, number in rows], dtype=np.int64)
    return Annotations(path, tuple(name for name, _ in rows), labels)


def image_files(
    wanted: Annotations, *, root: Path, data: schema.Data, split: str, class_names: Sequence[str], known: Iterable[str]
) -> Files:
    """The annotated images that are there, sorted by name. `known` are the names of all splits in the same folders.

    Raises:
        DeitkitError: none of them is there.
    """
    folders = sorted({str(PurePosixPath(name).parent) for name in wanted.names})
    there = {name for folder in folders for name in _images(root, folder)}
    is_there = [name in there for name in wanted.names]
    if not any(is_there):
        raise DeitkitError(
            f"none of the {len(wanted.names):,} {split} images that {wanted.path} annotates is in {root}",
            value=root,
            problems=[f"looked for {root / name}" for name in wanted.names[:3]],
            remedy=f"put the images into {', '.join(str(root / folder) for folder in folders)}",
        )
    missing = [name for name in wanted.names if name not in there]
    strange = sorted(there.difference(known))
    found = wanted.where(is_there)
    notes = [("annotated images are not there", missing), ("images without annotation are left out", strange)]
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=tuple(class_names),
        labels=found.labels,
        ids=PackedNames(found.names),
        notes=tuple(f"{split}: {counted(what, names)}" for what, names in notes if names),
    )


def _images(root: Path, folder: str) -> list[str]:
    """Image files directly inside, relative to the root: one pass, however many there are."""
    names = loose_images(root / folder) if (root / folder).is_dir() else ()
    return [str(PurePosixPath(folder, name)) for name in names]
