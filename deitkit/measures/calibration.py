"""Whether a classifier is as sure as it is right: reliability, calibration errors and what chance makes of them.

Legend: N images, M bins; confidence [N] is the probability of the decision, hits [N] whether it is right. Sources:
Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017 (ECE, MCE, bins (low, high]);
Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language processing models, 2015
(bins of equal mass); Vaicenavicius et al., Evaluating model calibration in classification, 2019 (resampling a
calibrated model). Needs no logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError
from deitkit.measures.agreement import Interval
from deitkit.measures.arrays import Floats, Hits

BINS = 15  # Guo et al. 2017
RESAMPLES = 1_000
NORMAL_95 = 1.959964


@dataclass(frozen=True, eq=False)
class Reliability:
    """Images by confidence: the bins' edges [M + 1], and in each of M bins its images, their mean confidence and
    their accuracy (both 0 where a bin is empty)."""

    edges: Floats
    counts: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def gaps(self) -> Floats:
        """|accuracy - confidence| of each bin [M]."""
        return np.asarray(np.abs(self.accuracy - self.confidence))

    @property
    def ece(self) -> float:
        """Expected calibration error: the gaps' mean over all images."""
        return float((self.gaps * self.counts).sum() / self.counts.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest gap of a bin that has images, however few."""
        return float(self.gaps.max())


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far confidence is from accuracy, and how far it would be by chance.

    `gap`: mean confidence minus accuracy. A perfectly calibrated model with these confidences shows on so many images
    a gap of up to +-`chance_gap` (95 %, normal), and an ECE with the mean `chance_ece` and the 95th percentile
    `chance_high`.
    """

    images: int
    accuracy: float
    confidence: float
    chance_gap: float
    reliability: Reliability
    ece_interval: Interval
    chance_ece: float
    chance_high: float
    equal_mass_ece: float

    @property
    def gap(self) -> float:
        return self.confidence - self.accuracy

    @property
    def verdict(self) -> str:
        """In words: whether confidence as a whole is too high or too low, and whether bins show more than chance."""
        if abs(self.gap) > self.chance_gap:
            return "overconfident" if self.gap > 0 else "underconfident"
        return "right on average, not by bin" if self.reliability.ece > self.chance_high else "calibrated"


def calibrate(
    confidence: NDArray[Any], hits: Hits, *, bins: int = BINS, resamples: int = RESAMPLES, seed: int = 0
) -> Calibration:
    """All measures of confidence [N] and hits [N]; the intervals hold 95 %.

    Raises:
        DeitkitError: no image, or arrays of different lengths.
    """
    confidence = _checked(confidence, hits)
    found = reliability(confidence, hits, bins=bins)
    chance = chance_eces(confidence, bins=bins, draws=resamples, seed=seed)
    chance_high = float(np.quantile(chance, 0.95))
    interval = ece_interval(confidence, hits, bins=bins, resamples=resamples, seed=seed)
    return Calibration(
        images=len(hits),
        accuracy=float(hits.mean()),
        confidence=float(confidence.mean()),
        chance_gap=NORMAL_95 * math.sqrt(float((confidence * (1 - confidence)).clip(0).sum())) / len(hits),
        reliability=found,
        # A bootstrap does not know that an ECE cannot be negative: chance alone would leave 0 outside.
        ece_interval=Interval(0.0, interval.high) if found.ece <= chance_high else interval,
        chance_ece=float(chance.mean()),
        chance_high=chance_high,
        equal_mass_ece=equal_mass(confidence, hits, bins=bins).ece,
    )


def _checked(confidence: NDArray[Any], hits: Hits) -> Floats:
    """Confidences in float64, one for every image."""
    if len(confidence) != len(hits):
        raise DeitkitError(
            "confidences and decisions of different numbers of images",
            problems=[f"confidences: {len(confidence):,}", f"decisions: {len(hits):,}"],
            remedy="give one of each for every image",
        )
    if not len(hits):
        raise DeitkitError("there is no image, so there is no calibration", remedy="name a split that has images")
    return np.asarray(confidence, dtype=np.float64)


def reliability(confidence: NDArray[Any], hits: Hits, *, bins: int = BINS) -> Reliability:
    """Bins of equal width: (0, 1/M], (1/M, 2/M], ..."""
    return _binned(confidence, hits, _widths(bins))


def expected_calibration_error(confidence: NDArray[Any], hits: Hits, *, bins: int = BINS) -> float:
    """|accuracy - mean confidence| of each bin of equal width, weighted by its images (Guo et al. 2017)."""
    return reliability(confidence, hits, bins=bins).ece


def equal_mass(confidence: NDArray[Any], hits: Hits, *, bins: int = BINS) -> Reliability:
    """Bins of as equal numbers of images as can be: edges are quantiles, and equal confidences stay together."""
    edges = np.unique(np.quantile(np.asarray(confidence, dtype=np.float64), np.linspace(0, 1, bins + 1)))
    return _binned(confidence, hits, edges if len(edges) > 1 else np.array([0.0, 1.0]))


def _widths(bins: int) -> Floats:
    return np.asarray(np.arange(bins + 1) / bins)


def _places(confidence: NDArray[Any], edges: Floats) -> NDArray[np.int64]:
    """The bin (low, high] of each image [N]; the least edge belongs to the first."""
    return np.asarray(np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2))


