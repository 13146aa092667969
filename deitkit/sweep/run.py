"""Runs a sweep: each run by the command line in a process of its own, so many at once. Measures nothing.

Killed at any moment it goes on: points are noted before their runs begin, and a run's folder says how far it came.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import tomlkit

from deitkit.errors import DeitkitError
from deitkit.models.forms import decisive_head
from deitkit.runs.folder import Run
from deitkit.runs.lock import hold
from deitkit.runs.signals import heard_by
from deitkit.sweep.folder import Point, SweepFolder
from deitkit.sweep.propose import Proposer, proposer_of
from deitkit.sweep.schema import SEED, Sweep
from deitkit.sweep.space import Values, spell

POLL_S = 0.1
DEITKIT = (sys.executable, "-m", "deitkit")
Say = Callable[[str], None]


@dataclass
class Job:
    """A run that is being trained; without a process of ours it is that of a sweep that was killed."""

    point: Point
    seed: int
    run: Run
    process: subprocess.Popen[bytes] | None
    seen: int = 0  # evaluations that were looked at
    read: int = 0  # bytes of metrics.jsonl at the last look
    is_pruned: bool = False

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None if self.process else self.run.status() != "running"


class Signals:
    """SIGINT and SIGTERM while runs train: handed on to them, each of which saves and ends."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.number, self.jobs = 0, jobs

    def note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.end_all()

    def end_all(self) -> None:
        for job in self.jobs.values():
            if job.process and job.process.poll() is None:
                job.process.terminate()


def run_sweep(
    sweep: Sweep, folder: SweepFolder, words: Sequence[str], *, jobs: int = 1, say: Say = lambda text: None
) -> int:  # fmt: skip
    """Train what is not finished, `words` being the options of every run; the number of the signal that ended it, or 0.

    Raises:
        DeitkitError: another process runs this sweep; or the first run was refused before it began, as all would be.
    """
    with hold(folder.path):
        return _Sweeping(sweep, folder, words, say).go(jobs)


