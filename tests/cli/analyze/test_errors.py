"""`deitkit analyze errors` on a short run and a model made here, with the digits: what it keeps, shows and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data, Model

Analyze = Callable[..., tuple[int, Any, str]]
INFO = ModelInfo.of(Data(dataset="digits"), (16, 16), tuple(str(digit) for digit in range(10)))
FAST = [
    "--set", "model.image_size=16", "--set", "schedule.warmup_epochs=0", "--set", "train.epochs=1", "--workers", "0",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on the digits, which has learned a little."""
    folder = tmp_path_factory.mktemp("runs") / "twin"
    assert run(["pretrain", "-r", "quickstart/twin", "-o", str(folder), *FAST]) == 0
    return folder


@pytest.fixture
def twin(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(trained, tmp_path / "twin")
    return tmp_path / "twin"


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A model folder with both heads, which knows nothing."""
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    network = build_student(Model(name="deit_nano", image_size=16, distilled=True, options=options), 10)
    save_model(tmp_path / "student", network, INFO)
    return tmp_path / "student"


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Analyze:
    """`deitkit analyze errors ...`; gives exit code, stdout (JSON with --json) and stderr. Figures take long."""

    def call(*words: object, drawn: bool = False) -> tuple[int, Any, str]:
        with monkeypatch.context() as patch:
            if not drawn:
                patch.setattr("deitkit.analysis.save.draw", lambda figure, suffix, inks=None: b"")
            code = run(["analyze", "errors", *map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return call


def rows_of(found: dict[str, Any], table: str) -> list[dict[str, Any]]:
    own = next(each for each in found["tables"] if each["name"] == table)
    return [dict(zip(own["columns"], row, strict=True)) for row in own["rows"]]


def test_a_run_is_measured_kept_and_shown_on_its_page(twin: Path, errors: Analyze) -> None:
    code, out, err = errors(twin, "--top", 7, drawn=True)
    assert code == 0, err
    assert err.count("making them") == 1
    assert "twin" in out
    assert "Most confident mistakes" in out or "most confident mistakes of twin" in out
    report = json.loads((twin / "reports/errors.json").read_text())
    table = Predictions.load(twin / "predictions/digits-val.parquet")
    assert rows_of(report, "heads")[0]["accuracy"] == pytest.approx(table.accuracy("class"))
    assert rows_of(report, "heads")[0]["errors"] == int((~table.hits("class")).sum())
    assert len(rows_of(report, "top_losses")) == 7
    assert report["pictures"] == ["top_losses", "mistakes", "doubtful"]
    for name in ("reliability", "confidences", "coverage", "confusion", *report["pictures"]):
        assert (twin / "reports" / f"errors_{name}.png").stat().st_size > 3_000
        assert (twin / "reports" / f"errors_{name}.svg").is_file()
    assert (twin / "reports/errors_bins.csv").read_text().startswith("classifier,above,to,images,")
    assert "making them" not in errors(twin)[2]
    assert run(["report", str(twin), "-o", str(twin / "page.html")]) == 0
    page = (twin / "page.html").read_text()
    assert "Errors on 360 images of digits/val" in page
    assert "top losses" in page
    assert page.count("data:image/svg+xml") >= 3


def test_the_losses_are_those_of_the_label(twin: Path, errors: Analyze) -> None:
    _, found, _ = errors(twin, "--json", "--no-images")
    table = Predictions.load(twin / "predictions/digits-val.parquet")
    logits = table.heads["class"].logits.astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(360), table.labels]
    worst = np.argsort(-losses)[:24]
    assert [row["image"] for row in rows_of(found, "top_losses")] == [table.ids[row] for row in worst]
    np.testing.assert_allclose([row["loss"] for row in rows_of(found, "top_losses")], losses[worst], rtol=1e-5)
    assert "pictures" not in found


def test_heads_stand_side_by_side_and_one_can_be_named(student: Path, twin: Path, errors: Analyze) -> None:
    _, found, _ = errors(student, twin, "--json", "--no-images")
    names = [row["classifier"] for row in rows_of(found, "heads")]
    assert names == ["student class", "student distillation", "student fused", "twin"]
    assert found["numbers"]["listed"] == "student fused"
    _, found, err = errors(f"{student}:fused", twin, "--json", "--no-images", "-o", student / "own")
    assert [row["classifier"] for row in rows_of(found, "heads")] == ["student fused", "twin"]
    assert "making them" not in err
    assert (student / "own/errors.json").is_file()
    _, found, _ = errors(f"{twin}@best", student, "--json", "--no-images")
    assert found["numbers"]["listed"] == "twin@best"


def test_training_images_are_warned_of(twin: Path, errors: Analyze) -> None:
    _, found, err = errors(twin, "--split", "train", "--json", "--no-images")
    assert "note: twin learned from these images (digits/train)" in err
    assert found["numbers"]["notes"][0] in err
    assert found["title"].endswith("digits/train (in-sample)")
    shutil.copy(twin / "predictions/digits-train.parquet", twin.parent / "somebody.parquet")
    assert "a model may have learned from these images" in errors(twin.parent / "somebody.parquet", "--no-images")[2]
    assert "learned from" not in errors(twin, "--no-images")[2]


def test_a_table_without_logits_shows_what_it_can_and_says_what_is_missing(twin: Path, errors: Analyze) -> None:
    table = Predictions.load(twin / "predictions/digits-val.parquet")
    bare = replace(table, heads={name: replace(head, logits=None) for name, head in table.heads.items()})
    bare.save(twin.parent / "alone/mine.parquet")
    code, found, err = errors(twin.parent / "alone/mine.parquet", "--json")
    assert code == 0, err
    assert "no logits are kept for mine" in err
    assert "deitkit evaluate RUN --logits" in err
    assert {each["name"] for each in found["tables"]} >= {"heads", "calibration", "bins", "mistakes"}
    assert found["pictures"] == ["mistakes"]  # the digits are bundled, so they are found without a run


def test_images_that_have_moved_are_said_do_no_harm_and_their_paths_do_not_fill_the_screen(
    twin: Path, tmp_path: Path, errors: Analyze
) -> None:
    source = open_source(Data(dataset="digits"), "val")
    for index in range(40):
        for split in ("train", "val"):
            path = tmp_path / "mine" / split / str(source.labels[index]) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(index))
    code, found, err = errors(twin, "--data", tmp_path / "mine", "--json")
    assert code == 0, err
    assert "mistakes" in found["pictures"]
    table = next((twin / "predictions").glob("*mine.parquet"))
    (tmp_path / "mine").rename(tmp_path / "moved")
    code, found, err = errors(table, "--json")
    assert code == 0, err
    assert "pictures could not be shown, the first because" in err
    assert "pictures" not in found
    assert any("could not be shown" in note for note in found["numbers"]["notes"])
    assert rows_of(found, "mistakes")[0]["path"].startswith(str(tmp_path / "mine"))
    assert str(tmp_path / "mine") not in errors(table, "--no-images")[1]


def test_long_tables_are_left_to_files(twin: Path, errors: Analyze) -> None:
    _, out, err = errors(twin, "--no-images")
    assert "threshold" not in out
    assert "wrote errors.json" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "does not exist"),
        (["{twin}", "--split", "tset"], "unknown split 'tset'"),
        (["{twin}:distillation"], "no head 'distillation'"),
        (["{twin}@123"], "keeps no checkpoint"),
        (["{twin}", "--top", "0"], "--top"),
        (["{twin}", "--bins", "0"], "--bins"),
        (["none.parquet"], "no predictions at"),
    ],
)
def test_what_is_not_there_is_refused(twin: Path, errors: Analyze, words: list[str], message: str) -> None:
    code, _, err = errors(*(word.format(twin=twin) for word in words), "--no-images")
    assert code == 2
    assert message in err


def test_predictions_of_other_data_and_a_run_without_a_model_are_refused(twin: Path, errors: Analyze) -> None:
    path = twin / "predictions/digits-val.parquet"
    replace(Predictions.load(path), dataset="letters").save(twin.parent / "letters.parquet")
    code, _, err = errors(twin, twin.parent / "letters.parquet", "--no-images")
    assert code == 2
    assert "different data" in err
    shutil.rmtree(twin / "model")
    shutil.rmtree(twin / "predictions")
    code, _, err = errors(twin, "--no-images")
    assert code == 2
    assert "remedy" in err
