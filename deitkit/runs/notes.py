"""What a person writes beside a run: tags and a note, in `notes.json`. A run never reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from deitkit.files import write_atomic
from deitkit.records import read_json
from deitkit.runs.folder import Run

FILE = "notes.json"


@dataclass(frozen=True)
class Notes:
    """Tags in alphabetic order, and a text."""

    tags: tuple[str, ...]
    note: str


def read_notes(run: Run) -> Notes:
    """What is written beside a run; nothing where nothing is.

    Raises:
        DeitkitError: the file was changed into something else.
    """
    path = run.path / FILE
    if not path.is_file():
        return Notes((), "")
    return read_json(path, Notes, remedy="mend it, or delete it: it holds only tags and a note")


def change_tags(run: Run, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Notes:
    """Give a run tags and take others away; gives what stands there now."""
    before = read_notes(run)
    return _write(run, replace(before, tags=tuple(sorted({*before.tags, *add} - set(remove)))))


def write_note(run: Run, note: str) -> Notes:
    """The run's note, in place of an earlier one."""
    return _write(run, replace(read_notes(run), note=note))


def _write(run: Run, notes: Notes) -> Notes:
    write_atomic(run.path / FILE, json.dumps(asdict(notes), indent=2, ensure_ascii=False) + "\n")
    return notes
