"""What every source offers, and what sources are made of. Knows no layout and decodes no image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Source(Protocol):
    """One split of one data set: ids, labels [N], class names [K] and the encoded bytes of an image."""

    @property
    def dataset(self) -> str: ...

    @property
    def split(self) -> str:
        """Which part of the data set: train or val."""
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
        encoded = [os.fsencode(name) for name in names]
        self._buffer = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

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


def fingerprint(ids: Sequence[str], labels: Indices, class_names: Sequence[str]) -> str:
    """sha256 over everything that fixes which images a source holds and what they are called."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    for image_id in ids:
        digest.update(image_id.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def image_name(source: Source, index: int) -> str:
    """What to call an image in a message: its file, or its id where it has none."""
    return str(source.path(index) or source.ids[index])


@dataclass(frozen=True)
class Subset:
    """Some images of another source, in the order of `indices` [N]."""

    source: Source
    indices: Indices
    split: str

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

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.indices[index]))

    def path(self, index: int) -> Path | None:
        return self.source.path(int(self.indices[index]))


def subset(source: Source, indices: Sequence[int] | Indices, split: str) -> Source:
    """Only these images, in this order."""
    return Subset(source, np.asarray(indices, dtype=np.int64), split)
