"""A data set's plan carried out: what is missing is fetched, unpacked and noted. Knows no protocol and prints nothing.

`.deitkit-download.json` in the data set's folder holds a receipt for each file: what was fetched, from where, with
which checksum, and what an archive makes there: it is written once the archive is wholly unpacked aside, before its
entries are moved into place, so that a process killed at any moment is taken up where it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deitkit.data.download.archives import QUIET, ExtractionProgress, move_into_place, unpack_aside, unpacked_folder
from deitkit.data.download.fetch import fetch
from deitkit.data.download.hosts import DownloadPlan, HostedFile
from deitkit.data.download.part import writing
from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.records import read_json

RECEIPTS = ".deitkit-download.json"


def receive(
    plan: DownloadPlan, root: Path, *, mirror: str = "", keep_archives: bool = False,
    progress: ExtractionProgress = QUIET, sleep: Callable[[float], None] = time.sleep,
) -> list[HostedFile]:  # fmt: skip
    """Fetch and unpack what is missing of a plan below `root`; gives the files that were. Repeating it goes on.

    Archives are removed once unpacked, unless they are to be kept or were put there by a person.

    Raises:
        DeitkitError: no network, a wrong checksum, no room, a damaged archive, or a place that is taken.
    """
    missing = missing_files(plan, root)
    if not missing:
        return []
    refuse_taken(missing, root)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        for file in missing:
            _receive_one(file, root, mirror=mirror, keep_archives=keep_archives, progress=progress, sleep=sleep)
    return missing


def missing_files(plan: DownloadPlan, root: Path) -> list[HostedFile]:
    """The files whose contents are not known to be there: no receipt, another checksum, or something was removed."""
    receipts = _receipts(root)
    return [file for file in plan.files if not _is_there(file, root, receipts.get(file.name, Receipt()))]


def _is_there(file: HostedFile, root: Path, receipt: Receipt) -> bool:
    waiting = unpacked_folder(root / file.name, root).is_dir()
    if receipt.checksum != file.checksum or waiting or not receipt.entries:
        return False
    return all(os.path.exists(root / entry) for entry in receipt.entries)  # noqa: PTH110 -- Path's raises on long names


def refuse_taken(files: list[HostedFile], root: Path) -> None:
    """Raise before any work if an archive's entries would meet files that did not come from it."""
    taken = [
        name
        for file in files
        if not unpacked_folder(root / file.name, root).is_dir()
        for name in file.makes
        if os.path.lexists(root / name)
    ]
    if taken:
        raise DeitkitError(
            f"{root} already has {', '.join(taken)}, and this command did not complete it",
            value=root / taken[0],
            remedy="nothing is overwritten: move it away and repeat the command, or --data OTHER downloads elsewhere",
        )


def _receive_one(
    file: HostedFile, root: Path, *, mirror: str, keep_archives: bool, progress: ExtractionProgress,
    sleep: Callable[[float], None],
) -> None:  # fmt: skip
    path, receipt = root / file.name, _receipts(root).get(file.name, Receipt())
    ours = receipt.downloaded or not path.exists()
    waiting = unpacked_folder(path, root).is_dir()
    if not waiting:
        fetch(file, root, mirror=mirror, progress=progress, sleep=sleep)
        _note_receipt(root, file, downloaded=ours, entries=() if file.makes else (file.name,))
    if not file.makes:
        return
    entries = unpack_aside(path, root, progress=progress)
    if not (waiting and receipt.entries):  # else some may have been moved already
        _note_receipt(root, file, downloaded=ours, entries=entries)
    if ours and not keep_archives:
        path.unlink(missing_ok=True)
    move_into_place(path, root)


@dataclass(frozen=True)
class Receipt:
    """What is noted of a file that was fetched, and what an archive makes there."""

    url: str = ""
    checksum: str = ""
    downloaded: bool = False
    entries: tuple[str, ...] = ()


def _receipts(root: Path) -> dict[str, Receipt]:
    """What was received earlier, by file name; unreadable receipts are none."""
    try:
        return read_json(root / RECEIPTS, dict[str, Receipt], remedy="delete it")
    except DeitkitError:
        return {}


def _note_receipt(root: Path, file: HostedFile, *, downloaded: bool, entries: tuple[str, ...]) -> None:
    receipts = {**_receipts(root), file.name: Receipt(file.url, file.checksum, downloaded, entries)}
    content = {name: asdict(receipt) for name, receipt in receipts.items()}
    write_atomic(root / RECEIPTS, json.dumps(content, indent=2))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Raise if another process downloads into the folder; leave no empty folder behind."""
    path = root / ".deitkit-download.lock"
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            busy = os.fstat(lock.fileno()).st_nlink == 0  # its holder has just removed it
        except BlockingIOError:
            busy = True
        if busy:
            raise DeitkitError(f"another process downloads into {root}", value=root, remedy="wait, or --data OTHER")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds something
                root.rmdir()
