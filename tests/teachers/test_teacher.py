"""The teacher: frozen, on the student's own views, in chunks that never change its answers; and mixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deitkit.cli.app import run
from deitkit.data.views.stream import StreamShape
from deitkit.errors import DeitkitError
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import Student, build_student
from deitkit.recipe.schema import Data, Model, TeacherTable
from deitkit.teachers import check_chunk, kind_of, open_classifier, open_teacher
from tests.teachers.conftest import NAMES, OWN, recipe, seen

# Adaptation


def test_views_are_renormalised_for_the_teacher(folder: Path, convnet: Student) -> None:
    spec = recipe(folder)
    pixels = torch.rand(4, 3, 32, 32)
    teacher = open_teacher(spec, NAMES)
    expected = convnet((pixels - 0.5) / 0.25).classes
    torch.testing.assert_close(teacher(seen(pixels, spec), group=4), expected, rtol=1e-4, atol=1e-5)
    assert any("normalised anew" in note for note in teacher.facts.notes)


def test_a_teacher_of_the_same_normalisation_sees_the_very_same_tensor(folder: Path, convnet: Student) -> None:
    teacher = open_teacher(recipe(folder, data={"mean": [0.5] * 3, "std": [0.25] * 3}), NAMES)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(teacher(images, group=4), convnet(images).classes)
    assert not teacher.facts.notes


def test_a_transformer_of_another_size_sees_resized_views_and_says_so(tmp_path: Path) -> None:
    student = build_student(Model(name="deit_nano", image_size=24), 10).eval()
    save_model(tmp_path / "teacher", student, ModelInfo.of(Data(), (24, 24), NAMES))
    teacher = open_teacher(recipe(tmp_path / "teacher"), NAMES)
    images = torch.randn(4, 3, 32, 32)
    smaller = torch.nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True)
    assert torch.equal(teacher(images, group=4), student(smaller).classes)
    assert teacher.facts.size == (24, 24)
    assert any("from 32x32 to 24x24 px" in note for note in teacher.facts.notes)


def test_a_transformer_cannot_be_told_to_run_at_another_size(tmp_path: Path) -> None:
    student = build_student(Model(name="deit_nano", image_size=24), 10)
    save_model(tmp_path / "teacher", student, ModelInfo.of(Data(), (24, 24), NAMES))
    with pytest.raises(DeitkitError, match="takes 24x24 px only") as caught:
        open_teacher(recipe(tmp_path / "teacher", image_size=32), NAMES)
    assert "deitkit upscale" in caught.value.remedy


def test_a_convnet_runs_at_the_students_size_unless_the_recipe_names_one(folder: Path, convnet: Student) -> None:
    save_model(folder, convnet, ModelInfo.of(Data(), (64, 64), NAMES))  # trained at another size
    images = torch.randn(4, 3, 32, 32)
    as_it_is = open_teacher(recipe(folder), NAMES)
    assert as_it_is.facts.size == (32, 32) and torch.equal(as_it_is(images, group=4), convnet(images).classes)
    larger = open_teacher(recipe(folder, image_size=48), NAMES)
    assert larger.facts.size == (48, 48)
    assert not torch.equal(larger(images, group=4), convnet(images).classes)


def test_a_distilled_teacher_answers_with_its_heads_fused(tmp_path: Path) -> None:
    student = build_student(Model(name="deit_nano", distilled=True), 10).eval()
    save_model(tmp_path / "teacher", student, ModelInfo.of(Data(), (32, 32), NAMES))
    images = torch.randn(4, 3, 32, 32)
    answered = open_teacher(recipe(tmp_path / "teacher"), NAMES)(images, group=4).softmax(dim=1)
    torch.testing.assert_close(answered, student(images).fused())


# Frozen, and in chunks


def test_answers_do_not_depend_on_how_many_groups_come_at_once(folder: Path) -> None:
    teacher = open_teacher(recipe(folder), NAMES)
    images = torch.randn(24, 3, 32, 32)
    apart = torch.cat([teacher(part, group=8) for part in images.split(8)])
    assert torch.equal(teacher(images, group=8), apart)


def test_a_teacher_never_trains(folder: Path) -> None:
    teacher = open_teacher(recipe(folder), NAMES).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    logits = teacher(torch.randn(8, 3, 32, 32), group=8)
    assert not any(module.training for module in teacher.modules()) and not logits.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 1), (2, 1), (1, 4)])
def test_chunks_must_fit_into_every_part(ranks: int, accumulation: int) -> None:
    shape = StreamShape(1000, 256, 1, 32, ranks=ranks, accumulation=accumulation)  # 8 groups a batch
    for chunk in range(1, 9):
        spec = TeacherTable(model="runs/t", chunk=chunk)
        if shape.groups_per_part % chunk == 0:
            check_chunk(shape, spec)
        else:
            with pytest.raises(DeitkitError, match=r"teacher\.chunk") as caught:
                check_chunk(shape, spec)
            assert all(shape.groups_per_part % int(fit) == 0 for fit in caught.value.choices)


# Which teacher


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("timm:regnety_160.deit_in1k", "model"), ("hf-hub:timm/resnet10t.c3_in1k", "model"), ("runs/teacher", "model"),
        ("weights.pth", "model"), ("teacher", "model"), ("exports/resnet.onnx", "onnx"),
        ("torchvision.models:resnet18", "factory"), ("examples/cifar_resnet.py:resnet56", "factory"),
        ("examples/cifar_resnet.py:resnet56?weights=runs/a:b.safetensors", "factory"), ("teacher.py", "factory"),
    ],
)  # fmt: skip
def test_a_references_form_says_its_kind(reference: str, kind: str) -> None:
    assert kind_of(reference) == kind


def test_a_named_teacher_without_weights_is_refused_with_what_helps_there_and_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("deitkit.models.hub.hub.get_hf_file_metadata", nowhere)
    monkeypatch.setattr("deitkit.models.hub.hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(DeitkitError, match="not at hand") as caught:
        open_teacher(recipe("timm:regnety_160.deit_in1k"), NAMES)
    assert "hf download" in caught.value.remedy and "--teacher regnety_160" in caught.value.remedy
    with pytest.raises(DeitkitError, match="timm publishes no weights"):
        open_teacher(recipe("timm:regnety_160.nobody"), NAMES)


def test_a_classifier_can_be_looked_at_whose_classes_do_not_fit(folder: Path, convnet: Student) -> None:
    classifier = open_classifier(str(folder), TeacherTable(model=str(folder)))
    assert classifier.class_names == NAMES and classifier.outputs == 10 and classifier.kind == "model"
    assert (classifier.input.mean, classifier.input.size) == (OWN.mean, None)
    pixels = torch.rand(2, 3, 32, 32)
    answered = classifier.answering(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(pixels)
    torch.testing.assert_close(answered, convnet((pixels - 0.5) / 0.25).classes)


# Mixtures


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A transformer of another size, normalisation and class order."""
    student = build_student(Model(name="deit_nano", image_size=24, options={"depth": 1}), 10, seed=5)
    save_model(tmp_path / "other", student, ModelInfo.of(Data(), (24, 24), NAMES[::-1]))
    return tmp_path / "other"


