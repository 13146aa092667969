"""The answers of the classifier under test: for evaluation images, and for the student's own training views.

The views are those of the recipe's stream, made by a loader of its own, so no training is disturbed. Trains nothing
and judges nothing. Legend: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deitkit.data.open import Source
from deitkit.data.views.augment import Reading
from deitkit.data.views.loader import Batch, EvalLoader, TrainLoader
from deitkit.data.views.stream import StreamShape, order, plan_stream
from deitkit.distributed import autocast
from deitkit.errors import DeitkitError
from deitkit.measures.scores import TeacherAnswers, answers_of, joined
from deitkit.preflight.findings import ViewScores
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


def training_views(
    recipe: Recipe, source: Source, *, views: int, device: torch.device, workers: int = 0, mixed: bool = True
) -> Iterator[Batch]:
    """The first views of the recipe's stream, an image set a batch; not mixed on request.

    They are those that a training would see with these images, except where these are fewer than a batch.
    """
    if not mixed:
        recipe = recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"prob": 0.0})})
    shape = _shape(recipe, len(source))
    steps = min(max(1, -(-views // shape.batch_size)), shape.steps_per_epoch)
    loader = TrainLoader(source, recipe, shape, workers=workers, device=device)
    for (batch,) in loader.steps(0, steps):
        yield batch


def _shape(recipe: Recipe, size: int) -> StreamShape:
    """The stream's shape with one image set a batch, which leaves groups and views as they are."""
    stream = recipe.stream
    if size < stream.batch_size:
        smaller = {"batch_size": 1 << (size.bit_length() - 1), "mix_group": None, "repeats": 1}
        stream = stream.model_copy(update=smaller)
    shape = plan_stream(size, stream, mixing=stream.batch_size > 1)
    return replace(shape, batch_size=shape.mix_group * shape.repeats)


def view_scores(subject: CheckedTeacher, recipe: Recipe, batches: Iterable[Batch], *, kind: str) -> ViewScores:
    """The teacher's agreement with the labels of these views."""
    parts, partners, larger = [], [], []
    for batch in batches:
        parts.append(answers_of(logits_of(subject, batch.images, recipe), batch.labels))
        partners.append(batch.partners.cpu().numpy())
        larger.append(torch.where(batch.lam >= 0.5, batch.labels, batch.partners).cpu().numpy())
        partners[-1] = np.where(batch.lam.cpu().numpy() < 1, partners[-1], parts[-1].labels)
    answers, other, most = joined(parts), np.concatenate(partners), np.concatenate(larger)
    return ViewScores(
        kind=kind,
        views=len(answers),
        two_labels=int((answers.labels != other).sum()),
        in_labels=float((answers.right | (answers.decisions == other)).mean()),
        in_larger=float((answers.decisions == most).mean()),
        confidence=float(answers.confidence.mean()),
        entropy=float(answers.entropy.mean()),
        not_finite=int((~answers.finite).sum()),
    )
