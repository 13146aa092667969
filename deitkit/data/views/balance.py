"""A draw that evens out unequal classes (`data.balance`): how often an image stands in an epoch. Ours.

An epoch has as many places as there are images. A class with n of them gets a share of the places that grows with n
(none), with its root (sqrt; Mikolov et al. 2013, arXiv 1310.4546, sample words so) or not at all (equal). Its places
are filled by its images in a keyed order, each once before any comes again, so that within an epoch two images of a
class never differ by more than one. What stands at a place is a function of (seed, epoch, place) alone: workers, ranks
and resumption change nothing, and an epoch takes no memory beside the images' numbers by class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deitkit.data.draws import Domain, uniforms, words
from deitkit.data.source import Source
from deitkit.data.views.stream import FEISTEL_ROUNDS, Indices, feistel, order
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Floats, Labels
from deitkit.recipe.schema import Balance

POWERS: dict[Balance, float] = {"none": 1.0, "sqrt": 0.5, "equal": 0.0}
ARGSORT_LIMIT = 2**12  # images of a class whose order is kept: 32 KiB
MOST_TIMES = 2**16  # an image in an epoch, its repeats included: then its views come again


@dataclass(frozen=True, eq=False)
class BalancedDraw:
    """`members` [N]: the images, class after class; `counts` [K] of each class; `shares` [K] of an epoch's places."""

    members: Indices
    counts: Indices
    shares: Floats

    @classmethod
    def of(cls, source: Source, balance: Balance) -> BalancedDraw:
        """The draw for a source's images.

        Raises:
            DeitkitError: a class has none.
        """
        counts = counts_of_all(source, f"data.balance = {balance}", off="--set data.balance=none")
        shares = counts ** POWERS[balance]
        return cls(np.argsort(source.labels, kind="stable"), counts, shares / shares.sum())

    def places(self, seed: int, epoch: int) -> Indices:
        """How many places each class has in this epoch [K]: its share rounded up or down, right in the mean of epochs
        (systematic sampling: all boundaries move by one uniform number)."""
        shift = uniforms(seed, Domain.BALANCE, epoch, 0, lanes=1)[0, 0]
        ends = np.floor(np.cumsum(self.shares) * len(self.members) + shift).astype(np.int64)
        ends[-1] = len(self.members)
        counts: Indices = np.diff(np.minimum(ends, ends[-1]), prepend=0)
        return counts

    def images(self, seed: int, epoch: int, positions: Indices) -> tuple[Indices, Indices]:
        """The images at these positions [n] of the epoch's order, and how often each stood before in its class's
        places [n]: views of an image are told apart by it."""
        ends = np.cumsum(self.places(seed, epoch))
        slots = order(seed, epoch, len(self.members), positions)
        classes = np.searchsorted(ends, slots, side="right")
        rounds, within = np.divmod(slots - (ends - np.diff(ends, prepend=0))[classes], self.counts[classes])
        first = np.cumsum(self.counts) - self.counts
        chosen = np.empty_like(slots)
        for class_, round_ in set(zip(classes.tolist(), rounds.tolist(), strict=True)):
            here = (classes == class_) & (rounds == round_)
            places = class_order(seed, epoch, class_, round_, int(self.counts[class_]), within[here])
            chosen[here] = self.members[first[class_] + places]
        return chosen, rounds


def class_order(seed: int, epoch: int, class_: int, round_: int, size: int, positions: Indices) -> Indices:
    """The members [n] of a class at these positions of its keyed order in one round through it."""
    if size <= ARGSORT_LIMIT:
        return np.take(_whole_order(seed, epoch, class_, round_, size), positions)
    keys = words(seed, Domain.CLASS_ORDER, epoch, class_, lanes=FEISTEL_ROUNDS, repeat=round_ % MOST_TIMES)
    return feistel(keys[0], size, positions)


@lru_cache(maxsize=1024)
def _whole_order(seed: int, epoch: int, class_: int, round_: int, size: int) -> Indices:
    draws = words(seed, Domain.CLASS_ORDER, epoch, class_, lanes=size, repeat=round_ % MOST_TIMES)[0]
    permutation = np.argsort(draws, kind="stable")
    permutation.flags.writeable = False
    return permutation


def counts_of_all(source: Source, what: str, *, off: str) -> Labels:
    """Training images of each class [K].

    Raises:
        DeitkitError: a class has none; `what` was asked for, and `off` takes it back.
    """
    counts = np.bincount(source.labels, minlength=len(source.class_names)).astype(np.int64)
    empty = [name for name, count in zip(source.class_names, counts.tolist(), strict=True) if not count]
    if empty:
        raise DeitkitError(
            f"{what} needs training images of every class, and {len(empty):,} of {len(counts):,} have none",
            value=empty[0],
            problems=[f"without a training image: {name}" for name in empty[:10]],
            remedy=f"add images of them, or take these classes out, or {off}",
        )
    return counts
