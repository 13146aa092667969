"""`deitkit teacher check`: whether a classifier is fit to teach, before anything is trained. No mathematics here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import (
    AsJson,
    ChosenRecipe,
    ComputeOptions,
    DataOptions,
    Overwrite,
    output_option,
    workers_or_default,
)
from deitkit.errors import DeitkitError
from deitkit.files import output_file, write_atomic

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.preflight import Findings, Verdict
    from deitkit.recipe.schema import Recipe

DEFAULT_RECIPE = "distill/deit_tiny"
DIGITS_RECIPE = "quickstart/student"
SMALL_IMAGE = 48  # pixels: up to here patches of 4 px see what there is
Teachers = Annotated[
    list[str],
    typer.Argument(
        metavar="TEACHER...", help="timm:NAME, a run, a model folder, FILE.onnx, FILE.py:FUNCTION; several: a mixture."
    ),
]


@dataclass(frozen=True)
class CheckOptions:
    """How much is looked at, and what it is compared with."""

    limit: Annotated[int, typer.Option("--limit", min=0, help="Held-out images to look at; 0: all.")] = 2_000
    views: Annotated[int, typer.Option("--views", min=1, help="Training views to look at, about.")] = 512
    stated: Annotated[
        float | None, typer.Option("--stated", min=1, max=100, help="The top-1 that others state, in percent.")
    ] = None
    student: Annotated[str, typer.Option("--student", help="A student to compare with: a run or a model.")] = ""


@dataclass(frozen=True)
class ResultOptions:
    """Where what was measured goes."""

    output: Annotated[str, output_option("Also write everything measured as JSON.")] = ""
    overwrite: Overwrite = False
    as_json: AsJson = False


def check(
    teachers: Teachers,
    images: DataOptions,
    looked: CheckOptions,
    result: ResultOptions,
    compute: ComputeOptions,
    recipe: ChosenRecipe = "",
) -> None:
    """Check whether a classifier is fit to teach.

    Measured on held-out images: accuracy, calibration (ECE, 15 bins), the order of the classes, and other ways of
    giving pixels; on the student's own views, augmented and mixed: agreement with the labels; and what the teacher
    costs beside the student. --stated shows what may explain a difference to a stated accuracy.

    The verdict is NO (exit code 2) if its answers are not finite; its classes do not fit; it is no better than
    chance, or has a skill, (top-1 - chance) / (1 - chance), below 0.2; its outputs stand in another order or in
    none, or its pixels are given in the wrong way (five points and p < 0.001 each); or --student is as good. It is
    PROBABLY if the skill is below 0.5; top-1 is known to no better than 5 points; another normalisation gains 1 to
    5 points; some classes seem swapped; it agrees with the labels of views less than half as often as with those of
    whole images; soft labels are off by 0.15 (ECE); --student may be as good; or 5 points of --stated are
    unexplained. Else YES.

    Example: deitkit teacher check runs/quickstart/teacher --dataset digits
    Example: deitkit teacher check runs/teacher --dataset folder --data photos --student runs/mine
    Example: deitkit teacher check timm:regnety_160.deit_in1k --dataset imagenet --data /data/imagenet --stated 82.9
    """
    target = output_file(result.output, overwrite=result.overwrite) if result.output else None
    settled = resolve(teachers, images, recipe=recipe)
    findings, verdict = judged(settled, looked, compute)
    facts = {"verdict": verdict.answer, "reasons": verdict.reasons, "recipe": settled.name, "findings": findings}
    if target:
        write_atomic(target, json.dumps(render.plain(facts), indent=2) + "\n")
    if result.as_json:
        render.print_json(facts)
    else:
        show(findings, verdict, settled)
    if verdict.answer == "no":
        raise typer.Exit(2)


def judged(recipe: Recipe, looked: CheckOptions, compute: ComputeOptions) -> tuple[Findings, Verdict]:
    """What was found of the recipe's teacher, and the verdict."""
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_model
    from deitkit.preflight import Extent, judge, open_subject
    from deitkit.preflight import check as measure

    train, held_out = open_both(recipe)
    device = pick_device(compute.device)
    findings = measure(
        open_subject(recipe, held_out.class_names, device=device), recipe, held_out=held_out, train=train,
        device=device, extent=Extent(looked.limit, looked.views, workers_or_default(compute.workers)),
        stated=None if looked.stated is None else looked.stated / 100,
        student=load_model(looked.student) if looked.student else None, say=render.say,
    )  # fmt: skip
    return findings, judge(findings)


