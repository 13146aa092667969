"""`deitkit analyze positions` on a model made here and the digits: options, files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.app import run
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student, rebuild_student
from deitkit.recipe.schema import Data, Model

Analyze = Callable[..., tuple[int, Any, str]]
INFO = ModelInfo.of(Data(dataset="digits"), (16, 16), tuple(str(digit) for digit in range(10)))


@pytest.fixture
def positions(capsys: pytest.CaptureFixture[str]) -> Analyze:
    """`deitkit analyze positions ...`; gives exit code, stdout (as JSON with --json) and stderr."""

    def call(*words: object) -> tuple[int, Any, str]:
        code = run(["analyze", "positions", *map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True, options=options), 10)
    save_model(tmp_path / "student", student, INFO)
    return tmp_path / "student"


def test_every_size_and_mode_is_measured_and_saved_without_pixels_in_json(model: Path, positions: Analyze) -> None:
    code, found, err = positions(model, "--sizes", "16,24x16", "--modes", "bicubic,bilinear", "--limit", 10, "--json")
    assert code == 0, err
    norms, accuracy = found["tables"]
    assert [row[:3] for row in norms["rows"]] == [
        ["16", "4x4", "as trained"], ["24x16", "6x4", "bicubic"], ["24x16", "6x4", "bilinear"]
    ]  # fmt: skip
    assert [row[-1] for row in accuracy["rows"]] == [10, 10, 10]
    assert found["pictures"] == ["similarity", "resampled_norms", "resampled_similarity"]
    assert "24x16 px, bilinear: class" in err
    assert (model / "reports" / "positions_resampled_norms.svg").is_file()
    assert (model / "reports" / "positions_accuracy.csv").is_file()


def test_norms_alone_need_no_images(model: Path, tmp_path: Path, positions: Analyze) -> None:
    code, out, err = positions(model, "--no-accuracy", "--data", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert code == 0, err
    assert "bicubic-antialias" in out
    assert not (tmp_path / "out" / "positions_accuracy.csv").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sizes", "18"], "no multiple of the patch, 4x4 px"),
        (["--sizes", "16,big"], "no size in pixels"),
        (["--modes", "bicubik"], "Did you mean bicubic?"),
    ],
)
def test_wrong_sizes_and_modes_are_refused(model: Path, positions: Analyze, options: list[str], words: str) -> None:
    code, _, err = positions(model, *options)
    assert code == 2
    assert words in err


def test_a_convnet_is_refused(tmp_path: Path, positions: Analyze) -> None:
    save_model(tmp_path / "net", rebuild_student("resnet10t", {"num_classes": 10}), INFO)
    code, _, err = positions(tmp_path / "net")
    assert code == 2
    assert "has no position embeddings" in err
