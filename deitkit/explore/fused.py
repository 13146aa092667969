"""Logits of a fused decision, which has none of its own: logarithms of its probabilities, which are their softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from deitkit.explore.agreement import HEADS
from deitkit.models.folder import read_fusion
from deitkit.models.student import Heads
from deitkit.predictions.table import Predictions

ROWS = 4_096  # at once


def with_fused_logits(predictions: Predictions) -> Predictions:
    """The same, with logits of the fused head where both others have some: by the fusion that made its answers."""
    a, b = (predictions.heads[name].logits if name in predictions.heads else None for name in HEADS)
    fused = predictions.heads.get("fused")
    if fused is None or fused.logits is not None or a is None or b is None:
        return predictions
    fusion = read_fusion(predictions.settings.get("fusion", "softmax"))
    logits = np.empty_like(a, dtype=np.float32)
    for start in range(0, len(a), ROWS):
        rows = slice(start, start + ROWS)
        heads = Heads(torch.tensor(a[rows]), torch.tensor(b[rows]))
        logits[rows] = heads.fused(fusion).clamp_min(torch.finfo(torch.float32).tiny).log().numpy()
    return replace(predictions, heads={**predictions.heads, "fused": replace(fused, logits=logits)})
