"""Scale: what grows with a run's length or size, measured before it hurts. Each part is one row or a few.

    python -m benchmarks.scale [metrics runs predictions inat checkpoints] [--lines 1000000] [--runs 200]
        [--rows 200000] [--images 675000] [--parameters 100000000] [--rounds 5] [--json FILE] [--scratch DIR]

Every command is a process of its own, run --rounds times; the medians of its wall time, the processor's and its peak
memory are shown, beside those of a command that does nothing (`runs list` of an empty folder): the difference is the
work. `promised` is the limit of the work, or what the row says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deitkit.recipe.load import load_recipe
from deitkit.runs.environment import describe_environment, processor
from deitkit.runs.folder import Run

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One measurement: median seconds of a process, of its processors, and its peak memory in MiB."""

    part: str
    what: str
    wall_s: float
    cpu_s: float
    peak_mib: float
    work_s: float  # of processors, beyond the command that does nothing
    promised: str


@dataclass(frozen=True)
class Found:
    """Rows, and where they were measured."""

    machine: str
    cores: int
    python: str
    versions: dict[str, str]
    rounds: int
    rows: list[Row]


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def cost(command: list[str], *, folder: Path) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command}: {said.read()}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*(asdict(each).values() for each in costs), strict=True)))


def deitkit(*words: str) -> list[str]:
    return [sys.executable, "-m", "deitkit", *words]


def compared(
    part: str, commands: dict[str, tuple[list[str], str]], *, folder: Path, rounds: int
) -> Iterator[Row]:  # fmt: skip
    """Rows of commands (what -> words, promise), in turns with the one that does nothing."""
    nothing = deitkit("runs", "list", "nothing-here")
    costs: dict[str, list[Cost]] = {what: [] for what in ("", *commands)}
    for _ in range(rounds + 1):
        costs[""].append(cost(nothing, folder=folder))
        for what, (words, _promise) in commands.items():
            costs[what].append(cost(words, folder=folder))
    idle = median(costs[""][1:])  # the first fills the caches
    for what, (_, promise) in commands.items():
        own = median(costs[what][1:])
        yield Row(part, what, own.wall_s, own.cpu_s, own.peak_mib, own.cpu_s - idle.cpu_s, promise)


def new_run(path: Path, *, lines: int, every: int) -> Run:
    """A run's folder as an interrupted distillation leaves it, with so many lines and an evaluation every so many."""
    run = Run.create(
        path, load_recipe("quickstart/student"), environment=describe_environment(device="cpu"), overwrite=False
    )
    draw = random.Random(0)
    with open(run.metrics_path, "w") as file:
        for line in range(1, lines + 1):
            epoch = round(line / every, 4)
            file.write(json.dumps(step_line(line, epoch, draw)) + "\n")
            if line % every == 0:
                file.write(json.dumps(evaluation_line(line, epoch, draw)) + "\n")
    return run


def step_line(step: int, epoch: float, draw: random.Random) -> dict[str, float]:
    losses = {name: 7 * draw.random() for name in ("loss", "loss_label", "loss_distillation", "grad_norm")}
    clock = {"images_per_s": 840.3, "data_wait_s": 0.013, "seconds": 1.219, "memory_mb": 1304.7}
    return {"step": step, "epoch": epoch, "lr": 5e-4 * draw.random(), **losses, **clock}


def evaluation_line(step: int, epoch: float, draw: random.Random) -> dict[str, object]:
    shares = {head: draw.random() for head in ("class", "distillation", "fused")}
    return {
        "step": step, "epoch": epoch, "top1": shares, "teacher_top1": 0.9,
        "agreement": {"teacher": shares, "heads": 0.9}, "token_cosine": {"last_block": 0.1, "final_norm": 0.2},
    }  # fmt: skip


