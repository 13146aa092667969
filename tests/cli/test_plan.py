"""`deitkit plan VERB ...` and the plan of `--dry-run`: measured here, and nothing is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deitkit.cli.app import run
from deitkit.cli.plan import plan_rows
from deitkit.training.plan import TeacherCost
from tests.training.test_plan import made_up

Capture = pytest.CaptureFixture[str]


def test_a_plan_is_measured_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["pretrain", "--recipe", "quickstart/twin", "--epochs", "6", "-j", "0", "--device", "cpu"]
    assert run(["plan", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["steps"] == 6 * 22 and plan["total_s"] > plan["steps"] * plan["step_s"]
    assert list(tmp_path.iterdir()) == []


def test_a_verb_that_trains_nothing_is_refused(capsys: Capture) -> None:
    assert run(["plan", "evaluate"]) == 2
    assert "pretrain, distill, finetune" in capsys.readouterr().err


def test_a_dry_run_without_the_data_says_that_nothing_was_measured(capsys: Capture) -> None:
    assert run(["pretrain", "--recipe", "pretrain/deit_tiny", "--dry-run", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "was not measured" in shown.err
    assert "Table 9" in shown.out and "deitkit default" not in shown.out
    assert run(["pretrain", "--recipe", "pretrain/deit_tiny", "--plan", "--device", "cpu"]) == 2


def test_every_value_is_shown_where_it_is_asked_for(capsys: Capture) -> None:
    assert run(["pretrain", "--recipe", "pretrain/deit_tiny", "--dry-run", "--all", "--device", "cpu"]) == 0
    assert "deitkit default" in capsys.readouterr().out


def test_waiting_and_a_live_teacher_are_said_in_words() -> None:
    rows = dict(plan_rows(made_up(data_wait=0.05), workers=2))
    assert "--workers" not in rows["time"] and "teacher" not in rows
    rows = dict(plan_rows(made_up(data_wait=0.3, teacher=TeacherCost(0.2, 0.4, 0.02, 40.0)), workers=2))
    assert "with --workers 2: more may help" in rows["time"]
    assert "live 40% of a step" in rows["teacher"] and "40 s to record" in rows["teacher"]
    assert "cannot be told" in dict(plan_rows(replace(made_up(), memory_mb=None), workers=0))["memory"]
