"""The answers of the classifier under test for evaluation images. Judges nothing.

Legend: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deitkit.data.open import Source
from deitkit.data.views.augment import Reading
from deitkit.data.views.loader import EvalLoader
from deitkit.data.views.stream import order
from deitkit.distributed import autocast
from deitkit.errors import DeitkitError
from deitkit.measures.scores import TeacherAnswers, answers_of, joined
from deitkit.preflight.inputs import Way, shown_as
from deitkit.preflight.subject import CheckedTeacher
from deitkit.recipe.schema import Recipe

BATCH = 64  # held-out images at once


@torch.inference_mode()
def logits_of(subject: CheckedTeacher, images: Tensor, recipe: Recipe) -> Tensor:
    """As in training: [B, K] float32."""
    with autocast(recipe, images.device):
        return subject.classify(images).float()


def sample(size: int, limit: int) -> list[int]:
    """`limit` images of `size`, the same ones each time, ascending; all of them for 0."""
    if not limit or limit >= size:
        return list(range(size))
    return sorted(order(0, 0, size, np.arange(limit)).tolist())


def held_out_answers(
    subject: CheckedTeacher,
    recipe: Recipe,
    source: Source,
    indices: Sequence[int],
    *,
    device: torch.device,
    ways: Sequence[Way] = (),
    workers: int = 0,
    size: tuple[int, int] | None = None,
    crop_ratio: float | None = None,
) -> list[TeacherAnswers]:
    """The teacher on these images, seen as the student is evaluated; then for each other way of giving pixels."""
    data = recipe.data
    loader = EvalLoader(
        source, size=size or recipe.model.size, mean=data.mean, std=data.std, crop_ratio=crop_ratio or data.crop_ratio,
        interpolation=data.interpolation, batch_size=BATCH, reading=Reading.of(data, recipe.stream.backend),
        workers=workers, device=device, indices=indices,
    )  # fmt: skip
    parts: list[list[TeacherAnswers]] = [[] for _ in range(1 + len(ways))]
    for numbers, images, labels in loader:
        if not len(images):
            continue
        parts[0].append(answers_of(logits_of(subject, images, recipe), labels, numbers))
        for part, way in zip(parts[1:], ways, strict=True):
            if subject.input is not None:
                shown = shown_as(images, way, now=subject.input, mean=data.mean, std=data.std)
                part.append(answers_of(logits_of(subject, shown, recipe), labels, numbers))
    if not parts[0]:
        raise DeitkitError(
            f"no image of {source.dataset}/{source.split} can be read", remedy="`deitkit data verify` says why"
        )
    return [joined(part) for part in parts]
