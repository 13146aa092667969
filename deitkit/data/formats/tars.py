"""Images inside tar files: one pread each, from a few open files; and which tar files are shards. Reads no index."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deitkit.data.formats.listing import entries_of, folders_in, is_folder
from deitkit.data.formats.split_names import split_of
from deitkit.data.source import Images, Indices, counted
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    import pyarrow as pa

OPEN_FILES = 16  # of a process, whatever it reads
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True)
class Shard:
    """A tar file as it was when it was looked at."""

    name: str  # relative to the root
    size: int  # bytes
    changed_ns: int


@dataclass(frozen=True, kw_only=True)
class Shards(Images):
    """Images inside tar files below `root`; places [N, 3] are shard, offset and size in bytes."""

    root: Path
    shards: tuple[Shard, ...]
    places: Indices

    def read(self, index: int) -> bytes:
        """One pread, which moves no file position: threads and forked workers may share a file."""
        number, offset, size = self.places[index].tolist()
        shard = self.shards[number]
        path = f"{self.root}/{shard.name}"
        try:
            data = os.pread(opened(path, shard, os.getpid()).descriptor, size, offset)
        except OSError as error:
            raise DeitkitError(
                f"cannot read image {self.ids[index]} in {path}: {error.strerror or error}",
                value=path,
                remedy="restore the shard and start anew",
            ) from error
        if len(data) != size:
            raise changed(path)
        return data


class _OpenFile:
    """A descriptor that is closed when nobody reads from it any more, so that no reader loses it to another."""

    _close = staticmethod(os.close)  # `os` may be gone when the interpreter ends

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            self._close(self.descriptor)


@lru_cache(OPEN_FILES)
def opened(path: str, shard: Shard, pid: int) -> _OpenFile:
    """A shard's open file in this process; `pid` keeps a forked one from using its parent's."""
    file = _OpenFile(path)
    found = os.fstat(file.descriptor)
    if (found.st_size, found.st_mtime_ns) != (shard.size, shard.changed_ns):
        raise changed(path)
    return file


def changed(path: str) -> DeitkitError:
    return DeitkitError(f"the shard {path} was changed while it was in use", value=path, remedy="start anew")


def stat_shard(root: Path, name: str) -> Shard:
    found = (root / name).stat()
    return Shard(name, found.st_size, found.st_mtime_ns)


def places_of(table: pa.Table) -> Indices:
    """places [N, 3]."""
    return np.stack([table[name].to_numpy().astype(np.int64) for name in ("shard", "offset", "size")], axis=1)


def archives(root: Path) -> list[str]:
    """Archives named like shards, in `root` and its folders of splits, in their order.

    Where there are as many other folders, archives are what is left of unpacking: ImageNet's train/n01440764.tar.
    """
    found = []
    for folder in ("", *filter(split_of, folders_in(root))):
        entries = entries_of(root / folder)
        names = [entry.name for entry in entries if _is_shard_name(entry.name) and Path(entry.path).is_file()]
        others = sum(is_folder(entry) and not split_of(entry.name) for entry in entries)
        found += [f"{folder}/{name}".lstrip("/") for name in names] if len(names) > others else []
    return sorted(found, key=by_number)


def by_number(name: str) -> list[tuple[int, int, str]]:
    """Sorts 9.tar before 10.tar."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _is_shard_name(name: str) -> bool:
    """A number at the end or a split as the whole name; data sets come as other archives, too."""
    stem = _stem(name)
    suffix = name.lower().removeprefix(stem)
    if suffix == ".tar":
        return bool(re.search(r"\d$", stem)) or bool(split_of(stem))
    return suffix in COMPRESSED and bool(re.search(r"(^|[-_.])\d{2,}$", stem))


def _stem(name: str) -> str:
    return re.sub(r"\.(tar(\.[a-z0-9]+)?|tgz)$", "", name.lower())


def plain_tars(root: Path) -> list[str]:
    names = archives(root)
    plain = [name for name in names if name.lower().endswith(".tar")]
    unpacked = {_stem(name) for name in plain}
    compressed = [name for name in names if _stem(name) not in unpacked]
    if compressed:
        raise DeitkitError(
            counted(f"shards in {root} are compressed, and an image inside cannot be reached", compressed),
            value=root,
            remedy=f"random access needs plain tars: gunzip {root / compressed[0]}, and so for each",
        )
    return plain
