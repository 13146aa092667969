"""What lies in a run's folder, whole or not: parts that are missing or broken are named. Runs no model."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import TypedDict

from deitkit.analysis.report import ANEW, Report, read_saved
from deitkit.errors import DeitkitError
from deitkit.models.kept import Standing, standing
from deitkit.models.reference import PUBLISHED, Reference, is_foreign, local_folder
from deitkit.predictions.find import kept_files
from deitkit.predictions.table import Predictions
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Recipe
from deitkit.records import MOST_JSON, checked_json, read_bounded
from deitkit.runs.contents import Count
from deitkit.runs.folder import LoggedLines, Run

Part = TypeVar("Part")
HEADER_BYTES = 100_000_000  # the format's own limit: what says more is no header
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # weights that no gradient moves
ORDER = ("disagreement", "tokens", "positions", "resolutions", "tradeoff", "attention", "errors")  # of analyses
COPY = "copy it again"


@dataclass(frozen=True)
class Missing:
    """What could be in a report, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class SavedReport:
    """A report of an analysis, and the folder of its image files."""

    report: Report
    folder: Path
    pictures: tuple[str, ...] = ()


@dataclass(eq=False)
class RunFolder:
    """A run as it lies there. `name` tells it from the others of a page."""

    run: Run
    name: str
    problems: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def attempt(self, what: str, read: Callable[[], Part], otherwise: Part) -> Part:
        """What `read` gives; where it fails, the problem is noted instead."""
        try:
            return read()
        except DeitkitError as error:
            self.problems.append(f"{what} cannot be read: {error.what}")
            return otherwise

    @cached_property
    def status(self) -> str:
        return self.run.status()

    @cached_property
    def recipe(self) -> Recipe | None:
        return self.attempt("the recipe", self.run.recipe, None)

    @cached_property
    def parent(self) -> Recipe | None:
        """The shipped recipe that it began as; None where it is not shipped."""
        try:
            return load_recipe(self.recipe.name) if self.recipe else None
        except DeitkitError:
            return None

    @cached_property
    def logged(self) -> LoggedLines:
        return self.attempt("metrics.jsonl", self.run.logged, LoggedLines([], None, 0))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl: of a large one every evaluation and some of the others."""
        return self.logged.lines

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        return [line for line in self.metrics if "top1" in line]

    @cached_property
    def result(self) -> dict[str, Any]:
        return self.attempt("result.json", self.run.result, None) or {}

    @cached_property
    def standing(self) -> Standing | None:
        """Its best and its last weights, and which of them are its model; None before the first evaluation."""
        return standing(self.recipe, self.result or None, self.metrics) if self.recipe else None

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self.attempt("environment.json", self.run.environment, {})

    @property
    def command(self) -> list[str]:
        return list(self.environment.get("command", []))

    @property
    def epoch(self) -> float:
        """Epochs done, as far as metrics.jsonl knows, to a tenth."""
        return round(max((line["epoch"] for line in self.metrics if "epoch" in line), default=0.0), 1)

    @property
    def seconds(self) -> float | None:
        """Seconds of training; evaluations and checkpoints left out."""
        spent = self.logged.seconds or 0.0
        return self.result.get("seconds", spent if self.metrics else None)

    @property
    def began(self) -> str:
        return _date(self.run.began)

    @property
    def ended(self) -> str:
        path = self.run.path / "result.json"
        return _date(path.stat().st_mtime if path.is_file() else None)

    @cached_property
    def parameters(self) -> int | None:
        """Numbers in the model's weights, or in the newest checkpoint's."""
        checkpoints = sorted(self.run.checkpoints.glob("step-*/model.safetensors"))
        for path in [self.run.model / "model.safetensors", *checkpoints[::-1]]:
            if path.is_file():
                return self.attempt(str(path), partial(count_parameters, path), None)
        return None

    @cached_property
    def tables(self) -> list[Predictions]:
        """Every data set's predictions, the recipe's own validation first; those of single checkpoints are left out."""
        read = partial(Predictions.load, logits=False)
        paths = kept_files(Reference(str(self.run.path)))
        found = [self.attempt(str(path), partial(read, path), None) for path in paths]
        own = self.recipe.data.dataset if self.recipe else ""
        return sorted(
            (table for table in found if table is not None and len(table.ids)),
            key=lambda table: ((table.dataset, table.split) != (own, "val"), table.dataset, table.split),
        )

    @property
    def main(self) -> Predictions | None:
        """The predictions that the page is about, under the run's name."""
        return self.tables[0] if self.tables else None

    @cached_property
    def saved(self) -> list[SavedReport]:
        """The reports of analyses that were made before."""
        first = {name: place for place, name in enumerate(ORDER)}
        paths = sorted(self.run.reports.glob("*.json"), key=lambda path: (first.get(path.stem, len(ORDER)), path.name))
        found = [self.attempt(str(path), partial(read_report, path), None) for path in paths]
        return [report for report in found if report is not None]

    @property
    def resume(self) -> str:
        """The command that goes on with it."""
        words = self.command or ["deitkit", "runs", "show", str(self.run.path)]
        return shlex.join(words if "--resume" in words else [*words, "--resume"])


