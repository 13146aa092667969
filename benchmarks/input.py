"""Views: deitkit's loaders, with each backend, beside timm's prefetching loader that makes the same.

    python -m benchmarks.input FOLDER [--of training evaluation] [--pairs 5] [--batches 6] [--batch-size 128]
                                      [--workers 0 2] [--json FILE]

FOLDER is an image folder (ROOT/train/CLASS/IMAGE, or ROOT/CLASS/IMAGE). Both make batches of 224 px, normalised floats
at the end: for training by random resized crop, flip, RandAugment, erasing, mixup and CutMix (DeiT's); for evaluation
the centre of 224 px after resizing to 256 (timm's `validate.py`). What counts is the processor time of the process and
its workers between two batches in the middle, one measurement a process, the arms in turn; the numbers are medians over
the pairs, with the least and the most in brackets. `R` is stream.repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP

from deitkit.runs.environment import processor

SIZE = 224
PEER = "timm"
ARMS = {"training": (PEER, "pil R=1", "fast R=1", "pil R=3", "fast R=3"), "evaluation": (PEER, "pil", "fast")}


@dataclass(frozen=True)
class Views:
    """Of one arm with so many workers: views a second of processor time, in every pair; its share of the peer's."""

    of: str
    arm: str
    workers: int
    views_per_s: list[float]
    ratio: float


def processor_seconds() -> float:
    """Of this process and those it started that still live."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def posterize_to_black() -> None:
    """timm 1.0.31 fails with Pillow 13 where no bits are left; earlier versions of Pillow made such an image black."""
    operation = NAME_TO_OP["PosterizeIncreasing"]

    def posterized(image: Image.Image, bits: int, **options: Any) -> Any:
        return operation(image, bits, **options) if bits else Image.new(image.mode, image.size)

    NAME_TO_OP["PosterizeIncreasing"] = posterized


def timm_batches(folder: Path, *, batch_size: int, workers: int) -> Iterator[Any]:
    """As timm's training script makes them with its prefetcher: mixed while collating, erased and normalised after."""
    from timm.data import create_loader
    from timm.data.dataset import ImageDataset
    from timm.data.mixup import FastCollateMixup

    posterize_to_black()
    train = folder / "train"
    loader = create_loader(
        ImageDataset(str(train if train.is_dir() else folder)), input_size=(3, SIZE, SIZE), batch_size=batch_size,
        is_training=True, use_prefetcher=True, re_prob=0.25, re_mode="pixel", auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic", num_workers=workers, device=torch.device("cpu"), pin_memory=False,
        persistent_workers=False, collate_fn=FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=1000),
    )  # fmt: skip
    while True:
        yield from loader


def timm_evaluation(folder: Path, *, batch_size: int, workers: int) -> Iterator[Any]:
    from timm.data import create_loader
    from timm.data.dataset import ImageDataset

    train = folder / "train"
    loader = create_loader(
        ImageDataset(str(train if train.is_dir() else folder)), input_size=(3, SIZE, SIZE), batch_size=batch_size,
        use_prefetcher=True, interpolation="bicubic", crop_pct=0.875, num_workers=workers, device=torch.device("cpu"),
        pin_memory=False, persistent_workers=False,
    )  # fmt: skip
    while True:
        yield from loader


def our_evaluation(folder: Path, *, backend: str, batch_size: int, workers: int) -> Iterator[Any]:
    from deitkit.data.formats.folder import open_folder
    from deitkit.data.views.augment import Reading
    from deitkit.data.views.loader import EvalLoader
    from deitkit.recipe.schema import Data

    data = Data(dataset="folder", path=str(folder))
    source = open_folder(folder, data, "train")
    reading = Reading.of(data, backend)  # type: ignore[arg-type]
    loader = EvalLoader(
        source, size=(SIZE, SIZE), mean=data.mean, std=data.std, crop_ratio=data.crop_ratio,
        interpolation="bicubic", batch_size=batch_size, reading=reading, workers=workers,
        indices=[index % len(source) for index in range(1 << 16)],
    )  # fmt: skip
    yield from loader


def our_batches(folder: Path, *, backend: str, repeats: int, batch_size: int, workers: int) -> Iterator[Any]:
    from deitkit.data.formats.folder import open_folder
    from deitkit.data.views.loader import TrainLoader
    from deitkit.data.views.stream import plan_stream
    from deitkit.recipe.schema import Data, Model, Recipe, Stream

    data = Data(dataset="folder", path=str(folder))
    source = open_folder(folder, data, "train")
    stream = Stream(batch_size=batch_size, repeats=repeats, backend=backend)  # type: ignore[arg-type]
    recipe = Recipe(model=Model(name="deit_tiny", image_size=SIZE), data=data, stream=stream)
    loader = TrainLoader(source, recipe, plan_stream(len(source), stream, mixing=True), workers=workers)
    yield from loader.steps(0, 1 << 30)


