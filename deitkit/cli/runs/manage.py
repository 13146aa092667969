"""`deitkit runs tag`, `note`, `prune` and `resume`: what a person does to a run that is there."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.app import run_as
from deitkit.cli.options import AsJson, RunName
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.runs.folder import Run


def tag(
    run: RunName,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="Words.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Take a word away.")] = None,
) -> None:
    """Tag a run; `deitkit runs list` shows it.

    Example: deitkit runs tag runs/quickstart/student good
    Example: deitkit runs tag runs/mine
    Example: deitkit runs tag runs/mine --remove good
    """
    from deitkit.runs.folder import Run
    from deitkit.runs.notes import change_tags

    notes = change_tags(Run.open(run), add=tags or (), remove=remove or ())
    render.say(f"{run}: {', '.join(notes.tags) or 'no tags'}")


def note(
    run: RunName, words: Annotated[list[str] | None, typer.Argument(metavar="[TEXT...]", help="The note.")] = None
) -> None:
    """Write a note beside a run, or show it.

    Example: deitkit runs note runs/quickstart/student "the first one that beats its twin"
    Example: deitkit runs note runs/mine
    Example: deitkit runs note runs/mine trained on the photos of May
    """
    from deitkit.runs.folder import Run
    from deitkit.runs.notes import read_notes, write_note

    opened = Run.open(run)
    notes = write_note(opened, " ".join(words)) if words else read_notes(opened)
    render.say(f"{run}: {notes.note or 'no note'}")


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


def resume(run: RunName) -> None:
    """Go on with an interrupted run by the command that began it.

    Example: deitkit runs resume runs/quickstart/student
    Example: deitkit runs resume runs/mine
    """
    from deitkit.models.code import executing_only
    from deitkit.runs.folder import Run

    opened = Run.open(run)
    if opened.status() != "interrupted":
        raise DeitkitError(f"{run} is {opened.status()}", value=run, remedy="only an interrupted run goes on")
    words = opened.environment().get("command", [])[1:]
    words = [word for word in words if word not in ("--resume", "--overwrite")]
    if not words or any(".py:" in word or "--trust-code" in word for word in words):
        raise DeitkitError(
            f"the command of {run} runs Python code of its own" if words else f"{run} does not say how it began",
            value=run,
            remedy=f"look at it, and run it yourself: {shlex.join(['deitkit', *words, '--resume'])}",
        )
    render.say(f"$ {shlex.join(['deitkit', *words, '--resume'])}")
    with executing_only(()):  # a folder may come from somebody else: no code is run that only a file names
        code = run_as([*words, "--resume"])
    raise typer.Exit(code)
