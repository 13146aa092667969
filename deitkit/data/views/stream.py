"""One stream: counter-based randomness, the order of the images and the arithmetic of batches. Ours.

Every draw is a pure function of (seed, domain, epoch, index, repeat, lane), never of history; so the k-th view needs
no view before it. Legend: R repeats, G mix group. Knows no image, no worker and no file.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from deitkit.data.draws import Domain, Words, words
from deitkit.errors import DeitkitError
from deitkit.recipe import schema
from deitkit.recipe.choose import power_of_two

Indices = npt.NDArray[np.int64]

LARGEST_GROUP = 64  # one GPU of the reference had a batch of 64
ARGSORT_LIMIT = 2**16  # above, a permutation is too long to keep
FEISTEL_ROUNDS = 12


def order(seed: int, epoch: int, size: int, positions: npt.ArrayLike) -> Indices:
    """The images at these positions [n] of the epoch's keyed permutation of 0..size-1."""
    positions = np.asarray(positions, dtype=np.int64)
    if size <= ARGSORT_LIMIT:
        return np.take(argsort_order(seed, epoch, size), positions)
    return feistel_order(seed, epoch, size, positions)


@lru_cache(maxsize=4)
def argsort_order(seed: int, epoch: int, size: int) -> Indices:
    """The epoch's whole permutation, for data sets that are small enough to keep it: [size], read-only."""
    permutation = np.argsort(words(seed, Domain.ORDER, epoch, 0, lanes=size)[0], kind="stable")
    permutation.flags.writeable = False
    return permutation


def feistel_order(seed: int, epoch: int, size: int, positions: Indices) -> Indices:
    """The same for any size, in constant time and memory an image: an unbalanced Feistel network over the smallest
    power of two that holds `size`, walked until it lands below `size`."""
    return feistel(words(seed, Domain.ORDER, epoch, 0, lanes=FEISTEL_ROUNDS)[0], size, positions)


def feistel(keys: Words, size: int, positions: Indices) -> Indices:
    """Where a permutation of 0..size-1 under FEISTEL_ROUNDS keys takes these positions [n]."""
    bits = max(2, (size - 1).bit_length())
    low_bits = bits // 2
    values = _feistel(positions.astype(np.uint64), keys, low_bits=low_bits, high_bits=bits - low_bits)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], keys, low_bits=low_bits, high_bits=bits - low_bits)
    return values.astype(np.int64)


def _feistel(values: Words, keys: Words, *, low_bits: int, high_bits: int) -> Words:
    """A keyed permutation of 0..2**(low_bits + high_bits)-1: rounds change the high and the low half in turn."""
    low = values & np.uint64((1 << low_bits) - 1)
    high = values >> np.uint64(low_bits)
    for high_key, low_key in keys.reshape(-1, 2):
        high ^= _hash(low + high_key) >> np.uint64(64 - high_bits)
        low ^= _hash(high + low_key) >> np.uint64(64 - low_bits)
    return high << np.uint64(low_bits) | low


