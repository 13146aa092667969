"""`deitkit` alone on a terminal: from the first question to the end of the run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import typer

from deitkit.cli import render
from deitkit.cli.app import run_as
from deitkit.cli.guided.asker import Asker
from deitkit.cli.guided.flow import Guided

LEFT = "left; nothing was written"


def guided() -> None:
    """Asks what you have and want, shows what it takes, and runs it."""
    try:
        commands = _commands()
    except KeyboardInterrupt:
        render.say(f"\n{LEFT}")
        raise typer.Exit(130) from None
    if not commands:
        render.say(LEFT)
    for number, words in enumerate(commands, start=1):
        _run(words, then=commands[number:])


def _commands() -> list[list[str]]:
    with asker() as person:
        walk = Guided(person)
        if run := walk.run_to_resume():
            return [["runs", "resume", run]]
        walk.ask_all()
        return [each.command.words for each in walk.settle() or ()]


def _run(words: Sequence[str], *, then: Sequence[Sequence[str]]) -> None:
    """The verb itself, whose command line the run records; where it fails, what was to follow is said."""
    render.say(f"$ {shlex.join(['deitkit', *words])}")
    if code := run_as(words):
        for later in then:
            render.say(f"and after it: {shlex.join(['deitkit', *later])}")
        raise typer.Exit(code)


def asker() -> Asker:
    """Arrow keys where the terminal has a cursor to move, else line by line."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", "") or not render.talks_to_a_terminal():
        from deitkit.cli.guided.typed_lines import TypedLines

        return TypedLines()
    from deitkit.cli.guided.menus import Menus

    return Menus()
