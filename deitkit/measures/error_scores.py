"""What logits say of each image's label: loss, probability, the strongest rival, Brier score. Compares no classifiers.

Legend: N images, K classes; logits [N, K]; log-probabilities are logits, too. Source: Brier, Verification of forecasts
expressed in terms of probability, 1950.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError

BLOCK = 1 << 16  # numbers held at once in float64: about what a cache holds
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Logits = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scores:
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


def score(logits: Logits, labels: Labels) -> Scores:
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
    return Scores(*columns)


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
