"""Groups of classes that are confused with each other, from decisions and labels alone. Draws nothing.

The confusion rate of two classes is the share of both classes' images that are taken for the other one. Classes are
joined by average linkage (Sokal and Michener, 1958) on one minus that rate. The tree is cut where the share of errors
inside of the groups is the most surprising: its divergence from chance is greatest (Traag, Aldecoa and Delvenne,
Detecting communities using asymptotical surprise, 2015; chance is here a random graph in which every class keeps its
number of errors). Modularity, which is better known, joins groups that are small beside all errors. Classes that are
never confused are never joined, so the work grows with the confusions that occur and not with the classes squared.

Legend: N images, K classes, P pairs of classes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deitkit.measures.agreement import refuse_unequal_lengths
from deitkit.measures.arrays import Decisions

DEALT, MOST_SHUFFLES = 30_000, 20  # errors dealt out anew in all, but for the first time


@dataclass(frozen=True, eq=False)
class Errors:
    """Wrong decisions as pairs that occur: label [P], said [P], images [P]; and each class's labelled images [K]."""

    label: NDArray[np.int64]
    said: NDArray[np.int64]
    images: NDArray[np.int64]
    images_of: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.images.sum())

    def between(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """images [C, C] whose label is the row's class and whose decision is the column's, right ones left out."""
        place = np.full(len(self.images_of), -1)
        place[classes] = np.arange(len(classes))
        rows, columns = place[self.label], place[self.said]
        inside = (rows >= 0) & (columns >= 0)
        found = np.zeros((len(classes), len(classes)), dtype=np.int64)
        found[rows[inside], columns[inside]] = self.images[inside]
        return found


@dataclass(frozen=True)
class Merge:
    """Two groups joined, by number: classes are 0 to K - 1, and the merge with the index m makes the group K + m.

    `rate`: mean confusion rate of a class of the one with a class of the other; `errors` between both groups.
    """

    a: int
    b: int
    rate: float
    errors: int


@dataclass(frozen=True)
class Cluster:
    """Classes that are confused with each other, and their commonest confusion: `images` of `label` taken for `said`.

    `errors` are those whose label and decision are both in the cluster.
    """

    classes: tuple[int, ...]
    errors: int
    label: int
    said: int
    images: int


@dataclass(frozen=True)
class Clusters:
    """Clusters of two classes or more, those of the most errors inside first.

    `inside`: share of all errors inside of clusters; `shuffled`: the mean share inside of the clusters that the same
    search finds where every class errs, and is said wrongly, as often as here, but for any other class.
    """

    clusters: tuple[Cluster, ...]
    inside: float
    shuffled: float


def count_errors(decisions: Decisions, labels: Decisions, *, classes: int) -> Errors:
    """Decisions [N], labels [N] -> the pairs of K classes that are confused."""
    refuse_unequal_lengths({"decisions": decisions, "labels": labels})
    wrong = decisions != labels
    codes, images = np.unique(labels[wrong] * classes + decisions[wrong], return_counts=True)
    return Errors(codes // classes, codes % classes, images, np.bincount(labels, minlength=classes))


def find_clusters(errors: Errors, *, seed: int = 0) -> Clusters:
    """The coarsest of the most surprising groupings that average linkage passes through."""
    rng, merges = np.random.default_rng(seed), link(errors)
    cut = _best_cut(errors, merges)
    members: dict[int, list[int]] = {}
    for number, merge in enumerate(merges[: cut.merges], len(errors.images_of)):
        members[number] = members.pop(merge.a, [merge.a]) + members.pop(merge.b, [merge.b])
    clusters = [_describe(errors, np.array(sorted(classes))) for classes in members.values()]
    shuffles = min(max(1, DEALT // max(1, errors.total)), MOST_SHUFFLES)
    random = [_shuffled(errors, rng) for _ in range(shuffles)]
    return Clusters(
        tuple(sorted(clusters, key=lambda each: (-each.errors, each.classes))),
        inside=cut.inside,
        shuffled=float(np.mean([_best_cut(each, link(each)).inside for each in random])),
    )


def _shuffled(errors: Errors, rng: np.random.Generator) -> Errors:
    """The wrong answers dealt out anew among the errors; the few that become right are dropped."""
    labels, said = (np.repeat(each, errors.images) for each in (errors.label, errors.said))
    dealt = rng.permutation(said)
    classes, wrong = len(errors.images_of), dealt != labels
    codes, images = np.unique(labels[wrong] * classes + dealt[wrong], return_counts=True)
    return Errors(codes // classes, codes % classes, images, errors.images_of)


def link(errors: Errors) -> list[Merge]:
    """Average linkage, the most confused first, until no two groups are confused; of equal ones lower numbers."""
    near = _neighbours(errors)
    sizes = dict.fromkeys(near, 1)
    heap = [(-own.rate, a, b) for a, others in near.items() for b, own in others.items() if a < b]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap:
        negative, a, b = heapq.heappop(heap)
        if a not in near or b not in near:
            continue  # one of them has been joined to another since
        group = len(errors.images_of) + len(merges)
        merges.append(Merge(a, b, -negative, near[a][b].errors))
        sizes[group] = sizes[a] + sizes[b]
        joined, smaller = sorted((near.pop(a), near.pop(b)), key=len, reverse=True)
        for other, tie in smaller.items():
            joined[other] = _Tie(*map(add, joined[other], tie)) if other in joined else tie
        for gone in (a, b):
            joined.pop(gone, None)
        near[group] = joined
        for other, tie in joined.items():
            own = near[other]
            own.pop(a, None)
            own.pop(b, None)
            own[group] = tie
            heapq.heappush(heap, (-tie.rate / (sizes[group] * sizes[other]), other, group))
    return merges


class _Tie(NamedTuple):
    """Between two groups: the sum of their classes' confusion rates, and errors."""

    rate: float
    errors: int


def _neighbours(errors: Errors) -> dict[int, dict[int, _Tie]]:
    """Each class that is confused with another -> those, with rate and errors."""
    near: dict[int, dict[int, _Tie]] = {}
    pairs = zip(errors.label.tolist(), errors.said.tolist(), errors.images.tolist(), strict=True)
    for label, said, images in pairs:
        both = int(errors.images_of[label] + errors.images_of[said])
        so_far = near.setdefault(label, {}).get(said, _Tie(0.0, 0)).errors
        tie = _Tie((so_far + images) / both, so_far + images)
        near[label][said] = near.setdefault(said, {})[label] = tie
    return near


class _Cut(NamedTuple):
    """After so many merges, and the share of errors inside of the groups then."""

    merges: int
    inside: float


def _best_cut(errors: Errors, merges: Sequence[Merge]) -> _Cut:
    """Where the share of errors inside of groups is the most surprising; of equal ones the last."""
    total, classes = errors.total, len(errors.images_of)
    counts = [np.bincount(each, errors.images, minlength=classes) for each in (errors.label, errors.said)]
    degrees = [int(degree) for degree in counts[0] + counts[1]]
    pairs = (2 * total) ** 2 - sum(degree**2 for degree in degrees)
    inside = chance = 0
    best, cut = 0.0, _Cut(0, 0.0)
    for count, merge in enumerate(merges, 1):
        inside, chance = inside + merge.errors, chance + 2 * degrees[merge.a] * degrees[merge.b]
        degrees.append(degrees[merge.a] + degrees[merge.b])
        found = surprise(inside / total, chance / pairs)
        if found >= best:
            best, cut = found, _Cut(count, inside / total)
    return cut


def surprise(share: float, chance: float) -> float:
    """Kullback-Leibler divergence of the share inside from chance, in nats an error; 0 where it is not beyond it."""
    if share <= chance:
        return 0.0
    outside = (1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0
    return share * math.log(share / chance) + outside


def _describe(errors: Errors, classes: NDArray[np.int64]) -> Cluster:
    inside = np.flatnonzero(np.isin(errors.label, classes) & np.isin(errors.said, classes))
    most = inside[errors.images[inside].argmax()]
    return Cluster(
        tuple(classes.tolist()),
        errors=int(errors.images[inside].sum()),
        label=int(errors.label[most]),
        said=int(errors.said[most]),
        images=int(errors.images[most]),
    )
