"""Images stored in arrow files, as the `datasets` library keeps them; read as they are, without it. Finds no files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.data.late import pa
from deitkit.data.source import Images, Indices
from deitkit.errors import DeitkitError


@dataclass(frozen=True, kw_only=True)
class ArrowImages(Images):
    """One split: rows of arrow files, one file after the other."""

    files: tuple[str, ...]
    column: str

    def read(self, index: int) -> bytes:
        value = self._cell(index)
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes):
            return content
        path = self.path(index)
        try:
            if path is not None:
                return path.read_bytes()
            if not isinstance(content, list):
                raise ValueError("it is empty")
            return encoded(content)
        except (OSError, ValueError, TypeError) as error:
            name = path or f"{self.ids[index]} of {self.dataset}"
            remedy = "restore it, or save the data anew: save_to_disk puts the images themselves into its files"
            raise DeitkitError(f"cannot read image {name}: {error}", value=name, remedy=remedy) from error

    def path(self, index: int) -> Path | None:
        """The image's file where only its path is stored."""
        value = self._cell(index)
        if isinstance(value, dict):
            value = None if value.get("bytes") is not None else value.get("path")
        return Path(self.files[0]).parent / value if isinstance(value, str) else None

    def _cell(self, index: int) -> Any:
        row = range(len(self))[index]
        chunks, ends = mapped(self.files, self.column, os.getpid())
        place = int(np.searchsorted(ends, row, side="right"))
        return chunks[place][row - (int(ends[place - 1]) if place else 0)].as_py()


@lru_cache(maxsize=8)
def mapped(files: tuple[str, ...], column: str, process: int) -> tuple[list[Any], Indices]:
    """The column's chunks and the rows up to the end of each; every process maps the files for itself."""
    chunks: list[Any] = []
    for file in files:
        try:
            found = pa.ipc.open_stream(pa.memory_map(file)).read_all().column(column).chunks
        except (OSError, pa.ArrowException) as error:
            raise DeitkitError(f"cannot read {file}: {error}", value=file, remedy="save the data anew") from error
        chunks += [chunk.storage if isinstance(chunk.type, pa.BaseExtensionType) else chunk for chunk in found]
    return chunks, np.cumsum([len(chunk) for chunk in chunks], dtype=np.int64)


def encoded(values: Sequence[Any]) -> bytes:
    """Pixels stored as numbers 0..255, [H, W], [H, W, C] or [C, H, W] with C = 1, 3 or 4, as a PNG.

    Raises:
        ValueError: they are something else.
    """
    from PIL import Image

    pixels = np.asarray(values)
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    whole = pixels.astype(np.uint8, copy=False) if pixels.dtype.kind in "iuf" else np.empty(0, dtype=np.uint8)
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)) or not np.array_equal(whole, pixels):
        raise ValueError(f"numbers {list(pixels.shape)} that are no 8-bit pixels")
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
