"""Beginning a run's folder, and taking a run up again: what must be the same, and what a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deitkit.data.content import content_differences, content_of
from deitkit.errors import DeitkitError
from deitkit.models.lora import apart, load_training_state
from deitkit.recipe.schema import Recipe
from deitkit.runs.checkpoint import (
    Checkpoint,
    load_best,
    load_latest,
    remove_beyond,
    save_checkpoint,
    set_damaged_aside,
)
from deitkit.runs.environment import describe_environment
from deitkit.runs.folder import Run
from deitkit.runs.names import BEST
from deitkit.training.log import MetricsLog, Sums
from deitkit.training.step import Training, TrainingProgress
from deitkit.training.unfreeze import unfreeze_when_due

Say = Callable[[str], None]


def describe(training: Training, *, strict: bool) -> dict[str, Any]:
    """What this session runs on and learns from, as a run's environment keeps it."""
    splits = {"train": training.train, "val": training.val}
    return describe_environment(
        device=torch.cuda.get_device_name(training.device) if training.device.type == "cuda" else str(training.device),
        threads=torch.get_num_threads(),
        ranks=training.world.ranks,
        accumulation=training.recipe.train.accumulation,
        data_fingerprint=training.info.data_fingerprint,  # of all images, unreadable ones among them
        data_content={name: content_of(source, whole=strict) for name, source in splits.items()},
        teacher=_teaching(training),
    )


def _teaching(training: Training) -> dict[str, str]:
    """Each teacher's reference and its fingerprint, live or from the tape that stands for it."""
    if training.tape is not None:
        header = training.tape.header
        known = header.teacher.get("teacher.fingerprint") or ",".join(str(digest) for digest in header.weights)
        return {header.named: known}
    if training.teacher is None:
        return {}
    facts = training.teacher.facts
    return {member.reference: member.fingerprint for member in facts.members or (facts,)}


def take_up(run: Run, training: Training, *, strict: bool, say: Say) -> None:
    """Note the resumption in the run's environment, and say what differs from before.

    Raises:
        DeitkitError: the images or the teacher are others.
    """
    before, now = run.environment(), describe(training, strict=strict)
    _refuse_other_data(run, training, before, now)
    _refuse_other_teacher(run, before, now)
    for key in ("versions", "processor", "device", "threads", "ranks", "accumulation"):
        if key in before and before[key] != now[key]:
            say(f"{key} was {before[key]}, is {now[key]}: equal to the last bit is no longer promised")
    known = {key: before.get(key, now[key]) for key in ("data_content", "teacher")}  # an older run knows neither
    run.write_json("environment.json", {**before, **known, "resumed": [*before.get("resumed", []), now]})


def _refuse_other_data(run: Run, training: Training, before: dict[str, Any], now: dict[str, Any]) -> None:
    found: list[str] = []
    for name, source in (("train", training.train), ("val", training.val)):
        known = before.get("data_content", {}).get(name)
        damaged = {image.id for image in training.left_out.later if image.split == source.split}
        found += content_differences(known, now["data_content"][name], source, damaged=damaged) if known else []
    if before.get("data_fingerprint") != now["data_fingerprint"] or found:
        raise DeitkitError(
            f"cannot resume {run.path}: the data has changed since it began",
            value=str(run.path),
            problems=found,
            remedy="restore the data, or start a new run with --output OTHER; earlier versions drew held-out images by "
            "place: --set data.split_rule=place",
        )


def _refuse_other_teacher(run: Run, before: dict[str, Any], now: dict[str, Any]) -> None:
    known: dict[str, str] = before.get("teacher") or {}
    changed = [name for name, digest in now["teacher"].items() if known.get(name, digest) != digest]
    if changed:
        raise DeitkitError(
            f"cannot resume {run.path}: the teacher {', '.join(changed)} is another one than when it began",
            value=str(run.path),
            problems=[
                f"{name}: fingerprint was {known[name][:12]}, is {now['teacher'][name][:12]}" for name in changed
            ],
            remedy="restore its weights and settings, or start a new run with --output OTHER",
        )


def as_begun(run: Run, recipe: Recipe, say: Say) -> Recipe:
    """The recipe to go on with: it keeps the weights that the run began to keep, unless others are asked for now."""
    was, now = run.recipe().train.keep, recipe.train.keep
    if was == now:
        return recipe
    if "train.keep" in recipe.given:
        say(f"train.keep was {was}, is {now}")
        return recipe
    say(f"train.keep stays {was}, as the run began: --set train.keep={now} changes it")
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"keep": was})})


def kept_state(training: Training) -> dict[str, Any]:
    """What a checkpoint keeps beside the network's own weights, so that training goes on from it to the last bit."""
    state = {
        "optimizer": training.optimizer.state_dict()["state"],
        "ema": training.ema.state_dict() if training.ema else {},
    }
    lora = apart(training.student.network)
    return {**state, "lora": lora} if lora else state


def restore(run: Run, training: Training, log: MetricsLog, say: Say) -> None:
    """Take up the newest valid checkpoint; without one, begin at step 0."""
    checkpoint = load_latest(run.checkpoints, say=say)
    if training.world.is_main:
        set_damaged_aside(run.checkpoints, say=say)
        if checkpoint is not None:  # a kill may have come between saving it and this
            remove_beyond(run.checkpoints, training.recipe.checkpoint.keep, step=checkpoint.step)
    if missing := log.cut(checkpoint.metrics_bytes if checkpoint else 0):
        say(f"{log.path} lacks {missing:,} bytes that the checkpoint knows of: some lines of it are lost")
    if checkpoint is None:
        say(f"{run.path} has no valid checkpoint yet: starting at step 0")
        return
    # what was saved at the very step was saved before everything was let go
    unfreeze_when_due(training, step=checkpoint.step - 1)
    load_training_state(training.student.network, checkpoint.model, checkpoint.state.get("lora", {}))
    whole = training.optimizer.state_dict()
    training.optimizer.load_state_dict({**whole, "state": checkpoint.state["optimizer"]})
    if training.ema is not None:
        training.ema.student.network.load_state_dict(checkpoint.state["ema"])
    training.progress = TrainingProgress.load(checkpoint.state["progress"])
    if training.world.is_main:
        _mend_best(run, training, checkpoint)
    sums = checkpoint.state["sums"]
    if len(sums) == training.world.ranks:
        training.sums = Sums.load(sums[training.world.rank], training.device)
    say(f"resuming {run.path} at step {checkpoint.step} of {training.total_steps}")


def _mend_best(run: Run, training: Training, checkpoint: Checkpoint) -> None:
    """Save the best weights anew where a kill came before them: the step's checkpoint, saved first, has them."""
    step = training.progress.best_step
    if step != checkpoint.step or load_best(run.checkpoints, step=step) is not None:
        return
    save_checkpoint(
        run.checkpoints, step=step, model=checkpoint.model, state={}, metrics_bytes=checkpoint.metrics_bytes,
        keep=training.recipe.checkpoint.keep, name=BEST,
    )  # fmt: skip
