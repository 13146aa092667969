"""The teacher: frozen, on the student's own views, in chunks that never change its answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.model import Student, build_student
from deitkit.recipe import validate
from deitkit.schema import Data, Model, Recipe
from deitkit.teacher import open_teacher
from deitkit.weights import ModelInfo, save_model

NAMES = tuple("0123456789")


def recipe(teacher: Path, **data: object) -> Recipe:
    values = {
        "model": {"name": "deit_nano", "distilled": True},
        "teacher": {"model": str(teacher)},
        "data": {"dataset": "digits", **data},
    }
    return validate(values, name="test", origins={})


@pytest.fixture
def convnet() -> Student:
    student = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10).train()
    student(torch.randn(8, 3, 32, 32))  # batch norms that know something
    return student.eval()


@pytest.fixture
def folder(convnet: Student, tmp_path: Path) -> Path:
    own = Data(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    save_model(tmp_path / "teacher", convnet, ModelInfo.of(own, (32, 32), NAMES))
    return tmp_path / "teacher"


def test_views_are_renormalised_for_the_teacher(folder: Path, convnet: Student) -> None:
    spec = recipe(folder)
    pixels = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.data.mean, spec.data.std))
    teacher = open_teacher(spec, NAMES)
    expected = convnet((pixels - 0.5) / 0.25).classes
    torch.testing.assert_close(teacher((pixels - mean) / std, group=4), expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_of_the_same_normalisation_sees_the_very_same_tensor(folder: Path, convnet: Student) -> None:
    spec = recipe(folder, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(open_teacher(spec, NAMES)(images, group=4), convnet(images).classes)


def test_answers_do_not_depend_on_how_many_groups_come_at_once(folder: Path) -> None:
    teacher = open_teacher(recipe(folder), NAMES)
    images = torch.randn(24, 3, 32, 32)
    apart = torch.cat([teacher(part, group=8) for part in images.split(8)])
    assert torch.equal(teacher(images, group=8), apart)


def test_a_teacher_never_trains(folder: Path) -> None:
    teacher = open_teacher(recipe(folder), NAMES).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    logits = teacher(torch.randn(8, 3, 32, 32), group=8)
    assert not teacher.training and not logits.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("names", [tuple("abcdefghij"), NAMES[:9], NAMES[::-1]], ids=["other", "fewer", "reordered"])
def test_other_classes_are_refused_with_the_command_that_helps(folder: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DeitkitError, match="other classes") as caught:
        open_teacher(recipe(folder), names)
    assert "deitkit finetune" in caught.value.remedy


def test_a_transformer_of_another_resolution_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    student = build_student(Model(name="deit_nano", image_size=24), 10)
    save_model(tmp_path / "teacher", student, ModelInfo.of(Data(), (24, 24), NAMES))
    with pytest.raises(DeitkitError, match="takes 24x24 px, the student 32x32") as caught:
        open_teacher(recipe(tmp_path / "teacher"), NAMES)
    assert "deitkit upscale" in caught.value.remedy
