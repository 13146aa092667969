"""Durations as people say them."""

from __future__ import annotations

import pytest

from deitkit.runs.duration import spell_about, spell_seconds


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3725.0, "1 h 02 min"),
        (7620, "2 h 07 min"), (273600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_spelled_in_two_parts(seconds: float, spelled: str) -> None:
    assert spell_seconds(seconds) == spelled


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0, "0s"), (-3, "0s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (86400, "1d"), (6.9 * 86400, "6d"),
     (30 * 86400, "4w"), (800 * 86400, "2y")],
)  # fmt: skip
def test_an_age_is_spelled_in_a_few_letters(seconds: float, spelled: str) -> None:
    assert spell_about(seconds) == spelled
