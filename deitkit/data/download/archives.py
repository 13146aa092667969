"""Archives unpacked whole or not at all, and never outside their folder. Knows no data set and no network.

An archive is read once: each member is checked before it is written below a hidden folder beside the destination; the
folder is renamed when the archive has been read to its end, and only then are its entries moved into place.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Protocol

from deitkit.errors import DeitkitError

CHUNK = 1 << 20  # bytes
SPARE = 64 << 20  # bytes that are left free on the disk
COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")
DAMAGE = (
    EOFError, OSError, ValueError, NotImplementedError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


class Progress(Protocol):
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


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive; `size` is declared, in bytes."""

    name: str
    is_folder: bool
    size: int
    chunks: Iterator[bytes]


def unpack(archive: Path, folder: Path, *, progress: Progress = QUIET) -> tuple[str, ...]:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip file into `folder`; gives the names of the entries it made there.

    Interrupted at any point, it leaves none of the archive's entries or whole ones, and a repetition ends the work.

    Raises:
        DeitkitError: what `unpack_aside` and `move_into_place` raise.
    """
    entries = unpack_aside(archive, folder, progress=progress)
    move_into_place(archive, folder)
    return entries


def unpack_aside(archive: Path, folder: Path, *, progress: Progress = QUIET) -> tuple[str, ...]:
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


def _fill(archive: Path, whole: Path, progress: Progress) -> None:
    """Write all members below a folder that has the name `whole` only once they are complete and on the disk."""
    filling = whole.with_suffix(".unpacking")
    shutil.rmtree(filling, ignore_errors=True)  # an interrupted attempt
    try:
        filling.mkdir(parents=True)
        count = 0
        for member in members(archive, progress=progress):
            _write(member, filling, archive)
            count += 1
        if not count:
            raise DeitkitError(f"{archive} is an empty archive", value=archive, remedy="fetch it again")
        os.sync()  # once: an fsync for each of half a million images would take longer than unpacking them
        os.replace(filling, whole)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


def _write(member: Member, folder: Path, archive: Path) -> None:
    """One member below `folder`.

    Raises:
        DeitkitError: it leads out of the folder, comes twice, or does not fit on the disk.
    """
    place = folder / safe_name(member.name, archive=archive)
    free = shutil.disk_usage(folder).free
    if member.size > free - SPARE:
        raise DeitkitError(
            f"{archive.name} does not fit on the disk: {member.name} has {member.size:,} bytes, {free:,} are free",
            value=member.name,
            remedy="make room, or unpack it elsewhere: --data OTHER; the archive is kept",
        )
    try:
        if member.is_folder:
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb") as file:
            for chunk in member.chunks:
                file.write(chunk)
    except FileExistsError as error:
        raise _damaged(archive, f"it holds {member.name} twice") from error
    except OSError as error:
        raise DeitkitError(
            f"cannot unpack {member.name} of {archive}: {error.strerror or error}",
            value=archive,
            remedy="mend that (room on the disk, rights), then repeat the command; the archive is kept",
        ) from error


def safe_name(name: str, *, archive: Path) -> str:
    """The member's name, if it stays below its folder on any system.

    Raises:
        DeitkitError: it is absolute, goes up, or names nothing.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    foreign = PureWindowsPath(name)
    if name.startswith("/") or ".." in parts or foreign.anchor or ".." in foreign.parts or "\0" in name:
        raise _refused(archive, name, "leads out of the folder")
    return "/".join(parts)


def members(archive: Path, *, progress: Progress = QUIET) -> Iterator[Member]:
    """Files and folders in their order; a member's bytes must be read before the next one is asked for.

    Raises:
        DeitkitError: links, devices and encrypted members; a damaged or truncated archive.
    """
    with _reading(archive):
        size = archive.stat().st_size
        with open(archive, "rb") as file:
            magic = file.read(6)
    progress.begin(f"unpacking {archive.name}", total=size)
    return (_zip_members if magic.startswith(ZIPPED) else _tar_members)(archive, progress)


def _zip_members(archive: Path, progress: Progress) -> Iterator[Member]:
    with _reading(archive), zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.flag_bits & 1:
                raise _refused(archive, info.filename, "is encrypted")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, info.filename, "is a link or a device")
            with packed.open(info) as file:
                yield Member(info.filename, info.is_dir(), info.file_size, _chunks(file, archive))
            progress.advance(info.compress_size)


def _tar_members(archive: Path, progress: Progress) -> Iterator[Member]:
    """By content, not by name: ImageNet-V2's .tar.gz is no gzip file."""
    with _reading(archive), open(archive, "rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        decompress = next((opener for prefix, opener in COMPRESSED if magic.startswith(prefix)), None)
        stream = _Remembering(decompress(raw) if decompress else raw)
        done = 0
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as packed:  # type: ignore[call-overload]
            while (info := packed.next()) is not None:
                if not (info.isreg() or info.isdir()):
                    raise _refused(archive, info.name, "is a link or a device")
                file = packed.extractfile(info)
                yield Member(info.name, info.isdir(), info.size, iter(()) if file is None else _chunks(file, archive))
                packed.members.clear()  # else a million headers stay in memory
                progress.advance(raw.tell() - done)
                done = raw.tell()
            end = packed.offset
        # tarfile takes a missing end, or a garbled header, for the end.
        if stream.block(end) != bytes(tarfile.BLOCKSIZE):
            raise _damaged(archive, "it ends before its end mark")
        while stream.read(CHUNK):  # the compressed stream's own checksum comes last
            pass


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


def _chunks(file: Readable, archive: Path) -> Iterator[bytes]:
    while True:
        with _reading(archive):
            chunk = file.read(CHUNK)
        if not chunk:
            return
        yield chunk


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