def resolve(teachers: list[str], images: DataOptions, *, recipe: str) -> Recipe:
    """The recipe of the student to come, with the teacher in it; without --recipe the images' size chooses one."""
    from deitkit.recipe.load import load_recipe
    from deitkit.recipe.resolve import given

    changes = given(**vars(images))
    changes["teacher.model"] = teachers[0] if len(teachers) == 1 else teachers
    if "data.path" in changes and "data.dataset" not in changes and not recipe:
        changes["data.dataset"] = "folder"
    if not recipe:
        changes = {**of_run(teachers[0]), **changes} if "data.dataset" not in changes else changes
        recipe, own = by_size(changes)
        changes = {**own, **changes}
    return load_recipe(recipe, changes, origin="command line")


def of_run(reference: str) -> dict[str, Any]:
    """The data that a run was trained on, as recipe keys.

    Raises:
        DeitkitError: it is no run, so the data has to be named.
    """
    from deitkit.models.reference import Reference
    from deitkit.runs.folder import Run

    home = Path(Reference.find(reference).home)
    if not Run.is_run(home):
        raise DeitkitError(
            "on which images?", value=reference, remedy="--dataset NAME (and --data PATH), or --recipe RECIPE"
        )
    used = Run(home).recipe().data
    keys = ("dataset", "path", "val_fraction", "split_seed", "split_rule", "folds", "fold", "validate_on", "category")
    return {f"data.{key}": getattr(used, key) for key in keys if getattr(used, key) is not None}


