"""Writing files whole: beside their place, then renamed; a full or read-only disk is an error with the remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deitkit.errors import DeitkitError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a full disk into an error with its remedy; other failures pass.

    Raises:
        DeitkitError: no room; what was there before is intact.
    """
    try:
        yield
    except Exception as error:  # safetensors and torch wrap the system's error in their own
        full = (
            error.errno in DISK_FULL
            if isinstance(error, OSError)
            else any(os.strerror(number) in str(error) or f"os error {number}" in str(error) for number in DISK_FULL)
        )
        if not full:
            raise
        raise DeitkitError(
            f"cannot write {path}: the disk is full ({error})",
            value=str(path),
            remedy="make room, then repeat the command with --resume; what was saved before is intact",
        ) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write beside the place, fsync, rename: a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
