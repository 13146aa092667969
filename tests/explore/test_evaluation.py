"""Evaluations of the answers, against scikit-learn, and what becomes of a user's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from deitkit.explore import evaluation
from deitkit.predictions.table import HeadPredictions, Predictions
from tests.explore.conftest import CLASSES, IMAGES, Build, student, teacher, twin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
HEADS = ("class", "distillation", "fused")


def test_every_answer_has_an_evaluation_with_the_accuracy_and_confusions_of_scikit_learn(shown: Any) -> None:
    dataset = shown
    answers = {f"student_{head}": student().top1(head) for head in HEADS}
    answers |= {"teacher": teacher().top1("class"), "twin": twin().top1("class")}
    assert sorted(dataset.list_evaluations()) == sorted(f"eval_{field}" for field in answers)
    for field, top in answers.items():
        results = dataset.load_evaluation_results(f"eval_{field}")
        assert results.metrics()["accuracy"] == pytest.approx(accuracy_score(student().labels, top))
        found = results.confusion_matrix(classes=list(student().class_names))
        assert found.tolist() == confusion_matrix(student().labels, top, labels=range(CLASSES)).tolist()
        assert dataset.values(f"eval_{field}") == (top == student().labels).tolist()


def runs(dataset: Any) -> dict[str, Any]:
    return {key: dataset.get_evaluation_info(key).timestamp for key in dataset.list_evaluations()}


def test_only_answers_that_changed_are_evaluated_anew(build: Build) -> None:
    before = runs(build(twin(), teacher()))
    dataset = build(twin(), teacher(seed=8))
    after = runs(dataset)
    assert {key for key in after if after[key] != before[key]} == {"eval_teacher"}
    found = dataset.load_evaluation_results("eval_teacher").metrics()["accuracy"]
    assert found == pytest.approx(accuracy_score(student().labels, teacher(seed=8).top1("class")))


def test_an_evaluation_follows_confidences_and_images_that_came_later(build: Build) -> None:
    table, few = twin(), teacher()
    few = replace(few, ids=few.ids[:5], labels=few.labels[:5], heads={"class": first_rows(few, 5)})
    assert build(table, few).load_evaluation_results("eval_twin").metrics()["support"] == 5
    results = build(table).load_evaluation_results("eval_twin")
    assert results.metrics()["support"] == IMAGES
    table.heads["class"].confidence[:, 0] = 0.5  # the same decisions
    results = build(table).load_evaluation_results("eval_twin")
    assert set(results.confs) == {0.5}


def first_rows(table: Predictions, count: int) -> HeadPredictions:
    head = table.heads["class"]
    return replace(head, top=head.top[:count], confidence=head.confidence[:count])


def test_an_evaluation_that_was_deleted_is_made_again_and_a_users_own_stays(build: Build) -> None:
    dataset = build(twin())
    dataset.delete_evaluation("eval_twin")
    dataset.evaluate_classifications("twin", gt_field="ground_truth", eval_key="mine", method="simple")
    stamp = runs(dataset)["mine"]
    rebuilt = build(twin(seed=4))
    assert rebuilt.has_evaluation("eval_twin") and runs(rebuilt)["mine"] == stamp
    assert rebuilt.values("mine") == (twin().top1("class") == twin().labels).tolist()


def test_more_images_than_memory_is_meant_for_have_no_evaluation_but_all_else(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MOST", 10)
    dataset = build(twin())
    assert dataset.list_evaluations() == []
    assert dataset.values("twin.right") == (twin().top1("class") == twin().labels).tolist()