def by_size(changes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The student's recipe for these data, and what makes it fit: small images are shown in their own size."""
    from deitkit.data.open import open_source
    from deitkit.recipe.load import load_recipe
    from deitkit.training.own import short_side

    if changes.get("data.dataset") == "digits" and "data.path" not in changes:
        return DIGITS_RECIPE, {}
    data = load_recipe(DEFAULT_RECIPE, changes, origin="command line").data
    side = short_side(open_source(data, data.validate_on))
    if side > SMALL_IMAGE:
        return DEFAULT_RECIPE, {}
    render.say(f"the images' short side is {side:g} px: the views are {DEFAULT_RECIPE}'s at that size")
    return DEFAULT_RECIPE, {
        "model.name": "deit_tiny_patch4", "model.image_size": max(8, round(side / 4) * 4), "data.crop_ratio": 1.0
    }  # fmt: skip


def open_both(recipe: Recipe) -> tuple[Source, Source]:
    """Training and held-out images; where there are none to train on, the held-out ones stand in for the views."""
    from deitkit.data.open import open_source

    held_out = open_source(recipe.data, recipe.data.validate_on)
    if recipe.data.validate_on == "train":
        render.say("data.validate_on = train: if the teacher has learned from these images, its accuracy says little")
        return held_out, held_out
    try:
        return open_source(recipe.data, "train"), held_out
    except DeitkitError as error:
        render.say(f"views are made of the held-out images, for there are no others: {error.what}")
        return held_out, held_out


# What is shown


def show(found: Findings, verdict: Verdict, recipe: Recipe) -> None:
    """Tables, and the verdict at the end."""
    for note in found.notes:
        render.say(f"{found.teacher}: {note}")
    render.print_table(
        f"{found.teacher} on {found.dataset} {found.split}, seen as {recipe.name} evaluates", ["", "measured"],
        held_out_rows(found),
    )  # fmt: skip
    show_views(found, recipe)
    show_trials(found)
    show_cost(found)
    rows = [[reason.answer, reason.text, reason.remedy] for reason in verdict.reasons]
    render.print_table(
        f"Fit to teach? {verdict.answer.upper()}", ["allows", "reason", "what helps"], rows,
        footer="the verdict is the worst that a reason allows; --help states the rules",
    )  # fmt: skip


def held_out_rows(found: Findings) -> list[list[str]]:
    scores = found.held_out
    rows = [
        ["images", f"{scores.images:,}"],
        ["top-1", f"{scores.top1:.2%} ({scores.right:,} right; 95 %: {scores.low:.2%} to {scores.high:.2%})"],
        *([] if scores.top5 is None else [["top-5", f"{scores.top5:.2%}"]]),
        ["always the most frequent class", f"{scores.chance:.2%}"],
        ["negative log-likelihood", f"{scores.nll:.4f} nats"],
        ["mean confidence, entropy", f"{scores.confidence:.2%}, {scores.entropy:.3f} nats"],
        ["calibration error (ECE)", f"{scores.ece:.3f}"],
    ]
    if found.rival is not None:
        better = found.rival.comparison
        rows.append(
            ["student, and the teacher's lead", f"{found.rival.top1:.2%}, {_points(better.gain)} "
             f"(95 %: {_points(better.low)} to {_points(better.high)})"]
        )  # fmt: skip
    if found.stated is not None:
        stated = found.stated
        rows += [
            ["stated", f"{stated.stated:.2%}"],
            ["measured less stated", f"{_points(stated.measured - stated.stated)} points (95 %: {_points(stated.low)} "
             f"to {_points(stated.high)})"],
        ]  # fmt: skip
    if found.compression is not None:
        rows.append(["files", found.compression.describe()])
    return rows


def show_views(found: Findings, recipe: Recipe) -> None:
    rows = [
        [view.kind, f"{view.views:,}", f"{view.two_labels:,}", f"{view.in_labels:.1%}", f"{view.in_larger:.1%}",
         f"{view.confidence:.1%}", f"{view.entropy:.3f}"]
        for view in found.views
    ]  # fmt: skip
    columns = ["views", "number", "of two labels", "top-1 is a label", "is the larger share's", "confidence", "entropy"]
    render.print_table(f"On the training views of {recipe.name}", columns, rows)


def show_trials(found: Findings) -> None:
    """The same images, given or seen otherwise."""
    now = [["as it is", f"{found.held_out.top1:.2%}", "", "", f"{found.held_out.nll:.3f}", ""]]
    rows = [
        [trial.way.name, f"{trial.top1:.2%}", _points(trial.comparison.gain), f"{trial.comparison.p:.2g}",
         f"{trial.nll:.3f}", " ".join(trial.settings)]
        for trial in found.inputs
    ]  # fmt: skip
    if rows:
        given = "" if found.now is None else f": {found.now.normalisation()}, {found.now.channels.upper()}"
        render.print_table(
            f"The same images, pixels given in other ways (as it is{given})",
            ["pixels", "top-1", "points", "p (not better)", "nll", "--set"], now + rows,
        )  # fmt: skip
    if found.sizes:
        seen = [
            [trial.name, f"{trial.top1:.2%}", _points(trial.comparison.gain), f"{trial.comparison.p:.2g}"]
            for trial in found.sizes
        ]
        render.print_table("The same images, seen otherwise", ["images", "top-1", "points", "p (not better)"], seen)


def show_cost(found: Findings) -> None:
    cost = found.cost
    if cost is None:
        return
    rows: list[list[Any]] = [
        [name, parameters, f"{speed:,.1f}", "" if memory is None else f"{memory:,.0f}"]
        for name, parameters, speed, memory in (
            ("teacher, forward", cost.teacher_parameters, cost.teacher_images_per_s, cost.teacher_memory_mb),
            (
                "student, forward and backward",
                cost.student_parameters,
                cost.student_images_per_s,
                cost.student_memory_mb,
            ),
        )
    ]
    render.print_table(
        f"Cost on {cost.device}, {cost.batch} images at once",
        ["", "parameters", "images/s", "memory (MiB)"], rows,
        footer=f"teacher / student: {cost.ratio:.3g} of the time; memory: {cost.memory_kind}, raised by",
    )  # fmt: skip


def _points(rate: float) -> str:
    return f"{100 * rate:+.2f}"
