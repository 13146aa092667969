"""What makes up for unequal classes in the label's loss: weights, and logits adjusted by frequency. Draws nothing.

Legend: K classes, n_c images of class c of N in all, pi_c = n_c / N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deitkit.data.source import Source
from deitkit.data.views.balance import counts_of_all
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Floats, Labels
from deitkit.recipe.schema import Loss


@dataclass(frozen=True)
class ClassTerms:
    """`weights` [K] of each class's part of the cross-entropy; `shift` [K], tau log pi, is added to the logits before
    it (Menon et al. 2020, arXiv 2007.07314, eq. 10). None where nothing is done."""

    weights: Tensor | None = None
    shift: Tensor | None = None

    @classmethod
    def of(cls, loss: Loss, source: Source, device: torch.device) -> ClassTerms:
        """As the recipe has it, for these training images.

        Raises:
            DeitkitError: weights for another number of classes, or a class without images where frequencies count.
        """
        weights = shift = None
        rule, tau = loss.class_weights, loss.logit_adjustment
        if isinstance(rule, list):
            weights = _on(device, _given(rule, source))
        elif rule is not None:
            counts = counts_of_all(source, f"loss.class_weights = {rule}", off="--set loss.class_weights=false")
            weights = _on(device, class_weights(counts, rule))
        if tau is not None:
            counts = counts_of_all(source, f"loss.logit_adjustment = {tau:g}", off="--set loss.logit_adjustment=false")
            shift = _on(device, tau * np.log(counts / counts.sum()))
        return cls(weights, shift)


def _on(device: torch.device, values: Floats) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def class_weights(counts: Labels, rule: str) -> Floats:
    """counts [K], none of them 0 -> weights [K] that are 1 in the mean of all images.

    "balanced": N / (K n_c), as scikit-learn's; "sqrt": its root, scaled.
    """
    rare = 1.0 / counts if rule == "balanced" else counts**-0.5
    weights: Floats = rare * counts.sum() / (rare * counts).sum()
    return weights


def _given(weights: list[float], source: Source) -> Floats:
    if len(weights) != len(source.class_names):
        raise DeitkitError(
            f"loss.class_weights has {len(weights)} numbers for {len(source.class_names)} classes",
            value=len(weights),
            problems=[f"in this order: {', '.join(source.class_names[:10])}"],
            remedy="one number a class, or --set loss.class_weights=balanced",
        )
    return np.array(weights)
