"""A teacher on the student's own training views, augmented and mixed. Trains nothing.

The views are those of the recipe's stream, made by a loader of its own, so no training is disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from deitkit.data.open import Source
from deitkit.data.views.loader import Batch, TrainLoader
from deitkit.data.views.stream import StreamShape, plan_stream
from deitkit.measures.scores import answers_of, joined
from deitkit.preflight.answering import logits_of
from deitkit.preflight.findings import ViewScores
from deitkit.preflight.subject import CheckedTeacher
from deitkit.recipe.schema import Recipe


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
