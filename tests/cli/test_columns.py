"""Rows that stay one line each, whatever the terminal's width."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from deitkit.cli.render import Column, fit, shortened

NAMES = ["runs/quickstart/student", "runs/犬と猫の分類器", "runs/" + "x" * 90]
COLUMNS = [
    Column("run", NAMES, short=[name.removeprefix("runs/") for name in NAMES], least=8, cut_start=True),
    Column("state", ["finished", "interrupted", "running"], short=["done", "stop", "runs"]),
    Column("best", ["97.5% e80", "", "100.0% e7"], numbers=True),
    Column("data", ["digits", "imagenet", "photos-of-everything"], least=4),
    Column("recipe", ["a", "b", "c"], optional=True),
    Column("tags", ["", "", ""], optional=True),
]


@pytest.mark.parametrize("width", range(40, 201))
def test_every_row_is_one_line_of_the_width_with_every_column_that_is_not_optional(width: int) -> None:
    lines = fit(COLUMNS, width)
    assert len(lines) == 4
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split()[:4] == ["run", "state", "best", "data"]
    assert "97.5% e80" in lines[1] and ("finished" in lines[1] or "done" in lines[1])


def test_at_full_width_nothing_is_shortened_and_empty_columns_are_left_out() -> None:
    lines = fit(COLUMNS, None)
    assert lines[0].split() == ["run", "state", "best", "data", "recipe"]
    assert all(name in line for name, line in zip(NAMES, lines[1:], strict=True))
    assert "photos-of-everything" in lines[3]


def test_what_matters_less_goes_before_words_become_short() -> None:
    needed = max(map(cell_len, fit(COLUMNS, None)))
    lines = fit(COLUMNS, needed - 1)
    assert "recipe" not in lines[0] and "interrupted" in lines[2]


def test_a_text_is_cut_at_its_start_or_end_by_cells_not_by_letters() -> None:
    assert shortened("student", 7) == "student"
    assert shortened("student", 5) == "stud~"
    assert shortened("student", 5, start=True) == "~dent"
    assert cell_len(shortened("犬と猫の分類器", 6)) <= 6
    assert cell_len(shortened("犬と猫の分類器", 6, start=True)) <= 6
