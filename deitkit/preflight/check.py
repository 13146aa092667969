"""A teacher put to the test on a recipe's data: held-out images, the student's own views, and what could be wrong.

Trains nothing and judges nothing: that is `verdict`. Draws no number from a global generator, and leaves every model
in its mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from deitkit.data.open import Source, subset
from deitkit.data.views.augment import Reading
from deitkit.data.views.loader import Batch
from deitkit.measures.scores import SIGNIFICANCE, TeacherAnswers, compare, scores_of
from deitkit.models.load import LoadedModel
from deitkit.predictions.predict import map_classes, predict
from deitkit.predictions.table import decisive
from deitkit.preflight.answering import held_out_answers, logits_of, sample, training_views, view_scores
from deitkit.preflight.compression import Recompressed, compression_of
from deitkit.preflight.cost import Cost, measure_cost
from deitkit.preflight.findings import Findings, InputTrial, Rival, SizeTrial, Stated, ViewScores
from deitkit.preflight.inputs import Way, other_ways
from deitkit.preflight.order import find_order
from deitkit.preflight.subject import CheckedTeacher
from deitkit.preflight.verdict import HINT, SOME_POINTS
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


RECOMPRESSED = 1_000  # images at most
COARSER = 25  # steps of JPEG quality
SENSITIVE = 0.02  # a loss by compressing once more that shows a cause


def size_trials(
    subject: CheckedTeacher, recipe: Recipe, source: Source, chosen: list[int], first: TeacherAnswers,
    found: Findings, *, device: torch.device, workers: int,
) -> tuple[SizeTrial, ...]:  # fmt: skip
    """The same images whole, at the network's and at their own size, and compressed once more."""
    trials = []

    def tried(name: str, images: Source, indices: Sequence[int], size: tuple[int, int], ratio: float) -> None:
        (answers,) = held_out_answers(
            subject, recipe, images, indices, size=size, crop_ratio=ratio, workers=workers, device=device
        )
        before = first.right[np.isin(first.images, answers.images)]
        trials.append(
            SizeTrial(name, float(answers.right.mean()), compare(before, answers.right), images is not source)
        )

    now = (recipe.model.size, recipe.data.crop_ratio)
    side = found.compression.side if found.compression is not None and found.compression.is_one_size else 0
    own = {(side, side)} if side else set()
    wished = {recipe.model.size, *own}
    if subject.input is not None and subject.input.size is not None:
        wished.add(subject.input.size)
    for size in sorted(wished):
        for ratio in sorted({recipe.data.crop_ratio, 1.0}):
            if (size, ratio) != now:
                tried(f"{size[0]}x{size[1]} px, crop ratio {ratio:g}", source, chosen, size, ratio)
    lossy = found.compression
    if lossy is not None and lossy.quality is not None and lossy.is_lossy:
        quality = max(5, lossy.quality - COARSER)
        images = Recompressed.of(source, quality, Reading.of(recipe.data))
        tried(f"JPEG quality {quality}, once more", images, _spread(chosen, RECOMPRESSED), *now)
    return tuple(trials)


def _spread(indices: list[int], limit: int) -> list[int]:
    """`limit` of them at most, spread over all, for they may be sorted by class."""
    return [indices[place] for place in sample(len(indices), limit)]


def with_stated(found: Findings, stated: float) -> Findings:
    """Findings with the stated accuracy beside the measured one, and what of the trials explains a difference."""
    scores, explanations = found.held_out, []
    trial = found.best_input
    if trial is not None and trial.comparison.gain > 0 and trial.comparison.p < HINT:
        explanations.append(f"with pixels given as {trial.way.name} it gains {100 * trial.comparison.gain:.1f} points")
    for size in found.sizes:
        gain, p = size.comparison.gain, size.comparison.p
        if gain >= SOME_POINTS and p < SIGNIFICANCE / len(found.sizes):
            explanations.append(f"seen at {size.name} it gains {100 * gain:.1f} points")
        if size.is_recompressed and gain <= -SENSITIVE and found.compression is not None:
            explanations.append(
                f"the likely cause is compression: {found.compression.describe()}, where 8x8 blocks are a large part "
                f"of a picture; {size.name}, costs {-100 * gain:.1f} points more"
            )
    return replace(
        found,
        stated=Stated(stated, scores.top1, scores.low - stated, scores.high - stated, tuple(explanations)),
    )
