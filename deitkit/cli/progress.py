"""How far a long job has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REFRESHES_A_SECOND = 4


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """On a terminal a bar with ETA, moved on by the number of images done; elsewhere nothing.

    It is drawn here and by no thread of its own: processes are forked while it stands.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("[bold]{task.description}", markup=True), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"),
        TimeRemainingColumn(), console=Console(stderr=True), auto_refresh=False, transient=True,
    )  # fmt: skip
    drawn = 0.0

    def advance(done: int) -> None:
        nonlocal drawn
        bar.advance(task, done)
        if time.perf_counter() - drawn > 1 / REFRESHES_A_SECOND:
            drawn = time.perf_counter()
            bar.refresh()

    with bar:
        task = bar.add_task(title, total=total)
        yield advance
