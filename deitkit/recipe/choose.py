"""The one rule book: which model and which values fit so many images and so much time (`pick`: which recipe).

`pretrain`, `distill`, `finetune` and the guided start choose by it, all for recipes of one's own images; the paper's
recipes stay as they are. Ours throughout, each rule with its reason; opens no data, imports no torch. The rules are
smooth and monotone in the number of images, so that one image more never changes a run's character.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deitkit.catalog import MODELS
from deitkit.recipe.schema import Recipe

LARGEST_BATCH, LARGEST_GROUP = 256, 32
STEPS_AT_LEAST = 8  # an epoch
REPEATS_FROM = 50_000  # images
WIDTH = MODELS["deit_small"].embed_dim

# Models from random weights
SMALL_IMAGE, SMALL_SIZE = 48, 32  # pixels: up to the first, patches of 4 px at the second see all there is
CPU_SIZE, FULL_SIZE = 64, 224  # pixels
PATCH16_FROM = 112  # pixels: below, patches of 16 px are fewer than 7 x 7
MANY = 10_000  # images: fewer do not fill a larger network
NARROW = MODELS["deit_tiny"].embed_dim  # below it, a network is too small for the paper's augmentation

# Time
USABLE = 0.75  # share of the time that goes into steps; the rest decodes, evaluates and saves
FEWEST_EPOCHS = 2
SHORT = 1 / 3  # of the rule's epochs: a shorter run gets gentle views
# A run that time cuts short learns faster, by the root of what it was cut by, up to this. Measured once: deit_nano from
# CIFAR-10 on 500 images of 50 CIFAR-100 classes, 20 of the rule's 358 epochs, 1,000 images to judge by, one seed:
# 10.5 % at the whole run's 8.7e-5, 14.9 % at 5e-4.
FASTEST = 4.0


@dataclass(frozen=True)
class Rules:
    """How long and how fast: `root_epochs` is epochs x the root of the number of images; `rates` are for batches of
    256 and DeiT-S's width."""

    root_epochs: int
    epochs: tuple[int, int]
    rates: Mapping[str, float]


def _rates(*, adamw: float, sgd: float) -> dict[str, float]:
    """Steps of NAdamW, Adafactor and timm's Muon are of AdamW's size; Lion's are signs and want a third to a tenth of
    its rate (Chen et al. 2023, arXiv 2302.06675, Sec. 5)."""
    return {"adamw": adamw, "sgd": sgd, "lion": adamw / 5, **dict.fromkeys(("nadamw", "adafactor", "muon"), adamw)}


# 8,000 views x the root of the number of images: 253,000 for 1,000 images, where BiT's HyperRule (Kolesnikov et al.
# 2020, Sec. 3.3) has 256,000 up to 20,000.
FINETUNING = Rules(8_000, (10, 500), _rates(adamw=1e-4, sgd=1e-2))
# Never shorter than the paper's 300 epochs (Table 9), longer for fewer images; its rate of 1e-3 at 1,024 images by the
# root of the batch, which AdamW wants.
SCRATCH = Rules(30_000, (300, 1_000), _rates(adamw=5e-4, sgd=5e-2))


