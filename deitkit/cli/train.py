"""pretrain, distill, finetune: check that the recipe fits the verb, then fit. No mathematics here."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deitkit.cli import look as looking
from deitkit.cli import render
from deitkit.cli.live import observer
from deitkit.cli.options import (
    ChosenRecipe,
    Compare,
    FindRate,
    Freeze,
    RunOptions,
    TeacherOptions,
    WhatOptions,
    workers_or_default,
)
from deitkit.cli.plan import seconds_to_load, show_parts, show_plan
from deitkit.errors import DeitkitError, Interrupted, one_of, quoted
from deitkit.recipe.pick import Verb
from deitkit.recipe.resolve import TrainingOptions, default_output, given, parse_minutes, resolve, spelled
from deitkit.training.suggest import choose

if TYPE_CHECKING:
    from deitkit.data.check.scan import Scan
    from deitkit.recipe.schema import Recipe
    from deitkit.training.observer import Observer


def pretrain(what: WhatOptions, run: RunOptions, recipe: ChosenRecipe = "") -> None:
    """Train a model from random weights.

    Without --recipe, images of your own get one that fits their number and size: batch, epochs, warm-up, rate, model.

    Example: deitkit pretrain --recipe quickstart/teacher --epochs 5
    Example: deitkit pretrain --data photos --time 30m -o runs/mine
    Example: deitkit pretrain --recipe pretrain/deit_small --data /data/imagenet --dry-run
    """
    train("pretrain", options_of(recipe, what, run), run)


def distill(what: WhatOptions, teacher: TeacherOptions, run: RunOptions, recipe: ChosenRecipe = "") -> None:
    """Train a student from random weights with a teacher.

    Without --recipe, images of your own get one that fits their number and size: batch, epochs, warm-up, rate, model.

    Example: deitkit distill --recipe quickstart/student --dry-run
    Example: deitkit distill --data photos --teacher runs/teacher -o runs/student
    Example: deitkit distill --recipe distill/deit_tiny --data /data/imagenet --tape tapes/regnety
    """
    train("distill", options_of(recipe, what, run, teacher), run)


def finetune(
    what: WhatOptions, teacher: TeacherOptions, run: RunOptions, recipe: ChosenRecipe = "", freeze: Freeze = "",
    find_lr: FindRate = False, compare: Compare = "",
) -> None:  # fmt: skip
    """Train further from earlier weights, at the same or another resolution.

    Without --recipe the data choose it: a known data set has its own ones, any other goes by its number of images.

    Example: deitkit finetune --dataset cars --image-size 384 --dry-run
    Example: deitkit finetune --data photos --from timm:deit_tiny_patch16_224 -o runs/mine
    Example: deitkit finetune --data photos --from runs/mine --freeze backbone --lr 1e-4
    """
    compared = one_of(compare, ["parts"], what="--compare") if compare else ""
    options = options_of(recipe, what, run, teacher, freeze)
    train("finetune", replace(options, find_lr=find_lr, compare=compared), run)


def options_of(
    recipe: str, what: WhatOptions, run: RunOptions, teacher: TeacherOptions | None = None, freeze: str = ""
) -> TrainingOptions:
    """The command line as keys of the recipe, each with the option that gave it."""
    words: dict[str, Any] = {each.name: getattr(what, each.name) for each in fields(what)}
    taught: dict[str, Any] = {"teacher": teacher.teacher, "tape": teacher.tape} if teacher else {}
    changes = given(**words, **taught, freeze=freeze)
    return TrainingOptions(
        recipe, changes, run.output, run.resume, run.overwrite, run.workers, run.device, run.dry_run, run.as_json,
        log=run.log, plan=run.plan, all_values=run.all_values, strict=teacher is not None and teacher.strict,
        minutes=parse_minutes(run.time), origins=spelled(changes, what.sets),
        trust_code=teacher is not None and teacher.trust_code,
    )  # fmt: skip


def refuse_wrong_verb(verb: str, recipe: Recipe) -> None:
    """A verb promises what the recipe does: random or earlier weights, with or without a teacher."""
    if verb == "finetune" and recipe.start is None:
        raise DeitkitError(
            f"recipe {recipe.name} starts from random weights: finetune needs earlier ones",
            value=recipe.name,
            remedy="--from RUN, a model folder or a weights file",
        )
    if verb != "finetune" and recipe.start is not None:
        teachers = recipe.teacher.models if recipe.teacher else []
        words = ["deitkit", "finetune", "--from", recipe.start.weights]
        words += [word for name in teachers for word in ("--teacher", name)]
        raise DeitkitError(
            f"recipe {recipe.name} starts from {recipe.start.weights}: {verb} starts from random weights",
            value=recipe.name,
            remedy=shlex.join(words),
        )
    if verb == "pretrain" and recipe.teacher is not None:
        raise DeitkitError(
            f"recipe {recipe.name} has a teacher ({', '.join(recipe.teacher.models)})",
            value=recipe.name,
            remedy=f"deitkit distill --recipe {quoted(recipe.name)}, or --set teacher=false",
        )
    if verb == "distill" and recipe.teacher is None:
        raise DeitkitError(f"recipe {recipe.name} has no [teacher]", value=recipe.name, remedy="--teacher RUN")


def train(verb: Verb, options: TrainingOptions, run: RunOptions) -> None:
    """One verb's work: choose what was not given, resolve, perhaps only show, else run and print what came out."""
    if run.seeds is not None and not (options.plan or options.dry_run or options.find_lr or options.compare):
        from deitkit.cli.sweep import over_seeds

        over_seeds(verb, options, seeds=run.seeds, jobs=run.jobs)
        return
    if run.jobs > 1 and run.seeds is None:
        raise DeitkitError("--jobs is for several runs", value=run.jobs, remedy="--seeds N trains N; deitkit sweep")
    recipe = resolve(choose(verb, options))
    refuse_wrong_verb(verb, recipe)
    output = options.output or default_output(recipe)
    try:
        if options.plan or options.dry_run or options.compare:
            show(recipe, output, options)
            return
        if options.find_lr:
            from deitkit.cli.find_lr import show_rate

            show_rate(recipe, options)
            return
        top1 = run_recipe(recipe, output, options)
    except DeitkitError as error:
        if error.value == recipe.stream.batch_size:
            from deitkit.training.own import point_to_own

            raise point_to_own(error, verb, recipe) from error
        raise
    from deitkit.distributed import is_main_process  # torch: a wrong recipe is refused without

    if is_main_process():
        show_result(output, top1, as_json=options.as_json)


