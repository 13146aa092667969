"""A quick look at images before they are learned from: what cannot be read, and what has two labels. Changes nothing.

Few images are decoded whole. Of many the header and the file's end are read, and only what ends as no whole file does
is decoded. What is read decides, never the clock, so that the same files give the same answer for teacher, student and
tape. `deitkit.data.check.verify` looks at everything, slowly.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from itertools import chain, zip_longest
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from deitkit.data.check.inspection import DIGEST_BYTES
from deitkit.data.check.verify import (
    Copy,
    ImageChunk,
    Progress,
    chunks_of,
    copy_at,
    counts_per_class,
    equal_rows,
    place_of,
)
from deitkit.data.source import Source, image_name, spread_over
from deitkit.data.views.augment import Reading, UnreadableImage, load_rgb, open_file, size_of
from deitkit.data.views.pool import Pool
from deitkit.distributed import World
from deitkit.files import open_regular

DECODED_BYTES = 2**28  # of files: up to that all are decoded before the first step
LEAST_BYTES = 2**12  # a tiny file takes as long as one of this size
SAMPLED = 256  # images whose sizes stand for all
FEW = 2048  # images for which no worker is started
END_BYTES = 4096  # of a file, that are compared first
REDUCED = 8  # JPEG decodes at an eighth of its sides: all of its bytes are read, and no fault is missed


class BadImage(NamedTuple):
    """An image that cannot be read, by its source's id, and why."""

    split: str
    id: str
    class_name: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a look found. `images` by split; `is_whole`: everything was decoded.

    `lost_classes` are (split, class) of which no image can be read. `conflicts` are groups of files with the same bytes
    under several labels; `leaks` with the same bytes in both splits.
    """

    images: Mapping[str, int]
    bad: tuple[BadImage, ...] = ()
    is_whole: bool = True
    lost_classes: tuple[tuple[str, str], ...] = ()
    conflicts: tuple[tuple[Copy, ...], ...] = ()
    leaks: tuple[tuple[Copy, ...], ...] = ()

    @property
    def share(self) -> float:
        """Of the images that cannot be read."""
        return len(self.bad) / max(1, sum(self.images.values()))

    def ids(self, split: str) -> set[str]:
        """The split's images that cannot be read."""
        return {image.id for image in self.bad if image.split == split}


def scan(
    splits: Mapping[str, Source],
    reading: Reading,
    *,
    workers: int = 0,
    world: World | None = None,
    begin: Callable[[str, int], None] | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Look at every image of the splits; each process of the world at its part, and all get the same.

    `begin` is told what is done and with how many images, `progress` the number of images done since its last call.

    Raises:
        DeitkitError: a file has gone or the system refuses it; a worker was killed.
    """
    world, count = world or World(), sum(map(len, splits.values()))
    is_whole = sum(map(_estimated_bytes, splits.values())) <= DECODED_BYTES
    if begin:
        begin("decoding every image once" if is_whole else "reading the header and end of every image", count)
    chunks = list(chunks_of(splits))
    own = chunks[world.rank :: world.ranks]
    look, looked = _ChunkLook(splits, reading, is_whole), []
    with closing(Pool(look, workers if count > FEW else 0, torch.device("cpu")).map(own)) as found:
        for chunk, result in zip(own, found, strict=True):
            looked.append(result)
            if progress:
                progress((chunk.stop - chunk.start) * world.ranks)
    whole = [part for parts in zip_longest(*world.gather(looked)) for part in parts if part is not None]
    return _summed(splits, whole, is_whole=is_whole)


def _estimated_bytes(source: Source) -> int:
    sampled = spread_over(source, SAMPLED)
    sizes = []
    for index in range(len(sampled)):
        with opened(sampled, index) as file:
            sizes.append(max(LEAST_BYTES, file.seek(0, os.SEEK_END)))
    return int(np.mean(sizes or [0]) * len(source))


def _summed(splits: Mapping[str, Source], looked: Sequence[_Looked], *, is_whole: bool) -> Scan:
    bad = [_bad_image(splits, row, reason) for row, reason in chain.from_iterable(each.bad for each in looked)]
    digests = np.concatenate([np.empty((0, DIGEST_BYTES), np.uint8), *(each.digests for each in looked)])
    groups = _equal_files(splits, digests, {row for each in looked for row, _ in each.bad})
    counts = {split: counts_per_class(source) for split, source in splits.items()}
    lost = [
        (split, name)
        for (split, name), count in Counter((image.split, image.class_name) for image in bad).items()
        if count == counts[split][name]
    ]
    conflicts = tuple(group for group in groups if len({copy.class_name for copy in group}) > 1)
    return Scan(
        images={split: len(source) for split, source in splits.items()},
        bad=tuple(bad),
        is_whole=is_whole,
        lost_classes=tuple(lost),
        conflicts=conflicts,
        leaks=tuple(group for group in groups if len({copy.split for copy in group}) > 1 and group not in conflicts),
    )


def _bad_image(splits: Mapping[str, Source], row: int, reason: str) -> BadImage:
    """The image at this place of all splits' images, by its own id: what people see spells out odd names."""
    split, index = place_of(splits, row)
    source = splits[split]
    return BadImage(split, source.ids[index], source.class_names[source.labels[index]], reason)


# One image


class _Looked(NamedTuple):
    """A chunk's images: digests of length and end [n, DIGEST_BYTES], and (row, reason) of those that are unreadable."""

    digests: npt.NDArray[np.uint8]
    bad: list[tuple[int, str]]


@dataclass(frozen=True)
class _ChunkLook:
    """Chunk -> what its images are."""

    splits: Mapping[str, Source]
    reading: Reading
    decode: bool

    def __call__(self, chunk: ImageChunk) -> _Looked:
        source, digests, bad = self.splits[chunk.split], [], []
        for index in range(chunk.start, chunk.stop):
            with opened(source, index) as file:
                digest, end = _digest_of(file)
                digests.append(digest)
                try:
                    check(file, image_name(source, index), self.reading, end=b"" if self.decode else end)
                except UnreadableImage as error:
                    bad.append((chunk.row + index - chunk.start, error.reason))
        return _Looked(np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES), bad)


