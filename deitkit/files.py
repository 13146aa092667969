"""Writing files: whole or not at all, never over what a user made; a disk that refuses is an error with its remedy."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from deitkit.errors import DeitkitError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSING = (
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ENXIO, errno.EINVAL, errno.ENOTSUP, errno.ETXTBSY, errno.ESTALE,
)  # fmt: skip
STREAM = re.compile(r"/dev/std(out|err)|/(?:dev|proc/self)/fd/(\d+)")
OWN_FOLDERS = ("reports", "predictions")  # of a run: what is in them was made by deitkit, and is made anew


@contextmanager
def saving(path: Path, *, verb: str = "write", elsewhere: str = "name another place with --output") -> Iterator[None]:
    """Turn a full, read-only or closed disk into an error with its remedy; other failures pass.

    Raises:
        DeitkitError: no room, no right, or no such place; what was there before is intact.
    """
    try:
        yield
    except DeitkitError:
        raise
    except Exception as error:  # safetensors and torch wrap the system's error in their own
        number = _errno_of(error)
        if number in DISK_FULL:
            remedy = "make room, then repeat the command (a training with --resume); what was saved before is intact"
        elif number in REFUSING:
            remedy = f"{elsewhere}, or make this one accessible"
        else:
            raise
        reason = "the disk is full" if number in DISK_FULL else os.strerror(number)
        raise DeitkitError(f"cannot {verb} {path}: {reason}", value=str(path), remedy=remedy) from error


def _errno_of(error: Exception) -> int:
    """The system's number of a failure; 0 where it is none of the disk's."""
    if isinstance(error, OSError):
        return error.errno or 0
    for number in (*DISK_FULL, *REFUSING):
        if f"os error {number})" in str(error) or (number in DISK_FULL and os.strerror(number) in str(error)):
            return number
    return 0


def read_regular(path: Path, *, limit: int | None = None) -> bytes:
    """A file's bytes; a device, a pipe or a socket, which may never end, is refused, and so are more than `limit`.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than {limit:,}", str(path))
        return file.read(size + 1 if limit is None else limit)


def open_regular(path: Path) -> BinaryIO:
    """A file opened for reading.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait for a writer
    file = open(descriptor, "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return file


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write beside the place, fsync, rename: a reader sees the old file or the whole new one.

    Folders that are missing are made. A link is followed. A device, a pipe or an open stream is written to instead.

    Raises:
        DeitkitError: the disk is full, or the place cannot be written.
    """
    # Bytes of a file's name that are no text are spelled out.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with writing_whole(path) as file:
        file.write(data)


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """The same bit by bit: a file that takes its place when the block has ended without an error.

    Raises:
        DeitkitError: as `write_atomic`.
    """
    with saving(path):
        if is_stream(path):
            held = io.BytesIO()
            yield held
            _write_through(path, held.getvalue())
            return
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether it is a device, a pipe, a socket or a stream that is open already, which nothing may replace."""
    if STREAM.fullmatch(str(path.absolute())):
        return True
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _write_through(path: Path, data: bytes) -> None:
    """Into the stream itself: opening /dev/stdout anew would cut the file behind it."""
    named = STREAM.fullmatch(str(path.absolute()))
    if named is None:
        path.write_bytes(data)
        return
    sys.stdout.flush()
    number = int(named[2]) if named[2] else {"out": 1, "err": 2}[named[1]]
    with open(os.dup(number), "wb") as stream:
        stream.write(data)


def expanded(name: str | Path) -> Path:
    """The path with ~ and ~USER replaced by their homes; one of a user that is not here is left as it is written."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def output_file(name: str | Path, *, overwrite: bool) -> Path:
    """Where a result is to go, asked before the work begins; `-` is standard output.

    Raises:
        DeitkitError: something is there and `overwrite` is not asked for, or it cannot be written there.
    """
    path = Path("/dev/stdout" if str(name) == "-" else expanded(name))
    if is_stream(path):
        if path.is_block_device():
            raise DeitkitError(f"{path} is a disk", value=str(path), remedy="name a file")
        return path
    if path.is_dir():
        raise DeitkitError(f"{path} is a folder", value=str(path), remedy=f"name a file: {path / 'NAME'}")
    _refuse_existing([path], overwrite=overwrite or _is_own(path.parent))
    _refuse_unwritable(path)
    return path


