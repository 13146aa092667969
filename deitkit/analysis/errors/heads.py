"""Every measure of errors for one head of a classifier, and the heads of predictions. Builds no table.

Legend: N images, K classes. A fused head keeps no logits of its own: the logarithms of its probabilities, made anew
from both heads' logits by the fusion that the predictions name, stand for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.disagreement.report import classifiers
from deitkit.data.open import LabelSets
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Floats, Hits, Labels, Logits
from deitkit.measures.calibration import BINS, RESAMPLES, Calibration, calibrate
from deitkit.measures.clusters import Errors, count_errors
from deitkit.measures.label_errors import LabelErrors, find_label_errors
from deitkit.measures.scores import ImageScores, score
from deitkit.predictions.fusion import fused_logits
from deitkit.predictions.table import Predictions
from deitkit.predictions.temperature import Temperature, cross_fit

CONTRADICTION = 0.01  # a confidence may differ by so much from that of its logits


@dataclass(frozen=True, eq=False)
class HeadAnswers:
    """What one head says: decisions [N], their probabilities [N], and logits [N, K] where they were kept."""

    name: str
    decisions: Labels
    confidence: NDArray[np.floating]
    logits: Logits | None = None


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """What is known of N images: labels [N], names of K classes, ids, and perhaps files and the labels that ImageNet's
    reassessment accepts. `title` says which they are."""

    labels: Labels
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    paths: tuple[str, ...] | None = None
    accepted: LabelSets | None = None
    title: str = "images"

    @classmethod
    def of(cls, predictions: Predictions) -> LabelledImages:
        return cls(
            predictions.labels,
            predictions.class_names,
            tuple(predictions.ids),
            tuple(predictions.paths) if predictions.paths is not None else None,
            predictions.accepted,
            f"{predictions.dataset}/{predictions.split}",
        )


@dataclass(frozen=True, eq=False)
class HeadErrors:
    """One head's errors; what needs logits is None without them."""

    name: str
    decisions: Labels
    confidence: Floats
    hits: Hits
    errors: Errors
    calibration: Calibration
    scores: ImageScores | None = None
    temperature: Temperature | None = None
    doubts: LabelErrors | None = None


def measure_head(
    answers: HeadAnswers, images: LabelledImages, *, bins: int = BINS, resamples: int = RESAMPLES, seed: int = 0
) -> HeadErrors:
    """All that is measured of one head; its logits are let go.

    Raises:
        DeitkitError: logits that give other confidences, or that are not finite; labels that they have no column for.
    """
    labels, hits = images.labels, answers.decisions == images.labels
    found = HeadErrors(
        name=answers.name,
        decisions=answers.decisions,
        confidence=np.asarray(answers.confidence, dtype=np.float64),
        hits=hits,
        errors=count_errors(answers.decisions, labels, classes=len(images.class_names)),
        calibration=calibrate(answers.confidence, hits, bins=bins, resamples=resamples, seed=seed),
    )
    if answers.logits is None:
        return found
    scores = score(answers.logits, labels)
    _refuse_contradiction(answers, answers.logits, scores)
    return replace(
        found,
        scores=scores,
        temperature=cross_fit(answers.logits, labels),
        doubts=find_label_errors(answers.logits, labels, scores),
    )


def _refuse_contradiction(answers: HeadAnswers, logits: Logits, scores: ImageScores) -> None:
    """Another fusion, or other weights, than those that decided would give losses of another classifier."""
    said = logits[np.arange(len(answers.decisions)), answers.decisions]
    confidence = np.exp(said - scores.normaliser)
    apart = float(np.abs(confidence - answers.confidence).max())
    if apart > CONTRADICTION:
        raise DeitkitError(
            f"{answers.name}: the logits kept give other confidences than those kept beside them, by up to {apart:.2f}",
            value=answers.name,
            remedy="make its predictions anew: deitkit evaluate RUN --logits",
        )


def answers_of(predictions: Predictions, heads: Iterable[str] = ()) -> Iterator[HeadAnswers]:
    """The heads named, or all, one at a time: a fused head's logits are as large as a table."""
    chosen = list(heads) or list(predictions.heads)
    for head in chosen:
        predictions.head(head)
    for each, head in zip(classifiers([predictions]), predictions.heads, strict=True):
        if head in chosen:
            said = predictions.heads[head]
            logits = said.logits if said.logits is not None or head != "fused" else fused_logits(predictions)
            yield HeadAnswers(each.name, said.top[:, 0], said.confidence[:, 0], logits)