def show_result(output: str, top1: dict[str, float], *, as_json: bool) -> None:
    """What came out, and of which epoch the model is."""
    from deitkit.models.kept import standing_of
    from deitkit.runs.folder import Run

    standing = standing_of(Run(Path(output)))
    if as_json:
        render.print_json({"run": output, "top1": top1, **(standing.facts() if standing else {})})
        return
    render.print_table(
        f"Top-1 of {output}", ["head", "top-1"], [[head, f"{value:.2%}"] for head, value in top1.items()],
        footer="\n".join(standing.sentences(quoted(output))) if standing else "",
    )  # fmt: skip
    render.say(f"next: deitkit evaluate {quoted(output)}   deitkit explore {quoted(output)} --launch")


def run_recipe(recipe: Recipe, output: str, options: TrainingOptions) -> dict[str, float]:
    """Run with the live view; an interruption says how to go on."""
    from deitkit.training.bad_images import StoppedByImage
    from deitkit.training.fit import train_run

    try:
        recipe, scan = look(recipe, Path(output), options)
        with watching(output, options.log) as watcher:
            result = train_run(
                recipe, output, resume=options.resume, overwrite=options.overwrite,
                workers=workers_or_default(options.workers), device=options.device, strict=options.strict, scan=scan,
                observer=watcher,
            )  # fmt: skip
    except Interrupted:
        say_how_to_go_on()
        raise
    except StoppedByImage as error:
        error.remedy = f"go on with another image in its place: {going_on('--set', 'data.on_bad_image=replace')}"
        raise
    return result.top1


