"""Measures over classes against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from deitkit.measures.by_class import ClassCounts


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(5))
def test_they_are_scikit_learns_with_classes_that_never_occur_or_are_never_decided(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.choice(8, size=200, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05, 0, 0])
    decisions = np.where(random.random(200) < 0.6, labels, random.choice([0, 1, 2, 3, 6], size=200))
    counts = ClassCounts.of(decisions, labels, classes=8)
    present = sorted(set(labels.tolist()))
    np.testing.assert_allclose(counts.recall[present], recall_score(labels, decisions, average=None, labels=present))
    decided = sorted(set(decisions.tolist()))
    np.testing.assert_allclose(
        counts.precision[decided], precision_score(labels, decisions, average=None, labels=decided)
    )
    assert counts.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, decisions))
    assert counts.macro_f1 == pytest.approx(f1_score(labels, decisions, average="macro"))
    assert np.isnan(counts.recall[7])


def test_a_classifier_that_always_names_the_largest_class_is_worth_little() -> None:
    counts = ClassCounts.of(np.zeros(100, dtype=np.int64), np.repeat([0, 1], [90, 10]), classes=2)
    assert counts.right.sum() == 90
    assert counts.balanced_accuracy == 0.5
    assert counts.macro_f1 == pytest.approx((2 * 0.9 / 1.9) / 2)
