"""Differences over seeds, against Student's formula written out."""

from __future__ import annotations

import math

import pytest
from scipy.special import stdtr, stdtrit

from deitkit.measures.seeds import mean_and_deviation, paired_difference

OURS, THEIRS = [0.91, 0.93, 0.90, 0.94], [0.90, 0.90, 0.89, 0.92]


def test_a_paired_difference_is_students_t() -> None:
    differences = [ours - theirs for ours, theirs in zip(OURS, THEIRS, strict=True)]
    mean = sum(differences) / 4
    error = math.sqrt(sum((each - mean) ** 2 for each in differences) / 3 / 4)
    found = paired_difference(OURS, THEIRS)
    assert (found.mean, found.seeds) == (pytest.approx(mean), 4)
    assert found.p == pytest.approx(2 * stdtr(3, -mean / error))
    assert found.interval is not None
    half = stdtrit(3, 0.975) * error
    assert (found.interval.low, found.interval.high) == (pytest.approx(mean - half), pytest.approx(mean + half))


def test_one_seed_and_equal_differences_have_neither_interval_nor_p() -> None:
    for ours, theirs in (([0.9], [0.8]), ([0.9, 0.8], [0.8, 0.7])):
        found = paired_difference(ours, theirs)
        assert (found.mean, found.interval, found.p) == (pytest.approx(0.1), None, None)
    assert mean_and_deviation([0.5]) == (0.5, None)
