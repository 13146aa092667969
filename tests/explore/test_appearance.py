"""Colours, sidebar and what is ticked: as deitkit sets them, and as a user has arranged them since."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from deitkit.explore.appearance import additions_arranged, arrange
from deitkit.explore.record import Record
from tests.explore.conftest import IMAGES, Build, student, teacher, twin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def groups(dataset: Any) -> dict[str, list[str]]:
    return {group.name: list(group.paths) for group in dataset.app_config.sidebar_groups}


def values(dataset: Any, path: str) -> dict[str, str]:
    """Value -> colour, of a field."""
    field = next(each for each in dataset.app_config.color_scheme.fields if each["path"] == path)
    return {each["value"]: each["color"] for each in field["valueColors"]}


def test_the_sidebar_has_every_field_once_and_ticks_the_label_and_the_decisions(shown: Any) -> None:
    dataset = shown
    found = groups(dataset)
    assert list(found) == ["tags", "labels", "classifiers", "agreement", "evaluation", "metadata", "primitives"]
    assert found["classifiers"] == ["student_class", "student_distillation", "student_fused", "teacher", "twin"]
    assert found["evaluation"] == [f"eval_{field}" for field in found["classifiers"]]
    paths = [path for own in found.values() for path in own]
    assert len(paths) == len(set(paths))
    assert {*dataset.get_field_schema()} - {"metadata"} <= {*paths}
    assert list(dataset.app_config.active_fields.paths) == ["ground_truth", "student_fused", "teacher"]
    folded = {group.name for group in dataset.app_config.sidebar_groups if not group.expanded}
    assert folded == {"evaluation", "metadata", "primitives"}


def test_an_answer_is_coloured_by_whether_it_is_right_and_all_labels_alike(shown: Any) -> None:
    dataset = shown
    assert dataset.app_config.color_scheme.color_by == "value"
    fields = {each["path"]: each for each in dataset.app_config.color_scheme.fields}
    right_and_wrong = values(dataset, "student_fused")
    assert set(right_and_wrong) == {"true", "false"} and len(set(right_and_wrong.values())) == 2
    for field in ("student_class", "student_distillation", "student_fused", "teacher"):
        assert fields[field]["colorByAttribute"] == "right"
        assert values(dataset, field) == values(dataset, f"eval_{field}") == right_and_wrong
    assert set(values(dataset, "ground_truth")) == {"none"}
    assert fields["ground_truth"]["colorByAttribute"] == "confidence"
    assert set(dataset.values("ground_truth.confidence")) == {None}  # by which it gets that one colour


def test_every_value_of_the_agreement_fields_has_a_colour_of_its_own(shown: Any) -> None:
    for field in ("agreement", "student_vs_teacher", "student_vs_twin", "student_heads"):
        colors = values(shown, field)
        assert set(shown.distinct(field)) <= set(colors)
        assert len(set(colors.values())) == len(colors)
    assert values(shown, "agreement")["all right"] == values(shown, "student_fused")["true"]


def test_the_dataset_says_what_it_is_and_how_it_came_about(shown: Any) -> None:
    assert shown.description == (
        "What student, teacher and twin make of shades/val. Brought up to date by: deitkit explore runs/student"
    )
    assert shown.info["deitkit"]["command"] == "deitkit explore runs/student"
    assert shown.default_classes == ["dark", "grey", "light"]
    undescribed = {name for name, field in shown.get_field_schema().items() if not field.description}
    assert undescribed == {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}


def test_what_the_user_arranged_stays_and_new_fields_find_their_group(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(student())
    dataset.add_sample_field("note", fiftyone.StringField)
    config, odm = dataset.app_config, fiftyone.core.odm.dataset
    mine = [
        odm.SidebarGroupDocument(name="mine", paths=["note", "student_fused"], expanded=False),
        odm.SidebarGroupDocument(name="classifiers", paths=["student_class", "student_distillation"]),
        *[group for group in config.sidebar_groups if group.name != "classifiers"],
    ]
    config.sidebar_groups = mine
    config.color_scheme = fiftyone.ColorScheme(color_by="field", color_pool=["#ff0000"])
    config.active_fields = odm.ActiveFields(paths=["student_class"])
    dataset.description = "for the talk"
    dataset.save()

    rebuilt = build(student(seed=7), teacher())
    found = groups(rebuilt)
    assert list(found)[:2] == ["mine", "classifiers"] and found["mine"] == ["note", "student_fused"]
    assert found["classifiers"] == ["student_class", "student_distillation", "teacher"]
    assert {"student_vs_teacher", "classifiers_right"} <= set(found["agreement"])
    assert rebuilt.app_config.sidebar_groups[0].expanded is False
    assert rebuilt.app_config.color_scheme.color_by == "field"
    assert list(rebuilt.app_config.active_fields.paths) == ["student_class"]
    assert rebuilt.description == "for the talk"


def test_what_the_user_reset_to_the_apps_own_stays_so(build: Build) -> None:
    dataset = build(twin())
    config = dataset.app_config
    config.sidebar_groups, config.color_scheme, config.active_fields = None, None, None
    dataset.save()
    config = build(twin(seed=7), teacher()).app_config
    assert (config.sidebar_groups, config.color_scheme, config.active_fields) == (None, None, None)


def test_what_nobody_arranged_follows_the_classifiers_and_stays_folded_as_it_was(build: Build) -> None:
    dataset = build(twin())
    for group in dataset.app_config.sidebar_groups:
        group.expanded = group.name == "evaluation"
    dataset.save()
    rebuilt = build(twin(), teacher(), teacher="teacher")
    assert "teacher" in groups(rebuilt)["classifiers"]
    opened = [group.name for group in rebuilt.app_config.sidebar_groups if group.expanded]
    assert opened == ["agreement", "evaluation"]  # one classifier alone has no agreement
    assert list(rebuilt.app_config.active_fields.paths) == ["ground_truth", "twin", "teacher"]
    assert "teacher" in rebuilt.description


def test_a_new_evaluation_takes_its_field_nowhere_else(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(twin())
    odm = fiftyone.core.odm.dataset
    mine = odm.SidebarGroupDocument(name="mine", paths=["eval_twin"])
    others = [group for group in dataset.app_config.sidebar_groups if group.name != "evaluation"]
    dataset.app_config.sidebar_groups = [mine, *others]
    dataset.app_config.active_fields = odm.ActiveFields(paths=["eval_twin"])
    dataset.save()
    found = groups(build(twin(seed=7)))
    assert found["mine"] == ["eval_twin"]
    assert [name for name, paths in found.items() if "eval_twin" in paths] == ["mine"]
    assert list(dataset.app_config.active_fields.paths) == ["eval_twin"]


def test_what_is_added_on_request_gets_a_group_and_nothing_else_moves(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(twin())
    before = groups(dataset)
    with additions_arranged(dataset):
        dataset.add_sample_field("uniqueness", fiftyone.FloatField)
        dataset.add_sample_field("attention", fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Heatmap)
        dataset.info["deitkit"]["brain"] = {"uniqueness": "1", "attention": "2", "a_brain_key": "3"}
        dataset.app_config._add_path_to_sidebar_group("uniqueness", "elsewhere")
        dataset.save()
    assert groups(dataset) == {**before, "attention": ["attention"], "scores": ["uniqueness"]}
    assert Record.load(dataset).fields  # what other parts note there is kept, and so is ours
    assert dataset.info["deitkit"]["brain"]["a_brain_key"] == "3"


def test_scales_of_heatmaps_are_not_taken_for_the_users_colours(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(twin())
    scale = {"path": "attention", "name": "viridis"}
    dataset.app_config.color_scheme.colorscales = [scale]
    dataset.save()
    scheme = build(twin(), teacher()).app_config.color_scheme
    assert "teacher" in {each["path"] for each in scheme.fields}
    assert [dict(each) for each in scheme.colorscales] == [scale]


def test_arranging_again_writes_nothing(build: Build) -> None:
    dataset = build(twin())
    dataset.reload()  # the database keeps milliseconds
    stamp, scheme = dataset.last_modified_at, dataset.app_config.color_scheme.id
    arrange(dataset, Record.load(dataset))
    dataset.reload()
    assert (dataset.last_modified_at, dataset.app_config.color_scheme.id) == (stamp, scheme)
    assert len(dataset) == IMAGES
