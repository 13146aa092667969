"""fit: the one function behind pretrain, distill and finetune (DeiT Sec. 3-4). Only its recipe differs.

Reading order: `train_run` -> `fit` -> `step.train_step` -> `_end_step`. `fit` alone logs, saves and stops.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from deitkit.data.check.compare import TRAINED_ON, remember
from deitkit.data.check.left_out import LEFT_OUT, left_out_of, remember_left_out
from deitkit.data.check.scan import Scan
from deitkit.data.views.augment import UnreadableImage
from deitkit.distributed import join_world, pick_device
from deitkit.errors import Interrupted
from deitkit.models.forms import METRICS, decisive_head, score_of
from deitkit.models.lora import plain_state
from deitkit.recipe.schema import Recipe
from deitkit.runs.folder import Run
from deitkit.runs.names import BEST
from deitkit.runs.saver import CheckpointSaver, Snapshot
from deitkit.training.bad_images import (
    StoppedByImage,
    begin_background,
    count_replaced,
    hear_of_background,
    refuse_bad_images,
)
from deitkit.training.evaluate import Watch
from deitkit.training.failures import naming_memory, refuse_non_finite
from deitkit.training.finish import FitResult, finish
from deitkit.training.log import MetricsLog, Sums
from deitkit.training.observer import Observer, Silent
from deitkit.training.optim import learning_rate
from deitkit.training.resume import as_begun, describe, kept_state, restore, take_up
from deitkit.training.signals import StopSignals, Waiting, held_back
from deitkit.training.step import Training, build, train_step
from deitkit.training.teacher_check import brief_check
from deitkit.training.unfreeze import unfreeze_when_due


def train_run(
    recipe: Recipe, path: str | Path, *, resume: bool = False, overwrite: bool = False, workers: int = 0,
    device: str = "auto", strict: bool = False, scan: Scan | None = None, observer: Observer | None = None,
) -> FitResult:  # fmt: skip
    """Do what the recipe says in the run folder `path`; with `resume`, go on where it stopped.

    `strict` refuses a tape that was recorded with other versions or on another kind of device. `scan` is what a look at
    the images found, where somebody has looked already.

    Raises:
        DeitkitError: anything in the recipe, data, weights or folder that the user can mend.
        Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    observer = observer or Silent()
    run = Run(Path(path))
    again = resume and Run.is_run(run.path)
    if again:
        run.refuse_changed(recipe)
        recipe = as_begun(run, recipe, observer.say)
    else:
        run.refuse_occupied(overwrite=overwrite)
    picked = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    with join_world(picked.type) as world, run.lock() if world.is_main else contextlib.nullcontext():
        before = left_out_of(run.path, is_new=not run.has_steps()) if again else None
        training = build(
            recipe, world=world, device=picked, workers=workers, strict=strict, scan=scan, before=before
        )  # fmt: skip
        if recipe.teacher is not None and recipe.teacher.check and not again:
            training.messages += brief_check(training)
        begin = None
        if world.is_main:
            begin = _open_folder(run, training, again=again, strict=strict, observer=observer)
        world.barrier()
        return fit(run, training, resume=again, observer=observer if world.is_main else Silent(), begin=begin)


def _open_folder(run: Run, training: Training, *, again: bool, strict: bool, observer: Observer) -> Begin | None:
    """Create the run, or note its resumption. What is to replace another run waits for its first step."""
    for message in training.messages:
        observer.say(message)
    run.recover()
    if again:
        take_up(run, training, strict=strict, say=observer.say)
        if not (run.path / TRAINED_ON).is_file():
            remember(training.train, run.path)
        if not (run.path / LEFT_OUT).is_file():
            remember_left_out(training.left_out, run.path)
        return None
    environment = describe(training, strict=strict)

    def begin() -> None:
        Run.create(run.path, training.recipe, environment=environment, overwrite=True)
        remember(training.train, run.path)
        remember_left_out(training.left_out, run.path)

    if Run.is_run(run.path):
        return begin
    begin()
    return None


Begin = Callable[[], None]


