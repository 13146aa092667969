"""Values for one's own images: the rule book (`deitkit/recipe/choose.py`) applied to the data and the machine at hand.

All that is chosen is said, each with its reason; what the command line gives has the last word. Trains nothing but a
few timed steps, where a run is to fit a given time. Heavy imports stand inside, so that wrong usage is told at once.
"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deitkit.errors import DeitkitError
from deitkit.recipe.choose import Choice, TimeBudget, choose_for, choose_model, fit_time
from deitkit.recipe.load import override
from deitkit.recipe.pick import FITTED, OWN, OWN_CONVNET, OWN_SCRATCH, Verb, pick_scratch
from deitkit.recipe.resolve import TrainingOptions, dotted, draft_of, resolve, shorten_warmup, with_values

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.recipe.schema import Data, Recipe

logger = logging.getLogger(__name__)

SAMPLED = 32  # images whose sizes are looked at
TIMED_STEPS = 3


def choose_scratch(verb: Verb, options: TrainingOptions) -> TrainingOptions:
    """What `pretrain` and `distill` do with what was not given: recipe, model and values; each said.

    Raises:
        DeitkitError: the data cannot be opened, or nobody is named to distil from.
    """
    if not options.recipe:
        options = replace(options, recipe=_pick(verb, options.changes))
    options = shorten_warmup(read(options))
    images = _open(without_choices(options).data) if options.recipe in FITTED else None
    if images is not None:
        options = _fit_model(options, images)
    return fit_values(options, images)


def read(options: TrainingOptions) -> TrainingOptions:
    """The options with the recipe's files read, under its whole name where it is one of the fitted."""
    draft = draft_of(options)
    return replace(options, draft=draft, recipe=draft.name if draft.name in FITTED else options.recipe)


def _pick(verb: Verb, changes: dict[str, Any]) -> str:
    """The data's recipe; without any data the paper's."""
    dataset = changes.get("data.dataset") or ("folder" if "data.path" in changes else "imagenet")
    name = pick_scratch("distill" if verb == "distill" else "pretrain", str(dataset))
    if name == OWN_SCRATCH["distill"] and not changes.keys() & {"teacher.model", "teacher.tape"}:
        raise _no_teacher(changes)
    logger.info(f"recipe {name}: {'images of your own' if dataset == 'folder' else f'data set {dataset}'}")
    return name


def _no_teacher(changes: dict[str, Any]) -> DeitkitError:
    data = "".join(
        f" {flag} {changes[key]}"
        for flag, key in (("--dataset", "data.dataset"), ("--data", "data.path"))
        if key in changes
    )
    return DeitkitError(
        "distil from which teacher? None is named",
        remedy=f"--teacher RUN; `deitkit pretrain --recipe {OWN_CONVNET}{data} --output runs/teacher` trains one",
    )


# The images


@dataclass(frozen=True)
class OwnImages:
    """What the rules go by: training images, their classes, and their short side in the median, in pixels."""

    count: int
    classes: int
    side: float | None = None


def _open(data: Data) -> OwnImages | None:
    """The images at hand; None where they are not."""
    from deitkit.data.open import is_available, open_source

    if not is_available(data):
        return None
    source = open_source(data, "train")
    return OwnImages(len(source), len(source.class_names), short_side(source))


def count_images(data: Data) -> OwnImages:
    """The training images; of a known data set that is not at hand, as published.

    Raises:
        DeitkitError: they cannot be opened.
    """
    from deitkit.catalog import DATASETS
    from deitkit.data.open import is_available, open_source

    known = DATASETS.get(data.dataset)
    if known is not None and data.path is None and not is_available(data):
        return OwnImages(known.train_size, known.classes)
    source = open_source(data, "train")
    return OwnImages(len(source), len(source.class_names))


