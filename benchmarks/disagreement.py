"""`deitkit analyze disagreement` from predictions that are there: time and memory. Promised: under 5 s and 1 GB.

    python -m benchmarks.disagreement [--images 50000] [--classes 1000] [--classifiers 6] [--logits] [--json]

Predictions of made-up classifiers, right on four images of five and right on mostly the same ones, are written as
Parquet files; then the verb runs in a process of its own, with one thread, and its wall time from start to exit and its
peak resident memory are measured, with the time that the processors worked for it. --logits keeps all logits in the
files, as `deitkit evaluate --logits` does. The load of the machine is printed beside.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deitkit.predictions.table import HeadPredictions, Predictions, head_predictions

SECONDS, MEGABYTES = 5.0, 1_000.0
EASY = 0.75  # share of images that everyone has right
RIGHT = 0.8


@dataclass(frozen=True)
class Found:
    """What the verb took, and what it read. `load` is the machine's mean over a minute before it started."""

    images: int
    classes: int
    classifiers: int
    read_mb: float
    seconds: float
    processor_s: float
    peak_mb: float
    load: float


def write(file: Path, index: int, images: int, classes: int, logits: bool) -> None:
    """One classifier's answers, its own errors on top of the images that are hard for all."""
    labels = np.random.default_rng(0).integers(classes, size=images)
    own = np.random.default_rng(1 + index)
    easy = np.random.default_rng(0).random(images) < EASY
    chance = (RIGHT - EASY) / (1 - EASY)
    top1 = np.where(easy | (own.random(images) < chance), labels, own.integers(classes, size=images))
    if logits:
        scores = own.standard_normal((images, classes), dtype=np.float32)
        scores[np.arange(images), top1] = 9.0
        head = head_predictions("class", np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), scores)
    else:
        top = (top1[:, None] + np.arange(5)) % classes
        head = HeadPredictions("class", top, np.full(top.shape, 0.2, dtype=np.float32))
    ids = [f"val/n{label:08d}/{row:08d}.JPEG" for row, label in enumerate(labels.tolist())]
    names = tuple(f"n{number:08d}" for number in range(classes))
    paths = [f"/data/imagenet/{image_id}" for image_id in ids]
    Predictions("imagenet", "val", "made up", f"model {index}", names, ids, labels, {"class": head}, paths).save(file)


def measure(folder: Path, *, images: int, classes: int, classifiers: int, logits: bool) -> Found:
    """Write the predictions, run the verb once, read its time and memory off the system."""
    files = [folder / f"model_{index}.parquet" for index in range(classifiers)]
    # In another process, because a child's peak begins with the memory of the process that forked it.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for index, file in enumerate(files):
            pool.submit(write, file, index, images, classes, logits).result()
    command = [
        sys.executable,
        "-m",
        "deitkit",
        "analyze",
        "disagreement",
        *map(str, files),
        "-o",
        str(folder),
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    load, began = os.getloadavg()[0], time.perf_counter()
    verb = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(verb.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    size = sum(file.stat().st_size for file in files)
    peak = used.ru_maxrss * 1024  # Linux counts in KiB
    worked = used.ru_utime + used.ru_stime
    return Found(images, classes, classifiers, size / 1e6, seconds, worked, peak / 1e6, load)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time and memory of `analyze disagreement`.")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--classifiers", type=int, default=6)
    parser.add_argument("--logits", action="store_true", help="files that hold logits, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder), images=options.images, classes=options.classes, classifiers=options.classifiers,
            logits=options.logits,
        )  # fmt: skip
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print(f"{found.images:,} images x {found.classes:,} classes x {found.classifiers} classifiers")
        print(f"{'files':<12}{found.read_mb:10.0f} MB")
        print(
            f"{'time':<12}{found.seconds:10.2f} s    promised below {SECONDS:g}; processors {found.processor_s:.2f} s"
        )
        print(f"{'peak memory':<12}{found.peak_mb:10.0f} MB   promised below {MEGABYTES:,.0f}")
        print(f"{'load before':<12}{found.load:10.1f} of {os.cpu_count()} processors")
    return 0 if found.seconds < SECONDS and found.peak_mb < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
