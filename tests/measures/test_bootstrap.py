"""The bootstrap against one that draws every image and recomputes every measure with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from deitkit.errors import DeitkitError
from deitkit.measures.bootstrap import percentile_interval, resample


def made_up(images: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Decisions of the ground truth and three classifiers [4, N], and the labels."""
    rng = np.random.default_rng(3)
    labels = rng.integers(classes, size=images)
    hard = rng.random(images) < 0.5
    guesses = [np.where(hard & (rng.random(images) < 0.6), rng.integers(classes, size=images), labels) for _ in "abc"]
    return np.stack([labels, *guesses]), labels


def test_its_percentiles_are_those_of_drawing_every_image() -> None:
    decisions, labels = made_up()
    drawn = resample(decisions, labels, resamples=4_000, seed=0)
    rng, slow = np.random.default_rng(1), []
    for _ in range(500):
        rows = rng.integers(400, size=400)
        a, b, label = decisions[1, rows], decisions[2, rows], labels[rows]
        slow.append(((a != b).mean(), cohen_kappa_score(a, b), cohen_kappa_score(a == label, b == label)))
    fast = (drawn.rate(1, 2), drawn.kappa(1, 2), drawn.error_consistency(1, 2))
    for interval, samples in zip(fast, np.array(slow).T, strict=True):
        expected = np.quantile(samples, [0.025, 0.975])
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(expected, abs=0.25 * (expected[1] - expected[0]))


def test_its_means_are_what_was_measured_and_its_spread_is_the_binomials() -> None:
    decisions, labels = made_up()
    drawn = resample(decisions, labels, resamples=4_000, seed=0)
    for a, b in ((0, 1), (1, 2), (2, 3)):
        rate = (decisions[a] != decisions[b]).mean()
        samples = 1 - drawn.same[:, a, b]
        assert samples.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / 400 / 4_000))
        assert samples.std() == pytest.approx(np.sqrt(rate * (1 - rate) / 400), rel=0.06)
    right = (decisions[1] == labels).mean()
    assert drawn.both_right[:, 1, 1].mean() == pytest.approx(right, abs=0.002)
    np.testing.assert_array_equal(drawn.both_right[:, 0, 1], drawn.same[:, 0, 1])


def test_every_resample_has_as_many_images_and_is_symmetric() -> None:
    drawn = resample(*made_up(), resamples=70, seed=0)
    assert np.all(drawn.same[:, range(4), range(4)] == 1.0)
    np.testing.assert_array_equal(drawn.same, drawn.same.transpose(0, 2, 1))
    assert np.all((drawn.chance > 0) & (drawn.chance < 1))
    assert np.all(np.abs(drawn.same * 400 - np.round(drawn.same * 400)) < 1e-9)


def test_a_seed_fixes_it_and_another_changes_it() -> None:
    first, again, other = (resample(*made_up(), resamples=50, seed=seed).same for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("wrong", [False, True], ids=["all right", "all wrong"])
def test_images_that_are_all_easy_or_all_hard_are_drawn_too(wrong: bool) -> None:
    labels = np.arange(30) % 3
    decisions = np.stack([labels, (labels + wrong) % 3, (labels + wrong) % 3])
    drawn = resample(decisions, labels, resamples=100, seed=0)
    assert np.all(drawn.same[:, 0, 1] == (0.0 if wrong else 1.0))
    assert drawn.error_consistency(1, 2) is None
    kappa = drawn.kappa(1, 2)
    assert kappa is not None and kappa.low == pytest.approx(1.0)


def test_an_interval_leaves_out_what_is_not_defined() -> None:
    interval = percentile_interval(np.array([np.nan, 0.0, 1.0]), confidence=0.5)
    assert interval is not None and (interval.low, interval.high) == (0.25, 0.75)
    assert percentile_interval(np.array([np.nan])) is None


def test_no_resamples_are_refused() -> None:
    with pytest.raises(DeitkitError, match="at least one resample"):
        resample(*made_up(), resamples=0)
