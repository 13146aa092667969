"""`deitkit runs prune`: checkpoints that finished runs no longer need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson

if TYPE_CHECKING:
    from deitkit.runs.folder import Run


MIB = 2**20


def prune(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or folders of runs.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what finished runs no longer need: checkpoints of single steps but the last, and half-written leftovers.

    Models, the best and the last checkpoint, predictions and reports stay. What would go is shown first.

    Example: deitkit runs prune runs/quickstart --yes
    Example: deitkit runs prune runs/mine
    Example: deitkit runs prune runs --json
    """
    from deitkit.runs.prune import delete, superfluous

    found = [each for run in _runs_in(runs) for each in superfluous(run)]
    if as_json:
        render.print_json({"found": found, "bytes": delete(found) if yes else sum(each.size for each in found)})
        return
    if not found:
        render.say("nothing to delete")
        return
    rows = [[each.path, f"{each.size / MIB:.1f} MiB", each.why] for each in found]
    render.print_table("What may go", ["path", "size", "why"], rows)
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Delete {len(found)}?", err=True)):
        render.say("nothing was deleted; --yes deletes them")
        return
    render.say(f"{delete(found) / MIB:.1f} MiB are free again")


def _runs_in(names: list[str]) -> list[Run]:
    from deitkit.runs.folder import Run, find_runs

    return [run for name in names for run in ([Run(Path(name))] if Run.is_run(Path(name)) else find_runs(name))]
