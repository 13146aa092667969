"""fit: the one function behind pretrain, distill and finetune (DeiT Sec. 3-4). Only its recipe differs.

Reading order: `train_run` -> `fit` -> `step.train_step` -> `_end_step`. `fit` alone logs, saves and stops.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch

from deitkit.data.check.compare import remember
from deitkit.data.open import counted
from deitkit.distributed import join_world, pick_device
from deitkit.errors import DeitkitError, Interrupted
from deitkit.models.forms import decisive_head
from deitkit.models.load import save_model
from deitkit.recipe.schema import Recipe
from deitkit.runs.checkpoint import load_checkpoint, load_latest, save_checkpoint
from deitkit.runs.environment import describe_environment
from deitkit.runs.folder import Run
from deitkit.training.evaluate import Watch, top1_of
from deitkit.training.log import MetricsLog, Sums
from deitkit.training.optim import learning_rate
from deitkit.training.step import Progress, Training, build, train_step
from deitkit.training.teacher_check import brief_check

# What a person who watches may ask for between two steps; "pause" until it is taken back.
Request = Literal["", "evaluate", "checkpoint", "pause", "stop"]


class Observer(Protocol):
    """Who watches a run: the live view, or nobody. Called by `fit` only."""

    def start(self, training: Training, *, first_step: int) -> None: ...
    def step(self, step: int, sums: Sums) -> None: ...
    def logged(self, record: Mapping[str, Any]) -> None: ...
    def doing(self, what: str) -> None: ...
    def asked(self) -> Request: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """An observer that looks away."""

    def start(self, training: Training, *, first_step: int) -> None:
        """A run begins."""

    def step(self, step: int, sums: Sums) -> None:
        """An optimiser step ended."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""

    def doing(self, what: str) -> None:
        """Something began that is no step and takes a while."""

    def asked(self) -> Request:
        """What is asked for since the last call: nothing."""
        return ""

    def say(self, text: str) -> None:
        """Something that a person should know."""

    def stop(self) -> None:
        """The run ended, whichever way."""


@dataclass(frozen=True)
class FitResult:
    """A finished run and its top-1 on the validation split, by head."""

    run: Run
    top1: dict[str, float]


