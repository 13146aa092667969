"""A teacher put to the test on a recipe's data: held-out images, the student's own views, and what could be wrong.

Trains nothing and judges nothing: that is `verdict`. Draws no number from a global generator, and leaves every model
in its mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from deitkit.data.open import Source, subset
from deitkit.data.views.loader import Batch
from deitkit.measures.scores import TeacherAnswers, compare, scores_of
from deitkit.models.load import LoadedModel
from deitkit.predictions.predict import map_classes, predict
from deitkit.predictions.table import decisive
from deitkit.preflight.answering import held_out_answers, logits_of, sample, training_views, view_scores
from deitkit.preflight.compression import compression_of
from deitkit.preflight.cost import Cost, measure_cost
from deitkit.preflight.explain import size_trials, with_stated
from deitkit.preflight.findings import Findings, InputTrial, Rival, ViewScores
from deitkit.preflight.inputs import Way, other_ways
from deitkit.preflight.order import find_order
from deitkit.preflight.subject import CheckedTeacher
from deitkit.recipe.schema import Recipe
from deitkit.teachers.facts import Input

TIMED = 64  # views at most, of one batch: a student's backward takes memory
TIMED_ON_CPU = 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """How much is looked at: held-out images (0: all), views, and data workers."""

    images: int = 2_000
    views: int = 512
    workers: int = 0


def check(
    subject: CheckedTeacher,
    recipe: Recipe,
    *,
    held_out: Source,
    train: Source,
    device: torch.device,
    extent: Extent = Extent(),
    stated: float | None = None,
    student: LoadedModel | None = None,
    say: Say = lambda text: None,
) -> Findings:
    """Everything that can be told of a teacher before its student trains. `stated` is an accuracy from 0 to 1."""
    chosen = sample(len(held_out), extent.images)
    batches = list(training_views(recipe, train, views=extent.views, workers=extent.workers, device=device))
    cost = _cost(subject, recipe, batches[0], classes=len(train.class_names))
    first, inputs = _held_out(subject, recipe, held_out, chosen, cost, workers=extent.workers, device=device, say=say)
    found = Findings(
        teacher=subject.name,
        dataset=held_out.dataset,
        split=held_out.split,
        labels="hard" if recipe.teacher is None else recipe.teacher.labels,
        held_out=scores_of(first, classes=len(held_out.class_names)),
        views=_view_scores(subject, recipe, train, batches, extent, device),
        order=find_order(first, held_out.class_names, outputs=_outputs(subject, batches[0], recipe)),
        now=subject.input,
        inputs=inputs,
        compression=compression_of(held_out, chosen),
        cost=cost,
        rival=None if student is None else _rival(student, held_out, first, device, extent.workers),
        refused=subject.refused,
        remedy=subject.remedy,
        unnamed=subject.unnamed,
        notes=subject.notes,
    )
    if stated is None:
        return found
    sizes = size_trials(subject, recipe, held_out, chosen, first, found, device=device, workers=extent.workers)
    return with_stated(replace(found, sizes=sizes), stated)


def _cost(subject: CheckedTeacher, recipe: Recipe, batch: Batch, *, classes: int) -> Cost:
    few = TIMED_ON_CPU if batch.images.device.type == "cpu" else TIMED
    return measure_cost(subject.classify, batch.images[:few], recipe, classes=classes, parameters=subject.parameters)


def _held_out(
    subject: CheckedTeacher, recipe: Recipe, source: Source, chosen: list[int], cost: Cost, *, workers: int,
    device: torch.device, say: Say,
) -> tuple[TeacherAnswers, tuple[InputTrial, ...]]:  # fmt: skip
    """The answers as the teacher is set up, and what other ways of giving pixels would change."""
    now = subject.input
    ways = [] if now is None else other_ways(now, mean=recipe.data.mean, std=recipe.data.std)
    seconds = len(chosen) * (1 + len(ways)) / cost.teacher_images_per_s
    say(f"{len(chosen):,} held-out images, each {1 + len(ways)} times: about {seconds:,.0f} seconds of the teacher")
    first, *others = held_out_answers(subject, recipe, source, chosen, ways=ways, workers=workers, device=device)
    return first, trials_of(first, others, ways, now=now)


def _outputs(subject: CheckedTeacher, batch: Batch, recipe: Recipe) -> int:
    return int(logits_of(subject, batch.images[:1], recipe).shape[1])


def trials_of(
    first: TeacherAnswers, others: Sequence[TeacherAnswers], ways: Sequence[Way], *, now: Input | None
) -> tuple[InputTrial, ...]:
    """The other ways of giving pixels, the most accurate first."""
    trials = [
        InputTrial(
            way, float(answers.right.mean()), float(answers.nll.mean()), compare(first.right, answers.right),
            () if now is None else way.settings(now),
        )
        for way, answers in zip(ways, others, strict=True)
    ]  # fmt: skip
    return tuple(sorted(trials, key=lambda trial: -trial.top1))


def _view_scores(
    subject: CheckedTeacher, recipe: Recipe, train: Source, batches: list[Batch], extent: Extent, device: torch.device
) -> tuple[ViewScores, ...]:
    """Of the views before mixing and, where the recipe mixes, after it."""
    if not recipe.is_mixing:
        return (view_scores(subject, recipe, batches, kind="augmented"),)
    plain = training_views(
        recipe, train, views=extent.views, workers=extent.workers, device=device, mixed=False
    )  # fmt: skip
    return (
        view_scores(subject, recipe, plain, kind="augmented"),
        view_scores(subject, recipe, batches, kind="mixed"),
    )


def _rival(student: LoadedModel, source: Source, teacher: TeacherAnswers, device: torch.device, workers: int) -> Rival:
    """The student's own protocol on the images that the teacher has seen."""
    images = subset(source, teacher.images, source.split)
    classes = map_classes(student.info.class_names, source.class_names, origin=student.origin)
    table = predict(
        student.student.to(device), student.info, images, name=student.origin, device=device, workers=workers,
        classes=classes,
    )  # fmt: skip
    hits = table.hits(decisive(table))
    return Rival(student.origin, float(hits.mean()), compare(hits, teacher.right))
