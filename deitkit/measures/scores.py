"""What a classifier's answers are worth, of all images and of each: accuracy, loss, calibration, chance, comparisons.

Legend: N images, K classes. Top-1 is the most probable class; in `TeacherAnswers`, a row that holds NaN or infinity
counts as wrong. Source: Brier, Verification of forecasts expressed in terms of probability, 1950.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.measures.agreement import MOST_CLASSES_WITHOUT_TOP5, exact_mcnemar, paired_interval, wilson_interval
from deitkit.measures.arrays import Floats, Hits, Labels, Logits
from deitkit.measures.calibration import expected_calibration_error

SIGNIFICANCE = 0.001  # of every test that leads to a "no", divided by the number of things tried
BLOCK = 1 << 16  # numbers held at once in float64: about what a cache holds


@dataclass(frozen=True, eq=False)
class TeacherAnswers:
    """A classifier's answers for N labelled images, an entry each: the images' numbers, labels, decisions (top-1; -1
    where not finite), in_top5, confidence (the largest probability), nll (of the label, in nats), entropy (in nats),
    finite."""

    images: Labels
    labels: Labels
    decisions: Labels
    in_top5: Hits
    confidence: Floats
    nll: Floats
    entropy: Floats
    finite: Hits

    @property
    def right(self) -> Hits:
        hits: Hits = self.decisions == self.labels
        return hits

    def __len__(self) -> int:
        return len(self.labels)


def answers_of(logits: Tensor, labels: Tensor, images: Tensor | None = None) -> TeacherAnswers:
    """logits [N, K], labels [N], and the images' numbers [N] in their source (0..N-1 by default) -> Answers.

    Probabilities are the softmax over K, in double precision.
    """
    logits, labels = logits.cpu(), labels.cpu()  # not every device has double precision
    finite = torch.isfinite(logits).all(dim=1)
    log_probabilities = logits.double().nan_to_num(0.0, 0.0, 0.0).log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    best = log_probabilities.topk(min(5, logits.shape[1]), dim=1).indices
    nll = -log_probabilities.gather(1, labels[:, None])[:, 0]
    entropy = -(probabilities * log_probabilities).sum(dim=1)
    # argmax, as the training's hard labels; topk may break a tie otherwise
    decisions = torch.where(finite, logits.argmax(dim=1), -1)
    in_top5 = (best == labels[:, None]).any(dim=1) & finite
    images = torch.arange(len(labels)) if images is None else images
    columns = (images, labels, decisions, in_top5, probabilities.amax(dim=1), nll, entropy, finite)
    return TeacherAnswers(*(column.numpy() for column in columns))


def joined(parts: Sequence[TeacherAnswers]) -> TeacherAnswers:
    """Several batches' answers, one after the other."""
    names = [field.name for field in fields(TeacherAnswers)]
    return TeacherAnswers(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Scores:
    """Rates from 0 to 1; `low` and `high` bound top1 (95 %, Wilson). `top5` is None where there are at most 10 classes;
    nll and entropy are means in nats.

    `ece`, the expected calibration error: images in 15 equal bins of their confidence, |accuracy - mean confidence|
    of each bin, weighted by its images (Guo et al. 2017). `chance` is the accuracy of always naming the most frequent
    label; `skill` is (top1 - chance) / (1 - chance).
    """

    images: int
    right: int
    top1: float
    low: float
    high: float
    top5: float | None
    nll: float
    entropy: float
    confidence: float
    ece: float
    chance: float
    chance_p: float
    not_finite: int

    @property
    def skill(self) -> float:
        return skill(self.top1, self.chance)

    @property
    def is_chance(self) -> bool:
        """Whether a classifier that always names the most frequent label may well be as good (binomial test)."""
        return self.chance_p > SIGNIFICANCE


def scores_of(answers: TeacherAnswers, *, classes: int) -> Scores:
    """Answers, one at least, between so many classes -> Scores."""
    from scipy.stats import binomtest  # takes seconds to import: only where it is needed

    images, right = len(answers), int(answers.right.sum())
    interval = wilson_interval(right, images)
    chance = float(np.bincount(answers.labels).max() / images)
    return Scores(
        images=images,
        right=right,
        top1=right / images,
        low=interval.low,
        high=interval.high,
        top5=float(answers.in_top5.mean()) if classes > MOST_CLASSES_WITHOUT_TOP5 else None,
        nll=float(answers.nll.mean()),
        entropy=float(answers.entropy.mean()),
        confidence=float(answers.confidence.mean()),
        ece=expected_calibration_error(answers.confidence, answers.right),
        chance=chance,
        chance_p=float(binomtest(right, images, chance, alternative="greater").pvalue),
        not_finite=int((~answers.finite).sum()),
    )


def skill(accuracy: float, chance: float) -> float:
    """Accuracy on a scale from 0, the chance of `chance`, to 1; 0 where every image has the same label."""
    return (accuracy - chance) / (1 - chance) if chance < 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images: `gain` is the other's accuracy minus the first's, as a rate; `p` of the exact
    one-sided McNemar test that the other is not better; `low` and `high` bound the gain (95 %, Bonett and Price)."""

    gain: float
    low: float
    high: float
    p: float


def compare(first: Hits, other: Hits) -> Comparison:
    """Hits of two classifiers on the same N images -> how much better the other one is."""
    won, lost, total = int((other & ~first).sum()), int((first & ~other).sum()), len(first)
    interval = paired_interval(won, lost, total)
    return Comparison(
        (won - lost) / total, interval.low, interval.high, exact_mcnemar(won, lost, alternative="greater")
    )


# Of each image


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Of each image [N]: the cross-entropy of its label in nats, the label's probability, that of the most probable
    other class (0 where there is none), the Brier score (0 to 2), and log of the sum of exp(logits)."""

    loss: Floats
    label_probability: Floats
    rival_probability: Floats
    brier: Floats
    normaliser: Floats

    @property
    def margin(self) -> Floats:
        """Probability of the label minus that of its strongest rival [N]: below 0 where the decision is another."""
        return self.label_probability - self.rival_probability


def score(logits: Logits, labels: Labels) -> ImageScores:
    """logits [N, K], labels [N] -> every image's scores."""
    refuse_other_shapes(logits, labels)
    columns = np.empty((5, len(labels)))
    for rows, block in blocks(logits):
        places, own = np.arange(len(block)), labels[rows]
        greatest = block.max(axis=1)
        block -= greatest[:, None]
        label_logit = block[places, own]
        powers = np.exp(block)
        total = powers.sum(axis=1)
        label_probability = powers[places, own] / total
        squares = np.einsum("nk,nk->n", powers, powers) / total**2
        powers[places, own] = 0.0
        columns[:, rows] = (
            np.log(total) - label_logit,
            label_probability,
            powers.max(axis=1) / total,
            squares - 2 * label_probability + 1,
            np.log(total) + greatest,
        )
    return ImageScores(*columns)


def blocks(logits: Logits) -> Iterator[tuple[slice, Floats]]:
    """(rows, a copy of them in float64), so that a large table is never doubled in memory at once."""
    step = max(1, BLOCK // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        rows = slice(start, min(start + step, len(logits)))
        yield rows, logits[rows].astype(np.float64)


def refuse_other_shapes(logits: Logits, labels: Labels) -> None:
    """Raise unless there is a row of finite logits for every label, and a column for each of their classes."""
    if logits.shape[:1] != labels.shape or not len(labels):
        raise DeitkitError(
            f"logits of {len(logits):,} images and labels of {len(labels):,}: one of each is needed for every image",
            remedy="evaluate the model anew: deitkit evaluate RUN --logits",
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DeitkitError(
            f"there are logits of {logits.shape[1]:,} classes, but labels from {labels.min()} to {labels.max()}",
            remedy="labels are numbers of columns, from 0",
        )
    if not all(np.isfinite(block).all() for _, block in blocks(logits)):
        raise DeitkitError(
            "there are logits that are not finite", remedy="the weights have diverged: take an earlier checkpoint"
        )