def _binned(confidence: NDArray[Any], hits: Hits, edges: Floats) -> Reliability:
    confidence = np.asarray(confidence, dtype=np.float64)
    places, bins = _places(confidence, edges), len(edges) - 1
    counts = np.bincount(places, minlength=bins)
    mean_confidence, accuracy = (
        np.bincount(places, weights, minlength=bins) / np.maximum(counts, 1) for weights in (confidence, hits)
    )
    return Reliability(edges, counts, mean_confidence, accuracy)


# What chance makes of it


def chance_eces(confidence: NDArray[Any], *, bins: int = BINS, draws: int = RESAMPLES, seed: int = 0) -> Floats:
    """ECEs [draws] of a perfectly calibrated model: each image is right with the probability that is its confidence.

    They are not 0, because a bin of few images is never right exactly as often as it should be.
    """
    confidence, rng = np.asarray(confidence, dtype=np.float64), np.random.default_rng(seed)
    return _eces(confidence, bins, draws, lambda: (slice(None), rng.random(len(confidence)) < confidence))


def ece_interval(
    confidence: NDArray[Any], hits: Hits, *, bins: int = BINS, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """95 % interval of the ECE over samples of as many images: a basic bootstrap (Davison and Hinkley, 1997).

    It reflects the resamples' percentiles around the ECE, because resampling adds to the ECE what sampling had added
    to it already.
    """
    confidence, rng, images = np.asarray(confidence, dtype=np.float64), np.random.default_rng(seed), len(hits)

    def draw() -> tuple[NDArray[np.int64], Hits]:
        rows = rng.integers(images, size=images)
        return rows, hits[rows]

    low, high = np.quantile(_eces(confidence, bins, resamples, draw), [0.025, 0.975])
    ece = reliability(confidence, hits, bins=bins).ece
    return Interval(max(0.0, 2 * ece - float(high)), max(0.0, 2 * ece - float(low)))


def _eces(
    confidence: Floats, bins: int, draws: int, draw: Callable[[], tuple[slice | NDArray[np.int64], Hits]]
) -> Floats:
    """The ECE of each draw of images and of whether they are right."""
    places = _places(confidence, _widths(bins))
    found = np.empty(draws)
    for number in range(draws):
        rows, hits = draw()
        surplus = np.bincount(places[rows], confidence[rows] - hits, minlength=bins)
        found[number] = np.abs(surplus).sum() / len(confidence)
    return found


# Which answers to trust


def risk_coverage(confidence: NDArray[Any], hits: Hits) -> Floats:
    """Accuracy on the 1, 2, ... N most confident images [N]; equal confidences count as their mean."""
    order = np.argsort(-np.asarray(confidence), kind="stable")
    _, group, sizes = np.unique(-np.asarray(confidence), return_inverse=True, return_counts=True)
    mean = np.bincount(group, hits) / sizes
    return np.asarray(np.cumsum(mean[group][order]) / np.arange(1, len(hits) + 1))