@dataclass(frozen=True)
class Fitting:
    """One run being trained, with everything that looks at it."""

    run: Run
    watch: Watch
    log: MetricsLog
    observer: Observer
    signals: StopSignals
    saver: CheckpointSaver

    @property
    def training(self) -> Training:
        return self.watch.training

    def leaving_early(self) -> contextlib.AbstractContextManager[None]:
        """While it is open nothing would be lost by a signal."""
        return self.signals.heeded_at_once(alone=not self.training.world.is_distributed)


def fit(
    run: Run, training: Training, *, resume: bool, observer: Observer, begin: Begin | None = None
) -> FitResult:  # fmt: skip
    """Train from the last checkpoint, or from the start, to the end of the recipe.

    `begin` makes the folder after the first step: a run that fails there has replaced nothing.
    """
    log, watch = MetricsLog(run.metrics_path, enabled=training.world.is_main), Watch(training)
    if resume:
        restore(run, training, log, observer.say)
    training.parallel.train()
    observer.start(training, first_step=training.progress.step)
    begin_background(training)
    try:
        keep = training.recipe.checkpoint.keep
        saving = CheckpointSaver(run.checkpoints, keep=keep, written=log.sync)
        with held_back() as signals, naming_memory(training), saving as saver:
            fitting = Fitting(run, watch, log, observer, signals, saver)
            try:
                _train(fitting, begin)
            except Waiting:
                if begin is not None and Run.is_run(run.path) and not training.progress.step:
                    raise KeyboardInterrupt from None  # nothing has begun, and the old run stands
                _save(fitting, wait=True)
                raise Interrupted(signals.number, training.progress.step) from None
            except UnreadableImage as error:
                if begin is not None and not training.progress.step:
                    raise  # nothing has begun
                if not training.world.is_distributed:  # the other ranks wait elsewhere
                    _save(fitting, wait=True)
                raise StoppedByImage(error) from error
        return finish(run, watch, observer)
    finally:
        observer.stop()
        if training.background:
            training.background.stop()


def _train(fitting: Fitting, begin: Begin | None) -> None:
    """Every step that is left."""
    training = fitting.training
    progress = training.progress
    if progress.evaluation_due:
        is_best = _evaluate(fitting)
        _save(fitting, is_best=is_best)
    with contextlib.closing(training.loader.steps(progress.step, training.total_steps)) as stream:
        while progress.step < training.total_steps and not training.is_out_of_patience:
            with fitting.leaving_early():
                parts = next(stream)
            if unfreeze_when_due(training, step=progress.step):
                training.parallel.train()
                fitting.observer.say(f"everything learns from epoch {training.epoch_of(progress.step):g} on")
            train_step(training, parts)
            if begin is not None:
                refuse_non_finite(training, fitting.run)
                begin()
                begin = None
            progress.step += 1
            fitting.observer.step(progress.step, training.sums)
            _end_step(fitting, interrupted=training.world.any(_heed(fitting)))
    if training.has_stopped_early:
        fitting.observer.say(
            f"stopped early, after epoch {training.epoch_of(progress.step):g} of {training.recipe.train.epochs}: "
            f"{progress.evaluations_without_gain} evaluations without a better "
            f"{METRICS[training.recipe.train.metric]} (train.patience)"
        )


# The end of a step: log, evaluate, checkpoint


def _heed(fitting: Fitting) -> int:
    """Do what the person who watches asks for; the number of the signal that ends the run, or 0."""
    observer, training, signals = fitting.observer, fitting.training, fitting.signals
    began = time.perf_counter()
    while (asked := observer.asked()) == "pause" and not signals.number:
        time.sleep(0.1)
    if training.world.is_distributed:  # one rank alone may neither evaluate nor save
        asked = ""
    if asked == "evaluate":
        _evaluate(fitting, counts=False)
    elif asked == "checkpoint":
        observer.doing("saving a checkpoint")
        _save(fitting, wait=True)
        observer.say(f"checkpoint of step {training.progress.step} saved")
    fitting.log.leave_out(time.perf_counter() - began)
    return signals.number or (signal.SIGINT if asked == "stop" else 0)