def read_report(path: Path) -> SavedReport | None:
    """What an analysis saved, or None where the file is of something else.

    Raises:
        DeitkitError: a report is damaged.
    """
    content = read_bounded(path, most=MOST_JSON, remedy=ANEW)
    try:
        values = checked_json(content, dict[str, Any], name=str(path), remedy=ANEW)
    except DeitkitError:
        return None
    if not {"tables", "figures"} <= values.keys():
        return None
    report, pictures = read_saved(content, name=str(path))
    return SavedReport(report, path.parent, pictures)


class _Entry(TypedDict):
    """A tensor in a safetensors header."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]


def count_parameters(path: Path) -> int:
    """Numbers in a safetensors file, by its header alone; running statistics are no parameters.

    Raises:
        DeitkitError: no safetensors file, or its header claims more than the file has.
    """
    try:
        with open(path, "rb") as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(length) if length <= min(HEADER_BYTES, size - 8) else b""
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}"
        raise DeitkitError(what, value=str(path), remedy=COPY) from error
    entries = checked_json(header, dict[str, _Entry | dict[str, str]], name=str(path), remedy=COPY)
    counts: dict[str, int] = {}
    for name, entry in entries.items():
        if not isinstance(shape := entry.get("shape", ""), str):
            counts[name] = math.prod(shape)
    if sum(counts.values()) > 8 * size:
        raise DeitkitError(f"{path} is damaged: it claims more numbers than it has bits", value=str(path), remedy=COPY)
    return sum(count for name, count in counts.items() if name.rpartition(".")[2] not in BUFFERS)


def _date(seconds: float | None) -> str:
    """Seconds since 1970 to the minute and in UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def short_names(paths: Sequence[Path]) -> list[str]:
    """Each folder's name: the end of its path, as long as needed to tell it from the others."""
    parts = [path.absolute().parts for path in paths]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        longer = [
            depth + (counts[name] > 1 and depth < len(own) - 1)
            for own, name, depth in zip(parts, names, depths, strict=True)
        ]
        if longer == depths:
            return names
        depths = longer


def teacher_folders(folder: RunFolder) -> dict[Path, str]:
    """Where the recipe's teachers would keep their predictions -> what names them on a command line."""
    if folder.recipe is None or folder.recipe.teacher is None:
        return {}
    found = {}
    for model in folder.recipe.teacher.models:
        if model.startswith(PUBLISHED) or is_foreign(model):
            found[local_folder(model)] = model
            continue
        path = Path(model)
        beside = folder.run.path.parent / path.name  # the folder of runs may have been moved
        place = beside if not path.exists() and beside.exists() else path
        found[place] = str(place)
    return found