class _Sweeping:
    def __init__(self, sweep: Sweep, folder: SweepFolder, words: Sequence[str], say: Say) -> None:
        self.sweep, self.folder, self.words, self.say = sweep, folder, words, say
        self.proposer: Proposer = proposer_of(sweep, folder)
        self.active: dict[str, Job] = {}
        self.refused = ""  # why no run can begin
        self.best = max((score for point in folder.points for score in folder.scores(point).values()), default=-1.0)

    def go(self, jobs: int) -> int:
        tasks, signals = self._tasks(), Signals(self.active)
        try:
            with heard_by(signals.note):
                while True:
                    self._fill(tasks, jobs, signals)
                    if not self.active:
                        break
                    time.sleep(POLL_S)
                    for job in list(self.active.values()):
                        self._look(job, stopping=bool(signals.number))
        finally:
            signals.end_all()  # none are left but where something failed here
        if self.refused:
            raise DeitkitError(self.refused, remedy=f"mend that, and repeat with --resume; {self.folder.path}/logs")
        return signals.number

    def _fill(self, tasks: Iterator[tuple[Point, int]], jobs: int, signals: Signals) -> None:
        """Begin runs, up to so many at once, until a signal comes."""
        while len(self.active) < jobs and not (signals.number or self.refused) and (task := next(tasks, None)):
            self._start(*task)

    def _tasks(self) -> Iterator[tuple[Point, int]]:
        """Every run that is left, a point's seeds one after another: those of noted points first, then new ones."""
        for number in itertools.count():
            if number == len(self.folder.points):
                values = self.proposer.ask()
                if values is None:
                    return
                self.folder.add(values)
            point = self.folder.points[number]
            for seed in self.folder.seeds:
                run = self.folder.run(point, seed)
                is_left = run.name not in self.folder.ended and self.folder.score(run) is None
                if is_left and not self._is_pruned(point):
                    yield point, seed

    def _is_pruned(self, point: Point) -> bool:
        return self.folder.ending_of(point) == "pruned"

    def _start(self, point: Point, seed: int) -> None:
        run = self.folder.run(point, seed)
        there = Run.is_run(run.path)
        job = Job(point, seed, run, None)
        if not (there and run.status() == "running"):
            words = run_words(self.sweep, self.words, point.values, seed, run)
            with open(self.folder.log(run), "ab") as log:
                # A session of its own: Ctrl-C reaches this process, which hands it on once.
                job.process = subprocess.Popen(
                    [*DEITKIT, *words, *(["--resume"] if there else [])], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        self.active[run.name] = job

    def _look(self, job: Job, *, stopping: bool) -> None:
        """What a run has come to: its new evaluations, or its end."""
        is_over, is_hopeless = job.is_over, self._hear(job)
        if not is_over:
            if is_hopeless and job.process and not job.is_pruned:
                job.is_pruned = True
                job.process.terminate()
            return
        del self.active[job.run.name]
        score = self.folder.score(job.run)
        if score is not None:
            self._say(job, f"top-1 {score:.2%}{'  (best so far)' if score > self.best else ''}")
            self.best = max(self.best, score)
        elif job.is_pruned:
            self.folder.end(job.run, "pruned", "worse than the median of the others")
            self._say(job, "ended: worse than the median of the others")
        elif stopping:
            return
        elif job.process is None:  # the other sweep's run was interrupted
            self._start(job.point, job.seed)
            return
        else:
            why = reason(self.folder.log(job.run).read_bytes(), job.process.returncode)
            if not self._has_begun():
                self.refused = why
                return
            self.folder.end(job.run, "failed", why)
            self._say(job, f"failed: {why}")
        self._perhaps_tell(job.point)

    def _has_begun(self) -> bool:
        """Whether any run got as far as a folder of its own."""
        runs = (self.folder.run(point, seed) for point in self.folder.points for seed in self.folder.seeds)
        return any(Run.is_run(run.path) for run in runs)

    def _hear(self, job: Job) -> bool:
        """Give the proposer the evaluations that it has not heard of; whether one shows that the run is hopeless.

        The first seed of a point stands for it: a point that is hopeless there is not trained in the others.
        """
        if not self.sweep.prunes or job.seed != self.folder.seeds[0]:
            return False
        path = job.run.metrics_path
        size = path.stat().st_size if path.is_file() else 0
        if size == job.read:
            return False
        job.read = size
        new = [line for line in job.run.metrics() if "top1" in line and not line.get("asked")][job.seen :]
        job.seen += len(new)
        tops = [(line["step"], line["top1"][decisive_head(line["top1"])]) for line in new]
        verdicts = [self.proposer.is_hopeless(job.point, *each) for each in tops]  # all are heard
        return any(verdicts)

    def _perhaps_tell(self, point: Point) -> None:
        """Once nothing of a point is left to train."""
        names = [self.folder.run(point, seed).name for seed in self.folder.seeds]
        scores = self.folder.scores(point)
        ended = [name for name in names if name in self.folder.ended]
        if len(scores) + len(ended) == len(names) or self._is_pruned(point):
            self.proposer.tell(point, list(scores.values()), self.folder.ending_of(point))

    def _say(self, job: Job, what: str) -> None:
        seed = f", seed {job.seed}" if len(self.folder.seeds) > 1 else ""
        done = sum(len(self.folder.scores(point)) for point in self.folder.points) + len(self.folder.ended)
        self.say(f"{done} of {self.sweep.runs}: {spell(job.point.values)}{seed}: {what}")


def run_words(sweep: Sweep, words: Sequence[str], values: Values, seed: int, run: Run) -> list[str]:
    """The command of one run, behind `deitkit`."""
    sets = {**sweep.fixed, **values, SEED: seed}
    recipe = ["--recipe", sweep.recipe] if sweep.recipe else []
    given = [word for key, value in sets.items() for word in ("--set", f"{key}={toml(value)}")]
    return [sweep.verb, *recipe, *words, *given, "--output", os.fspath(run.path)]


def toml(value: Any) -> str:
    """A value as --set reads it."""
    return str(tomlkit.item(value).as_string())


def reason(log: bytes, code: int) -> str:
    """Why a run failed: its last error, by what it printed."""
    lines = log.decode(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else (lines[-1] if lines else f"exit code {code}")
