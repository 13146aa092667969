"""Predictions of several classifiers on the same images, or a refusal that names both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deitkit.errors import DeitkitError
from deitkit.predictions.align import align
from deitkit.predictions.table import Predictions, head_predictions

MakePredictions = Callable[..., Predictions]
LABELS = [0, 1, 2, 0]


def test_rows_follow_the_first_by_image_id(decided: MakePredictions) -> None:
    first = decided("a", {"class": [0, 1, 2, 0]}, LABELS)
    order = [3, 1, 0]
    other = decided(
        "b",
        {"class": [2, 1, 0]},
        [LABELS[row] for row in order],
        ids=[first.ids[row] for row in order],
        paths=list("310"),
    )
    aligned_first, aligned_other = align([first, other])
    assert aligned_first.ids == aligned_other.ids == ["image 0", "image 1", "image 3"]
    assert aligned_other.top1("class").tolist() == [0, 1, 2]
    assert aligned_other.paths == ["0", "1", "3"]
    assert aligned_first.labels.tolist() == aligned_other.labels.tolist() == [0, 1, 0]


def test_classes_are_matched_by_name(decided: MakePredictions) -> None:
    first = decided("a", {"class": [0, 1, 2, 0]}, LABELS)
    names = ("owl", "cat", "dog")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    other = decided("b", {"class": [0, 0, 0, 0]}, [1, 2, 0, 1], class_names=names)
    other = replace(other, heads={"class": head_predictions("class", probabilities, np.log(probabilities))})
    _, aligned = align([first, other])
    assert aligned.class_names == ("cat", "dog", "owl")
    assert aligned.labels.tolist() == LABELS
    assert [aligned.class_names[c] for c in aligned.top1("class")] == [names[c] for c in probabilities.argmax(axis=1)]
    np.testing.assert_allclose(aligned.heads["class"].logits, np.log(probabilities)[:, [1, 2, 0]], rtol=1e-6)


def test_different_classes_are_refused_by_name(decided: MakePredictions) -> None:
    other = decided("b", {"class": [0, 1, 2, 0]}, LABELS, class_names=("cat", "dog", "newt"))
    with pytest.raises(DeitkitError) as caught:
        align([decided("a", {"class": [0, 1, 2, 0]}, LABELS), other])
    assert caught.value.problems == ("only a has 1: owl", "only b has 1: newt")


@pytest.mark.parametrize("change", [{"dataset": "cars"}, {"split": "train"}, {"fingerprint": "beef"}])
def test_other_data_is_refused_and_both_are_named(decided: MakePredictions, change: dict[str, str]) -> None:
    first = decided("a", {"class": [0, 1, 2, 0]}, LABELS)
    with pytest.raises(DeitkitError) as caught:
        align([first, replace(first, classifier="b", **change)])
    mine, theirs = caught.value.problems
    assert mine.startswith("a: pets/val")
    assert theirs.startswith("b: ")


def test_an_empty_intersection_is_refused(decided: MakePredictions) -> None:
    first = decided("a", {"class": [0, 1, 2, 0]}, LABELS)
    with pytest.raises(DeitkitError, match="no image of pets/val"):
        align([first, replace(first, ids=[f"other {row}" for row in range(4)])])


def test_no_predictions_are_refused() -> None:
    with pytest.raises(DeitkitError, match="no classifier"):
        align([])


def test_classifiers_of_one_name_are_told_apart(decided: MakePredictions) -> None:
    first = decided("student", {"class": [0, 1, 2, 0]}, LABELS)
    assert [each.classifier for each in align([first, first, first])] == ["student", "student (2)", "student (3)"]
