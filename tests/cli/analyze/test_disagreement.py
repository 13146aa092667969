"""`deitkit analyze disagreement` on tiny real runs: what it compares, finds, keeps and refuses."""

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
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run

Analyze = Callable[..., dict[str, Any]]
FAST = [
    "--set", "model.image_size=16", "--set", "schedule.warmup_epochs=0", "--workers", "0", "--device", "cpu",
]  # fmt: skip
ONE = ["--set", "train.epochs=1"]
TWO = ["--set", "train.epochs=2", "--set", "train.eval_every=1", "--set", "checkpoint.every_steps=22"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a twin, and a distilled student of two epochs with a moving average, on the digits."""
    root = tmp_path_factory.mktemp("runs")
    assert run(["pretrain", "-r", "quickstart/teacher", "-o", str(root / "teacher"), *FAST, *ONE]) == 0
    assert run(["pretrain", "-r", "quickstart/twin", "-o", str(root / "twin"), *FAST, *ONE]) == 0
    assert run(
        ["distill", "-r", "quickstart/student", "--teacher", str(root / "teacher"), "-o", str(root / "student"),
         "--set", "ema.decay=0.9", *FAST, *TWO]
    ) == 0  # fmt: skip
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Copies that a test may change."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def analyze(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Analyze:
    """The report as JSON; or the error, with exit code 2. Figures take most of the time, so few are drawn."""

    def call(*words: object, fails: bool = False, drawn: bool = False) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            if not drawn:
                patch.setattr("deitkit.analysis.save.draw", lambda figure, suffix, inks=None: b"")
            code = run(["analyze", "disagreement", *map(str, words), "--json", "--device", "cpu"])
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err + captured.out
        found: dict[str, Any] = json.loads(captured.out)
        return found | {"said": captured.err}

    return call


def names_of(found: dict[str, Any]) -> list[str]:
    return list(found["numbers"]["accuracy"])


def rows_of(found: dict[str, Any], table: str) -> list[list[Any]]:
    return next(each["rows"] for each in found["tables"] if each["name"] == table)


def keep(path: Path, **changes: Any) -> None:
    """Write predictions back with other values."""
    replace(Predictions.load(path), **changes).save(path)


# What is compared


def test_runs_and_a_teacher_are_compared_and_the_report_is_written(runs: Path, analyze: Analyze) -> None:
    found = analyze(
        runs / "twin", runs / "student", "--teacher", runs / "teacher", "--baseline", runs / "twin",
        "--between", "teacher", "student:class", drawn=True,
    )  # fmt: skip
    assert names_of(found) == ["teacher", "twin", "student class", "student distillation", "student fused"]
    assert "making them" not in found["said"]
    written = {path.name for path in (runs / "student" / "reports").iterdir()}
    for name in ("matrix", "between", "moved"):
        assert {f"disagreement_{name}.csv", f"disagreement_{name}.png", f"disagreement_{name}.svg"} <= written
    for name in ("pairs", "kinds", "kappa", "mcnemar", "classes"):
        assert f"disagreement_{name}.csv" in written
    tables = {name: Predictions.load(runs / name / "predictions/digits-val.parquet") for name in ("teacher", "student")}
    teacher, student = tables["teacher"].top1("class"), tables["student"].top1("class")
    rate = next(row[4] for row in rows_of(found, "pairs") if row[:2] == ["teacher", "student class"])
    assert rate == pytest.approx((teacher != student).mean())
    assert sum(row[2] for row in rows_of(found, "between") if row[0] != row[1]) == (teacher != student).sum()


def test_checkpoints_averages_and_single_heads_are_classifiers_and_are_kept(runs: Path, analyze: Analyze) -> None:
    first, last = (path.name for path in sorted((runs / "student/checkpoints").glob("step-*")))
    words = [f"{runs}/student@{first}:class", f"{runs}/student@best:fused", f"{runs}/student@ema:fused", runs / "twin"]
    found = analyze(*words)
    assert names_of(found) == [
        f"student@{int(first.removeprefix('step-'))} class", "student@best fused", "student@ema fused", "twin"
    ]  # fmt: skip
    assert found["said"].count("making them") == 3
    kept = {path.name for path in (runs / "student" / "predictions").iterdir()}
    assert kept == {"digits-val.parquet", "digits-val@best.parquet", f"digits-val@{first}.parquet"}
    assert (runs / "student/model_ema/predictions/digits-val.parquet").is_file()
    assert "making them" not in analyze(*words)["said"]
    assert last != first


def test_the_last_checkpoints_predictions_are_the_runs_own(runs: Path, analyze: Analyze) -> None:
    last = max((runs / "student/checkpoints").glob("step-*")).name
    analyze(runs / "twin", f"{runs}/student@{last}")
    own, checkpoint = (
        Predictions.load(runs / "student/predictions" / name)
        for name in ("digits-val.parquet", f"digits-val@{last}.parquet")
    )
    for head in ("class", "distillation", "fused"):
        np.testing.assert_array_equal(own.top1(head), checkpoint.top1(head))


def test_a_checkpoint_of_an_unfinished_run_is_a_classifier(runs: Path, analyze: Analyze) -> None:
    last = max((runs / "student/checkpoints").glob("step-*")).name
    own = Predictions.load(runs / "student/predictions/digits-val.parquet")
    for name in ("model", "predictions"):
        shutil.rmtree(runs / "student" / name)
    analyze(runs / "twin", f"{runs}/student@{last}")
    remade = Predictions.load(runs / "student/predictions" / f"digits-val@{last}.parquet")
    np.testing.assert_array_equal(own.top1("fused"), remade.top1("fused"))


def test_predictions_of_an_earlier_best_are_made_anew(runs: Path, analyze: Analyze) -> None:
    analyze(runs / "twin", f"{runs}/student@best")
    path = runs / "student/predictions/digits-val@best.parquet"
    keep(path, settings=Predictions.load(path).settings | {"step": 1})
    assert "making them" in analyze(runs / "twin", f"{runs}/student@best")["said"]


def test_ema_adds_the_averages_of_the_runs_that_have_one(runs: Path, analyze: Analyze) -> None:
    found = analyze(runs / "twin", f"{runs}/student:fused", "--ema")
    assert names_of(found) == ["twin", "student fused", "student@ema fused"]
    assert analyze(runs / "twin", runs / "teacher", "--ema", fails=True)["remedy"].startswith("train with --set ema")


def test_files_of_predictions_need_no_run(runs: Path, tmp_path: Path, analyze: Analyze) -> None:
    for name in ("teacher", "twin"):
        shutil.copy(runs / name / "predictions/digits-val.parquet", tmp_path / f"my_{name}.parquet")
    shutil.rmtree(runs)
    found = analyze(tmp_path / "my_teacher.parquet", tmp_path / "my_twin.parquet")
    assert names_of(found) == ["my_teacher", "my_twin"]
    assert (tmp_path / "reports" / "disagreement.json").is_file()


def test_predictions_on_other_images_are_kept_until_the_images_change(
    runs: Path, tmp_path: Path, analyze: Analyze
) -> None:
    source = open_source(Data(dataset="digits"), "val")

    def write(index: int) -> None:
        path = tmp_path / "mine" / "val" / str(source.labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(index))

    for index in range(60):
        write(index)
    shutil.copytree(tmp_path / "mine" / "val", tmp_path / "mine" / "train")
    words = [runs / "twin", runs / "teacher", "--data", tmp_path / "mine"]
    found = analyze(*words)
    assert found["numbers"]["images"] == 60 and found["said"].count("making them") == 2
    assert "making them" not in analyze(*words)["said"]
    write(60)
    found = analyze(*words)
    assert found["numbers"]["images"] == 61 and found["said"].count("making them") == 2
    shutil.rmtree(tmp_path / "mine")
    assert "mine" in analyze(*words, fails=True)["error"]


def test_a_teacher_of_other_data_is_asked_about_the_runs_own(runs: Path, analyze: Analyze) -> None:
    recipe = runs / "teacher" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('dataset = "digits"', 'dataset = "cifar10"'))
    found = analyze(runs / "twin", "--teacher", runs / "teacher")
    assert found["title"].endswith("digits/val") and names_of(found) == ["teacher", "twin"]


def test_a_model_named_twice_is_there_once_and_equal_names_are_told_apart(runs: Path, analyze: Analyze) -> None:
    shutil.copytree(runs / "twin", runs / "other" / "twin")
    found = analyze(runs / "twin", runs / "twin", runs / "other" / "twin")
    assert names_of(found) == ["runs/twin", "other/twin"]


def test_a_long_table_is_cut_on_the_screen_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", "disagreement", str(runs / "twin"), str(runs / "teacher"), "--between", "twin", "teacher"]
    assert run([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    rows = len((runs / "teacher/reports/disagreement_between.csv").read_text().splitlines()) - 1
    assert rows <= 20 or f"10 of {rows:,} rows; all are in disagreement_between.csv" in out
    assert "McNemar's test" in out


# Over training


def test_by_epoch_reads_what_was_recorded_without_running_a_model(runs: Path, analyze: Analyze) -> None:
    run_ = Run(runs / "student")
    lines = run_.metrics()
    for line in lines:
        if "top1" in line:
            line["agreement"] = {"teacher": {"class": 0.5, "distillation": 0.6, "fused": 0.55}, "heads": 0.9}
            line["teacher_top1"] = 0.8
    run_.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(run_.checkpoints)
    shutil.rmtree(runs / "teacher")
    found = analyze(runs / "student", "--by-epoch")
    assert found["name"] == "by_epoch" and found["numbers"]["origins"] == ["metrics.jsonl"]
    assert found["numbers"]["last"]["distillation"] == 0.6
    assert (runs / "student/reports/by_epoch_teacher.svg").is_file()


def test_by_epoch_measures_checkpoints_where_nothing_was_recorded(runs: Path, analyze: Analyze) -> None:
    run_ = Run(runs / "student")
    lines = [{key: value for key, value in line.items() if key != "agreement"} for line in run_.metrics()]
    run_.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = analyze(runs / "student", "--by-epoch")
    own, teacher = (Predictions.load(runs / name / "predictions/digits-val.parquet") for name in ("student", "teacher"))
    assert found["numbers"]["last"]["epoch"] == 2.0
    for head in ("class", "distillation", "fused"):
        assert found["numbers"]["last"][head] == pytest.approx((own.top1(head) == teacher.top1("class")).mean())
    assert found["numbers"]["teacher_accuracy"] == teacher.accuracy("class")
    assert len(rows_of(found, "moments")) == 2


def test_by_epoch_of_a_twin_measures_its_checkpoints_against_the_teacher_named(runs: Path, analyze: Analyze) -> None:
    found = analyze(runs / "twin", "--by-epoch", "--teacher", runs / "teacher")
    assert found["title"].startswith("How twin approaches teacher")
    assert found["title"].endswith("(from 1 checkpoint)")
    assert found["numbers"]["origins"] == ["checkpoints/step-000000022"]


def test_by_epoch_without_a_teacher_without_traces_or_of_two_runs_is_refused(runs: Path, analyze: Analyze) -> None:
    assert analyze(runs / "twin", "--by-epoch", fails=True)["remedy"] == "--teacher RUN"
    assert "one run" in analyze(runs / "twin", runs / "student", "--by-epoch", fails=True)["error"]
    shutil.rmtree(runs / "twin/checkpoints")
    lost = analyze(runs / "twin", "--by-epoch", "--teacher", runs / "teacher", fails=True)
    assert "nothing says how twin agreed" in lost["error"] and "checkpoint.keep" in lost["remedy"]


# What is refused


def test_other_data_and_other_images_are_refused_by_name(runs: Path, analyze: Analyze) -> None:
    path = runs / "twin/predictions/digits-val.parquet"
    keep(path, fingerprint="beef" * 16)
    error = analyze(runs / "teacher", runs / "twin", fails=True)
    assert "other images, labels or classes" in error["error"]
    assert error["problems"][1].startswith("twin: digits/val, fingerprint beef")
    keep(path, split="train")
    error = analyze(runs / "teacher", runs / "twin", fails=True)
    assert error["problems"] == ["teacher: digits/val", "twin: digits/train"]


def test_other_classes_are_refused_and_other_orders_are_matched(runs: Path, analyze: Analyze) -> None:
    path = runs / "twin/predictions/digits-val.parquet"
    before = analyze(runs / "teacher", runs / "twin")
    table = Predictions.load(path)
    head = table.heads["class"]
    turned = replace(head, top=9 - head.top)
    keep(path, class_names=table.class_names[::-1], labels=9 - table.labels, heads={"class": turned})
    assert analyze(runs / "teacher", runs / "twin")["tables"] == before["tables"]
    keep(path, class_names=(*(f"letter {index}" for index in range(9)), "0"))
    error = analyze(runs / "teacher", runs / "twin", fails=True)
    assert "decide between different classes" in error["error"]


def test_no_image_in_common_is_refused(runs: Path, analyze: Analyze) -> None:
    path = runs / "twin/predictions/digits-val.parquet"
    keep(path, ids=[f"elsewhere/{row}" for row in range(360)])
    error = analyze(runs / "teacher", runs / "twin", fails=True)
    assert error["problems"] == ["teacher: 360 images", "twin: 360 images"]


def test_one_plain_classifier_is_refused_and_one_of_several_heads_is_not(runs: Path, analyze: Analyze) -> None:
    assert "twin alone has nobody to disagree with" in analyze(runs / "twin", fails=True)["error"]
    assert len(names_of(analyze(runs / "student"))) == 3


def test_a_plain_model_asked_for_its_distillation_head_is_refused(runs: Path, analyze: Analyze) -> None:
    error = analyze(runs / "teacher", f"{runs}/twin:distillation", fails=True)
    assert "twin have no head 'distillation'" in error["error"] and error["choices"] == ["class"]


def test_what_is_not_there_is_refused(runs: Path, tmp_path: Path, analyze: Analyze) -> None:
    assert "does not exist" in analyze(runs / "teacher", runs / "nowhere", fails=True)["error"]
    assert "no predictions at" in analyze(runs / "teacher", tmp_path / "no.parquet", fails=True)["error"]
    error = analyze(runs / "teacher", runs / "twin", "--between", "teacher", "twni", fails=True)
    assert "'twni'. Did you mean twin?" in error["error"]
    error = analyze(runs / "teacher", runs / "twin", "--baseline", runs / "teacher", fails=True)
    assert error["remedy"] == "--teacher RUN"
