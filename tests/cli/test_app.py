"""The command line's frame: help, exit codes, errors, completion, pipes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from benchmarks.startup import measure
from deitkit import __version__
from deitkit.cli import render
from deitkit.cli.app import run
from deitkit.cli.verbs import PANELS, VERBS, Group, Verb
from deitkit.errors import DeitkitError, Interrupted

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)


class Failing:
    """A verb `broken` that raises what it is told to."""

    error: BaseException = RuntimeError()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    verb = Failing()

    def broken(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise verb.error

    monkeypatch.setitem(VERBS, "broken", Verb("deitkit.cli.recipes", "broken", "Fails."))
    monkeypatch.setattr("deitkit.cli.recipes.broken", broken, raising=False)
    return verb


# Help


def test_help_names_every_verb_with_its_one_line(capsys: Capture) -> None:
    assert run(["--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for name, row in VERBS.items():
        assert f"{name} {row.help}" in words
    assert run(["-h"]) == 0


@pytest.mark.parametrize("group", [name for name, row in VERBS.items() if isinstance(row, Group)])
def test_a_group_alone_shows_its_verbs(group: str, capsys: Capture) -> None:
    row = VERBS[group]
    assert isinstance(row, Group)
    assert run([group]) == 2
    shown = capsys.readouterr().err
    assert all(verb in shown for verb in row.verbs)


def test_every_verb_stands_in_a_panel() -> None:
    assert sorted(VERBS) == sorted(name for names in PANELS.values() for name in names)


def test_brackets_in_help_are_no_markup(capsys: Capture) -> None:
    assert run(["finetune", "--help"]) == 0
    assert "[default:" in capsys.readouterr().out


def test_an_example_stands_on_one_line_to_be_copied(capsys: Capture) -> None:
    assert run(["recipes", "copy", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    example = lines[lines.index("Examples:") + 1]
    assert len(example) > 70
    assert example.startswith("  deitkit recipes copy ")
    assert example.endswith(" --overwrite")


def test_the_version_is_printed_for_programs(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"deitkit {__version__}\n"


def test_deitkit_alone_without_a_terminal_shows_help() -> None:
    done = python("-m", "deitkit")
    assert done.returncode == 0
    assert all(panel in done.stdout for panel in PANELS)


def test_help_starts_within_three_times_typers_import() -> None:
    assert measure(pairs=5).ratio < 3


# Exit codes and errors


def test_what_is_the_users_to_fix_exits_2_with_the_remedy(failing: Failing, capsys: Capture) -> None:
    failing.error = DeitkitError("no such thing", value=3, choices=("a", "b"), remedy="choose a")
    assert run(["broken"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["error: no such thing", "  choices: a, b", "  remedy: choose a"]


@pytest.mark.parametrize(("signal", "code"), [(2, 130), (15, 143)])
def test_an_interrupted_run_exits_with_128_and_the_signal(
    signal: int, code: int, failing: Failing, capsys: Capture
) -> None:
    failing.error = Interrupted(signal, step=7)
    assert run(["broken"]) == code
    assert "after step 7" in capsys.readouterr().err


def test_a_keyboard_interrupt_exits_130_without_a_traceback(failing: Failing, capsys: Capture) -> None:
    failing.error = KeyboardInterrupt()
    assert run(["broken"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_anything_else_is_a_bug_and_keeps_its_traceback(failing: Failing) -> None:
    failing.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        run(["broken"])


def test_a_bug_exits_1_with_its_traceback() -> None:
    code = "import deitkit.cli.app as app; app.build = lambda: 1 / 0; app.main()"
    done = python("-c", code)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrian"], "Did you mean 'pretrain'?"),
        (["recipes", "shwo"], "Did you mean 'show'?"),
        (["pretrain", "--epoch", "3"], "--epoch"),
        (["pretrain", "--epochs", "many"], "--epochs"),
        (["upscale"], "RUN"),
    ],
)
def test_usage_errors_exit_2_and_help_on(words: list[str], said: str, capsys: Capture) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err
    assert run([*words, "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]


def test_errors_are_json_on_stdout_where_json_is_asked_for(failing: Failing, capsys: Capture) -> None:
    failing.error = DeitkitError("two things", value="x", problems=["one", "two"])
    assert run(["broken", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": "two things", "value": "x", "problems": ["one", "two"]}


def test_the_process_ends_before_python_takes_it_apart_and_after_what_others_do_at_the_end() -> None:
    code = (
        "import atexit, sys, deitkit.cli.app as app\n"
        "class Last:\n"
        "    def __del__(self): print('taken apart')\n"
        "last = Last()\n"
        "def verb(argv):\n"
        "    atexit.register(print, 'theirs')\n"
        "    return 2\n"
        "app.run = verb; app.main()"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout) == (2, "theirs\n")


def test_a_reader_that_goes_away_is_no_bug() -> None:
    code = "import sys, deitkit.cli.app as app; sys.argv = ['deitkit', 'recipes', 'list', '--json']; app.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, bufsize=0
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    assert process.wait() == 141
    assert errors == ""


def test_errors_are_red_on_a_terminal_only() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "deitkit", "recipes", "show", "nope"]
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, cwd=ROOT)
    process.wait()
    assert "\x1b[1;31merror:" in os.read(ours, 4096).decode()
    assert "\x1b" not in python("-m", "deitkit", "recipes", "show", "nope").stderr


# Completion


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deitkit pre", {"pretrain", "predict"}),
        ("deitkit recipes c", {"copy", "check"}),
        ("deitkit pretrain --over", {"--overwrite"}),
    ],
)
def test_verbs_and_options_complete(line: str, offered: set[str]) -> None:
    words = line.split()
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "_DEITKIT_COMPLETE": "complete_bash", "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "deitkit"], env=environment, capture_output=True, text=True)
    assert offered <= set(done.stdout.split())


# Rendering


def test_json_says_null_where_a_number_is_none(capsys: Capture) -> None:
    render.print_json({"nan": float("nan"), "path": Path("a/b"), "tuple": (1, 2.5), 3: {"é": True}})
    assert json.loads(capsys.readouterr().out) == {"nan": None, "path": "a/b", "tuple": [1, 2.5], "3": {"é": True}}


def test_a_table_read_by_a_program_is_never_cut_or_wrapped(capsys: Capture) -> None:
    long = "x" * 300
    render.print_table("Title [not markup]", ["name", "value"], [[long, 0.123456789], ["[b]", None]], footer="end")
    out = capsys.readouterr().out
    assert long in out
    assert "0.123457" in out
    assert "[b]" in out
    assert "Title [not markup]" in out.splitlines()[0]
    assert out.rstrip().endswith("end")
