"""Bootstrap over images: what pairs of classifiers would give on other samples of as many images (Efron, 1979).

Percentile intervals. All pairs share the resamples, so that they can be compared. Measures nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError
from deitkit.measures.agreement import CONFIDENCE, Interval, beyond_chance
from deitkit.measures.arrays import Decisions, Floats

RESAMPLES = 1_000
CHUNK = 64  # resamples held at once


@dataclass(frozen=True, eq=False)
class Resamples:
    """For each of B resamples and each pair of E classifiers [B, E, E]: the share of equal decisions, the share that
    chance would give, and the share of images that both have right. On the diagonal of the last are accuracies."""

    same: Floats
    chance: Floats
    both_right: Floats

    def rate(self, a: int, b: int) -> Interval | None:
        """Of different decisions."""
        return percentile_interval(1 - self.same[:, a, b])

    def kappa(self, a: int, b: int) -> Interval | None:
        """Cohen's."""
        return percentile_interval(beyond_chance(self.same[:, a, b], self.chance[:, a, b]))

    def error_consistency(self, a: int, b: int) -> Interval | None:
        right_a, right_b = self.both_right[:, a, a], self.both_right[:, b, b]
        observed = 1 - right_a - right_b + 2 * self.both_right[:, a, b]
        return percentile_interval(beyond_chance(observed, right_a * right_b + (1 - right_a) * (1 - right_b)))


def percentile_interval(samples: Floats, confidence: float = CONFIDENCE) -> Interval | None:
    """The middle `confidence` of the samples [B]; NaN are left out, and where all are there is no interval."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def resample(
    decisions: NDArray[np.int64], labels: Decisions, *, resamples: int = RESAMPLES, seed: int = 0
) -> Resamples:
    """Decisions [E, N] and labels [N] -> B resamples of N images each, with replacement.

    Images that everyone has right differ by their class alone, so a multinomial draw of their counts stands for
    drawing them one by one. This is exact, and several times quicker.
    """
    if resamples < 1:
        raise DeitkitError("a bootstrap needs at least one resample", value=resamples, remedy="--resamples 1000")
    rng = np.random.default_rng(seed)
    images, classes = len(labels), 1 + int(max(decisions.max(), labels.max()))
    easy = (decisions == labels).all(axis=0)
    hard = np.ascontiguousarray(decisions[:, ~easy])
    easy_counts = np.bincount(labels[easy], minlength=classes)
    drawn = rng.binomial(images, 1 - easy.mean(), size=resamples)  # of the hard images
    drawn_easy = rng.multinomial(images - drawn, easy_counts / max(1, easy_counts.sum()))
    pairs = np.triu_indices(len(decisions))
    features = _features(hard, labels[~easy], pairs)
    same, chance, both_right = (np.empty((resamples, len(decisions), len(decisions))) for _ in range(3))
    for start in range(0, resamples, CHUNK):
        chunk = slice(start, start + CHUNK)
        weights = np.stack([_draw(rng, hard.shape[1], count) for count in drawn[chunk]])
        counts = (weights.astype(np.float32) @ features).astype(np.float64)  # whole numbers: exact up to 2**24
        shares = (counts + (images - drawn[chunk, None])) / images
        for measured, columns in zip((same, both_right), np.split(shares, 2, axis=1), strict=True):
            measured[chunk, pairs[0], pairs[1]] = measured[chunk, pairs[1], pairs[0]] = columns
        for index, own in enumerate(weights, start=start):
            histograms = np.stack([np.bincount(each, weights=own, minlength=classes) for each in hard])
            frequencies = (histograms + drawn_easy[index]) / images
            chance[index] = frequencies @ frequencies.T
    return Resamples(same, chance, both_right)


def _features(
    decisions: NDArray[np.int64], labels: Decisions, pairs: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> NDArray[np.float32]:
    """[N, 2 P]: for each image, whether each of P pairs says the same, then whether both are right."""
    a, b = decisions[pairs[0]], decisions[pairs[1]]
    same = a == b
    return np.concatenate([same, same & (a == labels)]).T.astype(np.float32)


def _draw(rng: np.random.Generator, images: int, count: int) -> NDArray[np.float64]:
    """How often each image [N] is among `count` drawn with replacement."""
    if not images:
        return np.zeros(0)
    return np.bincount(rng.integers(images, size=count), minlength=images).astype(np.float64)
