"""FiftyOne datasets from predictions, in a real MongoDB: what is built, kept and refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from deitkit import explore
from deitkit.errors import DeitkitError
from deitkit.explore import dataset as dataset_module
from deitkit.measures.agreement import named_pair_kinds
from deitkit.predictions.table import HeadPredictions, head_predictions
from tests.explore.conftest import CLASSES, IMAGES, Build, predictions, student, teacher, twin

# fiftyone's own imports use what is deprecated elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_every_head_is_a_classification_with_its_confidence(shown: Any, files: list[Path]) -> None:
    dataset = shown
    assert dataset.persistent
    assert dataset.values("image_id") == student().ids
    assert dataset.values("filepath") == [str(file) for file in files]
    assert dataset.values("ground_truth.label") == ["dark", "grey", "light"] * 8
    fields = {"student_class": "class", "student_distillation": "distillation", "student_fused": "fused"}
    expected = {field: student().heads[head] for field, head in fields.items()} | {"teacher": teacher().heads["class"]}
    for field, head in expected.items():
        labels, confidences = dataset.values([f"{field}.label", f"{field}.confidence"])
        assert labels == [student().class_names[index] for index in head.top[:, 0]]
        np.testing.assert_allclose(confidences, head.confidence[:, 0], rtol=1e-6)


def everything(fiftyone: ModuleType, dataset: Any) -> Any:
    """All that the database holds of a dataset, but for when it was last opened or saved."""
    database, own = fiftyone.core.odm.get_db_conn(), dataset._doc.id
    passing = ("last_loaded_at", "last_modified_at")

    def documents(collection: str, **chosen: Any) -> list[dict[str, Any]]:
        found = database[collection].find(chosen).sort("_id")
        return [{key: value for key, value in each.items() if key not in passing} for each in found]

    samples = list(database[dataset._sample_collection_name].find().sort("_id"))  # with last_modified_at
    whole = documents("datasets", _id=own), documents("views", _dataset_id=own), documents("runs", _dataset_id=own)
    return samples, *whole


def test_building_again_changes_nothing_in_the_database(build: Build, fiftyone: ModuleType) -> None:
    tables = student(logits=True), teacher()
    dataset = build(*tables, teacher="teacher", command="deitkit explore student")
    dataset.limit(2).tag_samples("mine")
    dataset.limit(2).tag_labels("odd", "teacher")
    dataset.add_sample_field("note", fiftyone.StringField)
    dataset.save_view("mine", dataset.limit(3))
    before = everything(fiftyone, dataset)
    assert [len(part) for part in before] == [IMAGES, 1, len(dataset.list_saved_views()), 4]
    again = build(*tables, teacher="teacher", command="deitkit explore student")
    assert everything(fiftyone, again) == before
    # With fewer classifiers, too: those that were there stay.
    assert everything(fiftyone, build(tables[0], command="deitkit explore student")) == before


def test_what_a_user_added_survives_new_predictions(build: Build) -> None:
    dataset = build(twin())
    sample = dataset.first()
    sample.tags.append("look again")
    sample["note"] = "smudged"
    sample["twin"].tags.append("surprising")
    sample.save()
    dataset.save_view("mine", dataset.match_tags("look again"))

    rebuilt = build(twin(seed=7), teacher())
    sample = rebuilt.first()
    assert (sample.tags, sample["note"], sample["twin"].tags) == (["look again"], "smudged", ["surprising"])
    assert len(rebuilt.load_saved_view("mine")) == 1
    new = twin(seed=7)
    assert rebuilt.values("twin.label") == [new.class_names[index] for index in new.top1("class")]


def test_classifiers_seen_earlier_stay(build: Build) -> None:
    build(twin(), teacher())
    dataset = build(twin())
    assert None not in dataset.values("teacher.label")
    assert "teacher right, twin wrong" in dataset.list_saved_views()


def test_who_is_looked_at_may_change_and_the_teacher_is_its_own(build: Build) -> None:
    dataset = build(student(), teacher(), teacher="teacher")
    assert "student fixes teacher" in dataset.list_saved_views()
    dataset = build(twin(), student())
    assert {"student_vs_teacher", "twin_vs_student", "twin_vs_teacher"} <= set(dataset.get_field_schema())
    assert "teacher right, twin wrong" in dataset.list_saved_views()
    assert "student fixes teacher" not in dataset.list_saved_views()
    dataset = build(teacher(seed=6), twin())  # an earlier comparison follows the answers, too
    assert not dataset.has_field("teacher_vs_twin")
    kinds = ("both right", "only student right", "only teacher right", "both wrong alike", "both wrong differently")
    expected = named_pair_kinds(student().top1("fused"), teacher(seed=6).top1("class"), student().labels, names=kinds)
    assert dataset.values("student_vs_teacher") == expected
    decided = twin().top1("class") == twin().labels, teacher(seed=6).top1("class") == twin().labels
    assert len(dataset.load_saved_view("twin right, teacher wrong")) == (decided[0] & ~decided[1]).sum()


def test_a_classifier_whose_field_the_user_deleted_is_gone(build: Build) -> None:
    dataset = build(twin(), teacher())
    dataset.delete_sample_field("teacher")
    dataset = build(twin())
    assert not [view for view in dataset.list_saved_views() if "teacher" in view]
    assert dataset.list_evaluations() == ["eval_twin"]
    left = {"eval_teacher", "twin_vs_teacher", "agreement", "classifiers_right"} & set(dataset.get_field_schema())
    assert not left


class Interrupted(Exception):
    """Ctrl-C at a bad moment."""


@pytest.mark.parametrize("after", ["write", "save_views"])
def test_an_interrupted_build_is_completed_by_the_next(
    build: Build, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    real = getattr(dataset_module, after)

    def stop(*given: Any, **options: Any) -> Any:
        real(*given, **options)
        raise Interrupted

    build(twin(seed=4), teacher(seed=5))
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, after, stop)
        with pytest.raises(Interrupted):
            build(twin(), teacher())
    dataset = build(twin(), teacher())
    right = (twin().top1("class") == twin().labels).tolist()
    assert dataset.values("twin.right") == dataset.values("eval_twin") == right
    assert dataset.load_evaluation_results("eval_twin").metrics()["accuracy"] == pytest.approx(np.mean(right))
    assert len(dataset.load_saved_view("twin wrong")) == right.count(False)


def test_images_that_moved_are_found_at_their_new_place(build: Build, files: list[Path], tmp_path: Path) -> None:
    build(teacher())
    moved = [Path(shutil.copy(file, tmp_path)) for file in files]
    dataset = build(teacher(), image_of=lambda row: moved[row])
    assert dataset.values("filepath") == [str(file) for file in moved]
    assert len(dataset) == IMAGES


def test_only_images_that_all_have_are_shown_each_with_its_own_file(build: Build, files: list[Path]) -> None:
    rows = [5, 2, 9]
    whole = teacher()
    part = replace(
        whole,
        classifier="part",
        ids=[whole.ids[row] for row in rows],
        labels=whole.labels[rows],
        heads={"class": head_predictions("class", np.eye(CLASSES)[[0, 1, 2]])},
    )
    dataset = build(whole, part)
    assert dataset.values("filepath") == [str(files[row]) for row in (2, 5, 9)]
    assert dataset.values("part.label") == ["grey", "dark", "light"]


def test_images_that_a_later_comparison_lacks_get_the_new_answers_too(build: Build) -> None:
    build(twin(), teacher())
    few = predictions("few", "class", seed=9)
    few = replace(few, ids=few.ids[:5], labels=few.labels[:5], heads={"class": first_rows(few.heads["class"], 5)})
    dataset = build(twin(seed=8), few)
    new = twin(seed=8)
    assert dataset.values("twin.label") == [new.class_names[index] for index in new.top1("class")]
    assert [label is None for label in dataset.values("few.label")] == [False] * 5 + [True] * (IMAGES - 5)
    assert dataset.load_evaluation_results("eval_few").metrics()["support"] == 5
    kinds = dataset.values("twin_vs_few")
    assert None not in kinds[:5] and set(kinds[5:]) == {None}


def first_rows(head: HeadPredictions, count: int) -> HeadPredictions:
    return HeadPredictions(head.name, head.top[:count], head.confidence[:count])


def test_classes_in_another_order_are_matched_by_name(build: Build) -> None:
    own, order = teacher(), np.array([2, 0, 1])
    number = np.argsort(order)
    names = tuple(own.class_names[index] for index in order)
    heads = {"class": replace(own.heads["class"], top=number[own.heads["class"].top])}
    other = replace(own, classifier="other", class_names=names, labels=number[own.labels], heads=heads)
    dataset = build(own, other)
    assert dataset.values("other.label") == dataset.values("teacher.label")
    assert set(dataset.values("teacher_vs_other")) == {"both right", "both wrong alike"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"split": "train"}, "different data"),
        ({"fingerprint": "beef"}, "other images, labels or classes"),
        ({"class_names": ("dark", "grey", "pale")}, "different classes"),
        ({"ids": [f"other/{row}" for row in range(IMAGES)]}, "no image .* has a prediction from every classifier"),
    ],
    ids=["split", "images", "classes", "intersection"],
)
def test_predictions_that_cannot_be_compared_are_refused(build: Build, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(DeitkitError, match=what):
        build(student(), replace(teacher(), **changes))


def test_a_dataset_made_by_others_is_left_alone(
    build: Build, fiftyone: ModuleType, name: str, files: list[Path]
) -> None:
    theirs = fiftyone.Dataset(name, persistent=True)
    theirs.add_sample(fiftyone.Sample(filepath=str(files[0])))
    with pytest.raises(DeitkitError, match="not made by deitkit") as caught:
        build(teacher())
    assert "--overwrite" in caught.value.remedy
    assert (len(theirs), theirs.list_saved_views()) == (1, [])
    assert len(build(teacher(), overwrite=True)) == IMAGES
    assert fiftyone.list_datasets(f"{name}*") == [name]


def test_what_should_be_overwritten_is_there_until_the_new_one_is(
    build: Build, fiftyone: ModuleType, name: str, files: list[Path]
) -> None:
    theirs = fiftyone.Dataset(name, persistent=True)
    theirs.add_sample(fiftyone.Sample(filepath=str(files[0])))
    with pytest.raises(DeitkitError, match="the field 'tags'"):
        build(replace(teacher(), classifier="tags"), overwrite=True)
    assert len(fiftyone.load_dataset(name)) == 1
    assert fiftyone.list_datasets(f"{name}*") == [name]


def test_another_run_of_the_same_name_is_refused_and_the_same_one_is_known_again(build: Build, tmp_path: Path) -> None:
    here, there = tmp_path / "a" / "twin", tmp_path / "b" / "twin"
    for folder in (here, there):
        folder.mkdir(parents=True)
    build(twin(), places={"twin": str(here)})
    with pytest.raises(DeitkitError, match="another classifier called 'twin'") as caught:
        build(twin(seed=5), places={"twin": str(there)})
    assert str(there) in caught.value.message() and "--name" in caught.value.remedy
    # Beside another of its name, a run goes by a longer one.
    longer = replace(twin(seed=5), classifier="a/twin")
    other = replace(twin(seed=6), classifier="b/twin")
    dataset = build(longer, other, places={"a/twin": str(here), "b/twin": str(there)})
    assert not dataset.has_field("a_twin") and dataset.has_field("b_twin")
    assert dataset.values("twin.label") == [longer.class_names[row] for row in longer.top1("class")]
    here.rename(tmp_path / "moved")
    build(twin(), places={"twin": str(tmp_path / "moved")})


def test_a_dataset_of_other_images_is_left_alone(build: Build) -> None:
    build(teacher())
    with pytest.raises(
        DeitkitError, match=r"other images or labels \(shades/val\) than these predictions \(shades/train"
    ):
        build(replace(teacher(), split="train", fingerprint="beef"))


def test_a_field_of_the_users_is_not_taken(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(twin())
    dataset.add_sample_field("teacher", fiftyone.StringField)
    dataset.set_values("teacher", ["Ms. Frizzle"] * IMAGES)
    with pytest.raises(DeitkitError, match="the field 'teacher'"):
        build(twin(), teacher())
    assert set(dataset.values("teacher")) == {"Ms. Frizzle"}


@pytest.mark.parametrize(
    ("classifier", "field"), [("384 px", "run_384_px"), ("deit-tiny.v2", "deit_tiny_v2"), ("_hidden", "hidden")]
)
def test_any_runs_name_becomes_a_field(build: Build, classifier: str, field: str) -> None:
    assert build(replace(teacher(), classifier=classifier)).has_field(f"{field}.label")


@pytest.mark.parametrize("classifier", ["ground_truth", "image_id", "tags"])
def test_a_run_named_like_a_field_that_is_there_is_refused(
    build: Build, classifier: str, fiftyone: ModuleType, name: str
) -> None:
    with pytest.raises(DeitkitError, match=f"the field '{classifier}'"):
        build(replace(teacher(), classifier=classifier))
    assert not fiftyone.dataset_exists(name)


def test_an_evaluation_of_the_users_is_not_taken(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(twin())
    dataset.evaluate_classifications("twin", gt_field="ground_truth", eval_key="eval_teacher")
    with pytest.raises(DeitkitError, match="the field 'eval_teacher'"):
        build(twin(), teacher())
    assert dataset.get_evaluation_info("eval_teacher").config.pred_field == "twin"


def test_runs_whose_fields_would_be_one_are_refused(build: Build) -> None:
    with pytest.raises(DeitkitError, match="the field 'a_b'"):
        build(replace(teacher(), classifier="a b"), replace(student(), classifier="a-b", heads=teacher().heads))


def test_missing_images_are_named_before_anything_is_built(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match=r"1 of 24 images .*gone\.png"):
        explore.build_dataset(
            [teacher()], "test-never", image_of=lambda row: tmp_path / "gone.png" if row == 3 else files[row]
        )


def test_nothing_is_sent_home_and_nothing_printed_where_data_goes(
    build: Build, fiftyone: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    build(student(), teacher())
    assert fiftyone.config.do_not_track
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("change", [{"format": 0}, {"views": None}], ids=["format", "field"])
def test_a_dataset_of_another_version_is_left_alone(build: Build, change: dict[str, Any]) -> None:
    dataset = build(student())
    noted = {key: value for key, value in dict(dataset.info["deitkit"]).items() if change.get(key, key) is not None}
    dataset.info["deitkit"] = {**noted, **{key: value for key, value in change.items() if value is not None}}
    dataset.save()
    with pytest.raises(DeitkitError, match="another version of deitkit"):
        build(student())
