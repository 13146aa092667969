"""The bytes of a download that have arrived, on disk, with their running checksum. Knows no network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from deitkit.data.download.archives import ExtractionProgress
from deitkit.data.download.hosts import HostedFile
from deitkit.errors import DeitkitError
from deitkit.files import saving, write_atomic
from deitkit.records import read_json

CHUNK = 1 << 20  # bytes


class PartialFile:
    """The bytes of a file that have arrived, on disk, with their running checksum.

    `mixed` if they came in several answers, or earlier.
    """

    def __init__(self, target: Path, file: HostedFile, progress: ExtractionProgress) -> None:
        self.target, self.file, self.progress = target, file, progress
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.bad = target.with_name(f"{target.name}.bad")
        self.size, self.mixed, self.sum = 0, False, new_sum(file)
        if not self.path.is_file() or self._noted().get("checksum", file.checksum) != file.checksum:
            self.reset()
            return
        read_into(self.sum, self.path, progress)
        self.size = self.path.stat().st_size
        self.mixed = self.size > 0

    def _noted(self) -> dict[str, str]:
        """What an earlier call noted; a note that is missing or damaged is none."""
        try:
            return read_json(self.note, dict[str, str], remedy="delete it")
        except DeitkitError:
            return {}

    def version(self, url: str) -> str:
        """What the host called the version that the bytes are of, or nothing."""
        noted = self._noted()
        return noted.get("version", "") if noted.get("url") == url else ""

    def note_version(self, url: str, version: str) -> None:
        note = {"url": url, "checksum": self.file.checksum, "version": version}
        write_atomic(self.note, json.dumps(note, indent=2))

    def reset(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.size, self.mixed, self.sum = 0, False, new_sum(self.file)

    def is_right(self) -> bool:
        return str(self.sum.hexdigest()) == digest_of(self.file)

    def take(self, chunks: Iterator[bytes]) -> None:
        """Append, unbuffered: what was counted survives an interruption."""
        self.mixed = self.size > 0
        with writing(self.path), open(self.path, "ab", buffering=0) as opened:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[opened.write(rest) :]
                self.sum.update(chunk)
                self.size += len(chunk)
                self.progress.advance(len(chunk))

    def place(self) -> None:
        """Rename the whole file into its place, durably."""
        with writing(self.target):
            with open(self.path, "rb") as opened:
                os.fsync(opened.fileno())
            os.replace(self.path, self.target)
            self.note.unlink(missing_ok=True)
            self.bad.unlink(missing_ok=True)


def digest_of(file: HostedFile) -> str:
    return file.checksum.partition(":")[2]


def new_sum(file: HostedFile) -> Any:
    return hashlib.new(file.checksum.partition(":")[0], usedforsecurity=False)


def read_into(running: Any, path: Path, progress: ExtractionProgress) -> None:
    """Feed a file to a running checksum."""
    with writing(path, verb="read"):
        progress.begin(f"checking {path.name}", total=path.stat().st_size)
        with open(path, "rb") as opened:
            while chunk := opened.read(CHUNK):
                running.update(chunk)
                progress.advance(len(chunk))


def writing(place: Path, *, verb: str = "write") -> AbstractContextManager[None]:
    """Turn the disk's failures into an error with its remedy; what has arrived is kept."""
    return saving(place, verb=verb, elsewhere="name another place with --data")
