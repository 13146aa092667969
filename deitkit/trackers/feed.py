"""Feeds trackers with what a run logs, as an observer around another. A tracker that fails never stops a run.

What a tracker lacks is sent from metrics.jsonl: on a resumed run before its next line, and at the end.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deitkit.analysis.draw import draw
from deitkit.report import build_page, write_page
from deitkit.report.folder import RunFolder
from deitkit.report.one_run import run_verdict
from deitkit.report.run_tables import ReportedRun
from deitkit.report.training import training_figures
from deitkit.runs.folder import Run
from deitkit.trackers.registry import open_tracker, parse_trackers
from deitkit.trackers.tracker import STATE, TrackedRun, Tracker, known_as, values_of
from deitkit.training.log import Sums
from deitkit.training.observer import Logged, Observer, Request
from deitkit.training.step import Training

logger = logging.getLogger(__name__)
Say = Callable[[str], None]


class Feed:
    """One tracker of one run. A failure is said once; afterwards nothing is sent until the end."""

    def __init__(self, name: str, run: Run, tracker: Tracker) -> None:
        self.name, self.run, self.tracker = name, run, tracker
        self.sent: dict[str, int] = {}  # value -> its last step that was sent
        self.has_begun = self.has_failed = False

    def begin(self, say: Say) -> None:
        """Open the tracker's run, and send what was logged without it."""
        with self._trying(say):
            names = known_as(self.run)
            called = self.tracker.start(TrackedRun(self.run, names.get(self.name, "")))
            self.has_begun = True
            if names.get(self.name) != called:
                self.run.write_json(STATE, {**names, self.name: called})
            self._send_all()
            say(f"{self.name}: {self.tracker.where}")

    def send(self, record: Mapping[str, Any], say: Say) -> None:
        """One line of metrics.jsonl."""
        if self.has_begun and not self.has_failed:
            with self._trying(say):
                self._send(record)

    def end(self, *, done: bool, say: Say) -> None:
        """Send what is missing, with figures and report where the run is `done`."""
        if not self.has_begun:
            return
        failed, self.has_failed = self.has_failed, False
        with self._trying(say):
            self._send_all()
            if done:
                self._send_results()
            if failed:
                say(f"{self.name} answers again: what was missing is sent")
        with self._trying(say):
            self.tracker.finish(done=done)

    def _send_all(self) -> None:
        for record in self.run.metrics():
            self._send(record)

    def _send(self, record: Mapping[str, Any]) -> None:
        step = record["step"]
        new = {key: value for key, value in values_of(record).items() if step > self._last_step(key)}
        if new:
            self.tracker.metrics(step, new)
            self.sent |= dict.fromkeys(new, step)

    def _last_step(self, key: str) -> int:
        if key not in self.sent:
            self.sent[key] = self.tracker.last_step(key)
        return self.sent[key]

    def _send_results(self) -> None:
        metrics = self.run.metrics()
        step = max(line["step"] for line in metrics)
        self.tracker.figures(step, {figure.name: draw(figure, "png") for figure in training_figures(metrics)})
        path, subject = self.run.reports / "report.html", ReportedRun(RunFolder(self.run, self.run.name))
        write_page(build_page([self.run.path]), path)
        self.tracker.report(path, "\n\n".join(run_verdict(subject, subject.disagreement)))

    @contextmanager
    def _trying(self, say: Say) -> Iterator[None]:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # stdout is for data, whatever libraries print
                yield
        except Exception as error:  # a tracker's library fails in its own ways: no network, no login, a full disk
            if not self.has_failed:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                say(f"{self.name} does not take what the run logs ({reason}); training goes on, metrics.jsonl has all")
            self.has_failed = True


class Tracked:
    """An observer that hands everything on to `inner`, and what is logged to the trackers, too."""

    def __init__(self, inner: Observer, feeds: Sequence[Feed]) -> None:
        self.inner, self.feeds, self.has_begun = inner, feeds, False

    def start(self, training: Training, *, first_step: int) -> None:
        self.inner.start(training, first_step=first_step)

    def step(self, step: int, sums: Sums) -> None:
        if not self.has_begun:  # the run's folder is its own from the first step on
            self.has_begun = True
            for feed in self.feeds:
                feed.begin(self.inner.say)
        self.inner.step(step, sums)

    def logged(self, record: Mapping[str, Any]) -> None:
        self.inner.logged(record)
        for feed in self.feeds:
            feed.send(record, self.inner.say)

    def doing(self, what: str) -> None:
        self.inner.doing(what)

    def asked(self) -> Request:
        return self.inner.asked()

    def say(self, text: str) -> None:
        self.inner.say(text)

    def stop(self) -> None:
        self.inner.stop()


@contextmanager
def tracking(trackers: str, output: str | Path, observer: Observer | None = None) -> Iterator[Observer]:
    """An observer that logs the run in the folder `output` to `trackers`, such as "tensorboard,mlflow".

        with deitkit.tracking("tensorboard", "runs/mine") as observer:
            deitkit.train("quickstart/twin", "runs/mine", observer=observer)

    Recipe and metrics are sent while it trains; figures and the report when the block is left, where the run is
    finished. A resumed run goes on in the same place. `observer` is told everything as well.

    Raises:
        DeitkitError: no tracker is called so, or its package is not installed.
    """
    run = Run(Path(output))
    feeds = [Feed(name, run, open_tracker(name)) for name in parse_trackers(trackers)]
    try:
        yield Tracked(observer or Logged(), feeds)
    finally:
        done = any(feed.has_begun for feed in feeds) and run.status() == "finished"
        for feed in feeds:
            feed.end(done=done, say=logger.info)
