"""Why a teacher misses the accuracy that others state: the same images at other sizes, or compressed once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from deitkit.data.open import Source
from deitkit.data.views.augment import Reading
from deitkit.measures.scores import SIGNIFICANCE, TeacherAnswers, compare
from deitkit.preflight.answering import held_out_answers, sample
from deitkit.preflight.compression import Recompressed
from deitkit.preflight.findings import Findings, SizeTrial, Stated
from deitkit.preflight.subject import CheckedTeacher
from deitkit.preflight.verdict import HINT, SOME_POINTS
from deitkit.recipe.schema import Recipe

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
