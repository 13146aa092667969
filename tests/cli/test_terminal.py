"""What reaches a terminal: no name moves its cursor or is markup, and nobody listening ends no work."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import deitkit
from deitkit.cli import render
from deitkit.cli.app import run
from deitkit.errors import DeitkitError, quoted

EVIL = "cat\x1b[2J\x1b]0;title\x07\r\x9b31m\u202egnp.\x7f[bold]x[/]\udcff"
ROOT = Path(deitkit.__file__).parents[1]
FAST = ["pretrain", "-r", "quickstart/teacher", "--set", "train.epochs=1", "-j", "0", "--device", "cpu"]


def harmless(text: str) -> bool:
    return not any((ord(sign) < 32 and sign != "\n") or 127 <= ord(sign) < 160 or sign == "\u202e" for sign in text)


def test_names_are_shown_escaped_in_tables_talk_errors_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(EVIL, ["name", EVIL], [[EVIL, 1], ["two\nlines", 2]], footer=EVIL)
    render.say(EVIL)
    render.say_error(DeitkitError(EVIL, value=EVIL, choices=[EVIL], remedy=EVIL).message())
    shown = capsys.readouterr()
    assert harmless(shown.out) and harmless(shown.err)
    assert "\\x1b[2J" in shown.out and "\\x9b31m" in shown.err and "\\u202e" in shown.err
    assert "[bold]x[/]" in shown.out and "[bold]x[/]" in shown.err
    assert "two\\nlines" in shown.out
    render.print_json({"name": EVIL})
    shown = capsys.readouterr()
    assert harmless(shown.out) and json.loads(shown.out) == {"name": EVIL}


def test_a_command_line_s_own_words_are_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [EVIL],
        ["evaluate", EVIL],
        ["pretrain", f"--{EVIL}"],
        ["recipes", "show", EVIL],
        ["runs", "show", EVIL],
    ):
        assert run(words) == 2
        shown = capsys.readouterr()
        assert harmless(shown.out) and harmless(shown.err), words


def test_suggested_commands_can_be_pasted() -> None:
    assert shlex.split(f"deitkit evaluate {quoted(Path('my runs/$(x)'))}") == ["deitkit", "evaluate", "my runs/$(x)"]


def test_errors_have_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(render, "talks_to_a_terminal", lambda: True)
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setenv("NO_COLOR", "1")
    render.say_error("no")
    monkeypatch.delenv("NO_COLOR")
    render.say_error("no")
    assert said.getvalue() == "error: no\n\x1b[1;31merror:\x1b[0m no\n"


def test_json_is_json_in_any_encoding() -> None:
    code = f"""
from deitkit.cli import app, render
app.run = lambda words: render.print_json({EVIL!r})
app.main()"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert json.loads(done.stdout.decode("ascii")) == EVIL, done.stderr


# Nobody listens


@pytest.mark.slow
@pytest.mark.parametrize("how", ["head", "both full", "closed"])
def test_a_training_goes_on_to_its_end_when_nobody_reads_what_it_says(how: str, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "deitkit", *FAST, "-o", str(tmp_path / "run")])
    end = {"head": "2>&1 | head -1", "both full": ">/dev/full 2>&1", "closed": ">&- 2>&-"}[how]
    if how == "both full" and not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full here")
    done = subprocess.run(
        ["bash", "-c", f"{command} {end}"], capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (tmp_path / "run" / "result.json").is_file(), done
    assert "Traceback" not in done.stdout + done.stderr
