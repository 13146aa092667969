"""Archives unpacked whole or not at all, and never outside their folder. Knows no data set and no network.

An archive is read once, into a hidden folder beside the destination; tarfile's data filter holds each member to what
is safe (PEP 706). The folder is renamed when the archive has been read to its end, and only then are its entries moved
into place.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from deitkit.errors import DeitkitError
from deitkit.files import saving

CHUNK = 1 << 20  # bytes
SPARE = 64 << 20  # bytes that are left free on the disk
COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
DAMAGE = (EOFError, OSError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError)


class ExtractionProgress(Protocol):
    """Whoever watches a long transfer; counts are bytes."""

    def begin(self, title: str, *, total: int | None, done: int = 0) -> None: ...

    def advance(self, count: int) -> None: ...

    def say(self, text: str) -> None: ...


class Quiet:
    """Nobody watches."""

    def begin(self, title: str, *, total: int | None, done: int = 0) -> None: ...

    def advance(self, count: int) -> None: ...

    def say(self, text: str) -> None: ...


QUIET = Quiet()


def unpack_aside(archive: Path, folder: Path, *, progress: ExtractionProgress = QUIET) -> tuple[str, ...]:
    """Unpack into a hidden folder below `folder`, which exists only when it is complete; gives its entries' names.

    Raises:
        DeitkitError: a damaged or truncated archive, a member that would leave the folder, a link or a device, no room.
    """
    whole = unpacked_folder(archive, folder)
    if not whole.is_dir():
        _fill(archive, whole, progress)
    return tuple(sorted(entry.name for entry in whole.iterdir()))


def move_into_place(archive: Path, folder: Path) -> None:
    """Move an unpacked archive's entries to where they belong.

    Raises:
        DeitkitError: a name is taken; nothing is overwritten, and what was unpacked waits.
    """
    whole = unpacked_folder(archive, folder)
    entries = sorted(entry.name for entry in whole.iterdir())
    taken = [name for name in entries if os.path.lexists(folder / name)]
    if taken:
        raise DeitkitError(
            f"{archive.name} is unpacked in {whole}, but {folder} already has: {', '.join(taken)}",
            value=folder / taken[0],
            remedy="move that away and repeat the command; it is not overwritten",
        )
    for name in entries:
        os.replace(whole / name, folder / name)
    whole.rmdir()


def unpacked_folder(archive: Path, folder: Path) -> Path:
    """The hidden folder that exists only while a wholly unpacked archive waits to be moved into place."""
    return folder / f".{archive.name}.unpacked"


def _fill(archive: Path, whole: Path, progress: ExtractionProgress) -> None:
    """Write all members below a folder that has the name `whole` only once they are complete and on the disk."""
    filling = whole.with_suffix(".unpacking")
    shutil.rmtree(filling, ignore_errors=True)  # an interrupted attempt
    try:
        with saving(filling):
            filling.mkdir(parents=True)
        if not _extract(archive, filling, progress):
            raise DeitkitError(f"{archive} is an empty archive", value=archive, remedy="fetch it again")
        os.sync()  # once: an fsync for each of half a million images would take longer than unpacking them
        os.replace(filling, whole)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


def _extract(archive: Path, folder: Path, progress: ExtractionProgress) -> int:
    """Every member below `folder`; how many there are. Compression is told by content: ImageNet-V2's .tar.gz has none.

    Raises:
        DeitkitError: a member leads out, is a link or a device, or does not fit; a damaged or truncated archive.
    """
    count = done = 0
    with _reading(archive), open(archive, "rb") as raw:
        progress.begin(f"unpacking {archive.name}", total=os.fstat(raw.fileno()).st_size)
        magic = raw.read(6)
        raw.seek(0)
        decompress = next((opener for prefix, opener in COMPRESSED if magic.startswith(prefix)), None)
        stream = _Remembering(decompress(raw) if decompress else raw)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as packed:  # type: ignore[call-overload]
            while (info := packed.next()) is not None:
                _refuse_odd(info, archive, folder)
                try:
                    with saving(folder / info.name, elsewhere="name another place with --data"):
                        packed.extract(info, folder, filter="data")
                except tarfile.FilterError as error:
                    raise _refused(archive, info.name, "leads out of the folder") from error
                packed.members.clear()  # else a million headers stay in memory
                progress.advance(raw.tell() - done)
                count, done = count + 1, raw.tell()
            end = packed.offset
        # tarfile takes a missing end, or a garbled header, for the end.
        if stream.block(end) != bytes(tarfile.BLOCKSIZE):
            raise _damaged(archive, "it ends before its end mark")
        while stream.read(CHUNK):  # the compressed stream's own checksum comes last
            pass
    return count


def _refuse_odd(info: tarfile.TarInfo, archive: Path, folder: Path) -> None:
    """Links and devices, which no data set has, and what would fill the disk."""
    if not (info.isreg() or info.isdir()):
        raise _refused(archive, info.name, "is a link or a device")
    free = shutil.disk_usage(folder).free
    if info.size > free - SPARE:
        raise DeitkitError(
            f"{archive.name} does not fit on the disk: {info.name} has {info.size:,} bytes, {free:,} are free",
            value=info.name,
            remedy="make room, or unpack it elsewhere: --data OTHER; the archive is kept",
        )


class Readable(Protocol):
    """What of a file is needed here."""

    def read(self, count: int, /) -> bytes: ...


class _Remembering:
    """A stream that can show a block again which was read just now."""

    def __init__(self, file: Readable) -> None:
        self.file = file
        self.recent: deque[bytes] = deque(maxlen=2)
        self.position = 0

    def read(self, count: int) -> bytes:
        chunk = self.file.read(count)
        self.recent.append(chunk)
        self.position += len(chunk)
        return chunk

    def block(self, offset: int) -> bytes:
        recent = b"".join(self.recent)
        start = offset - (self.position - len(recent))
        return recent[start : start + tarfile.BLOCKSIZE]


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn whatever the standard library raises on a bad archive into one error."""
    try:
        yield
    except DAMAGE as error:
        raise _damaged(archive, str(error) or type(error).__name__) from error


def _damaged(archive: Path, why: str) -> DeitkitError:
    return DeitkitError(
        f"{archive} is damaged or truncated: {why}",
        value=archive,
        remedy="nothing of it was taken; remove the file and fetch it again",
    )


def _refused(archive: Path, name: str, why: str) -> DeitkitError:
    return DeitkitError(
        f"{archive.name} is refused: its member {name!r} {why}",
        value=name,
        remedy="nothing of it was taken; fetch the archive from its own host",
    )