def _end_step(fitting: Fitting, *, interrupted: int) -> None:
    training, log = fitting.training, fitting.log
    recipe, progress = training.recipe, training.progress
    per_epoch = training.shape.steps_per_epoch
    last = progress.step == training.total_steps
    log_due = last or progress.step % recipe.train.log_every == 0
    progress.evaluation_due = last or progress.step % (recipe.train.eval_every * per_epoch) == 0
    save_due = last or interrupted or progress.step % (recipe.checkpoint.every_steps or per_epoch) == 0
    # Looking waits for the device, so an accelerator is asked only before something is kept.
    if training.device.type == "cpu" or log_due or progress.evaluation_due or save_due:
        refuse_non_finite(training, fitting.run)
    if log_due:
        fitting.observer.logged(_log(training, log, fitting.observer.say))
        hear_of_background(training, fitting.run, fitting.observer.say)
        refuse_bad_images(training)
    began = time.perf_counter()
    is_best = progress.evaluation_due and not interrupted and _evaluate(fitting)
    if save_due or is_best or training.is_out_of_patience:
        _save(fitting, is_best=is_best, wait=bool(interrupted))
    log.leave_out(time.perf_counter() - began)
    if interrupted:
        raise Interrupted(interrupted, progress.step)


def _log(training: Training, log: MetricsLog, say: Callable[[str], None]) -> dict[str, Any]:
    """One line of metrics.jsonl: means since the last one, then the clock's and the memory's fields."""
    progress = training.progress
    rate = learning_rate(training.recipe, progress.step - 1, steps_per_epoch=training.shape.steps_per_epoch)
    record = {"step": progress.step, "epoch": round(training.epoch_of(progress.step), 4), "lr": rate}
    ranks = training.world.gather(training.sums.means())
    record |= {key: sum(means[key] for means in ranks) / len(ranks) for key in ranks[0]}
    images = training.sums.images * training.world.ranks
    record |= log.clock(images=images, data_wait_s=training.loader.data_wait_s)
    record["memory_mb"] = memory_mb(training.device)
    if training.recipe.data.bad_images != "error":
        record |= count_replaced(training, say)
    training.sums = Sums()
    log.write(record)
    return record


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the CUDA device, or of this process. MiB."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def _evaluate(fitting: Fitting, *, counts: bool = True) -> bool:
    """Log what the watch measures; whether it is the best so far, the later one of equals.

    One that does not `count` was asked for by a key: whoever looks more often must not choose another model."""
    training, progress, log, observer = fitting.training, fitting.training.progress, fitting.log, fitting.observer
    observer.doing("evaluating")
    with fitting.leaving_early() if counts else contextlib.nullcontext():  # else the step is not logged yet
        measured = fitting.watch.evaluate()
    record = {"step": progress.step, "epoch": round(training.epoch_of(progress.step), 4), **measured}
    record |= {} if counts else {"asked": True}
    log.write(record)
    observer.logged(record)
    if not counts:
        return False
    progress.evaluation_due = False
    score, top1 = score_of(record), record["top1"]
    progress.evaluations_without_gain = 0 if score > progress.best_score else progress.evaluations_without_gain + 1
    if score < progress.best_score:
        return False
    progress.best_score, progress.best_top1 = score, top1[decisive_head(top1)]
    progress.best_step = progress.step
    return True


# Saving


def _save(fitting: Fitting, *, is_best: bool = False, wait: bool = False) -> None:
    """The step's checkpoint, and after it the best: a run that is killed in between knows of it and has its weights.

    Where it is large, it is written while training goes on, unless somebody is to `wait` for it."""
    training, log = fitting.training, fitting.log
    sums = training.world.gather(training.sums.state_dict())
    if not training.world.is_main:
        return
    state = {"progress": asdict(training.progress), "sums": sums, **kept_state(training)}
    snapshot = Snapshot(
        step=training.progress.step,
        model=plain_state(training.student.network),
        state=state,
        metrics_bytes=log.bytes_written,
        name=BEST if is_best else None,
    )
    fitting.saver.save(snapshot)
    if wait:
        fitting.saver.wait()
