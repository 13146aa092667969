"""One shard, and the index of all. Equal images give equal bytes. Decodes nothing.

A shard is written aside and renamed when it is whole; a small file beside it then says what is in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from deitkit.data.formats.shards import UNFINISHED
from deitkit.data.late import pa, pq
from deitkit.data.source import SUFFIXES, Source
from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.records import read_json

BLOCK, RECORD = 512, 10_240  # bytes; a tar ends in two empty blocks, filled up to a record
MAGIC = {
    b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"P6": ".ppm", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp",
    b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip

Progress = Callable[[str, int, int], None]  # what is done with a split, images done, images in all


@dataclass(frozen=True)
class PackedShard:
    """One whole shard: bytes of the tar, and of each image in it."""

    name: str
    bytes: int
    sha256: str
    sizes: list[int]


def whole_shard(root: Path, name: str) -> PackedShard | None:
    """A shard that an earlier call finished."""
    try:
        shard = read_json(root / UNFINISHED / f"{name}.json", PackedShard, remedy="delete it")
        return shard if (root / name).stat().st_size == shard.bytes and shard.sizes else None
    except (OSError, DeitkitError):
        return None


def write_shard(source: Source, first: int, path: Path, *, limit: int, tell: Progress) -> PackedShard:
    """Images from `first` on, as many as fit into `limit` bytes and at least one."""
    aside = path.parent / UNFINISHED / path.name
    sizes: list[int] = []
    digest, written = hashlib.sha256(), 0
    try:
        with open(aside, "wb") as file:
            for index in range(first, len(source)):
                image = source.read(index)
                sample = _sample(index, source.ids[index], image, int(source.labels[index]))
                if sizes and written + len(sample) + len(_end(written + len(sample))) > limit:
                    break
                digest.update(sample)
                written += file.write(sample)
                sizes.append(len(image))
                tell(f"{source.split} packed", index + 1, len(source))
            digest.update(_end(written))
            written += file.write(_end(written))
            file.flush()
            os.fsync(file.fileno())
        shard = PackedShard(path.name, written, digest.hexdigest(), sizes)
        write_atomic(aside.with_name(f"{path.name}.json"), json.dumps(asdict(shard)))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return shard


def _sample(index: int, image_id: str, image: bytes, label: int) -> bytes:
    """Two members: the image with its own suffix, and its label. Keys are numbers, because names may hold dots."""
    suffix = PurePosixPath(image_id).suffix.lower()
    if suffix not in SUFFIXES:
        suffix = next((found for magic, found in MAGIC.items() if image.startswith(magic)), ".bin")
    return _member(f"{index:09d}{suffix}", image) + _member(f"{index:09d}.cls", str(label).encode())


def _member(name: str, content: bytes) -> bytes:
    """Header, content and padding: nothing of the clock or the user is in it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def _end(written: int) -> bytes:
    """What closes a tar of so many bytes."""
    return bytes(2 * BLOCK + -(written + 2 * BLOCK) % RECORD)


def write_index(source: Source, shards: Sequence[PackedShard], path: Path) -> dict[str, str]:
    """One row an image, in the source's order. An image's offset follows from the sizes before it."""
    offsets = []
    for shard in shards:
        padded = -(-np.array(shard.sizes, dtype=np.int64) // BLOCK) * BLOCK
        ends = np.cumsum(padded + 3 * BLOCK)  # its header, and the label's header and block
        offsets.append(ends - padded - 2 * BLOCK)
    columns = {
        "id": pa.array([os.fsencode(name) for name in source.ids], pa.binary()),
        "shard": pa.array(np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.sizes) for shard in shards])),
        "offset": pa.array(np.concatenate(offsets)),
        "size": pa.array([size for shard in shards for size in shard.sizes], pa.int64()),
        "label": pa.array(source.labels),
    }
    if source.accepted is not None:
        columns["accepted"] = pa.array([row.tolist() for row in source.accepted.rows], pa.list_(pa.int64()))
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())
    return {"name": path.name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
