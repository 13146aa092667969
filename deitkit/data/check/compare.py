"""Whether images were trained on: a run keeps a 64-bit hash of each training image's name. Decodes nothing.

Images that are added, renamed or moved after training change which are held out; then an evaluation would measure on
images that the model has seen.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deitkit.data.formats.split import name_keys
from deitkit.data.source import Source, counted
from deitkit.files import write_atomic

TRAINED_ON = "training_images.npy"


@dataclass(frozen=True)
class SplitComparison:
    """`seen` are the ids of a source that were trained on."""

    seen: tuple[str, ...]
    images: int

    def notes(self) -> list[str]:
        """What a person should know; nothing where no image was trained on."""
        if not self.seen:
            return []
        what = counted(f"of these {self.images:,} images were trained on", self.seen, limit=3)
        return [f"the data have changed since training: {what}. Take them out, or measure on images that are new"]


def remember(train: Source, folder: Path) -> None:
    """Keep which images a run trains on, 8 bytes an image."""
    buffer = io.BytesIO()
    np.save(buffer, np.sort(name_keys(train.ids)))
    write_atomic(folder / TRAINED_ON, buffer.getvalue())


def compare(folder: Path, source: Source) -> SplitComparison:
    """Which of the source's images a run trained on, by their names; none where the run is older than this."""
    try:
        keys = np.load(folder / TRAINED_ON, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # EOFError: the file is empty
        return SplitComparison((), len(source))
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 1:
        return SplitComparison((), len(source))
    ids = source.ids
    return SplitComparison(tuple(ids[row] for row in np.flatnonzero(np.isin(name_keys(ids), keys)).tolist()), len(ids))
