"""How answers stand to the label and to each other, against definitions written out for one image at a time."""

from __future__ import annotations

import numpy as np
import pytest

from deitkit.explore.agreement import derive, described
from deitkit.explore.record import Record, RecordedClassifier
from deitkit.measures.agreement import count_pairs, count_right, kinds_of_all, named_pair_kinds

NOTHING = -1
KINDS = ("both right", "only a right", "only b right", "both wrong alike", "both wrong differently")


def kind_of_all(answers: list[int], label: int) -> str | None:
    """One image's kind, as its definition reads."""
    given = [answer for answer in answers if answer != NOTHING]
    if not given or label == NOTHING:
        return None
    right = [answer == label for answer in given]
    if all(right):
        return "all right"
    if any(right):
        return "some right"
    return "all wrong alike" if len(set(given)) == 1 else "all wrong differently"


def test_an_images_kind_is_that_of_its_definition_with_answers_missing_too() -> None:
    random = np.random.default_rng(0)
    answers, labels = random.integers(-1, 3, (3, 500)), random.integers(-1, 3, 500)
    expected = [kind_of_all(column.tolist(), label) for column, label in zip(answers.T, labels, strict=True)]
    assert kinds_of_all(list(answers), labels) == expected
    assert set(expected) == {"all right", "some right", "all wrong alike", "all wrong differently", None}


def test_the_five_kinds_of_a_pair_are_counted_as_the_analysis_counts_them() -> None:
    random = np.random.default_rng(1)
    a, b, labels = random.integers(0, 3, (3, 400))
    found, counted = named_pair_kinds(a, b, labels, names=KINDS), count_pairs(a, b, labels)
    assert {kind: found.count(kind) for kind in set(found)} == {
        "both right": counted.both_right,
        "only a right": counted.only_a,
        "only b right": counted.only_b,
        "both wrong alike": counted.wrong_same,
        "both wrong differently": counted.wrong_differently,
    }


def test_a_pair_with_one_answer_missing_has_no_kind_and_who_is_missing_is_not_right() -> None:
    a, b, labels = np.array([0, -1, 1, -1]), np.array([0, 0, -1, -1]), np.array([0, 0, 1, -1])
    assert named_pair_kinds(a, b, labels, names=KINDS) == ["both right", None, None, None]
    assert count_right([a, b], labels) == [2, 1, 1, None]


@pytest.fixture
def record() -> Record:
    heads = tuple((head, f"s_{head}") for head in ("class", "distillation", "fused"))
    classifiers = (RecordedClassifier("s", "", heads), RecordedClassifier("t", "", (("class", "t"),)))
    own = Record("pets/val", "f00d", subject="s", teacher="t", classifiers=classifiers)
    own.compare()
    return own


def test_everything_that_follows_from_labels_follows_from_their_words(record: Record) -> None:
    columns = {
        "ground_truth.label": ["cat", "dog", "owl", "cat"],
        "s_class.label": ["cat", "dog", "cat", "owl"],
        "s_distillation.label": ["cat", "cat", "cat", "cat"],
        "s_fused.label": ["cat", "cat", "cat", "owl"],
        "t.label": ["cat", "dog", "cat", None],
        "accepted_labels.classifications.label": [["cat"], ["dog", "cat"], [], None],
    }
    assert derive(columns, record) == {
        "s_class.right": [True, True, False, False],
        "s_distillation.right": [True, False, False, True],
        "s_fused.right": [True, False, False, False],
        "t.right": [True, True, False, None],
        "s_class.accepted": [True, True, None, None],
        "s_distillation.accepted": [True, True, None, None],
        "s_fused.accepted": [True, True, None, None],
        "t.accepted": [True, True, None, None],
        "agreement": ["all right", "some right", "all wrong alike", "some right"],
        "classifiers_right": [2, 1, 0, 0],
        "s_vs_t": ["both right", "only t right", "both wrong alike", None],
        "s_heads": ["both right", "only class right", "both wrong alike", "only distillation right"],
    }


def test_one_answer_alone_agrees_with_nobody(record: Record) -> None:
    alone = Record("pets/val", "f00d", subject="t", classifiers=record.classifiers[1:])
    assert described(alone) == {}
    assert derive({"ground_truth.label": ["cat"], "t.label": ["dog"]}, alone) == {"t.right": [False]}


def test_no_value_has_a_comma_at_which_the_app_would_cut_it_for_its_colours(record: Record) -> None:
    random = np.random.default_rng(2)
    names = np.array(["cat", "dog", "owl"])
    columns = {
        f"{field}.label": names[random.integers(0, 3, 200)].tolist() for field in ("ground_truth", *record.answers)
    }
    derived = derive(columns, record)
    values = {value for field in described(record) for value in derived[field] if isinstance(value, str)}
    assert len(values) > 8
    assert not [value for value in values if "," in value]
