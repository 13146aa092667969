"""Differences between two ways of training, over the same seeds: Student's paired t (1908). Knows no run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deitkit.measures.agreement import CONFIDENCE, Interval


@dataclass(frozen=True)
class SeedDifference:
    """The mean difference, its interval and two-sided p; both None below two seeds, or where all differ alike."""

    mean: float
    seeds: int
    interval: Interval | None
    p: float | None


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation with n - 1, None of one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> SeedDifference:
    """ours - theirs, seed by seed."""
    from scipy.stats import ttest_rel  # takes seconds to import: only where it is needed

    mean, deviation = mean_and_deviation(np.subtract(ours, theirs).tolist())
    if not deviation or deviation < 1e-12:  # rounding is no difference
        return SeedDifference(mean, len(ours), None, None)
    test = ttest_rel(ours, theirs)
    bounds = test.confidence_interval(CONFIDENCE)
    low, high = float(bounds.low), float(bounds.high)
    p = float(test.pvalue)
    return SeedDifference(mean, len(ours), Interval(low, high), None if math.isnan(p) else p)