@dataclass(frozen=True)
class Choice:
    """One value of a recipe that was chosen, and why."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class TimeBudget:
    """The time a run may take, and how many images a second training sees here."""

    minutes: float
    images_per_s: float

    def epochs(self, images: int) -> int:
        """How many fit, evaluations and reading included."""
        return max(FEWEST_EPOCHS, int(self.minutes * 60 * USABLE * self.images_per_s / images))

    @property
    def why(self) -> str:
        return f"{self.minutes:g} minutes at {self.images_per_s:.0f} images/s measured here"


# Which model


def choose_model(
    side: float, images: int, *, gpu: bool, convnet: bool = False, given: Mapping[str, Any] | None = None
) -> list[Choice]:
    """Model and size from random weights, for images whose short side is `side` px in the median.

    `given` are dotted keys that somebody decided: they are not chosen, and the others are chosen to fit them.
    """
    given = given or {}
    size, why = _size(side, gpu=gpu)
    asked = given.get("model.image_size")
    if isinstance(asked, int) and not isinstance(asked, bool):
        size, why = asked, "as the size that was asked for"
    name = given.get("model.name")
    if name is not None:
        variant = MODELS.get(str(name))
        fitting = [Choice("model.image_size", variant.image_size, f"{name}'s own")] if variant else [
            Choice("model.image_size", size, why)
        ]  # fmt: skip
    else:
        build = _convnet if convnet else _transformer
        fitting = [*build(size, images, gpu=gpu), Choice("model.image_size", size, why)]
    if size < PATCH16_FROM:
        fitting.append(Choice("data.crop_ratio", 1.0, "small images are judged whole"))
    return [choice for choice in fitting if choice.key not in given]


def _size(side: float, *, gpu: bool) -> tuple[int, str]:
    seen = f"the images' short side is {side:g} px"
    if side <= SMALL_IMAGE:
        return SMALL_SIZE, seen
    return (FULL_SIZE, seen) if gpu else (CPU_SIZE, f"{seen}, but a CPU trains slowly")


def _transformer(size: int, images: int, *, gpu: bool) -> list[Choice]:
    if size >= PATCH16_FROM:
        return [Choice("model.name", "deit_tiny", f"the paper's smallest, for {size} px"),
                Choice("model.options", {}, "patches of 16 px")]  # fmt: skip
    patch = 4 if size <= SMALL_IMAGE else 8
    many = gpu and images >= MANY
    name, why = ("deit_tiny_patch4", "DeiT-Ti") if many else ("deit_nano", "a small one")
    options = {} if MODELS[name].patch_size == patch else {"patch_size": patch}
    return [Choice("model.name", name, f"{why} for {size} px"),
            Choice("model.options", options, f"patches of {patch} px")]  # fmt: skip


def _convnet(size: int, images: int, *, gpu: bool) -> list[Choice]:
    if size >= PATCH16_FROM:
        name = "timm:resnet50" if gpu and images >= MANY else "timm:resnet18"
        return [Choice("model.name", name, f"a convnet for {size} px"), Choice("model.options", {}, "as timm has it")]
    narrow = {"channels": [32, 64, 96, 128], "stem_width": 16}
    return [Choice("model.name", "timm:resnet10t", f"a small convnet for {size} px"),
            Choice("model.options", narrow, "narrow")]  # fmt: skip


# Which values


def choose_for(
    images: int, recipe: Recipe, *, given: Mapping[str, Any] | None = None, budget: TimeBudget | None = None
) -> list[Choice]:
    """Stream, epochs, warm-up, rate and views for so many training images and, with a `budget`, so much time.

    `given` are dotted keys that somebody decided: they are not chosen, and the others are chosen to fit them. From 4
    images on `plan_stream` takes what is chosen; what is given may still contradict the data.
    """
    given = given or {}
    rules = SCRATCH if recipe.start is None else FINETUNING
    group = _count(given, "stream.mix_group")
    batch = _count(given, "stream.batch_size") or _batch(images, unit=group or 1)
    repeats = _count(given, "stream.repeats") or _repeats(images, batch, group or LARGEST_GROUP)
    full, why = _epochs(images, rules)
    epochs = _count(given, "train.epochs") or full
    if budget is not None and (fitting := budget.epochs(images)) < full:
        epochs = _count(given, "train.epochs") or fitting
        why = budget.why
    steps = images // batch * epochs
    fewest = f"at least {STEPS_AT_LEAST} steps an epoch and at most {LARGEST_BATCH} images a step"
    choices = [
        Choice("stream.batch_size", batch, fewest),
        Choice("stream.mix_group", _group(images, batch, repeats) or False, "four groups a batch, where it is large"),
        Choice("stream.repeats", repeats, f"repeated augmentation pays from {REPEATS_FROM:,} images on"),
        Choice("train.epochs", epochs, why),
        Choice("schedule.warmup_epochs", warmup_for(epochs), "a tenth of the run, five at most"),
        _rate(batch, recipe, rules, haste=min(FASTEST, max(1.0, math.sqrt(full / epochs)))),
        Choice("train.eval_every", max(1, epochs // 20), "about twenty evaluations"),
        Choice("train.log_every", min(50, max(1, steps // 100)), "at least a hundred lines"),
        *_views(recipe, is_short=epochs < SHORT * full),
    ]
    return [choice for choice in choices if choice.key not in given]


def fit_time(recipe: Recipe, images: int, budget: TimeBudget, *, given: Mapping[str, Any]) -> list[Choice]:
    """A named recipe within a time: as many of its epochs as fit, and a warm-up that they hold."""
    epochs = budget.epochs(images)
    if epochs >= recipe.train.epochs or "train.epochs" in given:
        return []
    choices = [Choice("train.epochs", epochs, budget.why)]
    if recipe.schedule.warmup_epochs > warmup_for(epochs):
        choices.append(Choice("schedule.warmup_epochs", warmup_for(epochs), "a tenth of the run"))
    return [choice for choice in choices if choice.key not in given]


def warmup_for(epochs: int) -> float:
    """Epochs of warm-up for a run of so many: a tenth, five at most (Table 9 has 5 of 300)."""
    return round(min(5.0, epochs / 10), 1)


def _views(recipe: Recipe, *, is_short: bool) -> list[Choice]:
    """The paper's augmentation is for long runs of large networks; short ones, and small networks, learn less by it
    (Steiner et al. 2022, How to train your ViT, Sec. 4.3)."""
    choices = []
    is_digits = recipe.data.dataset == "digits"
    if is_short or _is_narrow(recipe):
        why = "the run is short" if is_short else "the network is small"
        scale = [0.6, 1.0] if is_digits else [0.4, 1.0]
        choices = [
            Choice("augment.crop_scale", scale, f"gentle: {why}"),
            Choice("augment.policy", False, f"no RandAugment: {why}"),
            Choice("augment.erasing", 0.0, f"none: {why}"),
            Choice("mix.prob", 0.0 if is_short else 0.5, f"{'no' if is_short else 'half the'} mixing: {why}"),
            Choice("model.drop_path", 0.0, why),
        ]
    if is_digits:
        choices.append(Choice("augment.hflip", 0.0, "a mirrored digit is another one"))
    return choices


def _is_narrow(recipe: Recipe) -> bool:
    """Narrower than DeiT-Ti; of timm's models, those for small images."""
    width = _width(recipe)
    return max(recipe.model.size) < PATCH16_FROM if width is None else width < NARROW


