"""A recipe for somebody's own images and time: chooses model, size, batch and epochs, and says why. Ours throughout."""

from __future__ import annotations

import statistics
import time
from typing import Any, Literal

import tomlkit
import torch

from deitkit.data.open import Source, image_name
from deitkit.data.views.augment import open_image
from deitkit.models.architecture import adopt_model
from deitkit.models.student import build_student
from deitkit.recipe.choose import Choice
from deitkit.recipe.load import validate
from deitkit.recipe.schema import Data, Model, Recipe
from deitkit.training.optim import build_optimizer

Goal = Literal["pretrain", "distill", "finetune", "teacher"]
SMALL_IMAGE = 48  # pixels: up to here patches of 4 px at 32 px see all there is
SAMPLED = 32  # images whose sizes are looked at
TIMED_STEPS = 3
USABLE = 0.75  # share of the time that goes into steps; the rest decodes, evaluates and saves


def suggest(source: Source, data: Data, *, goal: Goal, minutes: float, earlier: str, device: torch.device) -> str:
    """The text of a recipe that fits into about `minutes` here; `earlier` is a teacher or a start.

    Raises:
        DeitkitError: the choices contradict each other or the data; each is named.
    """
    choices = [*_model(source, goal, earlier, device), *_data(data), *_stream(len(source)), *_views(data)]
    choices += _earlier(goal, earlier)
    lr = 1e-3 if goal == "finetune" else 4e-3
    choices.append(Choice("optim.lr", lr, "per 512 images: high, because the run is short"))
    choices.append(Choice("schedule.min_lr", 1e-6, "close to zero at the end"))
    recipe = _recipe(choices)
    speed = images_per_s(recipe, len(source.class_names), device)
    epochs = int(minutes * 60 * USABLE * speed / len(source))
    epochs = max(2, min(epochs, 50 if goal == "finetune" else 300))
    choices += [
        Choice("train.epochs", epochs, f"{minutes:g} minutes at {speed:.0f} images/s measured here"),
        Choice("train.eval_every", max(1, epochs // 10), "ten evaluations"),
        Choice("train.log_every", 20, "a line every few seconds"),
        Choice("schedule.warmup_epochs", min(5, max(1, epochs // 10)), "a tenth, at most five"),
    ]
    _recipe(choices)
    return _toml(choices, f"A recipe for {len(source):,} images of {len(source.class_names)} classes.")


def images_per_s(recipe: Recipe, classes: int, device: torch.device) -> float:
    """Training speed of the recipe's model here, timed on a few steps of random images; the teacher not counted."""
    student = build_student(recipe.model, classes).to(device)
    optimizer = build_optimizer(student, recipe, device)
    images = torch.randn(recipe.stream.batch_size, 3, *recipe.model.size, device=device)
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


def _model(source: Source, goal: Goal, earlier: str, device: torch.device) -> list[Choice]:
    if goal == "finetune":
        return _model_of(earlier)
    sampled = range(0, len(source), max(1, len(source) // SAMPLED))
    side = statistics.median(min(open_image(source.read(i), image_name(source, i)).size) for i in sampled)
    seen = f"the images' short side is {side:g} px"
    size, patch, why = (32, 4, seen) if side <= SMALL_IMAGE else (64, 8, f"{seen}, but a CPU trains slowly")
    if device.type == "cuda" and side > SMALL_IMAGE:
        size, patch, why = 224, 16, seen
    if goal == "teacher":
        return [
            Choice("model.name", "timm:resnet18" if size == 224 else "timm:resnet10t", "a small convnet"),
            Choice("model.options", {} if size == 224 else {"channels": [32, 64, 96, 128], "stem_width": 16}, "narrow"),
            Choice("model.image_size", size, why),
            Choice("model.drop_path", 0.0, "too shallow for it"),
        ]
    return [
        Choice("model.name", "deit_tiny" if size == 224 else "deit_nano", f"{device.type}: {why}"),
        Choice("model.options", {} if size == 224 else {"patch_size": patch}, "64 patches"),
        Choice("model.image_size", size, why),
        Choice("model.distilled", goal == "distill", "the paper's distillation token"),
        Choice("model.drop_path", 0.0, "too short a run for it"),
    ]


def _model_of(earlier: str) -> list[Choice]:
    """The [model] table of the model that the weights come from."""
    changes = adopt_model(earlier, Model(name="deit_base")).changes
    choices = [Choice(key, value, f"as in {earlier}") for key, value in changes.items()]
    return [*choices, Choice("model.drop_path", 0.0, "too short a run for it")]


def _data(data: Data) -> list[Choice]:
    choices = [Choice("data.dataset", data.dataset, "asked for")]
    if data.path:
        choices.append(Choice("data.path", data.path, "asked for"))
    if data.val_fraction:
        choices.append(Choice("data.val_fraction", data.val_fraction, "there is no val folder"))
    return [*choices, Choice("data.crop_ratio", data.crop_ratio, "of the evaluation crop")]


def _stream(images: int) -> list[Choice]:
    batch = next((size for size in (256, 128, 64, 32, 16, 8, 4) if images // size >= 8), 2)
    why = f"at least eight steps an epoch with {images:,} images"
    return [Choice("stream.batch_size", batch, why), Choice("stream.repeats", 1, "repeats pay in long runs")]


def _views(data: Data) -> list[Choice]:
    mirrored = data.dataset != "digits"
    return [
        Choice("augment.crop_scale", [0.4, 1.0] if mirrored else [0.6, 1.0], "gentle: the run is short"),
        Choice("augment.hflip", 0.5 if mirrored else 0.0, "" if mirrored else "a mirrored digit is another one"),
        Choice("augment.policy", False, "RandAugment pays in long runs"),
        Choice("augment.erasing", 0.0, "pays in long runs"),
        Choice("mix.prob", 0.0, "mixing pays in long runs"),
    ]


def _earlier(goal: Goal, earlier: str) -> list[Choice]:
    if goal == "distill":
        return [Choice("teacher.model", earlier, "asked for"), Choice("teacher.labels", "hard", "Sec. 4, eq. 3")]
    return [Choice("start.weights", earlier, "asked for")] if goal == "finetune" else []


def _nested(choices: list[Choice]) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    for choice in choices:
        table, _, key = choice.key.partition(".")
        tables.setdefault(table, {})[key] = choice.value
    return tables


def _recipe(choices: list[Choice]) -> Recipe:
    return validate(_nested(choices), name="suggested", origins={})


def _toml(choices: list[Choice], title: str) -> str:
    document = tomlkit.document()
    document.add(tomlkit.comment(title))
    tables: dict[str, Any] = {}
    for choice in choices:
        table, _, key = choice.key.partition(".")
        value = choice.value
        if isinstance(value, dict):
            inline = tomlkit.inline_table()
            inline.update(value)
            value = inline
        item = tomlkit.item(value)
        tables.setdefault(table, tomlkit.table()).add(
            key, item.comment(f"ours: {choice.why}" if choice.why else "ours")
        )
    for name, table in tables.items():
        document.add(name, table)
    return tomlkit.dumps(document)
