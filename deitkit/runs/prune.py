"""What of a run may go without a loss that a person would notice, and deleting it. Weights and results always stay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from deitkit.files import REMAINS, size_of
from deitkit.runs.folder import Run
from deitkit.runs.names import BEST, checkpoints


@dataclass(frozen=True)
class Superfluous:
    """A folder or file that may go, its bytes, and why."""

    path: Path
    size: int  # bytes
    why: str


def superfluous(run: Run) -> list[Superfluous]:
    """What may go of a run that is not being written: of a finished one the checkpoints of single steps but the last,
    and what killed processes left half-written. The best checkpoint stays."""
    if run.status() == "running":
        return []
    found = [
        _measured(path, "half-written by a process that is gone")
        for folder in (run.path, run.checkpoints)
        if folder.is_dir()
        for path in folder.iterdir()
        if _is_left(path)
    ]
    if run.status() == "finished":
        steps = [run.checkpoints / name for name in checkpoints(run) if name != BEST]
        found += [_measured(path, "the run is finished") for path in steps[:-1]]
    return found


def _is_left(path: Path) -> bool:
    """Whether a killed process left it, and nothing is lost with it: what it had moved aside may be the only one."""
    left = REMAINS.fullmatch(path.name)
    return left is not None and (left["kind"] == "tmp" or path.with_name(left["name"]).exists())


def delete(found: list[Superfluous]) -> int:
    """Delete these; gives the bytes that became free."""
    for each in found:
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path)
        else:
            each.path.unlink()
    return sum(each.size for each in found)


def _measured(path: Path, why: str) -> Superfluous:
    return Superfluous(path, size_of(path), why)