def train_run(
    recipe: Recipe,
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 0,
    device: str = "auto",
    strict: bool = False,
    observer: Observer | None = None,
) -> FitResult:
    """Do what the recipe says in the run folder `path`; with `resume`, go on where it stopped.

    `strict` refuses a tape that was recorded with other versions or on another kind of device.

    Raises:
        DeitkitError: anything in the recipe, data, weights or folder that the user can mend.
        Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    observer = observer or Silent()
    run = Run(Path(path))
    again = resume and Run.is_run(run.path)
    if again:
        run.refuse_changed(recipe)
    else:
        run.refuse_occupied(overwrite=overwrite)
    picked = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    with join_world(picked.type) as world, run.lock() if world.is_main else contextlib.nullcontext():
        training = build(recipe, world=world, device=picked, workers=workers, strict=strict)
        if recipe.teacher is not None and recipe.teacher.check and not again:
            training.messages += brief_check(training)
        if world.is_main:
            _open_folder(run, training, again=again, overwrite=overwrite, observer=observer)
        world.barrier()
        return fit(run, training, resume=again, observer=observer if world.is_main else Silent())


def fit(run: Run, training: Training, *, resume: bool, observer: Observer) -> FitResult:
    """Train from the last checkpoint, or from the start, to the end of the recipe."""
    log, watch = MetricsLog(run.metrics_path, enabled=training.world.is_main), Watch(training)
    if resume:
        _restore(run, training, log, observer)
    progress = training.progress
    training.parallel.train()
    observer.start(training, first_step=progress.step)
    try:
        with _signals() as received:
            if progress.evaluation_due:
                _evaluate(run, watch, log, observer)
            stream = training.loader.steps(progress.step, training.total_steps)
            while progress.step < training.total_steps and not _is_out_of_patience(training):
                train_step(training, next(stream))
                progress.step += 1
                observer.step(progress.step, training.sums)
                stopped = _heed(run, watch, log, observer, received)
                _end_step(run, watch, log, observer, interrupted=training.world.any(stopped))
        return _finish(run, watch, log, observer)
    finally:
        observer.stop()


# The end of a step: log, evaluate, checkpoint


def _heed(run: Run, watch: Watch, log: MetricsLog, observer: Observer, received: Sequence[int]) -> int:
    """Do what the person who watches asks for; the number of the signal that ends the run, or 0."""
    began = time.perf_counter()
    while (asked := observer.asked()) == "pause" and not received[0]:
        time.sleep(0.1)
    if watch.training.world.is_distributed:  # one rank alone may neither evaluate nor save
        asked = ""
    if asked == "evaluate":
        _evaluate(run, watch, log, observer, counts=False)
    elif asked == "checkpoint":
        observer.doing("saving a checkpoint")
        _save(run, watch.training, log)
        observer.say(f"checkpoint of step {watch.training.progress.step} saved")
    log.leave_out(time.perf_counter() - began)
    return received[0] or (signal.SIGINT if asked == "stop" else 0)


def _end_step(run: Run, watch: Watch, log: MetricsLog, observer: Observer, *, interrupted: int) -> None:
    training = watch.training
    recipe, progress = training.recipe, training.progress
    per_epoch = training.shape.steps_per_epoch
    last = progress.step == training.total_steps
    log_due = last or progress.step % recipe.train.log_every == 0
    progress.evaluation_due = last or progress.step % (recipe.train.eval_every * per_epoch) == 0
    save_due = last or interrupted or progress.step % (recipe.checkpoint.every_steps or per_epoch) == 0
    # Looking waits for the device, so an accelerator is asked only before something is kept.
    if training.device.type == "cpu" or log_due or progress.evaluation_due or save_due:
        _refuse_non_finite(run, training)
    if log_due:
        observer.logged(_log(training, log))
    began = time.perf_counter()
    if progress.evaluation_due and not interrupted:
        _evaluate(run, watch, log, observer)
    if save_due:
        _save(run, training, log)
    log.leave_out(time.perf_counter() - began)
    if interrupted:
        raise Interrupted(interrupted, progress.step)


def _refuse_non_finite(run: Run, training: Training) -> None:
    """Stop with a diagnosis once a loss, a gradient norm or the teacher was not finite; what is on disk stays good."""
    if training.teacher is not None:
        training.teacher.check_finite()
    if training.sums.is_finite():
        return
    step = training.progress.step
    rate = learning_rate(training.recipe, step - 1, steps_per_epoch=training.shape.steps_per_epoch)
    raise DeitkitError(
        f"training diverged by step {step} (epoch {training.epoch_of(step):.2f}): {training.sums.diagnosis()}",
        value=step,
        problems=[f"learning rate {rate:.3g}", f"precision {training.recipe.train.precision}"],
        remedy="lower optim.lr, set optim.clip_grad=1.0 or lengthen schedule.warmup_epochs; the last good checkpoint "
        f"in {run.checkpoints} is kept",
    )


def _log(training: Training, log: MetricsLog) -> dict[str, Any]:
    """One line of metrics.jsonl: means since the last one, then the clock's and the memory's fields."""
    progress = training.progress
    rate = learning_rate(training.recipe, progress.step - 1, steps_per_epoch=training.shape.steps_per_epoch)
    record = {"step": progress.step, "epoch": round(training.epoch_of(progress.step), 4), "lr": rate}
    ranks = training.world.gather(training.sums.means())
    record |= {key: sum(means[key] for means in ranks) / len(ranks) for key in ranks[0]}
    images = training.sums.images * training.world.ranks
    record |= log.clock(images=images, data_wait_s=training.loader.data_wait_s)
    record["memory_mb"] = memory_mb(training.device)
    if training.recipe.data.on_bad_image == "replace":
        record["replaced_images"] = _count_replaced(training)
    training.sums = Sums()
    log.write(record)
    return record


def _count_replaced(training: Training) -> int:
    """Take the unreadable images since the last line over into the run's progress; how often others stood in."""
    names = [name for own in training.world.gather(training.sums.replaced) for name in own]
    progress = training.progress
    progress.replaced += len(names)
    progress.unreadable = sorted({*progress.unreadable, *names})
    return len(names)


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the CUDA device, or of this process. MiB."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def _evaluate(run: Run, watch: Watch, log: MetricsLog, observer: Observer, *, counts: bool = True) -> None:
    """Log what the watch measures; remember the best. One that does not `count` was asked for by a key: whoever looks
    more often must not choose another model."""
    training, progress = watch.training, watch.training.progress
    observer.doing("evaluating")
    record = {"step": progress.step, "epoch": round(training.epoch_of(progress.step), 4), **watch.evaluate()}
    record |= {} if counts else {"asked": True}
    log.write(record)
    observer.logged(record)
    if not counts:
        return
    progress.evaluation_due = False
    if (score := decisive(record["top1"])) > progress.best_top1:
        progress.best_top1, progress.best_step, progress.evaluations_without_gain = score, progress.step, 0
        _save(run, training, log, name="best")
    else:
        progress.evaluations_without_gain += 1


def decisive(top1: Mapping[str, float]) -> float:
    """The fused heads' accuracy, or the only head's."""
    return top1[decisive_head(top1)]


def _is_out_of_patience(training: Training) -> bool:
    patience = training.recipe.train.patience
    return patience is not None and training.progress.evaluations_without_gain >= patience


