"""The one way in which a training verb, and the guided start, decide what was not given; and a recipe's text of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tomlkit

from deitkit.recipe.pick import OWN_CONVNET, Verb, catalog_name
from deitkit.recipe.resolve import FLAGS, TrainingOptions, draft_of

if TYPE_CHECKING:
    from deitkit.recipe.schema import Data

logger = logging.getLogger(__name__)


def choose(verb: Verb, options: TrainingOptions) -> TrainingOptions:
    """The options of `pretrain`, `distill` or `finetune` with what was not given chosen by the rule book, and said.

    `resolve` makes a recipe of them, and `train_run` trains it:

        changes = {"data.path": "images", "start.weights": "runs/mine"}
        options = choose("finetune", TrainingOptions(recipe="", changes=changes))
        train_run(resolve(options), "runs/tuned")

    Raises:
        DeitkitError: data, recipe or weights that cannot be opened, or values that contradict each other.
    """
    from deitkit.training.finetune import choose_finetuning
    from deitkit.training.own import choose_scratch

    options = _name_data(options)
    return choose_finetuning(options) if verb == "finetune" else choose_scratch(verb, options)


def _name_data(options: TrainingOptions) -> TrainingOptions:
    """The catalog's name of the data set that is called by another; said."""
    called = options.changes.get("data.dataset")
    if not isinstance(called, str):
        return options
    name = catalog_name(called)
    if name == called:
        return options
    logger.info(f"data set {called} is {name} here")
    return replace(options, changes={**options.changes, "data.dataset": name})


def suggest(
    verb: Verb, data: Data, *, minutes: float, earlier: str = "", convnet: bool = False, device: str = "auto"
) -> str:
    """The text of a recipe that fits into about `minutes` here: what the verb itself chooses for the same images.

    `earlier` is a teacher ("distill") or the start weights ("finetune"); `convnet` pretrains a teacher.

    Raises:
        DeitkitError: the choices contradict each other or the data; each is named.
    """
    changes = {f"data.{key}": value for key, value in data.model_dump(mode="json", exclude_defaults=True).items()}
    changes["data.dataset"] = data.dataset
    if earlier:
        changes["start.weights" if verb == "finetune" else "teacher.model"] = earlier
    options = TrainingOptions(
        recipe=OWN_CONVNET if convnet else "", changes=changes, minutes=minutes, device=device,
        origins=dict.fromkeys(changes, "asked for"),
    )  # fmt: skip
    return recipe_text(choose(verb, options))


def recipe_text(options: TrainingOptions) -> str:
    """The options as a recipe file: what it extends, and every value beside it with its origin."""
    document = tomlkit.document()
    tables: dict[str, Any] = {}
    base = draft_of(options).name
    document.add(tomlkit.comment(f"{base} for these images, chosen by deitkit."))
    document.add("extends", tomlkit.item(base))
    flags = {key: flag for flag, key in FLAGS.items()}
    for key, value in options.changes.items():
        name, _, part = key.partition(".")
        item = tomlkit.item(_inline(value))
        item.comment(options.origins.get(key, flags.get(key, "--set")))
        tables.setdefault(name, tomlkit.table()).add(part, item)
    for name, table in tables.items():
        document.add(name, table)
    return tomlkit.dumps(document)


def _inline(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table
