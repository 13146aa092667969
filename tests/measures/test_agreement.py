"""Measures of agreement against scikit-learn, scipy, counting by hand and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, chi2
from sklearn.metrics import cohen_kappa_score

from deitkit.errors import DeitkitError
from deitkit.measures.agreement import (
    PairCounts,
    cohen_kappa,
    count_pairs,
    error_consistency,
    holm,
    mcnemar,
    paired_interval,
    wilson_interval,
)


def decisions(seed: int, *, images: int = 500, classes: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classifiers that err partly together, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    hard = rng.random(images) < 0.3
    tempting, other = rng.integers(classes, size=(2, images))
    a = np.where(hard & (rng.random(images) < 0.8), tempting, labels)
    b = np.where(hard & (rng.random(images) < 0.7), np.where(rng.random(images) < 0.5, tempting, other), labels)
    return a, b, labels


@pytest.mark.parametrize(("count", "total"), [(0, 360), (1, 7), (83, 360), (360, 360), (8_550, 50_000)])
def test_the_interval_of_a_rate_is_wilsons(count: int, total: int) -> None:
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    interval = wilson_interval(count, total)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_the_five_kinds_are_what_a_loop_counts() -> None:
    a, b, labels = decisions(0)
    counted = dict.fromkeys(("both right", "only a", "only b", "same", "differently"), 0)
    for x, y, label in zip(a, b, labels, strict=True):
        if x == label and y == label:
            counted["both right"] += 1
        elif x == label:
            counted["only a"] += 1
        elif y == label:
            counted["only b"] += 1
        else:
            counted["same" if x == y else "differently"] += 1
    assert count_pairs(a, b, labels) == PairCounts(*counted.values())
    assert min(counted.values()) > 0
    assert count_pairs(a, b, labels).images == 500
    assert count_pairs(a, b, labels).different == int((a != b).sum())


@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_scikit_learns_cohens_kappa(seed: int) -> None:
    a, b, _ = decisions(seed)
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_error_consistency_is_cohens_kappa_of_right_and_wrong(seed: int) -> None:
    a, b, labels = decisions(seed)
    expected = cohen_kappa_score(a == labels, b == labels)
    assert error_consistency(count_pairs(a, b, labels)) == pytest.approx(expected, abs=1e-12)


def test_error_consistency_is_zero_for_independent_and_one_for_equal_errors() -> None:
    assert error_consistency(PairCounts(64, 16, 16, 0, 4)) == pytest.approx(0.0)
    assert error_consistency(PairCounts(70, 0, 0, 10, 20)) == pytest.approx(1.0)


def test_kappas_of_those_who_cannot_differ_are_not_defined() -> None:
    same = np.zeros(5, dtype=np.int64)
    assert cohen_kappa(same, same) is None
    assert error_consistency(PairCounts(5, 0, 0, 0, 0)) is None
    assert error_consistency(PairCounts(0, 0, 0, 3, 2)) is None


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (12, 12), (24, 0)])
def test_mcnemar_is_the_binomial_test_for_few_discordant_images(only_a: int, only_b: int) -> None:
    found = mcnemar(only_a, only_b)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert found.test == "exact binomial"
    assert found.p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(25, 0), (13, 12), (13, 13), (121, 59), (900, 1_100)])
def test_mcnemar_is_the_corrected_chi_squared_test_for_many(only_a: int, only_b: int) -> None:
    found = mcnemar(only_a, only_b)
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / (only_a + only_b)
    assert found.test == "chi-squared, corrected"
    assert found.p == pytest.approx(chi2.sf(statistic, df=1), rel=1e-10)


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_paired_interval_covers_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(0), 0
    for gained, lost, _ in rng.multinomial(40, [0.15, 0.05, 0.80], size=2_000):
        interval = paired_interval(int(gained), int(lost), 40)
        inside += interval.low <= 0.10 <= interval.high
    assert 0.94 < inside / 2_000 < 0.985


def test_the_paired_interval_is_bonett_and_prices_formula() -> None:
    up, down, z = (12 + 1) / 52, (5 + 1) / 52, 1.959963984540054
    half = z * math.sqrt((up + down - (up - down) ** 2) / 52)
    interval = paired_interval(12, 5, 50)
    assert (interval.low, interval.high) == pytest.approx((up - down - half, up - down + half), abs=1e-12)
    nothing = paired_interval(0, 0, 50)
    assert nothing.low == -nothing.high and nothing.high > 0.02


def test_decisions_on_other_numbers_of_images_are_refused() -> None:
    with pytest.raises(DeitkitError, match="different numbers of images") as caught:
        count_pairs(np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), np.zeros(4, dtype=np.int64))
    assert "labels: 4" in caught.value.problems
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(DeitkitError, match="no image"):
        count_pairs(empty, empty, empty)
