"""How strongly a sample of image files is compressed, and the same images compressed once more. Runs no model.

The quality is that of the Independent JPEG Group's scale, found by its luminance table (ITU T.81, Annex K.1), so of
files from other writers it is the nearest one.
"""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from deitkit.data.open import Source, Subset, image_name
from deitkit.data.views.augment import AS_IT_LIES, Reading, UnreadableImage, decode, open_image

SAMPLE = 64  # files
SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
LOSSY = 90  # up to this quality, and at
SMALL = 64  # pixels a side, up to which the 8 x 8 blocks weigh much
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True)
class Compression:
    """Of `files` looked at, `jpegs`: their median quality and most frequent chroma sampling, None without any; `side`
    is the median short side of all, in pixels; `is_one_size`: all are squares of it."""

    files: int
    jpegs: int
    quality: int | None
    sampling: str | None
    side: int
    is_one_size: bool

    @property
    def is_lossy(self) -> bool:
        """Whether the images are small and compressed enough for a classifier to notice."""
        return self.quality is not None and self.quality <= LOSSY and self.side <= SMALL

    def describe(self) -> str:
        if self.quality is None:
            return f"{self.files} files looked at: none is a JPEG"
        return (
            f"{self.jpegs} of {self.files} files looked at are JPEGs of quality about {self.quality}, chroma "
            f"{self.sampling}, short side {self.side} px"
        )


def compression_of(source: Source, indices: Sequence[int]) -> Compression:
    """A sample of these images' files; unreadable ones are passed over."""
    qualities, samplings, sizes = [], Counter[str](), []
    for index in indices[:: max(1, len(indices) // SAMPLE)][:SAMPLE]:
        try:
            image = open_image(source.read(index), image_name(source, index))
        except UnreadableImage:
            continue
        sizes.append(image.size)
        if isinstance(image, JpegImageFile) and image.quantization:
            qualities.append(quality_of(image.quantization[0]))
            samplings[SAMPLINGS.get(get_sampling(image), "grey or unusual")] += 1
    quality = round(statistics.median(qualities)) if qualities else None
    sampling = samplings.most_common(1)[0][0] if samplings else None
    side = round(statistics.median(min(size) for size in sizes)) if sizes else 0
    return Compression(len(sizes), len(qualities), quality, sampling, side, set(sizes) == {(side, side)})


def quality_of(luminance: Sequence[int]) -> int:
    """The quality, 1 to 100, whose table [64] is nearest; in any order of its entries."""
    table = np.sort(np.asarray(luminance))
    return min(range(1, 101), key=lambda quality: int(np.abs(table - np.sort(_standard(quality))).sum()))


def _standard(quality: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The luminance table of a quality, as the Independent JPEG Group's library scales it."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array(LUMINANCE, dtype=np.int64) * scale + 50) // 100, 1, 255)


@dataclass(frozen=True)
class Recompressed(Subset):
    """All images of a source, compressed once more as JPEGs of `quality` with chroma 4:2:0."""

    quality: int = LOSSY
    reading: Reading = AS_IT_LIES

    @classmethod
    def of(cls, source: Source, quality: int, reading: Reading = AS_IT_LIES) -> Recompressed:
        return cls(source, np.arange(len(source)), source.split, quality=quality, reading=reading)

    def read(self, index: int) -> bytes:
        buffer = io.BytesIO()
        image = decode(self.source.read(index), image_name(self.source, index), self.reading)
        image.save(buffer, "JPEG", quality=self.quality, subsampling="4:2:0")
        return buffer.getvalue()

    def path(self, index: int) -> Path | None:
        return None

    @cached_property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint} at quality {self.quality}"
