"""The one way in which a training verb, and the guided start, decide what was not given."""

from __future__ import annotations

import logging
from dataclasses import replace

from deitkit.recipe.pick import Verb, catalog_name
from deitkit.recipe.resolve import TrainingOptions

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
    if not options.dry_run:  # which shows what it can of what will be there
        _refuse_missing(options)
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


def _refuse_missing(options: TrainingOptions) -> None:
    """Raise for start weights or a teacher that are not there, before anything is imported to open them."""
    from deitkit.models.reference import Reference

    for key in ("start.weights", "teacher.model"):
        named = options.changes.get(key)
        for word in named if isinstance(named, list) else [named]:
            if isinstance(word, str):
                Reference.find(word)
