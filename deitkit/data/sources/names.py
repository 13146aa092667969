"""A million strings in one buffer, so that forked workers share them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import overload

import numpy as np


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
