"""How far a job has come: lines off a terminal, a bar on one, both told in the same two ways."""

from __future__ import annotations

import time

import pytest

from deitkit.cli import progress as verb
from deitkit.cli.progress import Progress, size


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deitkit.cli.render.talks_to_a_terminal", lambda: True)


def test_a_bar_knows_lengths_and_unknown_ones(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(of_bytes=True) as bar:
        bar.begin("downloading a", total=100, done=50)
        bar.advance(50)
        bar.begin("downloading b", total=None)
        bar.advance(10)
        bar.say("[it] is cut")
        bar.begin("downloading b", total=20, done=10)
    shown = capsys.readouterr().err
    assert "[it] is cut" in shown
    assert "100/100 bytes" in shown and "10/20 bytes" in shown


def test_a_bar_starts_no_thread_because_processes_are_forked_while_it_stands(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    before = threading.active_count()
    with Progress() as bar:
        bar.begin("verifying", total=2)
        bar.advance(1)
        assert threading.active_count() == before


def test_off_a_terminal_a_line_begins_each_part_and_one_now_and_then_says_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tell = Progress()
    for second in range(40):
        now = float(second)
        tell("views", second, 100)
    assert capsys.readouterr().err.splitlines() == [
        "  views: 100",
        "  views: 10 of 100, 1 min 30 s left",
        "  views: 20 of 100, 1 min 20 s left",
        "  views: 30 of 100, 1 min 10 s left",
    ]


def test_what_was_there_before_does_not_make_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[str] = []
    monkeypatch.setattr(verb.render, "say", said.append)
    tell = Progress()
    tell.begin("views", total=100, done=50)
    now = 20.0
    tell.advance(10)
    assert said == ["  views from 50 on: 100", "  views: 60 of 100, 1 min 20 s left"]


def test_names_with_markup_and_control_characters_are_text(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as bar:
        bar.begin("[/] \x1b[2J", total=1)
        bar.advance(1)
    shown = capsys.readouterr().err
    assert "[/]" in shown and "\x1b[2J" not in shown


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (170_498_071, "170.5 MB"), (120 * 10**9, "120.0 GB")],
)
def test_sizes_are_said_as_people_do(count: int, text: str) -> None:
    assert size(count) == text
