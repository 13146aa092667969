"""What a person sees of a run: an evaluation's lines, with how the distillation goes where there is one."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from deitkit.cli.live import LiveView, PlainLines, distillation, evaluation

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
    PlainLines("distill").logged(WATCHED)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"  {line}" for line in evaluation(WATCHED)]


def test_the_live_view_shows_both_below_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    view = LiveView("distill")
    monkeypatch.setattr(view, "_draw", lambda step: None)
    view.logged(WATCHED)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(view._render())
    assert "top-1 class 81.20%" in capture.get()
    assert SECOND in capture.get()
