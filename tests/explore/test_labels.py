"""Labels and answers as they are stored: values, logits, accepted labels, and what of the user's stays."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from deitkit.data.open import LabelSets
from deitkit.explore import labels as labels_module
from deitkit.explore.labels import label_probability
from deitkit.predictions.table import head_predictions
from tests.explore.conftest import IMAGES, Build, student, teacher, twin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROWS = np.arange(200)


def test_the_labels_probability_is_that_of_the_softmax_also_beyond_the_classes_that_are_kept() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 3, (200, 12)).astype(np.float32), random.integers(0, 12, 200)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    head = head_predictions("class", probabilities, logits)
    found = label_probability(head, rows=ROWS, labels=labels)
    assert (head.top != labels[:, None]).all(axis=1).any()
    np.testing.assert_allclose(np.array(found, dtype=float), probabilities[ROWS, labels], rtol=1e-5)


def test_without_logits_the_labels_probability_is_known_of_the_five_best_classes_alone() -> None:
    random = np.random.default_rng(1)
    probabilities, labels = random.dirichlet(np.ones(12), 200), random.integers(0, 12, 200)
    found = label_probability(head_predictions("class", probabilities), rows=ROWS, labels=labels)
    best = np.argsort(-probabilities, axis=1)[:, :5]
    for row in ROWS:
        if labels[row] in best[row]:
            assert found[row] == pytest.approx(probabilities[row, labels[row]], rel=1e-6)
        else:
            assert found[row] is None


@pytest.mark.parametrize("logits", [True, False])
def test_a_label_that_is_no_class_has_no_probability(logits: bool) -> None:
    probabilities = np.full((2, 3), 1 / 3)
    head = head_predictions("class", probabilities, np.log(probabilities) if logits else None)
    assert label_probability(head, rows=np.arange(2), labels=np.array([-1, 1]))[0] is None


def test_answers_are_stored_with_the_probability_of_the_label_and_whether_they_are_right(shown: Any) -> None:
    table = student()
    probabilities, right = shown.values(["student_fused.label_probability", "student_fused.right"])
    head = table.heads["fused"]  # of three classes all are kept
    expected = head.confidence[head.top == table.labels[:, None]]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    assert right == (table.top1("fused") == table.labels).tolist()


def test_logits_are_stored_where_the_predictions_hold_them_and_go_with_the_answers(build: Build) -> None:
    dataset = build(student(logits=True))
    stored = np.stack(dataset.values("student_class.logits"))
    np.testing.assert_array_equal(stored, student(logits=True).heads["class"].logits)
    dataset = build(student())  # the same answers, so they still hold
    assert all(logits is not None for logits in dataset.values("student_class.logits"))

    changed = student(logits=True).heads["class"]
    changed.confidence[3, 0] = 0.99
    heads = {**student().heads, "class": replace(changed, logits=None)}
    dataset = build(replace(student(), heads=heads))
    assert [row for row, logits in enumerate(dataset.values("student_class.logits")) if logits is None] == [3]


@pytest.mark.parametrize("fusion", ["softmax", "average_logits"])
def test_a_fused_decision_gets_logits_whose_softmax_are_its_probabilities(build: Build, fusion: str) -> None:
    table = replace(student(logits=True), settings={"fusion": fusion})
    a, b = (np.asarray(table.heads[head].logits, dtype=np.float64) for head in ("class", "distillation"))
    expected = softmax((a + b) / 2, axis=1) if fusion == "average_logits" else (softmax(a, 1) + softmax(b, 1)) / 2
    stored = np.stack(build(table).values("student_fused.logits"))
    np.testing.assert_allclose(softmax(stored.astype(np.float64), axis=1), expected, rtol=1e-5)
    assert table.heads["fused"].logits is None  # what was given is left as it is


def test_new_answers_are_written_into_the_labels_that_are_there(build: Build) -> None:
    dataset = build(twin(), teacher())
    before = dataset.values(["twin.id", "teacher.id", "ground_truth.id"])
    sample = dataset.first()
    sample["twin"]["doubt"] = 0.4
    sample["teacher"].tags.append("look again")
    sample.save()
    dataset = build(twin(seed=5), teacher(seed=6))
    assert dataset.values(["twin.id", "teacher.id", "ground_truth.id"]) == before
    assert dataset.first()["twin"]["doubt"] == 0.4
    assert dataset.first()["teacher"].tags == ["look again"]
    assert dataset.values("teacher.label") == [teacher().class_names[index] for index in teacher(seed=6).top1("class")]


def test_a_label_that_the_user_corrected_stays_and_answers_are_judged_by_it(build: Build) -> None:
    dataset, table = build(twin()), twin()
    said = table.class_names[table.top1("class")[0]]
    other = next(name for name in table.class_names if name != said)
    for label, is_right in ((said, True), (other, False)):
        dataset.set_values("ground_truth.label", {dataset.first().id: label}, key_field="id")
        dataset = build(twin())
        assert dataset.values("ground_truth.label")[0] == label
        assert dataset.values("twin.right")[0] is is_right
        assert dataset.values("eval_twin")[0] is is_right
    third = next(name for name in table.class_names if name not in (said, other))
    for label in (other, third):  # as wrong as before, so that only the evaluation can tell
        dataset.set_values("ground_truth.label", {dataset.first().id: label}, key_field="id")
        results = build(twin()).load_evaluation_results("eval_twin")
        assert list(results.ytrue) == dataset.values("ground_truth.label")
    other = third
    head = table.heads["class"]
    expected = head.confidence[0, head.top[0].tolist().index(table.class_names.index(other))]
    assert dataset.values("twin.label_probability")[0] == pytest.approx(float(expected))


def accepted(rows: list[list[int]]) -> LabelSets:
    return LabelSets([*rows, *[[0]] * (IMAGES - len(rows))])


def test_accepted_labels_are_stored_and_what_is_among_them_is_known(build: Build) -> None:
    sets = accepted([[0, 2], [], [1]])
    dataset = build(replace(student(), accepted=sets))
    stored = dataset.values("accepted_labels.classifications.label")
    assert stored[:4] == [["dark", "light"], [], ["grey"], ["dark"]]
    top = student().top1("fused")
    expected = [None if not len(row) else bool(top[place] in row) for place, row in enumerate(sets.rows)]
    assert dataset.values("student_fused.accepted") == expected
    view = dataset.load_saved_view("student wrong, but accepted")
    chosen = [place for place in range(IMAGES) if expected[place] and top[place] != student().labels[place]]
    assert set(view.values("image_id")) == {student().ids[place] for place in chosen}
    assert chosen


def test_accepted_labels_that_come_later_are_added_and_those_that_stay_keep_their_tags(build: Build) -> None:
    build(twin())
    dataset = build(replace(twin(), accepted=accepted([[0, 2]])))
    sample = dataset.first()
    sample["accepted_labels"].classifications[1].tags.append("sure?")
    sample.save()
    dataset = build(replace(twin(), accepted=accepted([[1, 2]])))
    kept = dataset.first()["accepted_labels"].classifications
    assert [(label.label, list(label.tags)) for label in kept] == [("grey", []), ("light", ["sure?"])]
    assert build(twin()).values("twin.accepted")[0] is not None


def test_the_documents_are_those_that_fiftyone_itself_would_write(shown: Any, fiftyone: ModuleType) -> None:
    def shape(document: dict[str, Any]) -> dict[str, str]:
        return {key: type(value).__name__ for key, value in document.items()}

    own = shown.first()["teacher"].to_dict()
    theirs = fiftyone.Classification(label="grey", confidence=0.5, right=True, label_probability=0.2).to_dict()
    assert shape(own) == shape(theirs)
    assert type(shown.first()["teacher"]) is fiftyone.Classification


def test_chunks_do_not_show(build: Build, shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "CHUNK", 7)
    dataset = build(twin(), teacher())
    paths = ["image_id", "filepath", "twin.label", "twin.confidence", "twin.label_probability", "teacher.right"]
    assert dataset.values(paths) == shown.values(paths)
