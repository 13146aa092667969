"""A run as lines of text: rows that stay, curves, speed; cut to any width."""

from __future__ import annotations

from typing import Any

import pytest

from deitkit.cli.picture import Picture, sparkline

STEP: dict[str, Any] = {
    "step": 70, "epoch": 10.0, "loss": 1.5, "lr": 1e-3, "images_per_s": 840.0, "data_wait_s": 0.1, "seconds": 10.0,
    "memory_mb": 900.0,
}  # fmt: skip
EVALUATED: dict[str, Any] = {
    "step": 70, "epoch": 10.0, "top1": {"class": 0.812, "distillation": 0.819, "fused": 0.823}, "teacher_top1": 0.913,
    "agreement": {"teacher": {"class": 0.84, "distillation": 0.861, "fused": 0.857}, "heads": 0.9312},
    "token_cosine": {"last_block": 0.59, "final_norm": 0.6125},
}  # fmt: skip


def picture(**changes: Any) -> Picture:
    return Picture("run", epochs=20, total_steps=140, **changes)


def test_an_evaluations_row_stays_below_the_columns_names() -> None:
    shown = picture()
    assert shown.take(STEP, width=200) == []
    heading, row = (line.plain.split() for line in shown.take(EVALUATED, width=200))
    assert heading == ["epoch", "fused", "best", "loss", "class", "distil", "as", "teacher", "heads", "agree", "cosine"]
    assert row == ["10", "82.30%", "★", "1.5000", "81.20%", "81.90%", "85.70%", "93.12%", "0.61"]
    assert len(shown.take(EVALUATED, width=200)) == 1  # the names stand once


def test_the_best_is_marked_and_the_later_one_of_equals_is_it() -> None:
    shown = picture(symbols=False)
    marks = []
    for score in (0.5, 0.4, 0.5, 0.6):
        row = shown.take({"step": 1, "epoch": 1.0, "top1": {"class": score}}, width=80)[-1]
        marks.append("*" in row.plain)
    assert marks == [True, False, True, True]


def test_an_evaluation_asked_for_by_a_key_is_never_the_best() -> None:
    shown = picture(symbols=False)
    row = shown.take({"step": 1, "epoch": 1.0, "top1": {"class": 0.9}, "asked": True}, width=80)[-1]
    assert "*" not in row.plain and "90.00%" in row.plain
    assert "*" in shown.take({"step": 2, "epoch": 1.0, "top1": {"class": 0.2}}, width=80)[-1].plain


@pytest.mark.parametrize("width", [20, 39, 60, 99, 200])
def test_rows_keep_the_width(width: int) -> None:
    shown = picture()
    shown.take(STEP, width=width)
    for row in shown.take(EVALUATED, width=width):
        assert row.cell_len <= width
        assert row.plain.split()[0] in ("epoch", "10")


def test_the_time_left_is_said_where_the_terminal_is_narrow() -> None:
    shown = picture()
    shown.take(STEP, width=39)
    assert "1 min 05 s left" in shown.lines(width=39, eta_s=65.2)[0].plain
    assert "epoch 10.0/20" in shown.lines(width=99, eta_s=65.2)[0].plain


def test_waiting_for_data_names_the_remedy() -> None:
    shown = picture()
    shown.take(STEP, width=99)
    assert "--workers" not in shown.lines(width=99, eta_s=None)[-1].plain
    shown.take({**STEP, "data_wait_s": 3.4}, width=99)
    assert "waits for data 34%: more --workers" in shown.lines(width=99, eta_s=None)[-1].plain


def test_without_unicode_nothing_but_ascii_is_shown() -> None:
    shown = picture(symbols=False)
    rows = [*shown.take(STEP, width=99), *shown.take(EVALUATED, width=99), *shown.lines(width=99, eta_s=3.0)]
    assert all(line.plain.isascii() for line in rows)


def test_a_curve_goes_from_its_least_to_its_greatest_value() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0], cells=4, bars="abcd") == "abcd"
    assert sparkline([0.0, 0.0, 6.0, 6.0], cells=2, bars="abcd") == "ad"
    assert sparkline([5.0, 5.0], cells=8) == "▁▁"
    assert sparkline([], cells=8) == ""
