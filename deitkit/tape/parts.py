"""The files of a tape: parts named by what they hold, and who is recording now. Knows no view and no teacher.

    DIR/tape.json                                         the header
    DIR/epoch-00012/groups-00000000-00000128.1a2b3c4d.bin  answers to groups 0 to 127; the hex digits are its CRC-32
    DIR/validation-0123456789abcdef.1a2b3c4d.bin           decisions on the validation images, int32 [N], -1: unreadable
    DIR/recording-HOST-PID.json                            touched now and then while that process records

A part is written beside its place, fsynced and renamed: a name is a promise of whole content. Parts may be copied
from one tape to another; where two overlap either will do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.records import read_json
from deitkit.tape.layout import TapeLayout

EPOCH = re.compile(r"epoch-(\d{5,6})", re.ASCII)  # a million epochs are nobody's
PART = re.compile(r"groups-(\d{8})-(\d{8})\.([0-9a-f]{8})\.bin", re.ASCII)
VALIDATION = re.compile(r"validation-([0-9a-f]{16})\.([0-9a-f]{8})\.bin")
SIGN_OF_LIFE_S = 10.0  # between two touches of a recorder's file
SILENCE_S = 300.0  # after which a recorder counts as dead


class TapePart(NamedTuple):
    """Answers to the groups start..stop-1 of an epoch."""

    start: int
    stop: int
    path: Path


class Gap(NamedTuple):
    """Groups start..stop-1 of an epoch that are not recorded."""

    epoch: int
    start: int
    stop: int


@dataclass(frozen=True)
class Recorder:
    """A process that is recording these epochs now."""

    epochs: range
    path: Path


def epoch_folder(root: Path, epoch: int) -> Path:
    return root / f"epoch-{epoch:05d}"


def recorded_epochs(root: Path) -> list[int]:
    """Epochs of which something is there."""
    return sorted(int(found[1]) for entry in os.scandir(root) if (found := EPOCH.fullmatch(entry.name)))


def list_parts(root: Path, epoch: int, layout: TapeLayout) -> tuple[list[TapePart], list[Path]]:
    """An epoch's whole parts by their first group, each reaching further than those before it; and the cut ones."""
    folder = epoch_folder(root, epoch)
    found: list[TapePart] = []
    cut: list[TapePart] = []
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if match := PART.fullmatch(entry.name):
            part = TapePart(int(match[1]), int(match[2]), Path(entry.path))
            length = part.stop - part.start
            whole = length > 0 and entry.stat().st_size == layout.part_bytes(length)
            (found if whole else cut).append(part)
    parts: list[TapePart] = []
    for part in sorted(found, key=lambda part: (part.start, -part.stop)):
        if not parts or part.stop > parts[-1].stop:
            parts.append(part)
    return parts, [part.path for part in cut]


def gaps_between(parts: Iterable[TapePart], epoch: int, groups: range) -> list[Gap]:
    """Which of the groups no part holds."""
    gaps, reached = [], groups.start
    for part in parts:
        if part.start > reached and reached < groups.stop:
            gaps.append(Gap(epoch, reached, min(part.start, groups.stop)))
        reached = max(reached, part.stop)
    return gaps + ([Gap(epoch, reached, groups.stop)] if reached < groups.stop else [])


def describe_gaps(gaps: list[Gap], groups: int, *, limit: int = 6) -> list[str]:
    """The gaps in words; runs of epochs of which nothing is there are one."""
    words = [
        f"epoch {gap.epoch}: groups {gap.start} to {gap.stop - 1} of {groups}"
        for gap in gaps
        if (gap.start, gap.stop) != (0, groups)
    ]
    runs: list[range] = []
    for gap in gaps:
        if (gap.start, gap.stop) == (0, groups):
            begins = runs.pop().start if runs and runs[-1].stop == gap.epoch else gap.epoch
            runs.append(range(begins, gap.epoch + 1))
    words += [name_epochs(run) for run in runs]
    return words[:limit] + ([f"and {len(words) - limit} more"] if len(words) > limit else [])


def name_epochs(epochs: range) -> str:
    return f"epoch {epochs.start}" if len(epochs) == 1 else f"epochs {epochs.start} to {epochs.stop - 1}"


def write_part(root: Path, epoch: int, groups: range, content: bytes) -> Path:
    """Write one part whole, or not at all."""
    folder = epoch_folder(root, epoch)
    path = folder / f"groups-{groups.start:08d}-{groups.stop:08d}.{zlib.crc32(content):08x}.bin"
    write_atomic(path, content)
    return path


def read_content(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped into memory and checked against its name.

    Raises:
        DeitkitError: they are not what was written.
    """
    if not path.is_file() or not path.stat().st_size:  # nothing, which cannot be mapped
        content: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
    else:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    if not len(content) or f"{zlib.crc32(content.data):08x}" != path.name.split(".")[-2]:
        raise DeitkitError(
            f"{path} is damaged: its bytes are not those that were written",
            value=str(path),
            remedy="delete this file and repeat the command that recorded it: only what is missing is recorded",
        )
    return content


def write_validation(root: Path, key: str, decisions: npt.NDArray[np.int64]) -> Path:
    """The teacher's decisions on the validation images [N]; `key` says which images, and how they were shown."""
    content = decisions.astype("<i4").tobytes()
    path = root / f"validation-{key}.{zlib.crc32(content):08x}.bin"
    write_atomic(path, content)
    return path


def find_validation(root: Path, key: str) -> Path | None:
    for entry in os.scandir(root):
        match = VALIDATION.fullmatch(entry.name)
        if match and match[1] == key:
            return Path(entry.path)
    return None


# Who records


@contextlib.contextmanager
def recording(root: Path, epochs: range) -> Iterator[SignOfLife]:
    """While it is open, readers of these epochs wait for what is not there yet."""
    path = root / f"recording-{socket.gethostname()}-{os.getpid()}.json"
    write_atomic(path, json.dumps({"epochs": [epochs.start, epochs.stop]}))
    try:
        yield SignOfLife(path)
    finally:
        path.unlink(missing_ok=True)


class SignOfLife:
    """Touches a recorder's file now and then."""

    def __init__(self, path: Path) -> None:
        self.path, self.last = path, time.monotonic()

    def give(self) -> None:
        if time.monotonic() - self.last > SIGN_OF_LIFE_S:
            self.path.touch()
            self.last = time.monotonic()


def recorders(root: Path) -> list[Recorder]:
    """Processes that are recording now: heard of lately, and those of this machine still running. What was not written
    by one is left out."""
    alive = []
    for path in root.glob("recording-*-*.json"):
        with contextlib.suppress(OSError, ValueError, DeitkitError):  # it ended while we looked
            host, _, pid = path.stem.removeprefix("recording-").rpartition("-")
            heard = time.time() - path.stat().st_mtime < SILENCE_S
            if heard and (host != socket.gethostname() or is_running(int(pid))):
                start, stop = read_json(path, _Recording, remedy="delete it").epochs
                alive.append(Recorder(range(start, stop), path))
    return alive


@dataclass(frozen=True)
class _Recording:
    """A recorder's file."""

    epochs: tuple[int, int]


def is_running(pid: int) -> bool:
    """Whether another process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:  # no process has such a number
        return False
    return pid != os.getpid()
