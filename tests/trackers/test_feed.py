"""What trackers are sent of a run: everything once, after a kill and after an outage, and never at training's cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deitkit.errors import DeitkitError
from deitkit.runs.folder import Run
from deitkit.trackers import feed
from deitkit.trackers.feed import Feed
from deitkit.trackers.registry import parse_trackers
from deitkit.trackers.tracker import STATE, TrackedRun, values_of

STEP = {"epoch": 0.5, "lr": 1e-3, "loss": 2.0}
LINES: list[dict[str, Any]] = [
    {"step": 1, **STEP}, {"step": 2, **STEP},
    {"step": 2, "epoch": 1.0, "top1": {"class": 0.5, "fused": 0.6}, "agreement": {"teacher": {"class": 0.7}}},
    {"step": 3, **STEP}, {"step": 4, **STEP},
]  # fmt: skip


class Ledger:
    """A tracker that keeps what it is sent, and is away while `is_away`."""

    where = "a ledger"

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, float]] = []
        self.began: list[str] = []
        self.is_away = False
        self.finished: list[bool] = []

    def _answer(self) -> None:
        if self.is_away:
            raise ConnectionError("no route\nto host")

    def start(self, tracked: TrackedRun) -> str:
        self._answer()
        self.began.append(tracked.known_as)
        return "page 7"

    def last_step(self, key: str) -> int:
        return max((step for step, known, _ in self.rows if known == key), default=-1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._answer()
        self.rows += [(step, key, value) for key, value in values.items()]

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None: ...
    def report(self, path: Path, words: str) -> None: ...
    def finish(self, *, done: bool) -> None:
        self.finished.append(done)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def logged(run: Run, lines: list[dict[str, Any]]) -> None:
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def everything() -> list[tuple[int, str, float]]:
    """Each value of each line once; the epoch of a step's evaluation is that of the step."""
    found: dict[tuple[int, str], float] = {}
    for line in LINES:
        for key, value in values_of(line).items():
            found.setdefault((line["step"], key), value)
    return [(step, key, value) for (step, key), value in found.items()]


def test_a_line_of_metrics_becomes_flat_values() -> None:
    assert values_of(LINES[2]) == {"epoch": 1.0, "top1/class": 0.5, "top1/fused": 0.6, "agreement/teacher/class": 0.7}
    assert values_of({"step": 1, "asked": True, "teacher_top1": None}) == {}


def test_a_resumed_run_is_sent_what_the_tracker_lacks_and_nothing_twice(run: Run) -> None:
    ledger, said = Ledger(), list[str]()
    first = Feed("ledger", run, ledger)
    logged(run, [])
    first.begin(said.append)
    for line in LINES[:4]:  # killed after step 3; its newest checkpoint is of step 1
        first.send(line, said.append)
    logged(run, LINES[:1])
    again = Feed("ledger", run, ledger)
    again.begin(said.append)
    for line in LINES[1:]:
        again.send(line, said.append)
    again.end(done=False, say=said.append)
    assert ledger.rows == everything()
    assert ledger.began == ["", "page 7"] and ledger.finished == [False]
    assert json.loads((run.path / STATE).read_text()) == {"ledger": "page 7"}
    assert said == ["ledger: a ledger"] * 2


def test_a_kill_between_a_step_and_its_evaluation_loses_neither(run: Run) -> None:
    ledger = Ledger()
    for lines in (LINES[:2], LINES):
        logged(run, lines)
        Feed("ledger", run, ledger).begin(lambda text: None)
    assert ledger.rows == everything()


def test_an_outage_is_said_once_and_made_up_for_at_the_end(run: Run) -> None:
    ledger, said = Ledger(), list[str]()
    feeding = Feed("ledger", run, ledger)
    logged(run, [])
    feeding.begin(said.append)
    for number, line in enumerate(LINES):
        ledger.is_away = number in (1, 2, 3)
        logged(run, LINES[: number + 1])
        feeding.send(line, said.append)
    assert len(ledger.rows) == len(STEP)
    feeding.end(done=False, say=said.append)
    assert ledger.rows == everything()
    assert len(said) == 3 and "no route to host" in said[1] and "answers again" in said[2]


def test_a_tracker_that_cannot_begin_is_said_and_left_alone(run: Run) -> None:
    ledger, said = Ledger(), list[str]()
    ledger.is_away = True
    feeding = Feed("ledger", run, ledger)
    logged(run, LINES)
    feeding.begin(said.append)
    feeding.send(LINES[0], said.append)
    feeding.end(done=True, say=said.append)
    assert len(said) == 1 and not ledger.rows and not ledger.finished


def test_what_a_library_prints_does_not_reach_stdout(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger()
    monkeypatch.setattr(ledger, "start", lambda tracked: sys.stdout.write("* Created a run") and "it")
    Feed("ledger", run, ledger).begin(lambda text: None)
    assert capsys.readouterr().out == ""


def test_names_are_parsed_and_a_missing_package_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deitkit.errors.is_installed", lambda package: package != "wandb")
    assert parse_trackers(" tensorboard,mlflow, tensorboard") == ("tensorboard", "mlflow")
    assert parse_trackers("") == ()
    with pytest.raises(DeitkitError, match=r"pip install 'deitkit\[wandb\]'"):
        parse_trackers("mlflow,wandb")
    with pytest.raises(DeitkitError, match="Did you mean tensorboard"):
        parse_trackers("tensorbord")


def test_nothing_is_opened_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Until then a run that is to be replaced stands; a rank that does not log opens nothing at all."""
    ledger = Ledger()
    monkeypatch.setattr(feed, "parse_trackers", lambda text: (text,))
    monkeypatch.setattr(feed, "open_tracker", lambda name: ledger)
    with feed.tracking("ledger", tmp_path) as observer:
        observer.say("looking at images")
    assert not ledger.began and not ledger.finished and not (tmp_path / STATE).exists()
