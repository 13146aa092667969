"""`deitkit runs tag` and `note`: what a person writes beside a run."""

from __future__ import annotations

from typing import Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import RunName


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
