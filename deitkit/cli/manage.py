"""`deitkit runs compare|tag|note|prune|resume`: what a person does with runs that are there. Trains nothing itself."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.runs.compare import RunFacts
    from deitkit.runs.folder import Run

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")]
MIB = 2**20


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more; the first is the baseline.")],
    as_json: AsJson = False,
) -> None:
    """Compare runs: where their recipes differ, what came out, and whether the difference is more than chance.

    Significance is paired, by McNemar's test on the same images, where both runs keep predictions on the same data.

    Example: deitkit runs compare runs/quickstart/twin runs/quickstart/student
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
    rows = [[key, *map(spell_value, values)] for key, values in found.differences.items()]
    render.print_table("Where the recipes differ", ["key", *map(str, names)], rows)
    render.print_table(
        "What came out", ["run", "state", "epochs", "top-1", "best", "time"], list(map(_row, found.runs))
    )
    if not found.same_data:
        render.say("the runs were trained on different images")
    against: list[list[Any]] = [
        [each.name, each.head, f"{each.gain:+.2%}", f"{each.low:+.2%} to {each.high:+.2%}", each.p] for each in paired
    ]
    if against:
        columns = ["run", "head", "gain", "95 %", "p (McNemar)"]
        render.print_table(f"Against {names[0]}, on the same {paired[0].images:,} images", columns, against)


def spell_value(value: Any) -> str:
    return "off" if value is None else str(value)


def _row(run: RunFacts) -> list[Any]:
    from deitkit.cli.picture import spell_seconds

    top1 = ", ".join(f"{head} {value:.2%}" for head, value in (run.top1 or {}).items())
    best = "" if run.best_top1 is None else f"{run.best_top1:.2%} at step {run.best_step}"
    seconds = "" if run.seconds is None else spell_seconds(run.seconds)
    return [run.path, run.status, f"{run.epoch:g} of {run.epochs}", top1, best, seconds]


def tag(
    run: RunName,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="Words.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Take a word away.")] = None,
) -> None:
    """Tag a run; `deitkit runs list` shows it.

    Example: deitkit runs tag runs/quickstart/student good
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
    """
    from deitkit.runs.folder import Run
    from deitkit.runs.notes import read_notes, write_note

    opened = Run.open(run)
    notes = write_note(opened, " ".join(words)) if words else read_notes(opened)
    render.say(f"{run}: {notes.note or 'no note'}")


def prune(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or folders of runs.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what finished runs no longer need: checkpoints of single steps but the last, and half-written leftovers.

    Models, the best and the last checkpoint, predictions and reports stay. What would go is shown first.

    Example: deitkit runs prune runs/quickstart --yes
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
    """
    from deitkit.cli.app import run as run_command
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
        code = run_command([*words, "--resume"])
    raise typer.Exit(code)