def metrics(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """A metrics.jsonl of 10^6 lines, shown."""
    new_run(folder / "long", lines=given.lines, every=max(given.lines // 300, 1))
    promise = "work below 1 s"
    commands = {
        f"{verb}, {given.lines:,} lines of metrics.jsonl": (deitkit(*words), promise)
        for verb, words in {
            "runs show": ("runs", "show", "long"),
            "runs watch": ("runs", "watch", "long"),
            "runs list": ("runs", "list", "."),
        }.items()
    }
    yield from compared("metrics", commands, folder=folder, rounds=given.rounds)
    report = deitkit("report", "long", "-o", "page.html", "--overwrite")
    new_run(folder / "short" / "long", lines=300, every=10)
    few = deitkit("report", "short/long", "-o", "short.html", "--overwrite")
    short = [cost(few, folder=folder) for _ in range(given.rounds + 1)]
    own = [cost(report, folder=folder) for _ in range(given.rounds + 1)]
    less, more = median(short[1:]), median(own[1:])
    yield Row(
        "metrics", f"report, {given.lines:,} lines (work: beyond 300 lines)", more.wall_s, more.cpu_s, more.peak_mib,
        more.cpu_s - less.cpu_s, promise,
    )  # fmt: skip


def runs(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """`runs list` of many runs."""
    first = new_run(folder / "many" / "0", lines=150, every=10)
    for number in range(1, given.runs):
        shutil.copytree(first.path, folder / "many" / str(number))
    what = f"runs list, {given.runs} runs of 150 lines and 15 evaluations"
    yield from compared(
        "runs", {what: (deitkit("runs", "list", "many"), "work below 0.4 s")}, folder=folder, rounds=given.rounds
    )


def predictions(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Predictions with the logits of two heads: filled as `predict` fills them, saved, read and scored."""
    for what in ("write", "read"):
        words = [sys.executable, "-m", "benchmarks.scale_tables", what, str(given.rows), str(folder / "table.parquet")]
        done = cost(words, folder=folder)
        own = json.loads((folder / "said").read_text())
        yield Row(
            "predictions", f"{what} {given.rows:,} x 1,000 x 2 logits ({own['file_mib']:,.0f} MiB); anonymous memory",
            done.wall_s, done.cpu_s, own["anonymous_mib"], done.cpu_s, "below 1 GiB at any number of rows",
        )  # fmt: skip


def inat(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """iNaturalist 2018 in the size of its largest year: both splits opened, as a training does."""
    new_inat(folder / "inat", images=given.images)
    opening = "from deitkit.data.open import open_source; from deitkit.recipe.schema import Data; import sys;"
    opening += (
        " data = Data(dataset='inat18', path='inat'); found = [open_source(data, split) for split in sys.argv[1:]]"
    )
    # By its own account: a child's peak in `wait4` is at least its parent's.
    opening += "; print(*(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line), file=sys.stderr)"
    costs, peaks = {}, {}
    for what, splits in {"nothing": [], "train": ["train"], "train and val": ["train", "val"]}.items():
        words = [sys.executable, "-c", opening, *splits]
        costs[what] = median([cost(words, folder=folder) for _ in range(given.rounds)])
        peaks[what] = int((folder / "said").read_text()) / 1024
    for what in ("train", "train and val"):
        own = costs[what]
        yield Row(
            "inat", f"open {what} of {given.images:,} images", own.wall_s, own.cpu_s, peaks[what],
            own.cpu_s - costs["nothing"].cpu_s, "below 400 MiB",
        )  # fmt: skip


def new_inat(root: Path, *, images: int, classes: int = 8142) -> None:
    """Empty files in the archive's folders, every 20th for validation, and annotations as they are published."""
    for number in range(classes):
        (root / "train_val2018" / "Plantae" / str(number)).mkdir(parents=True)
    for split in ("train", "val"):
        chosen = [image for image in range(images) if (image % 20 == 0) == (split == "val")]
        names = {image: f"train_val2018/Plantae/{image % classes}/{image:032x}.jpg" for image in chosen}
        for name in names.values():
            os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
        more = {"license": 3, "rights_holder": "Somebody who took photographs", "width": 800, "height": 600}
        tables = {
            "info": {"year": 2018}, "licenses": [{"id": 3, "name": "CC"}],
            "images": [{"id": image, "file_name": name, **more} for image, name in names.items()],
            "annotations": [{"id": image, "image_id": image, "category_id": image % classes} for image in chosen],
            "categories": [{"id": each, "name": str(each), "supercategory": "Plantae"} for each in range(classes)],
        }  # fmt: skip
        (root / f"{split}2018.json").write_text(json.dumps(tables))


def checkpoints(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """How long a run waits for a checkpoint of its weights and AdamW's two moments; the first touches new memory."""
    import torch

    from deitkit.runs import saver

    count, size = given.parameters, 2**22
    pieces = {f"w{at}": torch.randn(min(size, count - at)) for at in range(0, count, size)}
    moments = {key: {"exp_avg": each * 0.1, "exp_avg_sq": each**2} for key, each in pieces.items()}
    taken = saver.Snapshot(1, pieces, {"optimizer": moments}, metrics_bytes=0)
    with saver.CheckpointSaver(folder, keep=1, written=lambda: None) as beside:
        waits = {
            "written before training goes on": lambda: beside._write(taken),
            "copied, the first time": lambda: beside.save(taken),
            "copied again": lambda: beside.save(taken),
        }
        for what, wait in waits.items():
            beside.wait()
            wall, own = time.perf_counter(), time.thread_time()
            wait()
            wall, own = time.perf_counter() - wall, time.thread_time() - own
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            what = f"checkpoint of {count / 1e6:,.0f} M parameters ({taken.nbytes / 1e9:.1f} GB), {what}"
            yield Row("checkpoints", what, wall, own, peak, own, "copied: 1 s at 632 M")


PARTS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Row]]] = {
    "metrics": metrics, "runs": runs, "predictions": predictions, "inat": inat, "checkpoints": checkpoints
}  # fmt: skip


def show(rows: list[Row]) -> None:
    print(f"{'what':<72}{'wall s':>9}{'cpu s':>9}{'work s':>9}{'MiB':>8}   promised")
    for row in rows:
        print(
            f"{row.what:<72}{row.wall_s:>9.2f}{row.cpu_s:>9.2f}{row.work_s:>9.2f}{row.peak_mib:>8.0f}   {row.promised}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="What grows with a run's length or size.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=675_000)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    before = json.loads(given.json.read_text())["rows"] if given.json and given.json.is_file() else []
    rows = []
    for part in PARTS if given.parts == "all" else given.parts:
        with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
            rows += list(PARTS[part](given, Path(scratch)))
    versions = describe_environment()["versions"]
    show(rows)
    measured = {row.part for row in rows}  # rows of other parts stay
    rows = [*(Row(**row) for row in before if row["part"] not in measured), *rows]
    found = Found(processor(), os.cpu_count() or 1, platform.python_version(), versions, given.rounds, rows)
    if given.json:
        given.json.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