def output_folder(name: str | Path, *, stem: str, overwrite: bool) -> Path:
    """The folder where files `STEM.*` and `STEM_*` are to go, asked before the work begins.

    Raises:
        DeitkitError: such a file is there and `overwrite` is not asked for, or it cannot be written there.
    """
    folder = expanded(name)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    there = [path for path in inside if path.name.startswith((f"{stem}.", f"{stem}_"))]
    _refuse_existing(there, overwrite=overwrite or _is_own(folder))
    _refuse_unwritable(folder / "NAME")
    return folder


def output_model(name: str | Path, *, own: Container[str] | None, overwrite: bool) -> Path:
    """Where a file, or a folder that holds nothing but what is named in `own`, is to go, asked before the work begins.

    Raises:
        DeitkitError: it is there and `overwrite` is not asked for, it holds something else, or it cannot be written.
    """
    path = expanded(name)
    if is_stream(path) or (path.exists() and path.is_dir() == (own is None)):
        kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "no place for a model"
        raise DeitkitError(f"{path} is {kind}", value=str(path), remedy="name another --output")
    _refuse_existing([path], overwrite=overwrite)
    inside = sorted(path.iterdir()) if path.is_dir() else []
    if other := [each.name for each in inside if each.name not in (own or ())]:
        told = f"{', '.join(other[:3])}{', ...' * bool(other[3:])}"
        what = f"{path} is a folder that holds more than an exported model: {told}"
        raise DeitkitError(what, value=str(path), remedy="name another --output")
    _refuse_unwritable(path)
    return path


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A path of the same name, elsewhere on the same disk, for what becomes `place` at the end: nothing is seen of it
    before it is whole, and nothing stays of it where that fails.

    Raises:
        DeitkitError: the disk refuses.
    """
    with saving(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            yield temporary / place.name
            if place.is_dir():
                replace_folder(temporary / place.name, place)
            else:
                os.replace(temporary / place.name, place)
                sync_folder(place.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    """Whether it is what deitkit keeps in a run."""
    return folder.name in OWN_FOLDERS and (folder.parent / "recipe.toml").is_file()


def _refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise DeitkitError(f"{path} exists", value=str(path), remedy="name another --output, or --overwrite")


def _refuse_unwritable(path: Path) -> None:
    """Ask the nearest folder that is there whether it takes new entries; nothing is made yet."""
    import tempfile

    with saving(path):
        folder = path.absolute().parent
        while not os.path.lexists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell: root, quotas, /proc
            pass


# What a killed process leaves

REMAINS = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<kind>tmp|old)")


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [place] if place.is_file() else [inside for inside in place.rglob("*") if inside.is_file()]
    return sum(file.stat().st_size for file in files)


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest folder around it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """A file or a folder, if it is there. A folder goes under another name first: no half of it is ever seen."""
    if path.is_dir() and not path.is_symlink():
        gone = path if REMAINS.fullmatch(path.name) else path.with_name(f".{path.name}.{os.getpid()}.tmp")
        if gone != path:
            shutil.rmtree(gone, ignore_errors=True)
            os.replace(path, gone)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def replace_folder(new: Path, place: Path) -> None:
    """Put the folder `new` in its place; what was there goes when it stands. A kill in between `recover_in` mends."""
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(place, old)
        os.replace(new, place)
        sync_folder(place.parent)
    finally:
        if old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(old, ignore_errors=True)


def recover_in(folder: Path, names: Container[str] | None = None, *, shared: bool = False) -> None:
    """Remove what dead processes were writing in `folder` under these names (None: any), and put back what they had
    moved aside for it.

    `shared`: others may be writing there now, so only what belongs to no living process of this machine is taken.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = REMAINS.fullmatch(path.name)
        if found is None or (names is not None and found["name"] not in names):
            continue
        if shared and is_running(int(found["pid"])):
            continue
        place = folder / found["name"]
        if found["kind"] == "old" and not place.exists():
            os.replace(path, place)
        else:
            remove(path)


def is_running(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
