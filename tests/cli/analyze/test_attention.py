"""`deitkit analyze attention` on a model made here: files, folders, splits, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.cli.app import run
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student, rebuild_student
from deitkit.recipe.schema import Data, Model

Analyze = Callable[..., tuple[int, Any, str]]
INFO = ModelInfo.of(Data(dataset="digits"), (16, 16), tuple(str(digit) for digit in range(10)))


@pytest.fixture
def attention(capsys: pytest.CaptureFixture[str]) -> Analyze:
    """`deitkit analyze attention ...`; gives exit code, stdout (as JSON with --json) and stderr."""

    def call(*words: object) -> tuple[int, Any, str]:
        code = run(["analyze", "attention", *map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return call


def model_folder(path: Path, *, distilled: bool = True) -> Path:
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), 10)
    save_model(path, student, INFO)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "student")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures, none of them square."""
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"photo {number}.png")
    return tmp_path / "photos"


def test_named_images_have_figures_named_after_them(
    model: Path, photos: Path, tmp_path: Path, attention: Analyze
) -> None:
    files = [photos / f"photo {number}.png" for number in (2, 4)]
    code, found, err = attention(
        *files, "-m", model, "--layer", "all", "--token", "class", "--head", 2, "-o", tmp_path / "out", "--json"
    )
    assert code == 0, err
    kinds = ("rollout", "layers", "head2", "class_grid")
    assert found["pictures"] == [f"photo_{number}_{kind}" for number in (2, 4) for kind in kinds]
    for name in found["pictures"]:
        assert (tmp_path / "out" / f"attention_{name}.png").is_file()
    assert found["tables"][0]["columns"][:3] == ["image", "label", "class"]


def test_of_a_folder_four_images_are_taken_and_it_is_said(model: Path, photos: Path, attention: Analyze) -> None:
    code, found, err = attention(photos, "-m", model, "--json")
    assert code == 0
    assert found["numbers"]["images"] == 4
    assert "4 of 6 images" in err


def test_without_images_the_runs_own_data_is_shown_with_labels(model: Path, attention: Analyze) -> None:
    code, out, err = attention("-m", model, "--limit", 2)
    assert code == 0, err
    assert "on patches" in out
    assert len([*(model / "reports").glob("attention_*_rollout.png")]) == 2


def test_a_plain_model_shows_one_token_but_not_the_other(tmp_path: Path, photos: Path, attention: Analyze) -> None:
    plain, image = model_folder(tmp_path / "twin", distilled=False), photos / "photo 0.png"
    assert attention(image, "-m", plain)[0] == 0
    code, _, err = attention(image, "-m", plain, "--layer", "all", "--token", "distillation")
    assert code == 2
    assert "no distillation token" in err and "deitkit distill" in err


def test_what_is_not_there_is_refused(model: Path, photos: Path, tmp_path: Path, attention: Analyze) -> None:
    image = photos / "photo 0.png"
    save_model(tmp_path / "net", rebuild_student("resnet10t", {"num_classes": 10}), INFO)
    for words, told in (
        ((image,), "no model is named"),
        ((photos / "gone.png", "-m", model), "does not exist"),
        ((image, "-m", model, "--dataset", "digits"), "both image files and a data set"),
        ((image, "-m", model, "--layer", 3), "no layer 3"),
        ((image, "-m", model, "--head", "first"), "expected a number"),
        ((image, "-m", tmp_path / "net"), "has no class token"),
    ):
        code, _, err = attention(*words)
        assert code == 2
        assert told in err