def batches_of(kind: str, arm: str, folder: Path, *, batch_size: int, workers: int) -> Iterator[Any]:
    if kind == "evaluation":
        if arm == PEER:
            return timm_evaluation(folder, batch_size=batch_size, workers=workers)
        return our_evaluation(folder, backend=arm, batch_size=batch_size, workers=workers)
    if arm == PEER:
        return timm_batches(folder, batch_size=batch_size, workers=workers)
    backend, repeats = arm.split(" R=")
    return our_batches(folder, backend=backend, repeats=int(repeats), batch_size=batch_size, workers=workers)


def measure(kind: str, arm: str, folder: Path, *, batches: int, batch_size: int, workers: int) -> float:
    """Views a second of processor time, after the workers have started and filled their queues."""
    torch.set_num_threads(1)
    made = batches_of(kind, arm, folder, batch_size=batch_size, workers=workers)
    for _ in range(1 + workers):
        next(made)
    began = processor_seconds()
    views = sum(count_views(next(made)) for _ in range(batches))
    return views / (processor_seconds() - began)


def count_views(batch: Any) -> int:
    """Of a batch of timm's, of our parts of a step, or of our evaluation."""
    if isinstance(batch, list) and not isinstance(batch[0], torch.Tensor):
        return sum(len(part.images) for part in batch)
    return len(batch.images if hasattr(batch, "images") else batch[0])


def linked(folder: Path, root: Path, count: int) -> Path:
    """`root` with at least so many links to the folder's training images: no arm comes to an epoch's end, where timm's
    workers would be started anew and a smaller batch would come."""
    train = folder / "train"
    images = [path for path in sorted((train if train.is_dir() else folder).rglob("*")) if path.is_file()]
    for number in range(-(-count // len(images))):
        for path in images:
            link = root / path.parent.name / f"{number}_{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return root


def compare(kind: str, folder: Path, *, pairs: int, batches: int, batch_size: int, workers: list[int]) -> list[Views]:
    """Every arm in a process of its own, in turn, forwards and backwards."""
    arms = ARMS[kind]
    found: dict[tuple[str, int], list[float]] = {(arm, count): [] for count in workers for arm in arms}
    for pair in range(pairs):
        for count in workers:
            for arm in arms if pair % 2 == 0 else arms[::-1]:
                command = [
                    sys.executable, "-m", "benchmarks.input", str(folder), "--of", kind, "--arm", arm,
                    "--batches", str(batches), "--batch-size", str(batch_size), "--workers", str(count),
                ]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[arm, count].append(float(done.stdout.split()[-1]))
    return [
        Views(
            kind, arm, count, speeds,
            statistics.median(ours / theirs for ours, theirs in zip(speeds, found[PEER, count], strict=True)),
        )
        for (arm, count), speeds in found.items()
    ]  # fmt: skip


def show(rows: list[Views]) -> None:
    print(f"{'':<22}{'workers':>8}{'views a second of processor time':>36}{'x timm':>9}")
    for row in rows:
        speeds = (
            f"{statistics.median(row.views_per_s):,.0f} ({min(row.views_per_s):,.0f} to {max(row.views_per_s):,.0f})"
        )
        print(f"{row.of:<12}{row.arm:<10}{row.workers:>8}{speeds:>36}{row.ratio:>9.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Views: deitkit beside timm.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--of", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--arm", help="measure this one alone, in this process")
    parser.add_argument("--json", type=Path, help="also write the numbers into this file")
    options = parser.parse_args()
    if options.arm:
        print(
            measure(
                options.of[0], options.arm, options.folder, batches=options.batches, batch_size=options.batch_size,
                workers=options.workers[0],
            )
        )  # fmt: skip
        return 0
    needed = (options.batches + max(options.workers) * 4 + 4) * options.batch_size
    with tempfile.TemporaryDirectory() as root:
        folder = linked(options.folder, Path(root), needed)
        rows = [
            row
            for kind in options.of
            for row in compare(
                kind, folder, pairs=options.pairs, batches=options.batches, batch_size=options.batch_size,
                workers=options.workers,
            )
        ]  # fmt: skip
    show(rows)
    if options.json:
        machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {name: version(name) for name in ("torch", "timm", "pillow", "simplejpeg", "opencv-python-headless")}
        told = {"machine": machine, "versions": versions, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
