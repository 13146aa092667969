"""A sweep's folder: its points and what became of their runs. The runs lie in it, each a run's folder of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from deitkit.errors import DeitkitError
from deitkit.files import remove, saving, write_atomic
from deitkit.models.forms import decisive_head
from deitkit.records import read_json
from deitkit.runs.contents import MORE, Count
from deitkit.runs.folder import MENDED, Run
from deitkit.sweep.schema import Sweep
from deitkit.sweep.space import Values

STATE = "sweep.json"
Ending = Literal["failed", "pruned"]


@with_config(MORE)
class _Ended(TypedDict):
    ending: Ending
    why: str


@with_config(MORE)
class _State(TypedDict):
    """sweep.json: `plan` is what must be the same for it to go on; `ended` the runs that did not finish, by name."""

    plan: dict[str, Any]
    seeds: list[Count]
    points: list[dict[str, Any]]
    ended: dict[str, _Ended]


@dataclass(frozen=True)
class Point:
    """One choice of values, and its number from 0."""

    number: int
    values: Values


@dataclass
class SweepFolder:
    """`ended`: run's name -> how and why it ended early; what else became of a run, its own folder says."""

    path: Path
    plan: dict[str, Any]
    seeds: tuple[int, ...]
    points: list[Point] = field(default_factory=list)
    ended: dict[str, tuple[Ending, str]] = field(default_factory=dict)

    @staticmethod
    def is_sweep(path: Path) -> bool:
        return (path / STATE).is_file()

    @classmethod
    def open(cls, path: str | Path) -> SweepFolder:
        """A sweep that was begun.

        Raises:
            DeitkitError: there is none, or its file is damaged.
        """
        path = Path(path)
        if not cls.is_sweep(path):
            raise DeitkitError(f"{path} is no sweep (no {STATE})", value=str(path), remedy="deitkit sweep SWEEP.toml")
        state = read_json(path / STATE, _State, remedy=MENDED)
        points = [Point(number, values) for number, values in enumerate(state["points"])]
        ended = {name: (each["ending"], each["why"]) for name, each in state["ended"].items()}
        return cls(path, state["plan"], tuple(state["seeds"]), points, ended)

    @classmethod
    def begin(cls, path: Path, sweep: Sweep, words: Sequence[str], *, resume: bool, overwrite: bool) -> SweepFolder:
        """A new sweep's folder, or that of one that goes on.

        Raises:
            DeitkitError: something is there and neither is asked for, or it is another sweep.
        """
        plan = json.loads(json.dumps({**asdict(sweep), "words": list(words)}))
        if cls.is_sweep(path):
            there = cls.open(path)
            if resume and there.plan == plan:
                return there
            if not overwrite:
                raise _taken(path, changed=resume)
            there.clear()
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "holds files that no sweep wrote" if path.is_dir() else "is a file"
            raise DeitkitError(f"{path} {what}", value=str(path), remedy="choose another --output")
        folder = cls(path, plan, sweep.seeds)
        folder.save()
        return folder

    def clear(self) -> None:
        """Remove what the sweep wrote; nothing else in the folder is touched.

        Raises:
            DeitkitError: a run of it is being trained.
        """
        runs = [self.run(point, seed) for point in self.points for seed in self.seeds]
        if busy := [run for run in runs if run.status() == "running"]:
            raise DeitkitError(f"{busy[0].path} is being trained", value=str(busy[0].path), remedy="wait for its end")
        with saving(self.path):
            for name in [*(run.name for run in runs), "logs", "reports", STATE]:
                remove(self.path / name)

    def save(self) -> None:
        state = {
            "plan": self.plan, "seeds": list(self.seeds), "points": [point.values for point in self.points],
            "ended": {name: {"ending": ending, "why": why} for name, (ending, why) in self.ended.items()},
        }  # fmt: skip
        with saving(self.path):
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / STATE, json.dumps(state, indent=2) + "\n")

    def add(self, values: Values) -> Point:
        """A new point, noted before its first run begins."""
        point = Point(len(self.points), values)
        self.points.append(point)
        self.save()
        return point

    def end(self, run: Run, ending: Ending, why: str) -> None:
        self.ended[run.name] = (ending, why)
        self.save()

    def run(self, point: Point, seed: int) -> Run:
        """`003-seed1`; `seed1` where the seed alone varies."""
        return Run(self.path / (f"{point.number:03d}-seed{seed}" if point.values else f"seed{seed}"))

    def log(self, run: Run) -> Path:
        return self.path / "logs" / f"{run.name}.log"

    def score(self, run: Run) -> float | None:
        """Top-1 of a finished run's model by the head that decides; None of any other."""
        result = run.result() if Run.is_run(run.path) else None
        return result["top1"][decisive_head(result["top1"])] if result else None

    def scores(self, point: Point) -> dict[int, float]:
        """Seed -> top-1, of the runs that are finished."""
        found = {seed: self.score(self.run(point, seed)) for seed in self.seeds}
        return {seed: score for seed, score in found.items() if score is not None}

    def ending_of(self, point: Point) -> Ending | None:
        """How a point ended without a score in any seed."""
        return next(
            (self.ended[name][0] for seed in self.seeds if (name := self.run(point, seed).name) in self.ended), None
        )


def _taken(path: Path, *, changed: bool) -> DeitkitError:
    if changed:
        what, remedy = f"{path} holds a sweep that was begun otherwise", "repeat the first command with --resume"
    else:
        what, remedy = f"{path} holds a sweep", "--resume goes on with it"
    return DeitkitError(what, value=str(path), remedy=f"{remedy}; --output OTHER keeps both, --overwrite replaces it")
