"""Reading images from packed shards against reading them from a folder: in order and in the stream's random order.

    python -m benchmarks.shards FOLDER [--pairs 5] [--shard-mb 256] [--scratch DIR] [--json FILE]

FOLDER is an image folder (ROOT/train/CLASS/IMAGE, or ROOT/CLASS/IMAGE). It is packed into a folder of its own that is
removed afterwards; put --scratch on the disk that FOLDER lies on. Reads bytes, decodes nothing, in one process and one
thread. A pair reads every image once from each, in alternating order; the numbers are medians over all pairs.

Cold means that the system was asked to drop its copies of the files (posix_fadvise DONTNEED), and how many it still had
is measured (preadv with RWF_NOWAIT) and printed. Names and inodes stay in memory, which favours the folder; what lies
below a virtual disk may keep copies, too, which favours both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deitkit.data.formats.folder import open_folder
from deitkit.data.formats.shards import SHARDS
from deitkit.data.open import Source
from deitkit.data.pack.pack import forget, pack
from deitkit.data.views.stream import order
from deitkit.recipe.schema import Data

FORMS = ("folder", "shards")
MEGABYTE = 10**6


@dataclass(frozen=True)
class Reading:
    """Medians over all pairs; `still_cached` is the share of probed files that a cold pass found in memory."""

    order: str
    cache: str
    form: str
    images_per_s: float
    megabytes_per_s: float
    opened: int  # files opened in a pass
    open_at_once: int
    still_cached: float


@dataclass(frozen=True)
class Found:
    """What was read, and how fast."""

    images: int
    bytes: int
    files: dict[str, int]
    pairs: int
    readings: list[Reading]


def is_cached(path: Path, offset: int) -> bool:
    """Whether the page at `offset` is in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def make_cold(files: Sequence[Path]) -> float:
    """Drop every file from memory; the share of them that is still there."""
    for path in files:
        forget(path)
    probed = files[:: max(1, len(files) // 200)]
    return sum(is_cached(path, path.stat().st_size // 2) for path in probed) / len(probed)


def seconds(source: Source, indices: Sequence[int]) -> float:
    began = time.perf_counter()
    for index in indices:
        source.read(index)
    return time.perf_counter() - began


def open_files() -> int:
    """Shards that this process has open."""
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.endswith(".tar") for link in links)


def measure(sources: dict[str, Source], files: dict[str, list[Path]], *, pairs: int) -> list[Reading]:
    """Every order, cold and warm."""
    count = len(sources["folder"])
    orders = {"in order": list(range(count)), "random": order(0, 0, count, np.arange(count)).tolist()}
    size = sum(path.stat().st_size for path in files["folder"])
    readings = []
    for name, indices in orders.items():
        for cache in ("cold", "warm"):
            times: dict[str, list[float]] = {form: [] for form in FORMS}
            cached: dict[str, list[float]] = {form: [] for form in FORMS}
            for pair in range(pairs):
                for form in FORMS if pair % 2 == 0 else FORMS[::-1]:
                    if cache == "cold":
                        cached[form].append(make_cold(files[form]))
                    else:
                        seconds(sources[form], indices)
                        cached[form].append(1.0)
                    times[form].append(seconds(sources[form], indices))
            for form in FORMS:
                median = statistics.median(times[form])
                at_once = open_files() if form == "shards" else 1
                readings.append(
                    Reading(
                        name, cache, form, count / median, size / median / MEGABYTE, len(files[form]), at_once,
                        statistics.mean(cached[form]),
                    )
                )  # fmt: skip
    return readings


def compare(folder: Path, *, pairs: int, shard_bytes: int, scratch: str | None) -> Found:
    """Pack the training images and read both."""
    data = Data(dataset="folder", path=str(folder))
    unpacked = open_folder(folder, data, "train")
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        root = Path(place) / "packed"
        pack([unpacked], root, data=data, shard_bytes=shard_bytes)
        os.sync()  # what is not yet written cannot be dropped from memory
        packed = SHARDS.open(root, data, "train")
        images = [folder / name for name in unpacked.ids]
        files = {"folder": images, "shards": sorted(root.glob("*.tar"))}
        readings = measure({"folder": unpacked, "shards": packed}, files, pairs=pairs)
        size = sum(path.stat().st_size for path in images)
        return Found(len(images), size, {form: len(files[form]) for form in FORMS}, pairs, readings)


def show(found: Found) -> None:
    print(f"{found.images:,} images, {found.bytes / MEGABYTE:.1f} MB; median of {found.pairs} passes each")
    print(f"{'':<16}{'form':<8}{'images/s':>12}{'MB/s':>9}{'opened':>9}{'at once':>9}{'in memory':>11}")
    for reading in found.readings:
        print(
            f"{reading.order:<10}{reading.cache:<6}{reading.form:<8}{reading.images_per_s:>12,.0f}"
            f"{reading.megabytes_per_s:>9,.0f}{reading.opened:>9,}{reading.open_at_once:>9}{reading.still_cached:>11.0%}"
        )
    for folder, shards in zip(found.readings[::2], found.readings[1::2], strict=True):
        ratio = shards.images_per_s / folder.images_per_s
        print(f"{folder.order}, {folder.cache}: shards read {ratio:.2f} x as many images a second")


def main() -> int:
    parser = argparse.ArgumentParser(description="Packed shards against an image folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shard-mb", type=int, default=256)
    parser.add_argument("--scratch", help="where the shards are written for the time being")
    parser.add_argument("--json", type=Path, help="also write the numbers into this file")
    options = parser.parse_args()
    found = compare(
        options.folder, pairs=options.pairs, shard_bytes=options.shard_mb * MEGABYTE, scratch=options.scratch
    )
    show(found)
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
