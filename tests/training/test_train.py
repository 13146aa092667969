"""`deitkit.train`, `evaluate`, `predict` and the analyses from Python: the same as the verbs, by the same functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deitkit
from deitkit.recipe.schema import Recipe
from deitkit.training.finish import FitResult

FAST = {"model.image_size": 16, "schedule.warmup_epochs": 0.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A teacher of one epoch on the digits."""
    output = tmp_path_factory.mktemp("runs") / "teacher"
    return deitkit.train("quickstart/teacher", output, epochs=1, changes=FAST, device="cpu")


def test_values_stand_in_the_recipe_with_their_origin(trained: FitResult) -> None:
    recipe = trained.run.recipe()
    assert (recipe.train.epochs, recipe.model.size) == (1, (16, 16))
    assert recipe.origins["train.epochs"] == recipe.origins["model.image_size"] == "deitkit.train"


def test_a_recipe_object_is_trained_as_the_name_is(trained: FitResult, tmp_path: Path) -> None:
    recipe = deitkit.load_recipe("quickstart/teacher", FAST)
    assert isinstance(recipe, Recipe)
    again = deitkit.train(recipe, tmp_path / "again", epochs=1, device="cpu")
    weights = [run.model / "model.safetensors" for run in (trained.run, again.run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_without_a_recipe_it_is_chosen_for_the_images(trained: FitResult, tmp_path: Path) -> None:
    tuned = deitkit.train(
        start=trained.run.path, output=tmp_path / "tuned", dataset="digits", epochs=1, device="cpu",
        changes={"schedule.warmup_epochs": 0.0},
    )  # fmt: skip
    recipe = tuned.run.recipe()
    assert recipe.name.startswith("finetune/")
    assert recipe.start is not None and recipe.start.weights == str(trained.run.path)


def test_evaluation_counts_what_its_predictions_say(trained: FitResult) -> None:
    found = deitkit.evaluate(trained.run.path, device="cpu")
    table = found.predictions
    right = int((table.top1("class") == table.labels).sum())
    assert found.accuracy["class"].right == right
    assert found.top1 == {"class": right / len(table.labels)} == trained.top1
    assert sum(counts["class"] for counts in found.per_class.values()) == right
    assert deitkit.Predictions.load(found.path).fingerprint == table.fingerprint


def test_image_files_are_classified(trained: FitResult, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    (image,) = deitkit.predict(trained.run.path, tmp_path, top=3, device="cpu")
    assert image.path == tmp_path / "black.png"
    confidence = [guess.confidence for guess in image.heads["class"]]
    assert confidence == sorted(confidence, reverse=True) and len(confidence) == 3
    assert {guess.name for guess in image.heads["class"]} <= set("0123456789")


def test_analyses_begin_with_a_reference(trained: FitResult) -> None:
    report = deitkit.analyze_errors(trained.run.path, images=False, device="cpu")
    assert isinstance(report, deitkit.Report)
    assert report.name == "errors"
    assert deitkit.analyze_tradeoff(trained.run.path, x="parameters", speed=False, device="cpu").name == "tradeoff"
