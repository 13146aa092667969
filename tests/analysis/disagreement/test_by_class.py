"""Tables by class against loops over the images."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from deitkit.analysis.disagreement.by_class import between_figure, between_table, class_table, confusion, gains, moved
from deitkit.analysis.disagreement.pairs import ComparedClassifier
from deitkit.measures.agreement import paired_interval

NAMES = ("cat", "dog", "owl", "newt")


@pytest.fixture
def made_up() -> tuple[ComparedClassifier, ComparedClassifier, ComparedClassifier, np.ndarray]:
    """A teacher, a student, a baseline, and labels that hold no newt."""
    rng = np.random.default_rng(5)
    labels = rng.integers(3, size=200)
    guesses = [np.where(rng.random(200) < 0.4, rng.integers(4, size=200), labels) for _ in range(3)]
    teacher, student, baseline = map(ComparedClassifier, ("teacher", "student", "twin"), guesses)
    return teacher, student, baseline, labels


def test_every_class_that_has_images_is_there_the_most_unlike_first(made_up) -> None:
    teacher, student, baseline, labels = made_up
    table = class_table([teacher, student, baseline], teacher, labels, class_names=NAMES)
    assert table.columns == (
        "class", "images", "teacher right", "student right", "twin right", "student not as teacher",
        "twin not as teacher",
    )  # fmt: skip
    assert {row[0] for row in table.rows} == {"cat", "dog", "owl"}
    for name, images, teacher_right, _, _, student_unlike, _ in table.rows:
        rows = labels == NAMES.index(name)
        assert images == rows.sum()
        assert teacher_right == pytest.approx((teacher.top1[rows] == labels[rows]).mean())
        assert student_unlike == pytest.approx((student.top1[rows] != teacher.top1[rows]).mean())
    unlike = [row[5] + row[6] for row in table.rows]
    assert unlike == sorted(unlike, reverse=True)


def test_the_confusion_counts_every_image_once_with_who_is_right(made_up) -> None:
    teacher, student, _, labels = made_up
    found = confusion(teacher.top1, student.top1, labels)
    table = between_table(teacher, student, found, NAMES)
    counted = Counter(zip(teacher.top1.tolist(), student.top1.tolist(), strict=True))
    assert {(NAMES.index(x), NAMES.index(y)): images for x, y, images, _, _ in table.rows} == dict(counted)
    assert sum(row[2] for row in table.rows) == 200
    assert sum(row[3] for row in table.rows) == (teacher.top1 == labels).sum()
    assert sum(row[4] for row in table.rows) == (student.top1 == labels).sum()
    differences = [row[2] for row in table.rows if row[0] != row[1]]
    assert [row[2] for row in table.rows][: len(differences)] == sorted(differences, reverse=True)


def test_the_confusions_figure_shows_the_commonest_differences() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"class {index:02d}" for index in range(30))
    a, b = ComparedClassifier("a", rng.integers(30, size=3_000)), ComparedClassifier("b", rng.integers(30, size=3_000))
    b.top1[:900] = 7
    figure = between_figure(a, b, confusion(a.top1, b.top1, a.top1), names)
    assert len(figure.labels) == 10
    place = figure.labels.index("class 07")
    assert figure.values[place][place] == 0
    other = names.index(figure.labels[place - 1])
    assert figure.values[place - 1][place] == ((a.top1 == other) & (b.top1 == 7)).sum()
    assert (figure.y_label, figure.x_label) == ("a says", "b says")


def test_two_who_never_differ_have_a_figure_of_zeros() -> None:
    a, b = ComparedClassifier("a", np.array([0, 1, 2])), ComparedClassifier("b", np.array([0, 1, 2]))
    figure = between_figure(a, b, confusion(a.top1, b.top1, a.top1), NAMES)
    assert figure.labels == NAMES and not np.any(figure.values)


def test_gains_of_the_classes_add_up_to_the_whole(made_up) -> None:
    teacher, student, baseline, labels = made_up
    overall, each = gains(student.top1, baseline.top1, teacher.top1, labels, classes=4)
    assert overall.images == sum(own.images for own in each) == 200
    assert overall.gained - overall.lost == overall.student - overall.baseline
    assert overall.student == (student.top1 == teacher.top1).sum()
    dogs = labels == 1
    assert each[1].gained == (dogs & (student.top1 == teacher.top1) & (baseline.top1 != teacher.top1)).sum()


def test_classes_are_sorted_by_how_far_they_moved_toward_the_teacher(made_up) -> None:
    teacher, student, baseline, labels = made_up
    table, figure, gain = moved(student, baseline, teacher, labels, class_names=NAMES)
    assert [row[4] for row in table.rows] == sorted((row[4] for row in table.rows), reverse=True)
    assert gain["gain"] == pytest.approx((student.top1 == teacher.top1).mean() - (baseline.top1 == teacher.top1).mean())
    assert gain["low"] < gain["gain"] < gain["high"]
    for name, images, before, after, own, low, high in table.rows:
        rows = labels == NAMES.index(name)
        like = [(who.top1[rows] == teacher.top1[rows]) for who in (baseline, student)]
        assert (images, before, after) == (rows.sum(), pytest.approx(like[0].mean()), pytest.approx(like[1].mean()))
        interval = paired_interval(int((like[1] & ~like[0]).sum()), int((like[0] & ~like[1]).sum()), images)
        assert (own, low, high) == pytest.approx((after - before, interval.low, interval.high))
    assert [series.label for series in figure.series] == ["twin", "student"]
    assert figure.ticks == tuple(row[0] for row in table.rows)


def test_a_class_named_twice_as_often_does_not_move_more() -> None:
    labels = np.array([0] * 10 + [1] * 100)
    teacher, student = ComparedClassifier("t", labels), ComparedClassifier("s", labels)
    baseline = ComparedClassifier("b", np.where(np.arange(110) % 2 == 0, labels, 2))
    table, _, _ = moved(student, baseline, teacher, labels, class_names=("rare", "common", "other"))
    assert [(row[0], row[4]) for row in table.rows] == [("rare", 0.5), ("common", 0.5)]
