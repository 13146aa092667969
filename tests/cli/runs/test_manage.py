"""`deitkit runs compare|tag|note|prune|resume` through the real command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from deitkit.cli.app import run as deitkit
from deitkit.predictions.table import Predictions, head_predictions
from tests.runs.test_manage import checkpoints, make

Capture = pytest.CaptureFixture[str]


def predictions(decisions: list[int], labels: list[int]) -> Predictions:
    return Predictions(
        dataset="digits", split="val", fingerprint="f00d", classifier="x", class_names=("a", "b"),
        ids=[str(row) for row in range(len(labels))], labels=np.array(labels),
        heads={"class": head_predictions("class", np.eye(2)[decisions])}, settings={},
    )  # fmt: skip


def test_runs_are_compared_with_a_paired_test_on_the_same_images(tmp_path: Path, capsys: Capture) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b", **{"optim.lr": 0.5})
    labels = [0] * 20
    predictions([1] * 6 + [0] * 14, labels).save(first.predictions / "digits-val.parquet")
    predictions([0] * 5 + [1] + [0] * 14, labels).save(second.predictions / "digits-val.parquet")
    assert deitkit(["runs", "compare", str(first.path), str(second.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (paired,) = told["paired"]
    assert paired["gain"] == pytest.approx(5 / 20)
    assert paired["p"] == pytest.approx(binomtest(0, 5).pvalue)
    assert told["comparison"]["differences"].keys() == {"optim.lr"}
    assert deitkit(["runs", "compare", str(first.path), str(second.path)]) == 0
    shown = capsys.readouterr().out
    assert "optim.lr" in shown and "+25.00%" in shown


def test_predictions_on_other_images_are_not_compared(tmp_path: Path, capsys: Capture) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    table = predictions([0, 1], [0, 1])
    table.save(first.predictions / "digits-val.parquet")
    replace(table, fingerprint="beef").save(second.predictions / "digits-val.parquet")
    assert deitkit(["runs", "compare", str(first.path), str(second.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paired"] == []


def test_one_run_alone_is_refused(tmp_path: Path) -> None:
    assert deitkit(["runs", "compare", str(make(tmp_path / "a").path)]) == 2


def test_tags_and_notes_are_written_and_shown(tmp_path: Path, capsys: Capture) -> None:
    run = str(make(tmp_path / "run").path)
    assert deitkit(["runs", "tag", run, "good", "old"]) == 0
    assert deitkit(["runs", "tag", run, "--remove", "old"]) == 0
    assert deitkit(["runs", "note", run, "the", "[b]first"]) == 0
    assert deitkit(["runs", "note", run]) == 0
    said = capsys.readouterr().err
    assert "good" in said.splitlines()[1] and "old" not in said.splitlines()[1]
    assert said.count("the [b]first") == 2
    assert deitkit(["runs", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tags"] == ["good"]


def test_nothing_is_deleted_unasked(tmp_path: Path, capsys: Capture) -> None:
    run = make(tmp_path / "run")
    checkpoints(run, "step-000000010", "step-000000020")
    assert deitkit(["runs", "prune", str(tmp_path)]) == 0
    assert len(list(run.checkpoints.iterdir())) == 2
    assert "--yes" in capsys.readouterr().err
    assert deitkit(["runs", "prune", str(tmp_path), "--yes"]) == 0
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000000020"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["deitkit", "distill", "--teacher", "evil.py:f"], "runs Python code"),
        (["deitkit", "distill", "--trust-code"], "runs Python code"),
        ([], "does not say how it began"),
    ],
)
def test_a_run_is_not_resumed_by_code_that_only_its_folder_names(
    tmp_path: Path, capsys: Capture, command: list[str], words: str
) -> None:
    run = make(tmp_path / "run", finished=False)
    run.write_json("environment.json", {"command": command})
    assert deitkit(["runs", "resume", str(run.path)]) == 2
    assert words in capsys.readouterr().err


def test_a_finished_run_is_not_resumed(tmp_path: Path, capsys: Capture) -> None:
    assert deitkit(["runs", "resume", str(make(tmp_path / "run").path)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_run_is_resumed_by_the_command_that_began_it(tmp_path: Path, capsys: Capture) -> None:
    run = make(tmp_path / "run", finished=False)
    run.write_json("environment.json", {"command": ["deitkit", "recipes", "show", "quickstart/teacher", "--overwrite"]})
    assert deitkit(["runs", "resume", str(run.path)]) == 2  # `recipes show` has no --resume
    assert "$ deitkit recipes show quickstart/teacher --resume" in capsys.readouterr().err
