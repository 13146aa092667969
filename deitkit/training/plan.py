"""What a run will take, before it runs: time, memory, disk, and what its teacher costs. Trains nothing that is kept.

Everything that takes time is measured here, on a few real steps of real batches with their loading, on a part of an
evaluation and on one checkpoint; the rest is arithmetic, so that other lengths of the run cost nothing to ask for.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from deitkit.data.check.scan import Scan
from deitkit.data.source import spread_over
from deitkit.data.views.augment import Reading
from deitkit.data.views.loader import Batch
from deitkit.distributed import World
from deitkit.files import nearest_folder
from deitkit.models.lora import plain_state
from deitkit.models.throughput import peak_rise, wait, weight_bytes
from deitkit.predictions.predict import predict
from deitkit.recipe.schema import Recipe
from deitkit.runs.checkpoint import save_checkpoint
from deitkit.runs.environment import free_memory
from deitkit.training.resume import kept_state
from deitkit.training.step import Training, build, teacher_answers, train_step

MIB = 2**20
TIMED_S = 4.0  # seconds of timed steps, and no fewer than LEAST_STEPS
LEAST_STEPS, MOST_STEPS = 3, 50
EVALUATED = 256  # validation images that are timed
BESTS = 0.5  # share of the evaluations that find a new best model and save it


@dataclass(frozen=True)
class TeacherCost:
    """Seconds and share of a step that the live teacher takes; the tape for it: MiB, and seconds to record."""

    step_s: float
    share: float
    tape_mb: float
    record_s: float


@dataclass(frozen=True)
class RunPlan:
    """What a run will take, on this machine.

    `learning` of the `parameters` learn, which takes `learning_mb` MiB of gradients and of the optimiser's state.
    `step_s`: seconds a step, data loading included; `data_wait`: the share of them without data. `memory_mb` is what a
    step adds to the process, `largest_batch` what would fit into the memory that is free; None where it cannot be told.
    """

    model: str
    parameters: int
    learning: int
    learning_mb: float
    image_size: tuple[int, int]
    train_images: int
    val_images: int
    classes: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    timed_steps: int
    step_s: float
    data_wait: float
    evaluation_s: float
    evaluations: int
    checkpoint_s: float
    checkpoints: int
    start_s: float
    memory_mb: float | None
    largest_batch: int | None
    disk_mb: float
    free_disk_mb: float
    teacher: TeacherCost | None

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def total_s(self) -> float:
        """Seconds from the command to its end."""
        return (
            self.start_s
            + self.steps * self.step_s
            + (self.evaluations + 1) * self.evaluation_s  # and the last predictions
            + (self.checkpoints + BESTS * self.evaluations) * self.checkpoint_s
        )

    def for_epochs(self, epochs: int) -> RunPlan:
        """The same run at another length."""
        each = self.epochs / max(self.evaluations, 1)
        checkpoints = math.ceil(self.checkpoints * epochs / self.epochs)
        return replace(self, epochs=epochs, evaluations=math.ceil(epochs / each), checkpoints=checkpoints)

    def epochs_within(self, seconds: float) -> int:
        """The most epochs that end within this time; 0 where not even one does."""
        most = max(1, int(seconds / (self.steps_per_epoch * self.step_s)))
        low, high = 0, most + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.for_epochs(middle).total_s <= seconds else (low, middle)
        return low


def plan_run(
    recipe: Recipe, *, device: torch.device, workers: int, folder: Path, scan: Scan | None = None, before_s: float = 0.0
) -> RunPlan:
    """Measure a run of the recipe on this machine, as if it went to `folder`; nothing is written there.

    `scan`: what a look at the images found, where somebody has looked already. `before_s`: seconds that the run's
    command takes before it builds anything, for Python, its libraries and that look.

    Raises:
        DeitkitError: whatever the run itself would refuse: data, weights, teacher, a batch that does not fit.
    """
    began = time.perf_counter()
    training = build(recipe, world=World(), device=device, workers=workers, scan=scan)
    start_s = before_s + time.perf_counter() - began
    steps = _measure_steps(training)
    checkpoint_s, checkpoint_mb = _checkpoint(training, folder)
    train, shape = recipe.train, training.shape
    free = _free_memory_mb(device)
    return RunPlan(
        model=f"{recipe.model.name}{' distilled' if recipe.model.distilled else ''}",
        parameters=sum(parameter.numel() for parameter in training.student.parameters()),
        learning=sum(parameter.numel() for parameter in training.student.parameters() if parameter.requires_grad),
        learning_mb=_learning_mb(training), image_size=recipe.model.size,
        train_images=len(training.train), val_images=len(training.val), classes=len(training.train.class_names),
        epochs=train.epochs, steps_per_epoch=shape.steps_per_epoch, batch_size=shape.batch_size,
        timed_steps=steps.count, step_s=steps.seconds / steps.count, data_wait=steps.waited / steps.seconds,
        evaluation_s=_evaluation_seconds(training), evaluations=math.ceil(train.epochs / train.eval_every),
        checkpoint_s=checkpoint_s, checkpoints=_checkpoints(recipe, training.total_steps, shape.steps_per_epoch),
        start_s=start_s, memory_mb=steps.memory_mb,
        largest_batch=_largest_batch(shape.batch_size, shape.mix_group, steps.memory_mb, free),
        disk_mb=checkpoint_mb * (recipe.checkpoint.keep + 1) + weight_bytes(training.student.network) / MIB,
        free_disk_mb=shutil.disk_usage(nearest_folder(folder)).free / MIB,
        teacher=_teacher_cost(training, steps.teacher_s, steps.seconds / steps.count),
    )  # fmt: skip


@dataclass(frozen=True)
class _Steps:
    """Timed steps: their number, their seconds and those without data; what one adds to memory, MiB; its teacher's."""

    count: int
    seconds: float
    waited: float
    memory_mb: float | None
    teacher_s: float


