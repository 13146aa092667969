"""A process that writes or reads predictions with logits, for `benchmarks.scale`: says its peak of anonymous memory.

    python -m benchmarks.scale_tables write|read ROWS FILE

Anonymous memory is what the system cannot take back; pages of mapped files, which it can, do not count.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import numpy as np

from deitkit.measures.scores import score
from deitkit.predictions.rows import empty_rows
from deitkit.predictions.table import HeadPredictions, Predictions, concatenate, head_predictions

CLASSES, BATCH = 1000, 512
HEADS = ("class", "distillation")
MIB = 2**20


class Peak(threading.Thread):
    """Looks at this process's anonymous memory, MiB, until it is asked."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
            self.mib = max(self.mib, int(found[1]) / 1024 if found else 0.0)


def write(rows: int, path: Path) -> None:
    draw = np.random.default_rng(0)
    logits = {head: empty_rows(rows, CLASSES) for head in HEADS}
    parts: dict[str, list[HeadPredictions]] = {head: [] for head in HEADS}
    for start in range(0, rows, BATCH):
        for head in HEADS:
            batch = draw.standard_normal((min(BATCH, rows - start), CLASSES), dtype=np.float32)
            logits[head][start : start + BATCH] = batch
            batch = np.exp(batch)
            parts[head].append(head_predictions(head, batch / batch.sum(axis=1, keepdims=True)))
    heads = {}
    for head in HEADS:
        joined = concatenate(parts[head])
        heads[head] = HeadPredictions(head, joined.top, joined.confidence, logits[head])
    names, ids = tuple(map(str, range(CLASSES))), [f"train/n{row:08d}.JPEG" for row in range(rows)]
    Predictions("imagenet", "val", "f", "m", names, ids, np.arange(rows) % CLASSES, heads).save(path)


def read(path: Path) -> None:
    table = Predictions.load(path)
    for head in HEADS:
        logits = table.head(head).logits
        assert logits is not None
        score(logits, table.labels)


def main() -> None:
    peak = Peak()
    peak.start()
    what, rows, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    write(rows, path) if what == "write" else read(path)
    peak.over.set()
    peak.join()
    said = {"anonymous_mib": peak.mib, "file_mib": path.stat().st_size / MIB}
    print(json.dumps(said), file=sys.stderr)


if __name__ == "__main__":
    main()
