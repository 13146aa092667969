"""What a person sees of a run: an evaluation's lines, with how the distillation goes where there is one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.live import PlainLines, distillation, evaluation
from deitkit.cli.runs.watch import follow, watch
from deitkit.recipe.load import load_recipe
from deitkit.runs.folder import Run
from tests.cli.terminal import Terminal

WATCHED: dict[str, Any] = {
    "step": 70, "epoch": 10.0, "top1": {"class": 0.812, "distillation": 0.819, "fused": 0.823}, "teacher_top1": 0.913,
    "agreement": {"teacher": {"class": 0.84, "distillation": 0.861, "fused": 0.857}, "heads": 0.9312},
    "token_cosine": {"last_block": 0.59, "final_norm": 0.6125},
}  # fmt: skip
SECOND = (
    "  agrees with the teacher (91.30%): class 84.00%, distillation 86.10%, fused 85.70% | heads agree 93.12% | "
    "tokens' cosine 0.61"
)


def test_an_evaluation_of_a_distillation_has_a_second_line() -> None:
    assert evaluation(WATCHED) == ["epoch 10: top-1 class 81.20%, distillation 81.90%, fused 82.30%", SECOND]


def test_only_what_was_measured_is_shown() -> None:
    plain = {"step": 7, "epoch": 1.0, "top1": {"class": 0.5}, "ema_top1": {"class": 0.25}}
    assert evaluation(plain) == ["epoch 1: top-1 class 50.00%, EMA class 25.00%"]
    taught = {**plain, "teacher_top1": 0.9, "agreement": {"teacher": {"class": 0.75}}}
    assert distillation(taught) == "agrees with the teacher (90.00%): class 75.00%"
    alone = {key: WATCHED[key] for key in ("step", "epoch", "top1", "token_cosine")} | {"agreement": {"heads": 0.5}}
    assert distillation(alone) == "heads agree 50.00% | tokens' cosine 0.61"


def test_plain_lines_say_both_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines("distill")
    lines.logged(WATCHED)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, *more = [f"  {line}" for line in evaluation(WATCHED)]
    assert captured.err.splitlines() == [f"{first}  (best so far)", *more]
    lines.logged({**WATCHED, "top1": {"class": 0.1}})
    lines.logged({**WATCHED, "asked": True})
    assert "best" not in capsys.readouterr().err


@pytest.mark.slow
def test_keys_evaluate_save_pause_and_stop_a_run_that_then_goes_on(tmp_path: Path) -> None:
    words = ("pretrain", "--recipe", "quickstart/teacher", "--epochs", "200", "--workers", "0", "--output", "run")
    terminal = Terminal(tmp_path, *words, columns=40, lines=10)
    terminal.expect("keys: e c p q", seconds=120)
    terminal.press("c")
    terminal.expect("saved")
    terminal.press("e")
    terminal.expect("%", seconds=60)
    terminal.resize(100, 30)
    terminal.press("p")
    terminal.expect("paused")
    run = Run(tmp_path / "run")
    logged = len(run.metrics())
    time.sleep(1)
    assert len(run.metrics()) == logged
    terminal.press("p")
    terminal.expect("left")
    terminal.press("q")
    terminal.expect("To go on: deitkit pretrain", seconds=60)
    assert terminal.end() == 130
    asked = [record for record in run.metrics() if record.get("asked")]
    assert asked and all(record["top1"]["class"] > 0 for record in asked)
    again = Terminal(tmp_path, *words, "--resume")
    again.expect("resuming run at step", seconds=120)
    again.press("q")
    assert again.end() == 130


def test_a_run_is_watched_to_its_end_by_whoever_reads_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    recipe = load_recipe("quickstart/teacher", {"train.epochs": 2}, origin="test")
    made = Run.create(folder, recipe, environment={}, overwrite=False)
    step = {"step": 22, "epoch": 1.0, "loss": 2.0, "lr": 1e-3, "images_per_s": 1.0, "seconds": 1.0, "data_wait_s": 0.0}
    lines = [step, {"step": 22, "epoch": 1.0, "top1": {"class": 0.5}}, {**step, "step": 44, "epoch": 2.0, "loss": 1.0}]
    made.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"half a')
    watch(str(folder))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "  step 22/44  loss 2.0000"
    assert said[1].split() == ["epoch", "class", "best", "loss"]
    assert said[2].split() == ["1", "50.00%", "*", "2.0000"]
    assert said[3:] == ["  step 44/44  loss 1.0000", f"{folder} is interrupted"]


def test_a_watcher_reads_on_where_a_resumed_run_cut_its_metrics(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_recipe("quickstart/teacher"), environment={}, overwrite=False)
    run.metrics_path.write_text('{"step": 1, "epoch": 1}\n{"step": 2, "epoch": 2}\n')
    with run.lock():
        records = follow(run)
        assert [next(records), next(records), next(records)] == [{"step": 1, "epoch": 1}, {"step": 2, "epoch": 2}, None]
        os.truncate(run.metrics_path, len('{"step": 1, "epoch": 1}\n'))
        assert next(records) is None
        with open(run.metrics_path, "a") as file:
            file.write('{"step": 2, "epoch": 2, "again": true}\n')
        assert next(records) == {"step": 2, "epoch": 2, "again": True}
