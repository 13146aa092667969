"""Every image of a data set decoded once: what cannot be read, what is odd, and what is there twice. Changes nothing.

Two images are the same where their decoded RGB pixels are: a copy with other metadata, or saved anew without loss, is
found; one saved anew with loss, cropped or resized is not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deitkit.data.check.inspection import DIGEST_BYTES, UNREADABLE, Remark, inspect
from deitkit.data.open import Source
from deitkit.data.views.augment import AS_IT_LIES, Reading

Progress = Callable[[int], None]

CHUNK = 64  # images that a worker takes at once


@dataclass(frozen=True)
class ImageFinding:
    """An image that cannot be read ("unreadable"), or is odd in some way."""

    split: str
    id: str
    class_name: str
    kind: str
    detail: str


class Copy(NamedTuple):
    """One of several images with the same pixels."""

    split: str
    id: str
    class_name: str


class Extreme(NamedTuple):
    """The smallest or the largest image."""

    split: str
    id: str
    width: int
    height: int


@dataclass(frozen=True)
class Verification:
    """What was found. `counts` are images per class name, per split; `duplicates` are groups of equal images.

    `problems` are splits that are there but could not be opened.
    """

    counts: dict[str, dict[str, int]]
    findings: tuple[ImageFinding, ...]
    duplicates: tuple[tuple[Copy, ...], ...]
    smallest: Extreme | None
    largest: Extreme | None
    seconds: float
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return sum(sum(counts.values()) for counts in self.counts.values())

    @property
    def unreadable(self) -> list[ImageFinding]:
        return [finding for finding in self.findings if finding.kind == UNREADABLE]

    @property
    def lost_classes(self) -> list[tuple[str, str]]:
        """(split, class) of which no image can be read."""
        bad = Counter((finding.split, finding.class_name) for finding in self.unreadable)
        return [place for place, count in bad.items() if count == self.counts[place[0]][place[1]]]

    @property
    def odd(self) -> list[ImageFinding]:
        return [finding for finding in self.findings if finding.kind != UNREADABLE]

    @property
    def leaks(self) -> list[tuple[Copy, ...]]:
        """Groups with images of more than one split."""
        return [group for group in self.duplicates if len({copy.split for copy in group}) > 1]

    @property
    def conflicts(self) -> list[tuple[Copy, ...]]:
        """Groups whose images have different labels."""
        return [group for group in self.duplicates if len({copy.class_name for copy in group}) > 1]

    def is_clean(self, *, strict: bool = False) -> bool:
        """No unreadable image, leak or image of two classes, every split opened; `strict`: nor odd ones or copies."""
        broken = bool(self.unreadable or self.leaks or self.conflicts or self.problems)
        return not broken and not (strict and (self.odd or self.duplicates))


class ImageChunk(NamedTuple):
    """Some images of a split, one after the other; `row` is the place of the first among the images of all splits."""

    split: str
    start: int
    stop: int
    row: int


class Inspected(NamedTuple):
    """A chunk's images: sizes [n, 2] (width, height), digests [n, DIGEST_BYTES], and (row, remark) pairs."""

    sizes: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint8]
    remarks: list[tuple[int, Remark]]


@dataclass(frozen=True)
class Inspector:
    """Chunk -> what its images are; packed, because there may be a million."""

    splits: Mapping[str, Source]
    reading: Reading

    def __call__(self, chunk: ImageChunk) -> Inspected:
        source = self.splits[chunk.split]
        seen = [inspect(source, index, self.reading) for index in range(chunk.start, chunk.stop)]
        return Inspected(
            np.array([(image.width, image.height) for image in seen], dtype=np.int32),
            np.frombuffer(b"".join(image.digest for image in seen), dtype=np.uint8).reshape(-1, DIGEST_BYTES),
            [(row, remark) for row, image in enumerate(seen, start=chunk.row) for remark in image.remarks],
        )


