"""Every measure of errors for one head of a classifier, and the heads of predictions. Builds no table.

Legend: N images, K classes. A fused head keeps no logits of its own: the logarithms of its probabilities, made anew
from both heads' logits by the fusion that the predictions name, stand for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deitkit.analysis.calibration import BINS, RESAMPLES, Calibration, Floats, Hits, calibrate
from deitkit.analysis.confusion_clusters import Errors, count_errors
from deitkit.analysis.disagreement import classifiers
from deitkit.analysis.error_scores import Labels, Logits, Scores, score
from deitkit.analysis.error_temperature import Temperature, cross_fit
from deitkit.analysis.label_errors import LabelErrors, find_label_errors
from deitkit.data.sources import LabelSets
from deitkit.errors import DeitkitError
from deitkit.fusion.fit import Numbers, blocks, log_probabilities
from deitkit.model import FittedFusion
from deitkit.model_folder import read_fusion
from deitkit.predictions import Predictions

CONTRADICTION = 0.01  # a confidence may differ by so much from that of its logits


@dataclass(frozen=True, eq=False)
class Answers:
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
    scores: Scores | None = None
    temperature: Temperature | None = None
    doubts: LabelErrors | None = None


def measure_head(
    answers: Answers, images: LabelledImages, *, bins: int = BINS, resamples: int = RESAMPLES, seed: int = 0
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


def _refuse_contradiction(answers: Answers, logits: Logits, scores: Scores) -> None:
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


def answers_of(predictions: Predictions, heads: Iterable[str] = ()) -> Iterator[Answers]:
    """The heads named, or all, one at a time: a fused head's logits are as large as a table."""
    chosen = list(heads) or list(predictions.heads)
    for head in chosen:
        predictions.head(head)
    for each, head in zip(classifiers([predictions]), predictions.heads, strict=True):
        if head in chosen:
            said = predictions.heads[head]
            logits = said.logits if said.logits is not None or head != "fused" else fused_logits(predictions)
            yield Answers(each.name, said.top[:, 0], said.confidence[:, 0], logits)


def fused_logits(predictions: Predictions) -> Logits | None:
    """log p [N, K] of the fused head by the predictions' own fusion; None without both heads' logits."""
    heads = [predictions.heads.get(name) for name in ("class", "distillation")]
    a, b = (None if head is None else head.logits for head in heads)
    if a is None or b is None:
        return None
    fusion = read_fusion(predictions.settings.get("fusion", "softmax"))
    if not isinstance(fusion, FittedFusion):  # the plain ones are fitted ones with shares of one half
        fusion = FittedFusion("weighted_softmax" if fusion == "softmax" else "weighted_logits", 0.5, (1.0, 1.0))
    numbers = Numbers(
        torch.tensor([fusion.weight, 1 - fusion.weight], dtype=torch.float64),
        torch.tensor(fusion.temperatures, dtype=torch.float64),
    )
    found = np.empty(a.shape, dtype=np.float32)
    start = 0
    for block in blocks(a, b, predictions.labels):
        found[start : start + len(block.a)] = log_probabilities(block, fusion.kind, numbers)
        start += len(block.a)
    return found
