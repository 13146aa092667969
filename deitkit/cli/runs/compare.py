"""`deitkit runs compare`: where runs differ, what came out, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.early import known_runs
from deitkit.cli.options import AsJson
from deitkit.cli.recipes import spell
from deitkit.errors import DeitkitError
from deitkit.runs.duration import spell_seconds

if TYPE_CHECKING:
    from deitkit.predictions.paired import PairedGain
    from deitkit.runs.compare import RunFacts


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", callback=known_runs, help="Two runs or more; the first is the baseline."),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare runs: where their recipes differ, what came out, and whether the difference is more than chance.

    Significance is paired, by McNemar's test on the same images, where both runs keep predictions on the same data.

    Example: deitkit runs compare runs/quickstart/twin runs/quickstart/student
    Example: deitkit runs compare runs/a runs/b runs/c
    Example: deitkit runs compare runs/a runs/b --json
    """
    from deitkit.predictions.paired import paired_with_baseline
    from deitkit.runs.compare import compare_runs
    from deitkit.runs.folder import Run

    if not runs[1:]:
        raise DeitkitError("one run cannot be compared", value=runs[0], remedy="name two or more: A B ...")
    opened = [Run.open(run) for run in runs]
    found = compare_runs(opened)
    paired = paired_with_baseline([run.path for run in opened])
    if as_json:
        render.print_json({"comparison": found, "paired": paired})
        return
    names = [run.path for run in opened]
    rows = [[key, *(str(spell(value)) for value in values)] for key, values in found.differences.items()]
    render.print_table("Where the recipes differ", ["key", *map(str, names)], rows)
    render.print_table(
        "What came out", ["run", "state", "epochs", "top-1", "model", "best", "time"], list(map(_row, found.runs))
    )
    if not found.same_data:
        render.say("the runs were trained on different images")
    if paired:
        print_paired(paired, baseline=names[0])


def print_paired(paired: Sequence[PairedGain], *, baseline: Path) -> None:
    """How much more often each head is right than the baseline's, on the same images."""
    rows = [
        [each.name, each.head, f"{each.gain:+.2%}", f"{each.low:+.2%} to {each.high:+.2%}", each.p] for each in paired
    ]
    columns = ["run", "head", "gain", "95 %", "p (McNemar)"]
    render.print_table(f"Against {baseline}, on the same {paired[0].images:,} images", columns, rows)


def _row(run: RunFacts) -> list[Any]:
    top1 = ", ".join(f"{head} {value:.2%}" for head, value in (run.top1 or {}).items())
    at = f"step {run.best_step}" if run.best_epoch is None else f"epoch {run.best_epoch:g}"
    best = "" if run.best_top1 is None else f"{run.best_top1:.2%} at {at}"
    seconds = "" if run.seconds is None else spell_seconds(run.seconds)
    return [run.path, run.status, f"{run.epoch:g} of {run.epochs}", top1, run.kept, best, seconds]
