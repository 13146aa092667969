"""Which shipped recipe fits a data set, and which values fit so many images. Ours throughout; opens no data.

The rules are smooth and monotone in the number of images, so that one image more never changes a run's character.
They are for fine-tuning: from random weights so few images need another plan. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deitkit.catalog import DATASETS, MODELS
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.recipe.load import recipe_names
from deitkit.recipe.schema import Recipe

OWN = (
    "finetune/own", "finetune/own_distilled", "finetune/own_distilled_labels_only",
    "finetune/own_distilled_teacher_only",
)  # fmt: skip
LARGE_SIZE = 304  # pixels: half-way between the sizes of 224 and 384 for which there are recipes
LARGEST_BATCH, LARGEST_GROUP = 256, 32
STEPS_AT_LEAST = 8  # an epoch
REPEATS_FROM = 50_000  # images
ROOT_EPOCHS = 8_000  # epochs x the root of the number of images
EPOCHS = (10, 500)
RATES = {"adamw": 1e-4, "sgd": 1e-2}  # for batches of 256 and DeiT-S's width
WIDTH = MODELS["deit_small"].embed_dim


@dataclass(frozen=True)
class Choice:
    """One value of a recipe that was chosen, and why."""

    key: str
    value: Any
    why: str


def pick_recipe(dataset: str, *, image_size: int | None, distilled: bool) -> str:
    """The shipped recipe that fine-tunes on `dataset`: its own one, or the generic one; `image_size` in pixels.

    Raises:
        DeitkitError: no data set of that name, or one without training images.
    """
    generic = dataset == "folder" or dataset.startswith("hf:")
    if not generic and not getattr(DATASETS.get(dataset), "train_size", 0):
        known = dataset in DATASETS
        raise DeitkitError(
            f"data set {dataset!r} " + ("has no training images." if known else "is unknown.")
            + did_you_mean(dataset, trainable_datasets()),
            value=dataset,
            choices=[*trainable_datasets(), "folder", "hf:NAME"],
            remedy=f"deitkit evaluate RUN --dataset {dataset}" if known else "--data FOLDER takes images of your own",
        )  # fmt: skip
    names = recipe_names()
    base = f"finetune/{dataset}" if f"finetune/{dataset}" in names else OWN[0]
    base += "_distilled" if distilled else ""
    large = f"{base}_384"
    return large if image_size is not None and image_size >= LARGE_SIZE and large in names else base


def trainable_datasets() -> list[str]:
    """The catalog's data sets that have training images."""
    return [name for name, info in DATASETS.items() if info.train_size]


def recipes_of(dataset: str) -> list[str]:
    """Every shipped recipe that fine-tunes on this data set; the generic ones where it has none of its own."""
    own = [name for name in recipe_names() if _is_for(dataset, name)]
    return own or list(OWN)


def _is_for(dataset: str, name: str) -> bool:
    return name == f"finetune/{dataset}" or name.startswith(f"finetune/{dataset}_")


def choose_for(images: int, recipe: Recipe, *, given: Mapping[str, Any] | None = None) -> list[Choice]:
    """Stream, epochs, warm-up and rate for so many training images.

    `given` are dotted keys that somebody decided: they are not chosen, and the others are chosen to fit them. From 4
    images on `plan_stream` takes what is chosen; what is given may still contradict the data.
    """
    given = given or {}
    group = _count(given, "stream.mix_group")
    batch = _count(given, "stream.batch_size") or _batch(images, unit=group or 1)
    repeats = _count(given, "stream.repeats") or _repeats(images, batch, group or LARGEST_GROUP)
    epochs = _count(given, "train.epochs") or _epochs(images)
    steps = images // batch * epochs
    fewest = f"at least {STEPS_AT_LEAST} steps an epoch and at most {LARGEST_BATCH} images a step"
    choices = [
        Choice("stream.batch_size", batch, fewest),
        Choice("stream.mix_group", _group(images, batch, repeats) or False, "four groups a batch, where it is large"),
        Choice("stream.repeats", repeats, f"repeated augmentation pays from {REPEATS_FROM:,} images on"),
        Choice("train.epochs", epochs, f"{ROOT_EPOCHS:,} / root of {images:,}, from {EPOCHS[0]} to {EPOCHS[1]}"),
        Choice("schedule.warmup_epochs", round(min(5.0, epochs / 10), 1), "a tenth of the run, five at most"),
        Choice("optim.lr", _rate(batch, recipe), f"{recipe.optim.name}: by the roots of batch and width"),
        Choice("train.eval_every", max(1, epochs // 20), "about twenty evaluations"),
        Choice("train.log_every", min(50, max(1, steps // 100)), "at least a hundred lines"),
    ]
    if recipe.data.dataset == "digits":
        choices.append(Choice("augment.hflip", 0.0, "a mirrored digit is another one"))
    return [choice for choice in choices if choice.key not in given]


def _count(given: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 1 on, if one is given; what is wrong is left to the recipe's own check."""
    value = given.get(key)
    return value if type(value) is int and value > 0 else None


def _batch(images: int, *, unit: int) -> int:
    """The largest power of two that leaves enough steps, 2 for very few images; a multiple of `unit`."""
    batch = max(2, min(LARGEST_BATCH, _power_of_two(images // STEPS_AT_LEAST)))
    return max(1, batch // unit) * unit


def _repeats(images: int, batch: int, group: int) -> int:
    return 3 if images >= REPEATS_FROM and batch >= 3 * group else 1


def _epochs(images: int) -> int:
    low, high = EPOCHS
    return min(high, max(low, round(ROOT_EPOCHS / math.sqrt(images))))


def _group(images: int, batch: int, repeats: int) -> int | None:
    """The largest even divisor of the batch within all limits; None where there is none."""
    limit = min(LARGEST_GROUP, max(2, batch // 4), batch // repeats, images // repeats)
    return next((group for group in range(limit, 1, -1) if group % 2 == 0 and batch % group == 0), None)


def _rate(batch: int, recipe: Recipe) -> float:
    """optim.lr to two digits, per 512 images where the recipe scales it. It grows with the root of the batch, as AdamW
    wants, and falls with the root of the width: the authors double it from DeiT-B to DeiT-Ti (issue 120)."""
    variant = MODELS.get(recipe.model.name)
    width = variant.embed_dim if variant else WIDTH
    rate = RATES[recipe.optim.name] * math.sqrt(batch / LARGEST_BATCH * WIDTH / width)
    return float(f"{rate * (512 / batch if recipe.optim.lr_scaling == 'batch/512' else 1):.2g}")


def _power_of_two(limit: int) -> int:
    return 1 << (limit.bit_length() - 1) if limit else 1