def verify(
    splits: Mapping[str, Source], *, reading: Reading = AS_IT_LIES, workers: int = 0, progress: Progress | None = None,
    problems: Sequence[str] = (),
) -> Verification:  # fmt: skip
    """Decode every image of the splits; `progress` is called with the number of images done since its last call.

    Raises:
        DeitkitError: a worker was killed.
    """
    import torch  # here alone: counts and headers are told without it

    from deitkit.data.views.pool import Pool

    began = time.perf_counter()
    chunks, results = list(chunks_of(splits)), []
    for chunk, result in zip(
        chunks, Pool(Inspector(splits, reading), workers, torch.device("cpu")).map(chunks), strict=True
    ):
        results.append(result)
        if progress:
            progress(chunk.stop - chunk.start)
    sizes = np.concatenate([np.empty((0, 2), dtype=np.int32), *(result.sizes for result in results)])
    digests = np.concatenate([np.empty((0, DIGEST_BYTES), dtype=np.uint8), *(result.digests for result in results)])
    areas = sizes.astype(np.int64).prod(axis=1)
    readable = np.flatnonzero(areas)
    groups = [tuple(copy_at(splits, row) for row in readable[rows].tolist()) for rows in equal_rows(digests[readable])]
    by_area = readable[np.argsort(areas[readable], kind="stable")]
    return Verification(
        counts={split: counts_per_class(source) for split, source in splits.items()},
        findings=tuple(_findings(splits, results)),
        duplicates=tuple(sorted(groups, key=_worst_first)),
        smallest=_extreme(splits, by_area[:1], sizes),
        largest=_extreme(splits, by_area[-1:], sizes),
        seconds=time.perf_counter() - began,
        notes=tuple(notes_of(splits)),
        problems=tuple(problems),
    )


def notes_of(splits: Mapping[str, Source]) -> list[str]:
    """The sources' own notes, each with its split."""
    return [
        note if note.startswith(f"{split}: ") else f"{split}: {note}"
        for split, source in splits.items()
        for note in source.notes
    ]


def counts_per_class(source: Source) -> dict[str, int]:
    """Images of every class, classes without any included."""
    counts = np.bincount(source.labels, minlength=len(source.class_names)).tolist()
    return dict(zip(source.class_names, counts, strict=True))


def equal_rows(digests: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.int64]]:
    """Rows of digests [n, DIGEST_BYTES] that occur more than once: ascending indices, one array a group."""
    words = np.ascontiguousarray(digests).view(np.uint64)
    order = np.lexsort(words.T)
    same = np.concatenate([[False], (words[order][1:] == words[order][:-1]).all(axis=1), [False]])[: len(order) + 1]
    repeated = np.flatnonzero(same[:-1] | same[1:])
    starts = np.flatnonzero(~same[repeated])
    return [np.sort(rows) for rows in np.split(order[repeated], starts[1:])] if len(repeated) else []


def chunks_of(splits: Mapping[str, Source]) -> Iterator[ImageChunk]:
    first = 0
    for split, source in splits.items():
        for start in range(0, len(source), CHUNK):
            stop = min(start + CHUNK, len(source))
            yield ImageChunk(split, start, stop, first + start)
        first += len(source)


def _findings(splits: Mapping[str, Source], results: Sequence[Inspected]) -> Iterator[ImageFinding]:
    for result in results:
        for row, remark in result.remarks:
            yield ImageFinding(*copy_at(splits, row), *remark)


def copy_at(splits: Mapping[str, Source], row: int) -> Copy:
    """The image at this place of all splits' images, one split after the other.

    Bytes of a file's name that are no text are spelled out: reports and terminals take text alone.
    """
    split, index = place_of(splits, row)
    name = splits[split].ids[index].encode("utf-8", "backslashreplace").decode()
    return Copy(split, name, splits[split].class_names[splits[split].labels[index]])


def place_of(splits: Mapping[str, Source], row: int) -> tuple[str, int]:
    """The split of an image, and its place there, by its place among all splits' images."""
    for split, source in splits.items():
        if row < len(source):
            return split, row
        row -= len(source)
    raise IndexError(row)


def _extreme(splits: Mapping[str, Source], rows: npt.NDArray[np.int64], sizes: npt.NDArray[np.int32]) -> Extreme | None:
    for row in rows.tolist():
        copy = copy_at(splits, row)
        return Extreme(copy.split, copy.id, *sizes[row].tolist())
    return None


def _worst_first(group: tuple[Copy, ...]) -> tuple[bool, bool, Copy]:
    """Leaks before contradicting labels before mere duplicates."""
    splits, classes = {copy.split for copy in group}, {copy.class_name for copy in group}
    return len(splits) == 1, len(classes) == 1, group[0]
