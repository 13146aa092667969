"""One process writes a run's folder at a time: the system's lock on a file in it, which ends with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from deitkit.errors import DeitkitError
from deitkit.files import saving

# Not `filelock`: where a file system has no flock it goes on with a file's existence, which a kill leaves behind; and
# it has no shared lock, so that of two that look at once each would take the other for the run's writer.
LOCK = ".lock"
_HELD: set[TextIO] = set()


def _let_go() -> None:
    """A forked worker that outlives a killed run must not keep its lock."""
    for file in _HELD:
        file.close()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing, against other processes.

    Raises:
        DeitkitError: another process holds it, or it cannot be written.
    """
    made = not folder.exists()
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        opened = open(folder / LOCK, "a+")  # noqa: SIM115  (closed below)
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # whoever held it has just removed the folder
                raise BlockingIOError
        except BlockingIOError as error:
            raise DeitkitError(
                f"{folder} is being written by another process",
                value=str(folder),
                remedy="wait for it to end, or choose another --output",
            ) from error
        _HELD.add(file)
        try:
            yield
        finally:
            _HELD.discard(file)
            if made and folder.is_dir() and [entry.name for entry in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()  # a start that failed leaves nothing
                folder.rmdir()


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder now."""
    lock = folder / LOCK
    if not lock.exists():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
