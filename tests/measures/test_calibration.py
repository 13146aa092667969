"""Calibration against equations written out, scikit-learn, scipy, and models whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom
from sklearn.calibration import calibration_curve

from deitkit.errors import DeitkitError
from deitkit.measures.calibration import (
    Calibration,
    calibrate,
    chance_eces,
    ece_interval,
    equal_mass,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from deitkit.predictions.fusion_choice import Judged, fold_of
from deitkit.predictions.temperature import cross_fit, fit_temperature

Floats = NDArray[np.float64]
Hits = NDArray[np.bool_]


def drawn(images: int, *, shift: float = 0.0, seed: int = 0) -> tuple[Floats, Hits]:
    """Confidences, mostly high, of a model that is right `shift` less often than they say."""
    rng = np.random.default_rng(seed)
    confidence = 1 - 0.6 * rng.beta(0.6, 3, images)
    return confidence, rng.random(images) < confidence - shift


def guo(confidence: Floats, hits: Hits, bins: int) -> tuple[float, float]:
    """ECE and MCE, written from Guo et al. 2017, eq. 3 and 5: bin m holds confidences in ((m - 1) / M, m / M]."""
    ece, gaps = 0.0, []
    for m in range(1, bins + 1):
        inside = [n for n in range(len(hits)) if (m - 1) / bins < confidence[n] <= m / bins]
        if inside:
            gap = abs(sum(hits[n] for n in inside) / len(inside) - sum(confidence[n] for n in inside) / len(inside))
            ece += len(inside) / len(hits) * gap
            gaps.append(gap)
    return ece, max(gaps)


# Bins


@pytest.mark.parametrize("bins", [1, 2, 15, 40])
def test_ece_and_mce_are_those_of_guo_et_al(bins: int) -> None:
    confidence, hits = drawn(700, shift=0.07)
    found = reliability(confidence, hits, bins=bins)
    assert (found.ece, found.mce) == pytest.approx(guo(confidence, hits, bins))


def test_the_curve_is_that_of_scikit_learn() -> None:
    confidence, hits = drawn(900, shift=0.1)
    found = reliability(confidence, hits, bins=15)
    accuracy, mean = calibration_curve(hits, confidence, n_bins=15)
    present = found.counts > 0
    np.testing.assert_allclose(found.accuracy[present], accuracy)
    np.testing.assert_allclose(found.confidence[present], mean)
    assert found.counts.sum() == 900


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin_and_0_to_the_first() -> None:
    confidence = np.array([0.0, 0.25, 0.2501, 0.5, 1.0])
    assert reliability(confidence, np.ones(5, dtype=np.bool_), bins=4).counts.tolist() == [2, 2, 0, 1]


def test_bins_of_equal_mass_hold_equal_numbers_but_never_part_equal_confidences() -> None:
    confidence, hits = drawn(1_500)
    found = equal_mass(confidence, hits, bins=15)
    assert found.counts.tolist() == [100] * 15
    order = np.argsort(confidence)
    gaps = [abs(hits[part].mean() - confidence[part].mean()) for part in np.split(order, 15)]
    assert found.ece == pytest.approx(np.mean(gaps))
    many = np.concatenate([confidence, np.ones(4_500)])
    tied = equal_mass(many, np.ones(6_000, dtype=np.bool_), bins=15)
    assert tied.counts[-1] >= 4_500
    assert equal_mass(np.ones(3), np.array([True, False, True])).ece == pytest.approx(1 / 3)


# Verdict and chance


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.08, "overconfident"), (-0.08, "underconfident"), (0.0, "calibrated")]
)  # fmt: skip
def test_the_verdict_is_what_the_model_was_made_to_be(shift: float, verdict: str) -> None:
    confidence, hits = drawn(3_000, shift=shift, seed=1)
    found = calibrate(confidence, hits, resamples=200)
    assert found.verdict == verdict
    assert found.gap == pytest.approx(confidence.mean() - hits.mean())


def test_a_model_that_is_right_on_average_but_in_no_bin_is_not_called_calibrated() -> None:
    confidence = np.repeat([0.6, 0.9], 1_000)
    hits = np.concatenate([np.arange(1_000) < 800, np.arange(1_000) < 700])
    found = calibrate(confidence, hits, resamples=200)
    assert abs(found.gap) < 1e-9
    assert found.verdict == "right on average, not by bin"


def test_a_few_right_images_of_near_certainty_are_not_underconfident() -> None:
    assert calibrate(np.full(300, 0.999), np.ones(300, dtype=np.bool_), resamples=50).verdict == "calibrated"


def test_the_ece_of_chance_is_the_binomial_mean_deviation() -> None:
    draws = chance_eces(np.full(50, 0.7), bins=1, draws=20_000)
    right = np.arange(51)
    expected = (binom.pmf(right, 50, 0.7) * np.abs(right / 50 - 0.7)).sum()
    assert draws.mean() == pytest.approx(expected, rel=0.02)


def test_chance_makes_more_of_fewer_images() -> None:
    few, many = (calibrate(*drawn(images), resamples=100) for images in (100, 10_000))
    assert few.chance_ece > 5 * many.chance_ece > 0
    assert few.chance_ece < few.chance_high


def covered(shift: float, images: int, truth: float) -> float:
    """How often the interval of the ECE holds the true one, in 100 samples."""
    intervals = [calibrate(*drawn(images, shift=shift, seed=seed), resamples=100).ece_interval for seed in range(100)]
    return float(np.mean([each.low <= truth <= each.high for each in intervals]))


@pytest.mark.parametrize(("shift", "images"), [(0.0, 200), (0.05, 400)])
def test_the_interval_of_the_ece_covers_the_true_one(shift: float, images: int) -> None:
    assert covered(shift, images, shift) >= 0.85


def test_the_interval_starts_at_0_where_chance_would_show_as_much() -> None:
    calm, shifted = (calibrate(*drawn(2_000, shift=shift), resamples=200) for shift in (0.0, 0.1))
    assert calm.ece_interval.low == 0 < shifted.ece_interval.low
    plain = ece_interval(*drawn(2_000, shift=0.1), resamples=200)
    assert plain == shifted.ece_interval
    assert plain.low < 0.1 < plain.high


# Risk and coverage


def test_accuracy_on_the_surest_images_is_counted_and_ties_count_as_their_mean() -> None:
    confidence, hits = np.array([0.5, 0.9, 0.7, 0.6]), np.array([False, True, False, True])
    np.testing.assert_allclose(risk_coverage(confidence, hits), [1, 1 / 2, 2 / 3, 2 / 4])
    for order in ([True, False, False], [False, False, True]):
        np.testing.assert_allclose(risk_coverage(np.full(3, 0.8), np.array(order)), [1 / 3] * 3)


# Temperature


def made_up(images: int = 1_500, classes: int = 5, *, heat: float = 1.0) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated logits, divided by `heat`, and labels drawn from them."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(images, classes)) * 2
    labels = np.array([rng.choice(classes, p=row) for row in np.exp(log_softmax(logits, axis=1))])
    return logits / heat, labels


def nll(logits: Floats, labels: NDArray[np.int64], temperature: float) -> float:
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("heat", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_the_least_nll(heat: float) -> None:
    logits, labels = made_up(heat=heat)
    found = fit_temperature(logits.astype(np.float32), labels)
    best = minimize_scalar(lambda t: nll(logits, labels, t), bounds=(0.05, 20), options={"xatol": 1e-7})
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found == pytest.approx(1 / heat, rel=0.1)


def test_images_are_judged_by_a_temperature_that_was_fitted_without_them() -> None:
    logits, labels = made_up(300)
    fold = fold_of(labels, folds=5)
    found = cross_fit(logits, labels)
    assert found is not None
    for number in (0, 3):
        out = fold == number
        best = minimize_scalar(lambda t, out=out: nll(logits[~out], labels[~out], t), bounds=(0.05, 20))
        tempered = log_softmax(logits[out] / best.x, axis=1)
        np.testing.assert_allclose(found.confidence[out], np.exp(tempered).max(axis=1), rtol=1e-3)
        np.testing.assert_allclose(found.loss[out], -tempered[np.arange(out.sum()), labels[out]], rtol=1e-2, atol=1e-4)


def test_it_makes_an_overconfident_model_calibrated() -> None:
    logits, labels = made_up(heat=0.25)
    hits, before = logits.argmax(axis=1) == labels, np.exp(log_softmax(logits, axis=1)).max(axis=1)
    found = cross_fit(logits, labels)
    assert found is not None
    assert reliability(before, hits).ece > 0.1
    assert calibrate(found.confidence, hits, resamples=100).verdict == "calibrated"


def test_where_every_image_is_right_the_coldest_is_no_best_and_nothing_breaks() -> None:
    logits = np.eye(3)[np.arange(30) % 3] * 0.1
    found = cross_fit(logits, np.arange(30) % 3)
    assert found is not None
    assert found.at_bound
    assert np.isfinite(found.loss).all()


def test_a_single_class_and_a_handful_of_images_have_no_temperature() -> None:
    assert cross_fit(np.zeros((50, 1)), np.zeros(50, dtype=np.int64)) is None
    assert cross_fit(np.zeros((9, 2)), np.zeros(9, dtype=np.int64)) is None


# Bad input


def test_no_image_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(DeitkitError, match="there is no image"):
        calibrate(np.empty(0), np.empty(0, dtype=np.bool_))
    with pytest.raises(DeitkitError, match="different numbers of images"):
        calibrate(np.array([0.5]), np.array([True, False]))


def test_one_image_has_a_calibration_too() -> None:
    found: Calibration = calibrate(np.array([0.6]), np.array([True]), resamples=20)
    assert found.reliability.ece == pytest.approx(0.4)


def test_the_choice_of_a_fusion_and_a_preflight_have_the_calibration_error_of_the_analysis() -> None:
    """Confidences on the bins' edges tell (low, high] from [low, high)."""
    rng = np.random.default_rng(0)
    confidence = rng.integers(1, 31, 400) / 30
    labels, decisions = np.zeros(400, np.int64), (rng.random(400) > confidence).astype(np.int64)
    hits, expected = decisions == labels, 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, hits) == pytest.approx(expected)
    assert Judged(decisions, confidence, np.zeros(400)).score("sum", labels).ece == pytest.approx(expected)
    assert calibrate(confidence, hits, resamples=2).reliability.ece == pytest.approx(expected)
