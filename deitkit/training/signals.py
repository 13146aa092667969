"""SIGINT and SIGTERM while a run trains: the step is finished and saved first, but nobody waits for data that may
never come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deitkit.runs.signals import heard_by


class Waiting(BaseException):
    """A signal came between two steps, while data were waited for. No `except Exception` on its way may take it."""


class StopSignals:
    """What was received: `number`, 0 for nothing yet. A second signal ends at once."""

    def __init__(self) -> None:
        self.number = 0
        self._may_leave = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        if self.number:
            raise KeyboardInterrupt
        self.number = number
        if self._may_leave:
            raise Waiting

    @contextmanager
    def heeded_at_once(self, *, alone: bool) -> Iterator[None]:
        """While it is open, a signal raises `Waiting`; not where other ranks would wait for this one for ever.

        Raises:
            Waiting: a signal came.
        """
        self._may_leave = alone
        try:
            yield
        finally:
            self._may_leave = False


@contextmanager
def held_back() -> Iterator[StopSignals]:
    """Hold back SIGINT and SIGTERM until the step is done."""
    signals = StopSignals()
    with heard_by(signals.note):
        yield signals
