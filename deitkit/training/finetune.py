"""What `deitkit finetune` chooses before it trains: the recipe by the data, the model by the start weights, and the
generic recipe's values by the number of images and the time.

All that is chosen is said on stderr, and the command line has the last word. Trains nothing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deitkit.errors import DeitkitError
from deitkit.recipe.pick import FITTED, pick_recipe, recipes_of, trainable_datasets
from deitkit.recipe.resolve import TrainingOptions, shorten_warmup, with_values
from deitkit.training.own import fit_values, read, without_choices

if TYPE_CHECKING:
    from deitkit.models.architecture import Adopted
    from deitkit.models.description import Known

logger = logging.getLogger(__name__)

FROM_START = "as the start weights"


def choose_finetuning(options: TrainingOptions) -> TrainingOptions:
    """What `finetune` does with what was not given: recipe, model and values; each said.

    Raises:
        DeitkitError: neither data nor recipe is named, or the data or the start weights cannot be opened.
    """
    known = _describe_start(options)
    start = _own_model(known, options)
    picked = not options.recipe
    if picked:
        options = replace(options, recipe=_pick(options.changes, start))
    options = shorten_warmup(read(options))
    if known is not None and start is not None and "model.name" not in options.changes:
        options = _adopt(options, known, keep_size=not picked)
    if known is not None and options.recipe in FITTED:
        options = _keep_pixels(options, known)
    return fit_values(options)


def _describe_start(options: TrainingOptions) -> Known | None:
    """What is known of --from. A dry run does without it where it is not at hand."""
    if "start.weights" not in options.changes:
        return None
    from deitkit.models.weights import describe

    try:
        return describe(str(options.changes["start.weights"]))
    except DeitkitError as error:
        if not options.dry_run:
            raise
        logger.info(f"the recipe's own model stays: {error.what}")
        return None


def _own_model(known: Known | None, options: TrainingOptions) -> Adopted | None:
    """The model behind --from, at its own size; None where the command line names the architecture of weights that
    do not say theirs."""
    if known is None or (known.architecture is None and "model.name" in options.changes):
        return None
    from deitkit.models.architecture import adopt_known
    from deitkit.recipe.schema import Model

    return adopt_known(known, Model(name="deit_base"))


def _pick(changes: dict[str, Any], start: Adopted | None) -> str:
    """The data's recipe; which and why is said, and which others there are."""
    from deitkit.catalog import MODELS

    dataset = changes.get("data.dataset") or ("folder" if "data.path" in changes else "")
    if not dataset:
        raise _nothing_named()
    size = changes.get("model.image_size") or (start.changes.get("model.image_size") if start else None)
    side = max(size) if isinstance(size, list) else size
    reasons = ["images of your own" if dataset == "folder" else f"data set {dataset}"]
    if size:
        reasons.append(f"{side} px, {'as asked' if 'model.image_size' in changes else FROM_START}")
    distilled = start is not None and start.distilled
    if distilled:
        reasons.append("the start weights are distilled")
    elif "teacher.model" in changes and (start is None or start.changes["model.name"] in MODELS):
        distilled = True
        reasons.append("there is a teacher")
    name = pick_recipe(dataset, image_size=side if isinstance(side, int) else None, distilled=distilled)
    others = [other for other in recipes_of(dataset) if other != name]
    logger.info(f"recipe {name}: {'; '.join(reasons)}")
    logger.info(f"  others for these images, by --recipe: {', '.join(others)}")
    return name


def _nothing_named() -> DeitkitError:
    return DeitkitError(
        "finetune on what? Neither a data set nor a folder nor a recipe is named",
        choices=[*trainable_datasets(), "folder", "hf:NAME"],
        remedy="deitkit finetune --dataset cars --data /data/cars, or --data FOLDER for images of your own, or "
        "--recipe NAME (`deitkit recipes list finetune` shows them)",
    )


def _adopt(options: TrainingOptions, known: Known, *, keep_size: bool) -> TrainingOptions:
    """The start weights' architecture in place of the recipe's, at the recipe's size or at theirs."""
    from deitkit.models.architecture import adopt_known

    model = without_choices(options).model
    if not keep_size and "model.image_size" not in options.changes:
        model = model.model_copy(update={"image_size": None})
    adopted = adopt_known(known, model)
    logger.info(f"model {adopted.summary()}: {FROM_START}")
    return with_values(options, adopted.changes, dict.fromkeys(adopted.changes, FROM_START))


def _keep_pixels(options: TrainingOptions, known: Known) -> TrainingOptions:
    """Mean, std and crop of the start weights, where the recipe leaves them to be chosen; what differs is said."""
    if known.info is None:
        return options
    recipe, info = without_choices(options), known.info
    values = {"data.mean": list(info.mean), "data.std": list(info.std), "data.crop_ratio": info.crop_ratio}
    now = recipe.flat()
    other = {key: value for key, value in values.items() if now[key] != value and key not in options.changes}
    if other:
        told = ", ".join(f"{key} = {value}" for key, value in other.items())
        logger.info(f"{told}: {FROM_START}")
    return with_values(options, other, dict.fromkeys(other, FROM_START))
