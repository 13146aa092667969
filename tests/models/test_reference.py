"""Words for classifiers: what they mean, how they are named, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deitkit.errors import DeitkitError
from deitkit.models.code import teacher_of
from deitkit.models.reference import Reference, checkpoints, name_of, short_names
from deitkit.recipe.load import load_recipe
from deitkit.runs.folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two recent checkpoints and the best, and a moving average."""
    recipe = load_recipe("quickstart/student", {"teacher.model": str(tmp_path / "teacher")})
    run = Run.create(tmp_path / "student", recipe, environment={}, overwrite=False)
    for name, step in (("step-000000100", 100), ("step-000000120", 120), ("best", 100)):
        folder = run.checkpoints / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"step": step}))
    (run.path / "model_ema").mkdir()
    return run


def test_a_run_a_checkpoint_and_a_head_are_told_apart(run: Run) -> None:
    place = str(run.path)
    assert Reference.parse(place) == Reference(place)
    assert Reference.parse(f"{place}:fused") == Reference(place, head="fused")
    assert Reference.parse(f"{place}@best") == Reference(place, "best")
    assert Reference.parse(f"{place}@120:class") == Reference(place, "step-000000120", "class")
    assert Reference.parse(f"{place}@step-000000120") == Reference(place, "step-000000120")
    assert Reference.parse(f"{place}@ema").model == f"{place}/model_ema"


@pytest.mark.parametrize(
    ("text", "place", "head", "name"),
    [
        ("timm:regnety_160.deit_in1k", "timm:regnety_160.deit_in1k", "", "regnety_160.deit_in1k"),
        ("timm:deit_tiny_distilled_patch16_224:fused", "timm:deit_tiny_distilled_patch16_224", "fused",
         "deit_tiny_distilled_patch16_224"),
        ("hf-hub:owner/name@v2", "hf-hub:owner/name@v2", "", "name"),
    ],
)  # fmt: skip
def test_published_models_keep_their_colons_and_revisions(text: str, place: str, head: str, name: str) -> None:
    reference = Reference.parse(text)
    assert (reference.place, reference.head, reference.checkpoint) == (place, head, "")
    assert reference.short(1) == name
    assert reference.folder == Path(name)


def test_a_folder_whose_name_has_an_at_or_a_colon_is_that_folder(tmp_path: Path) -> None:
    for name in ("run@home", "run:class"):
        (tmp_path / name).mkdir()
        assert Reference.parse(str(tmp_path / name)) == Reference(str(tmp_path / name))


def test_names_are_as_short_as_they_can_be_and_distinct(run: Run) -> None:
    words = ["a/student", "b/student", "b/teacher", "timm:resnet50.a1_in1k", f"{run.path}@120", "b/student:class"]
    names = short_names([Reference.parse(word) for word in words])
    assert list(names.values()) == ["a/student", "b/student", "teacher", "resnet50.a1_in1k", "student@120"]


def test_a_file_of_predictions_is_called_after_its_run_or_itself() -> None:
    kept = Reference.parse("runs/student/predictions/digits-val.parquet")
    assert kept.is_table and kept.short(1) == "student" and kept.folder == Path("runs/student")
    assert Reference.parse("mine/resnet.parquet").short(1) == "resnet"


def test_a_word_is_found_by_reference_and_by_name(run: Run) -> None:
    references = [str(run.path), f"{run.path}@best", "elsewhere/teacher"]
    assert name_of(str(run.path), references) == "student"
    assert name_of(f"{run.path}:class", references) == "student class"
    assert name_of("student:fused", references) == "student fused"
    assert name_of("student@best", references) == "student@best"
    assert name_of("student@best:fused", references) == "student@best fused"
    assert name_of("student distillation", references) == "student distillation"


def test_the_best_checkpoint_comes_last_and_broken_ones_are_not_listed(run: Run) -> None:
    (run.checkpoints / "step-000000140").mkdir()
    assert checkpoints(run) == ["step-000000100", "step-000000120", "best"]


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(run: Run) -> None:
    with pytest.raises(DeitkitError, match="keeps no checkpoint '7'") as caught:
        Reference.parse(f"{run.path}@7")
    assert caught.value.choices == ("step-000000100", "step-000000120", "best", "ema")
    assert "checkpoint.keep" in caught.value.remedy


def test_a_run_without_a_moving_average_says_how_to_get_one(run: Run) -> None:
    (run.path / "model_ema").rmdir()
    with pytest.raises(DeitkitError, match="no moving average") as caught:
        Reference.parse(f"{run.path}@ema")
    assert "ema.decay" in caught.value.remedy


def test_an_unknown_head_is_refused_with_the_near_miss(run: Run) -> None:
    with pytest.raises(DeitkitError, match=r"unknown head 'fussed'\. Did you mean fused"):
        Reference.parse(f"{run.path}:fussed")


def test_a_checkpoint_of_what_is_no_run_is_refused() -> None:
    with pytest.raises(DeitkitError, match="nowhere does not exist"):
        Reference.parse("nowhere@best")


def test_the_recipes_teacher_is_taken_while_it_is_there(run: Run, tmp_path: Path) -> None:
    assert teacher_of(str(run.path)) == ""
    (tmp_path / "teacher").mkdir()
    assert teacher_of(str(run.path)) == str(tmp_path / "teacher")
    assert teacher_of(f"{run.path}@best") == str(tmp_path / "teacher")
    assert teacher_of("timm:resnet50.a1_in1k") == ""
