"""One level for a family of statistical tests. All of them draw from fixed seeds, so a result never changes by luck."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

FAMILY_LEVEL = 1e-3  # chance that a right implementation fails any test of one family (Bonferroni)


def assert_plausible(p_values: Mapping[str, float]) -> None:
    """No p-value of the family is below FAMILY_LEVEL / its size."""
    limit = FAMILY_LEVEL / len(p_values)
    rejected = {name: p for name, p in p_values.items() if not p >= limit}
    assert not rejected, f"rejected at {limit:.2g}: {rejected}"


def same_distribution(a: np.ndarray, b: np.ndarray) -> float:
    """Two samples of real numbers (Kolmogorov-Smirnov)."""
    return float(stats.ks_2samp(a, b).pvalue)


def same_frequencies(a: np.ndarray, b: np.ndarray) -> float:
    """Two samples of categories (chi-square); categories too rare for the test are put together."""
    values = np.unique(np.concatenate([a, b]))
    table = np.array([[np.count_nonzero(sample == value) for value in values] for sample in (a, b)])
    rare = table.sum(axis=0) < 20
    if rare.any():
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
    return float(stats.chi2_contingency(table).pvalue)


def uniform_frequencies(sample: np.ndarray, categories: int) -> float:
    """Categories 0..categories-1, all alike (chi-square)."""
    return float(stats.chisquare(np.bincount(sample, minlength=categories)).pvalue)
