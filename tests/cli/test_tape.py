"""`deitkit tape` through its own functions: what is recorded and shown, how to go on, and errors that teach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from deitkit.cli.options import spread
from deitkit.cli.tape import merge, parse_epochs, record, show
from deitkit.errors import DeitkitError
from deitkit.tape import Tape
from tests.tape.test_record import quick_digits, teacher

__all__ = ["quick_digits", "teacher"]

Call = Callable[..., tuple[str, str]]
RECIPE = (
    "--recipe", "quickstart/student", "--set", "train.epochs=2", "--set", "schedule.warmup_epochs=0", "--workers", 0,
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a verb with its options as on the command line; gives stdout and stderr."""
    app = typer.Typer()
    for verb in (record, show, merge):
        app.command()(spread(verb))

    def run(*words: object) -> tuple[str, str]:
        app([str(word) for word in words], standalone_mode=False)
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run


def test_a_tape_is_recorded_shown_and_gone_on_with(
    call: Call, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("record", *RECIPE, "--teacher", teacher)
    out, err = call(*words, "--epochs", ":1")
    assert "tapes/quickstart-student" in out and "hard" in out
    assert "views: 1,408\n" in err
    again = f"--teacher {teacher} --set train.epochs=2 --set schedule.warmup_epochs=0 --tape tapes/quickstart-student"
    assert err.endswith(f"next: deitkit distill --recipe quickstart/student {again}\n")
    found = json.loads(call(*words, "--json")[0])
    assert (found["epochs"], found["views"], found["recorded_views"]) == (2, 2816, 1408)
    assert (found["bytes_per_view"], found["bytes"], found["missing"]) == (1, 2816, [])
    shown = json.loads(call("show", "tapes/quickstart-student", "--verify", "--json")[0])
    assert shown["teacher"] == [str(teacher)]
    assert shown["fixed_by"]["train.seed"] == 0 and shown["recorded_on"]["device"] == "cpu"


def test_soft_labels_and_what_they_lose_are_shown(call: Call, teacher: Path, tmp_path: Path) -> None:
    words = ("record", *RECIPE, "--teacher", teacher, "--epochs", "1:2", "-o", tmp_path / "t")
    found = json.loads(call(*words, "--top-k", 3, "--json")[0])
    assert found["labels"] == "soft, top 3"
    assert found["bytes_per_view"] == 1 + 3 * 1 + 4 * 2
    assert 0 < found["dropped_mass"] < 1 and found["kl_at_tau"] > 0
    assert found["missing"] == ["epoch 0"]
    assert "dropped mass" in call("show", tmp_path / "t")[0]
    with pytest.raises(DeitkitError, match="--top-k: the tape has 3, this run None"):
        call(*words, "--labels", "soft")


def test_tapes_are_merged(call: Call, teacher: Path, tmp_path: Path) -> None:
    for epoch in range(2):
        call("record", *RECIPE, "--teacher", teacher, "--epochs", f"{epoch}:{epoch + 1}", "-o", tmp_path / str(epoch))
    out, _ = call("merge", tmp_path / "0", tmp_path / "1", "--output", tmp_path / "both")
    assert "copied parts" in out
    assert not Tape.open(tmp_path / "both").gaps(range(2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", range(9)), ("2:5", range(2, 5)), (":3", range(3)), ("7:", range(7, 9)), ("5:12", range(5, 12))],
)  # fmt: skip
def test_epochs_are_a_range_counted_from_0(text: str, expected: range) -> None:
    assert parse_epochs(text, 9) == expected


@pytest.mark.parametrize("text", ["3", "a:b", "5:5", "6:2", "1:2:3", "-1:2"])
def test_no_epochs_are_refused_with_all_of_them_as_a_remedy(text: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        parse_epochs(text, 9)
    assert "0:9" in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--labels", "sfot"), "Did you mean soft"),
        (("--labels", "hard", "--top-k", 2), "top-k is for soft labels"),
        (("--top-k", 10), "top-k 10 of 10 classes"),
        (("--teacher", "runs/nobody"), "runs/nobody"),
        (("--set", "teacher.chunk=5"), "teacher.chunk"),
    ],
)
def test_errors_teach_and_leave_nothing_behind(
    call: Call, teacher: Path, tmp_path: Path, words: tuple[Any, ...], error: str
) -> None:
    named = () if "--teacher" in words else ("--teacher", teacher)
    with pytest.raises(DeitkitError, match=error) as caught:
        call("record", *RECIPE, *named, *words, "-o", tmp_path / "tape")
    assert caught.value.remedy or caught.value.choices
    assert not (tmp_path / "tape").exists()


def test_showing_what_is_no_tape_says_how_to_record_one(call: Call, tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="does not exist") as caught:
        call("show", tmp_path / "nothing")
    assert "deitkit tape record" in caught.value.remedy
