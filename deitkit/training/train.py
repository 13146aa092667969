"""Training from Python as the command line trains: a recipe's name and a few values -> a run. `deitkit.train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deitkit.recipe.load import override
from deitkit.recipe.pick import Verb
from deitkit.recipe.resolve import TrainingOptions, default_output, draft_of, given, resolve
from deitkit.recipe.schema import Recipe
from deitkit.training.finish import FitResult
from deitkit.training.fit import train_run
from deitkit.training.observer import Logged, Observer
from deitkit.training.suggest import choose

ORIGIN = "deitkit.train"  # of values, in recipe.toml


def train(
    recipe: str | Path | Recipe = "", output: str | Path = "", *, start: str | Path = "",
    teacher: str | Path | Sequence[str] = "", tape: str = "", dataset: str = "", data: str | Path = "",
    val_fraction: float | None = None, image_size: int | None = None, epochs: int | None = None,
    seed: int | None = None, changes: Mapping[str, Any] | None = None, resume: bool = False, overwrite: bool = False,
    workers: int = 0, device: str = "auto", strict: bool = False, observer: Observer | None = None,
) -> FitResult:  # fmt: skip
    """Pre-train, distil or fine-tune: whatever the recipe says with these values in it.

        teacher = deitkit.train("quickstart/teacher", "runs/teacher", data="photos", epochs=5)
        student = deitkit.train("quickstart/student", "runs/student", data="photos", teacher="runs/teacher")
        tuned = deitkit.train(start="runs/student", data="other_photos", changes={"optim.lr": 1e-4})
        print(tuned.top1, tuned.run.path)

    `recipe` is a shipped recipe's name, a .toml file or a `Recipe`; without one it is chosen for the images, as the
    verbs do: to fine-tune where there is a `start`, else to distil where there is a `teacher`. The other values are the
    options of the verbs, and `changes` any of the recipe's dotted keys, with the last word. The run's folder is
    `output`, by default runs/RECIPE. `workers` processes decode and augment (0: none beside this one). What is chosen,
    left out or otherwise worth knowing is told to the logger "deitkit".

    Raises:
        DeitkitError: anything in the recipe, data, weights or folder that the user can mend.
        Interrupted: SIGINT or SIGTERM; the run is saved, and `resume=True` goes on with it.
    """
    named = given(
        None, start=str(start), teacher=str(teacher) if isinstance(teacher, (str, Path)) else list(teacher), tape=tape,
        dataset=dataset, data=str(data), val_fraction=val_fraction, image_size=image_size, epochs=epochs, seed=seed,
    )  # fmt: skip
    values = {**named, **(changes or {})}
    if isinstance(recipe, Recipe):
        resolved = override(recipe, values, origin=ORIGIN) if values else recipe
    else:
        options = TrainingOptions(
            recipe=str(recipe), changes=values, device=device, origins=dict.fromkeys(values, ORIGIN)
        )
        resolved = resolve(choose(verb_of(options), options))
    return train_run(
        resolved, output or default_output(resolved), resume=resume, overwrite=overwrite, workers=workers,
        device=device, strict=strict, observer=observer or Logged(),
    )  # fmt: skip


def verb_of(options: TrainingOptions) -> Verb:
    """What the recipe and the values given amount to."""
    named = draft_of(options).values if options.recipe else {}
    if "start.weights" in options.changes or named.get("start"):
        return "finetune"
    taught = {"teacher.model", "teacher.tape"} & options.changes.keys() or named.get("teacher")
    return "distill" if taught else "pretrain"
