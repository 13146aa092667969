"""A command line's values in a recipe: which key each option sets. Reads no data and no weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe


@dataclass(frozen=True)
class Options:
    """What the three verbs share, as given on the command line."""

    recipe: str
    changes: dict[str, Any]  # dotted recipe key -> value
    output: str
    resume: bool
    overwrite: bool
    workers: int | None
    device: str
    dry_run: bool
    as_json: bool
    strict: bool = False
    origins: dict[str, str] = field(default_factory=dict)  # of changes that the command line does not spell out


def given(
    sets: list[str] | None,
    *,
    start: str = "",
    teacher: str | list[str] | None = None,
    tape: str = "",
    dataset: str = "",
    data: str = "",
    val_fraction: float | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Named options and --set as recipe keys; those not given are left out, and --set has the last word."""
    from deitkit.recipe.load import parse_override

    named = {
        "start.weights": start or None,
        "teacher.model": teacher[0] if isinstance(teacher, list) and len(teacher) == 1 else teacher or None,
        "teacher.tape": tape or None,
        "data.dataset": dataset or None,
        "data.path": data or None,
        "data.val_fraction": val_fraction,
        "model.image_size": image_size,
        "train.epochs": epochs,
        "train.seed": seed,
    }
    changes = {key: value for key, value in named.items() if value is not None}
    return changes | dict(parse_override(text) for text in sets or ())


def resolve(options: Options) -> Recipe:
    """The recipe with the command line's values in it, each with its origin."""
    from deitkit.catalog import DATASETS
    from deitkit.recipe.load import load_recipe, override

    options = _let_the_teacher_teach(options)
    recipe = load_recipe(options.recipe, options.changes, origin="command line")
    recipe = recipe.model_copy(update={"origins": {**recipe.origins, **options.origins}})
    known = DATASETS.get(recipe.data.dataset)
    named = "data.dataset" in options.changes
    if "data.path" in options.changes and not named and known and known.bundled:
        return override(recipe, {"data.dataset": "folder"}, origin="--data")
    return recipe


def _let_the_teacher_teach(options: Options) -> Options:
    """A recipe whose distillation token learns the label learns from a teacher where one is given."""
    from deitkit.recipe.load import find_recipe, read_layers

    key = "loss.second_token"
    if "teacher.model" not in options.changes or key in options.changes:
        return options
    values, _ = read_layers(find_recipe(options.recipe))
    if values.get("loss", {}).get("second_token") != "label":
        return options
    return replace(options, changes={**options.changes, key: "teacher"}, origins={**options.origins, key: "--teacher"})
