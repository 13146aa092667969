"""`deitkit analyze tokens` on models made here and the digits: reports, controls, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.app import run
from deitkit.data.open import open_source, spread_over
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student, rebuild_student
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Data, Model
from deitkit.runs.folder import Run

Analyze = Callable[..., tuple[int, Any, str]]
DIGITS = tuple(str(digit) for digit in range(10))


@pytest.fixture
def tokens(capsys: pytest.CaptureFixture[str]) -> Analyze:
    """`deitkit analyze tokens ...`; gives exit code, stdout (as JSON with --json) and stderr."""

    def call(*words: object) -> tuple[int, Any, str]:
        code = run(["analyze", "tokens", *map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return call


def model_folder(path: Path, *, distilled: bool = True, depth: int = 2) -> Path:
    options = {"embed_dim": 32, "depth": depth, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), 10, seed=1)
    save_model(path, student, ModelInfo.of(Data(dataset="digits"), (16, 16), DIGITS))
    return path


def test_a_report_is_printed_and_saved_with_every_class(tmp_path: Path, tokens: Analyze) -> None:
    model = model_folder(tmp_path / "student")
    code, found, err = tokens(model, "--limit", 40, "--json")
    assert code == 0, err
    assert found["numbers"]["images"] == {"student": 40}
    assert list(found["numbers"]["cosine"]["student"]) == ["embedding", "input", "block 1", "block 2", "final norm"]
    assert json.loads((model / "reports" / "tokens.json").read_text()) == found
    rows = list(csv.DictReader((model / "reports" / "tokens_classes.csv").open()))
    assert sum(int(row["images"]) for row in rows) == 40
    assert len({row["class"] for row in rows}) > 5
    assert {path.name for path in (model / "reports").glob("*.svg")} == {
        "tokens_cosine.svg", "tokens_cka.svg", "tokens_norms.svg"
    }  # fmt: skip


def test_runs_of_other_depth_and_a_control_stand_side_by_side(tmp_path: Path, tokens: Analyze) -> None:
    folders = [model_folder(tmp_path / name, depth=depth) for name, depth in (("student", 2), ("deep", 3), ("two", 2))]
    code, out, err = tokens(*folders[:2], "--control", folders[2], "--limit", 12, "-o", tmp_path / "out")
    assert code == 0, err
    assert "two (control)" in out and "deep" in out
    assert (tmp_path / "out" / "tokens_cosine_3_layers.png").is_file()


def run_folder(path: Path, recipe: str, changes: dict[str, Any]) -> Path:
    """A run whose recipe says what its second token learned from, with random weights."""
    created = Run.create(path, load_recipe(recipe, changes), environment={}, overwrite=False)
    model_folder(created.model)
    return path


def test_a_run_whose_second_token_learned_the_labels_is_a_control(tmp_path: Path, tokens: Analyze) -> None:
    two = run_folder(
        tmp_path / "two", "quickstart/twin", {"model.distilled": True, "loss.second_token": "label"}
    )  # fmt: skip
    student = run_folder(tmp_path / "student", "quickstart/student", {"teacher.model": "runs/teacher"})
    code, found, err = tokens(student, two, "--dataset", "digits", "--limit", 4, "--json")
    assert code == 0, err
    assert found["numbers"]["cosine"].keys() == {"student", "two (control)"}
    assert not found["figures"][0]["references"], "the paper's numbers are of ImageNet"
    assert "alike than those of two (control), whose tokens have the same target" in found["verdict"][1]
    code, _, err = tokens(two, "--control", student, "--dataset", "digits", "--limit", 4)
    assert code == 2
    assert "student is no control" in err and "ablation/two_class_tokens" in err


def test_images_are_taken_from_the_whole_split() -> None:
    source = open_source(Data(dataset="digits"), "val")
    few = spread_over(source, 10)
    assert len(few) == 10
    assert (few.ids[0], few.ids[-1]) == (source.ids[0], source.ids[len(source) - 1])
    assert spread_over(source, None) is source and spread_over(source, 10**9) is source


def test_a_plain_model_is_refused_by_name(tmp_path: Path, tokens: Analyze) -> None:
    models = [model_folder(tmp_path / "student"), model_folder(tmp_path / "twin", distilled=False)]
    code, _, err = tokens(*models, "--limit", 4)
    assert code == 2
    assert "twin has only the token class" in err and "deitkit distill" in err
    assert not (models[0] / "reports").exists()


def test_a_convnet_is_refused(tmp_path: Path, tokens: Analyze) -> None:
    save_model(
        tmp_path / "net", rebuild_student("resnet10t", {"num_classes": 10}),
        ModelInfo.of(Data(dataset="digits"), (32, 32), DIGITS),
    )  # fmt: skip
    code, _, err = tokens(tmp_path / "net", "--limit", 4)
    assert code == 2
    assert "resnet10t has no class token" in err
