"""`deitkit plan VERB ...`, and the plan that `--dry-run` shows: what a run takes on this machine. Trains nothing."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.app import run as run_command
from deitkit.cli.options import workers_or_default
from deitkit.cli.picture import MUCH_WAITING
from deitkit.errors import one_of
from deitkit.runs.duration import spell_seconds

if TYPE_CHECKING:
    from deitkit.data.check.scan import Scan
    from deitkit.recipe.resolve import TrainingOptions
    from deitkit.recipe.schema import Recipe
    from deitkit.training.plan import RunPlan
    from deitkit.training.plan_parts import PartPlan

VERBS = ("pretrain", "distill", "finetune")


def plan(
    context: typer.Context,
    verb: Annotated[str, typer.Argument(metavar="VERB", help="pretrain, distill or finetune.")],
) -> None:
    """Say what a run would take here: time, memory, disk, and what its teacher costs.

    All options of the verb follow it, as they would be given to it. A few real steps are measured; nothing is kept.

    Example: deitkit plan pretrain --recipe quickstart/twin
    Example: deitkit plan finetune --data photos --from timm:deit_tiny_patch16_224 --compare parts
    Example: deitkit plan distill --data photos --teacher runs/teacher --time 2h
    """
    words = [one_of(verb, VERBS, what="verb"), *context.args, "--plan"]
    raise typer.Exit(run_command(words))


@cache
def seconds_to_load() -> float:
    """Processor seconds that this process has taken for Python, its libraries and a look at the images, when first
    asked: a run takes them again. Not by the clock, which goes on while a person thinks."""
    import deitkit.training.plan  # noqa: F401  (with all that a run imports)

    return time.process_time()


def show_parts(recipe: Recipe, options: TrainingOptions, scan: Scan | None, folder: Path) -> None:
    """What a run takes by what learns in it, the ways beside each other."""
    from deitkit.distributed import pick_device
    from deitkit.training.plan_parts import compare_parts

    device, workers = pick_device(options.device), workers_or_default(options.workers)
    found = compare_parts(recipe, device=device, workers=workers, folder=folder, scan=scan)
    if options.as_json:
        each = [asdict(way) | ({"total_s": way.plan.total_s} if way.plan else {}) for way in found]
        render.print_json({"parts": each})
        return
    render.print_table(
        "What it takes here, by what learns (train.parts)",
        ["parts", "learn", "of all", "gradients and optimiser", "memory a step", "a step", "the run", ""],
        [_part_row(way) for way in found],
    )
    render.say(f"blocks: the last {recipe.train.blocks} (train.blocks); lora: rank {recipe.train.lora_rank}")
    render.say("nothing was trained")


def _part_row(way: PartPlan) -> list[Any]:
    plan = way.plan
    if plan is None:
        return [way.parts, None, None, None, None, None, None, way.refused]
    memory = None if plan.memory_mb is None else f"{plan.memory_mb:,.0f} MiB"
    return [
        way.parts, f"{plan.learning:,}", f"{plan.learning / plan.parameters:.1%}", f"{plan.learning_mb:,.1f} MiB",
        memory, f"{plan.step_s:.3g} s", spell_seconds(plan.total_s), "",
    ]  # fmt: skip


def show_plan(found: RunPlan, *, workers: int) -> None:
    """The plan as a short table, and how to make it fit."""
    render.print_table("What it takes here", ["", ""], plan_rows(found, workers=workers))
    if found.disk_mb > found.free_disk_mb:
        render.say(f"the disk has {found.free_disk_mb:,.0f} MiB left: free some, or --set checkpoint.keep=1")


def plan_rows(found: RunPlan, *, workers: int) -> list[list[Any]]:
    """A line each: model, images, steps, time, memory, disk, teacher."""
    height, width = found.image_size
    learning = f" ({found.learning:,} of them learn)" if found.learning < found.parameters else ""
    waiting = f", {found.data_wait:.0%} of it waiting for data"
    if found.data_wait > MUCH_WAITING:
        waiting += f" (with --workers {workers}: more may help)"
    time = (
        f"{spell_seconds(found.total_s)}: {found.steps:,} steps at {found.step_s:.3g} s{waiting}; "
        f"{found.evaluations} evaluations at {found.evaluation_s:.2g} s"
    )
    memory = "cannot be told here" if found.memory_mb is None else f"{found.memory_mb:,.0f} MiB a step"
    if found.largest_batch:
        memory += f"; the largest batch that fits is about {found.largest_batch:,}"
    rows = [
        ["model", f"{found.model}, {found.parameters:,} parameters{learning}, {height}x{width} px"],
        ["images", f"{found.train_images:,} to train on, {found.val_images:,} to judge by, {found.classes:,} classes"],
        ["steps", f"{found.epochs:,} epochs x {found.steps_per_epoch:,} steps of {found.batch_size:,} views"],
        ["time", time],
        ["memory", memory],
        ["disk", f"{found.disk_mb:,.1f} MiB at the most; {found.free_disk_mb:,.0f} MiB are free"],
        [
            "to fit a time",
            f"--time 30m would be {found.epochs_within(1800):,} epochs, --time 8h {found.epochs_within(28800):,}",
        ],
    ]
    if found.teacher is not None:
        cost = found.teacher
        rows.append(
            [
                "teacher",
                f"live {cost.share:.0%} of a step; a tape of its labels is {cost.tape_mb:.2g} MiB and takes "
                f"{spell_seconds(cost.record_s)} to record, once for all students",
            ]
        )
    return rows
