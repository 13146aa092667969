"""A run's folder: recipe, environment, metrics, checkpoints, model, predictions, reports. Knows no model and no loss.

A run is a recipe that happened. The folder is the only state: a run is running while its lock is held, finished when
it has a result, and interrupted otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deitkit.errors import DeitkitError
from deitkit.files import REMAINS, recover_in, remove, saving, sync_folder, write_atomic
from deitkit.recipe.load import read_resolved, to_toml
from deitkit.recipe.schema import RESUME_MAY_CHANGE, Recipe
from deitkit.records import checked_json, read_json
from deitkit.runs.contents import Environment, MetricsLine, Origins, Result
from deitkit.runs.lock import LOCK, hold, is_held
from deitkit.runs.metrics import SPACED, scan_metrics

Status = Literal["running", "finished", "interrupted"]
# Everything that deitkit writes into a run; nothing else in the folder is ever touched.
CONTENTS = (
    "recipe.toml",
    "recipe.origins.json",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "training_images.npy",
    "left_out.json",
    "checkpoints",
    "model",
    "model_ema",
    "predictions",
    "reports",
    "trackers.json",
    "tensorboard",
    "wandb",
)
BEGINNING = ".beginning"  # a new run before it is in its place; while it is there, what lies beside it is old
OWN_NAMES = (*CONTENTS, BEGINNING.removeprefix("."))
STAGED = ("recipe.toml", "recipe.origins.json", "environment.json")

MENDED = "restore the file from a copy of the run, or train anew"


@dataclass(frozen=True)
class LoggedLines:
    """Lines of metrics.jsonl, in order. `seconds`: of training, in all lines, None where nothing was logged; `end`: the
    bytes that were looked through."""

    lines: list[dict[str, Any]]
    seconds: float | None
    end: int


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    @property
    def began(self) -> float | None:
        """When it began, as it recorded: seconds since 1970. Of a run of an earlier version, which did not, when its
        recipe was written; None where it lies there in parts."""
        with contextlib.suppress(DeitkitError):
            if (began := self.environment().get("began")) is not None:
                return float(began)
        path = self._place("recipe.toml")
        return path.stat().st_mtime if path.is_file() else None

    @staticmethod
    def is_run(path: Path) -> bool:
        whole = (path / "recipe.toml").is_file() and (path / "environment.json").is_file()
        return whole or (path / BEGINNING).is_dir()

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run.

        Raises:
            DeitkitError: no such folder, or a folder that is no run.
        """
        path = Path(path)
        if not cls.is_run(path):
            reason = "is not a deitkit run (no recipe.toml)" if path.exists() else "does not exist"
            raise DeitkitError(f"{path} {reason}", value=str(path), remedy="`deitkit runs list` shows the runs")
        return cls(path)

    @classmethod
    def create(cls, path: str | Path, recipe: Recipe, *, environment: Mapping[str, Any], overwrite: bool) -> Run:
        """A new run's folder with its recipe and environment.

        Raises:
            DeitkitError: the folder is foreign, or holds a run and `overwrite` is not asked for.
        """
        run = cls(Path(path))
        run.refuse_occupied(overwrite=overwrite)
        with saving(run.path):
            staged = run.path / f"{BEGINNING}.{os.getpid()}.tmp"
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            beside = cls(staged)
            beside.write_recipe(recipe)
            beside.write_json("environment.json", dict(environment))
            run._begin_anew()
            os.replace(staged, run.path / BEGINNING)
            sync_folder(run.path)
            run._begin_anew()
        return run

    def _begin_anew(self) -> None:
        """Remove an old run and put the new one in its place. Killed anywhere, it may be done again."""
        beginning = self.path / BEGINNING
        if not beginning.is_dir():
            return
        for name in CONTENTS:
            if name not in STAGED:
                remove(self.path / name)
        for name in STAGED:
            if (beginning / name).is_file():
                os.replace(beginning / name, self.path / name)
        shutil.rmtree(beginning)

    def recover(self) -> None:
        """End what a killed process began, and remove what it left. For whoever holds the lock.

        Raises:
            DeitkitError: the folder cannot be written.
        """
        with saving(self.path):
            self._begin_anew()
            recover_in(self.path, OWN_NAMES)
            recover_in(self.checkpoints)
            for folder in (self.predictions, self.reports):  # other verbs write there without the lock
                recover_in(folder, shared=True)

    def refuse_occupied(self, *, overwrite: bool) -> None:
        """Raise unless a new run may be written here."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise DeitkitError(f"{self.path} is a file", value=str(self.path), remedy="choose another --output")
        if not self.is_run(self.path):
            if any(entry.name != LOCK and not _is_remains(entry.name) for entry in self.path.iterdir()):
                raise DeitkitError(
                    f"{self.path} holds files that deitkit did not write",
                    value=str(self.path),
                    remedy="choose another --output; foreign folders are never overwritten",
                )
            return
        if overwrite:
            return
        status = self.status()
        again = "--resume goes on with it, " if status == "interrupted" else ""
        raise DeitkitError(
            f"{self.path} holds a run that is {status}",
            value=str(self.path),
            remedy=f"{again}--output OTHER keeps both, --overwrite replaces it",
        )

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run against other processes.

        Raises:
            DeitkitError: another process is writing this run.
        """
        return hold(self.path)

    def status(self) -> Status:
        if is_held(self.path):
            return "running"
        return "finished" if self._place("result.json").is_file() else "interrupted"

    def _place(self, name: str) -> Path:
        """Where a file of this run is: until a new run is in its place, what lies there is the old one's."""
        beginning = self.path / BEGINNING
        if beginning.is_dir() and (name not in STAGED or (beginning / name).is_file()):
            return beginning / name
        return self.path / name

    def write_recipe(self, recipe: Recipe) -> None:
        write_atomic(self.path / "recipe.toml", to_toml(recipe))
        self.write_json("recipe.origins.json", {"name": recipe.name, "origins": recipe.origins})

    def recipe(self) -> Recipe:
        """The resolved recipe with its origins."""
        known = read_json(self._place("recipe.origins.json"), Origins, remedy=MENDED)
        return read_resolved(self._place("recipe.toml"), name=known["name"], origins=known.get("origins"))

    def refuse_changed(self, recipe: Recipe) -> None:
        """Raise, naming every key, if `recipe` differs where a resumed run may not."""
        was, now = self.recipe().flat(), recipe.flat()
        changed = [
            f"{key}: was {was.get(key)!r}, is {now.get(key)!r}"
            for key in sorted(was.keys() | now.keys())
            if was.get(key) != now.get(key) and key not in RESUME_MAY_CHANGE
        ]
        if changed:
            raise DeitkitError(
                f"cannot resume {self.path}: the recipe has changed",
                value=str(self.path),
                problems=changed,
                remedy="repeat the first command's options with --resume, or start a new run with --output OTHER",
            )

    def has_steps(self) -> bool:
        """Whether anything of its training is kept."""
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl; a half-written one, or one that a crash of the machine emptied, is left
        out.

        Raises:
            DeitkitError: a line is JSON, but not as deitkit writes it; or none is JSON.
        """
        path = self._place("metrics.jsonl")
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        return self._records(lines, is_whole=True)

    def logged(self, *, spaced: int = SPACED) -> LoggedLines:
        """What there is to show of metrics.jsonl: all of a small one, and in any case every evaluation, the first and
        last lines and `spaced` others; with `spaced` 0 no others of a small one, too.

        Raises:
            DeitkitError: as `metrics`, as far as lines are looked at.
        """
        found = scan_metrics(self._place("metrics.jsonl"), spaced=spaced)
        return LoggedLines(self._records(found.lines, is_whole=found.is_whole), found.seconds, found.end)

    def _records(self, lines: Sequence[bytes], *, is_whole: bool) -> list[dict[str, Any]]:
        """Lines as records; those that are no JSON are left out."""
        found = [self.record(line, number if is_whole else None) for number, line in enumerate(lines, start=1)]
        records = [record for record in found if record is not None]
        if lines and not records and any(line.strip(b"\0 ") for line in lines):
            path = self._place("metrics.jsonl")
            raise DeitkitError(f"{path} cannot be read: no line of it is JSON", value=str(path), remedy=MENDED)
        return records

    def record(self, line: bytes, number: int | None = None) -> dict[str, Any] | None:
        """One whole line of metrics.jsonl; None where it is no JSON.

        Raises:
            DeitkitError: it is JSON, but not as deitkit writes it.
        """
        name = f"{self.path}/metrics.jsonl" + ("" if number is None else f", line {number},")
        try:
            return dict(checked_json(line, MetricsLine, name=name, remedy=MENDED))
        except DeitkitError:
            with contextlib.suppress(ValueError, RecursionError):
                json.loads(line)
                raise
            return None

    def result(self) -> dict[str, Any] | None:
        """What came out; None of an unfinished run.

        Raises:
            DeitkitError: result.json is not as deitkit writes it.
        """
        path = self._place("result.json")
        return dict(read_json(path, Result, remedy=MENDED)) if path.is_file() else None

    def environment(self) -> dict[str, Any]:
        """Where it began, and by which command.

        Raises:
            DeitkitError: environment.json is not as deitkit writes it.
        """
        path = self._place("environment.json")
        return dict(read_json(path, Environment, remedy=MENDED)) if path.is_file() else {}

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.path / name
        write_atomic(path, json.dumps(content, indent=2) + "\n")
        return path


def _is_remains(name: str) -> bool:
    """Whether a killed process of deitkit was writing it."""
    found = REMAINS.fullmatch(name)
    return found is not None and found["name"] in OWN_NAMES


def find_runs(root: str | Path = "runs") -> list[Run]:
    """All runs in `root` and in folders directly below it (a quickstart is a folder of runs), oldest first."""
    folder = Path(root)
    found = [Run(path.parent) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/recipe.toml")]
    runs = [run for run in found if Run.is_run(run.path)]
    return sorted(runs, key=lambda run: run.began or 0.0)
