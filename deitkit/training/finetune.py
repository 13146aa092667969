"""What `deitkit finetune` chooses before it trains: the recipe by the data, the model by the start weights, and the
generic recipe's values by the number of images.

All that is chosen is said on stderr, and the command line has the last word. Trains nothing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deitkit.errors import DeitkitError
from deitkit.recipe.resolve import Options, resolve

if TYPE_CHECKING:
    from deitkit.models.architecture import Adopted
    from deitkit.recipe.schema import Data, Recipe

logger = logging.getLogger(__name__)

FROM_START = "as the start weights"


def fill_in(options: Options) -> Options:
    """The options with what was not given chosen.

    Raises:
        DeitkitError: neither data nor recipe is named, or the data or the start weights cannot be opened.
    """
    from deitkit.recipe.choose import OWN
    from deitkit.recipe.load import find_recipe, recipe_label

    start = _start_model(options)
    picked = not options.recipe
    if picked:
        options = replace(options, recipe=_pick(options.changes, start))
    elif (label := recipe_label(find_recipe(options.recipe))) in OWN:  # named by its last part
        options = replace(options, recipe=label)
    if start is not None and "model.name" not in options.changes:
        options = _adopt(options, keep_size=not picked)
    return _choose(options)


def _start_model(options: Options) -> Adopted | None:
    """The model behind --from, at its own size. A dry run does without it where it is not at hand."""
    if "start.weights" not in options.changes:
        return None
    from deitkit.models.architecture import adopt_model
    from deitkit.recipe.schema import Model

    try:
        return adopt_model(str(options.changes["start.weights"]), Model(name="deit_base"))
    except DeitkitError as error:
        if not options.dry_run:
            raise
        logger.info(f"the recipe's own model stays: {error.what}")
        return None


def _pick(changes: dict[str, Any], start: Adopted | None) -> str:
    """The data's recipe; which and why is said, and which others there are."""
    from deitkit.catalog import MODELS
    from deitkit.recipe.choose import pick_recipe, recipes_of

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
    from deitkit.recipe.choose import trainable_datasets

    return DeitkitError(
        "finetune on what? Neither a data set nor a folder nor a recipe is named",
        choices=[*trainable_datasets(), "folder", "hf:NAME"],
        remedy="deitkit finetune --dataset cars --data /data/cars, or --data FOLDER for images of your own, or "
        "--recipe NAME (`deitkit recipes list finetune` shows them)",
    )


def _adopt(options: Options, *, keep_size: bool) -> Options:
    """The start weights' architecture in place of the recipe's, at the recipe's size or at theirs."""
    from deitkit.models.architecture import adopt_model

    model = _without_choices(options).model
    if not keep_size and "model.image_size" not in options.changes:
        model = model.model_copy(update={"image_size": None})
    adopted = adopt_model(str(options.changes["start.weights"]), model)
    logger.info(f"model {adopted.summary()}: {FROM_START}")
    return _with(options, adopted.changes, dict.fromkeys(adopted.changes, FROM_START))


def _choose(options: Options) -> Options:
    """For the generic recipe: values by the number of training images, each said with its reason."""
    from deitkit.recipe.choose import OWN, choose_for

    if options.recipe not in OWN:
        return options
    recipe = _without_choices(options)
    images = _count_images(recipe.data)
    options = replace(options, changes=_dotted(options.changes))
    choices = choose_for(images, recipe, given=options.changes)
    logger.info(f"chosen for {images:,} training images (--set KEY=VALUE overrides):")
    for choice in choices:
        logger.info(f"  {choice.key} = {'off' if choice.value is False else f'{choice.value:g}'}: {choice.why}")
    values = {choice.key: choice.value for choice in choices}
    return _with(options, values, {choice.key: f"ours: {choice.why}" for choice in choices})


def _with(options: Options, values: dict[str, Any], origins: dict[str, str]) -> Options:
    """The options with these values, where the command line has none."""
    new = {key: value for key, value in values.items() if key not in options.changes}
    kept = {key: origin for key, origin in origins.items() if key in new}
    return replace(options, changes={**options.changes, **new}, origins={**options.origins, **kept})


def _without_choices(options: Options) -> Recipe:
    """The recipe as far as it is settled: a given batch may contradict the generic recipe's own mix group, which is
    chosen to fit it later."""
    from deitkit.recipe.choose import OWN

    if options.recipe in OWN:
        later = ("stream", "train", "schedule", "optim.lr=")
        kept = {key: value for key, value in _dotted(options.changes).items() if not f"{key}=".startswith(later)}
        options = replace(options, changes=kept)
    return resolve(options)


def _dotted(changes: dict[str, Any]) -> dict[str, Any]:
    """`--set stream={batch_size=8}` as `stream.batch_size`."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        whole_table = "." not in key and isinstance(value, dict)
        flat |= {f"{key}.{name}": part for name, part in value.items()} if whole_table else {key: value}
    return flat


def _count_images(data: Data) -> int:
    """Training images, counted; of a known data set that is not at hand, as published."""
    from deitkit.catalog import DATASETS
    from deitkit.data.open import is_available, open_source

    known = DATASETS.get(data.dataset)
    if known is not None and data.path is None and not is_available(data):
        return known.train_size
    return len(open_source(data, "train"))


def point_to_own(error: DeitkitError, recipe: Recipe) -> DeitkitError:
    """An error about the batch, with the generic recipe among its remedies: a part of a known data set is small."""
    from deitkit.recipe.choose import OWN

    if recipe.name in OWN:
        return error
    data = f"--dataset {recipe.data.dataset}" + (f" --data {recipe.data.path}" if recipe.data.path else "")
    return DeitkitError(
        error.what, value=error.value, choices=error.choices, problems=error.problems,
        remedy=f"{error.remedy}; or `deitkit finetune --recipe {OWN[0]} {data}`, which goes by the number of images",
    )  # fmt: skip