def _measure_steps(training: Training) -> _Steps:
    warm_up = 1 + 2 * training.workers  # workers work ahead while the first step is made ready
    with contextlib.closing(training.loader.steps(0, max(training.total_steps, warm_up + MOST_STEPS + 1))) as batches:
        train_step(training, batch := next(batches))  # kernels are chosen, the optimiser's state is made
        training.progress.step += 1
        rise = peak_rise(lambda: train_step(training, batch), training.device)
        teacher_s = _teacher_seconds(training, batch)
        return _Steps(*_timed_steps(training, batches, warm_up=warm_up), rise, teacher_s)


def _timed_steps(training: Training, batches: Iterator[list[Batch]], *, warm_up: int) -> tuple[int, float, float]:
    """(steps, their seconds, seconds without data)."""
    for _ in range(warm_up):
        _one(training, batches)
    wait(training.device)
    began, waited = time.perf_counter(), training.loader.data_wait_s
    steps = 0
    while steps < LEAST_STEPS or (time.perf_counter() - began < TIMED_S and steps < MOST_STEPS):
        _one(training, batches)
        steps += 1
    wait(training.device)
    return steps, time.perf_counter() - began, training.loader.data_wait_s - waited


def _one(training: Training, batches: Iterator[list[Batch]]) -> None:
    train_step(training, next(batches))
    training.progress.step += 1
    if training.device.type == "cpu":
        training.sums.is_finite()  # as in a run


def _evaluation_seconds(training: Training) -> float:
    """Of one evaluation of the whole split, from a part of it; the EMA's model is evaluated, too."""
    part = spread_over(training.val, EVALUATED)
    seconds = []
    for images in (spread_over(part, 16), part):  # the first chooses kernels and starts workers
        began = time.perf_counter()
        predict(
            training.student, training.info, images, name="", device=training.device, workers=training.workers,
            reading=Reading.of(training.recipe.data),
        )  # fmt: skip
        seconds.append(time.perf_counter() - began)
    fixed, whole = min(seconds), seconds[1]
    slope = max(whole - fixed, 0.0) / max(len(part) - 16, 1)
    models = 1 if training.ema is None else 2
    return models * (fixed + slope * max(len(training.val) - 16, 0))


def _checkpoints(recipe: Recipe, steps: int, steps_per_epoch: int) -> int:
    """How many a run saves: at its steps, and whenever a better model is found between them."""
    every = recipe.checkpoint.every_steps
    at_bests = 0 if every is None else round(BESTS * steps / steps_per_epoch / recipe.train.eval_every)
    return math.ceil(steps / (every or steps_per_epoch)) + at_bests


def _checkpoint(training: Training, folder: Path) -> tuple[float, float]:
    """(seconds, MiB) of one checkpoint, written to a temporary folder on the run's disk."""
    state = kept_state(training)
    with tempfile.TemporaryDirectory(prefix=".deitkit-plan-", dir=nearest_folder(folder)) as temporary:
        began = time.perf_counter()
        written = save_checkpoint(
            Path(temporary), step=0, model=plain_state(training.student.network), state=state, metrics_bytes=0, keep=1
        )
        seconds = time.perf_counter() - began
        return seconds, sum(path.stat().st_size for path in written.iterdir()) / MIB


def _learning_mb(training: Training) -> float:
    """MiB of the gradients and of the optimiser's state."""
    gradients = [parameter for parameter in training.student.parameters() if parameter.requires_grad]
    states = [value for state in training.optimizer.state.values() for value in state.values()]
    tensors = [value for value in (*gradients, *states) if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MIB


# The teacher


def _teacher_seconds(training: Training, parts: list[Batch]) -> float:
    """Of the live teacher's answers to one step."""
    if training.teacher is None:
        return 0.0
    wait(training.device)
    began = time.perf_counter()
    for index, part in enumerate(parts):
        teacher_answers(training, part, part=index)
    wait(training.device)
    return time.perf_counter() - began


def _teacher_cost(training: Training, teacher_s: float, step_s: float) -> TeacherCost | None:
    """What it costs live, and what a tape of hard labels would: one byte a view, two above 256 classes."""
    if training.teacher is None:
        return None
    views = training.total_steps * training.shape.batch_size
    label_bytes = 1 if len(training.train.class_names) <= 256 else 2
    return TeacherCost(teacher_s, teacher_s / step_s, views * label_bytes / MIB, training.total_steps * teacher_s)


# Memory


def _largest_batch(batch: int, mix_group: int, rise_mb: float | None, free_mb: float | None) -> int | None:
    """A multiple of the mix group whose step fits into the free memory, by the memory of this batch's step."""
    if not rise_mb or free_mb is None:
        return None
    return max(int(0.9 * free_mb / rise_mb * batch) // mix_group * mix_group, 0)


def _free_memory_mb(device: torch.device) -> float | None:
    """MiB that may still be taken: of the CUDA device, or of this machine and its control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) / MIB
    found = free_memory()
    return None if found is None else found / MIB
