"""The look at images before training: images a second of processor time, headers and ends against everything decoded.

    python -m benchmarks.scan FOLDER... [--repeats 5]

Each FOLDER is an image folder (ROOT/CLASS/IMAGE). One process looks at every image in both ways, in turn; the numbers
are medians. Processor time, so that other work on the machine does not count; the files are in memory after the first
look, so that the disk does not count either. `deitkit data verify` stands beside them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from deitkit.data.check import scan as scanning
from deitkit.data.check.verify import verify
from deitkit.data.open import Source, open_source
from deitkit.data.views.augment import AS_IT_LIES
from deitkit.recipe.schema import Data

WAYS = ("header and end", "decoded", "data verify")


def look(splits: dict[str, Source], way: str) -> None:
    """Look at every image in one of the ways."""
    if way == "data verify":
        verify(splits)
        return
    before, scanning.DECODED_BYTES = scanning.DECODED_BYTES, 2**60 if way == "decoded" else 0
    try:
        scanning.scan(splits, AS_IT_LIES)
    finally:
        scanning.DECODED_BYTES = before


def seconds(splits: dict[str, Source], way: str) -> float:
    """Of processor time."""
    began = time.process_time()
    look(splits, way)
    return time.process_time() - began


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    for folder in options.folders:
        splits = {"train": open_source(Data(dataset="folder", path=folder, validate_on="train"), "train")}
        look(splits, WAYS[0])
        found = {way: [seconds(splits, way) for _ in range(options.repeats)] for way in WAYS}
        count = len(splits["train"])
        speeds = ", ".join(f"{way} {count / statistics.median(times):,.0f}" for way, times in found.items())
        print(f"{folder}: {count:,} images; a second: {speeds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