def _hash(values: Words) -> Words:
    """64 well-mixed bits of 64 (the finaliser of SplitMix64); a Feistel round may lose information."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


@dataclass(frozen=True)
class StreamShape:
    """How `size` images become steps, parts and mix groups. A part is what one rank sees in one accumulation step."""

    size: int
    batch_size: int
    repeats: int
    mix_group: int
    ranks: int = 1
    accumulation: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Every batch is full; the tail is left out, and the next epoch's permutation reaches it."""
        return self.size // self.batch_size

    @property
    def groups_per_batch(self) -> int:
        return self.batch_size // self.mix_group

    @property
    def parts_per_batch(self) -> int:
        return self.ranks * self.accumulation

    @property
    def groups_per_part(self) -> int:
        return self.groups_per_batch // self.parts_per_batch

    @property
    def views_per_epoch(self) -> int:
        return self.steps_per_epoch * self.batch_size

    @property
    def distinct_images_per_epoch(self) -> int:
        groups = self.steps_per_epoch * self.groups_per_batch
        return -(-groups // self.repeats) * self.mix_group

    @property
    def decodes_per_view(self) -> float:
        """Counted over one epoch: each part decodes every image set that it touches once."""
        first = np.arange(self.steps_per_epoch * self.parts_per_batch, dtype=np.int64) * self.groups_per_part
        sets = (first + self.groups_per_part - 1) // self.repeats - first // self.repeats + 1
        return float(sets.sum()) * self.mix_group / self.views_per_epoch


@dataclass(frozen=True)
class Unit:
    """One image set cut by one part: its images are decoded once, for all of the groups (numbered in the epoch)."""

    epoch: int
    image_set: int
    groups: tuple[int, ...]


def units(shape: StreamShape, *, epoch: int, step: int, part: int) -> list[Unit]:
    """The units of one part (rank * accumulation + accumulation step) of one step of the epoch."""
    first = step * shape.groups_per_batch + part * shape.groups_per_part
    by_set = itertools.groupby(range(first, first + shape.groups_per_part), key=lambda group: group // shape.repeats)
    return [Unit(epoch, image_set, tuple(groups)) for image_set, groups in by_set]


def set_images(shape: StreamShape, seed: int, unit: Unit) -> Indices:
    """The images [G] of the unit's set, in the epoch's order."""
    first = unit.image_set * shape.mix_group
    return order(seed, unit.epoch, shape.size, np.arange(first, first + shape.mix_group))


def group_order(shape: StreamShape, seed: int, unit: Unit, group: int) -> Indices:
    """The group's own order of its set: positions [G] in `set_images`."""
    draws = words(seed, Domain.GROUP_ORDER, unit.epoch, group, lanes=shape.mix_group)
    return np.argsort(draws[0], kind="stable")


def plan_stream(
    size: int, stream: schema.Stream, *, mixing: bool, ranks: int = 1, accumulation: int = 1
) -> StreamShape:
    """The stream's arithmetic for `size` images.

    Raises:
        DeitkitError: too few images for a batch, no mix group that fits, or groups that do not divide into parts.
    """
    if size < stream.batch_size:
        raise DeitkitError(
            f"{size:,} training images are fewer than one batch: stream.batch_size is {stream.batch_size:,}",
            value=stream.batch_size,
            remedy=f"--set stream.batch_size={power_of_two(size)}",
        )
    group = stream.mix_group or _default_group(size, stream, mixing=mixing)
    _check_group(group, size, stream, mixing=mixing)
    groups = stream.batch_size // group
    if groups % (ranks * accumulation):
        fits = [str(parts) for parts in range(1, groups + 1) if groups % parts == 0]
        raise DeitkitError(
            f"a batch has {groups} mix groups ({stream.batch_size} views in groups of {group}), which do not divide "
            f"among {ranks} ranks x {accumulation} accumulation steps",
            value=ranks * accumulation,
            choices=fits,
            remedy="choose ranks x train.accumulation from these, or a smaller stream.mix_group",
        )
    return StreamShape(size, stream.batch_size, stream.repeats, group, ranks, accumulation)


def _default_group(size: int, stream: schema.Stream, *, mixing: bool) -> int:
    """The largest fitting power of two up to 64, from 2 on; without mixing any divisor will do."""
    batch, repeats = stream.batch_size, stream.repeats
    limit = min(LARGEST_GROUP, size // repeats, batch // repeats)
    fits = [group for group in range(1, limit + 1) if batch % group == 0]
    powers = [group for group in fits if group % 2 == 0 and group & (group - 1) == 0]
    if powers:
        return powers[-1]
    if fits and not mixing:
        return fits[-1]
    needed = f"at least stream.repeats {repeats}" if not fits else "even, because mixup pairs its images"
    least = 2 * repeats if mixing else repeats
    raise DeitkitError(
        f"stream.batch_size {batch} cannot be cut into mix groups: it must be {needed}",
        value=batch,
        remedy=f"--set stream.batch_size={max(least, batch - batch % 2)}" + (
            ", or --set mix.prob=0 turns mixing off" if mixing else ""
        ),
    )  # fmt: skip


def _check_group(group: int, size: int, stream: schema.Stream, *, mixing: bool) -> None:
    problems = []
    if stream.batch_size % group:
        problems.append(f"it does not divide stream.batch_size {stream.batch_size}")
    if mixing and group % 2:
        problems.append("it is odd, so one image would be mixed with itself")
    if stream.repeats > 1 and group * stream.repeats > stream.batch_size:
        problems.append(f"times stream.repeats {stream.repeats} it is more than stream.batch_size {stream.batch_size}")
    if group > size // stream.repeats:
        problems.append(f"it is more than {size:,} images / {stream.repeats} repeats")
    if problems:
        raise DeitkitError(
            f"stream.mix_group {group} does not fit",
            value=group,
            problems=problems,
            remedy="--set stream.mix_group=false chooses one",
        )
