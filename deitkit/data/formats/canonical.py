"""The class names of known data sets, found again behind the folder names of a mirror. Reads no annotation."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deitkit.data.formats.folder import open_folder, split_folders
from deitkit.data.formats.listing import folders_in
from deitkit.data.source import Files, Form, Indices, Source, Subset, counted
from deitkit.recipe import schema


@dataclass(frozen=True)
class KnownClasses:
    """What is known of a data set's classes: `names` in label order, other names in use, and where numbers start."""

    names: Callable[[], Sequence[str]]
    numbered_from: int = 1
    also: Mapping[str, str] = field(default_factory=dict)  # another name -> the canonical one


def canonical_names(
    found: Sequence[str], canonical: Sequence[str], *, numbered_from: int = 1, also: Mapping[str, str] | None = None
) -> tuple[str, ...] | None:
    """The canonical class of each name that was found, or None where they do not match one to one.

    A name matches where it, or another name in use for it (`also`), is equal up to case, punctuation and separators;
    or all names are numbers. Those count from 0 where there is a 0, from 1 where the last number is there, and
    otherwise from `numbered_from`.
    """
    by_key = {_key(name): known for name, known in (also or {}).items()} | {_key(name): name for name in canonical}
    matched = [by_key.get(_key(name)) for name in found]
    if None in matched:
        matched = _numbered(found, canonical, numbered_from=numbered_from)
    names = tuple(name for name in matched if name is not None)
    return names if len(set(names)) == len(found) else None


def _numbered(found: Sequence[str], canonical: Sequence[str], *, numbered_from: int) -> list[str | None]:
    if not all(name.isdecimal() for name in found):
        return []
    numbers = [int(name) for name in found]
    first = 0 if 0 in numbers else 1 if len(canonical) in numbers else numbered_from
    places = [number - first for number in numbers]
    return [canonical[place] if 0 <= place < len(canonical) else None for place in places]


def _key(name: str) -> str:
    """Letters and digits alone: `Ram C/V Cargo Van` and `ram_c-v_cargo_van` are one name."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", name).casefold()))


@dataclass(frozen=True)
class Naming:
    """Class names in their canonical order; `labels` [K] gives each found class its new number."""

    class_names: tuple[str, ...]
    labels: Indices
    notes: tuple[str, ...] = ()


def plain_names(found: Sequence[str]) -> Naming:
    """The classes as they are."""
    return Naming(tuple(found), np.arange(len(found)))


def name_classes(found: Sequence[str], classes: KnownClasses) -> Naming:
    """The classes that were found under their canonical names; their own names, and a note, where they do not match."""
    canonical = classes.names()
    names = canonical_names(found, canonical, numbered_from=classes.numbered_from, also=classes.also)
    if names is None:
        keys = {_key(name) for name in (*canonical, *classes.also)}
        strange = [name for name in found if _key(name) not in keys] or list(found)
        note = f"the data's own class names are kept: {counted('are no classes of this data set', strange)}"
        return replace(plain_names(found), notes=(note,))
    place = {name: number for number, name in enumerate(canonical)}
    order = np.argsort([place[name] for name in names])
    labels = np.empty(len(names), dtype=np.int64)
    labels[order] = np.arange(len(names))
    return Naming(tuple(names[index] for index in order.tolist()), labels)


def renamed(source: Source, naming: Naming) -> Source:
    """The same images with other class names and numbers."""
    if isinstance(source, Subset):
        return replace(source, source=renamed(source.source, naming))
    if not isinstance(source, Files):
        raise TypeError(f"a {type(source).__name__} is not made of image files")
    labels = naming.labels[source.labels]
    return replace(source, class_names=naming.class_names, labels=labels, notes=source.notes + naming.notes)


def canonical_folder(classes: KnownClasses, *, tree: str, below: Sequence[str] = (".",)) -> Form:
    """An image folder of a known data set: its classes have the same names and numbers as in every other form.

    It matches where one of the folders `below` the root has train/CLASS/ or a validation split of that layout, or where
    its class folders are known ones.
    """

    def base_of(root: Path) -> Path | None:
        bases = [root / name for name in below]
        split = next((base for base in bases if base.is_dir() and split_folders(base)), None)
        return split or next((base for base in bases if base.is_dir() and are_known(folders_in(base))), None)

    def are_known(folders: list[str]) -> bool:
        return len(folders) > 1 and not name_classes(folders, classes).notes

    def open_canonical(root: Path, data: schema.Data, split: str) -> Source:
        source = open_folder(base_of(root) or root, data, split)
        return renamed(source, name_classes(source.class_names, classes))

    return Form("image folder of known classes", tree, lambda root: base_of(root) is not None, open_canonical)
