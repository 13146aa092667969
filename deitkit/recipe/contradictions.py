"""What of a recipe cannot be true together, each with its remedy. Reads no files and no data."""

from __future__ import annotations

from deitkit.catalog import DATASETS, MODELS
from deitkit.errors import did_you_mean
from deitkit.recipe.schema import Data, Model, Recipe


def contradictions(recipe: Recipe) -> list[str]:
    """What cannot be true together, each with its remedy. Data sizes and ranks are checked by the stream."""
    found = [*_schedule_contradictions(recipe), *_token_contradictions(recipe)]
    found += _size_contradictions(recipe.model)
    if recipe.model.name.partition(":")[0] != "timm" and recipe.model.name not in MODELS:
        found.append(
            f"model.name {recipe.model.name!r} is unknown.{did_you_mean(recipe.model.name, MODELS)} "
            f"Choices: {', '.join(MODELS)}, or timm:NAME"
        )
    if recipe.data.dataset not in (*DATASETS, "folder") and not recipe.data.dataset.startswith("hf:"):
        found.append(
            f"data.dataset {recipe.data.dataset!r} is unknown.{did_you_mean(recipe.data.dataset, DATASETS)} "
            f"Choices: {', '.join(DATASETS)}, folder, hf:NAME"
        )
    found += _data_contradictions(recipe.data)
    found += _stream_contradictions(recipe)
    found += _part_contradictions(recipe)
    found += _class_contradictions(recipe)
    return found


def _class_contradictions(recipe: Recipe) -> list[str]:
    """Each of these makes up for unequal classes by itself."""
    weights = recipe.loss.class_weights
    ways = {
        f"data.balance = {recipe.data.balance}": recipe.data.balance != "none",
        f"loss.class_weights = {weights}": isinstance(weights, str),
        f"loss.logit_adjustment = {recipe.loss.logit_adjustment}": recipe.loss.logit_adjustment is not None,
    }
    taken = [way for way, is_taken in ways.items() if is_taken]
    if len(taken) < 2:
        return []
    return [f"{' and '.join(taken)}: each makes up for unequal classes, together they do it twice; keep one of them"]


def _part_contradictions(recipe: Recipe) -> list[str]:
    """Parts that the model does not have; of timm's own names only the network itself can tell."""
    train, variant = recipe.train, MODELS.get(recipe.model.name)
    found = []
    depth = recipe.model.options.get("depth", variant.depth) if variant else None
    if train.parts == "blocks" and isinstance(depth, int) and train.blocks > depth:
        found.append(f"train.blocks {train.blocks} is more than the {depth} blocks of {recipe.model.name}: lower it")
    if train.unfreeze_epoch is not None and train.parts == "all":
        found.append('train.unfreeze_epoch without anything frozen: set it to false, or train.parts = "classifier"')
    if train.unfreeze_epoch is not None and train.unfreeze_epoch >= train.epochs:
        found.append(
            f"train.unfreeze_epoch {train.unfreeze_epoch} is not before the end of train.epochs {train.epochs}: lower "
            "it, or set it to false"
        )
    return found


def _schedule_contradictions(recipe: Recipe) -> list[str]:
    found = []
    if recipe.min_lr > recipe.peak_lr:
        found.append(
            f"schedule.min_lr {recipe.min_lr:g} is above the scaled optim.lr {recipe.peak_lr:g}, so the rate would "
            'rise: lower it, or set schedule.min_lr = "lr" for a flat rate'
        )
    if recipe.schedule.warmup_epochs and recipe.schedule.warmup_lr > recipe.peak_lr:
        found.append(
            f"schedule.warmup_lr {recipe.schedule.warmup_lr:g} is above the scaled optim.lr {recipe.peak_lr:g}: "
            "lower it"
        )
    if recipe.schedule.warmup_epochs > recipe.train.epochs:
        found.append(
            f"schedule.warmup_epochs {recipe.schedule.warmup_epochs:g} is longer than train.epochs "
            f"{recipe.train.epochs}: shorten it"
        )
    return found


def _data_contradictions(data: Data) -> list[str]:
    found = []
    if (data.folds is None) != (data.fold is None):
        found.append(
            "data.fold and data.folds belong together: --set data.folds=5 --set data.fold=1 holds the first out"
        )
    elif data.folds is not None and data.fold is not None and data.fold > data.folds:
        found.append(f"data.fold {data.fold} is none of the {data.folds} folds: 1 to {data.folds}")
    if data.folds is not None and data.val_fraction is not None:
        found.append("data.folds and data.val_fraction are two ways to hold images out: set one of them to false")
    return found


def _token_contradictions(recipe: Recipe) -> list[str]:
    found = []
    teacher, is_control = recipe.teacher, recipe.loss.second_token == "label"
    if recipe.model.distilled and teacher is None and not is_control:
        found.append(
            "model.distilled = true without a [teacher]: the distillation token would learn nothing. Name a teacher "
            '(--teacher RUN), or set model.distilled = false, or loss.second_token = "label" for the two-class-tokens '
            "control"
        )
    if is_control and not recipe.model.distilled:
        found.append('loss.second_token = "label" needs model.distilled = true: there is only one token')
    elif is_control and teacher is not None:
        found.append('loss.second_token = "label" leaves the [teacher] unused: set teacher = false')
    if teacher is not None and teacher.mixture is not None and len(teacher.mixture) != len(teacher.models):
        found.append(
            f"teacher.mixture has {len(teacher.mixture)} weights for {len(teacher.models)} teachers: one each, or "
            "false for equal ones"
        )
    return found


def _size_contradictions(model: Model) -> list[str]:
    """An image smaller than one patch has no patches."""
    variant = MODELS.get(model.name)
    patch = model.options.get("patch_size", variant.patch_size if variant else None)
    if variant is None or not isinstance(patch, int) or min(model.size) >= patch:
        return []
    return [
        f"model.image_size {model.size[0]}x{model.size[1]} px is smaller than one patch of {patch} px: at least "
        f"--image-size {patch}"
    ]


def _stream_contradictions(recipe: Recipe) -> list[str]:
    stream, group = recipe.stream, recipe.stream.mix_group
    found = []
    if group is not None and stream.batch_size % group:
        fits = [g for g in (64, 32, 16, 8, 4, 2) if stream.batch_size % g == 0]
        found.append(
            f"stream.batch_size {stream.batch_size} is not made of mix groups of {group}: stream.mix_group must divide "
            f"it (for example {', '.join(map(str, fits)) or 'an even batch size'})"
        )
    if group is not None and group % 2 and recipe.is_mixing:
        found.append(f"stream.mix_group {group} is odd, so one image would be mixed with itself: make it even")
    if group is not None and stream.repeats > 1 and group * stream.repeats > stream.batch_size:
        found.append(
            f"stream.mix_group {group} x stream.repeats {stream.repeats} is more than stream.batch_size "
            f"{stream.batch_size}: an image's repeats would not fit into one batch; lower one of them"
        )
    for key in ("crop_scale", "crop_aspect"):
        low, high = getattr(recipe.augment, key)
        if not 0 < low <= high:
            found.append(f"augment.{key} [{low:g}, {high:g}]: expected 0 < first <= second")
    if recipe.augment.crop_scale[1] > 1:
        found.append(f"augment.crop_scale ends at {recipe.augment.crop_scale[1]:g}: 1 is the whole image")
    return found
