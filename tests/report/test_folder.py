"""A run's folder as the page reads it: names, sizes, places of teachers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from deitkit.models.load import ModelInfo, save_model
from deitkit.models.reference import Reference
from deitkit.models.student import build_student
from deitkit.predictions.find import kept_path, state_of
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Model
from deitkit.report.folder import RunFolder, count_parameters, short_names, teacher_folders
from deitkit.report.run_tables import ReportedRun
from deitkit.runs.folder import Run
from tests.report.conftest import MakeRun


def test_parameters_are_counted_as_torch_counts_them(tmp_path: Path) -> None:
    for name in ("deit_nano", "timm:resnet10t"):
        student = build_student(Model(name=name, image_size=32), 3)
        info = ModelInfo(("a", "b", "c"), (32, 32), (0.5,) * 3, (0.5,) * 3, 1.0, "bicubic")
        save_model(tmp_path / "model", student, info)
        expected = sum(parameter.numel() for parameter in student.network.parameters())
        assert count_parameters(tmp_path / "model/model.safetensors") == expected
        assert expected < sum(value.numel() for value in student.network.state_dict().values()) or name == "deit_nano"


def test_an_unfinished_runs_parameters_are_those_of_its_newest_checkpoint(make_run: MakeRun) -> None:
    run = make_run("student", finished=False)
    for step, size in ((5, 3), (10, 4)):
        folder = run.checkpoints / f"step-{step:09d}"
        folder.mkdir(parents=True)
        save_file({"weight": np.zeros(size, np.float32)}, folder / "model.safetensors")
    assert RunFolder(run, "student").parameters == 4


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a", "y/a", "y/b"], ["x/a", "y/a", "b"]),
        (["p/x/a", "q/x/a"], ["p/x/a", "q/x/a"]),
        (["runs/a", "runs/a"], None),
    ],
)
def test_folders_have_the_shortest_names_that_tell_them_apart(paths: list[str], names: list[str] | None) -> None:
    found = short_names([Path("/") / path for path in paths])
    assert found == names if names else len(found) == len(paths)


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("/data/runs/teacher", "/data/runs/teacher"),
        ("timm:regnety_160.deit_in1k", "regnety_160.deit_in1k"),
        ("hf-hub:owner/name@main", "name"),
        ("nets/mine.py:make?weights=files/a.pt", "make-a"),
        ("nets/teacher.onnx", "teacher"),
    ],
)
def test_a_teachers_predictions_are_looked_for_where_evaluate_keeps_them(
    make_run: MakeRun, model: str, place: str
) -> None:
    run = make_run("student", teacher=model, finished=False)
    assert teacher_folders(RunFolder(run, "student")) == {Path(place): model}


def test_every_teacher_of_a_mixture_is_looked_for(make_run: MakeRun) -> None:
    settings = {"teacher.model": ["/a", "/b"]}
    run = make_run("student", finished=False)
    recipe = run.recipe()
    assert recipe.teacher is not None
    mixed = recipe.model_copy(
        update={"teacher": recipe.teacher.model_copy(update={"model": settings["teacher.model"]})}
    )
    folder = RunFolder(Run(run.path), "student")
    folder.recipe = mixed
    assert teacher_folders(folder) == {Path("/a"): "/a", Path("/b"): "/b"}


def test_no_model_is_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from deitkit.report import build_page

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a report runs no model")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    build_page([make_run("student").path])


@pytest.fixture
def taught_by_a_function(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose teacher is a Python function that answered on the same images, shown as the run's own are."""
    monkeypatch.chdir(tmp_path)
    taught = make_run("student", teacher="mine.py:make?weights=a.pt")
    (tmp_path / "mine.py").write_text("def make(): ...")
    teacher, recipe = Reference("mine.py:make?weights=a.pt"), taught.recipe()
    answers = Predictions.load(next(make_run("teacher", heads=("class",), seed=1).predictions.glob("*.parquet")))
    settings = answers.settings | state_of(teacher, recipe.data, [recipe])
    replace(answers, settings=settings).save(kept_path(teacher, answers.dataset, answers.split))
    return RunFolder(taught, "student")


def test_a_python_teachers_answers_are_shown_under_its_functions_name(taught_by_a_function: RunFolder) -> None:
    subject = ReportedRun(taught_by_a_function)
    assert subject.teacher is not None
    assert subject.teacher.classifier == "make"


def test_answers_of_a_teacher_that_has_changed_since_are_not_shown(
    taught_by_a_function: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("def make(): ...  # another")
    assert ReportedRun(taught_by_a_function).teacher is None
    assert "--teacher" in taught_by_a_function.missing[-1].command