def test_a_mixture_averages_the_probabilities_of_matched_classes(folder: Path, other: Path) -> None:
    images = torch.randn(6, 3, 32, 32)
    first, second = (open_teacher(recipe(path), NAMES)(images, group=6).softmax(dim=1) for path in (folder, other))
    mixture = open_teacher(recipe([str(folder), str(other)]), NAMES)
    torch.testing.assert_close(mixture(images, group=6).softmax(dim=1), (first + second) / 2)
    assert mixture.facts.kind == "mixture" and mixture.facts.references == (str(folder), str(other))
    weighted = open_teacher(recipe([str(folder), str(other)], mixture=[3.0, 1.0]), NAMES)
    torch.testing.assert_close(weighted(images, group=6).softmax(dim=1), 0.75 * first + 0.25 * second)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_are_no_shares_are_refused(weights: list[float], folder: Path) -> None:
    with pytest.raises(DeitkitError, match=r"teacher\.mixture"):
        open_teacher(recipe([str(folder), str(folder)], mixture=weights), NAMES)


def test_in_a_mixture_the_recipe_fills_gaps_only(folder: Path, other: Path) -> None:
    mixture = open_teacher(recipe([str(folder), str(other)], mean=[0.1] * 3, classes=list("abcdefghij")), NAMES)
    assert [member.mean for member in mixture.facts.members] == [OWN.mean, Data().mean]
    alone = open_teacher(recipe(folder, mean=[0.1] * 3), NAMES)
    assert alone.facts.mean == (0.1, 0.1, 0.1) and any("the recipe's counts" in note for note in alone.facts.notes)


def test_teacher_may_be_repeated_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    def model(*teachers: str) -> Any:
        words = [word for teacher in teachers for word in ("--teacher", teacher)]
        assert run(["distill", "--recipe", "quickstart/student", *words, "--dry-run", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["teacher"]["model"]

    assert model("runs/a") == "runs/a"
    assert model("runs/a", "b.onnx") == ["runs/a", "b.onnx"]


# Fingerprint


def test_the_fingerprint_changes_with_whatever_changes_the_answers(folder: Path, other: Path, convnet: Student) -> None:
    base = recipe(folder)
    with torch.no_grad():
        convnet.network.fc.bias[0] += 1e-3
    changed = folder.with_name("changed")
    save_model(changed, convnet, ModelInfo.of(OWN, (32, 32), NAMES))
    coarse = base.model_copy(update={"train": base.train.model_copy(update={"precision": "fp32"})})
    both = [str(folder), str(other)]
    prints = [
        open_teacher(spec, names).facts.fingerprint
        for spec, names in (
            (base, NAMES), (base, NAMES[::-1]), (recipe(changed), NAMES), (recipe(folder, mean=[0.4] * 3), NAMES),
            (recipe(folder, image_size=48), NAMES), (coarse, NAMES), (recipe(folder, channels="bgr"), NAMES),
            (recipe(both), NAMES), (recipe(both[::-1]), NAMES), (recipe(both, mixture=[2.0, 1.0]), NAMES),
        )
    ]  # fmt: skip
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_does_not_change_with_the_place_or_what_the_notes_say(folder: Path, convnet: Student) -> None:
    moved = folder.rename(folder.with_name("moved"))
    save_model(folder, convnet, ModelInfo.of(OWN, (32, 32), NAMES))
    here, there = (open_teacher(recipe(path), NAMES).facts for path in (folder, moved))
    assert here == replace(there, reference=here.reference)
