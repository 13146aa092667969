"""Saved views: what each holds, in which order, and whose they are."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from deitkit.explore.record import Record, RecordedClassifier
from deitkit.explore.views import most_disputed, views_of
from tests.explore.conftest import Build, predictions, student, teacher, twin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def ids(chosen: np.ndarray, by: np.ndarray) -> list[str]:
    """Images of a kind, those of the greatest value first."""
    rows = np.flatnonzero(chosen)
    return [student().ids[row] for row in rows[np.argsort(-by[rows], kind="stable")]]


def test_each_view_holds_the_images_that_its_name_says_the_most_confident_first(shown: Any) -> None:
    heads = [student().heads[name] for name in ("class", "distillation", "fused")]
    answers = [*heads, teacher().heads["class"], twin().heads["class"]]
    said = np.stack([answer.top[:, 0] for answer in answers])
    sure = np.stack([answer.confidence[:, 0] for answer in answers]).astype(np.float64)
    right, alike = said == student().labels, (said == said[0]).all(axis=0)
    _, _, fused, taught, other = right
    decided = sure[2] + sure[3] + sure[4]
    expected = {
        "teacher right, student wrong": ids(taught & ~fused, sure[2]),
        "student fixes teacher": ids(fused & ~taught, sure[2]),
        "twin right, student wrong": ids(other & ~fused, sure[2]),
        "student right, twin wrong": ids(fused & ~other, sure[2]),
        "heads disagree": ids(said[0] != said[1], sure[0] + sure[1]),
        "all agree, label differs": ids(alike & ~fused, sure.min(axis=0)),
        "not all agree": ids(~alike, decided),
        "all wrong": ids(~right.any(axis=0), decided),
        "student wrong": ids(~fused, sure[2]),
        "teacher wrong": ids(~taught, sure[3]),
        "twin wrong": ids(~other, sure[4]),
    }
    assert shown.list_saved_views() == list(expected)
    assert all(chosen for name, chosen in expected.items() if name != "all agree, label differs")
    for name, chosen in expected.items():
        assert shown.load_saved_view(name).values("image_id") == chosen, name


def test_images_that_all_call_the_same_wrong_class_are_sorted_by_the_least_confidence(build: Build) -> None:
    table, other = student(), teacher()
    for each in (table, other):
        for head in each.heads.values():
            head.top[:3, 0] = (each.labels[:3] + 1) % 3
    other.heads["class"].confidence[:3, 0] = [0.5, 0.4, 0.6]
    for head in table.heads.values():
        head.confidence[:3, 0] = [0.9, 0.95, 0.55]
    dataset = build(table, other)
    chosen = dataset.load_saved_view("all agree, label differs").values("image_id")
    first = [image_id for image_id in chosen if image_id in table.ids[:3]]
    assert first == [table.ids[2], table.ids[0], table.ids[1]]  # least: 0.55, 0.5, 0.4


def test_views_say_what_they_hold_and_have_a_colour_that_the_app_knows(shown: Any) -> None:
    infos = shown.list_saved_views(info=True)
    palette = {"#667085", "#2970FF", "#06AED4", "#16B364", "#FAC515", "#EF6820", "#F04438", "#EE46BC", "#7A5AF8"}
    assert infos and all(info["description"] and info["color"] in palette for info in infos)
    told = {info["name"]: info["description"] for info in infos}["teacher right, student wrong"]
    assert told == "teacher is right and student wrong; the most confident of student first"


def test_a_lone_plain_classifier_has_only_its_mistakes_to_show(build: Build) -> None:
    assert build(teacher()).list_saved_views() == ["teacher wrong"]


def record(subject: str, *others: str, teacher: str = "") -> Record:
    classifiers = tuple(RecordedClassifier(name, "", (("class", name),)) for name in (subject, *others))
    own = Record("pets/val", "f00d", subject=subject, teacher=teacher, classifiers=classifiers)
    own.compare()
    return own


def test_student_and_teacher_are_words_for_roles_unless_another_run_is_called_so() -> None:
    def names(own: Record) -> list[str]:
        return [view.name for view in views_of(own)][:2]

    assert names(record("deit", "regnet")) == ["regnet right, deit wrong", "deit right, regnet wrong"]
    assert names(record("deit", "regnet", teacher="regnet")) == [
        "teacher right, student wrong",
        "student fixes teacher",
    ]
    clashing = record("upscaled", "regnet", "student", teacher="regnet")
    assert names(clashing) == ["teacher right, upscaled wrong", "upscaled fixes teacher"]
    assert len({view.name for view in views_of(clashing)}) == len(views_of(clashing))


def test_a_users_view_of_the_same_name_is_not_replaced(build: Build) -> None:
    dataset = build(twin())
    dataset.save_view("teacher wrong", dataset.limit(1))
    dataset.save_view("Not  all agree", dataset.limit(2))  # of the same address in the App
    rebuilt = build(twin(), teacher())
    assert rebuilt.load_saved_view("teacher wrong").values("image_id") == ["shade/00"]
    assert rebuilt.list_saved_views().count("teacher wrong") == 1
    assert "not all agree" not in rebuilt.list_saved_views()


def test_what_the_user_made_of_a_view_of_ours_is_the_users(build: Build) -> None:
    dataset = build(twin(), teacher())
    dataset.save_view("not all agree", dataset.limit(2), description="mine", overwrite=True)
    dataset.update_saved_view_info("twin wrong", {"name": "hard ones"})
    dataset.update_saved_view_info("teacher wrong", {"description": "ask Ada"})
    rebuilt = build(twin(seed=9), teacher(), predictions("other", "class", seed=4))  # ours would be another, too
    assert len(rebuilt.load_saved_view("not all agree")) == 2
    assert rebuilt.get_saved_view_info("not all agree")["description"] == "mine"
    assert {"hard ones", "twin wrong"} <= set(rebuilt.list_saved_views())
    assert rebuilt.get_saved_view_info("teacher wrong")["description"] == "ask Ada"


def test_a_view_of_all_answers_follows_the_classifiers(build: Build) -> None:
    build(twin(), teacher())
    tables = [twin(), teacher(), predictions("other", "class", seed=4)]
    dataset = build(*tables)
    said = np.stack([table.top1("class") for table in tables])
    sure = np.stack([table.heads["class"].confidence[:, 0] for table in tables]).astype(np.float64)
    expected = ids((said != said[0]).any(axis=0), sure.sum(axis=0))
    assert dataset.load_saved_view("not all agree").values("image_id") == expected


def test_views_of_ours_that_make_no_sense_any_more_go(build: Build) -> None:
    build(student(), teacher(), teacher="teacher")
    dataset = build(twin(), teacher(), teacher="teacher")
    names = dataset.list_saved_views()
    assert "teacher right, student wrong" not in names and "student fixes teacher" not in names
    assert {"teacher right, twin wrong", "twin fixes teacher", "student right, twin wrong"} <= set(names)
    assert {view.name for view in views_of(Record.load(dataset))} == set(names)


def test_a_view_can_be_noted_and_read_back(shown: Any) -> None:
    own = Record.load(shown)
    assert own.views != []
    assert own.views == [plain(asdict(view)) for view in views_of(own)]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_the_most_disputed_images_come_from_both_views_in_turn_and_none_twice(build: Build) -> None:
    dataset = build(student(), replace(teacher(), heads={"class": student().heads["class"]}))
    own = Record.load(dataset)
    split, wrong = (dataset.load_saved_view(name).values("id") for name in ("not all agree", "student wrong"))
    expected = list(dict.fromkeys([*split, *wrong]))
    assert len(split) < len(expected)
    assert most_disputed(dataset, own, count=3).values("id") == split[:3]
    assert most_disputed(dataset, own, count=len(expected)).values("id") == expected
    assert most_disputed(dataset, own, count=1_000).values("id") == expected


def test_labels_to_check_are_those_that_the_subject_doubts_until_they_are_corrected(build: Build) -> None:
    doubted = np.zeros(len(student().ids), dtype=bool)
    doubted[[3, 7, 8]] = True
    dataset = build(replace(student(), doubted=doubted), twin())
    view = dataset.load_saved_view("labels to check")
    assert sorted(view.values("image_id")) == [student().ids[row] for row in (3, 7, 8)]
    sample = view.first()
    sample["ground_truth"].label = next(name for name in student().class_names if name != sample["ground_truth"].label)
    sample.save()
    dataset = build(replace(student(), doubted=doubted), twin())
    assert len(dataset.load_saved_view("labels to check")) == 2, "whoever corrected a label has checked it"
    assert "labels to check" not in build(student(seed=4)).list_saved_views(), "answers that doubt nothing"