def opened(source: Source, index: int) -> BinaryIO:
    """The encoded image as a file; of one that has a file of its own no more is read than is asked for.

    Raises:
        DeitkitError: it has gone, or the system refuses it.
    """
    path = source.path(index)
    if path is None:
        return BytesIO(source.read(index))
    try:
        return open_regular(path)
    except OSError:
        return BytesIO(source.read(index))  # the source says what is wrong


def _digest_of(file: BinaryIO) -> tuple[bytes, bytes]:
    """Of a file's length and end, which is different for nearly all different files; and that end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END_BYTES))
    end = file.read()
    return blake2b(size.to_bytes(8, "little") + end, digest_size=DIGEST_BYTES).digest(), end


def check(file: BinaryIO, name: str, reading: Reading, *, end: bytes = b"") -> None:
    """Read an image's header, and decode it unless its file's `end` is that of a whole one.

    Raises:
        UnreadableImage: training would refuse it.
    """
    file.seek(0)
    image = open_file(file, name, reading)
    size_of(image, name, reading)
    if ends_whole(image.format or "", end):
        return
    if image.format == "JPEG":
        image.draft(None, (max(1, image.width // REDUCED), max(1, image.height // REDUCED)))
    load_rgb(image, name, reading)


def ends_whole(kind: str, end: bytes) -> bool:
    """Whether a file of this format ends as a whole one does; False where its end says nothing."""
    return (kind == "JPEG" and end.endswith(b"\xff\xd9")) or (kind == "PNG" and end[-8:-4] == b"IEND")


# The same bytes


def _equal_files(splits: Mapping[str, Source], digests: npt.NDArray[np.uint8], bad: set[int]) -> list[tuple[Copy, ...]]:
    """Groups of files with the same bytes in several splits or classes."""
    found = []
    for rows in equal_rows(digests):
        copies = {row: copy_at(splits, row) for row in rows.tolist() if row not in bad}
        if len({(copy.split, copy.class_name) for copy in copies.values()}) < 2:
            continue
        by_bytes: dict[bytes, list[Copy]] = {}
        for row, copy in copies.items():
            by_bytes.setdefault(_whole_digest(splits, row), []).append(copy)
        found += [tuple(same) for same in by_bytes.values() if len({(c.split, c.class_name) for c in same}) > 1]
    return found


def _whole_digest(splits: Mapping[str, Source], row: int) -> bytes:
    split, index = place_of(splits, row)
    return blake2b(splits[split].read(index), digest_size=DIGEST_BYTES).digest()