# Saving and resuming


def _save(run: Run, training: Training, log: MetricsLog, *, name: str | None = None) -> None:
    sums = training.world.gather(training.sums.state_dict())
    if not training.world.is_main:
        return
    state: dict[str, Any] = (
        {}
        if name
        else {
            "progress": asdict(training.progress),
            "sums": sums,
            "optimizer": training.optimizer.state_dict()["state"],
            "ema": training.ema.state_dict() if training.ema else {},
        }
    )
    save_checkpoint(
        run.checkpoints,
        step=training.progress.step,
        model=training.student.network.state_dict(),
        state=state,
        metrics_bytes=log.bytes_written,
        keep=training.recipe.checkpoint.keep,
        name=name,
    )


def _restore(run: Run, training: Training, log: MetricsLog, observer: Observer) -> None:
    """Take up the newest valid checkpoint; without one, begin at step 0."""
    checkpoint = load_latest(run.checkpoints, say=observer.say)
    log.cut(checkpoint.metrics_bytes if checkpoint else 0)
    if checkpoint is None:
        observer.say(f"{run.path} has no valid checkpoint yet: starting at step 0")
        return
    training.student.network.load_state_dict(checkpoint.model)
    whole = training.optimizer.state_dict()
    training.optimizer.load_state_dict({**whole, "state": checkpoint.state["optimizer"]})
    if training.ema is not None:
        training.ema.student.network.load_state_dict(checkpoint.state["ema"])
    training.progress = Progress(**checkpoint.state["progress"])
    sums = checkpoint.state["sums"]
    if len(sums) == training.world.ranks:
        training.sums = Sums.load(sums[training.world.rank], training.device)
    observer.say(f"resuming {run.path} at step {checkpoint.step} of {training.total_steps}")


def _open_folder(run: Run, training: Training, *, again: bool, overwrite: bool, observer: Observer) -> None:
    """Create the run, or note its resumption and say what differs from before."""
    now = describe_environment(
        device=torch.cuda.get_device_name(training.device) if training.device.type == "cuda" else str(training.device),
        threads=torch.get_num_threads(),
        ranks=training.world.ranks,
        accumulation=training.recipe.train.accumulation,
        data_fingerprint=training.train.fingerprint,
    )
    for message in training.messages:
        observer.say(message)
    if not again:
        Run.create(run.path, training.recipe, environment=now, overwrite=overwrite)
        remember(training.train, run.path)
        return
    before = run.environment()
    if before.get("data_fingerprint") != now["data_fingerprint"]:
        raise DeitkitError(
            f"cannot resume {run.path}: the data has changed since it began",
            value=str(run.path),
            remedy="restore the data, or start a new run with --output OTHER; earlier versions drew held-out images by "
            "place: --set data.split_rule=place",
        )
    for key in ("versions", "processor", "device", "threads", "ranks", "accumulation"):
        if key in before and before[key] != now[key]:
            observer.say(f"{key} was {before[key]}, is {now[key]}: equal to the last bit is no longer promised")
    run.write_json("environment.json", {**before, "resumed": [*before.get("resumed", []), now]})


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Hold back SIGINT and SIGTERM until the step is done; a second signal ends at once."""
    received = [0]
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread alone
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        if received[0]:
            raise KeyboardInterrupt
        received[0] = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(run: Run, watch: Watch, log: MetricsLog, observer: Observer) -> FitResult:
    """Write model, predictions and result; after early stopping the model is the best one, else the last."""
    training = watch.training
    if _is_out_of_patience(training):
        best = load_checkpoint(run.checkpoints / "best")
        training.student.network.load_state_dict(best.model)
    table = watch.predict(training.student, name=run.name)
    top1 = top1_of(table)
    if training.world.is_main:
        save_model(run.model, training.student, training.info)
        if training.ema is not None:
            save_model(run.path / "model_ema", training.ema.student, training.info)
        table.save(run.predictions / f"{table.dataset}-{table.split}.parquet")
        progress = training.progress
        run.write_json(
            "result.json",
            {
                "top1": top1,
                "images": len(table.labels),
                "step": progress.step,
                "best_top1": progress.best_top1,
                "best_step": progress.best_step,
                "seconds": round(log.seconds_total(run.metrics()), 1),
                **_unreadable(progress),
            },
        )
        if progress.unreadable:
            observer.say(
                f"others stood in {progress.replaced:,} times for " + counted("unreadable images", progress.unreadable)
            )
    training.world.barrier()
    return FitResult(run, top1)


def _unreadable(progress: Progress) -> dict[str, Any]:
    """For result.json: images that could not be read, and how often others stood in for them."""
    return {"replaced": progress.replaced, "unreadable": progress.unreadable} if progress.unreadable else {}
