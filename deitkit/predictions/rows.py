"""Rows of numbers that may be more than memory is to hold: [N, K], beyond a bound in a file without a name.

Who reads them by blocks of rows, as the measures do, then holds a block alone: the system writes the others to the disk
and forgets them. The file lies where TMPDIR says, and is gone with its last user, however that ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deitkit.files import saving

Rows = NDArray[np.float32]

IN_MEMORY = 256 * 2**20  # bytes of an array that lies in memory


def empty_rows(rows: int, columns: int) -> Rows:
    """float32 [rows, columns], to be filled.

    Raises:
        DeitkitError: the disk has no room for it.
    """
    size = 4 * rows * columns
    if size <= IN_MEMORY:
        return np.empty((rows, columns), dtype=np.float32)
    place = Path(tempfile.gettempdir())
    with saving(place, elsewhere="name another place with TMPDIR=FOLDER"), tempfile.TemporaryFile(dir=place) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk would end the process when it is written to
        return np.asarray(np.memmap(file, dtype=np.float32, mode="r+", shape=(rows, columns)))


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Parts [n, K] one below the other; a single one as it is."""
    if len(parts) == 1:
        return parts[0]
    whole, start = empty_rows(sum(map(len, parts)), parts[0].shape[1]), 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    return whole
