"""How far a long job has come, on stderr: a bar on a terminal, a line now and then elsewhere. One for all verbs."""

from __future__ import annotations

import time
from typing import Any

from deitkit.cli import render
from deitkit.runs.duration import spell_seconds

REFRESHES_A_SECOND = 4
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A job of one or several parts, counted in images, steps or bytes.

    `begin`, then `advance`; or called with a part's name, what is done of it and its total, as libraries report it.
    It is drawn when it is moved on and by no thread of its own: processes are forked while it stands.
    """

    def __init__(self, *, of_bytes: bool = False) -> None:
        self.spell = size if of_bytes else _count
        self.what = ""
        self.bar = _bar(of_bytes) if render.talks_to_a_terminal() else None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def begin(self, what: str, *, total: int | None, done: int = 0) -> None:
        """A part begins, or begins anew; `done` of it was there before."""
        self.what, self.total, self.first, self.done = what, total, done, done
        self.began = self.told = time.monotonic()
        if self.bar is None:
            onward = f" from {self.spell(done)} on" if done else ""
            render.say(f"  {what}{onward}" + (f": {self.spell(total)}" if total else ""))
            return
        self.bar.start()
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(render.escaped(what), total=total)
        self.bar.reset(self.tasks[what], total=total, completed=done)

    def advance(self, count: int) -> None:
        """So much more is done."""
        self(self.what, self.done + count, self.total)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self.what or total != self.total:
            self.begin(what, total=total)
            self.first = done  # how long the first piece took, nobody knows
        self.done = done
        now, pause = time.monotonic(), 1 / REFRESHES_A_SECOND if self.bar else SECONDS_BETWEEN_LINES
        if now - self.told < pause and not (self.bar and done == total):
            return
        self.told = now
        if self.bar is not None:
            self.bar.update(self.tasks[what], completed=done, refresh=True)
        elif total:
            left = (now - self.began) / max(done - self.first, 1) * (total - done)
            render.say(f"  {what}: {self.spell(done)} of {self.spell(total)}, {spell_seconds(left)} left")
        else:
            render.say(f"  {what}: {self.spell(done)}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.bar is None:
            render.say(f"  {text}")
        else:
            self.bar.console.print(render.escaped(text), markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.stop()


def _bar(of_bytes: bool) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    counts = [DownloadColumn(), Speed()] if of_bytes else [MofNCompleteColumn()]
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), *counts, TextColumn("ETA"),
        TimeRemainingColumn(), console=Console(stderr=True), auto_refresh=False,
    )  # fmt: skip


def _count(count: int) -> str:
    return f"{count:,}"


def size(count: int) -> str:
    """Bytes as people say them: 170.5 MB."""
    number, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.1f} {units[0]}" if units[0] != "bytes" else f"{count} bytes"
