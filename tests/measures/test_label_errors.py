"""Confident learning against loops written from the paper, and wrong labels planted into real digits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deitkit.errors import DeitkitError
from deitkit.measures.label_errors import confident_joint, find_label_errors
from deitkit.measures.scores import score

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def noisy(images: int, classes: int, *, seed: int = 0, absent: tuple[int, ...] = ()) -> tuple[Floats, Labels]:
    """Logits of a fair model, and labels of which a fifth are wrong; some classes have none."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([index for index in range(classes) if index not in absent], size=images)
    logits = rng.normal(size=(images, classes)) + 2 * np.eye(classes)[truth]
    labels = np.where(rng.random(images) < 0.2, rng.permutation(truth), truth)
    return logits, labels


def northcutt(probabilities: Floats, labels: Labels) -> tuple[Floats, Floats, list[int]]:
    """Northcutt et al. 2021, image by image: confident joint, n Q, ranked images pruned by noise rate."""
    images, classes = probabilities.shape
    present = sorted(set(labels.tolist()))
    threshold = {j: np.mean([probabilities[n, j] for n in range(images) if labels[n] == j]) for j in present}
    joint = np.zeros((classes, classes))
    for n in range(images):
        reached = [j for j in present if probabilities[n, j] >= threshold[j] - 1e-9]  # eq. 1
        if reached:
            joint[labels[n], max(reached, key=lambda j, n=n: probabilities[n, j])] += 1
    scaled = np.zeros_like(joint)
    for i in present:
        scaled[i] = joint[i] / joint[i].sum() * (labels == i).sum()  # eq. 2, times the number of images
    pruned: set[int] = set()
    for i in present:
        own = [n for n in range(images) if labels[n] == i]
        for j in range(classes):
            if j != i:
                own.sort(key=lambda n, i=i, j=j: probabilities[n, i] - probabilities[n, j])
                pruned |= set(own[: round(scaled[i, j])])
    doubted = [n for n in pruned if probabilities[n].argmax() != labels[n]]

    def margin(n: int) -> float:
        return float(probabilities[n, labels[n]] - np.delete(probabilities[n], labels[n]).max())

    return joint, scaled, sorted(doubted, key=margin)


@pytest.mark.parametrize(
    ("images", "classes", "absent"), [(400, 4, ()), (300, 2, ()), (250, 7, (2, 6)), (60, 12, (0,)), (5, 3, ())]
)
def test_joint_estimate_and_doubtful_images_are_those_of_the_paper(
    images: int, classes: int, absent: tuple[int, ...]
) -> None:
    logits, labels = noisy(images, classes, absent=absent)
    joint, scaled, doubted = northcutt(np.exp(log_softmax(logits, axis=1)), labels)
    found = find_label_errors(logits, labels)
    dense = np.zeros((2, classes, classes))
    dense[0, found.joint.labels, found.joint.classes] = found.joint.images
    dense[1, found.joint.labels, found.joint.classes] = found.joint.estimated
    np.testing.assert_array_equal(dense[0], joint)
    np.testing.assert_allclose(dense[1], scaled)
    np.testing.assert_allclose(found.joint.estimated_wrong, scaled.sum(axis=1) - np.diag(scaled), atol=1e-9)
    assert found.rows.tolist() == doubted


def test_counts_by_label_add_up() -> None:
    logits, labels = noisy(500, 5)
    found = find_label_errors(logits, labels)
    assert found.doubted(labels).tolist() == [int((labels[found.rows] == index).sum()) for index in range(5)]
    assert found.joint.images_of.tolist() == np.bincount(labels, minlength=5).tolist()


def test_half_precision_logits_and_log_probabilities_give_the_same() -> None:
    logits, labels = noisy(400, 4)
    whole = find_label_errors(log_softmax(logits, axis=1), labels)
    assert find_label_errors(logits.astype(np.float32), labels).rows.tolist() == whole.rows.tolist()


# Real images


@pytest.fixture(scope="module")
def digits() -> tuple[Floats, Labels, NDArray[np.bool_]]:
    """Out-of-fold log-probabilities of a linear model for digits of which 5 % were given another label; and which."""
    pixels, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(truth)) < 0.05
    labels = np.where(wrong, (truth + rng.integers(1, 10, len(truth))) % 10, truth)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    return cross_val_predict(model, pixels, labels, cv=4, method="predict_log_proba"), labels, wrong


def test_planted_wrong_labels_are_found(digits: tuple[Floats, Labels, NDArray[np.bool_]]) -> None:
    """Measured: 104 doubted, precision 0.77, recall 0.84 (chance: 0.05 each); of the first 40 39 are wrong."""
    logits, labels, wrong = digits
    found = find_label_errors(logits, labels)
    assert wrong[found.rows].mean() > 0.7
    assert wrong[found.rows].sum() / wrong.sum() > 0.75
    assert wrong[found.rows[:40]].mean() > 0.9
    assert found.joint.estimated_wrong.sum() == pytest.approx(wrong.sum(), rel=0.4)


def test_a_model_that_has_learned_wrong_labels_by_heart_doubts_none() -> None:
    pixels, truth = load_digits(return_X_y=True)
    labels = np.where(np.arange(len(truth)) % 20 == 0, (truth + 1) % 10, truth)
    learned = KNeighborsClassifier(1).fit(pixels, labels).predict_proba(pixels)
    assert not len(find_label_errors(np.log(learned + 1e-6), labels).rows)


# Corners


def test_a_model_that_knows_nothing_doubts_nothing() -> None:
    assert not len(find_label_errors(np.zeros((50, 4)), np.arange(50) % 4).rows)


def test_a_single_class_and_a_single_image_are_no_trouble() -> None:
    one = find_label_errors(np.zeros((6, 1)), np.zeros(6, dtype=np.int64))
    assert not len(one.rows)
    assert one.joint.estimated_wrong.tolist() == [0]
    assert not len(find_label_errors(np.array([[0.0, 3.0]]), np.array([0])).rows)


def test_a_class_without_images_is_never_the_confident_one() -> None:
    logits = np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 9.0], [0.0, 2.0, 9.0]])
    labels = np.array([1, 0, 1])
    joint = confident_joint(logits, labels, score(logits, labels))
    assert 2 not in joint.classes
    assert np.isnan(joint.thresholds[2])


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((3, 2)), np.array([0, 1]), "one of each"),
        (np.zeros((2, 2)), np.array([0, 2]), "labels from 0 to 2"),
        (np.array([[0.0, np.inf]]), np.array([0]), "not finite"),
        (np.empty((0, 2)), np.empty(0, dtype=np.int64), "one of each"),
    ],
)
def test_logits_that_do_not_fit_are_refused(logits: Floats, labels: Labels, words: str) -> None:
    with pytest.raises(DeitkitError, match=words):
        find_label_errors(logits, labels)


def test_equal_images_of_a_class_all_reach_their_mean_in_spite_of_rounding() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 40)) + 4 * np.eye(40)
    logits, labels = np.repeat(rows, 7, axis=0), np.repeat(np.arange(40), 7)
    joint = confident_joint(logits, labels, score(logits, labels))
    assert joint.images.sum() == len(labels)
