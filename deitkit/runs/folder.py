"""A run's folder: recipe, environment, metrics, checkpoints, model, predictions, reports. Knows no model and no loss.

A run is a recipe that happened. The folder is the only state: a run is running while its lock is held, finished when
it has a result, and interrupted otherwise.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from deitkit.errors import DeitkitError
from deitkit.files import saving, write_atomic
from deitkit.recipe.load import read_resolved, to_toml
from deitkit.recipe.schema import RESUME_MAY_CHANGE, Recipe

Status = Literal["running", "finished", "interrupted"]
# Everything that deitkit writes into a run; nothing else in the folder is ever touched.
CONTENTS = (
    "recipe.toml",
    "recipe.origins.json",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "training_images.npy",
    "checkpoints",
    "model",
    "model_ema",
    "predictions",
    "reports",
)


_LOCKS: set[TextIO] = set()


def _let_go_of_locks() -> None:
    """A forked worker that outlives a killed run must not keep its lock."""
    for file in _LOCKS:
        file.close()


os.register_at_fork(after_in_child=_let_go_of_locks)

MENDED = "restore the file from a copy of the run, or train anew"


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

    @staticmethod
    def is_run(path: Path) -> bool:
        return (path / "recipe.toml").is_file() and (path / "environment.json").is_file()

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
        for name in CONTENTS:
            old = run.path / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_recipe(recipe)
        run.write_json("environment.json", dict(environment))
        return run

    def refuse_occupied(self, *, overwrite: bool) -> None:
        """Raise unless a new run may be written here."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise DeitkitError(f"{self.path} is a file", value=str(self.path), remedy="choose another --output")
        if not self.is_run(self.path):
            if any(entry.name != ".lock" for entry in self.path.iterdir()):
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against other processes.

        Raises:
            DeitkitError: another process is writing this run.
        """
        with saving(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            opened = open(self.path / ".lock", "a+")  # noqa: SIM115  (closed below)
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DeitkitError(
                    f"{self.path} is being written by another process",
                    value=str(self.path),
                    remedy="wait for it to end, or choose another --output",
                ) from error
            _LOCKS.add(file)
            try:
                yield
            finally:
                _LOCKS.discard(file)

    def status(self) -> Status:
        if self._is_locked():
            return "running"
        return "finished" if (self.path / "result.json").is_file() else "interrupted"

    def _is_locked(self) -> bool:
        lock = self.path / ".lock"
        if not lock.exists():
            return False
        with open(lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def write_recipe(self, recipe: Recipe) -> None:
        write_atomic(self.path / "recipe.toml", to_toml(recipe))
        self.write_json("recipe.origins.json", {"name": recipe.name, "origins": recipe.origins})

    def recipe(self) -> Recipe:
        """The resolved recipe with its origins."""
        name = json.loads((self.path / "recipe.origins.json").read_text())["name"]
        return read_resolved(self.path / "recipe.toml", name=name)

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

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl; a half-written last line is left out."""
        if not self.metrics_path.is_file():
            return []
        lines = self.metrics_path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def result(self) -> dict[str, Any] | None:
        return self._read_json("result.json")

    def environment(self) -> dict[str, Any]:
        return self._read_json("environment.json") or {}

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.path / name
        write_atomic(path, json.dumps(content, indent=2) + "\n")
        return path

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DeitkitError(f"{path} cannot be read: {error}", value=str(path), remedy=MENDED) from error
        if not isinstance(content, dict):
            raise DeitkitError(f"{path} holds no JSON object", value=str(path), remedy=MENDED)
        return content


def find_runs(root: str | Path = "runs") -> list[Run]:
    """All runs in `root` and in folders directly below it (a quickstart is a folder of runs), oldest first."""
    folder = Path(root)
    found = [Run(path.parent) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/recipe.toml")]
    runs = [run for run in found if Run.is_run(run.path)]
    return sorted(runs, key=lambda run: (run.path / "recipe.toml").stat().st_mtime)
