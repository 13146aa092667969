"""`deitkit report` through the command line's own entry."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from deitkit.cli.app import run
from deitkit.cli.verbs import VERBS, Group, Verb
from tests.report.conftest import MakeRun, make_run, pictures
from tests.report.reading import read

__all__ = ["make_run", "pictures"]  # fixtures


@pytest.fixture(autouse=True)
def _verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        VERBS, "report", Verb("deitkit.cli.report", "report", "Write one or several runs as one HTML file.")
    )


def test_a_report_is_written_into_the_run(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("teacher", heads=("class",), seed=1)
    student = make_run("student")
    assert run(["report", str(student.path)]) == 0
    told = capsys.readouterr()
    assert told.out == "" and f"wrote {student.reports}/report.html" in told.err
    assert f"not there yet: the tokens' cosines by depth (deitkit analyze tokens {student.path})" in told.err
    assert read((student.reports / "report.html").read_text()).all("h1")[0].text == "student"


def test_json_names_the_file_and_what_is_missing(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    student = make_run("student", finished=False)
    assert run(["report", str(student.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["report"]).stat().st_size == found["bytes"]
    assert found["missing"][str(student.path)][0]["command"].endswith("--resume")


def test_several_runs_go_to_the_last_ones_folder_or_where_it_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [str(make_run(name, heads=("class",), predicted=False).path) for name in ("a", "b")]
    assert run(["report", *runs]) == 0
    assert (tmp_path / "b/reports/report.html").is_file() and not (tmp_path / "a/reports").exists()
    assert run(["report", *runs, "-o", str(tmp_path / "new/both.html"), "--title", "Two"]) == 0
    assert "<title>Two</title>" in (tmp_path / "new/both.html").read_text()
    assert run(["report", *runs, "-o", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "does not exist"),
        (["."], "this needs a run"),
        (["student", "-o", "student/recipe.toml"], "exists"),
        (["student", "-o", "student/recipe.toml/report.html"], "cannot write"),
    ],
)
def test_what_cannot_be_done_is_said(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], message: str,
) -> None:  # fmt: skip
    make_run("student", finished=False)
    monkeypatch.chdir(tmp_path)
    assert run(["report", *words]) == 2
    assert message in capsys.readouterr().err


def test_every_command_on_the_page_is_a_verb(make_run: MakeRun) -> None:
    make_run("teacher", heads=("class",), predicted=False)
    student = make_run("student")
    assert run(["report", str(student.path)]) == 0
    reader = read((student.reports / "report.html").read_text())
    commands = [line for element in reader.all("code") for line in element.text.splitlines() if "deitkit " in line]
    assert len(commands) >= 6
    for command in commands:
        words = shlex.split(command)
        if words[0] == "deitkit":
            row = VERBS[words[1]]
            assert isinstance(row, Verb) or words[2] in row.verbs, command
            assert isinstance(row, (Verb, Group))
