"""`deitkit runs resume`: an interrupted run, by the command that began it."""

from __future__ import annotations

import shlex

import typer

from deitkit.cli import render
from deitkit.cli.app import run_as
from deitkit.cli.options import RunName
from deitkit.errors import DeitkitError


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
