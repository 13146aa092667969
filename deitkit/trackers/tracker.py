"""What a tracker is to deitkit, and what it is told of a run. Knows no tracker's library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deitkit.recipe.load import to_toml
from deitkit.records import read_json
from deitkit.runs.folder import MENDED, Run

STATE = "trackers.json"  # in the run: tracker -> what it calls this run
PROJECT = "deitkit"  # where a tracker has projects and the user's environment names none


@dataclass(frozen=True)
class TrackedRun:
    """A run as its tracker begins: `known_as` is what the tracker called it in an earlier session, or empty."""

    run: Run
    known_as: str = ""

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe's values by dotted key."""
        return {key: "off" if value is None else value for key, value in self.run.recipe().flat().items()}

    @property
    def recipe(self) -> str:
        """The recipe as TOML, every value with its origin."""
        return to_toml(self.run.recipe())


class Tracker(Protocol):
    """One tracker's session of a run. Any method may fail as its library fails: the run goes on."""

    @property
    def where(self) -> str:
        """Where a person looks at it, or the command that shows it."""
        ...

    def start(self, tracked: TrackedRun) -> str:
        """Begin, or go on in the same place; gives what the tracker calls the run."""
        ...

    def last_step(self, key: str) -> int:
        """The last step of a value that an earlier session logged; -1 where there is none."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Values of one step."""
        ...

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None:
        """Figures as PNG files, by name."""
        ...

    def report(self, path: Path, words: str) -> None:
        """The run's HTML report, and what it says in words."""
        ...

    def finish(self, *, done: bool) -> None:
        """End the session; `done` says whether the run is finished, too."""
        ...


def values_of(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A line of metrics.jsonl as flat values: `top1/fused`; its step and what is no number are left out."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= values_of(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "step":
            found[f"{prefix}{key}"] = float(value)
    return found


def known_as(run: Run) -> dict[str, str]:
    """What each tracker called the run in earlier sessions.

    Raises:
        DeitkitError: the file that says so is damaged.
    """
    path = run.path / STATE
    return dict(read_json(path, dict[str, str], remedy=MENDED)) if path.is_file() else {}