def short_side(source: Source) -> float:
    """The median of the images' shorter sides, in pixels, of at most SAMPLED of them, evenly from all."""
    from deitkit.data.open import image_name
    from deitkit.data.views.augment import open_image

    sampled = range(0, len(source), max(1, len(source) // SAMPLED))
    sides = []
    for index in sampled:
        try:
            sides.append(min(open_image(source.read(index), image_name(source, index)).size))
        except DeitkitError:
            continue  # a broken image is told when it is trained on
    return float(statistics.median(sides)) if sides else float("inf")


# Model and values


def _fit_model(options: TrainingOptions, images: OwnImages) -> TrainingOptions:
    from deitkit.distributed import pick_device

    draft = draft_of(options)
    choices = choose_model(
        images.side or float("inf"), images.count, gpu=pick_device(options.device).type == "cuda",
        convnet=draft.name == OWN_CONVNET, given=dotted(options.changes),
    )  # fmt: skip
    return take(replace(options, changes=dotted(options.changes)), choices, "these images and this machine")


def fit_values(options: TrainingOptions, images: OwnImages | None = None) -> TrainingOptions:
    """For the recipes of one's own images, values by the number of images; and epochs by the time, where one is given.

    `images` are opened here where they were not before.

    Raises:
        DeitkitError: the data cannot be opened.
    """
    options = read(options)
    fitted = options.recipe in FITTED
    if not fitted and options.minutes is None:
        return options
    recipe, options = without_choices(options), replace(options, changes=dotted(options.changes))
    images = images or count_images(recipe.data)
    if not fitted:
        return _fit_time(options, recipe, images)
    budget = None
    if options.minutes is not None:
        choices = choose_for(images.count, recipe, given=options.changes)
        settled = override(recipe, {choice.key: choice.value for choice in choices} | options.changes)
        budget = TimeBudget(options.minutes, images_per_s(settled, images.classes, options.device))
    choices = choose_for(images.count, recipe, given=options.changes, budget=budget)
    return take(options, choices, f"{images.count:,} training images")


def _fit_time(options: TrainingOptions, recipe: Recipe, images: OwnImages) -> TrainingOptions:
    """A named recipe keeps its values; only its epochs follow the time."""
    budget = TimeBudget(options.minutes or 0.0, images_per_s(recipe, images.classes, options.device))
    choices = fit_time(recipe, images.count, budget, given=options.changes)
    return take(options, choices, f"{options.minutes:g} minutes")


def take(options: TrainingOptions, choices: list[Choice], what: str) -> TrainingOptions:
    """The options with these choices, said with their reasons."""
    if choices:
        logger.info(f"chosen for {what} (--set KEY=VALUE overrides):")
    for choice in choices:
        logger.info(f"  {choice.key} = {shown(choice.value)}: {choice.why}")
    values = {choice.key: choice.value for choice in choices}
    return with_values(options, values, {choice.key: f"ours: {choice.why}" for choice in choices})


def shown(value: Any) -> str:
    """A value in a line of text: `off`, 1e-4, deit_nano."""
    if value is False:
        return "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def without_choices(options: TrainingOptions) -> Recipe:
    """The recipe as far as it is settled: a given batch may contradict the generic recipe's own mix group, which is
    chosen to fit it later."""
    if options.recipe in FITTED:
        later = ("stream", "train", "schedule", "optim.lr=")
        kept = {key: value for key, value in dotted(options.changes).items() if not f"{key}=".startswith(later)}
        options = replace(options, changes=kept)
    return resolve(options)


def images_per_s(recipe: Recipe, classes: int, device: str) -> float:
    """Training speed of the recipe's model here, timed on a few steps of random images; the teacher not counted."""
    import torch

    from deitkit.distributed import pick_device
    from deitkit.models.freeze import freeze
    from deitkit.models.student import build_student
    from deitkit.training.optim import build_optimizer

    where = pick_device(device)
    student = build_student(recipe.model, classes)
    if recipe.train.parts != "all" and recipe.train.unfreeze_epoch is None:
        freeze(student, recipe.train.parts, train=recipe.train)
    student.to(where)
    optimizer = build_optimizer(student, recipe, where)
    images = torch.randn(recipe.stream.batch_size, 3, *recipe.model.size, device=where)
    for index in range(TIMED_STEPS + 1):
        if index == 1:  # the first step allocates
            began = time.perf_counter()
        heads = student(images)
        loss = heads.average_logits().logsumexp(dim=-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
    return TIMED_STEPS * len(images) / (time.perf_counter() - began)


# What would do instead


def point_to_own(error: DeitkitError, verb: Verb, recipe: Recipe) -> DeitkitError:
    """An error about the batch, with the recipe for one's own images among its remedies: the paper's recipes are for
    large data."""
    if recipe.name in FITTED:
        return error
    name = OWN[0] if verb == "finetune" else OWN_SCRATCH[verb]
    words = [f"deitkit {verb} --recipe {name} --dataset {recipe.data.dataset}"]
    words += [f"--data {recipe.data.path}"] if recipe.data.path else []
    words += [f"--teacher {model}" for model in recipe.teacher.models] if recipe.teacher else []
    words += [f"--val-fraction {recipe.data.val_fraction:g}"] if recipe.data.val_fraction else []
    return DeitkitError(
        error.what, value=error.value, choices=error.choices, problems=error.problems,
        remedy=f"{error.remedy}; or `{' '.join(words)}`, which goes by the number of images",
    )  # fmt: skip