def _width(recipe: Recipe) -> int | None:
    """Of a model of the catalog; None for others."""
    variant = MODELS.get(recipe.model.name)
    if variant is None:
        return None
    return _count(recipe.model.options, "embed_dim") or variant.embed_dim


def _count(given: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 1 on, if one is given; what is wrong is left to the recipe's own check."""
    value = given.get(key)
    return value if type(value) is int and value > 0 else None


def _batch(images: int, *, unit: int) -> int:
    """The largest power of two that leaves enough steps, 2 for very few images; a multiple of `unit`."""
    batch = max(2, min(LARGEST_BATCH, power_of_two(images // STEPS_AT_LEAST)))
    return max(1, batch // unit) * unit


def _repeats(images: int, batch: int, group: int) -> int:
    return 3 if images >= REPEATS_FROM and batch >= 3 * group else 1


def _epochs(images: int, rules: Rules) -> tuple[int, str]:
    low, high = rules.epochs
    why = f"{rules.root_epochs:,} / root of {images:,}, from {low} to {high}"
    return min(high, max(low, round(rules.root_epochs / math.sqrt(images)))), why


def _group(images: int, batch: int, repeats: int) -> int | None:
    """The largest even divisor of the batch within all limits; None where there is none."""
    limit = min(LARGEST_GROUP, max(2, batch // 4), batch // repeats, images // repeats)
    return next((group for group in range(limit, 1, -1) if group % 2 == 0 and batch % group == 0), None)


def _rate(batch: int, recipe: Recipe, rules: Rules, *, haste: float) -> Choice:
    """optim.lr to two digits, per 512 images where the recipe scales it. It grows with the root of the batch, as AdamW
    wants, and falls with the root of the width: the authors double it from DeiT-B to DeiT-Ti (issue 120)."""
    width = _width(recipe) or WIDTH
    rate = haste * rules.rates[recipe.optim.name] * math.sqrt(batch / LARGEST_BATCH * WIDTH / width)
    value = float(f"{rate * (512 / batch if recipe.optim.lr_scaling == 'batch/512' else 1):.2g}")
    why = f"{recipe.optim.name}: by the roots of batch and width"
    return Choice("optim.lr", value, why + (f", x {haste:.2g} because the run is short" if haste > 1 else ""))


def power_of_two(limit: int) -> int:
    """The largest one up to the limit."""
    return 1 << (limit.bit_length() - 1) if limit else 1