def watching(output: str, trackers: str) -> contextlib.AbstractContextManager[Observer]:
    """The live view of the run in that folder, around it the trackers that are asked for."""

    view = observer(Path(output).name)
    if not trackers:
        return contextlib.nullcontext(view)
    from deitkit.trackers.feed import tracking

    return tracking(trackers, output, view)


def look(recipe: Recipe, output: Path, options: TrainingOptions) -> tuple[Recipe, Scan | None]:
    """Look at the images; whoever sits there says what becomes of unreadable ones. A place that is taken comes first.

    Raises:
        DeitkitError: the place is taken, the images cannot be opened, or whoever was asked stops.
    """
    from deitkit.runs.folder import Run

    again = options.resume and Run.is_run(output)
    if not again:
        Run(output).refuse_occupied(overwrite=options.overwrite)
    scan = looking.look_at(recipe.data, workers=workers_or_default(options.workers))
    if scan is not None and scan.bad and not again and not options.as_json and looking.may_ask(recipe):
        recipe = looking.asked(recipe, scan)
    return recipe, scan


def say_how_to_go_on() -> None:
    render.say(f"saved. To go on: {going_on()}")


def going_on(*more: str) -> str:
    """The command line as it was given, with --resume and what is to be otherwise."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["deitkit", *words, "--resume", *more])


def show(recipe: Recipe, output: str, options: TrainingOptions) -> None:
    """What `--dry-run` and `--plan` show. A plan is measured, so that a program gets it only where it asks for it."""
    from deitkit.data.open import is_available
    from deitkit.distributed import pick_device

    device = pick_device(options.device)
    workers = workers_or_default(options.workers)
    scan = looking.look_at(recipe.data, workers=workers) if is_available(recipe.data) else None
    if options.dry_run:
        outline = outline_of(recipe, scan)
        if options.as_json and not options.plan:
            render.print_json(outline)
            return
        if not options.as_json:
            show_values(recipe, outline, every=options.all_values)
    if options.compare:
        show_parts(recipe, options, scan, Path(output))
        return
    from deitkit.training.plan import plan_run

    before_s = seconds_to_load()
    try:
        plan = plan_run(recipe, device=device, workers=workers, folder=Path(output), scan=scan, before_s=before_s)
    except DeitkitError as error:
        if options.plan:
            raise
        render.say(f"what it takes was not measured: {error.what}")
        return
    if options.as_json:
        render.print_json({"plan": {**asdict(plan), "total_s": plan.total_s, "steps": plan.steps}})
        return
    show_plan(plan, workers=workers)
    render.say("nothing was trained")


def outline_of(recipe: Recipe, scan: Scan | None) -> dict[str, Any]:

    from deitkit.training.dry_run import dry_run

    return dry_run(recipe, ranks=int(os.environ.get("WORLD_SIZE", "1")), scan=scan)


def show_values(recipe: Recipe, outline: dict[str, Any], *, every: bool) -> None:
    """The resolved recipe, each value with its origin: those that somebody chose, or every one."""
    from deitkit.recipe.schema import DEFAULT_ORIGIN

    origins = outline["origins"]
    rows = [
        [f"{table}.{key}", "off" if value is None else value, origins.get(f"{table}.{key}", "derived")]
        for table, values in outline.items()
        if table != "origins" and isinstance(values, dict)
        for key, value in values.items()
    ]
    shown = rows if every else [row for row in rows if row[2] not in (DEFAULT_ORIGIN, "derived")]
    render.print_table(f"{recipe.name}, resolved", ["key", "value", "origin"], shown)
    if shown != rows:
        render.say(f"{len(rows) - len(shown)} more are deitkit's defaults or follow from these: --all shows them")
    render.say(f"sizes are from {outline['data']['sizes_from']}")
