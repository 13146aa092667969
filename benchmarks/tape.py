"""Training speed with a tape: against no distillation at all (promised: within 3 %) and against the live teacher.

    python -m benchmarks.tape [--recipe quickstart/student] [--teacher TEACHER | --architecture resnet26t]
        [--rounds 10] [--steps 20] [--workers 0] [--device auto] [--set KEY=VALUE] [--scratch DIR] [--json FILE]

The same student three times, with two heads each: both learning the true label ("none"), the distillation head learning
from a tape, or from the live teacher. Without --teacher an untrained one of --architecture answers: that is as fast. A
round trains each for --steps steps, in rotating order, so that a slow moment of the machine hits all; the ratio is the
median of the rounds' own ratios. Everything between two steps counts: data, transfers, optimiser. The first round is
not measured. The tape is recorded before, which is timed, too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from deitkit.data.open import open_source
from deitkit.data.views.loader import Batch
from deitkit.data.views.stream import plan_stream
from deitkit.distributed import World, pick_device
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.load import load_recipe, override, parse_override
from deitkit.recipe.schema import Model, Recipe
from deitkit.tape import Tape
from deitkit.tape.record import record_tape
from deitkit.training.step import Training, build, train_step

MODES = ("none", "tape", "live")
LIMIT = 0.03  # slower than without distillation


@dataclass(frozen=True)
class Speed:
    """`ratio` is the time of a step over that without distillation: median and quartiles over the rounds."""

    mode: str
    views_per_s: float
    ratio: float
    quartiles: tuple[float, float]


@dataclass(frozen=True)
class Found:
    """What was measured, on what."""

    recipe: str
    student: str
    teacher: str
    device: str
    threads: int
    workers: int
    batch_size: int
    rounds: int
    steps_a_round: int
    bytes_a_view: int
    recorded_views_per_s: float
    speeds: list[Speed]


@dataclass
class Runner:
    """One training that is gone on with, block by block."""

    training: Training
    stream: Iterator[list[Batch]]

    def seconds(self, steps: int) -> float:
        """Wall time of the next steps, until the device is done."""
        began = time.perf_counter()
        for _ in range(steps):
            train_step(self.training, next(self.stream))
            self.training.progress.step += 1
        if self.training.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def untrained_teacher(recipe: Recipe, architecture: str, folder: Path) -> str:
    """A model folder with random weights, of the data's classes."""
    names = open_source(recipe.data, "train").class_names
    student = build_student(Model(name=f"timm:{architecture}", drop_path=0.0), len(names))
    save_model(folder, student, ModelInfo.of(recipe.data, recipe.model.size, names))
    return str(folder)


def recipes_of(recipe: Recipe, tape: Path) -> dict[str, Recipe]:
    """The same student by mode."""
    without = {"teacher": False, "loss.second_token": "label", "model.distilled": True}
    return {
        "none": override(recipe, without, origin="benchmark"),
        "tape": override(recipe, {"teacher.tape": str(tape)}, origin="benchmark"),
        "live": recipe,
    }


def measure(recipe: Recipe, folder: Path, *, rounds: int, steps: int, workers: int, device: torch.device) -> Found:
    """Record what is needed, then train in turns."""
    shape = plan_stream(len(open_source(recipe.data, "train")), recipe.stream, mixing=recipe.is_mixing)
    epochs = math.ceil((rounds + 1) * steps / shape.steps_per_epoch)
    recipe = override(recipe, {"train.epochs": epochs, "schedule.warmup_epochs": 0.0}, origin="benchmark")
    recorded = record_tape(recipe, folder / "tape", workers=workers, device=str(device), say=print)
    runners = {}
    for mode, own in recipes_of(recipe, folder / "tape").items():
        training = build(own, world=World(), device=device, workers=workers)
        training.student.train()
        runners[mode] = Runner(training, training.loader.steps(0, (rounds + 1) * steps))
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    for turn in range(rounds + 1):
        for mode in (*MODES[turn % 3 :], *MODES[: turn % 3]):
            times[mode].append(runners[mode].seconds(steps))
    times = {mode: own[1:] for mode, own in times.items()}
    return Found(
        recipe=recipe.name,
        student=recipe.model.name,
        teacher=Tape.open(folder / "tape").header.named,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        threads=torch.get_num_threads(),
        workers=workers,
        batch_size=shape.batch_size,
        rounds=rounds,
        steps_a_round=steps,
        bytes_a_view=recorded.bytes_per_view,
        recorded_views_per_s=recorded.views / recorded.seconds,
        speeds=[speed_of(mode, times, steps * shape.batch_size) for mode in MODES],
    )


def speed_of(mode: str, times: dict[str, list[float]], views: int) -> Speed:
    """`views` are those of a block."""
    ratios = sorted(own / base for own, base in zip(times[mode], times["none"], strict=True))
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Speed(mode, views / statistics.median(times[mode]), statistics.median(ratios), (quartiles[0], quartiles[2]))


def show(found: Found) -> None:
    print(
        f"{found.student} from {found.teacher}, batches of {found.batch_size}, {found.device}, {found.workers} workers"
    )
    print(f"tape: {found.bytes_a_view} bytes a view, recorded at {found.recorded_views_per_s:,.0f} views/s")
    print(f"{'distillation':<14}{'views/s':>10}{'time a step':>14}{'quartiles':>18}")
    for speed in found.speeds:
        low, high = speed.quartiles
        print(f"{speed.mode:<14}{speed.views_per_s:>10,.0f}{speed.ratio:>12.3f} x{low:>10.3f} to {high:.3f}")
    print(f"promised: tape below {1 + LIMIT:g} x")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training speed with a tape, without distillation, and live.")
    parser.add_argument("--recipe", default="quickstart/student")
    parser.add_argument("--teacher")
    parser.add_argument("--architecture", default="resnet26t")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    given = options()
    changes: dict[str, Any] = dict(parse_override(text) for text in given.set)
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = Path(scratch)
        recipe = load_recipe(given.recipe, changes, origin="command line")
        teacher = given.teacher or untrained_teacher(recipe, given.architecture, folder / given.architecture)
        recipe = override(recipe, {"teacher.model": teacher}, origin="benchmark")
        found = measure(
            recipe, folder, rounds=given.rounds, steps=given.steps, workers=given.workers,
            device=pick_device(given.device),
        )  # fmt: skip
    show(found)
    if given.json:
        given.json.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return 0 if found.speeds[MODES.index("tape")].ratio < 1 + LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
