"""What every source offers, and what sources are made of. Knows no data set and decodes no image."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt

from deitkit.errors import DeitkitError
from deitkit.files import read_regular
from deitkit.recipe import schema

Indices = npt.NDArray[np.int64]
# The endings of image files, in lower case: the only list of them. HEIC needs the package pillow-heif (and says so).
SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff", ".gif",
        ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".heic", ".heif",
    }
)  # fmt: skip


class Source(Protocol):
    """One split of one data set: ids, labels [N], class names [K] and the encoded bytes of an image."""

    @property
    def dataset(self) -> str: ...

    @property
    def split(self) -> str:
        """Which part of the data set: train, val or test."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> Indices: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def fingerprint(self) -> str:
        """sha256 over ids, labels and class names."""
        ...

    @property
    def accepted(self) -> LabelSets | None:
        """Every label that counts as right, where there may be several or none (ImageNet-ReaL)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of these images: some missing, some without annotation."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The encoded image file."""
        ...

    def path(self, index: int) -> Path | None:
        """The image's file, or None where it has none."""
        ...


class PackedNames(Sequence[str]):
    """An immutable list of strings without a Python object each.

    Looking at a Python object counts its references, so a list would be copied, page by page, into every worker.
    """

    def __init__(self, names: Sequence[str]) -> None:
        buffer, ends = bytearray(), array("q", [0])
        for name in names:
            buffer += os.fsencode(name)
            ends.append(len(buffer))
        self._buffer, self._ends = bytes(buffer), np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        position = range(len(self))[index]
        return os.fsdecode(self._buffer[self._ends[position] : self._ends[position + 1]])

    def __iter__(self) -> Iterator[str]:
        """As by index, without a look at two numpy numbers for each of perhaps a million."""
        for start, stop in pairwise(self._ends.tolist()):
            yield os.fsdecode(self._buffer[start:stop])


class LabelSets:
    """The classes that are right for each of N images; images with none are not judged."""

    def __init__(self, sets: Iterable[Iterable[int]]) -> None:
        rows = [np.unique(np.fromiter(labels, dtype=np.int64)) for labels in sets]
        self.values = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        self.counts = np.array([len(row) for row in rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def rows(self) -> list[Indices]:
        """One ascending array of labels an image."""
        return np.split(self.values, np.cumsum(self.counts)[:-1]) if len(self) else []

    def take(self, indices: Indices) -> LabelSets:
        """The sets of these images, in this order."""
        return LabelSets(self.rows[index] for index in indices.tolist())

    def hits(self, top: Indices) -> npt.NDArray[np.bool_]:
        """Whether any of the classes top [N, k] is right: [N]. False where no label is."""
        if not len(self.values):
            return np.zeros(len(self), dtype=np.bool_)
        width = 1 + max(int(self.values.max()), int(top.max(initial=0)))
        right = np.repeat(np.arange(len(self)), self.counts) * width + self.values
        hit: npt.NDArray[np.bool_] = np.isin(np.arange(len(self))[:, None] * width + top, right)
        return np.asarray(hit.any(axis=1))


def fingerprint(ids: Sequence[str], labels: Indices, class_names: Sequence[str]) -> str:
    """sha256 over everything that fixes which images a source holds and what they are called."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    for image_id in ids:
        digest.update(image_id.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def leads_out(name: str) -> bool:
    """Whether a name is absolute, climbs out with `..`, or is none."""
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def refuse_outside(ids: Iterable[str], where: object) -> None:
    """Names inside data that others made stay inside: they may become paths.

    Raises:
        DeitkitError: a name is absolute or climbs out with `..`.
    """
    outside = [name for name in ids if leads_out(name)]
    if outside:
        raise DeitkitError(
            counted(f"names in {where} lead out of it", [shown(name) for name in outside]),
            value=shown(outside[0]),
            remedy="do not trust these data: whoever made them may mean to write into other folders",
        )


def shown(name: str) -> str:
    """A name for people: bytes that are no text, and marks that a terminal would obey, are spelled out."""
    text = name.encode("utf-8", "backslashreplace").decode() if not name.isascii() else name
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def image_name(source: Source, index: int) -> str:
    """What to call an image in a message: its file, or its id where it has none."""
    return shown(str(source.path(index) or source.ids[index]))


@dataclass(frozen=True, kw_only=True)
class Images:
    """What sources of every form hold; how an image is read is theirs."""

    dataset: str
    split: str
    class_names: tuple[str, ...]
    labels: Indices
    ids: Sequence[str]
    accepted: LabelSets | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, index: int) -> Path | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Files(Images):
    """Image files below `root`; an id is the file's path relative to it."""

    root: Path

    def path(self, index: int) -> Path:
        return self.root / self.ids[index]

    def read(self, index: int) -> bytes:
        path = self.path(index)
        try:
            return read_regular(path)
        except OSError as error:
            raise DeitkitError(
                f"cannot read image {path}: {error.strerror or error}",
                value=path,
                remedy="restore the file, or take it out of the folder and start anew",
            ) from error


@dataclass(frozen=True)
class Form:
    """One way in which a data set lies on disk; `tree` shows it to whoever has none."""

    name: str
    tree: str
    matches: Callable[[Path], bool]
    open: Callable[[Path, schema.Data, str], Source]


@dataclass(frozen=True)
class Subset:
    """Some images of another source, in the order of `indices` [N]."""

    source: Source
    indices: Indices
    split: str
    own_notes: tuple[str, ...] = ()

    @property
    def dataset(self) -> str:
        return self.source.dataset

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @cached_property
    def labels(self) -> Indices:
        return self.source.labels[self.indices]

    @cached_property
    def ids(self) -> Sequence[str]:
        return PackedNames([self.source.ids[index] for index in self.indices.tolist()])

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, self.labels, self.class_names)

    @cached_property
    def accepted(self) -> LabelSets | None:
        return None if self.source.accepted is None else self.source.accepted.take(self.indices)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.source.notes, *self.own_notes)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.indices[index]))

    def path(self, index: int) -> Path | None:
        return self.source.path(int(self.indices[index]))


def subset(source: Source, indices: Sequence[int] | Indices, split: str) -> Source:
    """Only these images, in this order."""
    return Subset(source, np.asarray(indices, dtype=np.int64), split)


def spread_over(source: Source, limit: int | None) -> Source:
    """At most `limit` images, evenly from the whole source: the first ones of a folder would all be of one class."""
    if limit is None or limit >= len(source):
        return source
    return subset(source, np.linspace(0, len(source) - 1, limit).round().astype(np.int64), source.split)


def counted(what: str, names: Sequence[str], *, limit: int = 10) -> str:
    """`3 images without annotation: a.jpg, b.jpg, c.jpg`; the first ten are named."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return f"{len(names):,} {what}: {', '.join(map(shown, names[:limit]))}{more}"
