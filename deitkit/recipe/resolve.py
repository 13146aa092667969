"""A command line's values in a recipe: which key each option sets. Reads no data and no weights."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deitkit.errors import DeitkitError, one_of
from deitkit.files import expanded

if TYPE_CHECKING:
    from deitkit.recipe.load import Draft
    from deitkit.recipe.schema import Recipe

logger = logging.getLogger(__name__)

# Options of the command line, and the recipe's keys that they are other names of.
FLAGS = {
    "--from": "start.weights",
    "--teacher": "teacher.model",
    "--tape": "teacher.tape",
    "--dataset": "data.dataset",
    "--data": "data.path",
    "--val-fraction": "data.val_fraction",
    "--model": "model.name",
    "--image-size": "model.image_size",
    "--epochs": "train.epochs",
    "--batch-size": "stream.batch_size",
    "--lr": "optim.lr",
    "--weight-decay": "optim.weight_decay",
    "--freeze": "train.parts",
    "--seed": "train.seed",
}
# What --freeze holds fixed, and the parts that learn.
FREEZE = {
    "nothing": "all", "backbone": "classifier", "backbone-but-last-norm": "classifier+last_norm",
    "backbone-but-last-blocks": "blocks", "backbone-but-norms-and-biases": "norms+biases",
    "backbone-but-attention": "attention", "backbone-but-lora": "lora",
}  # fmt: skip
MOST_MINUTES = 366 * 24 * 60


@dataclass(frozen=True)
class TrainingOptions:
    """What the three verbs share, as given on the command line."""

    recipe: str
    changes: dict[str, Any]  # dotted recipe key -> value
    output: str = ""
    resume: bool = False
    overwrite: bool = False
    workers: int | None = None
    device: str = "auto"
    dry_run: bool = False
    as_json: bool = False
    plan: bool = False
    all_values: bool = False
    strict: bool = False
    minutes: float | None = None  # what the run may take
    origins: dict[str, str] = field(default_factory=dict)  # of changes; "command line" where nothing is said
    draft: Draft | None = None  # the recipe's files, once they are read
    log: str = ""  # trackers, with commas
    compare: str = ""  # what is planned in each of its ways
    find_lr: bool = False  # whether rates are tried, and nothing else
    trust_code: bool = False  # whether a Python function that a recipe's file names may be executed


def given(sets: list[str] | None, **options: Any) -> dict[str, Any]:
    """Named options (`val_fraction` is --val-fraction, `start` --from) and --set as recipe keys; those that are None or
    empty are left out, and --set has the last word."""
    from deitkit.recipe.load import parse_override

    named = {"from" if word == "start" else word.replace("_", "-"): value for word, value in options.items()}
    if isinstance(teacher := named.get("teacher"), list) and len(teacher) == 1:
        named["teacher"] = teacher[0]
    if path := named.get("data"):
        named["data"] = plain_path(path)
    if freeze := named.get("freeze"):
        named["freeze"] = FREEZE[one_of(freeze, list(FREEZE), what="--freeze")]
    changes = {key: named.get(flag[2:]) for flag, key in FLAGS.items()}
    changes = {key: value for key, value in changes.items() if value not in (None, "", [])}
    return changes | dict(parse_override(text) for text in sets or ())


def spelled(changes: dict[str, Any], sets: list[str] | None) -> dict[str, str]:
    """How the command line spells each change: `--lr`, or `--set`."""
    from deitkit.recipe.load import parse_override

    by_set = {parse_override(text)[0] for text in sets or ()}
    flags = {key: flag for flag, key in FLAGS.items()}
    return {key: "--set" if key in by_set else flags.get(key, "--set") for key in changes}


def plain_path(text: str) -> str:
    """A path as people paste it: without quotes around it and a slash behind it, `~` for their own folder."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if text.startswith("~"):
        text = str(expanded(text))
    return text.rstrip("/") or text[:1]


def parse_minutes(text: str) -> float | None:
    """`30m`, `1.5h`, `90s` or `2d` -> minutes; a number alone is minutes, nothing is None.

    Raises:
        DeitkitError: it is no time, or none that a run could take.
    """
    if not text:
        return None
    unit = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}.get(text[-1:])
    try:
        minutes = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes <= MOST_MINUTES:
        raise DeitkitError(f"--time {text!r} is no time to train", value=text, remedy="--time 30m, 2h or 1d")
    return minutes


def resolve(options: TrainingOptions) -> Recipe:
    """The recipe with the command line's values in it, each with its origin.

    Raises:
        DeitkitError: naming all that is wrong in them.
    """
    from deitkit.catalog import DATASETS
    from deitkit.recipe.load import override

    draft = draft_of(options)
    options = _let_the_teacher_teach(options, draft)
    recipe = override(draft, options.changes, origin="command line")
    recipe = recipe.trusted() if options.trust_code else recipe
    recipe = recipe.model_copy(update={"origins": {**recipe.origins, **options.origins}})
    known = DATASETS.get(recipe.data.dataset)
    named = "data.dataset" in options.changes
    if "data.path" in options.changes and not named and known and known.bundled:
        return override(recipe, {"data.dataset": "folder"}, origin="--data")
    return recipe


def default_output(recipe: Recipe) -> str:
    """A run's folder where none is named."""
    return f"runs/{recipe.name.replace('/', '-')}"


def draft_of(options: TrainingOptions) -> Draft:
    """The recipe's files, read now where they were not before."""
    from deitkit.recipe.load import read_recipe

    return options.draft or read_recipe(options.recipe)


def dotted(changes: dict[str, Any]) -> dict[str, Any]:
    """`--set stream={batch_size=8}` as `stream.batch_size`."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        whole_table = "." not in key and isinstance(value, dict)
        flat |= {f"{key}.{name}": part for name, part in value.items()} if whole_table else {key: value}
    return flat


def with_values(options: TrainingOptions, values: dict[str, Any], origins: dict[str, str]) -> TrainingOptions:
    """The options with these values, where the command line has none."""
    new = {key: value for key, value in values.items() if key not in options.changes}
    kept = {key: origin for key, origin in origins.items() if key in new}
    # Before what was given: an option of `model.options` that was given has the last word in it.
    return replace(options, changes={**new, **options.changes}, origins={**options.origins, **kept})


def _let_the_teacher_teach(options: TrainingOptions, draft: Draft) -> TrainingOptions:
    """A recipe whose distillation token learns the label learns from a teacher where one is given."""
    key = "loss.second_token"
    if "teacher.model" not in options.changes or draft.values.get("loss", {}).get("second_token") != "label":
        return options
    return with_values(options, {key: "teacher"}, {key: "--teacher"})


def shorten_warmup(options: TrainingOptions) -> TrainingOptions:
    """A run that the command line makes shorter than its recipe's warm-up warms up for a tenth of it; said."""
    from deitkit.recipe.choose import warmup_for

    key = "schedule.warmup_epochs"
    changes = dotted(options.changes)
    epochs, warmup = changes.get("train.epochs"), draft_of(options).values.get("schedule", {}).get("warmup_epochs", 5.0)
    if type(epochs) is not int or epochs < 1 or key in changes:
        return options
    if not isinstance(warmup, int | float) or warmup <= epochs:
        return options
    short = warmup_for(epochs)
    logger.info(f"warm-up shortened from {warmup:g} to {short:g} epochs, because the run has {epochs}")
    return with_values(options, {key: short}, {key: f"shortened from {warmup:g}: train.epochs is {epochs}"})
