"""The temperature that makes a classifier calibrated, judged on images it was not fitted to (Guo et al. 2017, Sec. 4).

Every logit is divided by one number, so decisions stay. A fused head has no logits of its own: the temperature divides
the logarithms of its probabilities. `deitkit.predictions.fusion_choice` fits two temperatures and a share for both
heads at once.

Legend: N images, K classes; logits [N, K].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deitkit.measures.arrays import Floats, Labels, Logits
from deitkit.measures.scores import blocks, refuse_other_shapes
from deitkit.predictions.fusion import HOTTEST
from deitkit.predictions.fusion_choice import FEWEST, FOLDS, LARGE, fold_of


@dataclass(frozen=True, eq=False)
class Temperature:
    """The temperature of the least NLL on all images; and, of each image [N], the confidence and the loss in nats with
    one that was fitted to the other folds."""

    value: float
    folds: int
    confidence: Floats
    loss: Floats

    @property
    def at_bound(self) -> bool:
        """Whether it is only the hottest or the coldest that was tried: where every decision is right, say."""
        return not 1.001 / HOTTEST < self.value < 0.999 * HOTTEST


def cross_fit(logits: Logits, labels: Labels) -> Temperature | None:
    """The temperature of logits [N, K], and what it brings images that it was not fitted to.

    None for fewer than 10 images or for a single class, where there is nothing to fit.
    """
    if len(labels) < FEWEST or logits.shape[1] < 2:
        return None
    refuse_other_shapes(logits, labels)
    value = fit_temperature(logits, labels)
    folds = FOLDS if logits.size < LARGE else 2
    fold, confidence, loss = fold_of(labels, folds=folds), np.empty(len(labels)), np.empty(len(labels))
    for number in range(folds):
        out = fold == number
        own = fit_temperature(logits[~out], labels[~out], start=value)
        confidence[out], loss[out] = _tempered(logits[out], labels[out], own)
    return Temperature(value, folds, confidence, loss)


def fit_temperature(logits: Logits, labels: Labels, *, start: float = 1.0) -> float:
    """From 1/20 to 20, the one with the least mean NLL of the labels, which is convex in its inverse."""
    from scipy.optimize import minimize  # takes a while to import: only where something is fitted

    def loss(inverse: Floats) -> tuple[float, float]:
        total = slope = 0.0
        for rows, block in blocks(logits):
            block -= block[np.arange(len(block)), labels[rows], None]  # the label's logit becomes 0
            greatest = block.max(axis=1, keepdims=True)
            powers = np.exp(float(inverse[0]) * (block - greatest))
            sums = powers.sum(axis=1)
            total += float((np.log(sums) + inverse[0] * greatest[:, 0]).sum())
            slope += float((np.einsum("nk,nk->n", powers, block) / sums).sum())
        return total / len(labels), slope / len(labels)

    found = minimize(loss, [1 / start], jac=True, method="L-BFGS-B", bounds=[(1 / HOTTEST, HOTTEST)])
    return 1 / float(found.x[0])


def _tempered(logits: Logits, labels: Labels, temperature: float) -> tuple[Floats, Floats]:
    """The decisions' confidence and the labels' loss [N] after dividing by the temperature."""
    confidence, loss = np.empty(len(labels)), np.empty(len(labels))
    for rows, block in blocks(logits):
        block /= temperature
        block -= block.max(axis=1, keepdims=True)
        sums = np.exp(block).sum(axis=1)
        confidence[rows] = 1 / sums
        loss[rows] = np.log(sums) - block[np.arange(len(block)), labels[rows]]
    return confidence, loss
