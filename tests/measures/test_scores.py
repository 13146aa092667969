"""Accuracy, calibration and paired tests against formulas written out, scikit-learn and torch."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from deitkit.measures.calibration import expected_calibration_error
from deitkit.measures.scores import answers_of, compare, joined, scores_of, skill

LOGITS = torch.randn((200, 12), generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.randint(12, (200,), generator=torch.Generator().manual_seed(1))
LABELS[:90] = LOGITS[:90].argmax(dim=1)


def test_scores_are_those_of_torch_and_scikit_learn() -> None:
    scores = scores_of(answers_of(LOGITS, LABELS), classes=12)
    probabilities = LOGITS.double().softmax(dim=1)
    assert scores.top1 == pytest.approx(float((LOGITS.argmax(dim=1) == LABELS).double().mean()))
    assert scores.top5 == pytest.approx(top_k_accuracy_score(LABELS, LOGITS, k=5))
    assert scores_of(answers_of(LOGITS, LABELS), classes=10).top5 is None, "of ten classes it says little"
    assert scores.nll == pytest.approx(float(torch.nn.functional.cross_entropy(LOGITS.double(), LABELS)))
    assert scores.entropy == pytest.approx(float(torch.special.entr(probabilities).sum(dim=1).mean()))
    assert scores.confidence == pytest.approx(float(probabilities.amax(dim=1).mean()))
    assert scores.images == 200 and scores.right == round(200 * scores.top1) and scores.not_finite == 0
    assert scores.chance == pytest.approx(max(np.bincount(LABELS.numpy())) / 200)
    assert scores.skill == pytest.approx(1 - (1 - scores.top1) / (1 - scores.chance))


def test_batches_joined_are_the_whole() -> None:
    parts = joined([answers_of(LOGITS[:70], LABELS[:70]), answers_of(LOGITS[70:], LABELS[70:])])
    assert scores_of(parts, classes=12) == scores_of(answers_of(LOGITS, LABELS), classes=12)


def test_rows_that_are_not_finite_are_wrong_and_counted() -> None:
    logits = LOGITS.clone()
    logits[0, 3], logits[1] = torch.nan, torch.inf
    answers = answers_of(logits, LABELS)
    assert not answers.right[:2].any() and not answers.in_top5[:2].any()
    assert scores_of(answers, classes=12).not_finite == 2 and np.isfinite(scores_of(answers, classes=12).nll)


def test_the_calibration_error_is_its_definition() -> None:
    answers = answers_of(LOGITS, LABELS)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (answers.confidence > low) & (answers.confidence <= low + 1 / 15)
        if inside.any():
            gap = abs(answers.right[inside].mean() - answers.confidence[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(answers.confidence, answers.right) == pytest.approx(expected)


def test_a_calibrated_classifier_has_no_calibration_error_and_a_sure_and_wrong_one_all() -> None:
    right = np.arange(1000) < 700
    assert expected_calibration_error(np.full(1000, 0.7), right) == pytest.approx(0.0)
    assert expected_calibration_error(np.ones(10), np.zeros(10, dtype=bool)) == 1.0


def test_a_paired_comparison_counts_only_images_that_one_of_the_two_gets_right() -> None:
    first = np.array([True] * 50 + [False] * 50)
    other = first.copy()
    other[[0, 60, 61, 62, 63, 64, 65, 66]] ^= True  # one lost, seven won
    found = compare(first, other)
    assert found.gain == pytest.approx(0.06) and found.low < 0.06 < found.high
    assert found.p == pytest.approx(sum(comb(8, k) for k in (7, 8)) / 2**8)
    assert compare(first, first).p == 1.0 and compare(first, first).gain == 0.0


def test_chance_is_recognised_and_rarely_anything_else() -> None:
    generator = torch.Generator().manual_seed(2)
    alarms = 0
    for _ in range(200):
        labels = torch.randint(10, (300,), generator=generator)
        alarms += not scores_of(answers_of(torch.randn((300, 10), generator=generator), labels), classes=10).is_chance
    assert alarms <= 2  # the level is 0.001 each
    assert not scores_of(answers_of(LOGITS, LABELS), classes=12).is_chance


def test_skill_runs_from_chance_to_one() -> None:
    assert skill(0.1, 0.1) == 0.0 and skill(1.0, 0.1) == 1.0 and skill(0.5, 1.0) == 0.0
