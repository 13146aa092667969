"""Colours and sizes of a data set's images: mean and standard deviation per channel, histograms of sizes.

Every pixel of the whole, unresized RGB images weighs the same (so a large image weighs more than a small one), which is
how the published values of CIFAR were made; the mean of per-image values, or of training crops, is another number. The
sums are exact: 8-bit values are counted, not added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deitkit.data.open import Source, image_name
from deitkit.data.views.augment import AS_IT_LIES, Reading, UnreadableImage, load_rgb, open_image, size_of
from deitkit.errors import DeitkitError

Integers = npt.NDArray[np.int64]
Progress = Callable[[int], None]

CHUNK = 64  # images that a worker takes at once
FEW_SIZES = 8  # up to so many different sizes are listed one by one
# Short sides in pixels: powers of two and their halves between.
SIDE_EDGES = (1, *(side for power in range(1, 15) for side in (2**power, 3 * 2 ** (power - 1))))
ASPECTS = (
    ("below 1:3", 0.0), ("1:3 to 1:2", 1 / 3), ("1:2 to 3:4", 1 / 2), ("3:4 to 1:1", 3 / 4), ("square", 1.0),
    ("1:1 to 4:3", np.nextafter(1.0, 2.0)), ("4:3 to 2:1", 4 / 3), ("2:1 to 3:1", 2.0), ("3:1 and above", 3.0),
)  # fmt: skip


class Bar(NamedTuple):
    """One bar of a histogram."""

    label: str
    images: int


class Tally(NamedTuple):
    """Some images: counts [3, 256] of each channel's values, sizes [n, 2] as (height, width), names unread."""

    counts: Integers
    sizes: Integers
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """`images` of `total` images looked at; mean and std per channel, of values from 0 to 1; sizes [images, 2]."""

    images: int
    total: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: Integers
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Tallier:
    """Indices -> their tally."""

    source: Source
    reading: Reading

    def __call__(self, indices: Sequence[int]) -> Tally:
        counts, sizes, unreadable = np.zeros((3, 256), dtype=np.int64), [], []
        for index in indices:
            name = image_name(self.source, index)
            try:
                image = load_rgb(open_image(self.source.read(index), name, self.reading), name, self.reading)
            except UnreadableImage:
                unreadable.append(name)
                continue
            counts += np.array(image.histogram()).reshape(3, 256)
            sizes.append((image.height, image.width))
        return Tally(counts, np.array(sizes, dtype=np.int64).reshape(-1, 2), tuple(unreadable))


def measure(
    source: Source,
    *,
    limit: int | None = None,
    reading: Reading = AS_IT_LIES,
    workers: int = 0,
    progress: Progress | None = None,
) -> Statistics:
    """Decode a source's images, or `limit` of them spread evenly; unreadable ones are left out and named.

    Raises:
        DeitkitError: not one image can be read, or a worker was killed.
    """
    import torch  # here alone: counts and headers are told without it

    from deitkit.data.views.pool import Pool

    chosen = spread(len(source), limit)
    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    tallies = []
    for chunk, tally in zip(
        chunks, Pool(Tallier(source, reading), workers, torch.device("cpu")).map(chunks), strict=True
    ):
        tallies.append(tally)
        if progress:
            progress(len(chunk))
    unreadable = tuple(name for tally in tallies for name in tally.unreadable)
    if len(unreadable) == len(chosen):
        raise DeitkitError(
            f"none of {len(chosen):,} images can be read", remedy="`deitkit data verify` says what is wrong with each"
        )
    mean, std = moments(np.sum([tally.counts for tally in tallies], axis=0))
    sizes = np.concatenate([tally.sizes for tally in tallies])
    return Statistics(len(sizes), len(source), mean, std, sizes, unreadable)


def moments(counts: Integers) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """counts [3, 256] of 8-bit values -> mean and standard deviation per channel, of values / 255."""
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    deviations = (values - mean[:, None]) ** 2
    return tuple(mean.tolist()), tuple(np.sqrt((shares * deviations).sum(axis=1)).tolist())


def spread(total: int, limit: int | None) -> list[int]:
    """`limit` of the indices below `total`, at even distances; all of them where it is None or not smaller."""
    if limit is None or limit >= total:
        return list(range(total))
    indices: list[int] = (np.arange(limit) * total // limit).tolist()
    return indices


def sampled_sizes(source: Source, *, limit: int, reading: Reading = AS_IT_LIES) -> Integers:
    """Sizes [n, 2] as (height, width) of up to `limit` images, from their headers; unreadable ones are left out."""
    sizes = []
    for index in spread(len(source), limit):
        name = image_name(source, index)
        try:
            sizes.append(size_of(open_image(source.read(index), name, reading), name, reading))
        except UnreadableImage:
            continue
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def size_histogram(sizes: Integers) -> list[Bar]:
    """Sizes [n, 2] one by one where they are few, else the short side in classes of pixels."""
    distinct, counts = np.unique(sizes, axis=0, return_counts=True)
    if len(distinct) <= FEW_SIZES:
        pairs = zip(distinct.tolist(), counts.tolist(), strict=True)
        return [Bar(f"{width} x {height} px", count) for (height, width), count in pairs]
    return list(_classed(sizes.min(axis=1)))


def aspect_histogram(sizes: Integers) -> list[Bar]:
    """Sizes [n, 2] by width : height."""
    aspects = sizes[:, 1] / sizes[:, 0]
    places = np.searchsorted([edge for _, edge in ASPECTS], aspects, side="right") - 1
    counts = np.bincount(places, minlength=len(ASPECTS)).tolist()
    bars = [Bar(label, count) for (label, _), count in zip(ASPECTS, counts, strict=True)]
    return [bar for bar in bars if bar.images]


def _classed(sides: Integers) -> Iterator[Bar]:
    """From the first class that has images to the last, empty ones between included."""
    places = np.searchsorted(SIDE_EDGES, sides, side="right") - 1
    counts = np.bincount(places, minlength=len(SIDE_EDGES)).tolist()
    for place in range(int(places.min()), int(places.max()) + 1):
        first, *after = SIDE_EDGES[place : place + 2]
        span = f"{first} and more" if not after else f"{first}-{after[0] - 1}" if after[0] - 1 > first else f"{first}"
        yield Bar(f"short side {span} px", counts[place])
