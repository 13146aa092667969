"""Classes are matched by name, never by position; nobody's silence is taken for consent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names
from deitkit.models.student import Student
from deitkit.recipe.schema import Data, TeacherTable
from deitkit.teachers import open_teacher
from deitkit.teachers.classes import Matched, finetune_command, match_classes
from tests.teachers.conftest import NAMES, WriteFactory, recipe

UNNAMED = "def make():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"


def match(names: tuple[str, ...] | None, data: tuple[str, ...], classes: str | None = None) -> Matched:
    return match_classes(
        names, data, outputs=len(names or data), reference="t", kind="factory",
        spec=TeacherTable(model="t", classes=classes), data=Data(dataset="digits"),
    )  # fmt: skip


def test_the_same_names_in_another_order_permute_the_outputs(folder: Path, convnet: Student) -> None:
    shuffled = tuple("3147592068")
    teacher = open_teacher(recipe(folder, data={"mean": [0.5] * 3, "std": [0.25] * 3}), shuffled)
    images = torch.randn(4, 3, 32, 32)
    answered, own = teacher(images, group=4), convnet(images).classes
    for column, name in enumerate(shuffled):
        assert torch.equal(answered[:, column], own[:, NAMES.index(name)])
    assert any("another order" in note for note in teacher.facts.notes)
    assert teacher.facts.class_names == shuffled


@pytest.mark.parametrize("names", [tuple("abcdefghij"), NAMES[:9], (*NAMES, "ten")], ids=["other", "fewer", "more"])
def test_other_classes_are_refused_with_the_command_that_helps(folder: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DeitkitError, match="other classes") as caught:
        open_teacher(recipe(folder), names)
    assert f"deitkit finetune --recipe finetune/own --from {folder} --dataset digits" in caught.value.remedy
    assert any("lacks" in problem or "only it has" in problem for problem in caught.value.problems)


def test_the_command_names_the_datas_own_recipe_and_place() -> None:
    flowers = finetune_command("timm:regnety_160.deit_in1k", Data(dataset="flowers102", path="/data/flowers"))
    assert flowers == (
        "deitkit finetune --recipe finetune/flowers102 --from timm:regnety_160.deit_in1k --dataset flowers102 "
        "--data /data/flowers"
    )
    assert finetune_command("runs/t", Data(dataset="folder", path="mine")).endswith("--from runs/t --data mine")


def test_a_classifier_that_nobody_can_fine_tune_is_told_which_classes_it_needs() -> None:
    with pytest.raises(DeitkitError, match="other classes") as caught:
        match(("cat", "dog"), ("cat", "cow"))
    assert "finetune" not in caught.value.remedy and "cat, cow" in caught.value.remedy


# Unknown names


def test_unnamed_outputs_are_refused_with_three_ways_to_name_them(write_factory: WriteFactory) -> None:
    with pytest.raises(DeitkitError, match="does not say which class") as caught:
        open_teacher(recipe(write_factory(UNNAMED)), ("a", "b", "c"))
    assert len(caught.value.choices) == 3
    assert "teacher.classes=FILE" in caught.value.remedy and "teacher.classes=data" in caught.value.remedy


def test_a_list_and_both_kinds_of_file_name_the_outputs(write_factory: WriteFactory, tmp_path: Path) -> None:
    reference, names = write_factory(UNNAMED), ["c", "a", "b"]
    (tmp_path / "names.txt").write_text("c\na\n\nb\n")
    (tmp_path / "names.json").write_text(json.dumps(names))
    orders = []
    for classes in (names, str(tmp_path / "names.txt"), str(tmp_path / "names.json")):
        teacher = open_teacher(recipe(reference, classes=classes), ("a", "b", "c"))
        orders.append([int(place) for place in teacher.members[0].columns])  # type: ignore[union-attr,arg-type]
    assert orders == [[1, 2, 0]] * 3


def test_the_datas_order_is_trusted_only_when_it_is_said_and_then_noted() -> None:
    trusted = match(None, ("a", "b"), classes="data")
    assert trusted.columns is None and "as teacher.classes says" in trusted.notes[0]
    named = match(("b", "a"), ("a", "b"), classes="data")
    assert named.columns == (1, 0)  # its own names count for more than the data's order


def test_a_thousand_unnamed_outputs_are_imagenets_for_imagenet_alone() -> None:
    wnids = imagenet_names()
    assert match(None, wnids).columns is None and "ImageNet" in match(None, wnids).notes[0]
    assert match(None, wnids[::-1]).columns == tuple(range(1000))[::-1]
    with pytest.raises(DeitkitError, match="does not say which class"):
        match(None, tuple(f"class {index}" for index in range(1000)))


@pytest.mark.parametrize(
    ("classes", "what"),
    [(["a", "b"], "2 class names for 3 outputs"), (["a", "b", "a"], "twice"), ("nowhere.txt", "no readable list")],
)
def test_names_that_cannot_be_are_refused(classes: object, what: str, write_factory: WriteFactory) -> None:
    with pytest.raises(DeitkitError, match=what):
        open_teacher(recipe(write_factory(UNNAMED), classes=classes), ("a", "b", "c"))


def test_as_many_outputs_as_classes_it_must_be(write_factory: WriteFactory) -> None:
    with pytest.raises(DeitkitError, match="3 outputs, the data 10 classes"):
        open_teacher(recipe(write_factory(UNNAMED), classes="data"), NAMES)


def test_a_bare_file_of_weights_has_no_class_names(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from deitkit.models.student import build_student
    from deitkit.recipe.schema import Model

    state = build_student(Model(name="deit_nano"), 10).network.state_dict()
    save_file(state, tmp_path / "bare.safetensors")
    with pytest.raises(DeitkitError, match="does not say which class"):
        open_teacher(recipe(tmp_path / "bare.safetensors"), NAMES)
    assert open_teacher(recipe(tmp_path / "bare.safetensors", classes="data"), NAMES).facts.size == (32, 32)
