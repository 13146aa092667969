"""The end of a run: which weights it keeps, its model, predictions and result. Trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deitkit.data.open import counted
from deitkit.models.load import save_model
from deitkit.models.lora import merge
from deitkit.recipe.schema import Keep
from deitkit.runs.checkpoint import load_best
from deitkit.runs.folder import Run
from deitkit.training.evaluate import Watch, top1_of
from deitkit.training.keep import keep_of
from deitkit.training.observer import Observer
from deitkit.training.step import Training, TrainingProgress


@dataclass(frozen=True)
class FitResult:
    """A finished run and its model's top-1 on the validation split, by head."""

    run: Run
    top1: dict[str, float]


def finish(run: Run, watch: Watch, observer: Observer) -> FitResult:
    """Write model, predictions and result. The model is the best or the last; the moving average is the last step's."""
    training = watch.training
    for student in (training.student, *([training.ema.student] if training.ema else [])):
        merge(student.network)
    kept = _take_kept(run, training, observer)
    table = watch.predict(training.student, name=run.name, kept=True)
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
                **_ending(training, kept),
                "seconds": round(run.logged(spaced=0).seconds or 0.0, 1),
                **_unreadable(progress),
            },
        )
        if progress.unreadable:
            observer.say(
                f"others stood in {progress.replaced:,} times for " + counted("unreadable images", progress.unreadable)
            )
    training.world.barrier()
    return FitResult(run, top1)


def _take_kept(run: Run, training: Training, observer: Observer) -> Keep:
    """Give the student the weights that the run keeps; says which they are."""
    progress, world = training.progress, training.world
    kept = keep_of(training.recipe, training.val)
    if kept == "last" or progress.best_step == progress.step:
        return kept
    world.barrier()  # the main process has written it
    best = load_best(run.checkpoints, step=progress.best_step)
    if not all(world.gather(best is not None)) or best is None:
        observer.say(f"the best checkpoint, of step {progress.best_step}, is lost: the model is the last one")
        return "last"
    training.student.network.load_state_dict(best.model)
    return "best"


def _ending(training: Training, kept: Keep) -> dict[str, Any]:
    """For result.json: how far the run came, its best evaluation, and of which step and epoch its model is."""
    progress, metric = training.progress, training.recipe.train.metric
    steps = {"": progress.step, "kept_": progress.best_step if kept == "best" else progress.step}
    steps["best_"] = progress.best_step
    moments: dict[str, Any] = {}
    for name, step in steps.items():
        moments |= {f"{name}step": step, f"{name}epoch": round(training.epoch_of(step), 4)}
    return {
        **moments,
        "kept": kept,
        "best_top1": progress.best_top1,
        **({} if metric == "top1" else {"metric": metric, "best_score": progress.best_score}),
        "stopped_early": training.has_stopped_early,
    }


def _unreadable(progress: TrainingProgress) -> dict[str, Any]:
    """For result.json: images that could not be read, and how often others stood in for them."""
    return {"replaced": progress.replaced, "unreadable": progress.unreadable} if progress.unreadable else {}
