"""pretrain, distill, finetune: check that the recipe fits the verb, then fit. No mathematics here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.cli import render
from deitkit.cli.options import (
    AsJson,
    ChosenRecipe,
    DataPath,
    Dataset,
    Device,
    DryRun,
    Epochs,
    From,
    ImageSize,
    Output,
    Overwrite,
    RecipeName,
    Resume,
    Seed,
    Set,
    Strict,
    TapeRef,
    TeacherRef,
    ValFraction,
    Workers,
)
from deitkit.errors import DeitkitError, Interrupted
from deitkit.recipe.resolve import Options, given, resolve

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe


def pretrain(
    recipe: RecipeName = "pretrain/deit_tiny", dataset: Dataset = "", data: DataPath = "",
    val_fraction: ValFraction = None, image_size: ImageSize = None, epochs: Epochs = None, seed: Seed = None,
    sets: Set = None, output: Output = "", resume: Resume = False, overwrite: Overwrite = False,
    workers: Workers = None, device: Device = "auto", dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train a model from random weights.

    Example: deitkit pretrain --recipe quickstart/teacher --epochs 5
    """
    changes = given(
        sets, dataset=dataset, data=data, val_fraction=val_fraction, image_size=image_size, epochs=epochs, seed=seed
    )
    train("pretrain", Options(recipe, changes, output, resume, overwrite, workers, device, dry_run, as_json))


def distill(
    recipe: RecipeName = "distill/deit_tiny", teacher: TeacherRef = None, tape: TapeRef = "", strict: Strict = False,
    dataset: Dataset = "", data: DataPath = "", val_fraction: ValFraction = None, image_size: ImageSize = None,
    epochs: Epochs = None, seed: Seed = None, sets: Set = None, output: Output = "", resume: Resume = False,
    overwrite: Overwrite = False, workers: Workers = None, device: Device = "auto", dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train a student from random weights with a teacher.

    Example: deitkit distill --recipe quickstart/student --dry-run
    """
    changes = given(
        sets, teacher=teacher, tape=tape, dataset=dataset, data=data, val_fraction=val_fraction, image_size=image_size,
        epochs=epochs, seed=seed,
    )  # fmt: skip
    options = Options(recipe, changes, output, resume, overwrite, workers, device, dry_run, as_json, strict)
    train("distill", options)


def finetune(
    recipe: ChosenRecipe = "", start: From = "", teacher: TeacherRef = None, tape: TapeRef = "",
    strict: Strict = False, dataset: Dataset = "", data: DataPath = "", val_fraction: ValFraction = None,
    image_size: ImageSize = None, epochs: Epochs = None, seed: Seed = None, sets: Set = None, output: Output = "",
    resume: Resume = False, overwrite: Overwrite = False, workers: Workers = None, device: Device = "auto",
    dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train further from earlier weights, at the same or another resolution.

    Without --recipe the data choose it: a known data set has its own ones, any other goes by its number of images.

    Example: deitkit finetune --dataset cars --image-size 384 --dry-run
    """
    from deitkit.training.finetune import fill_in

    changes = given(
        sets, start=start, teacher=teacher, tape=tape, dataset=dataset, data=data, val_fraction=val_fraction,
        image_size=image_size, epochs=epochs, seed=seed,
    )  # fmt: skip
    options = Options(recipe, changes, output, resume, overwrite, workers, device, dry_run, as_json, strict)
    train("finetune", fill_in(options))


def refuse_wrong_verb(verb: str, recipe: Recipe) -> None:
    """A verb promises what the recipe does: random or earlier weights, with or without a teacher."""
    if verb == "finetune" and recipe.start is None:
        raise DeitkitError(
            f"recipe {recipe.name} starts from random weights: finetune needs earlier ones",
            value=recipe.name,
            remedy="--from RUN, a model folder or a weights file",
        )
    if verb != "finetune" and recipe.start is not None:
        raise DeitkitError(
            f"recipe {recipe.name} starts from {recipe.start.weights}", value=recipe.name, remedy="deitkit finetune"
        )
    if verb == "pretrain" and recipe.teacher is not None:
        raise DeitkitError(
            f"recipe {recipe.name} has a teacher ({', '.join(recipe.teacher.models)})",
            value=recipe.name,
            remedy=f"deitkit distill --recipe {recipe.name}, or --set teacher=false",
        )
    if verb == "distill" and recipe.teacher is None:
        raise DeitkitError(f"recipe {recipe.name} has no [teacher]", value=recipe.name, remedy="--teacher RUN")


def train(verb: str, options: Options) -> None:
    """One verb's work: resolve, perhaps only show, else run and print what came out."""
    recipe = resolve(options)
    refuse_wrong_verb(verb, recipe)
    output = options.output or f"runs/{recipe.name.replace('/', '-')}"
    try:
        if options.dry_run:
            show_dry_run(recipe, as_json=options.as_json)
            return
        top1 = run_recipe(recipe, output, options)
    except DeitkitError as error:
        if verb == "finetune" and error.value == recipe.stream.batch_size:
            from deitkit.training.finetune import point_to_own

            raise point_to_own(error, recipe) from error
        raise
    if options.as_json:
        render.print_json({"run": output, "top1": top1})
        return
    render.print_table(
        f"Top-1 of {output}", ["head", "top-1"], [[head, f"{value:.2%}"] for head, value in top1.items()]
    )
    render.say(f"next: deitkit evaluate {output}   deitkit explore {output} --launch")


def run_recipe(recipe: Recipe, output: str, options: Options) -> dict[str, float]:
    """Run with the live view; an interruption says how to go on."""
    import os

    from deitkit.cli.live import observer
    from deitkit.training.fit import train_run

    workers = options.workers if options.workers is not None else min(8, (os.cpu_count() or 1) - 1)
    try:
        result = train_run(
            recipe, output, resume=options.resume, overwrite=options.overwrite, workers=workers,
            device=options.device, strict=options.strict, observer=observer(Path(output).name),
        )  # fmt: skip
    except Interrupted:
        say_how_to_go_on()
        raise
    return result.top1


def say_how_to_go_on() -> None:
    """The command line as it was given, with --resume."""
    import shlex
    import sys

    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    render.say(f"saved. To go on: {shlex.join(['deitkit', *words, '--resume'])}")


def show_dry_run(recipe: Recipe, *, as_json: bool) -> None:
    """The resolved recipe, each value with its origin, and what follows from it."""
    import os

    from deitkit.training.dry_run import dry_run

    outline = dry_run(recipe, ranks=int(os.environ.get("WORLD_SIZE", "1")))
    if as_json:
        render.print_json(outline)
        return
    origins = outline["origins"]
    rows = [
        [f"{table}.{key}", "off" if value is None else value, origins.get(f"{table}.{key}", "derived")]
        for table, values in outline.items()
        if table != "origins" and isinstance(values, dict)
        for key, value in values.items()
    ]
    render.print_table(f"{recipe.name}, resolved", ["key", "value", "origin"], rows)
    render.say(f"sizes are from {outline['data']['sizes_from']}; nothing was trained")
