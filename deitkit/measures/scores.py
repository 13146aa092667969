"""What a classifier's answers are worth: accuracy, calibration, chance, and paired comparisons. Runs no model.

Legend: N images, K classes. Top-1 is the most probable class; a row that holds NaN or infinity counts as wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = NDArray[np.int64]

CONFIDENCE = 0.95  # of every interval
SIGNIFICANCE = 0.001  # of every test that leads to a "no", divided by the number of things tried
BINS = 15


@dataclass(frozen=True, eq=False)
class Answers:
    """A classifier's answers for N labelled images, an entry each: the images' numbers, labels, decisions (top-1; -1
    where not finite), in_top5, confidence (the largest probability), nll (of the label, in nats), entropy (in nats),
    finite."""

    images: Labels
    labels: Labels
    decisions: Labels
    in_top5: Flags
    confidence: Numbers
    nll: Numbers
    entropy: Numbers
    finite: Flags

    @property
    def right(self) -> Flags:
        hits: Flags = self.decisions == self.labels
        return hits

    def __len__(self) -> int:
        return len(self.labels)


def answers_of(logits: Tensor, labels: Tensor, images: Tensor | None = None) -> Answers:
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
    return Answers(*(column.numpy() for column in columns))


def joined(parts: Sequence[Answers]) -> Answers:
    """Several batches' answers, one after the other."""
    names = [field.name for field in fields(Answers)]
    return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Scores:
    """Rates from 0 to 1; `low` and `high` bound top1 (95 %, Wilson). nll and entropy are means in nats.

    `ece`, the expected calibration error: images in 15 equal bins of their confidence, |accuracy - mean confidence|
    of each bin, weighted by its images (Guo et al. 2017). `chance` is the accuracy of always naming the most frequent
    label; `skill` is (top1 - chance) / (1 - chance).
    """

    images: int
    right: int
    top1: float
    low: float
    high: float
    top5: float
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


def scores_of(answers: Answers) -> Scores:
    """Answers, one at least -> Scores."""
    images, right = len(answers), int(answers.right.sum())
    low, high = interval(right, images)
    chance = float(np.bincount(answers.labels).max() / images)
    return Scores(
        images=images,
        right=right,
        top1=right / images,
        low=low,
        high=high,
        top5=float(answers.in_top5.mean()),
        nll=float(answers.nll.mean()),
        entropy=float(answers.entropy.mean()),
        confidence=float(answers.confidence.mean()),
        ece=calibration_error(answers.confidence, answers.right),
        chance=chance,
        chance_p=float(binomtest(right, images, chance, alternative="greater").pvalue),
        not_finite=int((~answers.finite).sum()),
    )


def skill(accuracy: float, chance: float) -> float:
    """Accuracy on a scale from 0, the chance of `chance`, to 1; 0 where every image has the same label."""
    return (accuracy - chance) / (1 - chance) if chance < 1 else 0.0


def interval(count: int, total: int) -> tuple[float, float]:
    """Both ends of Wilson's 95 % interval for the rate count / total."""
    bounds = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(bounds.low), float(bounds.high)


def calibration_error(confidence: Numbers, right: Flags, *, bins: int = BINS) -> float:
    """Expected calibration error of confidences [N] in (0, 1] and hits [N] (Guo et al. 2017)."""
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images: `gain` is the other's accuracy minus the first's, as a rate; `p` of the exact
    one-sided McNemar test that the other is not better; `low` and `high` bound the gain (95 %, normal)."""

    gain: float
    low: float
    high: float
    p: float


def compare(first: Flags, other: Flags) -> Comparison:
    """Hits of two classifiers on the same N images -> how much better the other one is."""
    won, lost, total = int((other & ~first).sum()), int((first & ~other).sum()), len(first)
    gain = (won - lost) / total
    half = 1.96 * math.sqrt(max(won + lost - (won - lost) ** 2 / total, 0.0)) / total
    p = binomtest(won, won + lost, 0.5, alternative="greater").pvalue if won + lost else 1.0
    return Comparison(gain, gain - half, gain + half, float(p))
