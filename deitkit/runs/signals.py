"""SIGINT and SIGTERM while something runs that is to end well. What is done about them is the caller's."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """While it is open, both go to this handler; those before are back afterwards.

    Outside the main thread, to which alone Python delivers signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in ENDING}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
